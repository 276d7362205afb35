#include "hsm/token.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "codesign/base/error.h"
#include "hsm/key_policy.h"
#include "hsm/pin.h"
#include "hsm/public_key.h"
#include "hsm/worker_message.h"
#include "hsm/worker_process.h"

namespace codeseal {
namespace {

// While a token is down, one call in turn tries it; the pause between tries
// doubles. Short of 2 s, so that signing resumes within that time.
constexpr absl::Duration kFirstPause = absl::Milliseconds(20);
constexpr absl::Duration kLongestPause = absl::Seconds(1);
// A try must not be held up by a token that still hangs; but every fourth gets
// the whole operation_timeout, for tokens that are slower than this.
constexpr absl::Duration kProbePatience = absl::Milliseconds(800);
constexpr int kPatientProbe = 4;
// Most outages end with the next worker: so long, calls wait for the outcome of
// a try instead of failing at once.
constexpr absl::Duration kShortOutage = absl::Milliseconds(500);
// How long calls that run hold up a token that has to be opened anew; after
// that the worker is replaced. Slow tokens get more.
constexpr absl::Duration kDrainTimeout = absl::Milliseconds(300);
constexpr int kDrainShare = 10;  // of operation_timeout
// For calls that no session waits behind: generating a key, listing.
constexpr absl::Duration kSlowCallPatience = absl::Minutes(5);

absl::Status Misconfigured(const std::string& message) {
  return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_USAGE,
                   v1::REASON_BAD_CONFIG, message);
}

absl::Status TimedOut(absl::Duration patience) {
  return MakeError(absl::StatusCode::kDeadlineExceeded, v1::STAGE_TOKEN,
                   v1::REASON_TOKEN_TIMEOUT,
                   absl::StrCat("the token did not answer within ",
                                absl::FormatDuration(patience)));
}

absl::Status WorkerDied() {
  return MakeError(absl::StatusCode::kUnavailable, v1::STAGE_TOKEN,
                   v1::REASON_TOKEN_DOWN,
                   "the worker process of the token died");
}

absl::Status DeadlinePassed() {
  return MakeError(absl::StatusCode::kDeadlineExceeded, v1::STAGE_TOKEN,
                   v1::REASON_TOKEN_TIMEOUT,
                   "the deadline passed before the token answered");
}

// Trouble that concerns the token, not just the one call.
bool MeansDown(const absl::Status& status) {
  const Reason reason = GetReason(status);
  return status.code() == absl::StatusCode::kUnavailable ||
         reason == v1::REASON_PIN_REJECTED || reason == v1::REASON_PIN_HOLD ||
         reason == v1::REASON_PIN_SOURCE || reason == v1::REASON_MODULE_LOAD;
}

hsm::WorkerConfig MakeWorkerConfig(const TokenConfig& config) {
  hsm::WorkerConfig wire;
  wire.set_module(config.module);
  wire.set_init_args(config.init_args);
  wire.set_label(config.label);
  for (const std::string& serial : config.serials) wire.add_serials(serial);
  wire.set_pin_source(config.pin_source);
  wire.set_state_folder(config.state_folder);
  wire.set_one_thread(config.serialize);
  wire.set_no_os_locking(config.no_os_locking);
  wire.set_pin_per_signature(config.pin_per_signature);
  wire.set_drain_timeout_us(absl::ToInt64Microseconds(
      std::max(kDrainTimeout, config.operation_timeout / kDrainShare)));
  const uint32_t count = config.serialize ? 1 : config.session_count;
  wire.set_session_count(count);
  // Some requests wait in the worker, so that a session that comes free is used
  // again at once.
  wire.set_channel_count(std::min(count + count / 4 + 1, kMaxSessionCount));
  return wire;
}

// One token's current worker, and the judgement when to start the next one.
// Thread-safe. Keys share it with their Token.
class TokenConnection {
 public:
  explicit TokenConnection(TokenConfig config) : config_(std::move(config)) {}

  struct Answer {
    hsm::Reply reply;
    uint64_t worker_number = 0;  // rises with every worker
  };

  // Looks at what the worker says it has done; an error: it lied. Sets `proven`
  // when it looked closely.
  using Check = std::function<absl::Status(const Answer& answer, bool& proven)>;

  // Runs one call on the current worker. A call that a worker's death
  // interrupted, or whose worker asks to be replaced, is tried once more on the
  // next: no call leaves anything behind on the token but GenerateKey, which
  // refuses to make the same key twice. An answer that `check` refuses costs
  // the worker its life.
  absl::StatusOr<Answer> Call(const hsm::Request& request, absl::Time deadline,
                              absl::Duration patience,
                              const Check& check = nullptr);

  // The same on a worker of its own, which ends with the call.
  absl::StatusOr<Answer> CallAlone(const hsm::Request& request,
                                   absl::Time deadline);

  // Replaces the current worker: it lied, with `status`. Calls fail fast if its
  // successors do, too.
  void Distrust(const absl::Status& status);

  // As Token::ClearPinHold().
  absl::Status ClearPinHold(absl::Time deadline);

  const TokenConfig& config() const { return config_; }

 private:
  struct Worker {
    std::shared_ptr<WorkerProcess> process;
    uint64_t number = 0;
    bool is_probe = false;  // the token was down when it started
    absl::Duration patience = absl::InfiniteDuration();  // at most
  };

  // The current worker, or a new one. While the token is down: waits for what
  // becomes of it at first, fails fast when that takes long.
  absl::StatusOr<Worker> TakeWorker(absl::Time deadline);
  absl::Status CheckPinHold() const;                          // under mutex_
  void NoteLogins(const WorkerProcess::LoginRecord& record);  // under mutex_
  // About a worker that is not the current one any more, only its death counts.
  void NoteSuccess(const Worker& worker, bool proven);
  void NoteFailure(const Worker& worker, const absl::Status& status,
                   bool replace);
  // One failure for each worker, however many calls it took with it.
  void CountDeath(uint64_t number, const absl::Status& status);  // under mutex_
  void CountFailure(const absl::Status& status);                 // under mutex_
  void NoteLie() {
    const std::lock_guard<std::mutex> lock(mutex_);
    lied_ = true;
  }
  // The call ended without a verdict on the token.
  void NoteUndecided(const Worker& worker);
  absl::Status Named(absl::Status status) const {
    return WithSubject(std::move(status), "token " + config_.name);
  }

  const TokenConfig config_;

  std::mutex mutex_;
  std::condition_variable judged_;  // a call ended: the token's state is news
  std::shared_ptr<WorkerProcess> process_;
  uint64_t worker_number_ = 0;
  bool probing_ = false;
  int failure_count_ = 0;            // since the last success
  uint64_t dead_worker_number_ = 0;  // the last whose death was counted
  absl::Time down_since_ = absl::InfinitePast();  // the first of them
  absl::Time retry_at_ = absl::InfinitePast();
  absl::Status last_failure_;
  // The last signature that was looked at was wrong: only one that is right
  // counts as a success.
  bool lied_ = false;
  // Of all workers so far.
  bool pin_accepted_ = false;
  bool pin_rejected_ = false;
  bool login_in_doubt_ = false;
};

absl::Status TokenConnection::CheckPinHold() const {
  if (!pin_rejected_) return absl::OkStatus();
  return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_TOKEN,
                   v1::REASON_PIN_HOLD,
                   "the token refused the PIN; it is not sent again until the "
                   "hold is cleared or this program is started anew");
}

void TokenConnection::NoteLogins(const WorkerProcess::LoginRecord& record) {
  pin_accepted_ = pin_accepted_ || record.accepted;
  // With a folder, the worker remembers, and sees when a hold is cleared.
  pin_rejected_ =
      pin_rejected_ || (record.rejected && config_.state_folder.empty());
  login_in_doubt_ = !pin_accepted_ && (login_in_doubt_ || record.in_doubt);
}

absl::StatusOr<TokenConnection::Worker> TokenConnection::TakeWorker(
    absl::Time deadline) {
  std::shared_ptr<WorkerProcess> ended;
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    if (process_ != nullptr && process_->dead()) {
      // Its last words decide whether the PIN may be sent again.
      ended = process_;
      lock.unlock();
      ended->Join();
      lock.lock();
      NoteLogins(ended->login_record());
      if (process_ == ended) {
        process_ = nullptr;
        CountDeath(worker_number_, WorkerDied());
      }
    }
    if (process_ != nullptr) NoteLogins(process_->login_record());
    RETURN_IF_ERROR(CheckPinHold());
    const absl::Time now = absl::Now();
    if (failure_count_ == 0 || (now >= retry_at_ && !probing_)) break;
    if (last_failure_.code() == absl::StatusCode::kFailedPrecondition) {
      return last_failure_;
    }
    const absl::Time wait_end = std::min(deadline, down_since_ + kShortOutage);
    if (now >= wait_end) {
      return MakeError(absl::StatusCode::kUnavailable, v1::STAGE_TOKEN,
                       v1::REASON_TOKEN_DOWN,
                       absl::StrCat("the token is down: ",
                                    std::string(Message(last_failure_))));
    }
    const absl::Time wake_at =
        probing_ ? wait_end : std::min(wait_end, retry_at_);
    judged_.wait_for(lock, absl::ToChronoNanoseconds(wake_at - now));
  }
  Worker worker;
  // The first try after a failure is open to all who wait for it; only when
  // that failed too, one at a time.
  worker.is_probe = failure_count_ > 1;
  if (worker.is_probe && failure_count_ % kPatientProbe != 0) {
    worker.patience = kProbePatience;
  }
  if (process_ == nullptr) {
    hsm::WorkerConfig wire = MakeWorkerConfig(config_);
    wire.set_login_in_doubt(login_in_doubt_);
    absl::StatusOr<std::shared_ptr<WorkerProcess>> started =
        WorkerProcess::Start(config_.worker_path, wire);
    if (!started.ok()) return started.status();
    process_ = *std::move(started);
    ++worker_number_;
  }
  probing_ = worker.is_probe;
  worker.process = process_;
  worker.number = worker_number_;
  return worker;
}

void TokenConnection::NoteSuccess(const Worker& worker, bool proven) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (worker.is_probe) probing_ = false;
  judged_.notify_all();
  if (worker.number != worker_number_ || (lied_ && !proven)) return;
  lied_ = false;
  failure_count_ = 0;
}

void TokenConnection::NoteUndecided(const Worker& worker) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (worker.is_probe) probing_ = false;
  judged_.notify_all();
}

void TokenConnection::NoteFailure(const Worker& worker,
                                  const absl::Status& status, bool replace) {
  if (replace) worker.process->Kill();
  const std::lock_guard<std::mutex> lock(mutex_);
  if (worker.is_probe) probing_ = false;
  if (replace) {
    CountDeath(worker.number, status);
  } else if (worker.number == worker_number_) {
    CountFailure(status);
  }
  judged_.notify_all();
}

void TokenConnection::CountDeath(uint64_t number, const absl::Status& status) {
  if (number <= dead_worker_number_) return;
  dead_worker_number_ = number;
  CountFailure(status);
}

void TokenConnection::CountFailure(const absl::Status& status) {
  if (++failure_count_ == 1) down_since_ = absl::Now();
  last_failure_ = status;
  absl::Duration pause = absl::ZeroDuration();
  if (failure_count_ > 1) {
    pause = std::min(kLongestPause,
                     kFirstPause * (1 << std::min(failure_count_ - 2, 10)));
  }
  retry_at_ = absl::Now() + pause;
}

absl::StatusOr<TokenConnection::Answer> TokenConnection::Call(
    const hsm::Request& request, absl::Time deadline, absl::Duration patience,
    const Check& check) {
  absl::Status interrupted;
  for (int attempt = 0; attempt < 2; ++attempt) {
    absl::StatusOr<Worker> worker = TakeWorker(deadline);
    if (!worker.ok()) {
      return Named(interrupted.ok() ? worker.status() : interrupted);
    }
    patience = std::min(patience, worker->patience);
    WorkerProcess::Result result =
        worker->process->Call(request, deadline, patience);
    switch (result.outcome) {
      case WorkerProcess::Outcome::kReply: {
        absl::Status status = GetStatus(result.reply);
        Answer answer{std::move(result.reply), worker->number};
        bool proven = false;
        if (status.ok() && check) {
          status = check(answer, proven);
          if (!status.ok()) {
            NoteLie();
            NoteFailure(*worker, status, true);
            return Named(std::move(status));
          }
        }
        const bool replace = answer.reply.replace_worker();
        if (!status.ok() && (replace || MeansDown(status))) {
          NoteFailure(*worker, status, replace);
        } else {
          NoteSuccess(*worker, proven);
        }
        if (status.ok()) return answer;
        if (!replace) return Named(std::move(status));
        interrupted = std::move(status);
        break;
      }
      case WorkerProcess::Outcome::kDied:
        interrupted = WorkerDied();
        NoteFailure(*worker, interrupted, true);
        break;
      case WorkerProcess::Outcome::kTimedOut: {
        absl::Status status = TimedOut(patience);
        NoteFailure(*worker, status, true);
        return Named(std::move(status));
      }
      case WorkerProcess::Outcome::kGaveUp:
        NoteUndecided(*worker);
        return Named(DeadlinePassed());
    }
  }
  return Named(interrupted);
}

absl::StatusOr<TokenConnection::Answer> TokenConnection::CallAlone(
    const hsm::Request& request, absl::Time deadline) {
  hsm::WorkerConfig wire = MakeWorkerConfig(config_);
  wire.set_channel_count(1);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (process_ != nullptr) NoteLogins(process_->login_record());
    if (!request.has_clear_pin_hold()) {
      if (absl::Status hold = CheckPinHold(); !hold.ok()) return Named(hold);
    }
    wire.set_login_in_doubt(login_in_doubt_);
  }
  absl::StatusOr<std::shared_ptr<WorkerProcess>> process =
      WorkerProcess::Start(config_.worker_path, wire);
  if (!process.ok()) return Named(process.status());
  WorkerProcess::Result result =
      (*process)->Call(request, deadline, kSlowCallPatience);
  if (result.outcome != WorkerProcess::Outcome::kReply) (*process)->Kill();
  (*process)->HangUp();
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    NoteLogins((*process)->login_record());
  }
  switch (result.outcome) {
    case WorkerProcess::Outcome::kReply: {
      absl::Status status = GetStatus(result.reply);
      if (!status.ok()) return Named(std::move(status));
      return Answer{std::move(result.reply), 0};
    }
    case WorkerProcess::Outcome::kDied:
      return Named(WorkerDied());
    case WorkerProcess::Outcome::kTimedOut:
    case WorkerProcess::Outcome::kGaveUp:
      break;
  }
  return Named(DeadlinePassed());
}

void TokenConnection::Distrust(const absl::Status& status) {
  Worker worker;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    lied_ = true;
    if (process_ == nullptr) return;
    worker.process = process_;
    worker.number = worker_number_;
  }
  NoteFailure(worker, status, true);
}

absl::Status TokenConnection::ClearPinHold(absl::Time deadline) {
  if (!config_.state_folder.empty()) {
    hsm::Request request;
    request.mutable_clear_pin_hold();
    RETURN_IF_ERROR(CallAlone(request, deadline).status());
  }
  std::shared_ptr<WorkerProcess> holding;  // ends without the lock
  const std::lock_guard<std::mutex> lock(mutex_);
  if (pin_rejected_ || login_in_doubt_) {
    // It holds by itself, too; what it says of its logins no longer counts.
    if (process_ != nullptr) process_->Kill();
    holding = std::move(process_);
    process_ = nullptr;
  }
  pin_rejected_ = false;
  login_in_doubt_ = false;
  failure_count_ = 0;
  retry_at_ = absl::InfinitePast();
  judged_.notify_all();
  return absl::OkStatus();
}

// A key on the token. Stays valid across workers.
class TokenKey : public KeyBackend {
 public:
  TokenKey(std::shared_ptr<TokenConnection> connection, KeyReference reference,
           Bytes public_key, UniqueEvpPkey verifier)
      : connection_(std::move(connection)),
        reference_(ToWire(reference, public_key)),
        public_key_(std::move(public_key)),
        verifier_(std::move(verifier)) {}

  ByteView public_key() const override { return public_key_; }

  absl::StatusOr<Bytes> Sign(SignMechanism mechanism, SignDigest digest_kind,
                             ByteView digest, absl::Time deadline) override;

  void Distrust(const absl::Status& why) override {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      verified_ = {};
    }
    connection_->Distrust(why);
  }

 private:
  const std::shared_ptr<TokenConnection> connection_;
  const hsm::KeyReference reference_;
  const Bytes public_key_;
  const UniqueEvpPkey verifier_;
  // Worker number and key search of the last signature that was checked.
  std::mutex mutex_;
  std::pair<uint64_t, uint64_t> verified_;
};

absl::StatusOr<Bytes> TokenKey::Sign(SignMechanism mechanism,
                                     SignDigest digest_kind, ByteView digest,
                                     absl::Time deadline) {
  const bool rsa = EVP_PKEY_is_a(verifier_.get(), "RSA") == 1;
  if (rsa == (mechanism == SignMechanism::kEcdsa) ||
      digest.size() != DigestSize(digest_kind)) {
    return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_TOKEN,
                     v1::REASON_BAD_REQUEST,
                     "the mechanism or the digest does not fit the key");
  }
  hsm::Request request;
  hsm::SignCall& call = *request.mutable_sign();
  *call.mutable_key() = reference_;
  call.set_mechanism(static_cast<uint32_t>(mechanism));
  call.set_digest_kind(static_cast<uint32_t>(digest_kind));
  call.set_digest(ToString(digest));
  const auto check = [&](const TokenConnection::Answer& answer,
                         bool& proven) -> absl::Status {
    // Each search may have found another key.
    const std::pair search(answer.worker_number, answer.reply.key_search());
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (verified_ == search) return absl::OkStatus();
    }
    RETURN_IF_ERROR(VerifyDigest(verifier_.get(), mechanism, digest_kind,
                                 digest, AsBytes(answer.reply.signature())));
    proven = true;
    const std::lock_guard<std::mutex> lock(mutex_);
    verified_ = search;
    return absl::OkStatus();
  };
  ASSIGN_OR_RETURN(
      const TokenConnection::Answer answer,
      connection_->Call(request, deadline,
                        connection_->config().operation_timeout, check));
  return ToBytes(answer.reply.signature());
}

class TokenImpl : public Token {
 public:
  explicit TokenImpl(TokenConfig config)
      : connection_(std::make_shared<TokenConnection>(std::move(config))) {}

  absl::StatusOr<std::shared_ptr<KeyBackend>> LoadKey(
      const KeyReference& key, KeyPolicy policy, ByteView certificate_der,
      absl::Time deadline) override;
  absl::StatusOr<TokenListing> List(absl::Time deadline) override;
  absl::Status Probe(const KeyReference& key, absl::Time deadline) override;
  absl::StatusOr<Bytes> GenerateKey(const KeyReference& key,
                                    KeyAlgorithm algorithm,
                                    absl::Time deadline) override;
  absl::Status ImportCertificate(const KeyReference& key,
                                 ByteView certificate_der,
                                 absl::Time deadline) override;
  absl::Status ClearPinHold(absl::Time deadline) override {
    return connection_->ClearPinHold(deadline);
  }
  const TokenConfig& config() const override { return connection_->config(); }

 private:
  absl::StatusOr<hsm::Key> FindKey(const KeyReference& key, ByteView public_key,
                                   absl::Time deadline);
  absl::StatusOr<std::shared_ptr<TokenKey>> MakeKey(const KeyReference& key,
                                                    Bytes public_key);
  // Says which key an error is about.
  absl::Status About(const KeyReference& key, absl::Status status) const;

  const std::shared_ptr<TokenConnection> connection_;
};

absl::Status CheckReference(const KeyReference& key) {
  if (!key.id.empty() || !key.label.empty()) return absl::OkStatus();
  return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_USAGE,
                   v1::REASON_BAD_OPTION, "a key needs an id or a label");
}

absl::Status TokenImpl::About(const KeyReference& key,
                              absl::Status status) const {
  return WithSubject(
      std::move(status),
      absl::StrCat("key ", key.label.empty() ? HexEncode(key.id) : key.label,
                   " on token ", config().name));
}

absl::StatusOr<hsm::Key> TokenImpl::FindKey(const KeyReference& key,
                                            ByteView public_key,
                                            absl::Time deadline) {
  RETURN_IF_ERROR(CheckReference(key));
  hsm::Request request;
  *request.mutable_find_key()->mutable_key() = ToWire(key, public_key);
  absl::StatusOr<TokenConnection::Answer> answer =
      connection_->Call(request, deadline, config().operation_timeout);
  if (!answer.ok()) return About(key, answer.status());
  return std::move(*answer->reply.mutable_key());
}

absl::StatusOr<std::shared_ptr<TokenKey>> TokenImpl::MakeKey(
    const KeyReference& key, Bytes public_key) {
  if (public_key.empty()) {
    return MakeError(
        absl::StatusCode::kFailedPrecondition, v1::STAGE_TOKEN,
        v1::REASON_KEY_UNSUPPORTED,
        "the token does not show the key's public half: no public key and no "
        "certificate with the same CKA_ID");
  }
  ASSIGN_OR_RETURN(UniqueEvpPkey verifier, ParsePublicKey(public_key));
  return std::make_shared<TokenKey>(connection_, key, std::move(public_key),
                                    std::move(verifier));
}

absl::StatusOr<std::shared_ptr<KeyBackend>> TokenImpl::LoadKey(
    const KeyReference& key, KeyPolicy policy, ByteView certificate_der,
    absl::Time deadline) {
  Bytes certified;
  if (!certificate_der.empty()) {
    ASSIGN_OR_RETURN(certified, CertificatePublicKey(certificate_der));
  }
  ASSIGN_OR_RETURN(const hsm::Key found, FindKey(key, {}, deadline));
  if (absl::Status status =
          CheckKeyPolicy(FromWire(found.attributes()), policy);
      !status.ok()) {
    return About(key, std::move(status));
  }
  Bytes public_key = ToBytes(found.public_key());
  if (public_key.empty()) public_key = certified;
  if (!certified.empty()) {
    if (absl::Status status = CheckKeyMatch(public_key, certified);
        !status.ok()) {
      return About(key, std::move(status));
    }
  }
  // From now on this very key, even if the reference fits others later.
  const KeyReference exact = {ToBytes(found.id()), found.label()};
  absl::StatusOr<std::shared_ptr<TokenKey>> loaded =
      MakeKey(exact.id.empty() && exact.label.empty() ? key : exact,
              std::move(public_key));
  if (!loaded.ok()) return About(key, loaded.status());
  // The public half comes from another object than the private one.
  if (absl::Status status = ProveKey(**loaded, deadline); !status.ok()) {
    return About(key, std::move(status));
  }
  return *std::move(loaded);
}

absl::StatusOr<TokenListing> TokenImpl::List(absl::Time deadline) {
  hsm::Request request;
  request.mutable_list();
  ASSIGN_OR_RETURN(const TokenConnection::Answer answer,
                   connection_->CallAlone(request, deadline));
  const hsm::Listing& wire = answer.reply.listing();
  TokenListing listing;
  listing.label = wire.label();
  listing.serial = wire.serial();
  listing.manufacturer = wire.manufacturer();
  listing.model = wire.model();
  for (const hsm::Key& key : wire.keys()) {
    KeyListing& listed = listing.keys.emplace_back();
    listed.id = ToBytes(key.id());
    listed.label = key.label();
    listed.attributes = FromWire(key.attributes());
    listed.public_key = ToBytes(key.public_key());
    listed.algorithm = PublicKeyAlgorithm(AsBytes(key.public_key()));
  }
  for (const hsm::Certificate& certificate : wire.certificates()) {
    listing.certificates.push_back({ToBytes(certificate.id()),
                                    certificate.label(),
                                    ToBytes(certificate.der())});
  }
  return listing;
}

absl::Status TokenImpl::Probe(const KeyReference& key, absl::Time deadline) {
  ASSIGN_OR_RETURN(const hsm::Key found, FindKey(key, {}, deadline));
  absl::StatusOr<std::shared_ptr<TokenKey>> loaded =
      MakeKey(key, ToBytes(found.public_key()));
  if (!loaded.ok()) return About(key, loaded.status());
  return About(key, ProveKey(**loaded, deadline));
}

absl::StatusOr<Bytes> TokenImpl::GenerateKey(const KeyReference& key,
                                             KeyAlgorithm algorithm,
                                             absl::Time deadline) {
  RETURN_IF_ERROR(CheckReference(key));
  hsm::Request request;
  *request.mutable_generate_key()->mutable_key() = ToWire(key, {});
  request.mutable_generate_key()->set_algorithm(
      static_cast<uint32_t>(algorithm));
  absl::StatusOr<TokenConnection::Answer> answer =
      connection_->Call(request, deadline, kSlowCallPatience);
  if (!answer.ok()) return About(key, answer.status());
  return ToBytes(answer->reply.key().public_key());
}

absl::Status TokenImpl::ImportCertificate(const KeyReference& key,
                                          ByteView certificate_der,
                                          absl::Time deadline) {
  RETURN_IF_ERROR(CheckReference(key));
  RETURN_IF_ERROR(CertificatePublicKey(certificate_der).status());
  hsm::Request request;
  *request.mutable_import_certificate()->mutable_key() = ToWire(key, {});
  request.mutable_import_certificate()->set_certificate(
      ToString(certificate_der));
  if (request.ByteSizeLong() > kMaxRequestSize / 2) {
    return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_TOKEN,
                     v1::REASON_BAD_CERTIFICATE,
                     "the certificate is too large for a token");
  }
  return About(key,
               connection_->Call(request, deadline, config().operation_timeout)
                   .status());
}

}  // namespace

absl::StatusOr<std::shared_ptr<Token>> Token::Create(TokenConfig config) {
  if (config.module.empty()) return Misconfigured("a token needs a module");
  if (config.label.empty() && config.serials.empty()) {
    return Misconfigured("a token needs a label or a serial");
  }
  if (config.session_count == 0 || config.session_count > kMaxSessionCount) {
    return Misconfigured(absl::StrCat("a token has 1 to ", kMaxSessionCount,
                                      " sessions, not ", config.session_count));
  }
  if (config.operation_timeout < absl::Milliseconds(10)) {
    return Misconfigured("a token needs an operation timeout");
  }
  if (!config.pin_source.empty()) {
    RETURN_IF_ERROR(Pin::CheckSource(config.pin_source));
  }
  if (config.name.empty()) config.name = config.label;
  return std::make_shared<TokenImpl>(std::move(config));
}

}  // namespace codeseal
