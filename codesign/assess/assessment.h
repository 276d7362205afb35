// Gatekeeper's answer: would macOS let a user open this, and on whose word?
//
//   path -> Verify (deep) -> signer, ticket, libraries -> [Assessment]
//
// Spec: Security, policyengine.cpp and syspolicy.sql; spctl(8); Apple TN2206.
//       The stock rules, not those that a user or an administrator added.

#ifndef CODESEAL_CODESIGN_ASSESS_ASSESSMENT_H_
#define CODESEAL_CODESIGN_ASSESS_ASSESSMENT_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "codesign/assess/finding.h"
#include "codesign/assess/signer_kind.h"
#include "codesign/cms/certificate.h"

namespace codeseal {

enum class AssessmentType { kExecute, kOpen, kInstall };

// The rule that decided, by spctl's labels.
enum class AssessmentSource {
  kNone,  // signed, and no rule fits
  kAppleSystem,
  kAppleInstaller,
  kMacAppStore,
  kNotarizedDeveloperId,
  kDeveloperId,
  kUnnotarizedDeveloperId,
  kNoUsableSignature,
  kObsoleteResourceEnvelope,
  kInsufficientContext,
};
// "Notarized Developer ID"; empty for kNone.
std::string_view AssessmentSourceName(AssessmentSource source);

struct AssessOptions {
  AssessmentType type = AssessmentType::kExecute;
  // Roots that count as Apple's, for code signed by a CA of one's own.
  std::vector<Certificate> anchors = {};
  // kOpen: spctl asks to be told that the signature of the document itself
  // counts (--context context:primary-signature).
  bool has_context = true;
  absl::Time now = absl::Now();  // tests choose it
};

struct Assessment {
  std::string path;
  bool accepted = false;
  AssessmentSource source = AssessmentSource::kNone;
  SignerKind signer = SignerKind::kNone;
  std::string origin;  // common name of the leaf; empty without one
  // Not OK: the signature does not hold. spctl then says what is wrong with it
  // instead of an answer.
  absl::Status broken;
  std::string broken_words;         // Apple's, for that
  std::string broken_subcomponent;  // path of nested code to blame, or ""
  // Apple's words behind "rejected", for valid code that is no app.
  std::string remark;
  // Every reason against it, and what is worth knowing.
  std::vector<Finding> findings;
  // What only a Mac, a network or Apple could tell: the answer is the one of a
  // Mac without network whose stapled tickets are genuine.
  std::vector<std::string> undecided;
};

// Errors: those of opening it; everything else is in the assessment.
absl::StatusOr<Assessment> Assess(const std::string& path,
                                  const AssessOptions& options);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_ASSESS_ASSESSMENT_H_
