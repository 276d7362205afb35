// The identities of the configuration with their certificates, and with their
// keys once the tokens have answered. A token that is down makes its identities
// unavailable and nothing else.
//
//   ServerConfig, IdentityStateStore -> [IdentityStore] -> IdentityVersion
//     -> key on a token
//
// Which version signs changes while the server runs: identity_admin.h decides,
// this file puts it in force.

#ifndef CODESEAL_SERVER_IDENTITY_STORE_H_
#define CODESEAL_SERVER_IDENTITY_STORE_H_

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "codeseal/v1/error_detail.pb.h"
#include "codesign/base/clock.h"
#include "codesign/cms/certificate.h"
#include "hsm/failover_key.h"
#include "hsm/provider.h"
#include "hsm/token.h"
#include "server/config.h"
#include "server/identity_state.h"
#include "server/peer.h"
#include "server/signing_pool.h"

namespace codeseal {

// A token with the threads that work for it.
struct TokenService {
  std::shared_ptr<Token> token;
  std::unique_ptr<SigningPool> pool;
};

// Thread-safe. Everything but the key, its state and the lifecycle is
// immutable: whoever holds a version has a certificate and its key.
class IdentityVersion {
 public:
  IdentityVersion(const IdentityConfig& identity,
                  const IdentityVersionConfig& version,
                  std::vector<Certificate> chain,
                  std::vector<TokenService*> tokens);

  const std::string& name() const { return identity_.name; }
  const std::string& id() const { return version_.id; }
  v1::IdentityState state() const { return lifecycle().state; }
  IdentityLifecycle lifecycle() const;
  const IdentityConfig& identity() const { return identity_; }
  const IdentityVersionConfig& config() const { return version_; }
  // Leaf first, self-signed root last.
  const std::vector<Certificate>& chain() const { return chain_; }
  const Bytes& leaf_sha1() const { return leaf_sha1_; }
  // Of an Apple-issued leaf, else empty.
  const std::string& team() const { return team_; }
  // Where config().keys are, never empty; the first does the version's work.
  const std::vector<TokenService*>& tokens() const { return tokens_; }
  TokenService& token() const { return *tokens_.front(); }

  // The key as an EVP_PKEY, once the first of its tokens has answered; the
  // pointer keeps it alive.
  // Errors: why it is not there, as SetFault() was told; FAILED_PRECONDITION
  // REASON_IDENTITY_DISABLED for a version that signs nothing any more.
  absl::StatusOr<std::shared_ptr<evp_pkey_st>> key() const;
  // The key that config().keys[place] names.
  // Errors: those of MakeTokenPkey() and FailoverKey::SetKey().
  absl::Status SetKey(size_t place, std::shared_ptr<KeyBackend> key);
  // What the token last said against this key; OK when it worked.
  void SetFault(const absl::Status& fault);
  absl::Status fault() const;
  void SetLifecycle(const IdentityLifecycle& lifecycle);
  // A signature of the key did not verify.
  void Distrust(const absl::Status& why);

 private:
  const IdentityConfig identity_;
  const IdentityVersionConfig version_;
  const std::vector<Certificate> chain_;
  const Bytes leaf_sha1_;
  const std::string team_;
  const std::vector<TokenService*> tokens_;
  const std::shared_ptr<FailoverKey> backend_;
  mutable std::mutex mutex_;
  IdentityLifecycle lifecycle_;
  std::shared_ptr<evp_pkey_st> key_;
  absl::Status fault_;
};

struct IdentityStoreOptions {
  const Clock* clock = nullptr;               // null: the system's
  std::shared_ptr<IdentityStateStore> state;  // null: nothing is remembered
  // Tests have authorities of their own.
  bool (*is_apple_root)(const Certificate&) = &IsAppleRoot;
};

// Thread-safe but for Create(), LoadKeys() and the destructor. Versions live as
// long as the store.
class IdentityStore {
 public:
  using TokenFactory =
      std::function<absl::StatusOr<std::shared_ptr<Token>>(const TokenConfig&)>;

  // Reads the certificates, and what administrators did since the
  // configuration was written; no token is touched. Where the configuration
  // says another state than it did then, somebody edited it: it wins.
  // Errors: INVALID_ARGUMENT REASON_BAD_CONFIG with everything that is wrong,
  // a staged version that changes the designated requirement included; those
  // of IdentityStateStore::Load().
  static absl::StatusOr<std::unique_ptr<IdentityStore>> Create(
      const ServerConfig& config, const TokenFactory& make_token,
      IdentityStoreOptions options = {});
  ~IdentityStore();
  IdentityStore(const IdentityStore&) = delete;
  IdentityStore& operator=(const IdentityStore&) = delete;

  // Starts to load the keys of staged and active versions, each token on a
  // thread of its own, and returns when each was tried once, at the latest
  // after `wait`. Tokens that are down are tried again until they answer;
  // faults that only a new configuration can mend (a refused key) are logged
  // and not tried again. Afterwards the thread asks the token for a test
  // signature now and then, so that a dead token is known before it is needed.
  void LoadKeys(absl::Duration wait);

  // Stops the tokens' threads; nothing is signed any more.
  void Stop();

  // As Token::ClearPinHold(), by the token's name.
  // Errors: NOT_FOUND REASON_TOKEN_NOT_FOUND when no token has the name.
  absl::Status ClearPinHold(const std::string& token, absl::Time deadline);

  // Requests in the line of the token; 0 when there is none.
  size_t WaitingCount(const std::string& token) const;

  // A token of the configuration by its name; nullptr when there is none.
  std::shared_ptr<Token> FindToken(const std::string& name) const;

  // The version that signs: `version`, or the active one when it is empty.
  // `name` may be a leaf's SHA-1 in hexadecimal, which names its version, too.
  // A retired version signs for those who name it until its overlap ends. An
  // identity that the peer may not use does not exist for it.
  // Errors: NOT_FOUND REASON_IDENTITY_NOT_FOUND; FAILED_PRECONDITION
  // REASON_IDENTITY_DISABLED for a version that does not sign.
  absl::StatusOr<IdentityVersion*> FindForSigning(const std::string& name,
                                                  const std::string& version,
                                                  const Peer& peer) const;
  // The version that a SHA-1 names; else the active one, else the first.
  absl::StatusOr<IdentityVersion*> FindForDisplay(const std::string& name,
                                                  const Peer& peer) const;
  // One version of every identity that the peer may use.
  std::vector<IdentityVersion*> ListForDisplay(const Peer& peer) const;

  // For administrators, whatever peers may.

  std::vector<std::string> Names() const;
  // In the order of the configuration, then as they were staged; empty when
  // there is no such identity.
  std::vector<IdentityVersion*> Versions(const std::string& identity) const;

  // A version that the identity does not have yet.
  // Errors: NOT_FOUND REASON_IDENTITY_NOT_FOUND; those of certificates;
  // INVALID_ARGUMENT REASON_BAD_REQUEST for a token that is not there, or
  // another team's certificate.
  absl::StatusOr<std::unique_ptr<IdentityVersion>> MakeVersion(
      const std::string& identity, const IdentityVersionConfig& version) const;
  // Remembers the version and adds it. Errors: IdentityStateStore::Save()'s.
  absl::StatusOr<IdentityVersion*> Add(
      std::unique_ptr<IdentityVersion> version);

  struct Change {
    IdentityVersion* version;
    IdentityLifecycle lifecycle;
  };
  // Remembers the changes, then puts all of them in force in one step: no
  // request sees some of them. Errors: IdentityStateStore::Save()'s; then
  // nothing has changed.
  absl::Status Apply(std::span<const Change> changes);
  // Whether what is changed survives a restart.
  bool remembers() const { return options_.state != nullptr; }

  // Whose designated requirement the code of `version`'s identity has so far:
  // the active version, else the one that was active last. Null when there was
  // none.
  const IdentityVersion* Predecessor(const IdentityVersion& version) const;
  // CheckContinuity() with this store's idea of Apple's roots.
  absl::Status CheckSuccession(const IdentityVersion& before,
                               const IdentityVersion& after) const;
  std::string Requirement(const IdentityVersion& version) const;

  // Loads the version's key from all of its tokens. Errors: the first of them.
  absl::Status LoadVersionKeys(IdentityVersion& version) const;

 private:
  struct Identity {
    IdentityConfig config;
    std::vector<std::unique_ptr<IdentityVersion>> versions;  // never empty
  };

  explicit IdentityStore(IdentityStoreOptions options);

  // What a caller's name means; `version` only when it is a leaf's SHA-1.
  struct Found {
    const Identity* identity = nullptr;
    IdentityVersion* version = nullptr;
  };
  Found Find(const std::string& name, const Peer& peer) const;
  Identity* FindIdentity(const std::string& name);
  absl::StatusOr<std::unique_ptr<IdentityVersion>> MakeVersion(
      const IdentityConfig& identity,
      const IdentityVersionConfig& version) const;
  // Puts what is remembered in the place of what the configuration says.
  absl::Status Restore(std::vector<ConfigProblem>& problems);
  void KeepOneActive(Identity& identity);
  void CheckStaged(const Identity& identity,
                   std::vector<ConfigProblem>& problems) const;
  // One key of a version on one token.
  struct KeyPlace {
    IdentityVersion* version;
    size_t place;
    std::shared_ptr<KeyBackend> key;  // once it is loaded
  };

  // The keys that are wanted of this token.
  std::vector<KeyPlace> PlacesOn(const TokenService& token) const;
  void LoadKeysOf(TokenService& token);
  void Watch(TokenService& token, const std::vector<KeyPlace>& keys);
  // False when the store is to end.
  bool WaitFor(absl::Duration time);

  const IdentityStoreOptions options_;
  const Clock& clock_;
  std::vector<std::unique_ptr<TokenService>> tokens_;
  // Of the versions and, for readers, of all lifecycles at once.
  mutable std::shared_mutex versions_mutex_;
  std::vector<Identity> identities_;
  std::mutex mutex_;
  std::condition_variable changed_;
  size_t untried_token_count_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> loaders_;
};

// What an operator can do about a key that can't be used; empty when waiting
// is all.
std::string KeyHint(v1::Reason reason);

// "active".
std::string StateWord(v1::IdentityState state);

}  // namespace codeseal

#endif  // CODESEAL_SERVER_IDENTITY_STORE_H_
