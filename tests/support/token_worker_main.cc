// The token worker as a program of its own, for tests whose main() is
// GoogleTest's. codeseald and codeseal start themselves instead.

#include <cstdlib>
#include <cstring>

#include "hsm/token.h"

int main(int argc, char** argv) {
  if (argc != 3 || std::strcmp(argv[1], "token-worker") != 0) return 2;
  return codeseal::RunTokenWorker(std::atoi(argv[2]));
}
