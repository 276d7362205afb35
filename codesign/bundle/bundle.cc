#include "codesign/bundle/bundle.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include "codesign/base/mapped_file.h"
#include "codesign/bundle/bundle_error.h"
#include "codesign/bundle/links.h"
#include "codesign/bundle/property_list.h"

namespace codeseal {
namespace {

namespace fs = std::filesystem;

constexpr char kSignatureFolder[] = "_CodeSignature";

// --- Small questions to the file system
// ---------------------------------------

bool Exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

bool IsDirectory(const std::string& path) {
  struct stat status;
  return stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

// Also through symbolic links.
bool IsFile(const std::string& path) {
  struct stat status;
  return stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode);
}

// Itself, no symbolic link.
bool IsPlainFile(const std::string& path) {
  struct stat status;
  return lstat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode);
}

struct DirectoryEntry {
  std::string name;
  struct stat status;

  bool is_directory() const { return S_ISDIR(status.st_mode); }
  bool is_symlink() const { return S_ISLNK(status.st_mode); }
  bool is_quiet_file() const {  // no code
    return S_ISREG(status.st_mode) && (status.st_mode & 0111) == 0;
  }
};

// In order of names, without "." and ".."; empty when it cannot be listed.
std::vector<DirectoryEntry> ListDirectory(const std::string& path) {
  std::vector<DirectoryEntry> entries;
  std::error_code error;
  for (fs::directory_iterator it(path, error), end; !error && it != end;
       it.increment(error)) {
    DirectoryEntry entry = {it->path().filename().string(), {}};
    if (lstat(it->path().c_str(), &entry.status) == 0) {
      entries.push_back(std::move(entry));
    }
  }
  std::sort(entries.begin(), entries.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  return entries;
}

std::string LastPart(std::string_view path) {
  return std::string(path.substr(path.rfind('/') + 1));
}

std::string Parent(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::string WithoutExtension(std::string name) {
  const size_t dot = name.rfind('.');
  if (dot != std::string::npos && dot != 0) name.resize(dot);
  return name;
}

// A relative path that stays below where it starts.
bool StaysInside(std::string_view path) {
  if (path.empty() || path.front() == '/' ||
      path.find('\0') != std::string_view::npos) {
    return false;
  }
  const fs::path parts(path);
  return std::none_of(parts.begin(), parts.end(),
                      [](const fs::path& part) { return part == ".."; });
}

// --- Shapes
// --------------------------------------------------------------------

// What CoreFoundation takes a folder for. In a framework Resources comes
// before Contents.
BundleLayout LayoutOf(const std::string& folder, bool is_framework) {
  const bool has_contents = IsDirectory(folder + "/Contents");
  const bool has_resources = IsDirectory(folder + "/Resources");
  if (is_framework && has_resources) return BundleLayout::kResources;
  if (has_contents) return BundleLayout::kModern;
  if (has_resources) return BundleLayout::kResources;
  if (IsDirectory(folder + "/Support Files")) {
    return BundleLayout::kSupportFiles;
  }
  return BundleLayout::kFlat;
}

std::string BaseOf(const std::string& folder, BundleLayout layout) {
  switch (layout) {
    case BundleLayout::kModern:
      return folder + "/Contents";
    case BundleLayout::kSupportFiles:
      return folder + "/Support Files";
    case BundleLayout::kResources:
    case BundleLayout::kFlat:
      break;
  }
  return folder;
}

// Where CoreFoundation looks for an executable, one place after another.
std::vector<std::string> ExecutableFolders(const std::string& folder,
                                           BundleLayout layout) {
  switch (layout) {
    case BundleLayout::kModern:
      return {folder + "/Contents/MacOS", folder + "/Contents", folder};
    case BundleLayout::kSupportFiles:
      return {folder + "/Support Files/Executables/MacOS",
              folder + "/Support Files/Executables", folder};
    case BundleLayout::kFlat:
      return {folder + "/MacOS", folder};
    case BundleLayout::kResources:
      break;
  }
  return {folder};
}

std::string FileInFolders(const std::vector<std::string>& folders,
                          const std::string& name) {
  if (!StaysInside(name)) return "";
  for (const std::string& folder : folders) {
    std::string path = folder + "/" + name;
    if (IsFile(path)) return path;
  }
  return "";
}

// A link that names something of the same name in the current version.
bool LeadsToNamesake(const std::string& link, const std::string& name,
                     const std::optional<std::string>& current) {
  std::string_view target = link;
  if (target.starts_with("./")) target.remove_prefix(2);
  return target == "Versions/Current/" + name ||
         (current.has_value() && target == "Versions/" + *current + "/" + name);
}

// A link that names its sibling.
bool LeadsToSibling(std::string_view target) {
  if (target.starts_with("./")) target.remove_prefix(2);
  return !target.empty() && target != "." && target != ".." &&
         target.find('/') == std::string_view::npos;
}

// Apple's only guests beside Contents.
bool MayLieBesideContents(const DirectoryEntry& entry) {
  return entry.is_quiet_file() &&
         (entry.name == ".LSOverride" || entry.name == ".DS_Store" ||
          entry.name == "Icon\r" || entry.name == ".SoftwareDepot.tracking");
}

bool IsAppRootSealed(const std::string& root) {
  bool has_contents = false;
  for (const DirectoryEntry& entry : ListDirectory(root)) {
    if (entry.name == "Contents" && entry.is_directory()) {
      has_contents = true;
    } else if (!MayLieBesideContents(entry)) {
      return false;
    }
  }
  return has_contents;
}

bool IsVersionsFolderSealed(const std::string& versions) {
  bool has_version = false;
  bool has_current = false;
  for (const DirectoryEntry& entry : ListDirectory(versions)) {
    if (entry.is_directory()) {
      has_version = true;
    } else if (entry.name == "Current" && entry.is_symlink() &&
               LeadsToSibling(LinkTarget(versions + "/Current").value_or(""))) {
      has_current = true;
    } else if (entry.name != ".DS_Store" || !entry.is_quiet_file()) {
      return false;
    }
  }
  return has_version && has_current;
}

bool IsFrameworkRootSealed(const std::string& root) {
  const std::optional<std::string> current =
      LinkTarget(root + "/Versions/Current");
  bool has_versions = false;
  for (const DirectoryEntry& entry : ListDirectory(root)) {
    if (entry.name == "Versions" && entry.is_directory()) {
      has_versions = true;
      continue;
    }
    const bool is_allowed =
        entry.is_symlink()
            ? LeadsToNamesake(LinkTarget(root + "/" + entry.name).value_or(""),
                              entry.name, current)
            : entry.is_quiet_file() &&
                  (entry.name == ".DS_Store" || entry.name == "module.map");
    if (!is_allowed) return false;
  }
  return has_versions && IsVersionsFolderSealed(root + "/Versions");
}

absl::StatusOr<std::string> FindDistribution(const std::string& folder) {
  std::string found;
  for (const DirectoryEntry& entry : ListDirectory(folder)) {
    if (!S_ISREG(entry.status.st_mode) || !entry.name.ends_with(".dist")) {
      continue;
    }
    if (!found.empty()) {
      return BundleError(v1::REASON_BAD_BUNDLE_FORMAT, folder,
                         "there are several .dist files");
    }
    found = folder + "/" + entry.name;
  }
  return found;
}

std::string TextOf(const PlistDict& dict, std::string_view key) {
  const auto* text = FindInDict<std::string>(dict, key);
  return text == nullptr ? "" : *text;
}

}  // namespace

absl::StatusOr<BundleInfo> ParseBundleInfo(ByteView bytes) {
  absl::StatusOr<PlistDict> dict = ParsePlistDict(bytes);
  if (!dict.ok()) {
    return BundleError(v1::REASON_BAD_INFO_PLIST, "", Message(dict.status()));
  }
  BundleInfo info;
  info.executable = TextOf(*dict, "CFBundleExecutable");
  if (info.executable.empty()) info.executable = TextOf(*dict, "NSExecutable");
  info.package_type = TextOf(*dict, "CFBundlePackageType");
  info.main_html = TextOf(*dict, "MainHTML");
  if (dict->contains("CFBundleResourceSpecification")) {
    info.resource_specification =
        TextOf(*dict, "CFBundleResourceSpecification");
  }
  info.is_installer = dict->contains("IFMajorVersion");
  info.entry_count = dict->size();
  return info;
}

struct Bundle::View {
  std::string folder;
  BundleLayout layout = BundleLayout::kFlat;
  std::string base;
  std::optional<std::string> info_plist_path;
  BundleInfo info;
  std::string executable;  // a file that exists, or empty
};

absl::StatusOr<Bundle::View> Bundle::Look(const std::string& folder,
                                          bool is_framework) {
  View view;
  view.folder = folder;
  view.layout = LayoutOf(folder, is_framework);
  view.base = BaseOf(folder, view.layout);
  const std::string info_plist_path = view.layout == BundleLayout::kResources
                                          ? folder + "/Resources/Info.plist"
                                          : view.base + "/Info.plist";
  if (IsFile(info_plist_path)) {
    ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(info_plist_path));
    absl::StatusOr<BundleInfo> info = ParseBundleInfo(file.bytes());
    if (!info.ok()) return WithSubject(info.status(), info_plist_path);
    view.info = *std::move(info);
    view.info_plist_path = info_plist_path;
  }
  const std::string name = view.info.executable.empty()
                               ? WithoutExtension(LastPart(folder))
                               : view.info.executable;
  view.executable = FileInFolders(ExecutableFolders(folder, view.layout), name);
  return view;
}

absl::StatusOr<Bundle> Bundle::Open(const std::string& path,
                                    std::string_view version) {
  Bundle bundle;
  bundle.path_ = path;
  while (bundle.path_.size() > 1 && bundle.path_.ends_with('/')) {
    bundle.path_.pop_back();
  }
  const std::string& root = bundle.path_;
  if (!Exists(root)) return FileError(errno, v1::STAGE_PLAN, "open", root);
  if (!IsDirectory(root)) {
    return BundleError(v1::REASON_BAD_BUNDLE_FORMAT, root, "this is no folder");
  }

  ASSIGN_OR_RETURN(const View before, Look(root, root.ends_with(".framework")));
  View view = before;
  const std::string versions = root + "/Versions";
  const bool is_versioned =
      !Exists(root + "/Contents") && !Exists(root + "/Support Files") &&
      IsDirectory(versions + "/" +
                  (version.empty() ? "Current" : std::string(version)));
  if (is_versioned) {
    bundle.version_ = version;
    if (version.empty()) {
      // Versions/Current/. -> Versions/A, so that paths do not hide the name.
      bundle.version_ = "Current";
      const std::optional<std::string> target =
          LinkTarget(versions + "/Current");
      if (target.has_value() && LeadsToSibling(*target)) {
        bundle.version_ = LastPart(*target);
      }
    }
    ASSIGN_OR_RETURN(
        view, Look(versions + "/" + bundle.version_, /*is_framework=*/false));
  } else if (!version.empty()) {
    return WithSubject(
        MakeError(absl::StatusCode::kNotFound, v1::STAGE_PLAN,
                  v1::REASON_FILE_NOT_FOUND, "there is no such version"),
        versions + "/" + std::string(version));
  }

  bundle.layout_ = view.layout;
  bundle.resource_base_ = view.base;
  bundle.info_plist_path_ = view.info_plist_path;
  bundle.info_ = view.info;
  bundle.is_app_shaped_ = !is_versioned && !Exists(root + "/Support Files");
  RETURN_IF_ERROR(bundle.FindMainFile(view));
  // A version that is named by hand is not looked at from outside.
  if (version.empty()) bundle.CheckRoot(before, view);
  if (!IsPlainFile(bundle.main_file_)) {  // BN-4
    bundle.AddStrictError(v1::REASON_NOT_REGULAR_FILE, bundle.main_file_);
  } else if (bundle.info_plist_path_.has_value() &&
             !IsPlainFile(*bundle.info_plist_path_)) {  // BN-5
    bundle.AddStrictError(v1::REASON_NOT_REGULAR_FILE,
                          *bundle.info_plist_path_);
  }
  std::sort(bundle.strict_errors_.begin(), bundle.strict_errors_.end(),
            [](const absl::Status& a, const absl::Status& b) {
              return AppleErrorCode(GetReason(a)) <
                     AppleErrorCode(GetReason(b));
            });
  return bundle;
}

absl::Status Bundle::FindMainFile(const View& view) {
  if (!view.info.main_html.empty()) {
    main_file_kind_ = MainFileKind::kWidget;
    main_file_ = FileInFolders({view.base}, view.info.main_html);
  } else if (!view.executable.empty()) {
    main_file_kind_ = MainFileKind::kExecutable;
    main_file_ = view.executable;
  } else if (view.info_plist_path.has_value()) {
    main_file_kind_ = MainFileKind::kInfoPlist;
    main_file_ = *view.info_plist_path;
  } else {
    main_file_kind_ = MainFileKind::kDistribution;
    ASSIGN_OR_RETURN(main_file_, FindDistribution(view.base));
  }
  if (main_file_.empty()) {
    return BundleError(v1::REASON_BAD_BUNDLE_FORMAT, path_,
                       main_file_kind_ == MainFileKind::kWidget
                           ? "MainHTML names no file"
                           : "there is neither an executable nor an "
                             "Info.plist");
  }
  return absl::OkStatus();
}

void Bundle::CheckRoot(const View& before, const View& view) {
  if (Exists(path_ + "/Contents")) {
    if (!IsAppRootSealed(path_)) {  // BN-1
      AddStrictError(v1::REASON_UNSEALED_APP_ROOT, path_);
    }
  } else if (before.folder != view.folder) {
    if (!IsFrameworkRootSealed(path_)) {  // BN-2
      AddStrictError(v1::REASON_UNSEALED_FRAMEWORK_ROOT, path_);
    }
  }
  // Whoever looks at the root must not see other code than in the version.
  if (main_file_kind_ != MainFileKind::kExecutable) return;
  const bool has_moved =
      (!before.executable.empty() &&
       RealPath(before.executable) != RealPath(main_file_)) ||
      (before.info_plist_path.has_value() && info_plist_path_.has_value() &&
       RealPath(*before.info_plist_path) != RealPath(*info_plist_path_));
  if (has_moved) {  // BN-3
    AddStrictError(v1::REASON_AMBIGUOUS_BUNDLE_FORMAT, path_);
  }
}

void Bundle::AddStrictError(Reason reason, const std::string& path) {
  strict_errors_.push_back(BundleError(reason, path));
}

std::string_view Bundle::resources_prefix() const {
  return layout_ == BundleLayout::kFlat ? "" : "Resources/";
}

bool Bundle::is_installer() const {
  return main_file_kind_ == MainFileKind::kDistribution ||
         (main_file_kind_ == MainFileKind::kInfoPlist && info_.is_installer);
}

bool Bundle::is_app_like() const {
  return main_file_kind_ == MainFileKind::kWidget ||
         (main_file_kind_ == MainFileKind::kExecutable &&
          info_.package_type == "APPL" && is_app_shaped_);
}

std::string Bundle::FormatPrefix() const {
  switch (main_file_kind_) {
    case MainFileKind::kExecutable:
      return info_.package_type == "APPL" ? "app bundle with " : "bundle with ";
    case MainFileKind::kWidget:
      return "widget bundle";
    case MainFileKind::kInfoPlist:
    case MainFileKind::kDistribution:
      break;
  }
  return is_installer() ? "installer package bundle" : "bundle";
}

std::string Bundle::SignatureFolder() const {
  return resource_base_ + "/" + kSignatureFolder;
}

std::string Bundle::CodeResourcesPath() const {
  return SignatureFolder() + "/CodeResources";
}

absl::Status Bundle::CheckStrict() const {
  return strict_errors_.empty() ? absl::OkStatus() : strict_errors_.front();
}

absl::Status Bundle::CheckSignatureFolder(
    std::span<const std::string> used_names) const {
  const std::string folder = SignatureFolder();
  for (const DirectoryEntry& entry : ListDirectory(folder)) {
    const bool is_used = std::find(used_names.begin(), used_names.end(),
                                   entry.name) != used_names.end();
    const bool is_empty_signature =
        entry.name == "CodeSignature" && entry.status.st_size == 0;
    if (!S_ISREG(entry.status.st_mode) || !(is_used || is_empty_signature)) {
      return BundleError(v1::REASON_UNSEALED_APP_ROOT,  // BN-6
                         folder + "/" + entry.name);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<ResourceRules> Bundle::LoadResourceRules(
    ResourceRuleSet set) const {
  if (!info_.resource_specification.has_value()) {
    if (is_installer()) set = ResourceRuleSet::kInstaller;
    return DefaultResourceRules(set, resources_prefix());
  }
  const std::string path = resource_base_ + "/" + *info_.resource_specification;
  const auto invalid = [&](std::string_view why) {
    return BundleError(v1::REASON_RESOURCE_RULES_INVALID, path, why);
  };
  if (!StaysInside(*info_.resource_specification)) {
    return invalid("CFBundleResourceSpecification names no file of the bundle");
  }
  const absl::StatusOr<MappedFile> file = MappedFile::Open(path);
  if (!file.ok()) return invalid(Message(file.status()));
  const absl::StatusOr<PlistDict> dict = ParsePlistDict(file->bytes());
  if (!dict.ok()) return invalid(Message(dict.status()));
  return ResourceRulesFromPlist(*dict);
}

std::vector<std::string> Bundle::ExcludedPaths() const {
  // CodeResources beside the folder is a stapled ticket, once it was a link.
  std::vector<std::string> paths = {kSignatureFolder, "CodeResources",
                                    "_MASReceipt"};
  if (main_file_.starts_with(resource_base_ + "/")) {
    paths.push_back(main_file_.substr(resource_base_.size() + 1));
  }
  return paths;
}

std::optional<std::string> FindBundleOfExecutable(const std::string& path) {
  std::string folder = Parent(path);
  std::vector<std::string> candidates;
  if (LastPart(folder) == "MacOS") folder = Parent(folder);
  if (LastPart(folder) == "Contents") {
    candidates.push_back(Parent(folder));
  } else if (LastPart(Parent(folder)) == "Versions") {
    candidates.push_back(Parent(Parent(folder)));
  } else {
    candidates.push_back(folder);
  }
  for (const std::string& candidate : candidates) {
    if (!HasBundleExtension(LastPart(RealPath(candidate).value_or("")))) {
      continue;
    }
    const absl::StatusOr<Bundle> bundle = Bundle::Open(candidate);
    if (bundle.ok() && bundle->main_file_kind() == MainFileKind::kExecutable &&
        RealPath(bundle->main_file()) == RealPath(path)) {
      return candidate;
    }
  }
  return std::nullopt;
}

std::vector<std::string> FrameworkVersions(const std::string& path) {
  std::vector<std::string> versions;
  for (const DirectoryEntry& entry : ListDirectory(path + "/Versions")) {
    if (entry.is_directory() && entry.name != "Current") {
      versions.push_back(entry.name);
    }
  }
  return versions;
}

bool HasBundleExtension(std::string_view name) {
  static constexpr std::array<std::string_view, 18> kExtensions = {
      ".app",         ".appex",       ".bundle", ".component",       ".dext",
      ".framework",   ".fs",          ".kext",   ".mdimporter",      ".plugin",
      ".prefPane",    ".qlgenerator", ".saver",  ".systemextension", ".wdgt",
      ".xcframework", ".xctest",      ".xpc"};
  return std::any_of(
      kExtensions.begin(), kExtensions.end(),
      [name](std::string_view each) { return name.ends_with(each); });
}

std::string DetachedFileName(uint32_t slot) {
  switch (slot) {  // Wire values of the slots.
    case 0:
      return "CodeDirectory";
    case 2:
      return "CodeRequirements";
    case 3:
      return "CodeResources";
    case 4:
      return "CodeTopDirectory";
    case 5:
      return "CodeEntitlements";
    case 6:
      return "CodeRepSpecific";
    case 7:
      return "CodeEntitlementDER";
    case 8:
      return "LaunchConstraintSelf";
    case 9:
      return "LaunchConstraintParent";
    case 10:
      return "LaunchConstraintResponsible";
    case 11:
      return "LibraryConstraint";
    case 0x10000:
      return "CodeSignature";
    default:
      break;
  }
  if (slot >= 0x1000 && slot < 0x1005) {  // alternate CodeDirectories
    return "CodeRequirements-" + std::to_string(slot - 0x1000 + 1);
  }
  return "";
}

}  // namespace codeseal
