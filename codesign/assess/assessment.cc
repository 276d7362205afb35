#include "codesign/assess/assessment.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/civil_time.h"
#include "codesign/assess/code_files.h"
#include "codesign/assess/failed_checks.h"
#include "codesign/assess/library_rule.h"
#include "codesign/base/error.h"
#include "codesign/base/mapped_file.h"
#include "codesign/image/flat_package.h"
#include "codesign/image/package_verifier.h"
#include "codesign/verify/stored_code.h"
#include "codesign/verify/verifier.h"

namespace codeseal {
namespace {

constexpr char kDeveloperIdDate[] = "1.2.840.113635.100.6.1.33";
constexpr char kNotAppLikeWords[] =
    "the code is valid but does not seem to be an app";

absl::Time Date(int year, int month, int day) {
  return absl::FromCivil(absl::CivilDay(year, month, day), absl::UTCTimeZone());
}

// Errors in what surrounds the code, which is valid:
// errSecCSResourceNotSupported to errSecCSNotAppLike.
bool IsObsoleteEnvelope(const AppleError& error) {
  return error.code >= -67016 && error.code <= -67002;
}

// What was timestamped before 2019-06-01 needs no notarization. Without a
// timestamp the certificate tells: those of before 2019-04-08 have no date in
// them, or an earlier one.
bool IsLegacy(const Certificate& leaf, std::optional<absl::Time> timestamp) {
  if (timestamp.has_value()) return *timestamp < Date(2019, 6, 1);
  const std::optional<Bytes> extension = leaf.ExtensionValue(kDeveloperIdDate);
  if (!extension.has_value()) return true;
  // UTF8String "20190408000000Z"; what cannot be read is no excuse.
  constexpr size_t kHeaderSize = 2;
  if (extension->size() <= kHeaderSize) return false;
  return AsText(ByteView(*extension).subspan(kHeaderSize)) < "20190408000000Z";
}

// What a signature of any kind of file comes down to.
struct Signer {
  std::vector<Certificate> chain;
  bool is_apples = false;
  std::optional<absl::Time> timestamp;
  bool has_ticket = false;
};

class Assessor {
 public:
  Assessor(const std::string& path, const AssessOptions& options)
      : options_(options) {
    result_.path = path;
  }

  absl::StatusOr<Assessment> Run() {
    if (options_.type == AssessmentType::kOpen && !options_.has_context) {
      result_.source = AssessmentSource::kInsufficientContext;
      AddReason("context",
                "Gatekeeper judges a document only when it is told what for.",
                "",
                "add --context context:primary-signature, as for a disk image");
      return std::move(result_);
    }
    ASSIGN_OR_RETURN(const std::optional<MappedFile> package, OpenPackage());
    if (package.has_value()) {
      RETURN_IF_ERROR(AssessPackage(*package));
    } else {
      RETURN_IF_ERROR(AssessCode());
    }
    result_.undecided.push_back(
        "whether the certificate or the notarization was revoked: nobody was "
        "asked");
    result_.undecided.push_back(
        "rules that this Mac's user or administrator added, and quarantine");
    return std::move(result_);
  }

 private:
  absl::StatusOr<std::optional<MappedFile>> OpenPackage() const {
    absl::StatusOr<MappedFile> file = MappedFile::Open(result_.path);
    // A folder, or nothing: opening it as code says what is wrong.
    if (!file.ok() || !FlatPackage::IsFlatPackage(file->bytes())) {
      return std::nullopt;
    }
    return *std::move(file);
  }

  absl::Status AssessPackage(const MappedFile& file) {
    PackageVerifyOptions verify;
    verify.anchors = options_.anchors;
    verify.now = options_.now;
    ASSIGN_OR_RETURN(const PackageReport report, VerifyPackage(file, verify));
    if (!report.is_signed) {
      NoUsableSignature("it is not signed at all");
      return absl::OkStatus();
    }
    if (!report.Validity().ok()) {
      for (const PackageCheck& check : report.checks) {
        if (check.status.ok()) continue;
        AddReason("valid-signature", "The signature of the package is invalid.",
                  std::string(Message(check.status)),
                  "sign it again with codeseal sign -f");
      }
      Break(report.Validity(), Message(report.Validity()));
      return absl::OkStatus();
    }
    Decide({.chain = report.authorities,
            .is_apples = report.trusted,
            .timestamp = report.timestamp,
            .has_ticket = report.has_ticket});
    if (options_.type == AssessmentType::kExecute) RefuseAsNoApp();
    return absl::OkStatus();
  }

  absl::Status AssessCode() {
    ASSIGN_OR_RETURN(const StoredCode code, StoredCode::Open(result_.path));
    VerifyOptions verify;
    verify.anchors = options_.anchors;
    verify.is_deep = true;
    verify.restricts_symlinks = true;
    verify.now = options_.now;
    const VerificationReport report = Verify(code, verify);
    const SliceReport* weakest = &report.slices.front();
    SignerKind kind = KindOf(*weakest);
    for (const SliceReport& slice : report.slices) {
      if (KindOf(slice) == kind) continue;
      weakest = &slice;
      kind = SignerKind::kNone;  // Slices by different signers have none.
    }
    CheckReport(report);
    if (!result_.broken.ok()) return absl::OkStatus();
    const bool is_ad_hoc = std::any_of(
        report.slices.begin(), report.slices.end(),
        [](const SliceReport& slice) { return slice.authorities.empty(); });
    if (is_unsigned_ || is_ad_hoc) {
      NoUsableSignature(is_unsigned_
                            ? "it is not signed at all"
                            : "its signature is ad-hoc: nobody vouches for it");
      return absl::OkStatus();
    }
    Decide({.chain = weakest->authorities,
            .is_apples = weakest->trusted && kind != SignerKind::kNone,
            .timestamp = weakest->timestamp,
            .has_ticket = code.HasTicket()});
    if (is_obsolete_) {
      result_.accepted = false;
      result_.source = AssessmentSource::kObsoleteResourceEnvelope;
    }
    if (options_.type != AssessmentType::kExecute) return absl::OkStatus();
    if (code.bundle() == nullptr || !code.bundle()->is_app_like()) {
      RefuseAsNoApp();
    }
    return CheckLibraries(code);
  }

  SignerKind KindOf(const SliceReport& slice) const {
    return KindOfSigner(slice.authorities, slice.trusted);
  }

  void CheckReport(const VerificationReport& report) {
    const Check* failure = report.FirstFailure();
    if (failure == nullptr) return;
    std::vector<Finding> findings = FindingsOfReport(
        report, "valid-signature", "The signature is not valid.");
    is_unsigned_ =
        failure->apple_error == kErrUnsigned && failure->subcomponent.empty();
    is_obsolete_ = failure->apple_error.has_value() &&
                   IsObsoleteEnvelope(*failure->apple_error);
    if (is_unsigned_) return;  // says so itself
    for (Finding& finding : findings) {
      if (is_obsolete_) {
        finding.rule = "resource-envelope";
        finding.message = "What surrounds the code does not follow the rules.";
      }
      result_.findings.push_back(std::move(finding));
    }
    if (is_obsolete_) return;
    result_.broken_subcomponent = failure->subcomponent;
    Break(failure->status, failure->apple_error.has_value()
                               ? failure->apple_error->text
                               : Message(failure->status));
  }

  void Break(const absl::Status& status, std::string_view words) {
    result_.accepted = false;
    result_.source = AssessmentSource::kNone;
    result_.broken = status;
    result_.broken_words = std::string(words);
  }

  void NoUsableSignature(const std::string& why) {
    result_.source = AssessmentSource::kNoUsableSignature;
    AddReason("usable-signature", "There is no signature that counts.", why,
              "sign it with a Developer ID certificate: codeseal sign -s NAME");
  }

  // Apple's rules in the order of their priority.
  void Decide(const Signer& signer) {
    result_.signer = KindOfSigner(signer.chain, signer.is_apples);
    result_.origin = signer.chain.front().CommonName();
    switch (result_.signer) {
      case SignerKind::kAppleSystem:
        return Accept(AssessmentSource::kAppleSystem);
      case SignerKind::kAppleInstaller:
        return Accept(AssessmentSource::kAppleInstaller);
      case SignerKind::kMacAppStore:
      case SignerKind::kMacAppStorePackage:
        return Accept(AssessmentSource::kMacAppStore);
      case SignerKind::kDeveloperId:
      case SignerKind::kDeveloperIdPackage:
        return DecideDeveloperId(signer);
      case SignerKind::kNone:
      case SignerKind::kOther:
      case SignerKind::kDistribution:
      case SignerKind::kDistributionPackage:
      case SignerKind::kDevelopment:
      case SignerKind::kOtherApple:
        break;
    }
    AddReason("developer-id",
              "No rule of Gatekeeper lets this signer's code in.",
              absl::StrCat("it is signed by ", result_.origin, ": ",
                           std::string(SignerKindName(result_.signer))),
              "sign it with a Developer ID certificate, then notarize it");
  }

  void DecideDeveloperId(const Signer& signer) {
    if (signer.has_ticket) {
      Accept(AssessmentSource::kNotarizedDeveloperId);
      result_.undecided.push_back(
          "whether Apple issued the stapled notarization ticket, and for this "
          "code: it was seen, not checked");
    } else if (IsLegacy(signer.chain.front(), signer.timestamp)) {
      Accept(AssessmentSource::kDeveloperId);
    } else {
      result_.source = AssessmentSource::kUnnotarizedDeveloperId;
      AddReason("notarized", "Gatekeeper asks for notarization.",
                "no ticket is stapled to it",
                "have it notarized (codeseal preflight --for notarization says "
                "what the notary would refuse) and staple the ticket");
      result_.undecided.push_back(
          "whether Apple's service has a ticket for it: a Mac with a network "
          "asks, and lets notarized code in that has none stapled");
    }
  }

  void Accept(AssessmentSource source) {
    result_.accepted = true;
    result_.source = source;
  }

  void RefuseAsNoApp() {
    // macOS tells of a missing notarization first, of plug-ins, too. Otherwise
    // it names no rule.
    if (result_.source == AssessmentSource::kUnnotarizedDeveloperId) return;
    result_.source = AssessmentSource::kNone;
    result_.accepted = false;
    result_.remark = kNotAppLikeWords;
    AddReason("app-like", "Only apps are judged for execution.",
              kNotAppLikeWords,
              "judge the app, or the disk image (--type open) or package "
              "(--type install) that it comes in");
  }

  absl::Status CheckLibraries(const StoredCode& code) {
    if (code.bundle() == nullptr) return absl::OkStatus();
    const std::string& bundle = code.bundle()->path();
    ASSIGN_OR_RETURN(const std::vector<FoundFile> files, FindFiles(bundle));
    std::vector<Finding> found = CheckLibraryPaths(bundle, files);
    // The rule is about what is downloaded, not about Apple's own.
    if (result_.signer == SignerKind::kAppleSystem || found.empty()) {
      return absl::OkStatus();
    }
    result_.accepted = false;
    std::move(found.begin(), found.end(), std::back_inserter(result_.findings));
    return absl::OkStatus();
  }

  void AddReason(std::string rule, std::string message, std::string detail,
                 std::string fix) {
    result_.findings.push_back({.rule = std::move(rule),
                                .severity = Severity::kError,
                                .path = result_.path,
                                .message = std::move(message),
                                .detail = std::move(detail),
                                .fix = std::move(fix)});
  }

  const AssessOptions& options_;
  Assessment result_;
  bool is_unsigned_ = false;
  bool is_obsolete_ = false;
};

}  // namespace

std::string_view AssessmentSourceName(AssessmentSource source) {
  switch (source) {
    case AssessmentSource::kNone:
      return "";
    case AssessmentSource::kAppleSystem:
      return "Apple System";
    case AssessmentSource::kAppleInstaller:
      return "Apple Installer";
    case AssessmentSource::kMacAppStore:
      return "Mac App Store";
    case AssessmentSource::kNotarizedDeveloperId:
      return "Notarized Developer ID";
    case AssessmentSource::kDeveloperId:
      return "Developer ID";
    case AssessmentSource::kUnnotarizedDeveloperId:
      return "Unnotarized Developer ID";
    case AssessmentSource::kNoUsableSignature:
      return "no usable signature";
    case AssessmentSource::kObsoleteResourceEnvelope:
      return "obsolete resource envelope";
    case AssessmentSource::kInsufficientContext:
      return "Insufficient Context";
  }
  return "";
}

absl::StatusOr<Assessment> Assess(const std::string& path,
                                  const AssessOptions& options) {
  return Assessor(path, options).Run();
}

}  // namespace codeseal
