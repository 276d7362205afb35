#include "codesign/assess/preflight.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <utility>

#include "codesign/assess/failed_checks.h"
#include "codesign/base/error.h"
#include "codesign/base/mapped_file.h"
#include "codesign/base/parallel.h"
#include "codesign/bundle/bundle.h"
#include "codesign/bundle/links.h"
#include "codesign/image/flat_package.h"
#include "codesign/verify/stored_code.h"

namespace codeseal {
namespace {

namespace fs = std::filesystem;

std::string RealPathOrGiven(const std::string& path) {
  return RealPath(path).value_or(path);
}

// What one file, or the bundle whose executable it is, comes to.
struct Examined {
  std::string main_file;  // real path
  std::vector<BinaryFacts> binaries;
  std::vector<Finding> verification;
};

class FactFinder {
 public:
  FactFinder(const std::string& path, const PreflightOptions& options) {
    facts_.path = path;
    facts_.options = &options;
  }

  absl::StatusOr<PreflightFacts> Find() {
    if (const absl::StatusOr<MappedFile> file = MappedFile::Open(facts_.path);
        file.ok() && FlatPackage::IsFlatPackage(file->bytes())) {
      PackageVerifyOptions verify;
      verify.anchors = options().anchors;
      verify.now = options().now;
      ASSIGN_OR_RETURN(facts_.package, VerifyPackage(*file, verify));
      return std::move(facts_);
    }
    ASSIGN_OR_RETURN(const StoredCode code, StoredCode::Open(facts_.path));
    std::string root = facts_.path;
    if (const Bundle* bundle = code.bundle()) {
      root = bundle->path();
      facts_.is_bundle = true;
      facts_.resource_base = bundle->resource_base();
      ReadInfo(*bundle);
    }
    facts_.root = root;
    facts_.is_disk_image =
        code.Format().find("disk image") != std::string::npos;
    ASSIGN_OR_RETURN(facts_.files, FindFiles(root));
    Examine(code, root);
    for (const BinaryFacts& binary : facts_.binaries) {
      if (!binary.is_main || !binary.slice.build_version.has_value()) continue;
      facts_.is_macos = binary.slice.build_version->platform ==
                        static_cast<uint32_t>(Platform::kMacOs);
      break;
    }
    ReadProfile(root);
    return std::move(facts_);
  }

 private:
  const PreflightOptions& options() const { return *facts_.options; }

  void ReadInfo(const Bundle& bundle) {
    if (!bundle.info_plist_path().has_value()) return;
    const absl::StatusOr<MappedFile> file =
        MappedFile::Open(*bundle.info_plist_path());
    if (!file.ok()) return;
    const absl::StatusOr<PlistDict> info = ParsePlistDict(file->bytes());
    if (!info.ok()) return;
    if (const auto* text =
            FindInDict<std::string>(*info, "CFBundleIdentifier")) {
      facts_.bundle_identifier = *text;
    }
  }

  // Every Mach-O by itself, as the notary does: what a seal calls a resource
  // counts as well.
  void Examine(const StoredCode& root_code, const std::string& root) {
    Examined whole = ExamineOne(root_code, root, /*is_main=*/true);
    std::vector<const FoundFile*> others;
    for (const FoundFile& file : facts_.files) {
      if (file.is_mach_o && RealPathOrGiven(file.path) != whole.main_file) {
        others.push_back(&file);
      }
    }
    std::vector<Examined> all(others.size());
    ParallelFor(others.size(), [&](size_t i) {
      const absl::StatusOr<StoredCode> code = OpenItem(others[i]->path);
      if (code.ok()) {
        all[i] = ExamineOne(*code, root, /*is_main=*/false);
      } else {
        all[i].verification.push_back(
            {.rule = "valid-signature",
             .path = others[i]->path,
             .message = "The signature of the binary is invalid.",
             .detail = std::string(Message(code.status())),
             .fix = "build it again, or leave it out: it cannot be read"});
      }
    });
    all.insert(all.begin(), std::move(whole));
    for (Examined& each : all) {
      std::move(each.binaries.begin(), each.binaries.end(),
                std::back_inserter(facts_.binaries));
      for (Finding& finding : each.verification) {
        // The code around an item may have said it.
        if (std::find(facts_.verification.begin(), facts_.verification.end(),
                      finding) == facts_.verification.end()) {
          facts_.verification.push_back(std::move(finding));
        }
      }
    }
  }

  // The bundle of which the file is the executable; else the file alone.
  static absl::StatusOr<StoredCode> OpenItem(const std::string& path) {
    const std::optional<std::string> bundle = FindBundleOfExecutable(path);
    if (!bundle.has_value()) return StoredCode::Open(path);
    absl::StatusOr<StoredCode> code = StoredCode::Open(*bundle);
    if (!code.ok() ||
        RealPathOrGiven(code->main_file().path()) == RealPathOrGiven(path)) {
      return code;
    }
    // A version of a framework that is not the current one.
    const std::string version =
        fs::path(path).lexically_relative(*bundle).parent_path().filename();
    return StoredCode::Open(*bundle, version);
  }

  Examined ExamineOne(const StoredCode& code, const std::string& root,
                      bool is_main) const {
    VerifyOptions verify;
    verify.anchors = options().anchors;
    verify.restricts_symlinks = true;
    verify.now = options().now;
    const VerificationReport report = Verify(code, verify);
    Examined examined;
    examined.main_file = RealPathOrGiven(code.main_file().path());
    examined.verification = FindingsOfReport(
        report, "valid-signature", "The signature of the binary is invalid.");
    const CodeDescription description = Describe(code);
    for (size_t i = 0; i < code.parts().size(); ++i) {
      const MachO* mach_o = code.parts()[i].mach_o;
      BinaryFacts& binary = examined.binaries.emplace_back();
      binary.path = code.main_file().path();
      if (facts_.is_bundle) {
        binary.relative_path =
            fs::path(binary.path).lexically_relative(root).string();
      }
      binary.is_mach_o = mach_o != nullptr;
      if (mach_o != nullptr) binary.file_type = mach_o->file_type();
      binary.is_main = is_main;
      binary.slice = description.slices[i];
      binary.report = report.slices[i];
      binary.signer =
          KindOfSigner(binary.report.authorities, binary.report.trusted);
      binary.team = TeamOfSigner(binary.report.authorities, binary.signer);
    }
    return examined;
  }

  void ReadProfile(const std::string& root) {
    std::optional<Bytes> embedded;
    if (facts_.is_bundle) {
      for (const std::string& path :
           {facts_.resource_base + "/embedded.provisionprofile",
            root + "/embedded.mobileprovision"}) {
        const absl::StatusOr<MappedFile> file = MappedFile::Open(path);
        if (!file.ok()) continue;
        embedded = ToBytes(file->bytes());
        facts_.profile_path = path;
      }
    }
    facts_.has_embedded_profile = embedded.has_value();
    std::optional<Bytes> bytes = embedded;
    if (options().profile.has_value()) {
      bytes = options().profile;
      facts_.profile_path = options().profile_path;
      facts_.embedded_profile_is_given_one = embedded == bytes;
    }
    if (!bytes.has_value()) return;
    absl::StatusOr<ProvisioningProfile> profile =
        ProvisioningProfile::Parse(*bytes);
    facts_.profile_status = profile.status();
    if (profile.ok()) facts_.profile = *std::move(profile);
  }

  PreflightFacts facts_;
};

}  // namespace

bool BinaryFacts::Claims(std::string_view key) const {
  if (entitlements() == nullptr) return false;
  const bool* value = FindInDict<bool>(*entitlements(), key);
  return value != nullptr && *value;
}

absl::StatusOr<PreflightReport> Preflight(const std::string& path,
                                          const PreflightOptions& options) {
  ASSIGN_OR_RETURN(const PreflightFacts facts,
                   FactFinder(path, options).Find());
  PreflightReport report;
  report.path = path;
  report.findings = ApplyPreflightRules(facts);
  for (const BinaryFacts& binary : facts.binaries) {
    if (!binary.is_signed()) continue;
    report.ticket.push_back({.path = binary.path,
                             .architecture = binary.slice.architecture,
                             .digest_kind = binary.slice.digest_kind,
                             .cdhash = binary.slice.cdhash});
  }
  report.not_checked = {
      "revocation of certificates, malware, and what Apple changes from day to "
      "day"};
  if (facts.profile.has_value()) {
    report.not_checked.push_back("who signed the provisioning profile");
  }
  if (facts.package.has_value()) {
    report.not_checked.push_back("the code inside the package's payload");
  }
  if (facts.is_disk_image) {
    report.not_checked.push_back("the files inside the disk image");
  }
  return report;
}

}  // namespace codeseal
