#include "server/audit_log.h"

#include <algorithm>
#include <deque>
#include <future>
#include <set>

#include "absl/time/clock.h"
#include "audit/note.h"
#include "audit/tile.h"
#include "codesign/base/digest.h"
#include "codesign/base/error.h"
#include "codesign/cms/apple_cms.h"
#include "server/log.h"

namespace codeseal {
namespace {

constexpr absl::Duration kRetryEvery = absl::Seconds(1);
constexpr size_t kMaxNotes = 10'000;

absl::Status Unavailable(const std::string& message) {
  return MakeError(absl::StatusCode::kUnavailable, v1::STAGE_AUDIT,
                   v1::REASON_AUDIT_UNAVAILABLE, message);
}

std::string ToBytesField(const audit::TreeHash& hash) {
  return {hash.begin(), hash.end()};
}

std::string HexSha256(ByteView bytes) {
  return HexEncode(ComputeDigest(DigestKind::kSha256, bytes));
}

// What the ledger kept for the request of an entry.
absl::StatusOr<LedgerEntry> FindKept(Ledger& ledger,
                                     const audit::Entry& entry) {
  std::promise<absl::StatusOr<LedgerEntry>> found;
  ledger.Find({entry.client, entry.request_id},
              [&found](absl::StatusOr<LedgerEntry> kept) {
                found.set_value(std::move(kept));
              });
  return found.get_future().get();
}

}  // namespace

absl::StatusOr<uint64_t> AuditLog::AppendAndWait(audit::Entry entry,
                                                 absl::Time deadline) {
  std::promise<absl::StatusOr<uint64_t>> appended;
  Append(std::move(entry), deadline, [&appended](absl::StatusOr<uint64_t> at) {
    appended.set_value(std::move(at));
  });
  return appended.get_future().get();
}

absl::Status AuditLog::AppendEvent(audit::Entry event, absl::Time deadline) {
  event.kind = audit::EntryKind::kEvent;
  return AppendAndWait(std::move(event), deadline).status();
}

void AuditLog::NoteEvent(audit::Entry event) {
  event.kind = audit::EntryKind::kEvent;
  Note(std::move(event));
}

v1::AuditReceipt ToWire(const audit::Receipt& receipt) {
  v1::AuditReceipt wire;
  // The first line of a checkpoint is the log's name.
  wire.set_origin(receipt.checkpoint.substr(0, receipt.checkpoint.find('\n')));
  wire.set_index(receipt.index);
  wire.set_leaf_hash(ToBytesField(audit::HashLeaf(receipt.entry)));
  wire.set_checkpoint(receipt.checkpoint);
  for (const audit::TreeHash& each : receipt.proof) {
    wire.add_proof(ToBytesField(each));
  }
  wire.set_entry(ToString(receipt.entry));
  return wire;
}

void DescribeSignature(const v1::SignResponse& response,
                       std::span<const Certificate> known,
                       audit::Entry& entry) {
  entry.cms_sha256 = HexSha256(AsBytes(response.cms()));
  const absl::StatusOr<CmsSignature> signature =
      ParseAppleCms(AsBytes(response.cms()), known);
  if (signature.ok()) {
    entry.signature_sha256 = HexSha256(signature->signature_value);
  }
}

absl::StatusOr<std::vector<std::pair<uint64_t, audit::Entry>>> FindOpenIntents(
    const audit::Log& log) {
  std::vector<std::pair<uint64_t, audit::Entry>> open;
  std::set<uint64_t> concluded;
  uint64_t end = log.size();
  bool is_start_found = false;
  while (end > 0 && !is_start_found) {
    const uint64_t begin = (end - 1) / audit::kTileWidth * audit::kTileWidth;
    ASSIGN_OR_RETURN(const std::vector<Bytes> entries,
                     log.ReadEntries(begin, audit::kTileWidth));
    for (uint64_t index = end; index > begin && !is_start_found; --index) {
      if (index - 1 - begin >= entries.size()) continue;
      const auto entry = audit::ParseEntry(entries[index - 1 - begin]);
      if (!entry.ok()) continue;  // an auditor will say so
      is_start_found = entry->kind == audit::EntryKind::kStarted;
      if (entry->intent.has_value()) concluded.insert(*entry->intent);
      if (entry->kind == audit::EntryKind::kIntent &&
          !concluded.contains(index - 1)) {
        open.emplace_back(index - 1, *entry);
      }
    }
    end = begin;
  }
  std::reverse(open.begin(), open.end());
  return open;
}

struct AuditTrail::Notes {
  std::mutex mutex;
  std::deque<Bytes> entries;

  void Add(Bytes entry) {
    const std::lock_guard lock(mutex);
    if (entries.size() < kMaxNotes) {
      entries.push_back(std::move(entry));
    } else {
      Log(LogLevel::kError, "audit_entry_dropped",
          {{"entry", ToString(entry)}});
    }
  }
  std::deque<Bytes> Take() {
    const std::lock_guard lock(mutex);
    return std::exchange(entries, {});
  }
};

AuditTrail::AuditTrail(const AuditConfig& config, std::shared_ptr<Token> token,
                       std::string policy, Ledger* ledger, const Clock& clock)
    : config_(config),
      token_(std::move(token)),
      policy_(std::move(policy)),
      ledger_(ledger),
      clock_(clock),
      notes_(std::make_shared<Notes>()),
      fault_(Unavailable("the audit log is not open yet")) {}

AuditTrail::~AuditTrail() { Close(); }

void AuditTrail::Open(absl::Duration wait) {
  thread_ = std::thread([this] { Run(); });
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, absl::ToChronoNanoseconds(wait),
                    [this] { return is_tried_; });
}

void AuditTrail::Close() {
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
  WriteNotes();
  std::shared_ptr<audit::Log> log;
  {
    const std::lock_guard lock(mutex_);
    log.swap(log_);
    fault_ = Unavailable("the server is stopping");
  }
  // Its end answers everybody who waits.
  log.reset();
}

void AuditTrail::Run() {
  bool is_open = false;
  for (;;) {
    if (is_open) {
      WriteNotes();
    } else {
      is_open = OpenOnce();
    }
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, absl::ToChronoNanoseconds(kRetryEvery),
                      [this] { return is_stopping_; });
    if (is_stopping_) return;
  }
}

bool AuditTrail::OpenOnce() {
  absl::StatusOr<std::shared_ptr<audit::Log>> opened = TryOpen();
  const absl::Status status = opened.status();
  bool is_news = false;
  std::string key;
  std::string size;
  {
    const std::lock_guard lock(mutex_);
    is_news = !is_tried_ || GetReason(fault_) != GetReason(status);
    is_tried_ = true;
    fault_ = status;
    if (opened.ok()) {
      key = (*opened)->key().Format();
      size = std::to_string((*opened)->size());
      log_ = *std::move(opened);
    }
  }
  changed_.notify_all();
  if (status.ok()) {
    codeseal::Log(LogLevel::kInfo, "audit_log_open",
                  {{"origin", config_.origin}, {"key", key}, {"size", size}});
  } else if (is_news) {
    LogStatus(LogLevel::kError, "audit_log_unavailable", status,
              {{"folder", config_.folder}});
  }
  return status.ok();
}

absl::StatusOr<std::shared_ptr<audit::Log>> AuditTrail::TryOpen() {
  const absl::Time deadline = absl::Now() + token_->config().operation_timeout;
  ASSIGN_OR_RETURN(
      const std::shared_ptr<KeyBackend> backend,
      token_->LoadKey(config_.key, config_.key_policy, {}, deadline));
  absl::StatusOr<audit::NoteKey> key =
      audit::NoteKey::Create(config_.origin, audit::NoteKey::Type::kEcdsa,
                             ToBytes(backend->public_key()));
  if (!key.ok()) return WithSubject(key.status(), "audit.key");
  audit::LogOptions options;
  options.path = config_.folder;
  options.record = config_.record;
  options.reserve_size = config_.reserve;
  options.timeout = config_.timeout;
  options.on_change = [folder = config_.folder](const absl::Status& status) {
    if (status.ok()) {
      codeseal::Log(LogLevel::kInfo, "audit_log_works_again",
                    {{"folder", folder}});
    } else {
      LogStatus(LogLevel::kError, "audit_log_stopped", status,
                {{"folder", folder}});
    }
  };
  ASSIGN_OR_RETURN(
      std::shared_ptr<audit::Log> log,
      audit::Log::Open(options, *std::move(key),
                       [backend](ByteView sha256, absl::Time until) {
                         return backend->Sign(SignMechanism::kEcdsa,
                                              SignDigest::kSha256, sha256,
                                              until);
                       }));
  RETURN_IF_ERROR(ResolveOpenIntents(*log));
  return log;
}

absl::Status AuditTrail::ResolveOpenIntents(audit::Log& log) {
  ASSIGN_OR_RETURN(const auto open, FindOpenIntents(log));
  for (const auto& [index, entry] : open) {
    RETURN_IF_ERROR(Conclude(log, index, entry));
  }
  audit::Entry started;
  started.kind = audit::EntryKind::kStarted;
  return log.Append(Encode(started), audit::AppendOptions()).status();
}

absl::Status AuditTrail::Conclude(audit::Log& log, uint64_t intent,
                                  audit::Entry entry) {
  entry.intent = intent;
  entry.kind = audit::EntryKind::kIndeterminate;
  if (ledger_ != nullptr) {
    const absl::StatusOr<LedgerEntry> kept = FindKept(*ledger_, entry);
    const Reason reason = GetReason(kept.status());
    if (reason == v1::REASON_STATE_STORE) return kept.status();
    // A caller was faster and concludes it.
    if (reason == v1::REASON_IN_PROGRESS) return absl::OkStatus();
    if (kept.ok()) {
      entry.kind = audit::EntryKind::kSigned;
      DescribeSignature(kept->response, /*known=*/{}, entry);
    }
  }
  audit::AppendOptions options;
  options.may_use_reserve = true;
  RETURN_IF_ERROR(log.Append(Encode(entry), options).status());
  codeseal::Log(LogLevel::kWarning, "intent_concluded",
                {{"request_id", entry.request_id},
                 {"identity", entry.identity},
                 {"intent", std::to_string(intent)},
                 {"as", std::string(audit::EntryKindName(entry.kind))}});
  return absl::OkStatus();
}

Bytes AuditTrail::Encode(audit::Entry& entry) const {
  entry.time = clock_.Now();
  entry.policy = policy_;
  return audit::EncodeEntry(entry);
}

absl::StatusOr<std::shared_ptr<audit::Log>> AuditTrail::Find() const {
  const std::lock_guard lock(mutex_);
  if (log_ != nullptr) return log_;
  return Unavailable("the audit log takes no entries: " +
                     std::string(Message(fault_)));
}

void AuditTrail::Append(audit::Entry entry, absl::Time deadline,
                        Appended appended) {
  const auto log = Find();
  if (!log.ok()) return appended(log.status());
  audit::AppendOptions options;
  options.deadline = deadline;
  (*log)->Append(Encode(entry), options,
                 [appended = std::move(appended)](
                     const absl::StatusOr<audit::Receipt>& receipt) {
                   if (receipt.ok()) {
                     appended(receipt->index);
                   } else {
                     appended(receipt.status());
                   }
                 });
}

void AuditTrail::AppendOutcome(audit::Entry entry, absl::Time deadline,
                               Done done) {
  const auto log = Find();
  if (!log.ok()) return done(log.status());
  audit::AppendOptions options;
  options.wants_receipt = true;
  options.may_use_reserve = true;
  options.deadline = deadline;
  (*log)->Append(Encode(entry), options, std::move(done));
}

void AuditTrail::Note(audit::Entry entry) {
  notes_->Add(Encode(entry));
  if (fault().ok()) WriteNotes();
}

void AuditTrail::WriteNotes() {
  const auto log = Find();
  if (!log.ok() || !(*log)->fault().ok()) return;
  audit::AppendOptions options;
  options.may_use_reserve = true;
  for (const Bytes& each : notes_->Take()) {
    (*log)->Append(
        each, options,
        [notes = notes_, each](const absl::StatusOr<audit::Receipt>& receipt) {
          // Perhaps it is in the log all the same: twice is no harm.
          if (!receipt.ok()) notes->Add(each);
        });
  }
}

absl::StatusOr<std::shared_ptr<const audit::Log>> AuditTrail::log() const {
  return Find();
}

absl::Status AuditTrail::fault() const {
  const auto log = Find();
  return log.ok() ? (*log)->fault() : log.status();
}

}  // namespace codeseal
