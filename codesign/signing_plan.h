// Everything that is decided and computed before a key is used: where the
// signature goes, the CodeDirectories, the blobs that they bind. Then, with
// the CMS of each slice, the signed file.
//
//   Mach-O + options + public chain -> SigningPlan -> CMS per slice -> file
//
// Spec: Security, SecCodeSigner::Signer (signer.cpp) and machorep.cpp.

#ifndef CODESEAL_CODESIGN_SIGNING_PLAN_H_
#define CODESEAL_CODESIGN_SIGNING_PLAN_H_

#include <cstdint>
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
#include "codesign/cms/certificate.h"
#include "codesign/macho/architecture.h"

namespace codeseal {

// Bits of --preserve-metadata, Apple's values.
enum PreserveMetadata : uint32_t {
  kPreserveIdentifier = 0x1,
  kPreserveRequirements = 0x2,
  kPreserveEntitlements = 0x4,
  kPreserveResourceRules = 0x8,
  kPreserveFlags = 0x10,
  kPreserveTeamIdentifier = 0x20,
  kPreserveDigestAlgorithm = 0x40,
  kPreservePreEncryptHashes = 0x80,
  kPreserveRuntime = 0x100,
  kPreserveLaunchConstraints = 0x200,
  kPreserveLibraryConstraints = 0x400,
};

// Whose bytes to write: Apple's codesign has changed what it puts into a
// signature. Measured on real files.
enum class CodesignGeneration {
  kBeforeMacOs12,  // 4 KiB pages; no DER entitlements; no executable segment;
                   // __LINKEDIT and slices aligned to the CPU's page
  kMacOs12,        // 4 KiB pages; SHA-1, too, for code of unknown platform
  kMacOs26,        // 16 KiB pages for arm64
};

// What the user asked for. An empty optional means "as Apple's codesign would
// choose", which may be a preserved or computed value.
struct SigningOptions {
  std::optional<std::string> identifier;
  std::string identifier_prefix;
  std::optional<std::string> team_identifier;  // "" for none
  std::optional<uint32_t> flags;
  std::optional<Bytes> entitlements;  // plist bytes as given, or a whole blob
  // A requirement set blob (fade0c01). The default designated requirement is
  // added when it has none.
  std::optional<Bytes> requirements;
  std::vector<DigestKind> digests;    // empty: by the minimum OS version
  std::optional<uint32_t> page_size;  // bytes, a power of two; 0 for one page
  std::optional<uint32_t> runtime_version;  // 0x00XXYYZZ
  uint32_t preserve_metadata = 0;           // PreserveMetadata bits
  uint32_t reserved_cms_size = 18000;       // --signature-size, bytes
  bool force_library_entitlements = false;
  bool force = false;  // -f: replace an existing signature
  bool strict = true;  // refuse code that Apple's strict validation refuses
  bool pre_encrypt_hashes = false;  // --generate-pre-encrypt-hashes
  // A bundle's files, which are sealed but not stored in the signature. The
  // Info.plist takes the place of the executable's own.
  std::optional<Bytes> info_plist;
  std::optional<Bytes> code_resources;
  // Launch and library constraints: whole blobs (fade8181) for slots 8 to 11.
  std::map<uint32_t, Bytes> constraints;
  // Some of Apple's choices depend on the machine that signs: the slice whose
  // UUID and Info.plist stand for the file, and what its codesign writes.
  CpuType host_cpu = CpuType::kArm64;
  CodesignGeneration generation = CodesignGeneration::kMacOs26;
};

// One slice of the file, ready to be signed.
struct SlicePlan {
  std::string architecture;             // "arm64"
  std::vector<Bytes> code_directories;  // raw blobs, primary first
  std::vector<DigestKind> digests;      // hashType of each
  std::vector<CdHash> cdhashes;         // of each
  std::map<uint32_t, Bytes> blobs;  // by slot: what the special slots bind and
                                    // the signature stores
};

// Movable; owns the mapped file. Thread-compatible.
class SigningPlan {
 public:
  // Reads and hashes; writes nothing. An empty `chain` means ad-hoc; otherwise
  // leaf first, root last. A linker's signature counts as none: it is replaced
  // without -f, and nothing of it is preserved.
  // Errors: INVALID_ARGUMENT for malformed input (STAGE_PARSE);
  // FAILED_PRECONDITION for what cannot be signed so (STAGE_PLAN:
  // REASON_ALREADY_SIGNED, REASON_NO_HEADER_ROOM, ...), with the path and
  // architecture as subject.
  static absl::StatusOr<SigningPlan> Create(MappedFile file,
                                            const SigningOptions& options,
                                            std::span<const Certificate> chain);

  SigningPlan(SigningPlan&&) noexcept;
  SigningPlan& operator=(SigningPlan&&) noexcept;
  ~SigningPlan();

  // In the file's order.
  std::span<const SlicePlan> slices() const;
  const std::string& identifier() const;
  bool replaces_signature() const;
  // Bytes kept free for the signature of slices()[slice].
  uint64_t reserved_size(size_t slice) const;
  // Apple's words: "Mach-O universal (x86_64 arm64)".
  std::string Format() const;

  // Writes the signed file beside `path` and renames it. `cms` has one
  // ContentInfo for each slice, without wrapper, in order; for an ad-hoc plan
  // it is empty. Where the signature is shorter than the one it replaces, the
  // old bytes behind it stay, as they do with Apple's codesign.
  // Errors: FAILED_PRECONDITION REASON_SIGNATURE_TOO_LARGE; ABORTED
  // REASON_FILE_CHANGED when the original is not what was hashed; the file
  // faults of StagedFile. The target is untouched after any of them.
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

// The name that codesign derives from a path when nobody gives one: without
// folders, without a final extension that isn't a number, and of trailing
// numbers only the first. "libfrotz7.3.5.dylib" becomes "libfrotz7".
std::string CanonicalIdentifier(std::string_view path);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_SIGNING_PLAN_H_
