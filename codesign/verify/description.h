// Tells what a signature says, without judging it: the lines of codesign -d,
// requirements and entitlements as text, the same as values for JSON.
//
//   StoredCode -> slices -> EmbeddedSignature -> [CodeDescription] -> show
//
// Spec: codesign(1) and its output; Security's dump of entitlements.

#ifndef CODESEAL_CODESIGN_VERIFY_DESCRIPTION_H_
#define CODESEAL_CODESIGN_VERIFY_DESCRIPTION_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "codesign/base/bytes.h"
#include "codesign/base/digest.h"
#include "codesign/bundle/property_list.h"
#include "codesign/cms/certificate.h"
#include "codesign/code_directory.h"
#include "codesign/verify/stored_code.h"

namespace codeseal {

// One CodeDirectory of a slice.
struct CodeDirectoryDescription {
  DigestKind digest_kind = DigestKind::kSha256;
  CdHash cdhash{};
  Bytes full_digest;  // before it is cut to a cdhash
};

// LC_BUILD_VERSION or LC_VERSION_MIN_*. Versions are packed as 0xXXXXYYZZ.
struct VersionDescription {
  uint32_t platform = 0;
  uint32_t minimum_os = 0;
  uint32_t sdk = 0;
};

struct SliceDescription {
  std::string architecture;  // empty for what is no Mach-O
  uint64_t offset = 0;       // of the slice in the file, bytes
  bool is_native = false;    // what macOS on Apple silicon would run
  // Not OK (REASON_NOT_SIGNED, REASON_MALFORMED_SIGNATURE, ...): the slice has
  // no signature that can be read, and nothing below is filled in.
  absl::Status status;

  // Of the best CodeDirectory.
  std::string identifier;
  std::string team_identifier;  // empty for none
  uint32_t version = 0;
  uint32_t flags = 0;
  uint64_t code_directory_size = 0;  // bytes
  uint32_t code_slot_count = 0;
  uint32_t special_slot_count = 0;
  uint8_t platform = 0;
  DigestKind digest_kind = DigestKind::kSha256;
  uint32_t page_size = 0;  // bytes; 0 for none
  ExecSegment exec_segment;
  uint32_t runtime_version = 0;  // 0x00XXYYZZ; 0 for none
  CdHash cdhash{};
  Bytes special_slots;  // digests, from -special_slot_count to -1
  Bytes code_slots;     // digests, from 0

  std::vector<CodeDirectoryDescription> code_directories;  // as stored
  Bytes cms_digest;  // SHA-256 of the primary CodeDirectory
  std::optional<VersionDescription> build_version;

  bool ad_hoc = false;
  uint64_t cms_size = 0;  // bytes
  // Leaf first. Only the signer when the rest of its chain is not stored.
  std::vector<Certificate> authorities;
  std::optional<absl::Time> signing_time;
  std::optional<absl::Time> timestamp;  // of a token that verifies

  bool seals_resources = false;                  // of a bundle
  std::optional<size_t> info_plist_entry_count;  // nullopt: not bound
  std::optional<size_t> requirement_count;       // nullopt: no slot 2
  uint64_t requirements_size = 0;                // bytes of slot 2
  // As codesign -r- prints it, with line ends: "designated => ...", or
  // "# designated => ..." for one that is implied.
  std::string requirements;
  std::optional<Bytes> entitlements_xml;  // payload of slot 5
  std::optional<Bytes> entitlements_der;  // payload of slot 7
  std::optional<PlistDict> entitlements;  // DER if there is, else the XML
  // Facts of launch and library constraints by slot (8 to 11); empty for one
  // that cannot be read.
  std::map<uint32_t, PlistDict> constraints;
};

// What CodeResources says; nothing when it cannot be read.
struct SealDescription {
  int version = 0;
  size_t rule_count = 0;
  size_t file_count = 0;
};

struct CodeDescription {
  std::string path;                      // of the main file, absolute
  std::string format;                    // "Mach-O thin (arm64)"
  std::string signature_source;          // "embedded", "explicit detached"
  std::vector<SliceDescription> slices;  // in Apple's order
  std::optional<SealDescription> seal;   // of a bundle
  bool has_ticket = false;               // stapled
};

// Reads every slice. Digests are shown as stored; nothing is compared.
CodeDescription Describe(const StoredCode& code);

// "Self Launch", "Library Load": what the constraint in a slot (8 to 11) is.
std::string_view ConstraintName(uint32_t slot);

// The lines of `codesign -d` with `verbosity` times -v, for one slice of
// `description` whose status is OK. Times are UTC.
std::string FormatDescription(const CodeDescription& description,
                              const SliceDescription& slice, int verbosity);

// What `codesign -d --entitlements -` prints: "[Dict]", "\t[Key] ...".
std::string FormatEntitlements(const PlistDict& entitlements);

// What `codesign -d --entitlements - --xml` prints: XML in one line.
std::string FormatEntitlementsXml(const PlistDict& entitlements);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_VERIFY_DESCRIPTION_H_
