// Tells people why nothing happens: a token may be waiting for a finger.

#ifndef CODESEAL_CLIENT_WAIT_HINT_H_
#define CODESEAL_CLIENT_WAIT_HINT_H_

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

#include "absl/time/time.h"

namespace codeseal::client {

class WaitHint {
 public:
  // Calls `say` once, on a thread of its own, unless the object ends within
  // `patience`. `say` may be empty.
  WaitHint(absl::Duration patience, std::function<void()> say);
  // Waits for `say`, if that has begun.
  ~WaitHint();
  WaitHint(const WaitHint&) = delete;
  WaitHint& operator=(const WaitHint&) = delete;

 private:
  std::mutex mutex_;
  std::condition_variable ended_;
  bool over_ = false;
  std::thread thread_;
};

}  // namespace codeseal::client

#endif  // CODESEAL_CLIENT_WAIT_HINT_H_
