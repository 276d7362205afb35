#include "server/request_handler.h"

#include <algorithm>
#include <span>
#include <utility>

#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "codesign/base/error.h"
#include "codesign/cms/apple_cms.h"
#include "codesign/cms/digest_signature.h"
#include "hsm/provider.h"
#include "server/log.h"
#include "server/policy.h"
#include "server/request_check.h"

namespace codeseal {
namespace {

absl::Status CheckValidNow(const Certificate& leaf, absl::Time now,
                           const std::string& identity) {
  if (now >= leaf.not_before() && now < leaf.not_after()) {
    return absl::OkStatus();
  }
  return WithSubject(
      MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_POLICY,
                v1::REASON_CERTIFICATE_EXPIRED,
                "the identity's certificate is valid from " +
                    absl::FormatTime(leaf.not_before(), absl::UTCTimeZone()) +
                    " to " +
                    absl::FormatTime(leaf.not_after(), absl::UTCTimeZone())),
      identity);
}

// What `sign` makes with the identity's key.
absl::StatusOr<Bytes> UseKey(
    IdentityVersion& version, absl::Time deadline,
    const std::function<absl::StatusOr<Bytes>(const CmsSigner&)>& sign) {
  ASSIGN_OR_RETURN(const std::shared_ptr<evp_pkey_st> key, version.key());
  const SignScope scope(deadline);
  absl::StatusOr<Bytes> made =
      sign({key.get(), TokenLibraryContext(), version.chain()});
  // OpenSSL only knows that signing failed; the token knows why.
  version.SetFault(scope.token_status());
  if (!made.ok() && !scope.token_status().ok()) return scope.token_status();
  return made;
}

absl::StatusOr<Bytes> SignAndVerify(IdentityVersion& version,
                                    const CmsContent& content,
                                    absl::Time signing_time,
                                    absl::Time deadline) {
  ASSIGN_OR_RETURN(Bytes cms,
                   UseKey(version, deadline, [&](const CmsSigner& signer) {
                     return BuildAppleCms(signer, content, signing_time);
                   }));
  if (absl::Status status =
          OwnSignatureCheck::CheckSigned(cms, content, version.chain());
      !status.ok()) {
    version.Distrust(status);
    return status;
  }
  return cms;
}

// The bare RSA signature that a package has beside its CMS.
absl::StatusOr<Bytes> SignChecksum(IdentityVersion& version,
                                   const CheckedPackage& package,
                                   absl::Time deadline) {
  const DigestKind kind = package.table.checksum_kind();
  ASSIGN_OR_RETURN(Bytes signature,
                   UseKey(version, deadline, [&](const CmsSigner& signer) {
                     return SignRsaDigest(signer, kind, package.checksum);
                   }));
  const absl::Status verified = CheckRsaSignature(version.chain().front(), kind,
                                                  package.checksum, signature);
  if (verified.ok()) return signature;
  absl::Status status = MakeError(
      absl::StatusCode::kDataLoss, v1::STAGE_CMS, v1::REASON_SELF_VERIFY_FAILED,
      "the new signature does not verify: " + std::string(Message(verified)));
  version.Distrust(status);
  return status;
}

// macOS takes installer packages from installer certificates alone, and code
// from none of them: whoever mixes them up learns it here.
absl::Status CheckPurpose(const CheckedRequest& checked,
                          const IdentityVersion& version) {
  const Certificate& leaf = version.chain().front();
  const bool installer = leaf.IsSuitableForPackageSigning();
  const bool wrong = checked.package.has_value()
                         ? !installer
                         : installer && !leaf.IsSuitableForCodeSigning();
  if (!wrong) return absl::OkStatus();
  return WithSubject(
      MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_POLICY,
                v1::REASON_NOT_INSTALLER_CERTIFICATE,
                checked.package.has_value()
                    ? "the identity's certificate is not for installer packages"
                    : "the identity's certificate is for installer packages, "
                      "not for code"),
      version.name());
}

// What a request id stands for. The blobs are covered by the CodeDirectories;
// the version is not part of it, so that a replay after a rotation still gets
// what was signed before.
Bytes PayloadDigest(const v1::SignRequest& request,
                    const CheckedRequest& checked) {
  v1::SignRequest payload;
  payload.set_identity(request.identity());
  v1::DigestSet& digests = *payload.mutable_digest_set();
  for (const auto& each : checked.content.code_directories) {
    v1::DigestSet::CodeDirectoryDigest& digest = *digests.add_digests();
    digest.set_hash_type(static_cast<uint32_t>(each.kind));
    digest.set_digest(ToString(each.digest));
  }
  digests.set_message_digest(ToString(checked.content.message_digest));
  payload.set_timestamp(request.timestamp());
  payload.set_timestamp_url(request.timestamp_url());
  if (request.has_signing_time()) {
    payload.mutable_signing_time()->set_seconds(
        request.signing_time().seconds());
  }
  // Nothing in it has an order of its own: equal payloads, equal bytes.
  return ComputeDigest(DigestKind::kSha256,
                       AsBytes(payload.SerializeAsString()));
}

// Everything of a reply but the signature.
void Describe(const v1::SignRequest& request, const CheckedRequest& checked,
              const IdentityVersion& version, v1::SignResponse& response) {
  response.set_request_id(request.request_id());
  response.set_identity_version(version.id());
  for (const Certificate& each : version.chain()) {
    response.add_certificate_chain(ToString(each.der()));
  }
  for (const CdHash& each : checked.cdhashes) {
    response.add_cdhashes(each.data(), each.size());
  }
}

// A timestamp that comes later than this before the deadline is of no use.
constexpr absl::Duration kTimeForSignedReply = absl::Milliseconds(50);

absl::Status AddTimestamp(const Stamp& stamp, const Timestamper& tsa,
                          v1::SignResponse& response) {
  ASSIGN_OR_RETURN(const Bytes cms,
                   AddTimestampToken(AsBytes(response.cms()), stamp.token));
  response.set_cms(cms.data(), cms.size());
  response.mutable_timestamp()->set_tsa(tsa.options().name);
  response.mutable_timestamp()->mutable_time()->set_seconds(
      absl::ToUnixSeconds(stamp.time));
  return absl::OkStatus();
}

void LogSigned(const v1::SignRequest& request, const Peer& peer,
               const IdentityVersion& version, const CheckedRequest& checked) {
  std::string cdhashes;
  for (const CdHash& each : checked.cdhashes) {
    cdhashes += (cdhashes.empty() ? "" : ",") + HexEncode(each);
  }
  std::string identifier;
  std::string checksum;
  if (checked.package.has_value()) {
    identifier = absl::StrJoin(checked.package->identifiers, ",");
    checksum = HexEncode(checked.package->checksum);
  } else if (!checked.code_directories.empty()) {
    identifier = std::string(checked.code_directories.front().identifier());
  }
  Log(LogLevel::kInfo, request.validate_only() ? "validated" : "signed",
      {{"request_id", request.request_id()},
       {"peer", peer.Name()},
       {"identity", version.name()},
       {"version", version.id()},
       {"identifier", identifier},
       {"cdhashes", cdhashes},
       {"checksum", checksum},
       {"artifact", request.artifact().path().substr(0, 256)}});
}

audit::Entry FactsOf(const v1::SignRequest& request, const Peer& peer,
                     const IdentityVersion& version,
                     const CheckedRequest& checked) {
  audit::Entry facts;
  facts.kind = audit::EntryKind::kIntent;
  facts.request_id = request.request_id();
  facts.client = peer.Name();
  facts.client_certificate = peer.fingerprint;
  facts.identity = version.name();
  facts.identity_version = version.id();
  facts.certificate = HexEncode(version.chain().front().Sha256());
  if (checked.package.has_value()) {
    facts.identifier = absl::StrJoin(checked.package->identifiers, ",");
    facts.checksum = HexEncode(checked.package->checksum);
  } else if (!checked.code_directories.empty()) {
    facts.identifier = checked.code_directories.front().identifier();
  }
  for (const CdHash& each : checked.cdhashes) {
    facts.cdhashes.push_back(HexEncode(each));
  }
  facts.artifact = request.artifact().path();
  facts.architecture = request.artifact().architecture();
  facts.artifact_sha256 = HexEncode(AsBytes(request.artifact().sha256()));
  facts.decision = version.identity().approvals.quorum == 0
                       ? "allowed"
                       : "allowed by grant " + request.grant();
  return facts;
}

}  // namespace

void RequestHandler::Sign(Call call) {
  if (metrics_ != nullptr) {
    call.done =
        metrics_->CountWhenDone(call.request->identity(), std::move(call.done));
  }
  const size_t size = call.request->ByteSizeLong();
  const absl::StatusOr<IdentityVersion*> version = Admit(call, size);
  if (!version.ok()) {
    call.done(version.status());
    return;
  }
  const auto job = std::make_shared<Job>();
  job->call = std::move(call);
  job->call.deadline =
      std::min(job->call.deadline, absl::Now() + limits_.deadline);
  job->size = size;
  job->version = *version;
  const absl::Status queued = Queue(job, &RequestHandler::Judge);
  if (!queued.ok()) Finish(*job, queued);
}

absl::Status RequestHandler::Queue(
    const std::shared_ptr<Job>& job,
    void (RequestHandler::*step)(const std::shared_ptr<Job>&)) {
  SigningPool::Task task;
  task.deadline = job->call.deadline;
  task.resumed = job->checked.has_value();  // it had its turn
  task.cancelled = job->call.cancelled;
  task.run = [this, job, step](const absl::Status& status) {
    if (status.ok()) {
      (this->*step)(job);
    } else {
      Fail(job, status);
    }
  };
  return job->version->token().pool->Submit(std::move(task));
}

std::string RequestHandler::CurrentVersion(const std::string& identity,
                                           const Peer& peer) const {
  const absl::StatusOr<IdentityVersion*> version =
      identities_.FindForSigning(identity, "", peer);
  return version.ok() ? (*version)->id() : "";
}

absl::StatusOr<IdentityVersion*> RequestHandler::Admit(const Call& call,
                                                       size_t size) {
  RETURN_IF_ERROR(gate_.Check(*call.peer));
  ASSIGN_OR_RETURN(
      IdentityVersion* const version,
      identities_.FindForSigning(call.request->identity(),
                                 call.request->identity_version(), *call.peer));
  const std::lock_guard lock(mutex_);
  if (draining_) {
    return Stopping();
  }
  RETURN_IF_ERROR(ReserveLocked(size));
  ++in_flight_count_;
  return version;
}

absl::Status RequestHandler::ReserveLocked(size_t size) {
  if (size > limits_.item) {
    return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_TRANSPORT,
                     v1::REASON_MESSAGE_TOO_LARGE,
                     "the request has " + std::to_string(size) +
                         " bytes; the limit is " +
                         std::to_string(limits_.item));
  }
  if (size > limits_.buffered - buffered_size_) {
    return MakeError(absl::StatusCode::kResourceExhausted, v1::STAGE_TRANSPORT,
                     v1::REASON_OVERLOADED,
                     "the server holds too many requests; try again later");
  }
  buffered_size_ += size;
  return absl::OkStatus();
}

void RequestHandler::Judge(const std::shared_ptr<Job>& job) {
  job->refusal = Check(*job);
  const v1::SignRequest& request = *job->call.request;
  // What was signed once is replayed, whatever would be said of it today.
  const bool may_be_known = ledger_ != nullptr && !request.validate_only() &&
                            job->checked.has_value();
  if (!job->refusal.ok() && !may_be_known) {
    Finish(*job, job->refusal);
  } else if (request.validate_only()) {
    TryPermit(job);
  } else if (ledger_ == nullptr && audit_ == nullptr) {
    MakeSignature(job);
  } else if (ledger_ == nullptr) {
    LogIntent(job);
  } else {
    job->key = {job->call.peer->Name(), request.request_id()};
    job->payload_digest = PayloadDigest(request, *job->checked);
    KeepIntent(job);
  }
}

void RequestHandler::TryPermit(const std::shared_ptr<Job>& job) {
  const auto answer = [this, job](const absl::Status& status) {
    if (status.ok()) {
      const v1::SignRequest& request = *job->call.request;
      Describe(request, *job->checked, *job->version, job->response);
      LogSigned(request, *job->call.peer, *job->version, *job->checked);
    }
    Finish(*job, status);
  };
  if (!job->permit.has_conditions()) {
    answer(absl::OkStatus());
  } else if (ledger_ == nullptr) {
    answer(job->permit.window());
  } else {
    ledger_->Try([permit = job->permit](
                     Database& database) { return permit.Charge(database); },
                 answer);
  }
}

void RequestHandler::KeepIntent(const std::shared_ptr<Job>& job) {
  Ledger::Admission admission;
  if (!job->refusal.ok()) {
    admission = [refusal = job->refusal](Database&) { return refusal; };
  } else if (job->permit.has_conditions()) {
    admission = [permit = job->permit](Database& database) {
      return permit.Charge(database);
    };
  }
  ledger_->Begin(
      job->key, job->payload_digest,
      [this, job](absl::StatusOr<std::optional<LedgerEntry>> entry) {
        Continue(job, std::move(entry));
      },
      std::move(admission));
}

absl::Status RequestHandler::Check(Job& job) const {
  const v1::SignRequest& request = *job.call.request;
  const IdentityVersion& version = *job.version;
  const absl::Time now = clock_.Now();
  ASSIGN_OR_RETURN(job.checked, CheckSignRequest(request));
  const CheckedRequest& checked = *job.checked;
  RETURN_IF_ERROR(CheckPolicy(
      checked,
      {version.name(), version.identity().rules, version.team(), now}));
  RETURN_IF_ERROR(CheckPurpose(checked, version));
  RETURN_IF_ERROR(CheckValidNow(version.chain().front(), now, version.name()));
  RETURN_IF_ERROR(
      WithSubject(own_signature_.CheckSigner(checked, version.chain(), now),
                  version.name()));
  if (checked.package.has_value()) {
    RETURN_IF_ERROR(CheckPackageSigner(*checked.package, version.chain()));
  }
  absl::StatusOr<TimestampPlan> timestamp =
      timestamps_.Plan(request, version.identity().timestamp);
  if (!timestamp.ok()) return WithSubject(timestamp.status(), version.name());
  job.timestamp = *timestamp;
  ASSIGN_OR_RETURN(job.permit, CheckPermit({version.identity(), *job.call.peer,
                                            request, checked, now}));
  if (ledger_ == nullptr && !request.validate_only()) {
    RETURN_IF_ERROR(job.permit.window());
    if (job.permit.counts()) {
      return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_POLICY,
                       v1::REASON_STATE_STORE,
                       "the server has no state to count signatures in");
    }
  }
  if (audit_ != nullptr) {
    job.facts = FactsOf(request, *job.call.peer, version, checked);
  }
  return absl::OkStatus();
}

void RequestHandler::Continue(
    const std::shared_ptr<Job>& job,
    absl::StatusOr<std::optional<LedgerEntry>> entry) {
  if (GetReason(entry.status()) == v1::REASON_IN_PROGRESS) {
    // The same request is on its way, here or on another replica: its outcome
    // is this one's, too.
    ledger_->Await(job->key, job->call.deadline - kTimeForSignedReply,
                   [this, job, status = entry.status()](bool settled) {
                     if (settled) {
                       KeepIntent(job);
                     } else {
                       Finish(*job, status);
                     }
                   });
    return;
  }
  if (!entry.ok()) {
    Finish(*job, entry.status());
    return;
  }
  if (entry->has_value()) {
    job->response = std::move((*entry)->response);
    if ((*entry)->state == LedgerState::kDone) {
      Finish(*job, absl::OkStatus());
      return;
    }
    if (!job->refusal.ok()) {
      // Signed, but not stamped yet: nothing is done for it any more.
      ledger_->Release(
          job->key, /*forget=*/false, /*undo=*/nullptr,
          [this, job](const absl::Status&) { Finish(*job, job->refusal); });
      return;
    }
    job->kept = true;
  }
  job->begun = true;
  LogIntent(job);
}

void RequestHandler::LogIntent(const std::shared_ptr<Job>& job) {
  const auto go_on = [this, job] {
    if (job->kept) {
      KeepSignature(job);
      return;
    }
    const absl::Status queued = Queue(job, &RequestHandler::MakeSignature);
    if (!queued.ok()) Fail(job, queued);
  };
  if (audit_ == nullptr) {
    go_on();
    return;
  }
  // The attempt that signed has logged it, perhaps in an earlier log.
  const v1::AuditReceipt& kept = job->response.audit();
  if (job->kept && kept.origin() == audit_->origin()) {
    job->facts.intent = kept.intent();
    go_on();
    return;
  }
  audit_->Append(job->facts, job->call.deadline,
                 [this, job, go_on](const absl::StatusOr<uint64_t>& index) {
                   if (!index.ok()) {
                     Fail(job, index.status());
                     return;
                   }
                   job->facts.intent = *index;
                   v1::AuditReceipt& begun = *job->response.mutable_audit();
                   begun.set_origin(audit_->origin());
                   begun.set_intent(*index);
                   go_on();
                 });
}

void RequestHandler::MakeSignature(const std::shared_ptr<Job>& job) {
  const absl::Status status = Sign(*job);
  if (!status.ok()) {
    Fail(job, status);
    return;
  }
  LogSigned(*job->call.request, *job->call.peer, *job->version, *job->checked);
  KeepSignature(job);
}

absl::Status RequestHandler::Sign(Job& job) const {
  const v1::SignRequest& request = *job.call.request;
  const CheckedRequest& checked = *job.checked;
  IdentityVersion& version = *job.version;
  v1::SignResponse& response = job.response;
  Describe(request, checked, version, response);
  const absl::Time signing_time = absl::FromUnixSeconds(
      absl::ToUnixSeconds(checked.signing_time.value_or(clock_.Now())));
  ASSIGN_OR_RETURN(
      const Bytes cms,
      SignAndVerify(version, checked.content, signing_time, job.call.deadline));
  response.set_cms(cms.data(), cms.size());
  if (checked.package.has_value()) {
    ASSIGN_OR_RETURN(const Bytes rsa, SignChecksum(version, *checked.package,
                                                   job.call.deadline));
    response.set_package_signature(rsa.data(), rsa.size());
  }
  response.mutable_signing_time()->set_seconds(
      absl::ToUnixSeconds(signing_time));
  return absl::OkStatus();
}

void RequestHandler::KeepSignature(const std::shared_ptr<Job>& job) {
  // Without anything that may fail before the reply, that is kept at once.
  const bool is_last = job->timestamp.tsa == nullptr && audit_ == nullptr;
  if (ledger_ == nullptr || job->kept || is_last) {
    GoOn(job);
    return;
  }
  ledger_->Keep(job->key, LedgerState::kSigned, job->response,
                [this, job](const absl::Status& status) {
                  if (status.ok()) {
                    job->kept = true;
                    GoOn(job);
                  } else {
                    NoteFailure(*job, status);
                    Finish(*job, status);
                  }
                });
}

void RequestHandler::GoOn(const std::shared_ptr<Job>& job) {
  if (job->timestamp.tsa == nullptr) {
    LogOutcome(job);
  } else {
    GetTimestamp(job);
  }
}

void RequestHandler::LogOutcome(const std::shared_ptr<Job>& job) {
  if (audit_ == nullptr) {
    KeepReply(job);
    return;
  }
  audit::Entry outcome = job->facts;
  outcome.kind = audit::EntryKind::kSigned;
  DescribeSignature(job->response, job->version->chain(), outcome);
  audit_->AppendOutcome(
      std::move(outcome), job->call.deadline,
      [this, job](const absl::StatusOr<audit::Receipt>& receipt) {
        if (!receipt.ok()) {
          Fail(job, receipt.status());
          return;
        }
        *job->response.mutable_audit() = ToWire(*receipt);
        job->response.mutable_audit()->set_intent(*job->facts.intent);
        KeepReply(job);
      });
}

void RequestHandler::KeepReply(const std::shared_ptr<Job>& job) {
  if (ledger_ == nullptr) {
    Finish(*job, absl::OkStatus());
    return;
  }
  ledger_->Keep(
      job->key, LedgerState::kDone, job->response,
      [this, job](const absl::Status& status) { Finish(*job, status); });
}

void RequestHandler::Fail(const std::shared_ptr<Job>& job,
                          const absl::Status& status) {
  NoteFailure(*job, status);
  if (!job->begun) {
    Finish(*job, status);
    return;
  }
  // A signature that is kept is stamped by the next attempt. Without one
  // nothing has left, and the next attempt may sign.
  Ledger::Admission undo;
  if (job->permit.counts()) {
    undo = [permit = job->permit](Database& database) {
      return permit.Refund(database);
    };
  }
  ledger_->Release(
      job->key, /*forget=*/!job->kept, std::move(undo),
      [this, job, status](const absl::Status&) { Finish(*job, status); });
}

void RequestHandler::NoteFailure(const Job& job, const absl::Status& status) {
  if (!job.facts.intent.has_value()) return;
  audit::Entry outcome = job.facts;
  outcome.kind = audit::EntryKind::kFailed;
  outcome.reason = v1::Reason_Name(GetReason(status));
  if (job.kept) outcome.detail = "the signature is kept for the next attempt";
  audit_->Note(std::move(outcome));
}

void RequestHandler::GetTimestamp(const std::shared_ptr<Job>& job) {
  const absl::StatusOr<CmsSignature> signature =
      ParseAppleCms(AsBytes(job->response.cms()), job->version->chain());
  if (!signature.ok()) {
    Fail(job, signature.status());
    return;
  }
  job->timestamp.tsa->Get(
      signature->signature_value, job->call.deadline - kTimeForSignedReply,
      [this, job](const absl::StatusOr<Stamp>& stamp) {
        absl::Status status = stamp.status();
        if (status.ok()) {
          status = AddTimestamp(*stamp, *job->timestamp.tsa, job->response);
        } else if (!job->timestamp.required) {
          LogStatus(LogLevel::kWarning, "not_stamped", status,
                    {{"request_id", job->call.request->request_id()}});
          status = absl::OkStatus();
        }
        if (status.ok()) {
          LogOutcome(job);
        } else {
          Fail(job, status);
        }
      });
}

void RequestHandler::Find(
    const Peer& peer, const std::string& request_id,
    std::function<void(absl::StatusOr<v1::SignResponse>)> done) {
  const absl::Status admitted = gate_.Check(peer);
  if (!admitted.ok()) {
    done(admitted);
    return;
  }
  if (ledger_ == nullptr) {
    done(MakeError(absl::StatusCode::kNotFound, v1::STAGE_TRANSPORT,
                   v1::REASON_REQUEST_NOT_FOUND,
                   "this server keeps no signatures"));
    return;
  }
  ledger_->Find({peer.Name(), request_id},
                [done = std::move(done)](absl::StatusOr<LedgerEntry> entry) {
                  if (!entry.ok()) {
                    done(entry.status());
                  } else if (entry->state == LedgerState::kSigned) {
                    done(MakeError(absl::StatusCode::kUnavailable,
                                   v1::STAGE_CMS, v1::REASON_TSA_DOWN,
                                   "the signature waits for its timestamp, or "
                                   "for the audit log: send the request "
                                   "again"));
                  } else {
                    done(std::move(entry->response));
                  }
                });
}

absl::Status RequestHandler::Reserve(size_t size) {
  const std::lock_guard lock(mutex_);
  return ReserveLocked(size);
}

void RequestHandler::Release(size_t size) {
  const std::lock_guard lock(mutex_);
  buffered_size_ -= size;
}

void RequestHandler::Finish(Job& job, const absl::Status& status) {
  job.call.done(status.ok()
                    ? absl::StatusOr<v1::SignResponse>(std::move(job.response))
                    : status);
  const std::lock_guard lock(mutex_);
  buffered_size_ -= job.size;
  if (--in_flight_count_ == 0) idle_.notify_all();
}

size_t RequestHandler::in_flight_count() const {
  const std::lock_guard lock(mutex_);
  return in_flight_count_;
}

size_t RequestHandler::buffered_size() const {
  const std::lock_guard lock(mutex_);
  return buffered_size_;
}

void RequestHandler::Drain() {
  const std::lock_guard lock(mutex_);
  draining_ = true;
}

bool RequestHandler::WaitUntilIdle(absl::Time deadline) {
  std::unique_lock lock(mutex_);
  return idle_.wait_until(lock, absl::ToChronoTime(deadline),
                          [this] { return in_flight_count_ == 0; });
}

}  // namespace codeseal
