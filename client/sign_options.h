// The words of codesign's signing options, given their meaning.
//
//   SignCommand (text) -> SigningOptions -> SigningPlan
//
// Spec: codesign(1), OPTIONS; Security SecCodeSigner.h, preserve metadata.

#ifndef CODESEAL_CLIENT_SIGN_OPTIONS_H_
#define CODESEAL_CLIENT_SIGN_OPTIONS_H_

#include <string>

#include "absl/status/statusor.h"
#include "client/commands.h"
#include "codeseal/v1/signing.pb.h"
#include "codesign/base/bytes.h"
#include "codesign/signing_plan.h"

namespace codeseal::client {

// Reads the files that the options name.
// Errors: INVALID_ARGUMENT STAGE_USAGE REASON_BAD_OPTION with the option as
// subject; the faults of files; REASON_REQUIREMENT_SYNTAX.
absl::StatusOr<SigningOptions> ReadSigningOptions(const SignCommand& command);

// The entitlements that an option names: what BuildEntitlements() takes.
// Errors: those of ReadSmallFile(); BuildEntitlements()'s, with the file as
// subject.
absl::StatusOr<Bytes> LoadEntitlements(const std::string& path);

struct TimestampWish {
  v1::TimestampMode mode = v1::TIMESTAMP_MODE_UNSPECIFIED;
  std::string url;  // of a certain authority; empty: the signer's own choice
};
// "" leaves it to the signer; "none"; "default", or the URL of an authority.
// Errors: REASON_BAD_OPTION.
absl::StatusOr<TimestampWish> ReadTimestampWish(const std::string& text);

// A compiled requirement (fade0c00) or set (fade0c01) from "=TEXT", or from the
// file of that name, which holds text or is compiled already; "-" is standard
// input.
// "$self.identifier" in text stands for `identifier`.
absl::StatusOr<Bytes> ReadRequirementBlob(const std::string& argument,
                                          const std::string& identifier);

// The same as a set: a single requirement becomes the designated one.
absl::StatusOr<Bytes> ReadRequirementSet(const std::string& argument,
                                         const std::string& identifier);

// The set for `options`: now, or, when the text has $self.identifier, once the
// identifier of what is signed is known.
absl::Status SetRequirements(const std::string& argument,
                             SigningOptions& options);

// The same, but it must be a single requirement, as -R wants it.
absl::StatusOr<Bytes> ReadRequirement(const std::string& argument);

}  // namespace codeseal::client

#endif  // CODESEAL_CLIENT_SIGN_OPTIONS_H_
