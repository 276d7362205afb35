// What requests and administrators write into the audit log: an intent before a
// key is used, the outcome before the reply leaves, events before they happen.
//
//   intent durable -> token signs -> signature kept, stamped
//     -> [outcome durable, checkpoint] -> reply kept with its receipt -> reply
//
// The log itself is in audit/log.h.

#ifndef CODESEAL_SERVER_AUDIT_LOG_H_
#define CODESEAL_SERVER_AUDIT_LOG_H_

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "audit/entry.h"
#include "audit/log.h"
#include "codeseal/v1/audit.pb.h"
#include "codeseal/v1/signing.pb.h"
#include "codesign/base/clock.h"
#include "codesign/cms/certificate.h"
#include "hsm/token.h"
#include "server/config.h"
#include "server/ledger.h"

namespace codeseal {

// Thread-safe. All errors: UNAVAILABLE REASON_AUDIT_UNAVAILABLE, after
// AuditConfig::timeout at the latest.
class AuditLog {
 public:
  virtual ~AuditLog() = default;

  // The log's name.
  virtual const std::string& origin() const = 0;

  // `appended` is called once, perhaps before Append() returns, perhaps on a
  // thread of the log that it must not hold up, when the entry is durable: with
  // its index. After an error no key may be used.
  using Appended = std::function<void(absl::StatusOr<uint64_t>)>;
  virtual void Append(audit::Entry entry, absl::Time deadline,
                      Appended appended) = 0;

  // `done` is called as above when the entry is durable and under a signed
  // checkpoint. After an error nothing may leave.
  using Done = std::function<void(absl::StatusOr<audit::Receipt>)>;
  virtual void AppendOutcome(audit::Entry entry, absl::Time deadline,
                             Done done) = 0;

  // For what nobody waits for, such as a signature that failed. While the log
  // takes no entries it is remembered.
  virtual void Note(audit::Entry entry) = 0;

  // Append(), waiting.
  absl::StatusOr<uint64_t> AppendAndWait(audit::Entry entry,
                                         absl::Time deadline);
  // Something that is no signature: a rotation, a grant. Sets kind; `event` and
  // `client` must be there. Waits until it is durable: do it only then, and
  // Note() it once more, with its reason, when it failed.
  absl::Status AppendEvent(audit::Entry event, absl::Time deadline);
  void NoteEvent(audit::Entry event);
};

v1::AuditReceipt ToWire(const audit::Receipt& receipt);

// Says of the signature in the reply what a signed entry says. `known`: as for
// ParseAppleCms().
void DescribeSignature(const v1::SignResponse& response,
                       std::span<const Certificate> known, audit::Entry& entry);

// The log of this server. Opens it as soon as the token has the log's key, and
// until then refuses. When it is opened, intents that a crash left open are
// concluded: `signed` when the ledger has kept the signature, else
// `indeterminate`.
class AuditTrail : public AuditLog {
 public:
  // `policy`: SHA-256 of the configuration, written into every entry. The
  // ledger may be null. Borrows it and the clock.
  AuditTrail(const AuditConfig& config, std::shared_ptr<Token> token,
             std::string policy, Ledger* ledger, const Clock& clock);
  ~AuditTrail() override;
  AuditTrail(const AuditTrail&) = delete;
  AuditTrail& operator=(const AuditTrail&) = delete;

  // Starts to open the log; returns when it was tried once, at the latest
  // after `wait`. A token that is down is tried again; a log that is not what
  // was signed last, too, since somebody may put the right one back.
  void Open(absl::Duration wait);
  // Answers everybody who waits and takes no more. The ledger may go after it.
  void Close();

  const std::string& origin() const override { return config_.origin; }
  void Append(audit::Entry entry, absl::Time deadline,
              Appended appended) override;
  void AppendOutcome(audit::Entry entry, absl::Time deadline,
                     Done done) override;
  void Note(audit::Entry entry) override;

  // Errors: UNAVAILABLE REASON_AUDIT_UNAVAILABLE until it is open.
  absl::StatusOr<std::shared_ptr<const audit::Log>> log() const;
  // Why nothing can be signed now.
  absl::Status fault() const;

 private:
  // Entries that are to be written as soon as the log takes some.
  struct Notes;

  absl::StatusOr<std::shared_ptr<audit::Log>> TryOpen();
  absl::Status ResolveOpenIntents(audit::Log& log);
  absl::Status Conclude(audit::Log& log, uint64_t intent, audit::Entry entry);
  absl::StatusOr<std::shared_ptr<audit::Log>> Find() const;
  Bytes Encode(audit::Entry& entry) const;
  void Run();
  bool OpenOnce();
  void WriteNotes();

  const AuditConfig config_;
  const std::shared_ptr<Token> token_;
  const std::string policy_;
  Ledger* const ledger_;
  const Clock& clock_;
  const std::shared_ptr<Notes> notes_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::shared_ptr<audit::Log> log_;
  absl::Status fault_;
  bool is_tried_ = false;
  bool is_stopping_ = false;
  std::thread thread_;
};

// The intents among the log's last entries that have no outcome, oldest first;
// looks no further back than the last start of a server.
absl::StatusOr<std::vector<std::pair<uint64_t, audit::Entry>>> FindOpenIntents(
    const audit::Log& log);

}  // namespace codeseal

#endif  // CODESEAL_SERVER_AUDIT_LOG_H_
