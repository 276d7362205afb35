#include "codesign/bundle/resource_seal.h"

#include <algorithm>
#include <cctype>
#include <unordered_map>

#include "codesign/base/mapped_file.h"
#include "codesign/base/utf8.h"
#include "codesign/bundle/bundle_error.h"
#include "codesign/bundle/file_digests.h"
#include "codesign/bundle/links.h"
#include "codesign/bundle/tree_walk.h"

namespace codeseal {
namespace {

// --- Stored form
// ---------------------------------------------------------------

std::string DigestKey(DigestKind kind) {
  if (kind == DigestKind::kSha1) return "hash";
  return "hash" + std::to_string(static_cast<int>(kind));
}

PlistValue ToPlist(const SealedResource& resource) {
  PlistDict dict;
  if (const auto* file = std::get_if<SealedFile>(&resource.what)) {
    const bool is_sha1_alone =
        file->digests.size() == 1 && file->digests.contains(DigestKind::kSha1);
    if (is_sha1_alone && !resource.optional) {
      return PlistValue{file->digests.begin()->second};
    }
    for (const auto& [kind, digest] : file->digests) {
      dict[DigestKey(kind)] = PlistValue{digest};
    }
  } else if (const auto* link = std::get_if<SealedSymlink>(&resource.what)) {
    dict["symlink"] = PlistValue{link->target};
  } else if (const auto* code = std::get_if<NestedCode>(&resource.what)) {
    dict["cdhash"] = PlistValue{ToBytes(code->cdhash)};
    dict["requirement"] = PlistValue{code->requirement};
  }
  if (resource.optional) dict["optional"] = PlistValue{true};
  return PlistValue{std::move(dict)};
}

PlistValue ToPlist(const Version1Resource& resource) {
  if (!resource.optional.has_value()) return PlistValue{resource.sha1};
  PlistDict dict;
  dict["hash"] = PlistValue{resource.sha1};
  dict["optional"] = PlistValue{*resource.optional};
  return PlistValue{std::move(dict)};
}

template <typename Files>
PlistValue ToPlist(const Files& files) {
  PlistDict dict;
  for (const auto& [path, resource] : files) dict[path] = ToPlist(resource);
  return PlistValue{std::move(dict)};
}

absl::Status InvalidSeal(std::string_view path, std::string_view why) {
  return BundleError(v1::REASON_RESOURCE_SEAL_INVALID, path, why);
}

// A path names something below the resource base, or, in a seal of the bundle's
// root, beside it ("../NAME"). Nothing is ever looked up by such a path, but
// one that leads elsewhere, or that the walk would spell otherwise, would never
// be compared with anything.
absl::Status CheckPath(const std::string& path) {
  std::string_view rest = path;
  if (rest.starts_with("../")) rest.remove_prefix(3);
  for (;;) {
    const size_t slash = rest.find('/');
    const std::string_view part = rest.substr(0, slash);
    if (part.empty() || part == "." || part == ".." ||
        part.find('\0') != std::string_view::npos) {
      return InvalidSeal(path, "this is no path of a file in the bundle");
    }
    if (slash == std::string_view::npos) return absl::OkStatus();
    rest.remove_prefix(slash + 1);
  }
}

absl::StatusOr<SealedFile> ToSealedFile(const std::string& path,
                                        const PlistDict& dict) {
  SealedFile file;
  for (const DigestKind kind :
       {DigestKind::kSha1, DigestKind::kSha256, DigestKind::kSha256Truncated,
        DigestKind::kSha384}) {
    const std::string key = DigestKey(kind);
    if (!dict.contains(key)) continue;
    const auto* digest = FindInDict<Bytes>(dict, key);
    if (digest == nullptr || digest->size() != DigestSize(kind)) {
      return InvalidSeal(path, key + " is no digest");
    }
    file.digests[kind] = *digest;
  }
  if (file.digests.empty()) return InvalidSeal(path, "there is no digest");
  return file;
}

absl::StatusOr<NestedCode> ToNestedCode(const std::string& path,
                                        const PlistDict& dict) {
  const auto* requirement = FindInDict<std::string>(dict, "requirement");
  if (requirement == nullptr) {
    return InvalidSeal(path, "requirement is no text");
  }
  NestedCode code = {.requirement = *requirement};
  if (dict.contains("cdhash")) {
    const auto* cdhash = FindInDict<Bytes>(dict, "cdhash");
    if (cdhash == nullptr || cdhash->size() != code.cdhash.size()) {
      return InvalidSeal(path, "cdhash is no cdhash");
    }
    std::copy(cdhash->begin(), cdhash->end(), code.cdhash.begin());
  }
  return code;
}

absl::StatusOr<SealedResource> ToSealedResource(const std::string& path,
                                                const PlistValue& value) {
  if (const auto* sha1 = value.As<Bytes>()) {
    PlistDict dict;
    dict["hash"] = PlistValue{*sha1};
    ASSIGN_OR_RETURN(SealedFile file, ToSealedFile(path, dict));
    return SealedResource{.what = std::move(file)};
  }
  const auto* dict = value.As<PlistDict>();
  if (dict == nullptr) {
    return InvalidSeal(path, "neither data nor a dictionary");
  }
  SealedResource resource;
  if (dict->contains("optional")) {
    const bool* optional = FindInDict<bool>(*dict, "optional");
    if (optional == nullptr) return InvalidSeal(path, "optional is no boolean");
    resource.optional = *optional;
  }
  if (dict->contains("requirement")) {
    ASSIGN_OR_RETURN(resource.what, ToNestedCode(path, *dict));
  } else if (dict->contains("symlink")) {
    const auto* target = FindInDict<std::string>(*dict, "symlink");
    if (target == nullptr) return InvalidSeal(path, "symlink is no text");
    resource.what = SealedSymlink{*target};
  } else {
    ASSIGN_OR_RETURN(resource.what, ToSealedFile(path, *dict));
  }
  return resource;
}

absl::StatusOr<Version1Resource> ToVersion1Resource(const std::string& path,
                                                    const PlistValue& value) {
  ASSIGN_OR_RETURN(const SealedResource resource,
                   ToSealedResource(path, value));
  const auto* file = std::get_if<SealedFile>(&resource.what);
  if (file == nullptr || !file->digests.contains(DigestKind::kSha1)) {
    return InvalidSeal(path, "there is no SHA-1 digest");
  }
  Version1Resource result = {.sha1 = file->digests.at(DigestKind::kSha1),
                             .optional = std::nullopt};
  if (value.As<PlistDict>() != nullptr) result.optional = resource.optional;
  return result;
}

// --- Walking
// ----------------------------------------------------------------------

bool IsDsStore(std::string_view name) {
  constexpr std::string_view kName = ".DS_Store";
  return std::equal(name.begin(), name.end(), kName.begin(), kName.end(),
                    [](char a, char b) {
                      return std::tolower(static_cast<unsigned char>(a)) ==
                             std::tolower(static_cast<unsigned char>(b));
                    });
}

using ResourceVisitor =
    std::function<absl::Status(const TreeNode& node, const ResourceRule& rule)>;

// Calls `visit` for everything that the rules say is to be sealed: files,
// links, and, where a rule says that code is nested, folders whose names have a
// dot. A nested rule never applies to a link.
absl::Status WalkResources(const std::string& root, const std::string& base,
                           const ResourceMatcher& matcher, bool is_strict,
                           const ResourceVisitor& visit) {
  return WalkTree(
      root, base, [&](const TreeNode& node) -> absl::StatusOr<WalkStep> {
        if (node.type == NodeType::kUnreadable) {
          if (!is_strict) return WalkStep::kContinue;
          return BundleError(v1::REASON_RESOURCE_NOT_READABLE,
                             node.absolute_path);
        }
        if (node.type == NodeType::kOther) {
          if (!is_strict) return WalkStep::kContinue;
          return BundleError(v1::REASON_RESOURCE_NOT_SUPPORTED,
                             node.absolute_path);
        }
        if (node.type == NodeType::kSymlink && IsDsStore(node.name)) {
          return BundleError(v1::REASON_DS_STORE_SYMLINK, node.absolute_path);
        }
        const ResourceRule* rule = matcher.Find(node.path);
        if (rule == nullptr) return WalkStep::kContinue;
        if (node.type == NodeType::kDirectory) {
          if (rule->excluded) return WalkStep::kSkip;
          if (!rule->nested || node.name.find('.') == std::string::npos) {
            return WalkStep::kContinue;
          }
          RETURN_IF_ERROR(visit(node, *rule));
          return WalkStep::kSkip;
        }
        if (!rule->is_sealed()) return WalkStep::kContinue;
        ResourceRule effective = *rule;
        if (node.type == NodeType::kSymlink) effective.nested = false;
        RETURN_IF_ERROR(visit(node, effective));
        return WalkStep::kContinue;
      });
}

// Makes one seal. Files are first listed, then hashed all together.
class Sealer {
 public:
  Sealer(const Bundle& bundle, const SealOptions& options,
         const NestedCodeFinder& find_nested)
      : bundle_(bundle), options_(options), find_nested_(find_nested) {}

  absl::StatusOr<ResourceSeal> Seal(const ResourceRules& rules) && {
    root_ = bundle_.resource_base();
    if (options_.seals_root) {
      root_ = bundle_.path();
      const bool is_near = root_ == bundle_.resource_base() ||
                           root_ + "/Contents" == bundle_.resource_base();
      if (!is_near) {
        return BundleError(v1::REASON_BAD_BUNDLE_FORMAT, root_,
                           "the root of such a bundle cannot be sealed");
      }
    }
    seal_.rules.rules = rules.rules;
    if (options_.writes_version2) {
      seal_.rules.rules2 = RulesOfVersion2(rules);
      RETURN_IF_ERROR(ListVersion2());
    }
    if (options_.writes_version1) RETURN_IF_ERROR(ListVersion1());
    ComputeFileDigests(hashed_, options_.thread_count, options_.on_hashed);
    for (const FileDigests& file : hashed_) RETURN_IF_ERROR(file.status);
    TakeDigests();
    return std::move(seal_);
  }

 private:
  absl::Status ListVersion2() {
    ASSIGN_OR_RETURN(
        const ResourceMatcher matcher,
        ResourceMatcher::Create(*seal_.rules.rules2, bundle_.ExcludedPaths()));
    auto& files = seal_.files2.emplace();
    return Walk(
        matcher,
        [&](const TreeNode& node, const ResourceRule& rule) -> absl::Status {
          SealedResource& resource = files[node.path];
          resource.optional = rule.optional;
          if (rule.nested) {
            absl::StatusOr<NestedCode> code =
                find_nested_(node.path, node.absolute_path);
            if (!code.ok()) {
              return WithSubject(code.status(), node.absolute_path);
            }
            resource.what = *std::move(code);
          } else if (node.type == NodeType::kSymlink) {
            std::string target = LinkTarget(node.absolute_path).value_or("");
            RETURN_IF_ERROR(CheckUtf8(target, node));
            resource.what = SealedSymlink{std::move(target)};
          } else {
            resource.what = SealedFile{};
            Hashed(node).kinds = options_.digests;
          }
          return absl::OkStatus();
        });
  }

  absl::Status ListVersion1() {
    ASSIGN_OR_RETURN(
        const ResourceMatcher matcher,
        ResourceMatcher::Create(seal_.rules.rules, bundle_.ExcludedPaths()));
    auto& files = seal_.files.emplace();
    return Walk(matcher, [&](const TreeNode& node, const ResourceRule& rule) {
      if (node.type != NodeType::kFile) return absl::OkStatus();
      auto& kinds = Hashed(node).kinds;
      if (std::find(kinds.begin(), kinds.end(), DigestKind::kSha1) ==
          kinds.end()) {
        kinds.push_back(DigestKind::kSha1);
      }
      if (rule.optional || rule.nested) {
        files[node.path].optional = rule.optional;
      } else {
        files[node.path].optional = std::nullopt;
      }
      return absl::OkStatus();
    });
  }

  absl::Status Walk(const ResourceMatcher& matcher,
                    const ResourceVisitor& visit) {
    return WalkResources(
        root_, bundle_.resource_base(), matcher, options_.is_strict,
        [&](const TreeNode& node, const ResourceRule& rule) -> absl::Status {
          RETURN_IF_ERROR(CheckUtf8(node.path, node));
          return visit(node, rule);
        });
  }

  static absl::Status CheckUtf8(const std::string& text, const TreeNode& node) {
    if (IsUtf8(text)) return absl::OkStatus();
    return BundleError(v1::REASON_RESOURCE_NAME_NOT_UTF8, node.absolute_path);
  }

  FileDigests& Hashed(const TreeNode& node) {
    const auto [it, is_new] = hashed_index_.emplace(node.path, hashed_.size());
    if (is_new) {
      hashed_.push_back({.path = node.absolute_path, .size = node.size});
    }
    return hashed_[it->second];
  }

  void TakeDigests() {
    if (seal_.files2.has_value()) {
      for (auto& [path, resource] : *seal_.files2) {
        auto* file = std::get_if<SealedFile>(&resource.what);
        if (file == nullptr) continue;
        const auto& digests = hashed_[hashed_index_.at(path)].digests;
        for (const DigestKind kind : options_.digests) {
          file->digests[kind] = digests.at(kind);
        }
      }
    }
    if (seal_.files.has_value()) {
      for (auto& [path, resource] : *seal_.files) {
        resource.sha1 =
            hashed_[hashed_index_.at(path)].digests.at(DigestKind::kSha1);
      }
    }
  }

  const Bundle& bundle_;
  const SealOptions& options_;
  const NestedCodeFinder& find_nested_;
  std::string root_;
  ResourceSeal seal_;
  std::vector<FileDigests> hashed_;
  std::unordered_map<std::string, size_t> hashed_index_;  // by relative path
};

// --- Verification
// ----------------------------------------------------------------

SealedResource ToVersion2(const Version1Resource& resource) {
  return {.what = SealedFile{.digests = {{DigestKind::kSha1, resource.sha1}}},
          .optional = resource.optional.value_or(false)};
}

// Makes one comparison.
class Comparer {
 public:
  Comparer(const Bundle& bundle, const ResourceSeal& seal,
           const CompareOptions& options, const NestedCodeChecker& check_nested)
      : bundle_(bundle),
        seal_(seal),
        options_(options),
        check_nested_(check_nested) {}

  absl::StatusOr<std::vector<ResourceProblem>> Compare() && {
    const bool is_version2 = seal_.version() == 2;
    if (is_version2) {
      expected_ = *seal_.files2;
    } else if (seal_.files.has_value()) {
      for (const auto& [path, resource] : *seal_.files) {
        expected_[path] = ToVersion2(resource);
      }
    }
    const PlistDict rules =
        is_version2 ? RulesOfVersion2(seal_.rules) : seal_.rules.rules;
    ASSIGN_OR_RETURN(const ResourceMatcher matcher,
                     ResourceMatcher::Create(rules, bundle_.ExcludedPaths()));
    scope_ = {.base = RealPath(bundle_.resource_base()).value_or(""),
              .main_file = RealPath(bundle_.main_file()).value_or(""),
              .matcher = &matcher,
              .outer = options_.outer_scope};
    RETURN_IF_ERROR(WalkResources(
        Root(), bundle_.resource_base(), matcher, options_.is_strict,
        [&](const TreeNode& node, const ResourceRule&) {
          CompareNode(node);
          return absl::OkStatus();
        }));
    CompareDigests();
    for (const auto& [path, resource] : expected_) {
      if (!seen_.contains(path) && !resource.optional) {
        Add(ResourceChange::kMissing, path);
      }
    }
    std::sort(problems_.begin(), problems_.end(),
              [](const auto& a, const auto& b) {
                return PlistKeyLess()(a.path, b.path);
              });
    return std::move(problems_);
  }

 private:
  // A seal with paths beside Contents was made from the bundle's root.
  std::string Root() const {
    const bool has_outside = std::any_of(
        expected_.begin(), expected_.end(),
        [](const auto& each) { return each.first.starts_with("../"); });
    const bool can_seal_root =
        bundle_.path() + "/Contents" == bundle_.resource_base();
    return has_outside && can_seal_root ? bundle_.path()
                                        : bundle_.resource_base();
  }

  void CompareNode(const TreeNode& node) {
    const auto it = expected_.find(node.path);
    if (it == expected_.end()) {
      // Version 1 ignores symbolic links altogether.
      if (seal_.version() == 1 && node.type == NodeType::kSymlink) return;
      return Add(ResourceChange::kAdded, node.path);
    }
    seen_.emplace(node.path, true);
    const SealedResource& sealed = it->second;
    if (const auto* code = std::get_if<NestedCode>(&sealed.what)) {
      if (node.type == NodeType::kSymlink) {
        return Add(ResourceChange::kModified, node.path);
      }
      absl::Status status = check_nested_(node.absolute_path, *code);
      if (!status.ok()) {
        problems_.push_back(
            {ResourceChange::kBadCode, node.path,
             WithSubject(std::move(status), node.absolute_path)});
      }
    } else if (const auto* link = std::get_if<SealedSymlink>(&sealed.what)) {
      if (node.type != NodeType::kSymlink ||
          LinkTarget(node.absolute_path).value_or("") != link->target) {
        return Add(ResourceChange::kModified, node.path);
      }
      CheckLinkStaysInside(node, link->target);
    } else if (const auto* file = std::get_if<SealedFile>(&sealed.what)) {
      if (node.type != NodeType::kFile) {
        return Add(ResourceChange::kModified, node.path);
      }
      hashed_.push_back({.path = node.absolute_path,
                         .size = node.size,
                         .kinds = RequiredDigests(*file)});
      hashed_paths_.push_back(node.path);
    }
  }

  std::vector<DigestKind> RequiredDigests(const SealedFile& file) const {
    if (seal_.version() == 1) return {DigestKind::kSha1};
    if (!options_.digests.empty()) return options_.digests;
    std::vector<DigestKind> kinds;
    for (const auto& [kind, digest] : file.digests) kinds.push_back(kind);
    return kinds;
  }

  void CompareDigests() {
    ComputeFileDigests(hashed_, options_.thread_count);
    for (size_t i = 0; i < hashed_.size(); ++i) {
      const auto& sealed =
          std::get<SealedFile>(expected_.at(hashed_paths_[i]).what).digests;
      const FileDigests& found = hashed_[i];
      const bool is_same =
          found.status.ok() &&
          std::all_of(found.digests.begin(), found.digests.end(),
                      [&](const auto& each) {
                        const auto digest = sealed.find(each.first);
                        return digest != sealed.end() &&
                               digest->second == each.second;
                      });
      if (!is_same) Add(ResourceChange::kModified, hashed_paths_[i]);
    }
  }

  void CheckLinkStaysInside(const TreeNode& node, const std::string& target) {
    if (!options_.restricts_symlinks) return;
    const std::string real = RealPath(node.absolute_path).value_or("");
    bool is_inside = false;
    if (target.starts_with("/")) {
      is_inside = real.starts_with("/System/") || real.starts_with("/Library/");
    } else if (!real.empty()) {
      for (const auto* scope = &scope_; scope != nullptr;
           scope = scope->outer) {
        if (!real.starts_with(scope->base + "/")) continue;
        const ResourceRule* rule =
            scope->matcher->Find(real.substr(scope->base.size() + 1));
        is_inside =
            real == scope->main_file || (rule != nullptr && rule->is_sealed());
        break;
      }
    }
    if (is_inside) return;
    problems_.push_back(
        {ResourceChange::kBadCode, node.path,
         BundleError(v1::REASON_INVALID_SYMLINK, node.absolute_path)});
  }

  void Add(ResourceChange change, const std::string& path) {
    problems_.push_back({change, path,
                         BundleError(v1::REASON_SEALED_RESOURCE_CHANGED,
                                     bundle_.resource_base() + "/" + path)});
  }

  const Bundle& bundle_;
  const ResourceSeal& seal_;
  const CompareOptions& options_;
  const NestedCodeChecker& check_nested_;
  std::map<std::string, SealedResource, PlistKeyLess> expected_;
  ResourceScope scope_;
  std::unordered_map<std::string, bool> seen_;
  std::vector<FileDigests> hashed_;
  std::vector<std::string> hashed_paths_;  // relative, as in hashed_
  std::vector<ResourceProblem> problems_;
};

}  // namespace

size_t ResourceSeal::RuleCount() const {
  return version() == 2 ? RulesOfVersion2(rules).size() : rules.rules.size();
}

size_t ResourceSeal::FileCount() const {
  if (files2.has_value()) return files2->size();
  return files.has_value() ? files->size() : 0;
}

std::vector<DigestKind> ResourceSeal::Digests() const {
  std::map<DigestKind, bool> kinds;
  if (files2.has_value()) {
    for (const auto& [path, resource] : *files2) {
      const auto* file = std::get_if<SealedFile>(&resource.what);
      if (file == nullptr) continue;
      for (const auto& [kind, digest] : file->digests) kinds[kind] = true;
    }
  }
  std::vector<DigestKind> result;
  for (const auto& [kind, is_there] : kinds) result.push_back(kind);
  return result;
}

Bytes BuildCodeResources(const ResourceSeal& seal) {
  PlistDict dict;
  dict["rules"] = PlistValue{seal.rules.rules};
  if (seal.rules.rules2.has_value()) {
    dict["rules2"] = PlistValue{*seal.rules.rules2};
  }
  if (seal.files.has_value()) dict["files"] = ToPlist(*seal.files);
  if (seal.files2.has_value()) dict["files2"] = ToPlist(*seal.files2);
  return ToBytes(BuildXmlPlist(dict));
}

absl::StatusOr<ResourceSeal> ParseCodeResources(ByteView bytes) {
  const absl::StatusOr<PlistDict> dict = ParsePlistDict(bytes);
  if (!dict.ok()) return InvalidSeal("", Message(dict.status()));
  ResourceSeal seal;
  absl::StatusOr<ResourceRules> rules = ResourceRulesFromPlist(*dict);
  if (!rules.ok()) return InvalidSeal("", Message(rules.status()));
  seal.rules = *std::move(rules);
  for (const char* name : {"files", "files2"}) {
    if (dict->contains(name) && FindInDict<PlistDict>(*dict, name) == nullptr) {
      return InvalidSeal(name, "not a dictionary");
    }
  }
  if (const auto* files = FindInDict<PlistDict>(*dict, "files")) {
    auto& resources = seal.files.emplace();
    for (const auto& [path, value] : *files) {
      RETURN_IF_ERROR(CheckPath(path));
      ASSIGN_OR_RETURN(resources[path], ToVersion1Resource(path, value));
    }
  }
  if (const auto* files2 = FindInDict<PlistDict>(*dict, "files2")) {
    if (!seal.rules.rules2.has_value()) {
      return InvalidSeal("files2", "there are no rules2");
    }
    auto& resources = seal.files2.emplace();
    for (const auto& [path, value] : *files2) {
      RETURN_IF_ERROR(CheckPath(path));
      ASSIGN_OR_RETURN(resources[path], ToSealedResource(path, value));
    }
  }
  if (!seal.files.has_value() && !seal.files2.has_value()) {
    return InvalidSeal("", "there are no files");
  }
  return seal;
}

absl::StatusOr<ResourceSeal> LoadCodeResources(const Bundle& bundle) {
  const std::string path = bundle.CodeResourcesPath();
  const absl::StatusOr<MappedFile> file = MappedFile::Open(path);
  if (absl::IsNotFound(file.status())) {
    return BundleError(v1::REASON_RESOURCES_NOT_FOUND, path);
  }
  if (!file.ok()) return file.status();
  absl::StatusOr<ResourceSeal> seal = ParseCodeResources(file->bytes());
  if (!seal.ok()) return WithSubject(seal.status(), path);
  return seal;
}

absl::StatusOr<ResourceSeal> SealResources(
    const Bundle& bundle, const ResourceRules& rules,
    const SealOptions& options, const NestedCodeFinder& find_nested) {
  return Sealer(bundle, options, find_nested).Seal(rules);
}

absl::StatusOr<std::vector<ResourceProblem>> CompareResources(
    const Bundle& bundle, const ResourceSeal& seal,
    const CompareOptions& options, const NestedCodeChecker& check_nested) {
  return Comparer(bundle, seal, options, check_nested).Compare();
}

absl::Status CheckSealIsStrong(const Bundle& bundle, const ResourceSeal& seal) {
  const int version = seal.version();
  RETURN_IF_ERROR(CheckRulesAreStrong(
      version == 2 ? RulesOfVersion2(seal.rules) : seal.rules.rules, version,
      bundle.resources_prefix()));
  if (version == 1) {
    return BundleError(v1::REASON_WEAK_RESOURCE_ENVELOPE,
                       bundle.CodeResourcesPath());
  }
  return absl::OkStatus();
}

}  // namespace codeseal
