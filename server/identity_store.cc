#include "server/identity_store.h"

#include <algorithm>
#include <map>
#include <optional>
#include <thread>
#include <utility>

#include "absl/time/clock.h"
#include "codesign/base/error.h"
#include "codesign/base/mapped_file.h"
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

absl::StatusOr<std::shared_ptr<evp_pkey_st>> LoadKey(
    const IdentityVersion& version, absl::Time deadline) {
  ASSIGN_OR_RETURN(std::shared_ptr<KeyBackend> backend,
                   version.token().token->LoadKey(
                       version.config().key, version.identity().key_policy,
                       version.chain().front().der(), deadline));
  ASSIGN_OR_RETURN(UniqueEvpPkey key, MakeTokenPkey(std::move(backend)));
  return std::shared_ptr<evp_pkey_st>(std::move(key));
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
       "correct the file of pin_source, then restart the server; the rejected "
       "PIN is not sent again"},
      {v1::REASON_PIN_HOLD,
       "the token is about to lock or was given a wrong PIN: check it with the "
       "vendor's tool, then restart the server"},
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
                                 TokenService& token)
    : identity_(identity),
      version_(version),
      chain_(std::move(chain)),
      leaf_sha1_(chain_.front().Sha1()),
      team_(TeamIdentifier(chain_).value_or("")),
      token_(token),
      fault_(MakeError(absl::StatusCode::kUnavailable, v1::STAGE_TOKEN,
                       v1::REASON_TOKEN_DOWN,
                       "the token has not answered yet")) {}

absl::StatusOr<std::shared_ptr<evp_pkey_st>> IdentityVersion::key() const {
  const std::lock_guard lock(mutex_);
  if (key_ == nullptr) return fault_;
  return key_;
}

void IdentityVersion::SetKey(std::shared_ptr<evp_pkey_st> key) {
  const std::lock_guard lock(mutex_);
  key_ = std::move(key);
  fault_ = absl::OkStatus();
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
      const auto token = token_by_name.find(version.token);
      if (token == token_by_name.end()) continue;  // reported above
      identity.versions.push_back(std::make_unique<IdentityVersion>(
          each, version, *std::move(chain), *token->second));
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

void IdentityStore::LoadKeysOf(TokenService& token) {
  std::vector<IdentityVersion*> missing;
  for (const Identity& identity : identities_) {
    for (const std::unique_ptr<IdentityVersion>& version : identity.versions) {
      if (&version->token() == &token &&
          (version->state() == v1::IDENTITY_STATE_ACTIVE ||
           version->state() == v1::IDENTITY_STATE_STAGED)) {
        missing.push_back(version.get());
      }
    }
  }
  absl::Duration delay = kFirstRetry;
  for (bool first_round = true;; first_round = false) {
    std::erase_if(missing, [&](IdentityVersion* version) {
      {
        const std::lock_guard lock(mutex_);
        if (stopping_) return false;
      }
      const absl::Time deadline =
          absl::Now() + token.token->config().operation_timeout;
      absl::StatusOr<std::shared_ptr<evp_pkey_st>> key =
          LoadKey(*version, deadline);
      if (key.ok()) {
        version->SetKey(*std::move(key));
        Log(LogLevel::kInfo, "identity_available",
            {{"identity", version->name()}, {"version", version->id()}});
        return true;
      }
      const bool news =
          first_round || GetReason(version->fault()) != GetReason(key.status());
      version->SetFault(key.status());
      if (news) {
        LogStatus(LogLevel::kError, "identity_unavailable", key.status(),
                  {{"identity", version->name()},
                   {"version", version->id()},
                   {"hint", KeyHint(GetReason(key.status()))}});
      }
      return !MayPass(key.status());
    });
    std::unique_lock lock(mutex_);
    if (first_round && --untried_token_count_ == 0) changed_.notify_all();
    if (missing.empty()) return;
    if (changed_.wait_for(lock, absl::ToChronoNanoseconds(delay),
                          [this] { return stopping_; })) {
      return;
    }
    delay = std::min(2 * delay, kLongestRetry);
  }
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
