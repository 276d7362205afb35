// What the user asked for, before anything is known of the code.
//
//   command line, settings file -> [SigningOptions] -> SigningPlan
//
// Spec: codesign(1), OPTIONS; Security SecCodeSigner.h.

#ifndef CODESEAL_CODESIGN_SIGNING_OPTIONS_H_
#define CODESEAL_CODESIGN_SIGNING_OPTIONS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "codesign/base/bytes.h"
#include "codesign/base/digest.h"
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
  // The same for requirements that name the code's own identifier, which is
  // known only when it has been chosen.
  std::function<absl::StatusOr<Bytes>(const std::string& identifier)>
      requirements_for;
  std::vector<DigestKind> digests;    // empty: by the minimum OS version
  std::optional<uint32_t> page_size;  // bytes, a power of two; 0 for one page
  std::optional<uint32_t> runtime_version;  // 0x00XXYYZZ
  uint32_t preserve_metadata = 0;           // PreserveMetadata bits
  uint32_t reserved_cms_size = 18000;       // --signature-size, bytes
  bool force_library_entitlements = false;
  bool force = false;  // -f: replace an existing signature
  bool strict = true;  // refuse code that Apple's strict validation refuses
  bool pre_encrypt_hashes = false;  // --generate-pre-encrypt-hashes
  // The bundle whose main executable the code is; empty for loose code. Its
  // name stands for the code's, and the executable's own Info.plist means
  // nothing.
  std::string bundle_path;
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

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_SIGNING_OPTIONS_H_
