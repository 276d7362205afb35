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
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "codesign/base/bytes.h"
#include "codesign/base/digest.h"
#include "codesign/base/mapped_file.h"
#include "codesign/cms/certificate.h"

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

// What the user asked for. An empty optional means "as Apple's codesign would
// choose", which may be a preserved or computed value.
struct SigningOptions {
  std::optional<std::string> identifier;
  std::string identifier_prefix;
  std::optional<std::string> team_identifier;
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
  // leaf first, root last.
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
  // Apple's words: "Mach-O universal (x86_64 arm64)".
  std::string Format() const;

  // Writes the signed file beside `path` and renames it. `cms` has one
  // ContentInfo for each slice, without wrapper, in order; empty elements (or
  // an empty span) write the ad-hoc empty wrapper.
  // Errors: REASON_SIGNATURE_TOO_LARGE; the file faults of StagedFile.
  absl::Status WriteSigned(const std::string& path,
                           std::span<const Bytes> cms) const;

 private:
  struct Impl;
  explicit SigningPlan(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Removes the signature of every slice, as codesign --remove-signature does.
// Errors: FAILED_PRECONDITION REASON_NOT_SIGNED, REASON_SIGNATURE_NOT_LAST.
absl::Status StripSignature(const std::string& path);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_SIGNING_PLAN_H_
