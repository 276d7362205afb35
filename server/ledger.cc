#include "server/ledger.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/time/clock.h"
#include "codesign/base/error.h"
#include "codesign/cms/apple_cms.h"
#include "server/signing_pool.h"

namespace codeseal {
namespace {

constexpr absl::Duration kCleaningInterval = absl::Minutes(1);
// The most that one transaction of a shared database holds.
constexpr size_t kSharedBatch = 32;
// How often an outcome is looked for that another replica will write.
constexpr absl::Duration kFirstLook = absl::Milliseconds(20);
constexpr absl::Duration kLongestLook = absl::Milliseconds(320);
// Two replicas that insert the same key take turns this often at most.
constexpr int kInsertAttempts = 4;

absl::Status LedgerFault(absl::StatusCode code, Reason reason,
                         const std::string& message) {
  return MakeError(code, v1::STAGE_TRANSPORT, reason, message);
}

absl::Status InProgress() {
  return LedgerFault(absl::StatusCode::kAborted, v1::REASON_IN_PROGRESS,
                     "another call with this request id is being answered");
}

absl::Status Reused() {
  return LedgerFault(absl::StatusCode::kAlreadyExists,
                     v1::REASON_REQUEST_ID_REUSED,
                     "this request id was used for something else");
}

absl::Status Indeterminate() {
  return LedgerFault(
      absl::StatusCode::kUnknown, v1::REASON_INDETERMINATE,
      "the server stopped while it answered this request id: nobody "
      "knows whether the key was used, and it is not used again");
}

// The kept response with its chain: the CMS's certificates, leaf first.
absl::StatusOr<LedgerEntry> ReadRow(const LedgerRow& row) {
  LedgerEntry entry;
  entry.state = row.state;
  if (!entry.response.ParseFromString(row.response)) {
    return LedgerFault(absl::StatusCode::kUnavailable, v1::REASON_STATE_STORE,
                       "the ledger holds something that is no response");
  }
  ASSIGN_OR_RETURN(const CmsSignature signature,
                   ParseAppleCms(AsBytes(entry.response.cms())));
  ASSIGN_OR_RETURN(const std::vector<Certificate> chain,
                   BuildChain(signature.signer, signature.certificates));
  for (const Certificate& each : chain) {
    entry.response.add_certificate_chain(ToString(each.der()));
  }
  entry.response.set_replayed(true);
  return entry;
}

// What a row says to a request with this payload.
absl::StatusOr<std::optional<LedgerEntry>> ReadKnown(const LedgerRow& row,
                                                     ByteView payload_digest) {
  if (!Equal(row.payload_digest, payload_digest)) return Reused();
  if (row.is_elsewhere) return InProgress();
  if (row.state == LedgerState::kIntent) return Indeterminate();
  ASSIGN_OR_RETURN(LedgerEntry entry, ReadRow(row));
  return std::optional<LedgerEntry>(std::move(entry));
}

absl::Status Mark(LedgerStore& store, const char* sql) {
  return store.database().Run(sql, {}).status();
}

// Inserts the intent if there is no row yet. `row` is what was there;
// `refusal` is the admission's word.
absl::Status Insert(LedgerStore& store, const LedgerKey& key,
                    ByteView payload_digest, absl::Time now,
                    const Ledger::Admission& admission,
                    std::optional<LedgerRow>& row, absl::Status& refusal) {
  refusal = absl::OkStatus();
  for (int attempt = 0; attempt < kInsertAttempts; ++attempt) {
    ASSIGN_OR_RETURN(row, store.Find(key));
    if (row.has_value()) {
      if (row->state != LedgerState::kSigned || row->is_elsewhere) {
        return absl::OkStatus();
      }
      ASSIGN_OR_RETURN(const bool adopted, store.Adopt(key));
      if (adopted) return absl::OkStatus();
      continue;
    }
    if (admission) RETURN_IF_ERROR(Mark(store, "SAVEPOINT admission"));
    ASSIGN_OR_RETURN(const bool inserted,
                     store.Insert(key, payload_digest, now));
    if (!inserted) continue;
    if (!admission) return absl::OkStatus();
    refusal = admission(store.database());
    if (refusal.ok()) return absl::OkStatus();
    return Mark(store, "ROLLBACK TO SAVEPOINT admission");
  }
  refusal = InProgress();
  return absl::OkStatus();
}

std::vector<std::unique_ptr<LedgerStore>> One(
    std::unique_ptr<LedgerStore> store) {
  std::vector<std::unique_ptr<LedgerStore>> stores;
  stores.push_back(std::move(store));
  return stores;
}

}  // namespace

Ledger::Ledger(std::vector<std::unique_ptr<LedgerStore>> stores,
               absl::Duration retention, const Clock& clock)
    : stores_(std::move(stores)), retention_(retention), clock_(clock) {
  for (const auto& store : stores_) {
    threads_.emplace_back([this, &store] { Work(*store); });
  }
  watcher_ = std::thread([this] { Watch(); });
}

Ledger::Ledger(std::unique_ptr<LedgerStore> store, absl::Duration retention,
               const Clock& clock)
    : Ledger(One(std::move(store)), retention, clock) {}

Ledger::~Ledger() { Stop(); }

void Ledger::Stop() {
  std::map<LedgerKey, Awaited> awaited;
  std::deque<Operation> rest;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  awaited_changed_.notify_all();
  added_.notify_all();
  if (watcher_.joinable()) watcher_.join();
  for (std::thread& each : threads_) each.join();
  threads_.clear();
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    awaited.swap(awaited_);
    rest.swap(queue_);
  }
  for (const auto& each : awaited) {
    for (const Waiter& waiter : each.second.waiters) waiter.ready(false);
  }
  for (const Operation& each : rest) each.done(Stopping());
}

void Ledger::Begin(const LedgerKey& key, ByteView payload_digest, Begun begun,
                   Admission admission) {
  const auto digest = std::make_shared<const Bytes>(ToBytes(payload_digest));
  absl::Status refused;
  {
    const std::lock_guard lock(mutex_);
    const auto [place, is_new] = begun_.try_emplace(key, *digest);
    if (!is_new) {
      refused = Equal(place->second, *digest) ? InProgress() : Reused();
    }
  }
  if (!refused.ok()) {
    begun(refused);
    return;
  }
  struct Outcome {
    std::optional<LedgerRow> row;
    absl::Status refusal;  // the admission's
  };
  const auto outcome = std::make_shared<Outcome>();
  Add({[this, key, digest, outcome,
        admission = std::move(admission)](LedgerStore& store) {
         return Insert(store, key, *digest, clock_.Now(), admission,
                       outcome->row, outcome->refusal);
       },
       [this, key, digest, outcome,
        begun = std::move(begun)](const absl::Status& status) {
         absl::StatusOr<std::optional<LedgerEntry>> known =
             std::optional<LedgerEntry>();
         if (!status.ok() || !outcome->refusal.ok()) {
           known = status.ok() ? outcome->refusal : status;
         } else if (outcome->row.has_value()) {
           known = ReadKnown(*outcome->row, *digest);
         }
         const bool is_done = known.ok() && known->has_value() &&
                              (*known)->state == LedgerState::kDone;
         if (!known.ok() || is_done) ForgetBegun(key);
         begun(std::move(known));
       },
       /*is_contended=*/true});
}

void Ledger::Try(Admission admission,
                 std::function<void(const absl::Status&)> done) {
  const absl::Status only_tried = absl::CancelledError("only tried");
  const auto verdict = std::make_shared<absl::Status>();
  Change(
      [only_tried, verdict,
       admission = std::move(admission)](Database& database) {
        *verdict = admission(database);
        return only_tried;
      },
      [only_tried, verdict,
       done = std::move(done)](const absl::Status& status) {
        done(status == only_tried ? *verdict : status);
      });
}

void Ledger::Await(const LedgerKey& key, absl::Time deadline,
                   std::function<void(bool)> ready) {
  {
    const std::lock_guard lock(mutex_);
    if (!stopped_) {
      const auto [place, is_new] = awaited_.try_emplace(key);
      Awaited& awaited = place->second;
      if (is_new) {
        awaited.interval = kFirstLook;
        awaited.look_at = absl::Now() + kFirstLook;
      }
      awaited.waiters.push_back({deadline, std::move(ready)});
      awaited_changed_.notify_all();
      return;
    }
  }
  ready(false);
}

void Ledger::Keep(const LedgerKey& key, LedgerState state,
                  v1::SignResponse response, Done done) {
  response.clear_certificate_chain();
  auto bytes =
      std::make_shared<const std::string>(response.SerializeAsString());
  Add({[this, key, state, bytes](LedgerStore& store) {
         return store.Update(key, state, *bytes, clock_.Now());
       },
       [this, key, state, done = std::move(done)](const absl::Status& status) {
         if (!status.ok() || state == LedgerState::kDone) ForgetBegun(key);
         done(status);
       }});
}

void Ledger::Release(const LedgerKey& key, bool forget, const Admission& undo,
                     Done done) {
  Add({[key, forget, undo](LedgerStore& store) -> absl::Status {
         if (!forget) return store.Release(key);
         RETURN_IF_ERROR(store.Remove(key));
         return undo ? undo(store.database()) : absl::OkStatus();
       },
       [this, key, done = std::move(done)](const absl::Status& status) {
         ForgetBegun(key);
         done(status);
       },
       /*is_contended=*/forget&& undo});
}

void Ledger::Change(std::function<absl::Status(Database&)> change, Done done) {
  const auto refusal = std::make_shared<absl::Status>();
  Add({[change = std::move(change), refusal](LedgerStore& store) {
         RETURN_IF_ERROR(Mark(store, "SAVEPOINT admission"));
         *refusal = change(store.database());
         return refusal->ok() ? absl::OkStatus()
                              : Mark(store, "ROLLBACK TO SAVEPOINT admission");
       },
       [refusal, done = std::move(done)](const absl::Status& status) {
         done(status.ok() ? *refusal : status);
       },
       /*is_contended=*/true});
}

void Ledger::Find(const LedgerKey& key, Found found) {
  const auto row = std::make_shared<std::optional<LedgerRow>>();
  Add({[key, row](LedgerStore& store) -> absl::Status {
         ASSIGN_OR_RETURN(*row, store.Find(key));
         return absl::OkStatus();
       },
       [this, key, row, found = std::move(found)](const absl::Status& status) {
         bool begun = false;
         {
           const std::lock_guard lock(mutex_);
           begun = begun_.contains(key);
         }
         if (!status.ok()) {
           found(status);
         } else if (begun) {
           found(InProgress());
         } else if (!row->has_value()) {
           found(LedgerFault(absl::StatusCode::kNotFound,
                             v1::REASON_REQUEST_NOT_FOUND,
                             "no signature is kept under this request id"));
         } else if ((*row)->is_elsewhere) {
           found(InProgress());
         } else if ((*row)->state == LedgerState::kIntent) {
           found(Indeterminate());
         } else {
           found(ReadRow(**row));
         }
       }});
}

void Ledger::Add(Operation operation) {
  {
    const std::lock_guard lock(mutex_);
    if (!stopped_) {
      queue_.push_back(std::move(operation));
      added_.notify_one();
      return;
    }
  }
  operation.done(Stopping());
}

void Ledger::ForgetBegun(const LedgerKey& key) {
  std::vector<Waiter> waiters;
  {
    const std::lock_guard lock(mutex_);
    begun_.erase(key);
    const auto awaited = awaited_.find(key);
    if (awaited == awaited_.end()) return;
    waiters = std::move(awaited->second.waiters);
    awaited_.erase(awaited);
  }
  for (const Waiter& each : waiters) each.ready(true);
}

std::vector<Ledger::Operation> Ledger::TakeBatch(bool is_shared) {
  std::vector<Operation> batch;
  while (!queue_.empty()) {
    const bool alone = is_shared && queue_.front().is_contended;
    if (!batch.empty() &&
        (alone || (is_shared && batch.size() == kSharedBatch)))
      break;
    batch.push_back(std::move(queue_.front()));
    queue_.pop_front();
    if (alone) break;
  }
  return batch;
}

void Ledger::Work(LedgerStore& store) {
  for (;;) {
    std::vector<Operation> batch;
    {
      std::unique_lock lock(mutex_);
      added_.wait_for(lock, absl::ToChronoNanoseconds(kCleaningInterval),
                      [this] { return stopping_ || !queue_.empty(); });
      if (stopping_ && queue_.empty()) return;
      if (const absl::Time now = clock_.Now(); now >= clean_at_) {
        clean_at_ = now + kCleaningInterval;
        queue_.push_back({[this, now](LedgerStore& cleaned) {
                            return cleaned.RemoveOld(now - retention_, now);
                          },
                          [](const absl::Status&) {}, /*is_contended=*/true});
      }
      batch = TakeBatch(store.is_shared());
    }
    if (batch.empty()) continue;
    const std::vector<absl::Status> results = RunBatch(store, batch);
    for (size_t i = 0; i < batch.size(); ++i) batch[i].done(results[i]);
  }
}

std::vector<absl::Status> Ledger::RunBatch(LedgerStore& store,
                                           std::span<const Operation> batch) {
  bool connected = true;
  const absl::Status together = RunTogether(store, batch, connected);
  std::vector<absl::Status> results(batch.size(), together);
  if (together.ok()) return results;
  // Nobody pays for the fault of another: alone, it may work. Without a
  // connection there is no use in waiting once for each.
  for (size_t i = 0; i < batch.size() && connected; ++i) {
    results[i] = RunTogether(store, batch.subspan(i, 1), connected);
    if (!connected) {
      std::fill(results.begin() + static_cast<std::ptrdiff_t>(i), results.end(),
                results[i]);
    }
  }
  return results;
}

absl::Status Ledger::RunTogether(LedgerStore& store,
                                 std::span<const Operation> batch,
                                 bool& connected) {
  absl::Status status = store.Begin();
  connected = status.ok();
  if (!connected) return status;
  for (const Operation& each : batch) {
    status = each.run(store);
    if (!status.ok()) break;
  }
  if (status.ok()) status = store.Commit();
  if (!status.ok()) store.Rollback();
  return status;
}

// Only for outcomes that another replica writes, and for deadlines: what ends
// here is told by ForgetBegun().
void Ledger::Watch() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    const absl::Time now = absl::Now();
    absl::Time wake_at = now + absl::Seconds(60);
    std::vector<Waiter> late;
    std::vector<LedgerKey> look;
    for (auto each = awaited_.begin(); each != awaited_.end();) {
      Awaited& awaited = each->second;
      std::erase_if(awaited.waiters, [&](Waiter& waiter) {
        wake_at = std::min(wake_at, waiter.deadline);
        if (now < waiter.deadline) return false;
        late.push_back(std::move(waiter));
        return true;
      });
      if (awaited.waiters.empty()) {
        each = awaited_.erase(each);
        continue;
      }
      if (!awaited.is_looking && now >= awaited.look_at) {
        if (!begun_.contains(each->first)) {
          awaited.is_looking = true;
          look.push_back(each->first);
        }
        awaited.interval = std::min(awaited.interval * 2, kLongestLook);
        awaited.look_at = now + awaited.interval;
      }
      if (!awaited.is_looking) wake_at = std::min(wake_at, awaited.look_at);
      ++each;
    }
    if (!late.empty() || !look.empty()) {
      lock.unlock();
      for (const Waiter& each : late) each.ready(false);
      for (const LedgerKey& each : look) Look(each);
      lock.lock();
      continue;
    }
    awaited_changed_.wait_until(lock, absl::ToChronoTime(wake_at));
  }
}

void Ledger::Look(const LedgerKey& key) {
  const auto settled = std::make_shared<bool>(false);
  Add({[key, settled](LedgerStore& store) -> absl::Status {
         ASSIGN_OR_RETURN(const std::optional<LedgerRow> row, store.Find(key));
         *settled = !row.has_value() || !row->is_elsewhere;
         return absl::OkStatus();
       },
       [this, key, settled](const absl::Status& status) {
         std::vector<Waiter> waiters;
         {
           const std::lock_guard lock(mutex_);
           const auto awaited = awaited_.find(key);
           if (awaited == awaited_.end()) return;
           awaited->second.is_looking = false;
           // Begun here in the meantime: ForgetBegun() will tell. A store that
           // fails is for Begin() to report.
           if ((status.ok() && !*settled) || begun_.contains(key)) {
             awaited_changed_.notify_all();
             return;
           }
           waiters = std::move(awaited->second.waiters);
           awaited_.erase(awaited);
         }
         for (const Waiter& each : waiters) each.ready(true);
       }});
}

}  // namespace codeseal
