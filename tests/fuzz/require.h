// What a fuzz target asserts: a broken promise ends the program, so that the
// fuzzer keeps the input.

#ifndef CODESEAL_TESTS_FUZZ_REQUIRE_H_
#define CODESEAL_TESTS_FUZZ_REQUIRE_H_

#include <cstdlib>

#include "codesign/base/bytes.h"

namespace codeseal {

inline void Require(bool holds) {
  if (!holds) std::abort();
}

inline void RequireInside(ByteView inner, ByteView outer) {
  Require(inner.empty() ||
          (inner.data() >= outer.data() &&
           inner.data() + inner.size() <= outer.data() + outer.size()));
}

}  // namespace codeseal

#endif  // CODESEAL_TESTS_FUZZ_REQUIRE_H_
