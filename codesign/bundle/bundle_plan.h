// What has to be signed in a bundle, and in which order.
//
//   folder -> [BundlePlan] -> all CodeDirectories -> one stream of signatures
//
// A bundle's seal needs the cdhash and the designated requirement of the code
// nested in it. Neither depends on a signature, so whole trees of nested code
// are one stage: all their CodeDirectories are computed, inside-out, before the
// first is signed. Only code that is sealed byte for byte, as a resource, must
// be written first: that begins another stage.
//
// Spec: Security, signer.cpp (signNested), StaticCode.cpp
//       (validateOtherVersions).

#ifndef CODESEAL_CODESIGN_BUNDLE_BUNDLE_PLAN_H_
#define CODESEAL_CODESIGN_BUNDLE_BUNDLE_PLAN_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "codesign/bundle/bundle.h"

namespace codeseal {

enum class CodeKind {
  kBundle,
  kMachO,      // a loose executable or library
  kOtherFile,  // a script or the like where code belongs: its signature needs
               // extended attributes
};

enum class SealedAs {
  kRoot,          // what was asked for: sealed by nobody
  kNestedCode,    // by cdhash and designated requirement
  kOtherVersion,  // a version of a framework that is not the current one: not
                  // sealed, but verified together with the current one
  kResource,      // file by file
};

struct CodeItem {
  std::string path;  // below the path that was asked for
  CodeKind kind = CodeKind::kMachO;
  SealedAs sealed_as = SealedAs::kRoot;
  std::optional<Bundle> bundle = std::nullopt;  // of a kBundle
  // false: it is left as it is, and must be signed already unless it is a
  // resource.
  bool is_signed_now = false;
  // Indexes of the code right inside, in order of paths; all are smaller than
  // this item's own.
  std::vector<size_t> parts = {};
  size_t stage = 0;
};

struct PlanOptions {
  // --deep: signs nested code, too, and, which Apple's --deep forgets, the
  // other versions of frameworks.
  bool is_deep = false;
  // Signs code that is sealed as a resource: code in Resources, and all inner
  // code of flat bundles. Apple's tool never does.
  bool signs_resources = false;
  // --bundle-version: which version of a versioned framework, and no other, is
  // the root; empty for all, with Versions/Current as the root.
  std::string version = {};
};

// Movable, copyable, thread-compatible.
class BundlePlan {
 public:
  // Opens every bundle in the tree and looks at every file of it that might be
  // code; reads no more of it. Whether code is signed already is not looked at,
  // strict errors are left in the bundles.
  //
  // Errors: those of Bundle::Open() and Bundle::LoadResourceRules() for the
  // bundle and for nested folders, with their path: where code belongs, each
  // folder with a dot in its name must be a bundle.
  static absl::StatusOr<BundlePlan> Create(const std::string& path,
                                           const PlanOptions& options);

  // Inside-out: everything stands behind its parts. The last one is the root.
  const std::vector<CodeItem>& items() const { return items_; }
  const CodeItem& root() const { return items_.back(); }

  // Items with stage 0 come first, all of them together; then those with stage
  // 1, after the ones before were written; and so on. At least 1.
  size_t stage_count() const { return root().stage + 1; }

  // The item at a path as SealResources() names it; nullptr when there is none.
  const CodeItem* Find(const std::string& absolute_path) const;

 private:
  class Planner;

  std::vector<CodeItem> items_;
};

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_BUNDLE_BUNDLE_PLAN_H_
