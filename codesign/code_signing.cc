#include "codesign/code_signing.h"

#include <algorithm>
#include <filesystem>
#include <mutex>
#include <optional>
#include <system_error>
#include <unordered_map>
#include <utility>

#include "absl/strings/str_replace.h"
#include "codesign/base/error.h"
#include "codesign/base/parallel.h"
#include "codesign/base/staged_file.h"
#include "codesign/base/staged_tree.h"
#include "codesign/bundle/bundle_error.h"
#include "codesign/bundle/resource_seal.h"
#include "codesign/bundle/tree_walk.h"
#include "codesign/bundle_code.h"
#include "codesign/detached_signature.h"
#include "codesign/open_code.h"

namespace codeseal {
namespace {

namespace fs = std::filesystem;

// Files that are written at the same time: each takes two file descriptors.
constexpr size_t kWriteBatchSize = 64;

absl::StatusOr<std::unique_ptr<CodeObject>> OpenLoose(
    const std::string& path, const std::string& detached_path) {
  ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
  if (detached_path.empty()) return OpenCode(std::move(file));
  return OpenDetached(std::move(file), /*in_bundle=*/false, detached_path);
}

absl::StatusOr<std::unique_ptr<CodeObject>> OpenBundle(
    const Bundle& bundle, const std::string& detached_path) {
  if (detached_path.empty()) return OpenBundleCode(bundle);
  ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(bundle.main_file()));
  return OpenDetached(std::move(file), /*in_bundle=*/true, detached_path);
}

absl::StatusOr<std::unique_ptr<CodeObject>> OpenItem(
    const CodeItem& item, const std::string& detached_path) {
  return item.bundle.has_value() ? OpenBundle(*item.bundle, detached_path)
                                 : OpenLoose(item.path, detached_path);
}

bool IsFolder(const std::string& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

absl::Status BadDetachedOption(const std::string& message,
                               const std::string& subject) {
  return WithSubject(MakeError(absl::StatusCode::kInvalidArgument,
                               v1::STAGE_PLAN, v1::REASON_BAD_OPTION, message),
                     subject);
}

// That one detached signature of this bundle can be made, and be valid.
absl::Status CheckCanDetach(const std::string& folder,
                            const CodeSigningOptions& options) {
  if (options.plan.is_deep || options.plan.signs_resources) {
    return BadDetachedOption(
        "a detached signature has no room for nested code; sign that first, "
        "in place",
        folder);
  }
  std::error_code error;
  const fs::path inside =
      fs::weakly_canonical(options.detached_path, error)
          .lexically_relative(fs::weakly_canonical(folder, error));
  if (!error && !inside.empty() && *inside.begin() != "..") {
    return BadDetachedOption(
        "the detached signature would lie in the bundle, whose seal it breaks",
        options.detached_path);
  }
  return absl::OkStatus();
}

// The rules that the old seal was made with, when they shall be preserved.
std::optional<ResourceRules> PreservedRules(const Bundle& bundle,
                                            const SigningOptions& options) {
  if ((options.preserve_metadata & kPreserveResourceRules) == 0) {
    return std::nullopt;
  }
  absl::StatusOr<ResourceSeal> seal = LoadCodeResources(bundle);
  if (!seal.ok()) return std::nullopt;
  return std::move(seal->rules);
}

}  // namespace

struct CodeSigning::Impl {
  // One piece of code on its way.
  struct Item {
    CodeItem code;
    bool is_signed_now = false;
    SigningOptions options = {};
    std::string code_resources_path = {};  // empty if no such file is written
    Bytes code_resources = {};
    std::string format = {};
    std::optional<SigningPlan> plan = {};
  };

  // --- Looking
  absl::Status Open(const std::string& path);
  absl::Status Decide();
  absl::Status DecideOne(Item& item);

  // --- Hashing
  absl::Status PlanItems(std::span<Item* const> stage_items);
  absl::Status PlanLoose(Item& item);
  absl::Status PlanBundle(Item& item);
  absl::StatusOr<Bytes> Seal(const Bundle& bundle, const CodeObject& code,
                             const SigningOptions& item_options);
  absl::StatusOr<NestedCode> FindNested(const std::string& absolute_path,
                                        CpuType host_cpu) const;
  void MeasureAll();
  void AddHashed(const std::string& item_path, uint64_t size, bool is_done);

  // --- Writing
  absl::Status WriteItem(Item& item, std::span<const Bytes> cms,
                         std::vector<StagedFile>& staged);

  std::string Relative(const std::string& item_path) const {
    return item_path == path ? "" : item_path.substr(path.size() + 1);
  }
  // Where later stages find what earlier ones have written.
  std::string Current(const std::string& item_path) const {
    return tree.has_value() ? tree->Map(item_path) : item_path;
  }
  absl::Status WithOriginalPaths(const absl::Status& status) const;

  std::string path;
  CodeSigningOptions options;
  std::vector<Item> items;  // everything behind its parts
  std::unordered_map<std::string, size_t> index_by_path;
  size_t next_stage = 0;
  std::vector<CodeToSign> planned;
  std::vector<Item*> planned_items;  // of each of `planned`
  size_t stage_begin = 0;            // in `planned`: the last planned stage
  std::optional<StagedTree> tree;    // of a bundle
  std::vector<StagedFile> files;     // of a loose file
  std::mutex progress_mutex;
  HashingProgress progress;
};

// --- Looking

absl::Status CodeSigning::Impl::Open(const std::string& given_path) {
  path = given_path;
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  if (!IsFolder(path)) {
    if (auto bundle = FindBundleOfExecutable(path)) path = *std::move(bundle);
  }
  if (IsFolder(path)) {
    if (!options.detached_path.empty()) {
      RETURN_IF_ERROR(CheckCanDetach(path, options));
    }
    ASSIGN_OR_RETURN(const BundlePlan plan,
                     BundlePlan::Create(path, options.plan));
    for (const CodeItem& code : plan.items()) items.push_back({.code = code});
    path = plan.root().path;
  } else {
    items.push_back({.code = {.path = path, .is_signed_now = true}});
  }
  for (size_t i = 0; i < items.size(); ++i) {
    index_by_path[items[i].code.path] = i;
  }
  return Decide();
}

// From the outside in: what is in code that stays as it is must stay, too.
absl::Status CodeSigning::Impl::Decide() {
  std::vector<bool> may_change(items.size(), false);
  may_change.back() = true;
  for (size_t i = items.size(); i-- > 0;) {
    Item& item = items[i];
    if (may_change[i] && item.code.is_signed_now) {
      RETURN_IF_ERROR(DecideOne(item));
    }
    for (const size_t part : item.code.parts) {
      may_change[part] = item.is_signed_now;
    }
  }
  return absl::OkStatus();
}

absl::Status CodeSigning::Impl::DecideOne(Item& item) {
  ASSIGN_OR_RETURN(item.options, options.options_of(Relative(item.code.path)));
  item.is_signed_now = true;
  if (item.code.bundle.has_value()) {
    if (options.detached_path.empty()) {
      item.code_resources_path = item.code.bundle->CodeResourcesPath();
    }
    if (item.options.strict) RETURN_IF_ERROR(item.code.bundle->CheckStrict());
  }
  if (item.options.force) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::unique_ptr<CodeObject> code,
                   OpenItem(item.code, options.detached_path));
  if (!IsSigned(*code)) return absl::OkStatus();
  if (item.code.sealed_as == SealedAs::kRoot) {
    return WithSubject(
        MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_PLAN,
                  v1::REASON_ALREADY_SIGNED, path + " is already signed"),
        path);
  }
  item.is_signed_now = false;
  return absl::OkStatus();
}

// --- Hashing

absl::Status CodeSigning::Impl::PlanItems(std::span<Item* const> stage_items) {
  // Loose files do not depend on each other, and many are small.
  std::vector<Item*> loose;
  for (Item* item : stage_items) {
    if (!item->code.bundle.has_value()) loose.push_back(item);
  }
  std::vector<absl::Status> results(loose.size());
  ParallelFor(loose.size(),
              [&](size_t i) { results[i] = PlanLoose(*loose[i]); });
  for (const absl::Status& result : results) RETURN_IF_ERROR(result);
  for (Item* item : stage_items) {
    if (item->code.bundle.has_value()) RETURN_IF_ERROR(PlanBundle(*item));
  }
  return absl::OkStatus();
}

absl::Status CodeSigning::Impl::PlanLoose(Item& item) {
  ASSIGN_OR_RETURN(std::unique_ptr<CodeObject> code,
                   OpenLoose(Current(item.code.path), options.detached_path));
  const OnCodeHashed on_hashed = [&](uint64_t size) {
    AddHashed(item.code.path, size, /*is_done=*/false);
  };
  ASSIGN_OR_RETURN(item.plan, SigningPlan::Create(std::move(code), item.options,
                                                  options.chain, on_hashed));
  item.format = item.plan->Format();
  AddHashed(item.code.path, 0, /*is_done=*/true);
  return absl::OkStatus();
}

absl::Status CodeSigning::Impl::PlanBundle(Item& item) {
  const bool is_root = item.code.sealed_as == SealedAs::kRoot;
  ASSIGN_OR_RETURN(const Bundle bundle,
                   Bundle::Open(Current(item.code.path),
                                is_root ? options.plan.version : ""));
  ASSIGN_OR_RETURN(std::unique_ptr<CodeObject> code,
                   OpenBundle(bundle, options.detached_path));
  SigningOptions item_options = item.options;
  item_options.bundle_path = item.code.path;
  if (bundle.info_plist_path().has_value()) {
    ASSIGN_OR_RETURN(const MappedFile file,
                     MappedFile::Open(*bundle.info_plist_path()));
    item_options.info_plist = ToBytes(file.bytes());
  }
  ASSIGN_OR_RETURN(item_options.code_resources,
                   Seal(bundle, *code, item_options));
  const OnCodeHashed on_hashed = [&](uint64_t size) {
    AddHashed(item.code.path, size, /*is_done=*/false);
  };
  ASSIGN_OR_RETURN(item.plan, SigningPlan::Create(std::move(code), item_options,
                                                  options.chain, on_hashed));
  item.code_resources = *std::move(item_options.code_resources);
  item.format = bundle.FormatPrefix();
  if (bundle.main_file_kind() == MainFileKind::kExecutable) {
    item.format += item.plan->Format();
  }
  AddHashed(item.code.path, 0, /*is_done=*/true);
  return absl::OkStatus();
}

absl::StatusOr<Bytes> CodeSigning::Impl::Seal(
    const Bundle& bundle, const CodeObject& code,
    const SigningOptions& item_options) {
  std::optional<ResourceRules> rules = PreservedRules(bundle, item_options);
  const bool is_custom =
      rules.has_value() || bundle.info().resource_specification.has_value();
  if (!rules.has_value()) {
    ASSIGN_OR_RETURN(rules, bundle.LoadResourceRules(options.rule_set));
  }
  if (is_custom && item_options.strict) {
    // macOS would refuse what is signed so.
    const absl::Status strong = CheckRulesAreStrong(RulesOfVersion2(*rules), 2,
                                                    bundle.resources_prefix());
    if (!strong.ok()) {
      return BundleError(v1::REASON_WEAK_RESOURCE_RULES, bundle.path(),
                         GetErrorDetail(strong)->subject());
    }
  }
  SealOptions seal_options;
  ASSIGN_OR_RETURN(seal_options.digests,
                   SigningPlan::ChooseDigests(code, item_options));
  seal_options.writes_version1 = options.writes_version1_seal;
  seal_options.writes_version2 = options.rule_set != ResourceRuleSet::kLegacy;
  seal_options.seals_root = options.seals_root;
  seal_options.is_strict = item_options.strict;
  seal_options.on_hashed = [&](uint64_t size) {
    AddHashed(bundle.path(), size, /*is_done=*/false);
  };
  ASSIGN_OR_RETURN(
      const ResourceSeal seal,
      SealResources(bundle, *rules, seal_options,
                    [&](const std::string&, const std::string& nested_path) {
                      return FindNested(nested_path, item_options.host_cpu);
                    }));
  return BuildCodeResources(seal);
}

absl::StatusOr<NestedCode> CodeSigning::Impl::FindNested(
    const std::string& absolute_path, CpuType host_cpu) const {
  const std::string original =
      tree.has_value() ? tree->Unmap(absolute_path) : absolute_path;
  const auto found = index_by_path.find(original);
  const auto to_nested = [](const CodeIdentity& identity) {
    return NestedCode{.cdhash = identity.cdhash,
                      .requirement = identity.designated_requirement};
  };
  if (found != index_by_path.end()) {
    const Item& item = items[found->second];
    if (item.plan.has_value()) return to_nested(item.plan->code_identity());
    const absl::StatusOr<std::unique_ptr<CodeObject>> code =
        OpenItem(item.code, "");
    if (code.ok()) {
      const absl::StatusOr<CodeIdentity> identity =
          ReadIdentity(**code, host_cpu);
      if (identity.ok()) return to_nested(*identity);
      if (GetReason(identity.status()) != v1::REASON_NOT_SIGNED) {
        return identity.status();
      }
    } else if (GetReason(code.status()) == v1::REASON_FILE_NOT_READABLE) {
      return code.status();
    }
  }
  return BundleError(v1::REASON_UNSIGNED_NESTED_CODE, original);
}

void CodeSigning::Impl::MeasureAll() {
  progress.item_count = static_cast<size_t>(
      std::count_if(items.begin(), items.end(),
                    [](const Item& item) { return item.is_signed_now; }));
  std::error_code error;
  if (!IsFolder(path)) {
    progress.size = fs::file_size(path, error);
    return;
  }
  WalkTree(path, path, [&](const TreeNode& node) -> absl::StatusOr<WalkStep> {
    if (node.type == NodeType::kFile) progress.size += node.size;
    return WalkStep::kContinue;
  }).IgnoreError();
}

void CodeSigning::Impl::AddHashed(const std::string& item_path, uint64_t size,
                                  bool is_done) {
  if (!options.on_progress) return;
  const std::lock_guard lock(progress_mutex);
  progress.path = item_path;
  progress.size_done += size;
  if (is_done) ++progress.items_done;
  options.on_progress(progress);
}

// --- Writing

absl::Status CodeSigning::Impl::WriteItem(Item& item,
                                          std::span<const Bytes> cms,
                                          std::vector<StagedFile>& staged) {
  const TargetPath target = [this](const std::string& original) {
    return Current(original);
  };
  if (!item.code_resources_path.empty()) {
    ASSIGN_OR_RETURN(
        StagedFile file,
        StagedFile::Create(target(item.code_resources_path), 0644));
    RETURN_IF_ERROR(file.Write(item.code_resources, 0));
    staged.push_back(std::move(file));
  }
  ASSIGN_OR_RETURN(std::vector<StagedFile> more, item.plan->Stage(cms, target));
  std::move(more.begin(), more.end(), std::back_inserter(staged));
  return absl::OkStatus();
}

absl::Status CodeSigning::Impl::WithOriginalPaths(
    const absl::Status& status) const {
  std::optional<ErrorDetail> detail = GetErrorDetail(status);
  if (status.ok() || !tree.has_value() || !detail.has_value()) return status;
  const std::string copy = tree->Map(path);
  const auto original = [&](const std::string& text) {
    return absl::StrReplaceAll(text, {{copy, path}});
  };
  detail->set_subject(original(detail->subject()));
  return WithErrorDetail(
      absl::Status(status.code(), original(std::string(Message(status)))),
      *detail);
}

// --- The class

CodeSigning::CodeSigning(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
CodeSigning::CodeSigning(CodeSigning&&) noexcept = default;
CodeSigning& CodeSigning::operator=(CodeSigning&&) noexcept = default;
CodeSigning::~CodeSigning() = default;

absl::StatusOr<CodeSigning> CodeSigning::Create(const std::string& path,
                                                CodeSigningOptions options) {
  auto impl = std::make_unique<Impl>();
  impl->options = std::move(options);
  RETURN_IF_ERROR(impl->Open(path));
  return CodeSigning(std::move(impl));
}

absl::StatusOr<std::span<const CodeToSign>> CodeSigning::PlanStage() {
  Impl& impl = *impl_;
  if (impl.next_stage == 0 && impl.options.on_progress) impl.MeasureAll();
  std::vector<Impl::Item*> stage_items;
  const size_t stage_count = impl.items.back().code.stage + 1;
  while (stage_items.empty() && impl.next_stage < stage_count) {
    for (Impl::Item& item : impl.items) {
      if (item.is_signed_now && item.code.stage == impl.next_stage) {
        stage_items.push_back(&item);
      }
    }
    ++impl.next_stage;
  }
  const absl::Status status = impl.PlanItems(stage_items);
  if (!status.ok()) return impl.WithOriginalPaths(status);
  impl.stage_begin = impl.planned.size();
  for (Impl::Item* item : stage_items) {
    impl.planned.push_back({item->code.path, item->format, &*item->plan});
    impl.planned_items.push_back(item);
  }
  return std::span<const CodeToSign>(impl.planned).subspan(impl.stage_begin);
}

std::span<const CodeToSign> CodeSigning::planned() const {
  return impl_->planned;
}

absl::Status CodeSigning::WriteStage(std::span<const std::vector<Bytes>> cms) {
  Impl& impl = *impl_;
  const std::span<Impl::Item* const> stage_items =
      std::span(impl.planned_items).subspan(impl.stage_begin);
  if (cms.size() != stage_items.size()) {
    return MakeError(absl::StatusCode::kInternal, v1::STAGE_WRITE,
                     v1::REASON_INTERNAL, "not one signature for each item");
  }
  const bool is_tree = impl.items.back().code.bundle.has_value() &&
                       impl.options.detached_path.empty();
  if (is_tree && !impl.tree.has_value()) {
    ASSIGN_OR_RETURN(impl.tree, StagedTree::Create(impl.path));
  }
  for (size_t begin = 0; begin < stage_items.size(); begin += kWriteBatchSize) {
    const size_t count = std::min(kWriteBatchSize, stage_items.size() - begin);
    std::vector<std::vector<StagedFile>> staged(count);
    std::vector<absl::Status> results(count);
    for (size_t i = 0; i < count; ++i) {
      const std::string& seal = stage_items[begin + i]->code_resources_path;
      if (seal.empty()) continue;
      // What an old signature left there goes.
      RETURN_IF_ERROR(impl.WithOriginalPaths(
          impl.tree->ReplaceFolder(fs::path(seal).parent_path().string())));
    }
    ParallelFor(count, [&](size_t i) {
      results[i] =
          impl.WriteItem(*stage_items[begin + i], cms[begin + i], staged[i]);
    });
    for (size_t i = 0; i < count; ++i) {
      RETURN_IF_ERROR(impl.WithOriginalPaths(results[i]));
      for (StagedFile& file : staged[i]) {
        if (!is_tree) {
          impl.files.push_back(std::move(file));
          continue;
        }
        RETURN_IF_ERROR(
            impl.WithOriginalPaths(impl.tree->Place(std::move(file))));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status CodeSigning::Commit() {
  if (!impl_->tree.has_value()) {
    return StagedFile::CommitAll(std::move(impl_->files));
  }
  return impl_->WithOriginalPaths(impl_->tree->Commit());
}

}  // namespace codeseal
