#include "server/identity_store.h"

#include <algorithm>
#include <map>
#include <optional>
#include <thread>
#include <utility>

#include "absl/time/clock.h"
#include "codesign/base/error.h"
#include "codesign/base/mapped_file.h"
#include "hsm/public_key.h"
#include "server/log.h"

namespace codeseal {
namespace {

constexpr absl::Duration kFirstRetry = absl::Milliseconds(100);
constexpr absl::Duration kLongestRetry = absl::Seconds(1);

// The session that signs is idle while its thread builds and verifies a CMS;
// more threads than sessions keep the token busy.
size_t ThreadCount(const TokenConfig& token) {
  return token.serialize ? 1
                         : token.session_count + token.session_count / 2 + 2;
}

absl::StatusOr<std::vector<Certificate>> LoadChain(const std::string& path) {
  ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  ASSIGN_OR_RETURN(const std::vector<Certificate> certificates,
                   Certificate::ParsePem(AsText(file.bytes())));
  return BuildChain(certificates.front(), certificates);
}

// Faults that pass without anybody doing anything. A token whose storage is
// away finds no keys, so that is one of them.
bool MayPass(const absl::Status& fault) {
  const Reason reason = GetReason(fault);
  return absl::IsUnavailable(fault) || absl::IsDeadlineExceeded(fault) ||
         absl::IsResourceExhausted(fault) ||
         reason == v1::REASON_KEY_NOT_FOUND ||
         // Tried again without sending the PIN: somebody may clear the hold.
         reason == v1::REASON_PIN_HOLD || reason == v1::REASON_PIN_REJECTED ||
         reason == v1::REASON_TOKEN_NOT_FOUND;
}

absl::Status NotFound(const std::string& name) {
  return WithSubject(
      MakeError(absl::StatusCode::kNotFound, v1::STAGE_POLICY,
                v1::REASON_IDENTITY_NOT_FOUND,
                "there is no such identity, or you may not use it"),
      name);
}

std::string StateWord(v1::IdentityState state) {
  std::string word = v1::IdentityState_Name(state);
  constexpr std::string_view kPrefix = "IDENTITY_STATE_";
  if (word.starts_with(kPrefix)) word.erase(0, kPrefix.size());
  std::transform(word.begin(), word.end(), word.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  });
  return word;
}

absl::StatusOr<std::shared_ptr<KeyBackend>> LoadKey(IdentityVersion& version,
                                                    size_t place,
                                                    absl::Time deadline) {
  ASSIGN_OR_RETURN(
      std::shared_ptr<KeyBackend> backend,
      version.tokens()[place]->token->LoadKey(
          version.config().keys[place].key, version.identity().key_policy,
          version.chain().front().der(), deadline));
  RETURN_IF_ERROR(version.SetKey(place, backend));
  return backend;
}

}  // namespace

std::string KeyHint(Reason reason) {
  const std::map<Reason, const char*> hints = {
      {v1::REASON_KEY_POLICY,
       "generate a key inside the token with `codeseald key generate`, or "
       "accept this one with key_policy: imported-allowed"},
      {v1::REASON_KEY_MISMATCH,
       "the first certificate of the chain file belongs to another key: put "
       "the certificate issued for this key there"},
      {v1::REASON_KEY_NOT_FOUND,
       "compare the key's id and label with `codeseald token list`"},
      {v1::REASON_KEY_UNSUPPORTED,
       "use an RSA key of 2048 to 4096 bits, or EC P-256 or P-384"},
      {v1::REASON_TOKEN_NOT_FOUND,
       "compare the token's label and serial with `codeseald token list`"},
      {v1::REASON_PIN_REJECTED,
       "correct the file of pin_source, then run `codeseald token "
       "clear-pin-hold`; until then the rejected PIN is not sent again"},
      {v1::REASON_PIN_HOLD,
       "the token is about to lock or was given a wrong PIN: check it with the "
       "vendor's tool, then run `codeseald token clear-pin-hold`"},
      {v1::REASON_PIN_SOURCE,
       "make the file of pin_source readable for the server"},
      {v1::REASON_MODULE_LOAD,
       "check the path of the token's module and its libraries"},
  };
  const auto hint = hints.find(reason);
  return hint == hints.end() ? "" : hint->second;
}

IdentityVersion::IdentityVersion(const IdentityConfig& identity,
                                 const IdentityVersionConfig& version,
                                 std::vector<Certificate> chain,
                                 std::vector<TokenService*> tokens)
    : identity_(identity),
      version_(version),
      chain_(std::move(chain)),
      leaf_sha1_(chain_.front().Sha1()),
      team_(TeamIdentifier(chain_).value_or("")),
      tokens_(std::move(tokens)),
      backend_(std::make_shared<FailoverKey>(
          chain_.front().SubjectPublicKeyInfo(), tokens_.size())),
      fault_(MakeError(absl::StatusCode::kUnavailable, v1::STAGE_TOKEN,
                       v1::REASON_TOKEN_DOWN,
                       "the token has not answered yet")) {}

absl::StatusOr<std::shared_ptr<evp_pkey_st>> IdentityVersion::key() const {
  const std::lock_guard lock(mutex_);
  if (key_ == nullptr) return fault_;
  return key_;
}

absl::Status IdentityVersion::SetKey(size_t place,
                                     std::shared_ptr<KeyBackend> key) {
  RETURN_IF_ERROR(backend_->SetKey(place, std::move(key)));
  const std::lock_guard lock(mutex_);
  if (key_ == nullptr) {
    ASSIGN_OR_RETURN(UniqueEvpPkey made, MakeTokenPkey(backend_));
    key_ = std::shared_ptr<evp_pkey_st>(std::move(made));
  }
  fault_ = absl::OkStatus();
  return absl::OkStatus();
}

void IdentityVersion::Distrust(const absl::Status& why) {
  SetFault(why);
  backend_->Distrust(why);
}

void IdentityVersion::SetFault(const absl::Status& fault) {
  const std::lock_guard lock(mutex_);
  fault_ = fault;
}

absl::Status IdentityVersion::fault() const {
  const std::lock_guard lock(mutex_);
  return fault_;
}

absl::StatusOr<std::unique_ptr<IdentityStore>> IdentityStore::Create(
    const ServerConfig& config, const TokenFactory& make_token) {
  std::unique_ptr<IdentityStore> store(new IdentityStore());
  std::vector<ConfigProblem> problems;
  std::map<std::string, TokenService*> token_by_name;
  for (const TokenConfig& each : config.tokens) {
    absl::StatusOr<std::shared_ptr<Token>> token = make_token(each);
    if (!token.ok()) {
      problems.push_back(
          {0, "tokens." + each.name, std::string(Message(token.status()))});
      continue;
    }
    SigningPool::Options options;
    options.thread_count = ThreadCount(each);
    options.max_waiting = config.limits.queue;
    options.max_wait = config.limits.queue_age;
    store->tokens_.push_back(std::make_unique<TokenService>(TokenService{
        *std::move(token), std::make_unique<SigningPool>(options)}));
    token_by_name[each.name] = store->tokens_.back().get();
  }
  for (const IdentityConfig& each : config.identities) {
    Identity identity{each, {}};
    for (const IdentityVersionConfig& version : each.versions) {
      const std::string key = each.name + " " + version.id;
      absl::StatusOr<std::vector<Certificate>> chain = LoadChain(version.chain);
      if (!chain.ok()) {
        problems.push_back(
            {0, key,
             version.chain + ": " + std::string(Message(chain.status()))});
        continue;
      }
      const std::optional<std::string> team = TeamIdentifier(*chain);
      if (team.has_value() && !each.rules.team.empty() &&
          *team != each.rules.team) {
        problems.push_back({0, key,
                            "rules.team is " + each.rules.team +
                                ", the certificate's Team ID is " + *team});
      }
      std::vector<TokenService*> tokens;
      for (const KeyLocation& location : version.keys) {
        const auto token = token_by_name.find(location.token);
        if (token != token_by_name.end()) tokens.push_back(token->second);
      }
      // Reported above.
      if (tokens.empty() || tokens.size() != version.keys.size()) continue;
      identity.versions.push_back(std::make_unique<IdentityVersion>(
          each, version, *std::move(chain), std::move(tokens)));
    }
    store->identities_.push_back(std::move(identity));
  }
  if (!problems.empty()) return ConfigError("configuration", problems);
  return store;
}

IdentityStore::~IdentityStore() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (std::thread& each : loaders_) each.join();
}

void IdentityStore::LoadKeys(absl::Duration wait) {
  std::unique_lock lock(mutex_);
  untried_token_count_ = tokens_.size();
  for (const std::unique_ptr<TokenService>& token : tokens_) {
    loaders_.emplace_back([this, &token = *token] { LoadKeysOf(token); });
  }
  changed_.wait_for(lock, absl::ToChronoNanoseconds(wait),
                    [this] { return untried_token_count_ == 0; });
}

bool IdentityStore::WaitFor(absl::Duration time) {
  std::unique_lock lock(mutex_);
  return !changed_.wait_for(lock, absl::ToChronoNanoseconds(time),
                            [this] { return stopping_; });
}

void IdentityStore::LoadKeysOf(TokenService& token) {
  std::vector<KeyPlace> missing;
  for (const Identity& identity : identities_) {
    for (const std::unique_ptr<IdentityVersion>& version : identity.versions) {
      if (version->state() != v1::IDENTITY_STATE_ACTIVE &&
          version->state() != v1::IDENTITY_STATE_STAGED) {
        continue;
      }
      for (size_t place = 0; place < version->tokens().size(); ++place) {
        if (version->tokens()[place] == &token) {
          missing.push_back({version.get(), place, nullptr});
        }
      }
    }
  }
  std::vector<KeyPlace> loaded;
  std::map<IdentityVersion*, Reason> logged;
  absl::Duration delay = kFirstRetry;
  for (bool first_round = true;; first_round = false) {
    std::erase_if(missing, [&](const KeyPlace& each) {
      if (!WaitFor(absl::ZeroDuration())) return false;
      IdentityVersion& version = *each.version;
      const absl::Time deadline =
          absl::Now() + token.token->config().operation_timeout;
      absl::StatusOr<std::shared_ptr<KeyBackend>> key =
          LoadKey(version, each.place, deadline);
      if (key.ok()) {
        loaded.push_back({&version, each.place, *std::move(key)});
        Log(LogLevel::kInfo, "identity_available",
            {{"identity", version.name()},
             {"version", version.id()},
             {"token", token.token->config().name}});
        return true;
      }
      const absl::Status& status = key.status();
      // Another token may have the key already.
      if (!version.key().ok()) version.SetFault(status);
      if (first_round || logged[&version] != GetReason(status)) {
        LogStatus(LogLevel::kError, "identity_unavailable", status,
                  {{"identity", version.name()},
                   {"version", version.id()},
                   {"token", token.token->config().name},
                   {"hint", KeyHint(GetReason(status))}});
      }
      logged[&version] = GetReason(status);
      return !MayPass(status);
    });
    if (first_round) {
      const std::lock_guard lock(mutex_);
      if (--untried_token_count_ == 0) changed_.notify_all();
    }
    if (missing.empty()) break;
    if (!WaitFor(delay)) return;
    delay = std::min(2 * delay, kLongestRetry);
  }
  if (!loaded.empty()) Watch(token, loaded);
}

void IdentityStore::Watch(TokenService& token,
                          const std::vector<KeyPlace>& keys) {
  const KeyPlace& one = keys.front();  // a token's keys live and die together
  const TokenConfig& config = token.token->config();
  bool was_ok = true;
  while (WaitFor(was_ok ? config.idle_ping
                        : std::min(config.idle_ping, kLongestRetry))) {
    const absl::Status status =
        ProveKey(*one.key, absl::Now() + config.operation_timeout);
    for (const KeyPlace& each : keys) {
      if (each.version->tokens().size() == 1) each.version->SetFault(status);
    }
    if (status.ok() != was_ok) {
      LogStatus(status.ok() ? LogLevel::kInfo : LogLevel::kError,
                status.ok() ? "token_ready" : "token_not_ready", status,
                {{"token", config.name}, {"hint", KeyHint(GetReason(status))}});
    }
    was_ok = status.ok();
  }
}

absl::Status IdentityStore::ClearPinHold(const std::string& name,
                                         absl::Time deadline) {
  for (const std::unique_ptr<TokenService>& each : tokens_) {
    if (each->token->config().name != name) continue;
    RETURN_IF_ERROR(each->token->ClearPinHold(deadline));
    Log(LogLevel::kInfo, "pin_hold_cleared", {{"token", name}});
    return absl::OkStatus();
  }
  return WithSubject(MakeError(absl::StatusCode::kNotFound, v1::STAGE_TOKEN,
                               v1::REASON_TOKEN_NOT_FOUND,
                               "the configuration has no token of this name"),
                     "token " + name);
}

const IdentityStore::Identity* IdentityStore::Find(const std::string& name,
                                                   const Peer& peer) const {
  for (const Identity& identity : identities_) {
    const bool named =
        identity.config.name == name ||
        std::any_of(identity.versions.begin(), identity.versions.end(),
                    [&](const std::unique_ptr<IdentityVersion>& version) {
                      return HexEncode(version->leaf_sha1()) == name;
                    });
    if (named && AnyRuleFits(identity.config.allow, peer)) return &identity;
  }
  return nullptr;
}

absl::StatusOr<IdentityVersion*> IdentityStore::FindForSigning(
    const std::string& name, const std::string& version,
    const Peer& peer) const {
  const Identity* const identity = Find(name, peer);
  if (identity == nullptr) return NotFound(name);
  for (const std::unique_ptr<IdentityVersion>& each : identity->versions) {
    const bool wanted = version.empty()
                            ? each->state() == v1::IDENTITY_STATE_ACTIVE
                            : each->id() == version;
    if (!wanted) continue;
    if (each->state() == v1::IDENTITY_STATE_ACTIVE) return each.get();
    return WithSubject(
        MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_POLICY,
                  v1::REASON_IDENTITY_DISABLED,
                  "version " + version + " is " + StateWord(each->state()) +
                      "; only the active version signs"),
        name);
  }
  return WithSubject(
      MakeError(absl::StatusCode::kNotFound, v1::STAGE_POLICY,
                v1::REASON_IDENTITY_NOT_FOUND,
                version.empty() ? "the identity has no active version"
                                : "the identity has no version " + version),
      name);
}

absl::StatusOr<IdentityVersion*> IdentityStore::FindForDisplay(
    const std::string& name, const Peer& peer) const {
  const Identity* const identity = Find(name, peer);
  if (identity == nullptr) return NotFound(name);
  for (const std::unique_ptr<IdentityVersion>& each : identity->versions) {
    if (each->state() == v1::IDENTITY_STATE_ACTIVE) return each.get();
  }
  return identity->versions.front().get();
}

std::vector<IdentityVersion*> IdentityStore::ListForDisplay(
    const Peer& peer) const {
  std::vector<IdentityVersion*> list;
  for (const Identity& identity : identities_) {
    const absl::StatusOr<IdentityVersion*> version =
        FindForDisplay(identity.config.name, peer);
    if (version.ok()) list.push_back(*version);
  }
  return list;
}

}  // namespace codeseal
