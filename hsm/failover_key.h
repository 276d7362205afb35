// One key that several tokens hold, such as an HSM and its clone. Each
// signature comes from the first token that makes it in time, never from
// another key.
//
//   KeyBackend -> [FailoverKey] -> key on token a
//                               -> the same key on token b

#ifndef CODESEAL_HSM_FAILOVER_KEY_H_
#define CODESEAL_HSM_FAILOVER_KEY_H_

#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "codesign/base/bytes.h"
#include "hsm/key_backend.h"

namespace codeseal {

// Thread-safe. Tokens have places, in the order of preference; a place stays
// empty until its token has answered.
class FailoverKey : public KeyBackend {
 public:
  // `public_key` is the SubjectPublicKeyInfo that every key must have.
  FailoverKey(Bytes public_key, size_t place_count);

  // Errors: FAILED_PRECONDITION STAGE_TOKEN REASON_KEY_MISMATCH when `key` has
  // another public key; the place stays as it was.
  absl::Status SetKey(size_t place, std::shared_ptr<KeyBackend> key);

  ByteView public_key() const override { return public_key_; }

  // Asks one token after the other. A token gets its share of the time that is
  // left, so that the last has time, too. The token that signed is asked first
  // from then on; a better one is tried again after a while.
  // Errors: the last token's; UNAVAILABLE REASON_TOKEN_DOWN while all places
  // are empty. What no token can change (a digest that does not fit) ends the
  // search at once.
  absl::StatusOr<Bytes> Sign(SignMechanism mechanism, SignDigest digest_kind,
                             ByteView digest, absl::Time deadline) override;

  // Nobody knows which of them signed: all must prove themselves.
  void Distrust(const absl::Status& why) override;

 private:
  struct Place {
    size_t number = 0;
    std::shared_ptr<KeyBackend> key;
  };
  // The keys that are there, in the order to ask them.
  std::vector<Place> Order();
  void NoteSigned(size_t number);

  const Bytes public_key_;
  std::mutex mutex_;
  std::vector<std::shared_ptr<KeyBackend>> keys_;  // by place; null: empty
  size_t preferred_ = 0;                           // place that signed last
  absl::Time return_at_ = absl::InfinitePast();    // to the first place
};

}  // namespace codeseal

#endif  // CODESEAL_HSM_FAILOVER_KEY_H_
