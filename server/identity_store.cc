#include "server/identity_store.h"

#include <algorithm>
#include <map>
#include <optional>
#include <thread>
#include <utility>

#include "absl/time/clock.h"
#include "codesign/base/error.h"
#include "codesign/base/mapped_file.h"
#include "codesign/requirement/continuity.h"
#include "hsm/public_key.h"
#include "server/log.h"

namespace codeseal {
namespace {

const Clock& WallClock() {
  static const SystemClock clock;
  return clock;
}

constexpr absl::Duration kFirstRetry = absl::Milliseconds(100);
constexpr absl::Duration kLongestRetry = absl::Seconds(1);

// The session that signs is idle while its thread builds and verifies a CMS;
// more threads than sessions keep the token busy.
size_t ThreadCount(const TokenConfig& token) {
  return token.serialize ? 1
                         : token.session_count + token.session_count / 2 + 2;
}

absl::StatusOr<std::vector<Certificate>> LoadChain(
    const IdentityVersionConfig& version) {
  std::string pem = version.chain_pem;
  if (pem.empty()) {
    ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(version.chain));
    pem = ToString(file.bytes());
  }
  ASSIGN_OR_RETURN(const std::vector<Certificate> certificates,
                   Certificate::ParsePem(pem));
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

absl::Status IdentityNotFound(const std::string& name) {
  return WithSubject(
      MakeError(absl::StatusCode::kNotFound, v1::STAGE_POLICY,
                v1::REASON_IDENTITY_NOT_FOUND,
                "there is no such identity, or you may not use it"),
      name);
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

absl::Status NotSigning(const IdentityVersion& version,
                        v1::IdentityState state) {
  return WithSubject(
      MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_POLICY,
                v1::REASON_IDENTITY_DISABLED,
                "version " + version.id() + " is " + StateWord(state) +
                    "; only the active version signs"),
      version.name());
}

// The record of a version as it is to be.
IdentityRecord RecordOf(const IdentityVersion& version,
                        const IdentityLifecycle& lifecycle) {
  IdentityRecord record;
  record.identity = version.name();
  record.version = version.id();
  record.lifecycle = lifecycle;
  if (version.config().chain_pem.empty()) {
    record.configured = version.config().state;
  } else {
    record.keys = version.config().keys;
    record.chain_pem = version.config().chain_pem;
  }
  return record;
}

// Whose keys are wanted: those that sign, will sign, or may be asked back.
bool WantsKey(const IdentityLifecycle& lifecycle, absl::Time now) {
  return lifecycle.state == v1::IDENTITY_STATE_ACTIVE ||
         lifecycle.state == v1::IDENTITY_STATE_STAGED ||
         (lifecycle.state == v1::IDENTITY_STATE_RETIRED &&
          lifecycle.signs_until > now);
}

// Whether code of a version that is not active is out there.
bool WasActive(const IdentityLifecycle& lifecycle) {
  const bool configured = lifecycle.since == absl::InfinitePast();
  return lifecycle.signs_until != absl::InfinitePast() ||
         (configured && lifecycle.state == v1::IDENTITY_STATE_RETIRED);
}

}  // namespace

std::string StateWord(v1::IdentityState state) {
  std::string word = v1::IdentityState_Name(state);
  constexpr std::string_view kPrefix = "IDENTITY_STATE_";
  if (word.starts_with(kPrefix)) word.erase(0, kPrefix.size());
  std::transform(word.begin(), word.end(), word.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  });
  return word;
}

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
                       "the token has not answered yet")) {
  lifecycle_.state = version.state;
  lifecycle_.activate_at = version.activate_at;
  lifecycle_.requirement_change_allowed = version.requirement_change_allowed;
}

IdentityLifecycle IdentityVersion::lifecycle() const {
  const std::lock_guard lock(mutex_);
  return lifecycle_;
}

void IdentityVersion::SetLifecycle(const IdentityLifecycle& lifecycle) {
  const std::lock_guard lock(mutex_);
  lifecycle_ = lifecycle;
}

absl::StatusOr<std::shared_ptr<evp_pkey_st>> IdentityVersion::key() const {
  const std::lock_guard lock(mutex_);
  // Also for requests that were taken before it was disabled.
  if (lifecycle_.state == v1::IDENTITY_STATE_DISABLED) {
    return NotSigning(*this, lifecycle_.state);
  }
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

IdentityStore::IdentityStore(IdentityStoreOptions options)
    : options_(std::move(options)),
      clock_(options_.clock != nullptr ? *options_.clock : WallClock()) {}

absl::StatusOr<std::unique_ptr<IdentityStore>> IdentityStore::Create(
    const ServerConfig& config, const TokenFactory& make_token,
    IdentityStoreOptions options) {
  std::unique_ptr<IdentityStore> store(new IdentityStore(std::move(options)));
  std::vector<ConfigProblem> problems;
  for (const TokenConfig& each : config.tokens) {
    absl::StatusOr<std::shared_ptr<Token>> token = make_token(each);
    if (!token.ok()) {
      problems.push_back(
          {0, "tokens." + each.name, std::string(Message(token.status()))});
      continue;
    }
    SigningPool::Options pool_options;
    pool_options.thread_count = ThreadCount(each);
    pool_options.max_waiting = config.limits.queue;
    pool_options.max_wait = config.limits.queue_age;
    store->tokens_.push_back(std::make_unique<TokenService>(TokenService{
        *std::move(token), std::make_unique<SigningPool>(pool_options)}));
  }
  for (const IdentityConfig& each : config.identities) {
    Identity& identity = store->identities_.emplace_back(Identity{each, {}});
    for (const IdentityVersionConfig& version : each.versions) {
      absl::StatusOr<std::unique_ptr<IdentityVersion>> made =
          store->MakeVersion(each, version);
      if (made.ok()) {
        identity.versions.push_back(*std::move(made));
      } else {
        problems.push_back({0, each.name + " " + version.id,
                            std::string(Message(made.status()))});
      }
    }
  }
  if (problems.empty()) RETURN_IF_ERROR(store->Restore(problems));
  if (!problems.empty()) return ConfigError("configuration", problems);
  return store;
}

absl::StatusOr<std::unique_ptr<IdentityVersion>> IdentityStore::MakeVersion(
    const IdentityConfig& identity,
    const IdentityVersionConfig& version) const {
  absl::StatusOr<std::vector<Certificate>> chain = LoadChain(version);
  if (!chain.ok()) {
    if (version.chain.empty()) return chain.status();
    return MakeError(
        chain.status().code(), v1::STAGE_USAGE, GetReason(chain.status()),
        version.chain + ": " + std::string(Message(chain.status())));
  }
  const auto bad_request = [&](const std::string& message) {
    return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_USAGE,
                     v1::REASON_BAD_REQUEST, message);
  };
  const std::optional<std::string> team = TeamIdentifier(*chain);
  if (team.has_value() && !identity.rules.team.empty() &&
      *team != identity.rules.team) {
    return bad_request("rules.team is " + identity.rules.team +
                       ", the certificate's Team ID is " + *team);
  }
  std::vector<TokenService*> tokens;
  for (const KeyLocation& location : version.keys) {
    const auto token =
        std::find_if(tokens_.begin(), tokens_.end(),
                     [&](const std::unique_ptr<TokenService>& each) {
                       return each->token->config().name == location.token;
                     });
    if (token == tokens_.end()) {
      return bad_request("there is no token " + location.token);
    }
    tokens.push_back(token->get());
  }
  if (tokens.empty()) return bad_request("the version names no key");
  return std::make_unique<IdentityVersion>(identity, version, *std::move(chain),
                                           std::move(tokens));
}

absl::Status IdentityStore::Restore(std::vector<ConfigProblem>& problems) {
  std::vector<IdentityRecord> records;
  if (options_.state != nullptr) {
    ASSIGN_OR_RETURN(records, options_.state->Load());
  }
  for (IdentityRecord& record : records) {
    Identity* const identity = FindIdentity(record.identity);
    if (identity == nullptr) continue;  // taken out of the configuration
    const auto known = std::find_if(
        identity->versions.begin(), identity->versions.end(),
        [&](const auto& each) { return each->id() == record.version; });
    const bool run_time = record.configured == v1::IDENTITY_STATE_UNSPECIFIED;
    if (known != identity->versions.end()) {
      const v1::IdentityState configured = (*known)->config().state;
      if (configured == record.configured ||
          (run_time && configured != v1::IDENTITY_STATE_DISABLED)) {
        (*known)->SetLifecycle(record.lifecycle);
      }
      continue;
    }
    if (!run_time) continue;  // taken out of the configuration
    IdentityVersionConfig config;
    config.id = record.version;
    config.keys = std::move(record.keys);
    config.chain_pem = std::move(record.chain_pem);
    absl::StatusOr<std::unique_ptr<IdentityVersion>> version =
        MakeVersion(identity->config, config);
    if (version.ok()) {
      (*version)->SetLifecycle(record.lifecycle);
      identity->versions.push_back(*std::move(version));
    } else if (WantsKey(record.lifecycle, clock_.Now())) {
      problems.push_back({0, record.identity + " " + record.version,
                          "staged while the server ran: " +
                              std::string(Message(version.status()))});
    }
  }
  for (Identity& identity : identities_) {
    KeepOneActive(identity);
    CheckStaged(identity, problems);
  }
  return absl::OkStatus();
}

// The configuration and what was remembered may both have an active version:
// the configuration was edited since, or the one that became active last signs.
void IdentityStore::KeepOneActive(Identity& identity) {
  IdentityVersion* keeper = nullptr;
  for (const auto& each : identity.versions) {
    const IdentityLifecycle lifecycle = each->lifecycle();
    if (lifecycle.state != v1::IDENTITY_STATE_ACTIVE) continue;
    if (keeper == nullptr || lifecycle.since == absl::InfinitePast() ||
        (keeper->lifecycle().since != absl::InfinitePast() &&
         lifecycle.since > keeper->lifecycle().since)) {
      keeper = each.get();
    }
  }
  for (const auto& each : identity.versions) {
    IdentityLifecycle lifecycle = each->lifecycle();
    if (lifecycle.state != v1::IDENTITY_STATE_ACTIVE || each.get() == keeper) {
      continue;
    }
    lifecycle.state = v1::IDENTITY_STATE_RETIRED;
    each->SetLifecycle(lifecycle);
    Log(LogLevel::kWarning, "identity_retired",
        {{"identity", each->name()},
         {"version", each->id()},
         {"because", "the configuration says that version " + keeper->id() +
                         " is active"}});
  }
}

// What the configuration stages is judged like what administrators stage.
void IdentityStore::CheckStaged(const Identity& identity,
                                std::vector<ConfigProblem>& problems) const {
  for (const auto& each : identity.versions) {
    const IdentityLifecycle lifecycle = each->lifecycle();
    if (lifecycle.state != v1::IDENTITY_STATE_STAGED ||
        lifecycle.since != absl::InfinitePast() ||
        lifecycle.requirement_change_allowed) {
      continue;
    }
    const IdentityVersion* const before = Predecessor(*each);
    if (before == nullptr) continue;
    const absl::Status status = CheckSuccession(*before, *each);
    if (status.ok()) continue;
    problems.push_back(
        {0, identity.config.name + " " + each->id(),
         std::string(Message(status)) +
             "; give the version requirement_change: allowed if users may be "
             "asked anew"});
  }
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

void IdentityStore::Stop() {
  for (const std::unique_ptr<TokenService>& token : tokens_) {
    token->pool->Stop();
  }
}

bool IdentityStore::WaitFor(absl::Duration time) {
  std::unique_lock lock(mutex_);
  return !changed_.wait_for(lock, absl::ToChronoNanoseconds(time),
                            [this] { return stopping_; });
}

std::vector<IdentityStore::KeyPlace> IdentityStore::PlacesOn(
    const TokenService& token) const {
  std::vector<KeyPlace> places;
  const std::shared_lock lock(versions_mutex_);
  for (const Identity& identity : identities_) {
    for (const std::unique_ptr<IdentityVersion>& version : identity.versions) {
      if (!WantsKey(version->lifecycle(), clock_.Now())) continue;
      for (size_t place = 0; place < version->tokens().size(); ++place) {
        if (version->tokens()[place] == &token) {
          places.push_back({version.get(), place, nullptr});
        }
      }
    }
  }
  return places;
}

void IdentityStore::LoadKeysOf(TokenService& token) {
  std::vector<KeyPlace> missing = PlacesOn(token);
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

size_t IdentityStore::WaitingCount(const std::string& token) const {
  for (const std::unique_ptr<TokenService>& each : tokens_) {
    if (each->token->config().name == token) return each->pool->waiting_count();
  }
  return 0;
}

std::shared_ptr<Token> IdentityStore::FindToken(const std::string& name) const {
  for (const std::unique_ptr<TokenService>& each : tokens_) {
    if (each->token->config().name == name) return each->token;
  }
  return nullptr;
}

IdentityStore::Identity* IdentityStore::FindIdentity(const std::string& name) {
  const auto found = std::find_if(
      identities_.begin(), identities_.end(),
      [&](const Identity& each) { return each.config.name == name; });
  return found == identities_.end() ? nullptr : &*found;
}

IdentityStore::Found IdentityStore::Find(const std::string& name,
                                         const Peer& peer) const {
  for (const Identity& identity : identities_) {
    Found found;
    if (identity.config.name == name) found.identity = &identity;
    for (const auto& version : identity.versions) {
      if (found.identity != nullptr && found.version == nullptr) break;
      if (HexEncode(version->leaf_sha1()) != name) continue;
      // Several versions may have one certificate.
      if (found.version == nullptr ||
          version->state() == v1::IDENTITY_STATE_ACTIVE) {
        found = {&identity, version.get()};
      }
    }
    if (found.identity != nullptr && AnyRuleFits(identity.config.allow, peer)) {
      return found;
    }
  }
  return {};
}

absl::StatusOr<IdentityVersion*> IdentityStore::FindForSigning(
    const std::string& name, const std::string& version,
    const Peer& peer) const {
  const absl::Time now = clock_.Now();
  const std::shared_lock lock(versions_mutex_);
  const Found found = Find(name, peer);
  if (found.identity == nullptr) return IdentityNotFound(name);
  const std::string wanted = version.empty() && found.version != nullptr
                                 ? found.version->id()
                                 : version;
  for (const auto& each : found.identity->versions) {
    const IdentityLifecycle lifecycle = each->lifecycle();
    const bool active = lifecycle.state == v1::IDENTITY_STATE_ACTIVE;
    if (wanted.empty() ? !active : each->id() != wanted) continue;
    const bool overlaps = lifecycle.state == v1::IDENTITY_STATE_RETIRED &&
                          now < lifecycle.signs_until;
    if (active || overlaps) return each.get();
    return NotSigning(*each, lifecycle.state);
  }
  return WithSubject(
      MakeError(absl::StatusCode::kNotFound, v1::STAGE_POLICY,
                v1::REASON_IDENTITY_NOT_FOUND,
                wanted.empty() ? "the identity has no active version"
                               : "the identity has no version " + wanted),
      name);
}

absl::StatusOr<IdentityVersion*> IdentityStore::FindForDisplay(
    const std::string& name, const Peer& peer) const {
  const std::shared_lock lock(versions_mutex_);
  const Found found = Find(name, peer);
  if (found.identity == nullptr) return IdentityNotFound(name);
  if (found.version != nullptr) return found.version;
  for (const auto& each : found.identity->versions) {
    if (each->state() == v1::IDENTITY_STATE_ACTIVE) return each.get();
  }
  return found.identity->versions.front().get();
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

std::vector<std::string> IdentityStore::Names() const {
  std::vector<std::string> names;
  for (const Identity& each : identities_) names.push_back(each.config.name);
  return names;
}

std::vector<IdentityVersion*> IdentityStore::Versions(
    const std::string& identity) const {
  std::vector<IdentityVersion*> versions;
  const std::shared_lock lock(versions_mutex_);
  for (const Identity& each : identities_) {
    if (each.config.name != identity) continue;
    for (const auto& version : each.versions) versions.push_back(version.get());
  }
  return versions;
}

absl::StatusOr<std::unique_ptr<IdentityVersion>> IdentityStore::MakeVersion(
    const std::string& identity, const IdentityVersionConfig& version) const {
  for (const Identity& each : identities_) {
    if (each.config.name == identity) return MakeVersion(each.config, version);
  }
  return IdentityNotFound(identity);
}

absl::StatusOr<IdentityVersion*> IdentityStore::Add(
    std::unique_ptr<IdentityVersion> version) {
  const IdentityRecord record = RecordOf(*version, version->lifecycle());
  if (options_.state != nullptr) {
    RETURN_IF_ERROR(options_.state->Save({&record, 1}));
  }
  const std::unique_lock lock(versions_mutex_);
  Identity* const identity = FindIdentity(version->name());
  if (identity == nullptr) return IdentityNotFound(version->name());
  return identity->versions.emplace_back(std::move(version)).get();
}

absl::Status IdentityStore::Apply(std::span<const Change> changes) {
  if (options_.state != nullptr) {
    std::vector<IdentityRecord> records;
    for (const Change& each : changes) {
      records.push_back(RecordOf(*each.version, each.lifecycle));
    }
    RETURN_IF_ERROR(options_.state->Save(records));
  }
  const std::unique_lock lock(versions_mutex_);
  for (const Change& each : changes) {
    each.version->SetLifecycle(each.lifecycle);
  }
  return absl::OkStatus();
}

const IdentityVersion* IdentityStore::Predecessor(
    const IdentityVersion& version) const {
  const IdentityVersion* last = nullptr;
  for (const IdentityVersion* each : Versions(version.name())) {
    if (each->id() == version.id()) continue;
    const IdentityLifecycle lifecycle = each->lifecycle();
    if (lifecycle.state == v1::IDENTITY_STATE_ACTIVE) return each;
    if (!WasActive(lifecycle)) continue;
    if (last == nullptr || lifecycle.since >= last->lifecycle().since) {
      last = each;
    }
  }
  return last;
}

absl::Status IdentityStore::CheckSuccession(
    const IdentityVersion& before, const IdentityVersion& after) const {
  const absl::Status status =
      CheckContinuity(before.chain(), after.chain(), options_.is_apple_root);
  return WithSubject(status,
                     "version " + after.id() + " after version " + before.id());
}

std::string IdentityStore::Requirement(const IdentityVersion& version) const {
  return DescribeDesignated(version.chain(), options_.is_apple_root);
}

absl::Status IdentityStore::LoadVersionKeys(IdentityVersion& version) const {
  absl::Status first_fault;
  for (size_t place = 0; place < version.tokens().size(); ++place) {
    const TokenConfig& token = version.tokens()[place]->token->config();
    first_fault.Update(
        LoadKey(version, place, absl::Now() + token.operation_timeout)
            .status());
  }
  return first_fault;
}

}  // namespace codeseal
