// Launch and library constraints: what the system demands of the code itself,
// of its parent, of the process responsible for it, or of libraries that it
// loads. The author gives a property list of facts and operators.
//
//   plist -> [constraint blob] -> special slots 8 to 11
//
// Spec: Apple, "Defining launch environment and library constraints"; Security
//       signer.cpp and CoreEntitlements for the DER form. Rules LC-*.

#ifndef CODESEAL_CODESIGN_LAUNCH_CONSTRAINT_H_
#define CODESEAL_CODESIGN_LAUNCH_CONSTRAINT_H_

#include "absl/status/statusor.h"
#include "codesign/base/bytes.h"
#include "codesign/bundle/property_list.h"

namespace codeseal {

// The blob (fade8181) of a property list, XML or binary; or `plist` itself when
// it is such a blob already. Facts that this version does not know are taken as
// they are: newer systems know more. Values of known facts, and the shape of
// every operator, are checked, because a system that cannot read a constraint
// does not start the program.
// Errors: INVALID_ARGUMENT REASON_BAD_PLIST with the key as subject and the
// rule; what ParseEntitlementsDer() returns.
absl::StatusOr<Bytes> BuildLaunchConstraint(ByteView plist);

// The facts in a blob.
// Errors: INVALID_ARGUMENT REASON_BAD_PLIST when it has no facts; what
// ParseEntitlementsDer() returns.
absl::StatusOr<PlistDict> ParseLaunchConstraint(ByteView blob);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_LAUNCH_CONSTRAINT_H_
