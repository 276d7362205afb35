#include "codesign/bundle/bundle_plan.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "codesign/base/mapped_file.h"
#include "codesign/bundle/bundle_error.h"
#include "codesign/bundle/tree_walk.h"
#include "codesign/macho/universal_file.h"

namespace codeseal {
namespace {

constexpr int kMaxDepth = 32;  // bundles inside bundles

// Whether the file starts like a Mach-O. Four bytes tell nearly all resources
// from code; mapping them all would take a hundred times as long.
bool StartsLikeMachO(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return false;
  uint8_t magic[4];
  const bool is_read = read(fd, magic, sizeof magic) == sizeof magic;
  close(fd);
  return is_read && LooksLikeMachO(magic);
}

bool IsCode(MachOFileType type) {
  switch (type) {
    case MachOFileType::kExecute:
    case MachOFileType::kPreload:
    case MachOFileType::kDylib:
    case MachOFileType::kDylinker:
    case MachOFileType::kBundle:
    case MachOFileType::kKextBundle:
      return true;
    case MachOFileType::kObject:
      return false;
  }
  return false;
}

// What Apple's tool takes for a Mach-O: no object files, no static libraries.
bool IsMachOCode(const std::string& path) {
  if (!StartsLikeMachO(path)) return false;
  const absl::StatusOr<MappedFile> file = MappedFile::Open(path);
  if (!file.ok()) return false;
  // Java classes begin like universal files, but cannot be read as such.
  const auto universal = UniversalFile::Parse(file->bytes());
  if (!universal.ok()) return false;
  const auto slices = universal->slices();
  return std::all_of(slices.begin(), slices.end(), [](const auto& slice) {
    return IsCode(slice.mach_o.file_type());
  });
}

}  // namespace

class BundlePlan::Planner {
 public:
  explicit Planner(const PlanOptions& options) : options_(options) {}

  absl::StatusOr<BundlePlan> Plan(const std::string& path) && {
    ASSIGN_OR_RETURN(Bundle bundle, Bundle::Open(path, options_.version));
    RETURN_IF_ERROR(AddBundle(std::move(bundle), SealedAs::kRoot, 1).status());
    return std::move(plan_);
  }

 private:
  bool IsSignedNow(SealedAs sealed_as) const {
    switch (sealed_as) {
      case SealedAs::kRoot:
        return true;
      case SealedAs::kNestedCode:
      case SealedAs::kOtherVersion:
        return options_.is_deep;
      case SealedAs::kResource:
        return options_.signs_resources;
    }
    return false;
  }

  // Returns the item's index.
  size_t Add(CodeItem item) {
    item.is_signed_now = IsSignedNow(item.sealed_as);
    for (const size_t part : item.parts) {
      const CodeItem& inner = plan_.items_[part];
      const bool must_be_written =
          inner.sealed_as == SealedAs::kResource && HasWork(inner);
      item.stage =
          std::max(item.stage, inner.stage + (must_be_written ? 1 : 0));
    }
    plan_.items_.push_back(std::move(item));
    return plan_.items_.size() - 1;
  }

  bool HasWork(const CodeItem& item) const {
    return item.is_signed_now ||
           std::any_of(item.parts.begin(), item.parts.end(), [&](size_t part) {
             return HasWork(plan_.items_[part]);
           });
  }

  absl::StatusOr<size_t> AddBundle(Bundle bundle, SealedAs sealed_as,
                                   int depth) {
    if (depth > kMaxDepth) {
      return BundleError(v1::REASON_BAD_BUNDLE_FORMAT, bundle.path(),
                         "bundles are nested too deep");
    }
    CodeItem item = {.path = bundle.path(),
                     .kind = CodeKind::kBundle,
                     .sealed_as = sealed_as};
    ASSIGN_OR_RETURN(const ResourceRules rules,
                     bundle.LoadResourceRules(ResourceRuleSet::kDefault));
    ASSIGN_OR_RETURN(const ResourceMatcher matcher,
                     MatcherOf(RulesOfVersion2(rules), bundle));
    RETURN_IF_ERROR(
        WalkTree(bundle.resource_base(), bundle.resource_base(),
                 [&](const TreeNode& node) -> absl::StatusOr<WalkStep> {
                   const ResourceRule* rule = matcher.Find(node.path);
                   if (rule == nullptr) return WalkStep::kContinue;
                   if (rule->excluded) return WalkStep::kSkip;
                   if (node.type == NodeType::kFile) {
                     AddFile(node, *rule, item.parts);
                     return WalkStep::kContinue;
                   }
                   if (node.type != NodeType::kDirectory)
                     return WalkStep::kContinue;
                   return AddFolder(node, *rule, depth, item.parts);
                 }));
    const bool is_only_version =
        sealed_as == SealedAs::kRoot && !options_.version.empty();
    if (!is_only_version) {
      RETURN_IF_ERROR(AddOtherVersions(bundle, depth, item.parts));
    }
    item.bundle = std::move(bundle);
    return Add(std::move(item));
  }

  // Nearly all bundles of a tree have the same rules.
  absl::StatusOr<ResourceMatcher> MatcherOf(const PlistDict& rules,
                                            const Bundle& bundle) {
    if (!last_matcher_.has_value() || last_rules_ != rules) {
      ASSIGN_OR_RETURN(last_matcher_, ResourceMatcher::Create(rules, {}));
      last_rules_ = rules;
    }
    return last_matcher_->WithExcludedPaths(bundle.ExcludedPaths());
  }

  void AddFile(const TreeNode& node, const ResourceRule& rule,
               std::vector<size_t>& parts) {
    if (!rule.is_sealed()) return;
    const bool is_mach_o = IsMachOCode(node.absolute_path);
    if (!rule.nested && !is_mach_o) return;
    parts.push_back(
        Add({.path = node.absolute_path,
             .kind = is_mach_o ? CodeKind::kMachO : CodeKind::kOtherFile,
             .sealed_as =
                 rule.nested ? SealedAs::kNestedCode : SealedAs::kResource}));
  }

  absl::StatusOr<WalkStep> AddFolder(const TreeNode& node,
                                     const ResourceRule& rule, int depth,
                                     std::vector<size_t>& parts) {
    if (rule.nested) {
      if (node.name.find('.') == std::string::npos) return WalkStep::kContinue;
      ASSIGN_OR_RETURN(Bundle bundle, Bundle::Open(node.absolute_path));
      ASSIGN_OR_RETURN(
          const size_t index,
          AddBundle(std::move(bundle), SealedAs::kNestedCode, depth + 1));
      parts.push_back(index);
      return WalkStep::kSkip;
    }
    if (rule.omit || !HasBundleExtension(node.name)) {
      return WalkStep::kContinue;
    }
    // Among resources only what surely is code counts as a bundle.
    absl::StatusOr<Bundle> bundle = Bundle::Open(node.absolute_path);
    if (!bundle.ok() || !IsMachOCode(bundle->main_file())) {
      return WalkStep::kContinue;
    }
    ASSIGN_OR_RETURN(
        const size_t index,
        AddBundle(*std::move(bundle), SealedAs::kResource, depth + 1));
    parts.push_back(index);
    return WalkStep::kSkip;
  }

  absl::Status AddOtherVersions(const Bundle& bundle, int depth,
                                std::vector<size_t>& parts) {
    if (bundle.version().empty()) return absl::OkStatus();
    for (const std::string& name : FrameworkVersions(bundle.path())) {
      if (name == bundle.version()) continue;
      ASSIGN_OR_RETURN(Bundle version,
                       Bundle::Open(bundle.path() + "/Versions/" + name));
      ASSIGN_OR_RETURN(
          const size_t index,
          AddBundle(std::move(version), SealedAs::kOtherVersion, depth + 1));
      parts.push_back(index);
    }
    return absl::OkStatus();
  }

  const PlanOptions& options_;
  BundlePlan plan_;
  PlistDict last_rules_;
  std::optional<ResourceMatcher> last_matcher_;
};

absl::StatusOr<BundlePlan> BundlePlan::Create(const std::string& path,
                                              const PlanOptions& options) {
  return Planner(options).Plan(path);
}

const CodeItem* BundlePlan::Find(const std::string& absolute_path) const {
  const auto item = std::find_if(
      items_.begin(), items_.end(),
      [&](const CodeItem& each) { return each.path == absolute_path; });
  return item == items_.end() ? nullptr : &*item;
}

}  // namespace codeseal
