// bundle_bench [--size BYTES] [--json]: how fast an app is hashed and sealed,
// as a ratio to raw SHA-256 of the same bytes on all cores; how much memory
// that takes; and what ten times the files cost.
//
// A quarter of the bytes is code in 16 MB libraries, the rest are resources of
// 1 MB. Their seal has SHA-1, too, for old systems: raw digests of both kinds
// are the fair measure then, and --no-legacy-signing leaves SHA-1 out. Rounds
// are interleaved and medians compared, because a busy machine slows all alike.
// Exit status 1 when signing takes more memory than the goal; speed is only
// printed. Writing is timed apart: it is the disk's speed.

#include <openssl/evp.h>

#include <cstdio>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "tests/bench/bench_app.h"

namespace codeseal::bench {
namespace {

namespace fs = std::filesystem;

constexpr int kRoundCount = 5;
constexpr double kSpeedGoal = 0.80;
constexpr double kScalingGoal = 11.0;
constexpr long kMemoryGoal = 64;  // MiB
constexpr int kFewFiles = 1000;
constexpr uint64_t kSmallFileSize = 4000;

void Seal(const std::string& app, bool has_version1) {
  CodeSigning signing = OpenSigning(app, has_version1);
  if (Need(signing.PlanStage()).empty()) Fail("there is nothing to sign");
}

void SignWhole(const std::string& app) { Sign(app, true); }

int Run(uint64_t size, bool json) {
  const std::string folder = MakeFolder();
  const std::string app = folder + "/Large.app";
  const uint64_t code_size = size / 4;
  const std::vector<std::string> files = MakeApp(
      app, code_size, (size - code_size) / kResourceSize, kResourceSize);

  const EVP_MD* const kSha256[] = {EVP_sha256()};
  const EVP_MD* const kBoth[] = {EVP_sha1(), EVP_sha256()};
  std::vector<double> raw;
  std::vector<double> raw_both;
  std::vector<double> modern;
  std::vector<double> both;
  for (int round = 0; round < kRoundCount; ++round) {
    raw.push_back(Seconds([&] { HashRaw(files, kSha256); }));
    modern.push_back(Seconds([&] { Seal(app, false); }));
    raw_both.push_back(Seconds([&] { HashRaw(files, kBoth); }));
    both.push_back(Seconds([&] { Seal(app, true); }));
  }
  const double ratio = Median(raw) / Median(modern);
  const double ratio_both = Median(raw_both) / Median(both);
  const long memory = MeasureMemory(app);
  const double whole = Seconds([&] { Sign(app, true); });
  fs::remove_all(app);

  const std::string few = folder + "/Few.app";
  const std::string many = folder + "/Many.app";
  MakeApp(few, 0, kFewFiles, kSmallFileSize);
  MakeApp(many, 0, 10 * kFewFiles, kSmallFileSize);
  std::vector<double> few_seconds;
  std::vector<double> many_seconds;
  for (int round = 0; round < kRoundCount; ++round) {
    few_seconds.push_back(Seconds([&] { Sign(few, true); }));
    many_seconds.push_back(Seconds([&] { Sign(many, true); }));
  }
  const double scaling = Median(many_seconds) / Median(few_seconds);
  fs::remove_all(folder);

  const unsigned cores = std::thread::hardware_concurrency();
  if (json) {
    std::printf(
        "{\"bytes\":%llu,\"cores\":%u,\"ratio\":%.3f,\"ratio_with_sha1\":%.3f,"
        "\"peak_mib\":%ld,\"seconds\":%.3f,\"ten_times_files\":%.2f}\n",
        static_cast<unsigned long long>(size), cores, ratio, ratio_both, memory,
        whole, scaling);
  } else {
    std::printf("%.1f GB in %zu files on %u cores, medians of %d rounds\n",
                static_cast<double>(size) / 1e9, files.size(), cores,
                kRoundCount);
    std::printf(
        "  hashed and sealed, SHA-256: %.2f of raw SHA-256 times cores (goal "
        "%.2f)\n"
        "  with SHA-1 for old systems: %.2f of raw SHA-1 and SHA-256\n"
        "  signed, written and flushed: %.2f s\n"
        "  memory: %ld MiB at most (goal %ld)\n"
        "  ten times %d files: %.1f times as long (goal %.0f)\n",
        ratio, kSpeedGoal, ratio_both, whole, memory, kMemoryGoal, kFewFiles,
        scaling, kScalingGoal);
  }
  return memory <= kMemoryGoal ? 0 : 1;
}

}  // namespace
}  // namespace codeseal::bench

int main(int argc, char** argv) {
  using namespace codeseal::bench;
  return RunAppBench(argc, argv,
                     {.name = "bundle_bench", .run = Run, .once = SignWhole});
}
