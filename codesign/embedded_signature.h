// The signature of one slice, as LC_CODE_SIGNATURE points to it.
//
//   SuperBlob -> [EmbeddedSignature] -> CodeDirectories, blobs, CMS
//
// Spec: Security signerutils.cpp and StaticCode.cpp; xnu ubc_subr.c,
//       cs_validate_csblob. Rules ES-*.

#ifndef CODESEAL_CODESIGN_EMBEDDED_SIGNATURE_H_
#define CODESEAL_CODESIGN_EMBEDDED_SIGNATURE_H_

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "codesign/base/bytes.h"
#include "codesign/code_directory.h"
#include "codesign/super_blob.h"

namespace codeseal {

// Immutable, copyable, thread-compatible. Borrows from the bytes given to
// Parse().
class EmbeddedSignature {
 public:
  // Reads the signature that starts at bytes[0]; bytes behind it, which the
  // load command's size covers too, are ignored. Blobs must have the magic of
  // their slot; of their content only CodeDirectories are read.
  // Errors: INVALID_ARGUMENT: those of SuperBlob and CodeDirectory;
  // REASON_MALFORMED_SIGNATURE when there is no primary CodeDirectory or two
  // have the same digest. byte_offset counts from bytes[0].
  static absl::StatusOr<EmbeddedSignature> Parse(ByteView bytes);
  static absl::StatusOr<EmbeddedSignature> Parse(const Bytes&&) = delete;

  const SuperBlob& super_blob() const { return super_blob_; }

  // As stored: primary, then alternates in ascending slots.
  std::span<const CodeDirectory> code_directories() const {
    return code_directories_;
  }
  // The one that the CMS signs.
  const CodeDirectory& primary() const { return code_directories_.front(); }
  // The one that macOS judges by.
  const CodeDirectory& best() const { return code_directories_[best_]; }

  // A stored blob with its header: kRequirementsSlot, kEntitlementsSlot, ...
  std::optional<ByteView> Find(uint32_t slot) const {
    return super_blob_.Find(slot);
  }
  // The CMS without its wrapper; empty when there is none, as in ad-hoc
  // signatures.
  ByteView cms() const { return cms_; }
  bool is_ad_hoc() const { return primary().HasFlag(kAdHocFlag); }
  // Made by a linker: Apple's tools take such code for unsigned when they sign.
  bool is_linker_signed() const { return primary().HasFlag(kLinkerSignedFlag); }

 private:
  explicit EmbeddedSignature(SuperBlob super_blob)
      : super_blob_(std::move(super_blob)) {}

  SuperBlob super_blob_;
  std::vector<CodeDirectory> code_directories_;
  size_t best_ = 0;  // index
  ByteView cms_;
};

// The magic that a blob in `slot` must have; nullopt for slots that hold
// anything, or nothing that is known.
std::optional<uint32_t> MagicOfSlot(uint32_t slot);

// Compares one special slot with the content it should seal: the stored blob
// with its header, or the bytes of Info.plist and CodeResources. Content that
// the slot does not seal is not looked at: Apple calls it "not bound".
// Errors: FAILED_PRECONDITION STAGE_VERIFY REASON_SPECIAL_SLOT_MISMATCH, with
// the slot's name as subject, when the digest differs or sealed content is
// missing.
absl::Status CheckSpecialSlot(const CodeDirectory& code_directory,
                              uint32_t slot, std::optional<ByteView> content);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_EMBEDDED_SIGNATURE_H_
