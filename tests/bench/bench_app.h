// What the benchmarks of whole apps share: apps of any size, raw hashing of
// their files to compare with, medians, memory, the command line.

#ifndef CODESEAL_TESTS_BENCH_BENCH_APP_H_
#define CODESEAL_TESTS_BENCH_BENCH_APP_H_

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "codesign/code_signing.h"

struct evp_md_st;

namespace codeseal::bench {

inline constexpr uint64_t kLibrarySize = 16'000'000;
inline constexpr uint64_t kResourceSize = 1'000'000;

[[noreturn]] void Fail(const std::string& message);
void Check(const absl::Status& status);

template <typename T>
T Need(absl::StatusOr<T> result) {
  Check(result.status());
  return *std::move(result);
}

// A folder in the system's place for temporary files.
std::string MakeFolder();

// An app with that much code, in libraries of kLibrarySize, and so many
// resources; unsigned, the same at every run. Returns all its files.
std::vector<std::string> MakeApp(const std::filesystem::path& app,
                                 uint64_t code_size, uint64_t resource_count,
                                 uint64_t resource_size);

// The signing of the app with all nested code, ad-hoc.
CodeSigning OpenSigning(const std::string& app, bool has_version1);
void Sign(const std::string& app, bool has_version1);

// One digest after another over every file, on all cores.
void HashRaw(std::span<const std::string> files,
             std::span<const evp_md_st* const> kinds);

double Seconds(const std::function<void()>& work);
double Median(std::vector<double> values);

// A benchmark of one app: NAME [--size BYTES] [--json].
struct AppBench {
  const char* name;
  // All of it, with an app of so many bytes; the exit status.
  std::function<int(uint64_t size, bool json)> run;
  // What MeasureMemory() measures.
  std::function<void(const std::string& app)> once;
};
int RunAppBench(int argc, char** argv, const AppBench& bench);

// AppBench::once in a process of its own: the most memory that it took, MiB.
long MeasureMemory(const std::string& app);

}  // namespace codeseal::bench

#endif  // CODESEAL_TESTS_BENCH_BENCH_APP_H_
