#include "server/workload_identity.h"

#include <curl/curl.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "absl/time/clock.h"
#include "codesign/base/error.h"
#include "codesign/base/mapped_file.h"
#include "server/json_web_token.h"
#include "server/log.h"
#include "server/watched_files.h"

namespace codeseal {
namespace {

// Tokens with unknown keys make us ask this often at most.
constexpr absl::Duration kShortestRefresh = absl::Seconds(10);
constexpr long kFetchTimeoutMs = 5000;
// No job needs a token that is good for longer.
constexpr absl::Duration kLongestLife = absl::Hours(24);

size_t TakeBytes(const char* bytes, size_t, size_t size, void* to) {
  auto& text = *static_cast<std::string*>(to);
  if (size > kMaxKeySetSize - text.size()) return 0;
  text.append(bytes, size);
  return size;
}

absl::StatusOr<std::string> FetchKeySet(const std::string& url) {
  struct Cleanup {
    void operator()(CURL* easy) const { curl_easy_cleanup(easy); }
  };
  curl_global_init(CURL_GLOBAL_DEFAULT);
  const std::unique_ptr<CURL, Cleanup> easy(curl_easy_init());
  std::string text;
  CURLcode code = CURLE_OUT_OF_MEMORY;
  long status = 0;
  if (easy != nullptr) {
    const auto set = [&](CURLoption option, auto value) {
      curl_easy_setopt(easy.get(), option, value);
    };
    set(CURLOPT_URL, url.c_str());
    set(CURLOPT_PROTOCOLS_STR, "http,https");
    set(CURLOPT_FOLLOWLOCATION, 0L);
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_TIMEOUT_MS, kFetchTimeoutMs);
    set(CURLOPT_WRITEFUNCTION, &TakeBytes);
    set(CURLOPT_WRITEDATA, static_cast<void*>(&text));
    code = curl_easy_perform(easy.get());
    curl_easy_getinfo(easy.get(), CURLINFO_RESPONSE_CODE, &status);
  }
  if (code == CURLE_OK && status == 200) return text;
  return MakeError(absl::StatusCode::kUnavailable, v1::STAGE_POLICY,
                   v1::REASON_BAD_IDENTITY_TOKEN,
                   "cannot fetch the keys from " + url + ": " +
                       (code == CURLE_OK ? "HTTP " + std::to_string(status)
                                         : curl_easy_strerror(code)));
}

absl::StatusOr<std::vector<JsonWebKey>> ReadKeyFile(const std::string& path) {
  ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  absl::StatusOr<std::vector<JsonWebKey>> keys =
      ParseJsonWebKeys(AsText(file.bytes()));
  return keys.ok() ? keys : WithSubject(keys.status(), path);
}

}  // namespace

// One issuer with its keys.
class WorkloadVerifier::Provider {
 public:
  explicit Provider(OidcProviderConfig config)
      : config_(std::move(config)), files_({config_.keys_file}) {}
  ~Provider() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_one();
    if (fetcher_.joinable()) fetcher_.join();
  }
  Provider(const Provider&) = delete;
  Provider& operator=(const Provider&) = delete;

  // Reads the file, or begins to fetch.
  absl::Status Start() {
    if (config_.keys_file.empty()) {
      fetcher_ = std::thread([this] { FetchAgainAndAgain(); });
      return absl::OkStatus();
    }
    ASSIGN_OR_RETURN(keys_, ReadKeyFile(config_.keys_file));
    if (!keys_.empty()) return absl::OkStatus();
    return WithSubject(
        MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_USAGE,
                  v1::REASON_BAD_CONFIG,
                  "the key set has no RSA or P-256 key for signatures"),
        config_.keys_file);
  }

  const OidcProviderConfig& config() const { return config_; }

  absl::Status CheckSignature(const JsonWebToken& token) {
    const std::vector<JsonWebKey> keys = KeysFor(token);
    if (keys.empty()) return UnknownKey();
    absl::Status status;
    for (const JsonWebKey& each : keys) {
      status = CheckTokenSignature(token, each);
      if (status.ok()) return status;
    }
    return status;
  }

 private:
  // Those that may have signed it: by id, or all when it names none.
  std::vector<JsonWebKey> KeysFor(const JsonWebToken& token) {
    const std::lock_guard lock(mutex_);
    if (!config_.keys_file.empty()) ReloadIfChanged();
    std::vector<JsonWebKey> fitting;
    std::copy_if(keys_.begin(), keys_.end(), std::back_inserter(fitting),
                 [&](const JsonWebKey& key) {
                   return token.key_id.empty() || key.id == token.key_id;
                 });
    return fitting;
  }

  absl::Status UnknownKey() {
    const std::lock_guard lock(mutex_);
    const absl::Time now = absl::Now();
    const bool fetching =
        !config_.keys_url.empty() &&
        (is_fetching_ || now >= fetched_at_ + kShortestRefresh);
    if (!fetching) return BadIdentityToken("nobody knows its key");
    is_fetching_ = true;
    changed_.notify_one();
    return MakeError(absl::StatusCode::kUnavailable, v1::STAGE_POLICY,
                     v1::REASON_BAD_IDENTITY_TOKEN,
                     "the key of the identity token is being fetched");
  }

  void ReloadIfChanged() {
    if (!files_.IsTimeToLook(absl::Now()) || !files_.HaveChanged()) return;
    TakeKeys(ReadKeyFile(config_.keys_file));
  }

  // The last good keys stay when there are no new ones.
  void TakeKeys(absl::StatusOr<std::vector<JsonWebKey>> keys) {
    if (keys.ok() && keys->empty()) {
      keys = BadIdentityToken("the new key set has no key that we can use");
    }
    if (keys.ok()) {
      keys_ = *std::move(keys);
      Log(LogLevel::kInfo, "identity_keys_loaded",
          {{"provider", config_.name}, {"keys", std::to_string(keys_.size())}});
    } else {
      LogStatus(LogLevel::kError, "identity_keys_unreadable", keys.status(),
                {{"provider", config_.name}});
    }
  }

  void FetchAgainAndAgain() {
    std::unique_lock lock(mutex_);
    is_fetching_ = true;
    while (!stopping_) {
      lock.unlock();
      const absl::StatusOr<std::string> text = FetchKeySet(config_.keys_url);
      absl::StatusOr<std::vector<JsonWebKey>> keys =
          text.ok() ? ParseJsonWebKeys(*text)
                    : absl::StatusOr<std::vector<JsonWebKey>>(text.status());
      lock.lock();
      const bool fetched = keys.ok();
      TakeKeys(std::move(keys));
      fetched_at_ = absl::Now();
      is_fetching_ = false;
      const absl::Duration pause =
          fetched ? config_.refresh
                  : std::min(config_.refresh, kShortestRefresh);
      changed_.wait_for(lock, absl::ToChronoNanoseconds(pause),
                        [this] { return stopping_ || is_fetching_; });
    }
  }

  const OidcProviderConfig config_;
  std::mutex mutex_;
  WatchedFiles files_;  // the one, if keys are in a file
  std::vector<JsonWebKey> keys_;
  absl::Time fetched_at_ = absl::InfinitePast();
  bool is_fetching_ = false;  // or asked to
  bool stopping_ = false;
  std::condition_variable changed_;
  std::thread fetcher_;
};

WorkloadVerifier::WorkloadVerifier(const Clock& clock) : clock_(clock) {}
WorkloadVerifier::~WorkloadVerifier() = default;

absl::StatusOr<std::unique_ptr<WorkloadVerifier>> WorkloadVerifier::Create(
    const std::vector<OidcProviderConfig>& providers, const Clock& clock) {
  std::unique_ptr<WorkloadVerifier> verifier(new WorkloadVerifier(clock));
  for (const OidcProviderConfig& each : providers) {
    auto provider = std::make_unique<Provider>(each);
    RETURN_IF_ERROR(provider->Start());
    verifier->providers_.push_back(std::move(provider));
  }
  return verifier;
}

absl::StatusOr<std::shared_ptr<const WorkloadIdentity>>
WorkloadVerifier::Verify(std::string_view text) {
  ASSIGN_OR_RETURN(JsonWebToken token, ParseJsonWebToken(text));
  const std::string issuer = token.claims["iss"];
  const auto provider = std::find_if(
      providers_.begin(), providers_.end(),
      [&](const auto& each) { return each->config().issuer == issuer; });
  if (provider == providers_.end()) {
    return BadIdentityToken("nobody knows its issuer");
  }
  const OidcProviderConfig& config = (*provider)->config();
  // The algorithm is ours to choose: "none", and secrets made of public keys,
  // never get as far as a signature.
  if (std::find(config.algorithms.begin(), config.algorithms.end(),
                token.algorithm) == config.algorithms.end()) {
    return BadIdentityToken("its algorithm is not allowed");
  }
  RETURN_IF_ERROR((*provider)->CheckSignature(token));
  if (std::find(token.audiences.begin(), token.audiences.end(),
                config.audience) == token.audiences.end()) {
    return BadIdentityToken("it is for another audience");
  }
  const absl::Time now = clock_.Now();
  if (now >= token.expires_at + config.leeway) {
    return BadIdentityToken("it has expired");
  }
  if (token.expires_at > now + kLongestLife) {
    return BadIdentityToken("it is valid for too long");
  }
  if (now + config.leeway < token.not_before ||
      now + config.leeway < token.issued_at) {
    return BadIdentityToken("it is not valid yet");
  }
  if (now > token.issued_at + config.max_age) {
    return BadIdentityToken("it was issued too long ago");
  }
  if (token.claims["jti"].empty()) return BadIdentityToken("it has no jti");
  auto workload = std::make_shared<WorkloadIdentity>();
  workload->provider = config.name;
  workload->issuer = config.issuer;
  workload->token_id = token.claims["jti"];
  workload->expires_at = token.expires_at + config.leeway;
  workload->claims = std::move(token.claims);
  return std::shared_ptr<const WorkloadIdentity>(std::move(workload));
}

}  // namespace codeseal
