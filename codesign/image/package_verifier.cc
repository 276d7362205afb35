#include "codesign/image/package_verifier.h"

#include <algorithm>
#include <utility>

#include "codesign/base/error.h"
#include "codesign/cms/apple_cms.h"
#include "codesign/cms/digest_signature.h"
#include "codesign/cms/signer_verdict.h"
#include "codesign/cms/timestamp.h"
#include "codesign/image/flat_package.h"
#include "codesign/image/package_info.h"

namespace codeseal {
namespace {

absl::Status Verdict(Reason reason, const std::string& message) {
  return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_VERIFY,
                   reason, message);
}

class Verifier {
 public:
  Verifier(const FlatPackage& package, const PackageVerifyOptions& options)
      : package_(package), options_(options) {}

  PackageReport Verify() && {
    const TableOfContents& table = package_.table();
    report_.is_signed = !table.signatures().empty();
    report_.checksum_kind = table.checksum_kind();
    report_.checksum =
        ComputeDigest(table.checksum_kind(), package_.stored_table());
    report_.has_ticket = package_.has_ticket();
    for (const PackageFile& each : table.files()) {
      report_.files.push_back(each.path);
      ReadIdentifiers(each);
    }
    Record("signed", report_.is_signed ? absl::OkStatus()
                                       : Verdict(v1::REASON_NOT_SIGNED,
                                                 "the package is not signed"));
    Record("package-checksum", package_.CheckChecksum());
    Record("package-files", package_.CheckFiles());
    if (!report_.is_signed) return std::move(report_);

    CheckRsa(table.Find(PackageSignatureKind::kRsa));
    CheckCms(table.Find(PackageSignatureKind::kCms));
    CheckTrust();
    return std::move(report_);
  }

 private:
  bool Record(const char* name, const absl::Status& status,
              std::string note = "") {
    report_.checks.push_back({name, true, status, std::move(note)});
    return status.ok();
  }
  void Skip(const char* name, const char* note) {
    report_.checks.push_back({name, false, absl::OkStatus(), note});
  }

  void ReadIdentifiers(const PackageFile& file) {
    if (!file.content.has_value() || !DescribesPackage(file.path)) return;
    const absl::StatusOr<Bytes> xml =
        UnpackFile(file, package_.At(file.content->place), kMaxPackageInfoSize);
    if (!xml.ok()) return;  // "package-files" says why
    const auto found = ReadPackageIdentifiers(file.path, *xml);
    if (!found.ok()) return;  // It is for people only.
    for (const std::string& each : *found) {
      if (std::find(report_.identifiers.begin(), report_.identifiers.end(),
                    each) == report_.identifiers.end()) {
        report_.identifiers.push_back(each);
      }
    }
  }

  void CheckRsa(const PackageSignature* signature) {
    if (signature == nullptr) {
      return Skip("rsa-signature", "there is none");
    }
    for (const Bytes& der : signature->certificates) {
      absl::StatusOr<Certificate> certificate = Certificate::Parse(der);
      if (!certificate.ok()) {
        Record("rsa-signature", certificate.status());
        return;
      }
      certificates_.push_back(*std::move(certificate));
    }
    signer_ = certificates_.front();
    const ByteView value = package_.At(signature->place);
    absl::Status status = CheckRsaSignature(*signer_, report_.checksum_kind,
                                            report_.checksum, value);
    std::string note = "signed by " + signer_->CommonName();
    if (!status.ok()) {
      // Old tools hashed the checksum once more.
      const Bytes again =
          ComputeDigest(report_.checksum_kind, report_.checksum);
      if (CheckRsaSignature(*signer_, report_.checksum_kind, again, value)
              .ok()) {
        status = absl::OkStatus();
        note += ", over the digest of the checksum, as old tools did";
      }
    }
    Record("rsa-signature", status, std::move(note));
  }

  void CheckCms(const PackageSignature* signature) {
    if (signature == nullptr) {
      Skip("cms-signature", "there is none");
      return Skip("timestamp", "there is no CMS signature to hold one");
    }
    const absl::StatusOr<CmsSignature> cms = VerifyAppleCms(
        package_.At(signature->place), DescribeBytes(report_.checksum));
    absl::Status status = cms.status();
    if (status.ok() && signer_.has_value() && !(cms->signer == *signer_)) {
      status = Verdict(v1::REASON_CMS_SIGNATURE_INVALID,
                       "the two signatures have different signers");
    }
    if (!Record("cms-signature", status,
                cms.ok() ? "signed by " + cms->signer.CommonName() : "")) {
      return Skip("timestamp", "the CMS signature does not hold");
    }
    signer_ = cms->signer;
    revocation_values_ = cms->revocation_values;
    certificates_.insert(certificates_.end(), cms->certificates.begin(),
                         cms->certificates.end());
    report_.signing_time = cms->signing_time;
    if (!cms->timestamp_token.has_value()) {
      return Skip("timestamp", "there is none");
    }
    absl::StatusOr<Timestamp> timestamp = VerifyTimestampToken(
        *cms->timestamp_token, cms->signature_value, cms->certificates);
    if (!Record("timestamp", timestamp.status())) return;
    report_.checks.back().note =
        "stamped by " + timestamp->chain.front().CommonName();
    report_.timestamp = timestamp->time;
    timestamp_ = *std::move(timestamp);
  }

  void CheckTrust() {
    if (!signer_.has_value()) {
      Skip(kSignerChain, "no signer is known");
      return Skip(kSignerDates, "no certificate is known");
    }
    SignerPolicy policy;
    policy.purpose = SignerPurpose::kPackage;
    policy.anchors = options_.anchors;
    policy.require_trusted_anchor = options_.require_trusted_anchor;
    policy.at = options_.at;
    policy.now = options_.now;
    policy.expiration_counts = options_.check_expiration;
    policy.revocation = options_.revocation.get();
    SignerVerdict verdict =
        JudgeSigner({*signer_, certificates_, report_.signing_time, timestamp_,
                     revocation_values_},
                    policy);
    report_.authorities = std::move(verdict.authorities);
    report_.trusted = verdict.trusted;
    for (SignerCheck& check : verdict.checks) {
      report_.checks.push_back(std::move(check));
    }
  }

  const FlatPackage& package_;
  const PackageVerifyOptions& options_;
  PackageReport report_;
  std::vector<Certificate> certificates_;  // of both signatures
  std::optional<Certificate> signer_;
  std::optional<Timestamp> timestamp_;  // verified
  std::vector<Bytes> revocation_values_;
};

}  // namespace

absl::Status PackageReport::Validity() const {
  for (const PackageCheck& check : checks) {
    if (!check.status.ok()) return check.status;
  }
  return absl::OkStatus();
}

const PackageCheck* PackageReport::Find(std::string_view name) const {
  for (const PackageCheck& check : checks) {
    if (check.name == name) return &check;
  }
  return nullptr;
}

absl::StatusOr<PackageReport> VerifyPackage(
    const MappedFile& file, const PackageVerifyOptions& options) {
  const absl::StatusOr<FlatPackage> package = FlatPackage::Parse(file.bytes());
  if (!package.ok()) return WithSubject(package.status(), file.path());
  PackageReport report = Verifier(*package, options).Verify();
  report.path = file.path();
  return report;
}

}  // namespace codeseal
