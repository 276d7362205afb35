#include "codesign/base/parallel.h"

#include <atomic>
#include <vector>

#include "gtest/gtest.h"

namespace codeseal {
namespace {

TEST(ParallelTest, CallsEachIndexOnce) {
  for (const size_t threads : {0u, 1u, 7u}) {
    std::vector<std::atomic<int>> calls(1000);
    ParallelFor(calls.size(), [&](size_t i) { ++calls[i]; }, threads);
    for (const std::atomic<int>& count : calls) EXPECT_EQ(count, 1) << threads;
  }
}

TEST(ParallelTest, NothingToDo) {
  ParallelFor(0, [](size_t) { FAIL(); });
}

}  // namespace
}  // namespace codeseal
