// verify_bench [--size BYTES] [--json]: how fast `verify --deep` judges an app,
// as a ratio to raw SHA-256 of the same bytes on all cores, and how much memory
// that takes.
//
// A quarter of the bytes is code in 16 MB libraries, the rest are resources of
// 1 MB, as in bundle_bench. Rounds are interleaved and medians compared,
// because a busy machine slows all alike. Exit status 1 when verification takes
// more memory than the goal; speed is only printed.

#include <openssl/evp.h>

#include <cstdio>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "codesign/verify/verifier.h"
#include "tests/bench/bench_app.h"

namespace codeseal::bench {
namespace {

constexpr int kRoundCount = 5;
constexpr double kSpeedGoal = 0.80;
constexpr long kMemoryGoal = 64;  // MiB

void VerifyDeep(const std::string& app) {
  const StoredCode code = Need(StoredCode::Open(app));
  VerifyOptions options;
  options.is_deep = true;
  Check(Verify(code, options).Validity());
}

int Run(uint64_t size, bool json) {
  const std::string folder = MakeFolder();
  const std::string app = folder + "/Large.app";
  const uint64_t code_size = size / 4;
  const std::vector<std::string> files = MakeApp(
      app, code_size, (size - code_size) / kResourceSize, kResourceSize);
  Sign(app, true);

  const EVP_MD* const kSha256[] = {EVP_sha256()};
  std::vector<double> raw;
  std::vector<double> verified;
  for (int round = 0; round < kRoundCount; ++round) {
    raw.push_back(Seconds([&] { HashRaw(files, kSha256); }));
    verified.push_back(Seconds([&] { VerifyDeep(app); }));
  }
  const double ratio = Median(raw) / Median(verified);
  const long memory = MeasureMemory(app);
  std::filesystem::remove_all(folder);

  const unsigned cores = std::thread::hardware_concurrency();
  if (json) {
    std::printf(
        "{\"bytes\":%llu,\"cores\":%u,\"ratio\":%.3f,\"peak_mib\":%ld,"
        "\"seconds\":%.3f}\n",
        static_cast<unsigned long long>(size), cores, ratio, memory,
        Median(verified));
  } else {
    std::printf("%.1f GB in %zu files on %u cores, medians of %d rounds\n",
                static_cast<double>(size) / 1e9, files.size(), cores,
                kRoundCount);
    std::printf(
        "  verified, all nested code in full: %.2f of raw SHA-256 times cores "
        "(goal %.2f), %.2f s\n"
        "  memory: %ld MiB at most (goal %ld)\n",
        ratio, kSpeedGoal, Median(verified), memory, kMemoryGoal);
  }
  return memory <= kMemoryGoal ? 0 : 1;
}

}  // namespace
}  // namespace codeseal::bench

int main(int argc, char** argv) {
  using namespace codeseal::bench;
  return RunAppBench(argc, argv,
                     {.name = "verify_bench", .run = Run, .once = VerifyDeep});
}
