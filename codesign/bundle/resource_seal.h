// The seal of a bundle: a digest of every file in it, the target of every
// symbolic link, the identity of all nested code. It is stored as the property
// list _CodeSignature/CodeResources, whose own digest is in slot -3.
//
//   Bundle + rules + files -> [ResourceSeal] -> CodeResources -> slot -3
//   CodeResources + files on disk -> what was added, modified, removed
//
// Spec: Security, signer.cpp (buildResources), resources.cpp, StaticCode.cpp
//       (validateResource, validateSymlinkResource).

#ifndef CODESEAL_CODESIGN_BUNDLE_RESOURCE_SEAL_H_
#define CODESEAL_CODESIGN_BUNDLE_RESOURCE_SEAL_H_

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "codesign/base/bytes.h"
#include "codesign/base/digest.h"
#include "codesign/bundle/bundle.h"
#include "codesign/bundle/file_digests.h"
#include "codesign/bundle/property_list.h"
#include "codesign/bundle/resource_rules.h"

namespace codeseal {

struct SealedFile {
  std::map<DigestKind, Bytes> digests;  // at least one
  bool operator==(const SealedFile&) const = default;
};

struct SealedSymlink {
  std::string target;
  bool operator==(const SealedSymlink&) const = default;
};

// Code that is sealed by what it is, not by its bytes: other code that
// satisfies the requirement may take its place.
struct NestedCode {
  CdHash cdhash{};
  std::string requirement;  // designated, as text
  bool operator==(const NestedCode&) const = default;
};

// One value of files2.
struct SealedResource {
  std::variant<SealedFile, SealedSymlink, NestedCode> what;
  bool optional = false;
  bool operator==(const SealedResource&) const = default;
};

// One value of files, the seal of version 1: SHA-1, regular files only.
struct Version1Resource {
  Bytes sha1;
  // Whether the file may be missing; nullopt writes the short form, which is
  // the one for files that no flag of a rule applies to.
  std::optional<bool> optional;
  bool operator==(const Version1Resource&) const = default;
};

// Keys are paths relative to Bundle::resource_base().
struct ResourceSeal {
  ResourceRules rules;
  std::optional<std::map<std::string, Version1Resource, PlistKeyLess>> files;
  std::optional<std::map<std::string, SealedResource, PlistKeyLess>> files2;

  // The version that counts in verification: 2 if it is there.
  int version() const { return files2.has_value() ? 2 : 1; }
  // Of that version, as codesign -d counts them.
  size_t RuleCount() const;
  size_t FileCount() const;
  // The digests that the files of files2 have; empty when there are none.
  std::vector<DigestKind> Digests() const;

  bool operator==(const ResourceSeal&) const = default;
};

// --- Stored form
// ---------------------------------------------------------------

// The bytes of CodeResources.
Bytes BuildCodeResources(const ResourceSeal& seal);

// Errors: INVALID_ARGUMENT REASON_RESOURCE_SEAL_INVALID; the subject is the
// path whose entry is wrong.
absl::StatusOr<ResourceSeal> ParseCodeResources(ByteView bytes);

// ParseCodeResources() of the bundle's file.
// Errors: those, and FAILED_PRECONDITION REASON_RESOURCES_NOT_FOUND.
absl::StatusOr<ResourceSeal> LoadCodeResources(const Bundle& bundle);

// --- Sealing
// --------------------------------------------------------------------

struct SealOptions {
  // Those of the CodeDirectories; files2 has one of each for every file.
  std::vector<DigestKind> digests = {DigestKind::kSha256};
  bool writes_version1 = true;  // false: --no-legacy-signing
  bool writes_version2 = true;  // false: --legacy-signing
  // --seal-root: files beside Contents are sealed as "../NAME".
  bool seals_root = false;
  // Refuse folders that cannot be listed, pipes, sockets and devices instead
  // of leaving them out.
  bool is_strict = true;
  size_t thread_count = 0;  // 0: one for each core
  OnHashed on_hashed = {};
};

// The identity of the code at a path (a file, or a folder for a bundle). A
// Status such as REASON_UNSIGNED_NESTED_CODE refuses it, and with it the seal.
using NestedCodeFinder = std::function<absl::StatusOr<NestedCode>(
    const std::string& path, const std::string& absolute_path)>;

// Walks the bundle and hashes its files, in parallel. `find_nested` is called
// in order of paths, from the calling thread. Writes nothing.
//
// Errors: those of `find_nested`, with the code's path as subject;
// REASON_DS_STORE_SYMLINK, _RESOURCE_NOT_SUPPORTED, _RESOURCE_NOT_READABLE,
// _RESOURCE_NAME_NOT_UTF8, _RESOURCE_RULES_INVALID, _BAD_BUNDLE_FORMAT (a root
// that cannot be sealed); the file faults of MappedFile.
absl::StatusOr<ResourceSeal> SealResources(const Bundle& bundle,
                                           const ResourceRules& rules,
                                           const SealOptions& options,
                                           const NestedCodeFinder& find_nested);

// --- Verification
// ----------------------------------------------------------------

enum class ResourceChange {
  kAdded,     // "file added"
  kModified,  // "file modified", also when a file became a link or the like
  kMissing,   // "file missing"
  kBadCode,   // nested code, or a link out of the bundle: see the status
};

struct ResourceProblem {
  ResourceChange change = ResourceChange::kModified;
  std::string path;     // relative to the resource base
  absl::Status status;  // never OK; the subject is the absolute path
};

// Judges nested code against what the seal says of it.
using NestedCodeChecker = std::function<absl::Status(
    const std::string& absolute_path, const NestedCode& sealed)>;

// What symbolic links may name: the sealed files of one bundle.
struct ResourceScope {
  std::string base;            // real path
  std::string main_file = "";  // real path
  const ResourceMatcher* matcher = nullptr;
  const ResourceScope* outer = nullptr;  // of the bundle around this one
};

struct CompareOptions {
  // Those that the code was signed with: the seal must have them all. Empty:
  // whatever the seal has.
  std::vector<DigestKind> digests = {};
  bool is_strict = true;  // as in SealOptions
  // Links must lead to sealed files of this or an enclosing bundle, or, if
  // absolute, to /System or /Library.
  bool restricts_symlinks = false;
  const ResourceScope* outer_scope = nullptr;
  size_t thread_count = 0;
};

// Compares the seal with what is on disk; nothing is wrong when the result is
// empty. Problems are in order of paths. Nested code is left to
// `check_nested`, called from the calling thread.
//
// Errors: what keeps the comparison from being made at all, as in
// SealResources().
absl::StatusOr<std::vector<ResourceProblem>> CompareResources(
    const Bundle& bundle, const ResourceSeal& seal,
    const CompareOptions& options, const NestedCodeChecker& check_nested);

// Strict verification: refuses seals of version 1 and rules with gaps.
// Errors: REASON_WEAK_RESOURCE_RULES, REASON_WEAK_RESOURCE_ENVELOPE.
absl::Status CheckSealIsStrong(const Bundle& bundle, const ResourceSeal& seal);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_BUNDLE_RESOURCE_SEAL_H_
