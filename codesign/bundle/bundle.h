// A bundle is a folder that counts as one piece of code: an app, a framework,
// a plug-in. Its shape says where its Info.plist, its main executable and the
// files that it seals are.
//
//   folder -> [Bundle] -> resource seal, slots -1 and -3 -> SigningPlan
//
// Spec: Security, bundlediskrep.cpp; CF, CFBundle.c. Rules BN-*.

#ifndef CODESEAL_CODESIGN_BUNDLE_BUNDLE_H_
#define CODESEAL_CODESIGN_BUNDLE_BUNDLE_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "codesign/base/bytes.h"
#include "codesign/base/error.h"
#include "codesign/bundle/resource_rules.h"

namespace codeseal {

// What the shape of a bundle depends on in its Info.plist; what else signing
// takes from it is in codesign/info_plist.h. Empty: absent, or no string.
struct BundleInfo {
  std::string executable;    // CFBundleExecutable, else NSExecutable
  std::string package_type;  // CFBundlePackageType
  std::string main_html;     // MainHTML of a widget
  // CFBundleResourceSpecification: a file of custom rules, relative to the
  // resource base; "" when it is no string.
  std::optional<std::string> resource_specification;
  bool is_installer = false;  // IFMajorVersion
  size_t entry_count = 0;     // "Info.plist entries=N"
};

// Errors: INVALID_ARGUMENT REASON_BAD_INFO_PLIST.
absl::StatusOr<BundleInfo> ParseBundleInfo(ByteView bytes);

enum class BundleLayout {
  kModern,        // all in Contents/
  kSupportFiles,  // all in "Support Files/"; obsolete
  kResources,     // Resources/ beside the executable: versions of frameworks
  kFlat,          // everything side by side: iOS
};

// What plays the main executable.
enum class MainFileKind {
  kExecutable,    // Mach-O, or any other file that the Info.plist names
  kWidget,        // the page of a widget
  kInfoPlist,     // a bundle without code is signed over its Info.plist
  kDistribution,  // the one *.dist file of an old installer package
};

// Immutable, copyable, thread-compatible. Paths are absolute or relative as the
// path given to Open() was.
class Bundle {
 public:
  // Finds out the shape of the folder. Of a versioned framework the version
  // Versions/Current is taken, or `version`. Reads the Info.plist, writes
  // nothing.
  //
  // Errors, with the path as subject: NOT_FOUND REASON_FILE_NOT_FOUND;
  // FAILED_PRECONDITION REASON_BAD_BUNDLE_FORMAT; INVALID_ARGUMENT
  // REASON_BAD_INFO_PLIST.
  static absl::StatusOr<Bundle> Open(const std::string& path,
                                     std::string_view version = "");

  const std::string& path() const { return path_; }  // without "/" at its end
  // "A" in a versioned framework, else "".
  const std::string& version() const { return version_; }
  BundleLayout layout() const { return layout_; }

  // The folder that the paths of a seal are relative to: Demo.app/Contents,
  // Demo.framework/Versions/A.
  const std::string& resource_base() const { return resource_base_; }
  // Where resources lie in it: "Resources/", or "" in a flat bundle.
  std::string_view resources_prefix() const;

  // The file whose bytes slot -1 seals; nullopt when there is none.
  const std::optional<std::string>& info_plist_path() const {
    return info_plist_path_;
  }
  const BundleInfo& info() const { return info_; }

  // The file that holds or is covered by the signature.
  const std::string& main_file() const { return main_file_; }
  MainFileKind main_file_kind() const { return main_file_kind_; }
  bool is_installer() const;
  // CFBundlePackageType is APPL and the shape is an app's.
  bool is_app_like() const;

  // "bundle with " or "app bundle with ", to be followed by the format of the
  // main executable; the whole text for other kinds of main file.
  std::string FormatPrefix() const;

  // resource_base()/_CodeSignature.
  std::string SignatureFolder() const;
  // SignatureFolder()/CodeResources, whose bytes slot -3 seals.
  std::string CodeResourcesPath() const;

  // What strict checking refuses, that is signing unless --no-strict, and
  // verification: BN-1 to BN-5, each at most once, first the one that Apple
  // would report. Everything else works in spite of them.
  std::span<const absl::Status> strict_errors() const { return strict_errors_; }
  absl::Status CheckStrict() const;

  // Files in SignatureFolder() that the signature has no use for: everything
  // but `used_names`, and an empty CodeSignature.
  // Errors: FAILED_PRECONDITION REASON_UNSEALED_APP_ROOT.
  absl::Status CheckSignatureFolder(
      std::span<const std::string> used_names) const;

  // The rules to seal with: those that the Info.plist names, else Apple's.
  // Errors: INVALID_ARGUMENT REASON_RESOURCE_RULES_INVALID.
  absl::StatusOr<ResourceRules> LoadResourceRules(ResourceRuleSet set) const;

  // Relative to the resource base: the signature, and what it covers in other
  // ways. Rules do not apply to them, and nothing below them is sealed.
  std::vector<std::string> ExcludedPaths() const;

 private:
  Bundle() = default;

  // A folder as CoreFoundation sees it, before Versions/ is looked at.
  struct View;
  static absl::StatusOr<View> Look(const std::string& folder,
                                   bool is_framework);

  absl::Status FindMainFile(const View& view);
  void CheckRoot(const View& before, const View& view);
  void AddStrictError(Reason reason, const std::string& path);

  std::string path_;
  std::string version_;
  BundleLayout layout_ = BundleLayout::kFlat;
  std::string resource_base_;
  std::optional<std::string> info_plist_path_;
  BundleInfo info_;
  std::string main_file_;
  MainFileKind main_file_kind_ = MainFileKind::kExecutable;
  bool is_app_shaped_ = true;
  std::vector<absl::Status> strict_errors_;
};

// The bundle whose main executable `path` is: naming the executable means the
// bundle. nullopt when it is a loose file.
std::optional<std::string> FindBundleOfExecutable(const std::string& path);

// Names of all versions of a versioned framework, but not "Current"; empty for
// every other bundle.
std::vector<std::string> FrameworkVersions(const std::string& path);

// .app, .framework, .xpc and the like: a folder of which people think as code.
// A dot in the name is enough to be nested code where a seal expects code.
bool HasBundleExtension(std::string_view name);

// The file of _CodeSignature that holds the blob of `slot` when the main file
// cannot: "CodeDirectory", "CodeRequirements-1" for 0x1000. Empty when a slot
// is not stored so.
std::string DetachedFileName(uint32_t slot);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_BUNDLE_BUNDLE_H_
