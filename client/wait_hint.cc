#include "client/wait_hint.h"

#include <utility>

namespace codeseal::client {

WaitHint::WaitHint(absl::Duration patience, std::function<void()> say) {
  if (!say) return;
  thread_ = std::thread([this, patience, say = std::move(say)] {
    std::unique_lock lock(mutex_);
    if (!ended_.wait_for(lock, absl::ToChronoNanoseconds(patience),
                         [this] { return over_; })) {
      say();
    }
  });
}

WaitHint::~WaitHint() {
  {
    const std::lock_guard lock(mutex_);
    over_ = true;
  }
  ended_.notify_all();
  if (thread_.joinable()) thread_.join();
}

}  // namespace codeseal::client
