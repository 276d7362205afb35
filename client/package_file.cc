#include "client/package_file.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/fix_hints.h"
#include "client/small_file.h"
#include "codesign/base/error.h"
#include "codesign/image/flat_package.h"

namespace codeseal::client {
namespace {

namespace fs = std::filesystem;

constexpr size_t kFingerprintLineSize = 22;  // bytes, as pkgutil prints them

// A folder with the content of an old installer package: Installer reads it,
// but nothing signs it any more.
bool IsBundlePackage(const std::string& path) {
  std::error_code error;
  if (!fs::is_directory(path, error)) return false;
  fs::path name(path);
  if (!name.has_filename()) name = name.parent_path();
  const std::string extension = name.extension().string();
  return extension == ".pkg" || extension == ".mpkg" ||
         fs::exists(fs::path(path) / "Contents/Archive.pax.gz", error);
}

absl::StatusOr<MappedFile> OpenPackage(const std::string& path) {
  if (IsBundlePackage(path)) {
    return WithSubject(
        MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_PLAN,
                  v1::REASON_UNSUPPORTED_PACKAGE,
                  "it is a bundle-style package (a folder); only flat packages "
                  "can be signed"),
        path);
  }
  return MappedFile::Open(path);
}

std::string FileName(const std::string& path) {
  return fs::path(path).filename().string();
}

absl::StatusOr<PackageSigningOptions> ReadPackageOptions(
    const SigningOptions& options) {
  PackageSigningOptions package_options;
  package_options.force = options.force;
  if (options.digests.size() > 1) {
    return WithSubject(
        MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_USAGE,
                  v1::REASON_BAD_OPTION, "a package has one digest"),
        "--digest-algorithm");
  }
  if (!options.digests.empty()) {
    package_options.digest = options.digests.front();
  }
  // What is not the default was asked for.
  if (options.reserved_cms_size != SigningOptions().reserved_cms_size) {
    package_options.reserved_cms_size = options.reserved_cms_size;
  }
  return package_options;
}

struct Signed {
  bool replaced = false;
  std::vector<std::string> identifiers;
  DigestKind checksum_kind = DigestKind::kSha1;
  Bytes checksum;
  PackageSignatures signatures;
};

absl::StatusOr<Signed> Sign(const std::string& path,
                            const SigningOptions& options, bool dry_run,
                            const SigningIdentity& identity, Signer* signer) {
  ASSIGN_OR_RETURN(MappedFile file, OpenPackage(path));
  ASSIGN_OR_RETURN(const PackageSigningOptions package_options,
                   ReadPackageOptions(options));
  ASSIGN_OR_RETURN(
      const PackagePlan plan,
      PackagePlan::Create(std::move(file), package_options, identity.chain));
  Signed result;
  result.replaced = plan.replaces_signature();
  result.identifiers = plan.identifiers();
  result.checksum_kind = plan.checksum_kind();
  result.checksum = plan.checksum();
  // Without a chain there is no plan.
  absl::StatusOr<PackageSignatures> signatures =
      signer->SignPackage(identity, plan);
  if (!signatures.ok()) return WithSubject(signatures.status(), path);
  result.signatures = *std::move(signatures);
  if (dry_run) return result;
  const absl::Status trusted =
      CheckPackageSignatures(plan, identity, result.signatures);
  if (!trusted.ok()) return WithSubject(trusted, path);
  ASSIGN_OR_RETURN(StagedFile staged, plan.Stage(path, result.signatures.rsa,
                                                 result.signatures.cms));
  RETURN_IF_ERROR(staged.Commit());
  return result;
}

// pkgutil's verdict in words.
std::string StatusLine(const PackageReport& report) {
  const auto failed = [&report](std::string_view name) {
    const PackageCheck* const check = report.Find(name);
    return check != nullptr && !check->status.ok();
  };
  if (!report.is_signed) return "no signature";
  if (failed("package-checksum") || failed("package-files") ||
      failed("rsa-signature") || failed("cms-signature")) {
    return "package is invalid (checksum did not verify)";
  }
  if (failed("certificate-dates")) {
    return "signed by a certificate that has since expired";
  }
  if (!report.trusted) return "signed by untrusted certificate";
  if (!IsAppleRoot(report.authorities.back())) {
    return "signed by a certificate whose root is among the anchors";
  }
  const Certificate& leaf = report.authorities.front();
  constexpr std::string_view kDeveloperIdInstaller =
      "1.2.840.113635.100.6.1.14";
  constexpr std::string_view kMacInstaller = "1.2.840.113635.100.6.1.8";
  if (leaf.HasExtension(kDeveloperIdInstaller)) {
    return "signed by a developer certificate issued by Apple for distribution";
  }
  if (leaf.HasExtension(kMacInstaller)) {
    return "signed by a developer certificate issued by Apple";
  }
  return "signed Apple Software";
}

std::string FormatLocalStyle(absl::Time time) {
  return absl::FormatTime("%Y-%m-%d %H:%M:%S +0000", time, absl::UTCTimeZone());
}

// The certificates as `pkgutil --check-signature` lists them.
std::vector<std::string> CertificateLines(const PackageReport& report) {
  std::vector<std::string> lines = {"   Certificate Chain:"};
  for (size_t i = 0; i < report.authorities.size(); ++i) {
    const Certificate& each = report.authorities[i];
    if (i != 0) lines.push_back("       " + std::string(72, '-'));
    lines.push_back(absl::StrCat("    ", i + 1, ". ", each.CommonName()));
    lines.push_back("       Expires: " + FormatLocalStyle(each.not_after()));
    lines.push_back("       SHA256 Fingerprint:");
    const std::string hex = HexEncode(each.Sha256());
    std::string line = "           ";
    for (size_t byte = 0; byte < hex.size() / 2; ++byte) {
      if (byte != 0 && byte % kFingerprintLineSize == 0) {
        lines.push_back(line);
        line = "           ";
      }
      for (const char c : hex.substr(2 * byte, 2)) {
        line += 'a' <= c && c <= 'f' ? static_cast<char>(c - 'a' + 'A') : c;
      }
      line += ' ';
    }
    line.pop_back();
    lines.push_back(std::move(line));
  }
  return lines;
}

void SayReport(const std::string& path, const PackageReport& report,
               Reporter& reporter) {
  reporter.Say(0, "Package \"" + FileName(path) + "\":");
  reporter.Say(0, "   Status: " + StatusLine(report));
  if (report.timestamp.has_value()) {
    reporter.Say(0, "   Signed with a trusted timestamp on: " +
                        FormatLocalStyle(*report.timestamp));
  }
  if (report.has_ticket) {
    reporter.Say(0, "   Notarization: a ticket is stapled to it, not judged");
  }
  if (report.authorities.empty()) return;
  for (const std::string& line : CertificateLines(report)) {
    reporter.Say(0, line);
  }
}

nlohmann::json DescribeReport(const std::string& path,
                              const PackageReport& report) {
  nlohmann::json json = {
      {"path", path},
      {"format", "installer package"},
      {"status", StatusLine(report)},
      {"signed", report.is_signed},
      {"trusted", report.trusted},
      {"identifiers", report.identifiers},
      {"checksum_algorithm", std::string(DigestName(report.checksum_kind))},
      {"checksum", HexEncode(report.checksum)},
      {"has_ticket", report.has_ticket},
      {"authorities", nlohmann::json::array()},
      {"checks", nlohmann::json::array()}};
  for (const Certificate& each : report.authorities) {
    json["authorities"].push_back(each.CommonName());
  }
  if (report.signing_time.has_value()) {
    json["signing_time"] = FormatUtc(*report.signing_time);
  }
  if (report.timestamp.has_value()) {
    json["timestamp"] = FormatUtc(*report.timestamp);
  }
  for (const PackageCheck& check : report.checks) {
    nlohmann::json described = {{"name", check.name},
                                {"outcome", !check.made         ? "not checked"
                                            : check.status.ok() ? "passed"
                                                                : "failed"}};
    if (!check.note.empty()) described["note"] = check.note;
    if (!check.status.ok()) described["error"] = ErrorJson(check.status);
    json["checks"].push_back(std::move(described));
  }
  return json;
}

absl::Status Extract(const MappedFile& file, const PackageReport& report,
                     const std::string& certificates_prefix,
                     const std::string& signature_prefix) {
  if (!certificates_prefix.empty()) {
    for (size_t i = 0; i < report.authorities.size(); ++i) {
      RETURN_IF_ERROR(WriteWholeFile(absl::StrCat(certificates_prefix, i),
                                     report.authorities[i].der()));
    }
  }
  if (signature_prefix.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const FlatPackage package, FlatPackage::Parse(file.bytes()));
  RETURN_IF_ERROR(
      WriteWholeFile(signature_prefix + ".checksum", report.checksum));
  for (const PackageSignature& each : package.table().signatures()) {
    const bool is_rsa = each.kind == PackageSignatureKind::kRsa;
    RETURN_IF_ERROR(WriteWholeFile(
        signature_prefix + (is_rsa ? ".rsa" : ".cms"), package.At(each.place)));
  }
  return absl::OkStatus();
}

absl::Status Show(const std::string& path,
                  const std::string& certificates_prefix,
                  const std::string& signature_prefix, Reporter& reporter) {
  ASSIGN_OR_RETURN(const MappedFile file, OpenPackage(path));
  ASSIGN_OR_RETURN(const PackageReport report, VerifyPackage(file, {}));
  SayReport(path, report, reporter);
  for (const std::string& identifier : report.identifiers) {
    reporter.Say(0, "   Package identifier: " + identifier);
  }
  reporter.Say(0, absl::StrCat("   Table of contents: ",
                               std::string(DigestName(report.checksum_kind)),
                               "=", HexEncode(report.checksum), ", ",
                               report.files.size(), " files"));
  for (const std::string& each : report.files) {
    reporter.Say(1, "     " + each);
  }
  RETURN_IF_ERROR(Extract(file, report, certificates_prefix, signature_prefix));
  nlohmann::json json = DescribeReport(path, report);
  json["files"] = report.files;
  reporter.Succeed(std::move(json));
  return absl::OkStatus();
}

}  // namespace

bool IsPackagePath(const std::string& path) {
  if (IsBundlePackage(path)) return true;
  std::error_code error;
  if (!fs::is_regular_file(path, error)) return false;
  const absl::StatusOr<MappedFile> file = MappedFile::Open(path);
  return file.ok() && FlatPackage::IsFlatPackage(file->bytes());
}

absl::Status NoDetachedPackage() {
  return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_USAGE,
                   v1::REASON_BAD_OPTION,
                   "a package keeps its signature inside; --detached is for "
                   "code and disk images");
}

void SignPackageFile(const std::string& path, const SigningOptions& options,
                     bool dry_run, const SigningIdentity& identity,
                     Signer* signer, Reporter& reporter) {
  reporter.Progress("signing " + path);
  const absl::StatusOr<Signed> done =
      Sign(path, options, dry_run, identity, signer);
  if (!done.ok()) return reporter.Fail("sign", path, done.status());
  if (done->replaced) {
    reporter.Say(0, path + ": replacing existing signature");
  }
  reporter.Say(1,
               absl::StrCat(path, dry_run ? ": would be signed " : ": signed ",
                            "installer package [",
                            absl::StrJoin(done->identifiers, ", "), "]"));
  nlohmann::json result = {
      {"path", path},
      {"format", "installer package"},
      {"identifiers", done->identifiers},
      {"checksum_algorithm", std::string(DigestName(done->checksum_kind))},
      {"checksum", HexEncode(done->checksum)},
      {"replaced_signature", done->replaced},
      {"dry_run", dry_run},
      {"identity", {{"name", identity.name}, {"version", identity.version}}},
      {"cms_size", done->signatures.cms.size()}};
  if (!done->signatures.request_id.empty()) {
    result["request_id"] = done->signatures.request_id;
    result["replayed"] = done->signatures.replayed;
  }
  if (done->signatures.signing_time.has_value()) {
    result["signing_time"] = FormatUtc(*done->signatures.signing_time);
  }
  if (done->signatures.timestamp.has_value()) {
    result["timestamp"] = FormatUtc(*done->signatures.timestamp);
  }
  reporter.Succeed(std::move(result));
}

void VerifyPackageFile(const std::string& path,
                       const PackageVerifyOptions& options,
                       Reporter& reporter) {
  reporter.Progress("verifying " + path);
  const absl::StatusOr<MappedFile> file = OpenPackage(path);
  if (!file.ok()) return reporter.Fail("verify", path, file.status());
  const absl::StatusOr<PackageReport> report = VerifyPackage(*file, options);
  if (!report.ok()) return reporter.Fail("verify", path, report.status());
  SayReport(path, *report, reporter);
  const absl::Status verdict = report->Validity();
  if (!verdict.ok()) {
    reporter.Complain("  why    " + std::string(Message(verdict)));
    const ErrorDetail detail = GetErrorDetail(verdict).value_or(ErrorDetail());
    if (!detail.subject().empty() && detail.subject() != path) {
      reporter.Complain("  where  " + detail.subject());
    }
    reporter.Complain("  fix    " + std::string(FixHint(detail.reason())));
  }
  nlohmann::json result = DescribeReport(path, *report);
  result["valid"] = verdict.ok();
  reporter.Judge(verdict, std::move(result));
}

void ShowPackageFile(const std::string& path,
                     const std::string& certificates_prefix,
                     const std::string& signature_prefix, Reporter& reporter) {
  const absl::Status status =
      Show(path, certificates_prefix, signature_prefix, reporter);
  if (!status.ok()) reporter.Fail("show", path, status);
}

absl::Status StripPackageFile(const std::string& path) {
  RETURN_IF_ERROR(OpenPackage(path).status());
  return StripPackage(path);
}

}  // namespace codeseal::client
