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
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "codesign/base/error.h"
#include "codesign/base/mapped_file.h"
#include "codesign/base/parallel.h"
#include "codesign/code_signing.h"
#include "tests/support/mach_o_builder.h"

namespace codeseal {
namespace {

namespace fs = std::filesystem;

constexpr int kRoundCount = 5;
constexpr double kSpeedGoal = 0.80;
constexpr double kScalingGoal = 11.0;
constexpr long kMemoryGoal = 64;  // MiB
constexpr uint64_t kLibrarySize = 16'000'000;
constexpr uint64_t kResourceSize = 1'000'000;
constexpr int kFewFiles = 1000;
constexpr uint64_t kSmallFileSize = 4000;

[[noreturn]] void Fail(const std::string& message) {
  std::fprintf(stderr, "bundle_bench: %s\n", message.c_str());
  std::exit(2);
}

void Check(const absl::Status& status) {
  if (!status.ok()) Fail(std::string(Message(status)));
}

template <typename T>
T Need(absl::StatusOr<T> result) {
  Check(result.status());
  return *std::move(result);
}

void WriteFile(const fs::path& path, ByteView bytes) {
  fs::create_directories(path.parent_path());
  std::ofstream out(path, std::ios::binary);
  out << AsText(bytes);
  out.close();
  if (!out) Fail("cannot write " + path.string());
}

// The same at every run, different for every file.
void Scramble(std::span<uint8_t> bytes, uint64_t seed) {
  uint64_t state = 88172645463325252u ^ (seed * 0x9e3779b97f4a7c15u);
  for (size_t i = 0; i + 8 <= bytes.size(); i += 8) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    std::memcpy(&bytes[i], &state, 8);
  }
}

// An app with that much code and so many resources; returns all its files.
std::vector<std::string> MakeApp(const fs::path& app, uint64_t code_size,
                                 uint64_t resource_count,
                                 uint64_t resource_size) {
  const fs::path contents = app / "Contents";
  WriteFile(contents / "Info.plist",
            AsBytes("<plist version=\"1.0\"><dict>"
                    "<key>CFBundleExecutable</key><string>Demo</string>"
                    "<key>CFBundleIdentifier</key><string>com.example.demo"
                    "</string></dict></plist>"));
  WriteFile(contents / "MacOS/Demo", testing::BuildMachO());
  for (uint64_t i = 0; i < code_size / kLibrarySize; ++i) {
    Bytes library = testing::BuildMachO({.file_type = MachOFileType::kDylib,
                                         .header_room = 256,
                                         .code_size = kLibrarySize});
    // All but the start, which is the header, and the string table.
    Scramble(std::span(library).subspan(4096, kLibrarySize - 8192), i);
    WriteFile(contents / "Frameworks" / ("lib" + std::to_string(i) + ".dylib"),
              library);
  }
  Bytes resource(resource_size);
  for (uint64_t i = 0; i < resource_count; ++i) {
    Scramble(resource, i + 1000);
    WriteFile(contents / "Resources" / std::to_string(i / 500) /
                  (std::to_string(i) + ".data"),
              resource);
  }
  std::vector<std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(app)) {
    if (entry.is_regular_file()) files.push_back(entry.path().string());
  }
  return files;
}

double Seconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
      .count();
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// One digest after another over every file, on all cores.
void HashRaw(std::span<const std::string> files,
             std::span<const EVP_MD* const> kinds) {
  ParallelFor(files.size(), [&](size_t i) {
    const MappedFile file = Need(MappedFile::Open(files[i]));
    for (const EVP_MD* kind : kinds) {
      unsigned char digest[EVP_MAX_MD_SIZE];
      unsigned int size = 0;
      EVP_Digest(file.bytes().data(), file.bytes().size(), digest, &size, kind,
                 nullptr);
    }
  });
}

CodeSigning Open(const std::string& app, bool has_version1) {
  CodeSigningOptions options;
  options.plan.is_deep = true;
  options.writes_version1_seal = has_version1;
  options.options_of =
      [](const std::string&) -> absl::StatusOr<SigningOptions> {
    SigningOptions each;
    each.force = true;
    return each;
  };
  return Need(CodeSigning::Create(app, std::move(options)));
}

void Seal(const std::string& app, bool has_version1) {
  CodeSigning signing = Open(app, has_version1);
  if (Need(signing.PlanStage()).empty()) Fail("there is nothing to sign");
}

void Sign(const std::string& app) {
  CodeSigning signing = Open(app, true);
  const size_t count = Need(signing.PlanStage()).size();
  Check(signing.WriteStage(std::vector<std::vector<Bytes>>(count)));
  Check(signing.Commit());
}

// Runs this program again to sign `app`; its largest memory in MiB.
long MeasureMemory(const std::string& app) {
  int output[2];
  if (pipe(output) != 0) Fail("pipe");
  const pid_t child = fork();
  if (child == 0) {
    dup2(output[1], STDOUT_FILENO);
    execl("/proc/self/exe", "bundle_bench", "--sign", app.c_str(), nullptr);
    _exit(127);
  }
  close(output[1]);
  std::string text(64, '\0');
  const ssize_t size = read(output[0], text.data(), text.size());
  close(output[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (status != 0 || size <= 0) Fail("the signing child failed");
  return std::atol(text.c_str()) / 1024;
}

int SignAndReport(const std::string& app) {
  Sign(app);
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmHWM:", 0) == 0) std::puts(line.c_str() + 6);
  }
  return 0;
}

int Run(uint64_t size, bool json) {
  std::string folder =
      (fs::temp_directory_path() / "codeseal-bench-XXXXXX").string();
  if (mkdtemp(folder.data()) == nullptr) Fail("cannot make a folder");
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
  const double whole = Seconds([&] { Sign(app); });
  fs::remove_all(app);

  const std::string few = folder + "/Few.app";
  const std::string many = folder + "/Many.app";
  MakeApp(few, 0, kFewFiles, kSmallFileSize);
  MakeApp(many, 0, 10 * kFewFiles, kSmallFileSize);
  std::vector<double> few_seconds;
  std::vector<double> many_seconds;
  for (int round = 0; round < kRoundCount; ++round) {
    few_seconds.push_back(Seconds([&] { Sign(few); }));
    many_seconds.push_back(Seconds([&] { Sign(many); }));
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
}  // namespace codeseal

int main(int argc, char** argv) {
  uint64_t size = 2'000'000'000;
  bool json = false;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--sign" && i + 1 < argc) {
      return codeseal::SignAndReport(argv[i + 1]);
    }
    if (argument == "--size" && i + 1 < argc) {
      size = std::strtoull(argv[++i], nullptr, 10);
    } else if (argument == "--json") {
      json = true;
    } else {
      std::fprintf(stderr, "usage: bundle_bench [--size BYTES] [--json]\n");
      return 2;
    }
  }
  return codeseal::Run(size, json);
}
