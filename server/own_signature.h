// Judges what the server itself is about to sign and has signed, by the same
// code as `codeseal verify`: no signature leaves that the verifier would not
// accept.
//
//   identity's chain -> [CheckSigner] -> token signs -> [CheckSigned] -> reply

#ifndef CODESEAL_SERVER_OWN_SIGNATURE_H_
#define CODESEAL_SERVER_OWN_SIGNATURE_H_

#include <map>
#include <mutex>
#include <span>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "codesign/base/bytes.h"
#include "codesign/cms/apple_cms.h"
#include "codesign/cms/certificate.h"
#include "server/request_check.h"

namespace codeseal {

// Thread-safe.
class OwnSignatureCheck {
 public:
  // Whether the verifier would take a signature by this chain (leaf first) for
  // what is asked, at `now`. The chain is judged once: that does not change.
  // Errors: those of JudgeSigner().
  absl::Status CheckSigner(const CheckedRequest& request,
                           std::span<const Certificate> chain, absl::Time now);

  // Whether `cms` is a signature by `chain` of just what was asked.
  // Errors: DATA_LOSS REASON_SELF_VERIFY_FAILED.
  static absl::Status CheckSigned(ByteView cms, const CmsContent& content,
                                  std::span<const Certificate> chain);

 private:
  std::mutex mutex_;
  // By the SHA-256 of the chain and what it is for. Chains come from the
  // configuration, so these are few.
  std::map<Bytes, absl::Status> judged_;  // guarded by mutex_
};

}  // namespace codeseal

#endif  // CODESEAL_SERVER_OWN_SIGNATURE_H_
