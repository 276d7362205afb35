#include "codesign/strip_bundle.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>

#include "codesign/base/error.h"
#include "codesign/base/staged_tree.h"
#include "codesign/bundle_code.h"
#include "codesign/macho/universal_file.h"
#include "codesign/signing_plan.h"

namespace codeseal {
namespace {

bool HasEmbeddedSignature(const CodeObject& code) {
  if (code.universal() == nullptr) return false;
  const auto slices = code.universal()->slices();
  return std::any_of(slices.begin(), slices.end(), [](const auto& slice) {
    return slice.mach_o.signature_command().has_value();
  });
}

}  // namespace

absl::Status StripBundle(const std::string& path) {
  ASSIGN_OR_RETURN(const Bundle bundle, Bundle::Open(path));
  ASSIGN_OR_RETURN(const std::unique_ptr<CodeObject> code,
                   OpenBundleCode(bundle));
  const bool is_embedded = HasEmbeddedSignature(*code);
  std::error_code error;
  if (!is_embedded &&
      !std::filesystem::exists(bundle.SignatureFolder(), error)) {
    return WithSubject(
        MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_PLAN,
                  v1::REASON_NOT_SIGNED, bundle.path() + " is not signed"),
        bundle.path());
  }
  ASSIGN_OR_RETURN(StagedTree tree, StagedTree::Create(bundle.path()));
  if (is_embedded) {
    ASSIGN_OR_RETURN(
        StagedFile stripped,
        StageStripped(bundle.main_file(), tree.Map(bundle.main_file())));
    RETURN_IF_ERROR(tree.Place(std::move(stripped)));
  }
  RETURN_IF_ERROR(tree.Remove(bundle.SignatureFolder()));
  return tree.Commit();
}

}  // namespace codeseal
