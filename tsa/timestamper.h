// Gets timestamps from an authority over HTTP, many at once and without a
// waiting thread for each.
//
//   signature value -> [Timestamper] -> libcurl -> authority -> verified token
//
// An authority may have several servers. They are asked in their order; one
// that fails is passed over at once, and when all have failed there is a pause
// before the next round. A server of which nearly every answer is a failure is
// left alone for a while (its breaker is open), then asked once. A token that
// does not verify is a failure like any other.
//
// Spec: RFC 3161 section 3.4. Apple's authority fails so often that its users
//       ask up to five times.

#ifndef CODESEAL_TSA_TIMESTAMPER_H_
#define CODESEAL_TSA_TIMESTAMPER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "codesign/base/bytes.h"
#include "codesign/base/clock.h"
#include "codesign/cms/timestamp.h"

namespace codeseal {

struct TimestamperOptions {
  std::string name;               // of the authority, for messages
  std::vector<std::string> urls;  // http or https; at least one
  TimestampRules rules;
  absl::Duration timeout = absl::Seconds(5);  // of one query
  uint32_t attempts = 5;                      // queries for one token
  uint32_t concurrency = 256;                 // queries at once
  // How far the token's time may be from ours: beyond the first there is an
  // event, beyond the second the token is not taken.
  absl::Duration clock_alarm = absl::Seconds(5);
  absl::Duration clock_limit = absl::Seconds(60);
  size_t cache_size = 1024;  // tokens
};

struct Stamp {
  Bytes token;
  absl::Time time;
  std::string url;  // the server that gave it
  bool cached = false;
};

// What an operator should hear of.
struct TimestamperEvent {
  enum class Kind {
    kQueryFailed,
    kBreakerOpened,
    kBreakerClosed,
    kClockApart,  // the token was taken, but the clocks differ
  };
  Kind kind = Kind::kQueryFailed;
  std::string tsa;
  std::string url;
  std::string message;
};

// Thread-safe. Has one thread, on which `done` and `on_event` are called; they
// must not wait.
class Timestamper {
 public:
  using Done = std::function<void(absl::StatusOr<Stamp>)>;
  using OnEvent = std::function<void(const TimestamperEvent&)>;

  // Borrows the clock, which the tokens' times are held against.
  Timestamper(TimestamperOptions options, const Clock& clock,
              OnEvent on_event = nullptr);
  // Ends what is open with UNAVAILABLE REASON_DRAINING.
  ~Timestamper();
  Timestamper(const Timestamper&) = delete;
  Timestamper& operator=(const Timestamper&) = delete;

  const TimestamperOptions& options() const;

  // A token over `stamped`; one that was got before is given again. Returns at
  // once. `done` is called exactly once, at the latest shortly after
  // `deadline`.
  // Errors: UNAVAILABLE REASON_TSA_DOWN; FAILED_PRECONDITION REASON_CLOCK when
  // an authority's time is too far from ours; DEADLINE_EXCEEDED
  // REASON_DEADLINE_EXCEEDED when there was no time even to ask.
  void Get(Bytes stamped, absl::Time deadline, Done done);

  // The same, for a caller that has nothing else to do.
  absl::StatusOr<Stamp> GetAndWait(Bytes stamped, absl::Time deadline);

 private:
  class Loop;

  std::unique_ptr<Loop> loop_;
};

// Whether `url` is one that can be asked: http or https with a host, without
// user, password, blanks or a fragment.
bool IsTimestampUrl(const std::string& url);

}  // namespace codeseal

#endif  // CODESEAL_TSA_TIMESTAMPER_H_
