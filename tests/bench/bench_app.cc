#include "tests/bench/bench_app.h"

#include <openssl/evp.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "codesign/base/error.h"
#include "codesign/base/mapped_file.h"
#include "codesign/base/parallel.h"
#include "tests/support/mach_o_builder.h"

namespace codeseal::bench {
namespace {

namespace fs = std::filesystem;

constexpr char kOnce[] = "--once";  // for MeasureMemory()

void PrintPeakMemory() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmHWM:", 0) == 0) std::puts(line.c_str() + 6);
  }
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

}  // namespace

void Fail(const std::string& message) {
  std::fprintf(stderr, "bench: %s\n", message.c_str());
  std::exit(2);
}

void Check(const absl::Status& status) {
  if (!status.ok()) Fail(std::string(Message(status)));
}

std::string MakeFolder() {
  std::string folder =
      (fs::temp_directory_path() / "codeseal-bench-XXXXXX").string();
  if (mkdtemp(folder.data()) == nullptr) Fail("cannot make a folder");
  return folder;
}

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

CodeSigning OpenSigning(const std::string& app, bool has_version1) {
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

void Sign(const std::string& app, bool has_version1) {
  CodeSigning signing = OpenSigning(app, has_version1);
  const size_t count = Need(signing.PlanStage()).size();
  Check(signing.WriteStage(std::vector<std::vector<Bytes>>(count)));
  Check(signing.Commit());
}

void HashRaw(std::span<const std::string> files,
             std::span<const evp_md_st* const> kinds) {
  ParallelFor(files.size(), [&](size_t i) {
    const MappedFile file = Need(MappedFile::Open(files[i]));
    for (const evp_md_st* kind : kinds) {
      unsigned char digest[EVP_MAX_MD_SIZE];
      unsigned int size = 0;
      EVP_Digest(file.bytes().data(), file.bytes().size(), digest, &size, kind,
                 nullptr);
    }
  });
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

long MeasureMemory(const std::string& app) {
  const char* const argv[] = {"bench", kOnce, app.c_str(), nullptr};
  int output[2];
  if (pipe(output) != 0) Fail("pipe");
  const pid_t child = fork();
  if (child == 0) {
    dup2(output[1], STDOUT_FILENO);
    execv("/proc/self/exe", const_cast<char* const*>(argv));
    _exit(127);
  }
  close(output[1]);
  std::string text(64, '\0');
  const ssize_t size = read(output[0], text.data(), text.size());
  close(output[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (status != 0 || size <= 0) Fail("the measured child failed");
  return std::atol(text.c_str()) / 1024;
}

int RunAppBench(int argc, char** argv, const AppBench& bench) {
  uint64_t size = 2'000'000'000;
  bool json = false;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == kOnce && i + 1 < argc) {
      bench.once(argv[i + 1]);
      PrintPeakMemory();
      return 0;
    }
    if (argument == "--size" && i + 1 < argc) {
      size = std::strtoull(argv[++i], nullptr, 10);
    } else if (argument == "--json") {
      json = true;
    } else {
      std::fprintf(stderr, "usage: %s [--size BYTES] [--json]\n", bench.name);
      return 2;
    }
  }
  return bench.run(size, json);
}

}  // namespace codeseal::bench
