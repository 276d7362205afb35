#include "server/ledger.h"

#include <memory>
#include <utility>

#include "codesign/base/error.h"
#include "codesign/cms/apple_cms.h"

namespace codeseal {
namespace {

constexpr absl::Duration kCleaningInterval = absl::Minutes(1);

absl::Status Fault(absl::StatusCode code, Reason reason,
                   const std::string& message) {
  return MakeError(code, v1::STAGE_TRANSPORT, reason, message);
}

absl::Status InProgress() {
  return Fault(absl::StatusCode::kAborted, v1::REASON_IN_PROGRESS,
               "another call with this request id is being answered");
}

absl::Status Reused() {
  return Fault(absl::StatusCode::kAlreadyExists, v1::REASON_REQUEST_ID_REUSED,
               "this request id was used for something else");
}

absl::Status Indeterminate() {
  return Fault(absl::StatusCode::kUnknown, v1::REASON_INDETERMINATE,
               "the server stopped while it answered this request id: nobody "
               "knows whether the key was used, and it is not used again");
}

// The kept response with its chain: the CMS's certificates, leaf first.
absl::StatusOr<LedgerEntry> ReadRow(const LedgerRow& row) {
  LedgerEntry entry;
  entry.state = row.state;
  if (!entry.response.ParseFromString(row.response)) {
    return Fault(absl::StatusCode::kUnavailable, v1::REASON_STATE_STORE,
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
  if (row.state == LedgerState::kIntent) return Indeterminate();
  ASSIGN_OR_RETURN(LedgerEntry entry, ReadRow(row));
  return std::optional<LedgerEntry>(std::move(entry));
}

}  // namespace

Ledger::Ledger(std::unique_ptr<LedgerStore> store, absl::Duration retention,
               const Clock& clock)
    : store_(std::move(store)), retention_(retention), clock_(clock) {
  thread_ = std::thread([this] { Work(); });
}

Ledger::~Ledger() { Stop(); }

void Ledger::Stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  added_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void Ledger::Begin(const LedgerKey& key, ByteView payload_digest, Begun begun) {
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
  const auto row = std::make_shared<std::optional<LedgerRow>>();
  Add({[this, key, digest, row](LedgerStore& store) -> absl::Status {
         ASSIGN_OR_RETURN(*row, store.Find(key));
         return row->has_value() ? absl::OkStatus()
                                 : store.Insert(key, *digest, clock_.Now());
       },
       [this, key, digest, row,
        begun = std::move(begun)](const absl::Status& status) {
         absl::StatusOr<std::optional<LedgerEntry>> known =
             std::optional<LedgerEntry>();
         if (!status.ok()) {
           known = status;
         } else if (row->has_value()) {
           known = ReadKnown(**row, *digest);
         }
         const bool is_done = known.ok() && known->has_value() &&
                              (*known)->state == LedgerState::kDone;
         if (!known.ok() || is_done) ForgetBegun(key);
         begun(std::move(known));
       }});
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

void Ledger::Release(const LedgerKey& key, bool forget, Done done) {
  Add({[key, forget](LedgerStore& store) {
         return forget ? store.Remove(key) : absl::OkStatus();
       },
       [this, key, done = std::move(done)](const absl::Status& status) {
         ForgetBegun(key);
         done(status);
       }});
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
           found(Fault(absl::StatusCode::kNotFound,
                       v1::REASON_REQUEST_NOT_FOUND,
                       "no signature is kept under this request id"));
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
  operation.done(Fault(absl::StatusCode::kUnavailable, v1::REASON_DRAINING,
                       "the server is stopping"));
}

void Ledger::ForgetBegun(const LedgerKey& key) {
  const std::lock_guard lock(mutex_);
  begun_.erase(key);
}

void Ledger::Work() {
  absl::Time clean_at = absl::InfinitePast();
  for (;;) {
    std::vector<Operation> batch;
    {
      std::unique_lock lock(mutex_);
      added_.wait_for(lock, absl::ToChronoNanoseconds(kCleaningInterval),
                      [this] { return stopping_ || !queue_.empty(); });
      if (stopping_ && queue_.empty()) {
        stopped_ = true;
        return;
      }
      batch.swap(queue_);
    }
    if (const absl::Time now = clock_.Now(); now >= clean_at) {
      clean_at = now + kCleaningInterval;
      batch.push_back({[this, now](LedgerStore& store) {
                         return store.RemoveOlderThan(now - retention_);
                       },
                       [](const absl::Status&) {}});
    }
    if (batch.empty()) continue;
    const absl::Status together = RunTogether(batch);
    for (const Operation& each : batch) {
      // Nobody pays for the fault of another: alone, it may work.
      each.done(together.ok() || batch.size() == 1 ? together
                                                   : RunTogether({&each, 1}));
    }
  }
}

absl::Status Ledger::RunTogether(std::span<const Operation> batch) {
  RETURN_IF_ERROR(store_->Begin());
  absl::Status status;
  for (const Operation& each : batch) {
    status = each.run(*store_);
    if (!status.ok()) break;
  }
  if (status.ok()) status = store_->Commit();
  if (!status.ok()) store_->Rollback();
  return status;
}

}  // namespace codeseal
