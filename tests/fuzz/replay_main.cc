// Runs a fuzz target over its seeds as an ordinary test:
//   replay_NAME SEED_FOLDER
// A fuzz target returns 0 for input that its parser accepted and -1 for input
// that it refused (libFuzzer then leaves the input out of the corpus). Fuzzing
// from seeds that no parser accepts proves nothing, so one must be accepted.

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s SEED_FOLDER\n", argv[0]);
    return 2;
  }
  int seed_count = 0;
  int accepted_count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(argv[1])) {
    std::ifstream file(entry.path(), std::ios::binary);
    const std::vector<char> seed((std::istreambuf_iterator<char>(file)),
                                 std::istreambuf_iterator<char>());
    ++seed_count;
    if (LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(seed.data()),
                               seed.size()) == 0) {
      ++accepted_count;
    }
  }
  std::printf("%d seeds, %d accepted\n", seed_count, accepted_count);
  return accepted_count > 0 ? 0 : 1;
}
