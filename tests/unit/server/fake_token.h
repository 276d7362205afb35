// A token of the test's own making: a software key, and faults on demand.

#ifndef CODESEAL_TESTS_UNIT_SERVER_FAKE_TOKEN_H_
#define CODESEAL_TESTS_UNIT_SERVER_FAKE_TOKEN_H_

#include <functional>
#include <memory>
#include <mutex>
#include <utility>

#include "codesign/base/error.h"
#include "hsm/token.h"
#include "tests/support/software_key.h"

namespace codeseal::testing {

// Thread-safe. Only LoadKey() and the key's Sign() do anything.
class FakeToken : public Token {
 public:
  using SignHook = std::function<absl::StatusOr<Bytes>(
      const std::function<absl::StatusOr<Bytes>()>& sign)>;

  FakeToken(TokenConfig config, std::shared_ptr<SoftwareKey> key)
      : config_(std::move(config)), key_(std::move(key)) {}

  // What LoadKey() returns from now on; OK for the key.
  void SetLoadFault(const absl::Status& fault) {
    const std::lock_guard lock(mutex_);
    load_fault_ = fault;
  }
  // Runs in place of each signature.
  void SetSignHook(SignHook hook) {
    const std::lock_guard lock(mutex_);
    hook_ = std::move(hook);
  }
  SoftwareKey& key() { return *key_; }
  int load_count() const {
    const std::lock_guard lock(mutex_);
    return load_count_;
  }

  absl::StatusOr<std::shared_ptr<KeyBackend>> LoadKey(
      const KeyReference& /*key*/, KeyPolicy /*policy*/,
      ByteView /*certificate_der*/, absl::Time /*deadline*/) override {
    const std::lock_guard lock(mutex_);
    ++load_count_;
    if (!load_fault_.ok()) return load_fault_;
    return std::make_shared<Key>(*this);
  }
  absl::StatusOr<TokenListing> List(absl::Time) override { return Nothing(); }
  absl::Status Probe(const KeyReference&, absl::Time) override {
    return Nothing();
  }
  absl::StatusOr<Bytes> GenerateKey(const KeyReference&, KeyAlgorithm,
                                    absl::Time) override {
    return Nothing();
  }
  absl::Status ImportCertificate(const KeyReference&, ByteView,
                                 absl::Time) override {
    return Nothing();
  }
  absl::Status ClearPinHold(absl::Time) override { return Nothing(); }
  const TokenConfig& config() const override { return config_; }

 private:
  class Key : public KeyBackend {
   public:
    explicit Key(FakeToken& token) : token_(token) {}
    ByteView public_key() const override { return token_.key_->public_key(); }
    absl::StatusOr<Bytes> Sign(SignMechanism mechanism, SignDigest digest_kind,
                               ByteView digest, absl::Time deadline) override {
      SignHook hook;
      {
        const std::lock_guard lock(token_.mutex_);
        hook = token_.hook_;
      }
      const auto sign = [&] {
        return token_.key_->Sign(mechanism, digest_kind, digest, deadline);
      };
      return hook ? hook(sign) : sign();
    }

   private:
    FakeToken& token_;
  };

  static absl::Status Nothing() {
    return absl::UnimplementedError("not a real token");
  }

  const TokenConfig config_;
  const std::shared_ptr<SoftwareKey> key_;
  mutable std::mutex mutex_;
  absl::Status load_fault_;
  SignHook hook_;
  int load_count_ = 0;
};

}  // namespace codeseal::testing

#endif  // CODESEAL_TESTS_UNIT_SERVER_FAKE_TOKEN_H_
