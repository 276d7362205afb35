// Runs a fuzz target over its seeds as an ordinary test:
//   replay_NAME SEED_FOLDER
// A fuzz target returns 0 for input that its parser accepted and -1 for input
// that it refused (libFuzzer then leaves the input out of the corpus). Fuzzing
// from seeds that no parser accepts proves nothing, so one must be accepted.
//
// Each seed is also run with every word of its first kilobyte made huge, as a
// count, length or offset would be that lies: none may cost more than 64 MiB.

#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

constexpr long kMaxMemory = 64 * 1024;  // KiB, resident
constexpr size_t kHostileSize = 1024;   // bytes of a seed
constexpr std::array<std::array<uint8_t, 4>, 4> kHugeWords = {{
    {0xff, 0xff, 0xff, 0xff},
    {0x7f, 0xff, 0xff, 0xff},
    {0xff, 0xff, 0xff, 0x7f},
    {0x0f, 0xff, 0xff, 0xf0},
}};

#ifdef CODESEAL_SANITIZED
constexpr bool kIsInstrumented = true;  // memory is the sanitizer's
#else
constexpr bool kIsInstrumented = false;
#endif

int Run(const std::vector<uint8_t>& input) {
  return LLVMFuzzerTestOneInput(input.data(), input.size());
}

void RunWithHugeWords(std::vector<uint8_t> input) {
  const size_t end = std::min(input.size(), kHostileSize);
  for (size_t offset = 0; offset + 4 <= end; offset += 4) {
    const auto word = input.begin() + static_cast<ptrdiff_t>(offset);
    std::array<uint8_t, 4> original = {};
    std::copy_n(word, 4, original.begin());
    for (const auto& huge : kHugeWords) {
      std::copy(huge.begin(), huge.end(), word);
      Run(input);
    }
    std::copy(original.begin(), original.end(), word);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s SEED_FOLDER\n", argv[0]);
    return 2;
  }
  int seed_count = 0;
  int accepted_count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(argv[1])) {
    std::ifstream file(entry.path(), std::ios::binary);
    const std::vector<char> bytes((std::istreambuf_iterator<char>(file)),
                                  std::istreambuf_iterator<char>());
    std::vector<uint8_t> seed(bytes.begin(), bytes.end());
    ++seed_count;
    if (Run(seed) == 0) ++accepted_count;
    RunWithHugeWords(std::move(seed));
  }
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  std::printf("%d seeds, %d accepted, peak memory %ld KiB\n", seed_count,
              accepted_count, usage.ru_maxrss);
  if (!kIsInstrumented && usage.ru_maxrss > kMaxMemory) {
    std::printf("that is more than %ld KiB\n", kMaxMemory);
    return 1;
  }
  return accepted_count > 0 ? 0 : 1;
}
