// The identities of the configuration with their certificates, and with their
// keys once the tokens have answered. A token that is down makes its identities
// unavailable and nothing else.
//
//   ServerConfig -> [IdentityStore] -> IdentityVersion -> key on a token

#ifndef CODESEAL_SERVER_IDENTITY_STORE_H_
#define CODESEAL_SERVER_IDENTITY_STORE_H_

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "codeseal/v1/error_detail.pb.h"
#include "codesign/cms/certificate.h"
#include "hsm/failover_key.h"
#include "hsm/provider.h"
#include "hsm/token.h"
#include "server/config.h"
#include "server/peer.h"
#include "server/signing_pool.h"

namespace codeseal {

// A token with the threads that work for it.
struct TokenService {
  std::shared_ptr<Token> token;
  std::unique_ptr<SigningPool> pool;
};

// Thread-safe. Everything but the key and its state is immutable.
class IdentityVersion {
 public:
  IdentityVersion(const IdentityConfig& identity,
                  const IdentityVersionConfig& version,
                  std::vector<Certificate> chain,
                  std::vector<TokenService*> tokens);

  const std::string& name() const { return identity_.name; }
  const std::string& id() const { return version_.id; }
  v1::IdentityState state() const { return version_.state; }
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
  // Errors: why it is not there, as SetFault() was told.
  absl::StatusOr<std::shared_ptr<evp_pkey_st>> key() const;
  // The key that config().keys[place] names.
  // Errors: those of MakeTokenPkey() and FailoverKey::SetKey().
  absl::Status SetKey(size_t place, std::shared_ptr<KeyBackend> key);
  // What the token last said against this key; OK when it worked.
  void SetFault(const absl::Status& fault);
  absl::Status fault() const;
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
  std::shared_ptr<evp_pkey_st> key_;
  absl::Status fault_;
};

// Thread-safe but for Create(), LoadKeys() and the destructor.
class IdentityStore {
 public:
  using TokenFactory =
      std::function<absl::StatusOr<std::shared_ptr<Token>>(const TokenConfig&)>;

  // Reads the certificates; no token is touched.
  // Errors: INVALID_ARGUMENT REASON_BAD_CONFIG with everything that is wrong.
  static absl::StatusOr<std::unique_ptr<IdentityStore>> Create(
      const ServerConfig& config, const TokenFactory& make_token);
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

  // As Token::ClearPinHold(), by the token's name.
  // Errors: NOT_FOUND REASON_TOKEN_NOT_FOUND when no token has the name.
  absl::Status ClearPinHold(const std::string& token, absl::Time deadline);

  // The version that signs: `version`, or the active one when it is empty.
  // `name` may be the leaf's SHA-1 in hexadecimal. An identity that the peer
  // may not use does not exist for it.
  // Errors: NOT_FOUND REASON_IDENTITY_NOT_FOUND; FAILED_PRECONDITION
  // REASON_IDENTITY_DISABLED for a version that is not active.
  absl::StatusOr<IdentityVersion*> FindForSigning(const std::string& name,
                                                  const std::string& version,
                                                  const Peer& peer) const;
  // The active version, else the first; any state.
  absl::StatusOr<IdentityVersion*> FindForDisplay(const std::string& name,
                                                  const Peer& peer) const;
  // One version of every identity that the peer may use.
  std::vector<IdentityVersion*> ListForDisplay(const Peer& peer) const;

 private:
  struct Identity {
    IdentityConfig config;
    std::vector<std::unique_ptr<IdentityVersion>> versions;  // never empty
  };

  IdentityStore() = default;

  const Identity* Find(const std::string& name, const Peer& peer) const;
  // One key of a version on one token.
  struct KeyPlace {
    IdentityVersion* version;
    size_t place;
    std::shared_ptr<KeyBackend> key;  // once it is loaded
  };

  void LoadKeysOf(TokenService& token);
  void Watch(TokenService& token, const std::vector<KeyPlace>& keys);
  // False when the store is to end.
  bool WaitFor(absl::Duration time);

  std::vector<std::unique_ptr<TokenService>> tokens_;
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

}  // namespace codeseal

#endif  // CODESEAL_SERVER_IDENTITY_STORE_H_
