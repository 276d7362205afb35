// Splits work over the machine's cores.

#ifndef CODESEAL_CODESIGN_BASE_PARALLEL_H_
#define CODESEAL_CODESIGN_BASE_PARALLEL_H_

#include <cstddef>
#include <functional>

namespace codeseal {

// Calls work(i) once for each i in [0, count), on up to `thread_count` threads
// (0: one for each core) including the caller's, and returns when all are done.
// Items are handed out in order, one at a time: make them large enough. `work`
// must not throw.
void ParallelFor(size_t count, const std::function<void(size_t)>& work,
                 size_t thread_count = 0);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_BASE_PARALLEL_H_
