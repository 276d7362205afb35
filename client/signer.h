// Who makes the signatures: a server, or a token on this machine. Commands see
// only this interface.
//
//   SlicePlan -> Signer -> CMS, checked -> SigningPlan::WriteSigned

#ifndef CODESEAL_CLIENT_SIGNER_H_
#define CODESEAL_CLIENT_SIGNER_H_

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "codesign/base/bytes.h"
#include "codesign/cms/certificate.h"
#include "codesign/image/package_plan.h"
#include "codesign/signing_plan.h"

namespace codeseal::client {

// What one may sign with.
struct SigningIdentity {
  std::string name;                 // as the signer calls it
  std::string version;              // empty when the signer has no versions
  std::string state;                // "active", "staged", ...
  std::vector<Certificate> chain;   // leaf first, root last
  std::string unavailable_because;  // empty: it can sign now
};

// One slice and where it comes from. Borrows the plan.
struct SliceToSign {
  std::string path;
  const SlicePlan* plan = nullptr;
};

struct SliceSignature {
  Bytes cms;               // ContentInfo; empty when it was only judged
  std::string request_id;  // empty without a server
  std::optional<absl::Time> signing_time;
  std::optional<absl::Time> timestamp;  // the authority's, if there is a token
  bool replayed = false;                // the result of an earlier request
  std::string receipt;  // of the server's audit log; empty without one
};

// Both signatures of a flat package.
struct PackageSignatures {
  Bytes rsa;               // empty when it was only judged
  Bytes cms;               // ContentInfo; empty when it was only judged
  std::string request_id;  // empty without a server
  std::optional<absl::Time> signing_time;
  std::optional<absl::Time> timestamp;  // the authority's, if there is a token
  bool replayed = false;                // the result of an earlier request
  std::string receipt;  // of the server's audit log; empty without one
};

// How far Sign() is: `done` of `total` slices are answered.
using SignProgress = std::function<void(size_t done, size_t total)>;

// One thread at a time.
class Signer {
 public:
  virtual ~Signer() = default;

  // `name`: an identity's name, or the SHA-1 of its leaf in hexadecimal.
  // Errors: NOT_FOUND REASON_IDENTITY_NOT_FOUND; the faults of connections and
  // tokens.
  virtual absl::StatusOr<SigningIdentity> GetIdentity(
      const std::string& name) = 0;

  virtual absl::StatusOr<std::vector<SigningIdentity>> ListIdentities() = 0;

  // One result for each slice, in order. A slice's fault leaves the others
  // alone. The signatures are not checked: see CheckSignature().
  virtual std::vector<absl::StatusOr<SliceSignature>> Sign(
      const SigningIdentity& identity, std::span<const SliceToSign> slices,
      const SignProgress& progress) = 0;

  // An installer package. The signatures are not checked: see
  // CheckPackageSignatures().
  virtual absl::StatusOr<PackageSignatures> SignPackage(
      const SigningIdentity& identity, const PackagePlan& plan) = 0;
};

// That `cms` is a signature of this slice's CodeDirectories by the identity's
// leaf, and that a timestamp in it is this signature's: nothing is embedded on
// a signer's word alone.
// Errors: INTERNAL REASON_SELF_VERIFY_FAILED.
absl::Status CheckSignature(const SlicePlan& slice,
                            const SigningIdentity& identity, ByteView cms);

// The same for both signatures of a package.
absl::Status CheckPackageSignatures(const PackagePlan& plan,
                                    const SigningIdentity& identity,
                                    const PackageSignatures& signatures);

}  // namespace codeseal::client

#endif  // CODESEAL_CLIENT_SIGNER_H_
