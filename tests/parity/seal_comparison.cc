#include "tests/parity/seal_comparison.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "absl/strings/str_format.h"
#include "codesign/base/error.h"
#include "codesign/bundle/resource_seal.h"
#include "codesign/embedded_signature.h"
#include "codesign/verify/description.h"
#include "codesign/verify/stored_code.h"

namespace codeseal::parity {
namespace {

namespace fs = std::filesystem;

// What codesign would have written about the code at `path`: the slice that is
// native to the signing machine counts, and which one that was shows in what
// was written.
absl::StatusOr<NestedCode> FindNested(const std::string& path,
                                      const CdHash* written) {
  ASSIGN_OR_RETURN(const StoredCode code, StoredCode::Open(path));
  const CodeDescription description = Describe(code);
  const SliceDescription* chosen = nullptr;
  for (const SliceDescription& slice : description.slices) {
    RETURN_IF_ERROR(slice.status);
    const bool is_written = written != nullptr && slice.cdhash == *written;
    if (slice.is_native ? chosen == nullptr : is_written) chosen = &slice;
  }
  NestedCode nested = {.cdhash = chosen->cdhash, .requirement = ""};
  std::string text = chosen->requirements;
  const size_t arrow = text.find("designated => ");
  if (arrow != std::string::npos) {
    text.erase(0, arrow + std::string_view("designated => ").size());
    nested.requirement = text.substr(0, text.find('\n'));
  }
  return nested;
}

std::vector<DigestKind> DigestsOf(const StoredCode& code) {
  std::vector<DigestKind> digests;
  const absl::StatusOr<EmbeddedSignature> signature =
      EmbeddedSignature::Parse(code.NativePart().signature);
  if (!signature.ok()) return digests;
  for (const CodeDirectory& directory : signature->code_directories()) {
    digests.push_back(directory.digest_kind());
  }
  return digests;
}

// Undoes what differs on disk: removed files are put back, added ones left out.
template <typename Files>
void Undo(const std::string& base, const Files& stored, Files& made,
          SealComparison& comparison) {
  for (const auto& [path, resource] : stored) {
    const fs::path on_disk = fs::path(base) / path;
    if (made.contains(path) || fs::exists(fs::symlink_status(on_disk))) {
      continue;
    }
    made[path] = resource;
    comparison.removed.push_back(path);
  }
  for (auto it = made.begin(); it != made.end();) {
    if (stored.contains(it->first)) {
      ++it;
      continue;
    }
    comparison.added.push_back(it->first);
    it = made.erase(it);
  }
}

std::string FirstDifference(std::string_view theirs, std::string_view ours) {
  std::istringstream a{std::string(theirs)};
  std::istringstream b{std::string(ours)};
  std::string their_line;
  std::string our_line;
  for (int number = 1;; ++number) {
    const bool has_theirs = static_cast<bool>(std::getline(a, their_line));
    const bool has_ours = static_cast<bool>(std::getline(b, our_line));
    if (!has_theirs && !has_ours) return "";
    if (!has_theirs) their_line = "(end)";
    if (!has_ours) our_line = "(end)";
    if (their_line != our_line) {
      return absl::StrFormat("line %d: %s theirs, %s ours", number, their_line,
                             our_line);
    }
  }
}

std::string DigestNames(const std::vector<DigestKind>& digests) {
  std::string names;
  for (const DigestKind kind : digests) {
    if (!names.empty()) names += "+";
    names += DigestName(kind);
  }
  return names;
}

}  // namespace

absl::StatusOr<SealComparison> CompareSealWithApple(const std::string& path) {
  ASSIGN_OR_RETURN(const StoredCode code, StoredCode::Open(path));
  if (code.bundle() == nullptr) {
    return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_VERIFY,
                     v1::REASON_RESOURCES_NOT_FOUND, "this is no bundle");
  }
  const Bundle& bundle = *code.bundle();
  ASSIGN_OR_RETURN(const ResourceSeal stored, LoadCodeResources(bundle));
  const ByteView stored_bytes =
      *code.SideFile(code.parts().front(), kCodeResourcesSlot);

  SealComparison comparison;
  comparison.path = path;
  comparison.format = code.Format();
  comparison.main_file = bundle.main_file();
  comparison.has_mach_o = code.mach_o() != nullptr;
  comparison.version = stored.version();
  comparison.digests = stored.Digests();
  // Without files, the seal has no digests to show.
  if (comparison.digests.empty()) comparison.digests = DigestsOf(code);
  comparison.rule_count = stored.RuleCount();
  comparison.file_count = stored.FileCount();

  SealOptions options;
  options.digests = comparison.digests;
  options.writes_version1 = stored.files.has_value();
  options.writes_version2 = stored.files2.has_value();
  ASSIGN_OR_RETURN(const ResourceRules rules,
                   bundle.LoadResourceRules(stored.version() == 1
                                                ? ResourceRuleSet::kLegacy
                                                : ResourceRuleSet::kDefault));
  const auto find_nested = [&](const std::string& relative_path,
                               const std::string& absolute_path) {
    const CdHash* written = nullptr;
    if (const auto entry = stored.files2->find(relative_path);
        entry != stored.files2->end()) {
      if (const auto* nested = std::get_if<NestedCode>(&entry->second.what)) {
        written = &nested->cdhash;
        ++comparison.nested_count;
      }
    }
    return FindNested(absolute_path, written);
  };
  ASSIGN_OR_RETURN(ResourceSeal made,
                   SealResources(bundle, rules, options, find_nested));
  const auto is_same = [&] {
    return Equal(BuildCodeResources(made), stored_bytes);
  };
  comparison.is_identical = is_same();
  if (made.files2.has_value()) {
    Undo(bundle.resource_base(), *stored.files2, *made.files2, comparison);
  }
  if (made.files.has_value()) {
    SealComparison of_version1;
    Undo(bundle.resource_base(), *stored.files, *made.files,
         stored.version() == 1 ? comparison : of_version1);
  }
  comparison.is_explained = is_same();
  if (!comparison.is_explained) {
    comparison.first_difference =
        FirstDifference(AsText(stored_bytes), AsText(BuildCodeResources(made)));
  }
  return comparison;
}

std::string FormatText(const SealComparison& comparison) {
  std::string text = absl::StrFormat(
      "%s: %s\n  CodeResources version %d, %s, %d rules, %d files, %d nested: ",
      comparison.path, comparison.format, comparison.version,
      DigestNames(comparison.digests), comparison.rule_count,
      comparison.file_count, comparison.nested_count);
  if (comparison.is_identical) return text + "identical\n";
  if (!comparison.is_explained) {
    return text + "DIFFERENT, " + comparison.first_difference + "\n";
  }
  text += absl::StrFormat("identical but for %d files removed, %d added\n",
                          comparison.removed.size(), comparison.added.size());
  for (const std::string& path : comparison.removed) {
    text += "    removed " + path + "\n";
  }
  for (const std::string& path : comparison.added) {
    text += "    added " + path + "\n";
  }
  return text;
}

std::string FormatJson(const SealComparison& comparison) {
  nlohmann::json json = {{"path", comparison.path},
                         {"format", comparison.format},
                         {"version", comparison.version},
                         {"digests", nlohmann::json::array()},
                         {"rules", comparison.rule_count},
                         {"files", comparison.file_count},
                         {"nested", comparison.nested_count},
                         {"identical", comparison.is_identical},
                         {"explained", comparison.is_explained},
                         {"removed", comparison.removed},
                         {"added", comparison.added}};
  for (const DigestKind kind : comparison.digests) {
    json["digests"].push_back(std::string(DigestName(kind)));
  }
  if (!comparison.first_difference.empty()) {
    json["first_difference"] = comparison.first_difference;
  }
  return json.dump();
}

}  // namespace codeseal::parity
