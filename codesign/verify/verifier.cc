#include "codesign/verify/verifier.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "absl/strings/str_format.h"
#include "codesign/base/error.h"
#include "codesign/base/parallel.h"
#include "codesign/bundle/bundle_error.h"
#include "codesign/bundle/links.h"
#include "codesign/embedded_signature.h"
#include "codesign/requirement/compiler.h"
#include "codesign/verify/check_list.h"
#include "codesign/verify/part_verifier.h"
#include "codesign/verify/stored_code.h"

namespace codeseal {
namespace {

constexpr int kMaxDepth = 32;  // bundles inside bundles

// A bundle whose nested code is being verified, and those around it.
struct Enclosure {
  std::string base;  // real path
  int depth = 1;
  const ResourceScope* resource_scope = nullptr;
  const Enclosure* outer = nullptr;

  bool Contains(const std::string& other_base) const {
    return base == other_base ||
           (outer != nullptr && outer->Contains(other_base));
  }
};

// What the seal says of nested code, and where that is.
struct NestedItem {
  std::string path;           // on disk
  std::string relative_path;  // to the resource base
  std::string version;        // of a framework, if not the current one
  std::string requirement;
};

bool IsAboutRequirements(const Check& check) {
  return check.name == kCheckExplicitRequirement ||
         check.name == kCheckDesignatedRequirement;
}

// Judges one file or bundle, and what is nested in it.
class CodeVerifier {
 public:
  CodeVerifier(const StoredCode& code, const VerifyOptions& options,
               const VerifyScope& scope, const Enclosure* outer,
               VerificationReport& report)
      : code_(code),
        options_(options),
        scope_(scope),
        outer_(outer),
        report_(report),
        checks_(report.checks, code.path()) {}

  void Run() {
    report_.format = code_.Format();
    for (const CodePart& part : code_.parts()) {
      VerifyPart(code_, part, options_, scope_, report_.slices.emplace_back());
    }
    CheckSameTeam();
    if (code_.bundle() != nullptr) CheckBundle();
    CheckStructure();
    checks_.Skip(kCheckNotarization,
                 code_.HasTicket() ? "a ticket is stapled; only macOS can tell "
                                     "whether it is Apple's"
                                   : "no ticket is stapled");
  }

 private:
  void CheckSameTeam();
  void CheckBundle();
  bool CheckSeal(std::optional<ByteView> seal);
  void CheckSealStrength(const ResourceSeal& seal);
  void CheckResources(const ResourceSeal& seal);
  void CheckNested(std::vector<NestedItem> items, const Enclosure& enclosure,
                   ResourceReport& resources);
  void JudgeNested(const NestedItem& item, const NestedReport& nested,
                   ResourceReport& resources);
  void CheckShape();
  void CheckStructure();

  const Bundle& bundle() const { return *code_.bundle(); }

  const StoredCode& code_;
  const VerifyOptions& options_;
  const VerifyScope& scope_;
  const Enclosure* const outer_;
  VerificationReport& report_;
  CheckList checks_;
};

NestedReport VerifyNested(const NestedItem& item, const VerifyOptions& options,
                          const Enclosure& enclosure) {
  NestedReport nested;
  nested.is_other_version = !item.version.empty();
  nested.requirement = item.requirement;
  nested.report.path = item.path;
  if (nested.is_other_version) {
    nested.report.path += "/Versions/" + item.version;
  }
  VerifyOptions inner_options = options;
  const absl::StatusOr<RequirementExpression> expression =
      CompileRequirement(item.requirement);
  if (!expression.ok()) {
    nested.status =
        BundleError(v1::REASON_RESOURCE_SEAL_INVALID, nested.report.path,
                    "the requirement in the seal cannot be read");
    return nested;
  }
  inner_options.requirement = BuildRequirement(*expression);
  const absl::StatusOr<StoredCode> code =
      StoredCode::Open(item.path, item.version);
  if (!code.ok()) {
    nested.status = WithSubject(code.status(), nested.report.path);
    return nested;
  }
  if (code->bundle() != nullptr) {
    const std::string base =
        RealPath(code->bundle()->resource_base()).value_or("");
    if (enclosure.depth >= kMaxDepth || enclosure.Contains(base)) {
      nested.status =
          BundleError(v1::REASON_BAD_BUNDLE_FORMAT, nested.report.path,
                      "the bundle contains itself, or is nested too deep");
      return nested;
    }
  }
  const VerifyScope scope = {.is_nested = true, .is_shallow = !options.is_deep};
  CodeVerifier(*code, inner_options, scope, &enclosure, nested.report).Run();
  return nested;
}

void CodeVerifier::CheckSameTeam() {
  const auto other = std::find_if(
      report_.slices.begin(), report_.slices.end(),
      [this](const SliceReport& slice) {
        return slice.team_identifier != report_.slices.front().team_identifier;
      });
  if (other == report_.slices.end()) {
    checks_.Pass(kCheckSameTeam);
  } else {
    checks_.Fail(kCheckSameTeam, kErrBadTeamIdentifier,
                 v1::REASON_TEAM_IDENTIFIER_MISMATCH,
                 "slices " + report_.slices.front().architecture + " and " +
                     other->architecture + " have different teams");
  }
}

void CodeVerifier::CheckBundle() {
  if (scope_.is_shallow || options_.ignores_resources) {
    checks_.Skip(kCheckResources, scope_.is_shallow
                                      ? "nested code: only with --deep"
                                      : "as --ignore-resources asks");
  } else {
    const std::optional<ByteView> bytes =
        code_.SideFile(code_.parts().front(), kCodeResourcesSlot);
    if (CheckSeal(bytes) && bytes.has_value()) {
      const absl::StatusOr<ResourceSeal> seal = ParseCodeResources(*bytes);
      if (!seal.ok()) {
        checks_.FailBundle(
            kCheckResourceSeal,
            WithSubject(seal.status(), bundle().CodeResourcesPath()));
      } else {
        CheckSealStrength(*seal);
        CheckResources(*seal);
      }
    }
  }
  CheckShape();
}

// Whether the signature and the file CodeResources belong together, for every
// slice: macOS looks at the slice that it would run.
bool CodeVerifier::CheckSeal(std::optional<ByteView> seal) {
  const std::string path = bundle().CodeResourcesPath();
  bool is_bound = true;
  for (const CodePart& part : code_.parts()) {
    const absl::StatusOr<EmbeddedSignature> signature =
        EmbeddedSignature::Parse(part.signature);
    if (!signature.ok()) {  // said already
      checks_.Skip(kCheckResourceSeal, "there is no signature to be read");
      return false;
    }
    const bool is_sealed =
        std::any_of(signature->code_directories().begin(),
                    signature->code_directories().end(),
                    [](const CodeDirectory& directory) {
                      return directory.SealsSpecialSlot(kCodeResourcesSlot);
                    });
    if (!is_sealed) {
      checks_.Fail(kCheckResourceSeal, kErrResourcesNotFound,
                   v1::REASON_RESOURCES_NOT_FOUND,
                   signature->is_linker_signed()
                       ? "a linker has signed the executable, nobody the bundle"
                       : "the signature does not seal the bundle's resources");
      is_bound = false;
      continue;
    }
    for (const CodeDirectory& directory : signature->code_directories()) {
      if (CheckSpecialSlot(directory, kCodeResourcesSlot, seal).ok()) continue;
      checks_.Fail(
          kCheckResourceSeal, kErrResourceDirectoryFailed,
          v1::REASON_SPECIAL_SLOT_MISMATCH,
          path + (seal.has_value() ? " is not what was signed" : " is gone"));
      is_bound = false;
      break;
    }
  }
  if (is_bound) checks_.Pass(kCheckResourceSeal, path);
  return is_bound;
}

void CodeVerifier::CheckSealStrength(const ResourceSeal& seal) {
  ResourceReport& resources = report_.resources.emplace();
  resources.version = seal.version();
  resources.rule_count = seal.RuleCount();
  resources.file_count = seal.FileCount();
  if (!options_.is_strict) return;
  // What an old seal covers is compared all the same.
  const absl::Status strength = CheckSealIsStrong(bundle(), seal);
  if (!strength.ok()) checks_.FailBundle(kCheckResourceSeal, strength);
}

void CodeVerifier::CheckResources(const ResourceSeal& seal) {
  const absl::StatusOr<ResourceMatcher> matcher = ResourceMatcher::Create(
      seal.version() == 2 ? RulesOfVersion2(seal.rules) : seal.rules.rules,
      bundle().ExcludedPaths());
  if (!matcher.ok()) {
    checks_.FailBundle(kCheckResources, matcher.status());
    return;
  }
  const ResourceScope resource_scope = {
      .base = RealPath(bundle().resource_base()).value_or(""),
      .main_file = RealPath(bundle().main_file()).value_or(""),
      .matcher = &*matcher,
      .outer = outer_ == nullptr ? nullptr : outer_->resource_scope};
  const Enclosure enclosure = {
      .base = resource_scope.base,
      .depth = outer_ == nullptr ? 1 : outer_->depth + 1,
      .resource_scope = &resource_scope,
      .outer = outer_};
  CompareOptions compare = {.is_strict = options_.is_strict,
                            .restricts_symlinks = options_.restricts_symlinks,
                            .outer_scope = resource_scope.outer};
  const absl::StatusOr<EmbeddedSignature> signature =
      EmbeddedSignature::Parse(code_.NativePart().signature);
  if (signature.ok()) {
    for (const CodeDirectory& directory : signature->code_directories()) {
      compare.digests.push_back(directory.digest_kind());
    }
  }
  std::vector<NestedItem> items;
  absl::StatusOr<std::vector<ResourceProblem>> problems = CompareResources(
      bundle(), seal, compare,
      [&](const std::string& absolute_path, const NestedCode& nested) {
        items.push_back({.path = absolute_path,
                         .relative_path = absolute_path.substr(
                             bundle().resource_base().size() + 1),
                         .version = "",
                         .requirement = nested.requirement});
        return absl::OkStatus();
      });
  if (!problems.ok()) {
    checks_.FailBundle(kCheckResources, problems.status());
    return;
  }
  ResourceReport& resources = *report_.resources;
  resources.problems = *std::move(problems);
  CheckNested(std::move(items), enclosure, resources);
  if (resources.problems.empty()) {
    checks_.Pass(kCheckResources,
                 absl::StrFormat("%d sealed", resources.file_count));
    return;
  }
  std::stable_sort(resources.problems.begin(), resources.problems.end(),
                   [](const ResourceProblem& a, const ResourceProblem& b) {
                     return PlistKeyLess()(a.path, b.path);
                   });
  checks_.FailBundle(kCheckResources, resources.problems.front().status);
}

// Versions of a framework beside the current one are held to the same
// requirement.
std::vector<NestedItem> WithOtherVersions(std::vector<NestedItem> items) {
  std::vector<NestedItem> all;
  for (NestedItem& item : items) {
    const bool is_framework = item.path.ends_with(".framework");
    all.push_back(std::move(item));
    if (!is_framework) continue;
    const NestedItem framework = all.back();
    const absl::StatusOr<Bundle> current = Bundle::Open(framework.path);
    if (!current.ok()) continue;  // its own verification says so
    for (const std::string& version : FrameworkVersions(framework.path)) {
      if (version == current->version()) continue;
      NestedItem other = framework;
      other.version = version;
      all.push_back(std::move(other));
    }
  }
  return all;
}

void CodeVerifier::CheckNested(std::vector<NestedItem> items,
                               const Enclosure& enclosure,
                               ResourceReport& resources) {
  if (options_.is_strict) items = WithOtherVersions(std::move(items));
  report_.nested.resize(items.size());
  ParallelFor(items.size(), [&](size_t i) {
    report_.nested[i] = VerifyNested(items[i], options_, enclosure);
  });
  for (size_t i = 0; i < items.size(); ++i) {
    JudgeNested(items[i], report_.nested[i], resources);
  }
}

// A requirement that is not met counts as a change of the bundle; whatever else
// is wrong with nested code is that code's own fault.
void CodeVerifier::JudgeNested(const NestedItem& item,
                               const NestedReport& nested,
                               ResourceReport& resources) {
  const VerificationReport& report = nested.report;
  const absl::Status validity =
      nested.status.ok() ? report.Validity() : nested.status;
  const absl::Status requirement = report.ExplicitRequirement();
  if (validity.ok() && requirement.ok()) {
    checks_.Pass(kCheckNestedCode, report.path);
    return;
  }
  if (nested.is_other_version) {
    const absl::Status& cause = validity.ok() ? requirement : validity;
    checks_.Fail(kCheckNestedCode, kErrBadFrameworkVersion,
                 v1::REASON_BAD_NESTED_CODE,
                 absl::StrFormat("version %s: %s", item.version,
                                 std::string(Message(cause))));
    checks_.last().subcomponent = item.path;
    return;
  }
  if (!validity.ok()) {
    const Check* failure = report.FirstFailure();
    if (failure != nullptr && failure->apple_error.has_value()) {
      checks_.Fail(kCheckNestedCode, *failure->apple_error, validity);
    } else {
      checks_.FailBundle(kCheckNestedCode, validity);
    }
    Check& check = checks_.last();
    // What is inside the nested code is the better place.
    check.subcomponent = failure == nullptr || failure->subcomponent.empty()
                             ? report.path
                             : failure->subcomponent;
    ErrorDetail detail = GetErrorDetail(check.status).value_or(ErrorDetail());
    detail.set_subject(
        GetErrorDetail(validity).value_or(ErrorDetail()).subject());
    check.status = WithErrorDetail(check.status, detail);
    return;
  }
  resources.problems.push_back(
      {ResourceChange::kBadCode, item.relative_path,
       BundleError(v1::REASON_BAD_NESTED_CODE, report.path,
                   Message(requirement))});
  checks_.FailBundle(kCheckNestedCode, resources.problems.back().status);
  checks_.last().subcomponent = report.path;
}

void CodeVerifier::CheckShape() {
  if (!options_.is_strict) {
    checks_.Skip(kCheckBundleShape, "as --no-strict asks");
    return;
  }
  // Of nested code only its signature is looked at.
  if (!scope_.is_shallow) {
    const absl::Status folder =
        bundle().CheckSignatureFolder(code_.signature_files());
    if (folder.ok()) {
      checks_.Pass(kCheckSignatureFolder);
    } else {
      checks_.FailBundle(kCheckSignatureFolder, folder);
    }
  }
  const absl::Status shape = bundle().CheckStrict();
  if (shape.ok()) {
    checks_.Pass(kCheckBundleShape);
  } else {
    checks_.FailBundle(kCheckBundleShape, shape);
  }
}

void CodeVerifier::CheckStructure() {
  if (!options_.is_strict) {
    checks_.Skip(kCheckStructure, "as --no-strict asks");
    return;
  }
  const absl::Status structure = code_.CheckStrictStructure();
  if (structure.ok()) {
    checks_.Pass(kCheckStructure);
  } else {
    checks_.Fail(kCheckStructure,
                 code_.mach_o() != nullptr ? kErrBadMainExecutable
                                           : kErrBadDiskImageFormat,
                 structure, 0);
  }
}

absl::Status FirstFailureNamed(const VerificationReport& report,
                               std::string_view name) {
  for (const SliceReport& slice : report.slices) {
    for (const Check& check : slice.checks) {
      if (check.name == name && !check.status.ok()) return check.status;
    }
  }
  return absl::OkStatus();
}

}  // namespace

const Check* VerificationReport::FirstFailure() const {
  const auto find = [](const std::vector<Check>& candidates) -> const Check* {
    const auto failed = std::find_if(
        candidates.begin(), candidates.end(), [](const Check& check) {
          return check.outcome == CheckOutcome::kFailed &&
                 !IsAboutRequirements(check);
        });
    return failed == candidates.end() ? nullptr : &*failed;
  };
  for (const SliceReport& slice : slices) {
    if (const Check* failed = find(slice.checks)) return failed;
  }
  return find(checks);
}

absl::Status VerificationReport::Validity() const {
  const Check* failed = FirstFailure();
  return failed == nullptr ? absl::OkStatus() : failed->status;
}

absl::Status VerificationReport::DesignatedRequirement() const {
  return FirstFailureNamed(*this, kCheckDesignatedRequirement);
}

absl::Status VerificationReport::ExplicitRequirement() const {
  return FirstFailureNamed(*this, kCheckExplicitRequirement);
}

VerificationReport Verify(const StoredCode& code,
                          const VerifyOptions& options) {
  VerificationReport report;
  report.path = code.path();
  CodeVerifier(code, options, {}, nullptr, report).Run();
  return report;
}

}  // namespace codeseal
