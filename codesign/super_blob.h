// The containers of a code signature. Every blob begins with a magic number and
// its own length; a SuperBlob is a blob with an index of other blobs by slot.
//
//   LC_CODE_SIGNATURE -> [SuperBlob] -> CodeDirectory, requirements, CMS, ...
//
// Spec: xnu osfmk/kern/cs_blobs.h, CS_GenericBlob and CS_SuperBlob; Security
//       superblob.h for the order that Apple writes. Rules SB-*.

#ifndef CODESEAL_CODESIGN_SUPER_BLOB_H_
#define CODESEAL_CODESIGN_SUPER_BLOB_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "codesign/base/bytes.h"

namespace codeseal {

// First word of a blob.
enum BlobMagic : uint32_t {
  kRequirementMagic = 0xfade0c00,        // CSMAGIC_REQUIREMENT
  kRequirementSetMagic = 0xfade0c01,     // CSMAGIC_REQUIREMENTS
  kCodeDirectoryMagic = 0xfade0c02,      // CSMAGIC_CODEDIRECTORY
  kLibraryDependencyMagic = 0xfade0c05,  // kSecCodeMagicLibraryDependency
  kEmbeddedSignatureMagic = 0xfade0cc0,  // CSMAGIC_EMBEDDED_SIGNATURE
  kDetachedSignatureMagic = 0xfade0cc1,  // CSMAGIC_DETACHED_SIGNATURE
  kEntitlementsMagic = 0xfade7171,       // CSMAGIC_EMBEDDED_ENTITLEMENTS
  kEntitlementsDerMagic = 0xfade7172,    // CSMAGIC_EMBEDDED_DER_ENTITLEMENTS
  kLaunchConstraintMagic = 0xfade8181,   // CSMAGIC_EMBEDDED_LAUNCH_CONSTRAINT
  kBlobWrapperMagic = 0xfade0b01,        // CSMAGIC_BLOBWRAPPER
};

// Where a blob of an embedded signature lives. Slots 1 to 11 are also special
// slots: slot n of a CodeDirectory holds the digest of its content.
enum Slot : uint32_t {
  kCodeDirectorySlot = 0,                   // CSSLOT_CODEDIRECTORY
  kInfoPlistSlot = 1,                       // CSSLOT_INFOSLOT
  kRequirementsSlot = 2,                    // CSSLOT_REQUIREMENTS
  kCodeResourcesSlot = 3,                   // CSSLOT_RESOURCEDIR
  kTopDirectorySlot = 4,                    // CSSLOT_APPLICATION
  kEntitlementsSlot = 5,                    // CSSLOT_ENTITLEMENTS
  kRepSpecificSlot = 6,                     // cdRepSpecificSlot
  kEntitlementsDerSlot = 7,                 // CSSLOT_DER_ENTITLEMENTS
  kLaunchConstraintSelfSlot = 8,            // CSSLOT_LAUNCH_CONSTRAINT_SELF
  kLaunchConstraintParentSlot = 9,          // CSSLOT_LAUNCH_CONSTRAINT_PARENT
  kLaunchConstraintResponsibleSlot = 10,    // ..._LAUNCH_CONSTRAINT_RESPONSIBLE
  kLibraryConstraintSlot = 11,              // CSSLOT_LIBRARY_CONSTRAINT
  kAlternateCodeDirectorySlot = 0x1000,     // CSSLOT_ALTERNATE_CODEDIRECTORIES
  kAlternateCodeDirectoryEndSlot = 0x1005,  // ..._ALTERNATE_CODEDIRECTORY_LIMIT
  kCmsSlot = 0x10000,                       // CSSLOT_SIGNATURESLOT
  kIdentificationSlot = 0x10001,            // CSSLOT_IDENTIFICATIONSLOT
  kTicketSlot = 0x10002,                    // CSSLOT_TICKETSLOT
};

inline constexpr size_t kBlobHeaderSize = 8;
inline constexpr size_t kSuperBlobHeaderSize = 12;  // magic, length, count
inline constexpr size_t kSuperBlobEntrySize = 8;    // slot, offset

// What people call a slot: "Info.plist", "requirements", "CodeDirectory", ...;
// "slot 12" for others.
std::string SlotName(uint32_t slot);

// Header and payload in one blob.
Bytes WrapBlob(uint32_t magic, ByteView payload);

// The payload of a blob that fills `blob` exactly.
// Errors: INVALID_ARGUMENT REASON_TRUNCATED, REASON_BAD_MAGIC,
// REASON_BLOB_LENGTH_OUT_OF_RANGE.
absl::StatusOr<ByteView> UnwrapBlob(uint32_t magic, ByteView blob);

// Immutable, copyable, thread-compatible. Borrows from the bytes given to
// Parse().
class SuperBlob {
 public:
  struct Entry {
    uint32_t slot = 0;
    uint32_t offset = 0;  // bytes from the SuperBlob's start
    uint32_t magic = 0;   // of the blob; not checked against the slot
    ByteView blob;        // header included; inside raw()
  };

  // Reads the SuperBlob that starts at bytes[0]; bytes past its own length are
  // ignored, and so are index entries with offset 0, which mean "no blob".
  // Blobs may overlap and leave gaps: see CheckPacked().
  //
  // Errors: INVALID_ARGUMENT with the rule broken; byte_offset counts from
  // bytes[0].
  static absl::StatusOr<SuperBlob> Parse(ByteView bytes, uint32_t magic);
  static absl::StatusOr<SuperBlob> Parse(const Bytes&&, uint32_t) = delete;

  // In the order of the index.
  std::span<const Entry> entries() const { return entries_; }
  std::optional<ByteView> Find(uint32_t slot) const;
  ByteView raw() const { return raw_; }

  // Apple's strict rule: the blobs fill the space behind the index, without
  // gap or overlap.
  // Errors: INVALID_ARGUMENT REASON_OVERLAPPING_RANGES, REASON_BAD_SUPER_BLOB.
  absl::Status CheckPacked() const;

 private:
  SuperBlob() = default;

  ByteView raw_;
  uint32_t index_count_ = 0;  // entries with offset 0 included
  std::vector<Entry> entries_;
};

// Header and index of a SuperBlob over blobs of these sizes (headers included),
// which follow in ascending slots and without padding: for writers that do not
// want large blobs copied together.
Bytes BuildSuperBlobIndex(uint32_t magic,
                          const std::map<uint32_t, size_t>& blob_sizes);

// The whole SuperBlob.
Bytes BuildSuperBlob(uint32_t magic, const std::map<uint32_t, Bytes>& blobs);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_SUPER_BLOB_H_
