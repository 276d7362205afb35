// Sees to it that a request id signs at most once, whatever crashes.
//
//   Begin: intent, durable -> token signs -> Keep: signature, durable
//     -> timestamp -> Keep: reply, durable -> reply
//
// A replay gets what was kept; a reply that lacks its timestamp is stamped, not
// signed again. An intent without an outcome, after a crash, says that nobody
// knows whether the key was used: it is never used again for that id.
//
// With several replicas on one database the same holds across them: the intent
// is a unique row, and it is its replica's as long as that one is alive.
//
// All changes go through the ledger's threads, one for each connection. In a
// file, one thread makes those that came meanwhile durable with one sync; in a
// shared database, changes that others may wait for have a transaction each.

#ifndef CODESEAL_SERVER_LEDGER_H_
#define CODESEAL_SERVER_LEDGER_H_

#include <condition_variable>
#include <deque>
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
  // Rows are forgotten `retention` after their last change. At least one store;
  // several are connections to the same rows. Borrows the clock.
  Ledger(std::vector<std::unique_ptr<LedgerStore>> stores,
         absl::Duration retention, const Clock& clock);
  Ledger(std::unique_ptr<LedgerStore> store, absl::Duration retention,
         const Clock& clock);
  ~Ledger();  // Stop()
  Ledger(const Ledger&) = delete;
  Ledger& operator=(const Ledger&) = delete;

  // What else a request needs to be begun: it may read and change the database,
  // in the transaction of the intent. An error refuses the request, and leaves
  // neither its changes nor the intent behind. Runs again when the transaction
  // has to be repeated.
  using Admission = std::function<absl::Status(Database&)>;

  using Begun = std::function<void(absl::StatusOr<std::optional<LedgerEntry>>)>;
  // Keeps an intent; `begun` is called when it is durable, or refused, on a
  // thread of the ledger's or before Begin() returns. Then the caller, and
  // nobody else, may use the key, and must end it with Keep(kDone) or
  // Release(). With an entry in state kSigned only the timestamp is left to do,
  // and the same holds; one in state kDone is the reply, and nothing was begun.
  // `admission` may be empty; it is asked only for what is not known yet.
  // Errors: ALREADY_EXISTS REASON_REQUEST_ID_REUSED for another payload;
  // ABORTED REASON_IN_PROGRESS while another caller, here or on another
  // replica, has begun it; UNKNOWN REASON_INDETERMINATE; the admission's.
  void Begin(const LedgerKey& key, ByteView payload_digest, Begun begun,
             Admission admission = nullptr);

  // What `admission` would say of a new request; changes nothing.
  void Try(Admission admission, std::function<void(const absl::Status&)> done);

  // Calls `ready`, perhaps on a thread of the ledger's, once nobody is known to
  // work on the key any more: Begin() says what became of it. With false when
  // `deadline` came first.
  void Await(const LedgerKey& key, absl::Time deadline,
             std::function<void(bool)> ready);

  using Done = std::function<void(const absl::Status&)>;
  // Keeps an outcome; `done` is called on the ledger's thread once it is
  // durable, or failed: then the intent stays. The response is kept without
  // its certificate chain, which the CMS has, too. With kDone it is no longer
  // begun.
  void Keep(const LedgerKey& key, LedgerState state, v1::SignResponse response,
            Done done);
  // No longer begun. When `forget`, the key made no signature that anybody
  // has, and the id may be used again; then `undo` (may be empty) takes back
  // what the admission changed, in the same transaction.
  void Release(const LedgerKey& key, bool forget, const Admission& undo,
               Done done);

  // Finishes what is queued and joins; afterwards everything is answered with
  // UNAVAILABLE REASON_DRAINING.
  void Stop();

  // Another change of the database, in a transaction of its own as far as
  // others can see; an error undoes it. May run twice.
  void Change(std::function<absl::Status(Database&)> change, Done done);

  using Found = std::function<void(absl::StatusOr<LedgerEntry>)>;
  // What was kept, on the ledger's thread.
  // Errors: NOT_FOUND REASON_REQUEST_NOT_FOUND; ABORTED REASON_IN_PROGRESS;
  // UNKNOWN REASON_INDETERMINATE.
  void Find(const LedgerKey& key, Found found);

 private:
  struct Operation {
    // Changes the store. Runs twice when another of its batch fails.
    std::function<absl::Status(LedgerStore&)> run;
    Done done;  // after the commit
    // Other replicas may wait for the rows: it shares no transaction there.
    bool is_contended = false;
  };
  // Who waits for a key's outcome, and when to look for it next.
  struct Waiter {
    absl::Time deadline;
    std::function<void(bool)> ready;
  };
  struct Awaited {
    std::vector<Waiter> waiters;
    absl::Duration interval;
    absl::Time look_at;
    bool is_looking = false;
  };

  void Add(Operation operation);
  std::vector<Operation> TakeBatch(bool is_shared);
  void Work(LedgerStore& store);
  // What became of each; they are durable together, or each for itself.
  std::vector<absl::Status> RunBatch(LedgerStore& store,
                                     std::span<const Operation> batch);
  static absl::Status RunTogether(LedgerStore& store,
                                  std::span<const Operation> batch,
                                  bool& connected);
  void ForgetBegun(const LedgerKey& key);
  void Watch();
  void Look(const LedgerKey& key);

  const std::vector<std::unique_ptr<LedgerStore>> stores_;
  const absl::Duration retention_;
  const Clock& clock_;
  std::mutex mutex_;
  std::condition_variable added_;
  std::deque<Operation> queue_;
  // Begun here and not ended, with their payloads' digests.
  std::map<LedgerKey, Bytes> begun_;
  std::map<LedgerKey, Awaited> awaited_;
  std::condition_variable awaited_changed_;
  absl::Time clean_at_ = absl::InfinitePast();
  bool stopping_ = false;
  bool stopped_ = false;              // nobody takes from the queue any more
  std::vector<std::thread> threads_;  // one for each store
  std::thread watcher_;
};

}  // namespace codeseal

#endif  // CODESEAL_SERVER_LEDGER_H_
