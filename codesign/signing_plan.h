// Everything that is decided and computed before a key is used: the
// CodeDirectories and the blobs that they bind. Then, with the CMS of each
// slice, the signed file.
//
//   CodeObject + options + public chain -> [SigningPlan] -> CMS per slice
//   SigningPlan + CMS -> staged files -> signed code
//
// Spec: Security, SecCodeSigner::Signer (signer.cpp).

#ifndef CODESEAL_CODESIGN_SIGNING_PLAN_H_
#define CODESEAL_CODESIGN_SIGNING_PLAN_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "codesign/base/bytes.h"
#include "codesign/base/digest.h"
#include "codesign/base/mapped_file.h"
#include "codesign/base/staged_file.h"
#include "codesign/cms/certificate.h"
#include "codesign/code_object.h"
#include "codesign/signing_options.h"

namespace codeseal {

// One slice of the code, ready to be signed. What is no Mach-O is one slice.
struct SlicePlan {
  std::string architecture;             // "arm64"; empty if it is no Mach-O
  std::vector<Bytes> code_directories;  // raw blobs, primary first
  std::vector<DigestKind> digests;      // hashType of each
  std::vector<CdHash> cdhashes;         // of each
  std::map<uint32_t, Bytes> blobs;  // by slot: what the special slots bind and
                                    // the signature stores
};

// Told how many more bytes of code were hashed. Called from several threads.
using OnCodeHashed = std::function<void(uint64_t size)>;

// Movable; owns the code object. Thread-compatible.
class SigningPlan {
 public:
  // Reads and hashes; writes nothing. An empty `chain` means ad-hoc; otherwise
  // leaf first, root last. A linker's signature counts as none: it is replaced
  // without -f, and nothing of it is preserved.
  // Errors: INVALID_ARGUMENT for malformed input (STAGE_PARSE);
  // FAILED_PRECONDITION for what cannot be signed so (STAGE_PLAN:
  // REASON_ALREADY_SIGNED, REASON_NO_HEADER_ROOM, ...), with the path and
  // architecture as subject.
  static absl::StatusOr<SigningPlan> Create(std::unique_ptr<CodeObject> code,
                                            const SigningOptions& options,
                                            std::span<const Certificate> chain,
                                            const OnCodeHashed& on_hashed = {});
  // The same for a Mach-O.
  static absl::StatusOr<SigningPlan> Create(MappedFile file,
                                            const SigningOptions& options,
                                            std::span<const Certificate> chain);

  // The digests that Create() would use. A bundle's seal, which Create() needs,
  // has the same: they must be known before.
  static absl::StatusOr<std::vector<DigestKind>> ChooseDigests(
      const CodeObject& code, const SigningOptions& options);

  SigningPlan(SigningPlan&&) noexcept;
  SigningPlan& operator=(SigningPlan&&) noexcept;
  ~SigningPlan();

  const std::string& path() const;  // of the file that is signed
  // In the file's order.
  std::span<const SlicePlan> slices() const;
  const std::string& identifier() const;
  bool replaces_signature() const;
  // Bytes kept free for the signature of slices()[slice].
  uint64_t reserved_size(size_t slice) const;
  // Apple's words: "Mach-O universal (x86_64 arm64)". For the main executable
  // of a bundle it is the second half of them.
  std::string Format() const;

  // What the seal of a bundle around this code stores of it, as the machine of
  // options.host_cpu sees it.
  const CodeIdentity& code_identity() const;

  // Writes everything that is to change beside where it belongs; nothing is to
  // be seen before StagedFile::Commit(). `cms` has one ContentInfo for each
  // slice, without wrapper, in order; for an ad-hoc plan it is empty. Where the
  // signature is shorter than the one it replaces, the old bytes behind it
  // stay, as they do with Apple's codesign.
  // Errors: FAILED_PRECONDITION REASON_SIGNATURE_TOO_LARGE; ABORTED
  // REASON_FILE_CHANGED when the original is not what was hashed; the file
  // faults of StagedFile. Nothing remains after any of them.
  absl::StatusOr<std::vector<StagedFile>> Stage(
      std::span<const Bytes> cms, const TargetPath& target_path) const;

  // Stage() and commit at once. The signed file goes to `path`, which may be
  // another than that of the original.
  absl::Status WriteSigned(const std::string& path,
                           std::span<const Bytes> cms) const;

 private:
  struct Impl;
  explicit SigningPlan(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Removes the signature of every slice that has one, as codesign
// --remove-signature does.
// Errors: FAILED_PRECONDITION REASON_NOT_SIGNED when none has,
// REASON_SIGNATURE_NOT_LAST; those of UniversalFile and StagedFile.
absl::Status StripSignature(const std::string& path);

// The same, written beside `target_path` and not committed.
absl::StatusOr<StagedFile> StageStripped(const std::string& path,
                                         const std::string& target_path);

// The name that codesign derives from a path when nobody gives one: without
// folders, without a final extension that isn't a number, and of trailing
// numbers only the first. "libfrotz7.3.5.dylib" becomes "libfrotz7".
std::string CanonicalIdentifier(std::string_view path);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_SIGNING_PLAN_H_
