// Sees to it that a request id signs at most once, whatever crashes.
//
//   Begin: intent, durable -> token signs -> Keep: signature, durable
//     -> timestamp -> Keep: reply, durable -> reply
//
// A replay gets what was kept; a reply that lacks its timestamp is stamped, not
// signed again. An intent without an outcome, after a crash, says that nobody
// knows whether the key was used: it is never used again for that id.
//
// All changes go through one thread, which makes those that came meanwhile
// durable with one sync.

#ifndef CODESEAL_SERVER_LEDGER_H_
#define CODESEAL_SERVER_LEDGER_H_

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "codeseal/v1/signing.pb.h"
#include "codesign/base/clock.h"
#include "server/ledger_store.h"

namespace codeseal {

// What was kept of a request.
struct LedgerEntry {
  LedgerState state = LedgerState::kDone;  // kSigned or kDone
  v1::SignResponse response;
};

// Thread-safe. Errors of the store: UNAVAILABLE REASON_STATE_STORE.
class Ledger {
 public:
  // Rows are forgotten `retention` after their last change. Borrows the clock.
  Ledger(std::unique_ptr<LedgerStore> store, absl::Duration retention,
         const Clock& clock);
  ~Ledger();  // Stop()
  Ledger(const Ledger&) = delete;
  Ledger& operator=(const Ledger&) = delete;

  using Begun = std::function<void(absl::StatusOr<std::optional<LedgerEntry>>)>;
  // Keeps an intent; `begun` is called when it is durable, or refused, on the
  // ledger's thread or before Begin() returns. Then the caller, and nobody
  // else, may use the key, and must end it with Keep(kDone) or Release(). With
  // an entry in state kSigned only the timestamp is left to do, and the same
  // holds; one in state kDone is the reply, and nothing was begun.
  // Errors: ALREADY_EXISTS REASON_REQUEST_ID_REUSED for another payload;
  // ABORTED REASON_IN_PROGRESS while another caller has begun it; UNKNOWN
  // REASON_INDETERMINATE.
  void Begin(const LedgerKey& key, ByteView payload_digest, Begun begun);

  using Done = std::function<void(const absl::Status&)>;
  // Keeps an outcome; `done` is called on the ledger's thread once it is
  // durable, or failed: then the intent stays. The response is kept without
  // its certificate chain, which the CMS has, too. With kDone it is no longer
  // begun.
  void Keep(const LedgerKey& key, LedgerState state, v1::SignResponse response,
            Done done);
  // No longer begun. When `forget`, the key made no signature that anybody
  // has, and the id may be used again.
  void Release(const LedgerKey& key, bool forget, Done done);

  using Found = std::function<void(absl::StatusOr<LedgerEntry>)>;
  // What was kept, on the ledger's thread.
  // Errors: NOT_FOUND REASON_REQUEST_NOT_FOUND; ABORTED REASON_IN_PROGRESS;
  // UNKNOWN REASON_INDETERMINATE.
  void Find(const LedgerKey& key, Found found);

  // Finishes what is queued and joins; afterwards everything is answered with
  // UNAVAILABLE REASON_DRAINING.
  void Stop();

 private:
  struct Operation {
    // Changes the store. Runs twice when another of its batch fails.
    std::function<absl::Status(LedgerStore&)> run;
    Done done;  // after the commit
  };

  void Add(Operation operation);
  void Work();
  absl::Status RunTogether(std::span<const Operation> batch);
  void ForgetBegun(const LedgerKey& key);

  const std::unique_ptr<LedgerStore> store_;  // the thread's
  const absl::Duration retention_;
  const Clock& clock_;
  std::mutex mutex_;
  std::condition_variable added_;
  std::vector<Operation> queue_;
  // Begun here and not ended, with their payloads' digests.
  std::map<LedgerKey, Bytes> begun_;
  bool stopping_ = false;
  bool stopped_ = false;  // nobody takes from the queue any more
  std::thread thread_;
};

}  // namespace codeseal

#endif  // CODESEAL_SERVER_LEDGER_H_
