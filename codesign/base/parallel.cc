#include "codesign/base/parallel.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

namespace codeseal {

void ParallelFor(size_t count, const std::function<void(size_t)>& work,
                 size_t thread_count) {
  if (thread_count == 0) {
    thread_count = std::max<size_t>(1, std::thread::hardware_concurrency());
  }
  std::atomic<size_t> next = 0;
  const auto run = [&] {
    for (size_t i = next++; i < count; i = next++) work(i);
  };
  std::vector<std::jthread> threads;
  for (size_t i = 1; i < std::min(thread_count, count); ++i) {
    threads.emplace_back(run);
  }
  run();
}

}  // namespace codeseal
