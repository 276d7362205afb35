// Signs what is at one path: a file, or a bundle with all that is nested in it.
//
//   path -> BundlePlan -> seals, SigningPlans -> [CodeSigning] -> one commit
//
// A bundle's seal has the cdhash and the designated requirement of the code
// nested in it, neither of which depends on a signature: so everything is
// hashed and sealed first, inside-out, and all signatures are asked for
// together. Only code that is sealed byte for byte has to be written before the
// seal around it can be made; that begins another stage.
//
//   while (auto items = signing.PlanStage(); !items.empty())
//     signing.WriteStage(signatures of items);
//   signing.Commit();
//
// Spec: Security, signer.cpp: SecCodeSigner::Signer, prepare and
// buildResources.

#ifndef CODESEAL_CODESIGN_CODE_SIGNING_H_
#define CODESEAL_CODESIGN_CODE_SIGNING_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "codesign/bundle/bundle_plan.h"
#include "codesign/bundle/resource_rules.h"
#include "codesign/cms/certificate.h"
#include "codesign/signing_plan.h"

namespace codeseal {

// How far hashing is.
struct HashingProgress {
  std::string path;  // what is being hashed
  size_t item_count = 0;
  size_t items_done = 0;
  uint64_t size = 0;  // bytes of all files
  uint64_t size_done = 0;
};

struct CodeSigningOptions {
  PlanOptions plan;
  // The options of one item. `path` is relative to the path that is signed, ""
  // for that itself. Called from the calling thread.
  std::function<absl::StatusOr<SigningOptions>(const std::string& path)>
      options_of;
  std::vector<Certificate> chain;  // as for SigningPlan::Create()
  ResourceRuleSet rule_set = ResourceRuleSet::kDefault;
  bool writes_version1_seal = true;  // false: --no-legacy-signing
  bool seals_root = false;           // --seal-root
  // Where the signature goes when the code must stay as it is: see
  // detached_signature.h. One signature has no room for nested code, which must
  // be signed already.
  std::string detached_path = {};
  // Called now and then, one call at a time, from any thread.
  std::function<void(const HashingProgress&)> on_progress;
};

// One piece of code that needs a signature.
struct CodeToSign {
  std::string path;             // as people name it: the folder of a bundle
  std::string format;           // "app bundle with Mach-O thin (arm64)"
  SigningPlan* plan = nullptr;  // lives as long as the CodeSigning
};

// Movable; one thread at a time.
class CodeSigning {
 public:
  // Looks at everything, hashes nothing and writes nothing. The main executable
  // of a bundle stands for the bundle. Nested code that is signed already is
  // left as it is unless its options have `force`, and so is what is in it.
  //
  // Errors, with the path as subject: those of BundlePlan and OpenCode();
  // REASON_ALREADY_SIGNED; strict errors of bundles that are to be signed;
  // those of options_of.
  static absl::StatusOr<CodeSigning> Create(const std::string& path,
                                            CodeSigningOptions options);

  CodeSigning(CodeSigning&&) noexcept;
  CodeSigning& operator=(CodeSigning&&) noexcept;
  ~CodeSigning();

  // Hashes and seals the items of the next stage, inside-out. Empty after the
  // last stage. Without WriteStage() in between, a later stage seals what is on
  // disk: good enough for a dry run.
  //
  // Errors: those of SigningPlan::Create() and SealResources();
  // FAILED_PRECONDITION REASON_UNSIGNED_NESTED_CODE for nested code that has
  // no signature and gets none; REASON_WEAK_RESOURCE_RULES.
  absl::StatusOr<std::span<const CodeToSign>> PlanStage();

  // The items of all stages that PlanStage() has planned.
  std::span<const CodeToSign> planned() const;

  // Writes the signed files of the last planned stage to where Commit() finds
  // them. `cms` has for each item what SigningPlan::Stage() wants.
  // Errors: those of SigningPlan::Stage() and StagedTree.
  absl::Status WriteStage(std::span<const std::vector<Bytes>> cms);

  // Everything that was written takes effect at once: see StagedTree. Before
  // and after any error, the path is as it was.
  absl::Status Commit();

 private:
  struct Impl;
  explicit CodeSigning(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_CODE_SIGNING_H_
