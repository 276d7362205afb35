// The worker process: one thread for each channel reads requests and answers
// them. Trouble with the token is met by a ladder. While the login is alive a
// request that fails is tried in another session, a few times; then it climbs
// one rung with each failure: all sessions and the login anew; the module
// finalised and initialised; at last the reply asks for a new process.

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <csignal>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "codesign/base/error.h"
#include "hsm/ck_rv.h"
#include "hsm/pin.h"
#include "hsm/pkcs11.h"
#include "hsm/public_key.h"
#include "hsm/token.h"
#include "hsm/token_objects.h"
#include "hsm/token_sessions.h"
#include "hsm/worker_message.h"

namespace codeseal {
namespace {

// Time to end once the parent has hung up; then SIGALRM ends the process.
constexpr unsigned kShutdownSeconds = 2;
// A key that vanished is looked for with a fresh module at most this often.
constexpr absl::Duration kMissingKeyInterval = absl::Seconds(1);
// How often one request is tried in a new session while the login is alive:
// what is torn down beyond that session, everybody pays for.
constexpr int kMostNewSessions = 3;

// Runs calls on a thread of its own, one after another: some modules must not
// be called by two threads, not even in turn.
class OneThread {
 public:
  OneThread() : thread_([this] { Work(); }) { thread_.detach(); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

  // Returns when `call` has run.
  void Run(const std::function<void()>& call) {
    std::unique_lock<std::mutex> lock(mutex_);
    const uint64_t number = ++last_number_;
    waiting_.emplace_back(number, &call);
    changed_.notify_all();
    changed_.wait(lock, [&] { return done_number_ >= number; });
  }

 private:
  void Work() {
    std::unique_lock<std::mutex> lock(mutex_);
    while (true) {
      changed_.wait(lock, [&] { return !waiting_.empty(); });
      const auto [number, call] = waiting_.front();
      waiting_.pop_front();
      lock.unlock();
      (*call)();
      lock.lock();
      done_number_ = number;
      changed_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::pair<uint64_t, const std::function<void()>*>> waiting_;
  uint64_t last_number_ = 0;
  uint64_t done_number_ = 0;
  std::thread thread_;
};

class Worker {
 public:
  Worker(int control_fd, hsm::WorkerConfig config)
      : config_(std::move(config)),
        sessions_(config_, [control_fd](LoginEvent event) {
          const auto byte = static_cast<uint8_t>(event);
          SendFrame(control_fd, {&byte, 1}, 0);
        }) {}

  // Answers one request after another until the channel closes.
  void Serve(int fd);
  void Shutdown() {
    module_thread_.Run([this] { sessions_.Shutdown(); });
  }

 private:
  // A key's handle in one login generation.
  struct CachedKey {
    uint64_t generation = 0;
    uint64_t search = 0;  // which search found it
    CK_OBJECT_HANDLE handle = CK_INVALID_HANDLE;
    bool always_authenticate = false;
    size_t max_digest_size = 0;  // bytes that the curve takes; 0: all
  };
  using Lease = TokenSessions::Lease;

  hsm::Reply Handle(const hsm::Request& request);
  absl::Status Call(const hsm::Request& request, absl::Time deadline,
                    hsm::Reply& reply);
  absl::Status Sign(const hsm::SignCall& call, absl::Time deadline,
                    hsm::Reply& reply);
  absl::Status FindKey(const hsm::FindKeyCall& call, absl::Time deadline,
                       hsm::Reply& reply);
  absl::Status GenerateKey(const hsm::GenerateKeyCall& call,
                           absl::Time deadline, hsm::Reply& reply);
  absl::Status ImportCertificate(const hsm::ImportCertificateCall& call,
                                 absl::Time deadline, hsm::Reply& reply);
  absl::Status List(absl::Time deadline, hsm::Reply& reply);

  // Runs `operation` with a session and climbs the ladder when it fails.
  template <typename Operation>
  absl::Status Run(absl::Time deadline, hsm::Reply& reply,
                   const Operation& operation);
  TokenAction Judge(const absl::Status& status, const Lease& lease);
  absl::StatusOr<CachedKey> Resolve(const hsm::KeyReference& key,
                                    const Lease& lease, absl::Time deadline);
  std::optional<CachedKey> FindCached(const std::string& name,
                                      uint64_t generation);
  // After a signature with the key failed with `status`: looked for again when
  // the token does not know its handle any more; otherwise the next signature
  // is to be verified like the first one.
  void Doubt(const hsm::KeyReference& key, const absl::Status& status);

  const hsm::WorkerConfig config_;
  TokenSessions sessions_;
  // For every call until the module is known to lock for itself.
  OneThread module_thread_;

  // One search at a time: when all handles are dead, all threads want to look.
  std::timed_mutex search_mutex_;
  std::mutex mutex_;
  uint64_t search_count_ = 0;
  std::unordered_map<std::string, CachedKey> keys_;  // by serialised reference
  absl::Time missing_key_at_ = absl::InfinitePast();
};

hsm::Key ToWire(const KeyListing& key) {
  hsm::Key wire;
  wire.set_id(ToString(key.id));
  wire.set_label(key.label);
  *wire.mutable_attributes() = codeseal::ToWire(key.attributes);
  wire.set_public_key(ToString(key.public_key));
  return wire;
}

void Worker::Serve(int fd) {
  FrameReader reader(fd, kMaxRequestSize);
  while (true) {
    switch (reader.Read(0)) {
      case FrameReader::Result::kPartial:
        continue;
      case FrameReader::Result::kClosed:
        return;
      case FrameReader::Result::kFrame:
        break;
    }
    const absl::StatusOr<hsm::Request> request = ParseRequest(reader.frame());
    if (!request.ok()) return;
    if (!SendFrame(fd, EncodeFrame(Handle(*request)), 0)) return;
  }
}

hsm::Reply Worker::Handle(const hsm::Request& request) {
  const absl::Time deadline =
      absl::Now() + absl::Microseconds(request.timeout_us());
  hsm::Reply reply;
  reply.set_number(request.number());
  absl::Status status;
  if (sessions_.is_concurrent()) {
    status = Call(request, deadline, reply);
  } else {
    module_thread_.Run([&] { status = Call(request, deadline, reply); });
  }
  if (!status.ok()) SetStatus(reply, status);
  return reply;
}

absl::Status Worker::Call(const hsm::Request& request, absl::Time deadline,
                          hsm::Reply& reply) {
  switch (request.call_case()) {
    case hsm::Request::kSign:
      return Sign(request.sign(), deadline, reply);
    case hsm::Request::kFindKey:
      return FindKey(request.find_key(), deadline, reply);
    case hsm::Request::kGenerateKey:
      return GenerateKey(request.generate_key(), deadline, reply);
    case hsm::Request::kImportCertificate:
      return ImportCertificate(request.import_certificate(), deadline, reply);
    case hsm::Request::kList:
      return List(deadline, reply);
    case hsm::Request::kClearPinHold:
      return sessions_.ClearPinHold();
    case hsm::Request::CALL_NOT_SET:
      break;  // ParseRequest() refuses it
  }
  return absl::OkStatus();
}

TokenAction Worker::Judge(const absl::Status& status, const Lease& lease) {
  const std::optional<ErrorDetail> detail = GetErrorDetail(status);
  if (!detail.has_value() || !detail->has_ck_rv()) return TokenAction::kFail;
  const TokenAction action = FindCkRv(detail->ck_rv()).action;
  switch (action) {
    case TokenAction::kFail:
    case TokenAction::kReopen:
    case TokenAction::kRestart:
      return action;
    case TokenAction::kCheckState:
      return sessions_.IsUsable(lease) ? TokenAction::kFail
                                       : TokenAction::kReopen;
    case TokenAction::kNewSession:
      return sessions_.IsUsable(lease) ? TokenAction::kNewSession
                                       : TokenAction::kReopen;
  }
  return TokenAction::kFail;
}

template <typename Operation>
absl::Status Worker::Run(absl::Time deadline, hsm::Reply& reply,
                         const Operation& operation) {
  enum Rung { kNewSession, kReopen, kReinitialize, kReplace };
  int rung = kNewSession;
  int new_session_count = 0;
  while (true) {
    absl::Status status;
    TokenAction action = TokenAction::kReopen;
    uint64_t generation = 0;
    absl::StatusOr<Lease> lease = sessions_.Acquire(deadline);
    if (lease.ok()) {
      generation = lease->generation();
      status = operation(*lease);
      if (status.ok()) return status;
      action = Judge(status, *lease);
      // Whatever failed may have left the session in the middle of something.
      Lease(*std::move(lease)).Drop();
      if (action == TokenAction::kFail || action == TokenAction::kCheckState) {
        return status;
      }
    } else {
      // No session opens. Only what may pass by itself is tried again.
      status = std::move(lease).status();
      generation = sessions_.generation();
      if (status.code() != absl::StatusCode::kUnavailable) return status;
    }
    if (action == TokenAction::kRestart) {
      rung = std::max<int>(rung, kReopen);
    } else if (new_session_count < kMostNewSessions &&
               sessions_.IsLoginAlive(generation)) {
      ++new_session_count;
      if (absl::Now() >= deadline) return status;
      continue;
    }
    absl::Status reopened;
    do {
      ++rung;
      reply.set_replace_worker(rung >= kReplace);
      if (rung >= kReplace || absl::Now() >= deadline) return status;
      reopened =
          sessions_.Reopen(generation,
                           rung == kReopen ? TokenSessions::Depth::kSessions
                                           : TokenSessions::Depth::kModule,
                           deadline);
      if (reopened.code() == absl::StatusCode::kDeadlineExceeded) {
        // A call hangs. Only the end of this process ends it.
        reply.set_replace_worker(absl::Now() < deadline);
        return status;
      }
      if (!reopened.ok()) {
        if (reopened.code() != absl::StatusCode::kUnavailable) return reopened;
        status = reopened;
        ++generation;  // what Reopen() did; when it is more, somebody opened it
      }
    } while (!reopened.ok());
  }
}

std::optional<Worker::CachedKey> Worker::FindCached(const std::string& name,
                                                    uint64_t generation) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = keys_.find(name);
  if (found == keys_.end() || found->second.generation != generation) {
    return std::nullopt;
  }
  return found->second;
}

absl::StatusOr<Worker::CachedKey> Worker::Resolve(const hsm::KeyReference& key,
                                                  const Lease& lease,
                                                  absl::Time deadline) {
  const std::string name = key.SerializeAsString();
  std::optional<CachedKey> found = FindCached(name, lease.generation());
  if (found.has_value()) return *found;
  const std::unique_lock<std::timed_mutex> searching(
      search_mutex_, absl::ToChronoTime(deadline));
  if (!searching.owns_lock()) {
    return MakeError(absl::StatusCode::kDeadlineExceeded, v1::STAGE_TOKEN,
                     v1::REASON_TOKEN_TIMEOUT,
                     "the search for the key does not end");
  }
  found = FindCached(name, lease.generation());
  if (found.has_value()) return *found;
  ASSIGN_OR_RETURN(const TokenObject object,
                   TokenObjects(sessions_.module(), lease.session())
                       .FindKey(FromWire(key), AsBytes(key.public_key())));
  CachedKey cached;
  cached.generation = lease.generation();
  cached.handle = object.handle;
  cached.always_authenticate =
      object.key.attributes.always_authenticate || config_.pin_per_signature();
  const absl::StatusOr<UniqueEvpPkey> public_key =
      ParsePublicKey(AsBytes(key.public_key()));
  if (public_key.ok() && EVP_PKEY_is_a(public_key->get(), "EC") == 1) {
    cached.max_digest_size =
        static_cast<size_t>(EVP_PKEY_get_bits(public_key->get())) / 8;
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  cached.search = ++search_count_;
  keys_[name] = cached;
  return cached;
}

void Worker::Doubt(const hsm::KeyReference& key, const absl::Status& status) {
  const std::optional<ErrorDetail> detail = GetErrorDetail(status);
  const uint64_t rv = detail.has_value() ? detail->ck_rv() : CKR_OK;
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = keys_.find(key.SerializeAsString());
  if (found == keys_.end()) return;
  if (rv == CKR_KEY_HANDLE_INVALID || rv == CKR_OBJECT_HANDLE_INVALID) {
    keys_.erase(found);
  } else {
    found->second.search = ++search_count_;
  }
}

absl::Status Worker::Sign(const hsm::SignCall& call, absl::Time deadline,
                          hsm::Reply& reply) {
  return Run(deadline, reply, [&](const Lease& lease) -> absl::Status {
    absl::StatusOr<CachedKey> key = Resolve(call.key(), lease, deadline);
    if (GetReason(key.status()) == v1::REASON_KEY_NOT_FOUND &&
        !call.key().public_key().empty()) {
      // It was there when it was loaded. A token whose storage went away still
      // claims to be logged in and shows no objects: look again from scratch.
      const std::lock_guard<std::mutex> lock(mutex_);
      const absl::Time now = absl::Now();
      if (now - missing_key_at_ > kMissingKeyInterval) {
        missing_key_at_ = now;
        return TokenError(kKeyVanished, "the search for a key that was there");
      }
    }
    if (!key.ok()) return key.status();
    ByteView digest = AsBytes(call.digest());
    if (key->max_digest_size != 0 && digest.size() > key->max_digest_size) {
      digest = digest.first(key->max_digest_size);
    }
    std::function<absl::Status()> login;
    if (key->always_authenticate) {
      login = [&] { return sessions_.LoginForOperation(lease.session()); };
    }
    absl::StatusOr<Bytes> signature =
        TokenObjects(sessions_.module(), lease.session())
            .Sign(key->handle, static_cast<SignMechanism>(call.mechanism()),
                  static_cast<SignDigest>(call.digest_kind()), digest, login);
    if (!signature.ok()) {
      Doubt(call.key(), signature.status());
      return signature.status();
    }
    reply.set_signature(ToString(*signature));
    reply.set_key_search(key->search);
    return absl::OkStatus();
  });
}

absl::Status Worker::FindKey(const hsm::FindKeyCall& call, absl::Time deadline,
                             hsm::Reply& reply) {
  return Run(deadline, reply, [&](const Lease& lease) -> absl::Status {
    ASSIGN_OR_RETURN(
        const TokenObject object,
        TokenObjects(sessions_.module(), lease.session())
            .FindKey(FromWire(call.key()), AsBytes(call.key().public_key())));
    *reply.mutable_key() = ToWire(object.key);
    return absl::OkStatus();
  });
}

// A read-write session that closes itself.
class ReadWriteSession {
 public:
  ReadWriteSession(Pkcs11Module& module, CK_SESSION_HANDLE session)
      : module_(module), session_(session) {}
  ~ReadWriteSession() { module_->C_CloseSession(session_); }
  ReadWriteSession(const ReadWriteSession&) = delete;
  ReadWriteSession& operator=(const ReadWriteSession&) = delete;

  TokenObjects objects() const { return {module_, session_}; }

 private:
  Pkcs11Module& module_;
  CK_SESSION_HANDLE session_;
};

absl::Status Worker::GenerateKey(const hsm::GenerateKeyCall& call,
                                 absl::Time deadline, hsm::Reply& reply) {
  return Run(deadline, reply, [&](const Lease&) -> absl::Status {
    ASSIGN_OR_RETURN(const CK_SESSION_HANDLE handle, sessions_.OpenReadWrite());
    const ReadWriteSession session(sessions_.module(), handle);
    ASSIGN_OR_RETURN(
        const KeyListing key,
        session.objects().GenerateKey(
            FromWire(call.key()), static_cast<KeyAlgorithm>(call.algorithm())));
    *reply.mutable_key() = ToWire(key);
    return absl::OkStatus();
  });
}

absl::Status Worker::ImportCertificate(const hsm::ImportCertificateCall& call,
                                       absl::Time deadline, hsm::Reply& reply) {
  return Run(deadline, reply, [&](const Lease&) -> absl::Status {
    ASSIGN_OR_RETURN(const CK_SESSION_HANDLE handle, sessions_.OpenReadWrite());
    const ReadWriteSession session(sessions_.module(), handle);
    return session.objects().ImportCertificate(FromWire(call.key()),
                                               AsBytes(call.certificate()));
  });
}

absl::Status Worker::List(absl::Time deadline, hsm::Reply& reply) {
  return Run(deadline, reply, [&](const Lease& lease) -> absl::Status {
    const TokenObjects objects(sessions_.module(), lease.session());
    ASSIGN_OR_RETURN(const std::vector<KeyListing> keys, objects.ListKeys());
    ASSIGN_OR_RETURN(const std::vector<CertificateListing> certificates,
                     objects.ListCertificates());
    hsm::Listing& listing = *reply.mutable_listing();
    listing = sessions_.DescribeToken();
    for (const KeyListing& key : keys) *listing.add_keys() = ToWire(key);
    for (const CertificateListing& certificate : certificates) {
      hsm::Certificate& listed = *listing.add_certificates();
      listed.set_id(ToString(certificate.id));
      listed.set_label(certificate.label);
      listed.set_der(ToString(certificate.der));
    }
    return absl::OkStatus();
  });
}

absl::StatusOr<hsm::WorkerConfig> ReadConfig(int fd) {
  FrameReader reader(fd, kMaxRequestSize);
  while (true) {
    switch (reader.Read(0)) {
      case FrameReader::Result::kPartial:
        continue;
      case FrameReader::Result::kFrame:
        return ParseWorkerConfig(reader.frame());
      case FrameReader::Result::kClosed:
        return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_TOKEN,
                         v1::REASON_BAD_REQUEST, "no worker configuration");
    }
  }
}

}  // namespace

int RunTokenWorker(int fd) {
  std::signal(SIGPIPE, SIG_IGN);
  HideMemory();  // the PIN passes through it
  const absl::StatusOr<hsm::WorkerConfig> config = ReadConfig(fd);
  if (!config.ok()) return 2;
  const int channel_count = static_cast<int>(config->channel_count());
  for (int each = fd; each <= fd + channel_count; ++each) {
    fcntl(each, F_SETFD, FD_CLOEXEC);  // modules start programs of their own
  }
  // Lives until the process ends: a thread that hangs in the module uses it.
  Worker& worker = *new Worker(fd, *config);
  std::vector<std::thread> threads;
  for (int channel = fd + 1; channel <= fd + channel_count; ++channel) {
    threads.emplace_back([&worker, channel] { worker.Serve(channel); });
  }
  // The parent never writes again: this returns when it hangs up or dies.
  uint8_t byte = 0;
  while (recv(fd, &byte, 1, 0) > 0 || errno == EINTR) {
  }
  alarm(kShutdownSeconds);
  for (std::thread& thread : threads) thread.join();
  worker.Shutdown();
  // No destructors and no exit handlers: modules crash in theirs.
  _exit(0);
}

}  // namespace codeseal
