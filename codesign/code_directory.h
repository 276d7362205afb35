// A CodeDirectory lists the digest of every code page and of every sealed side
// file. Whatever a signature protects is reached through it.
//
//   SuperBlob -> [CodeDirectory] -> CdHash -> CMS -> embedded signature
//
// Spec: xnu osfmk/kern/cs_blobs.h, struct CS_CodeDirectory. Rules CD-* adapt
//       xnu bsd/kern/ubc_subr.c, cs_validate_codedirectory, and Security
//       codedirectory.cpp, checkIntegrity. CD-5 also allows page size 0, which
//       files other than Mach-O use.

#ifndef CODESEAL_CODESIGN_CODE_DIRECTORY_H_
#define CODESEAL_CODESIGN_CODE_DIRECTORY_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "codesign/base/bytes.h"
#include "codesign/base/digest.h"
#include "codesign/super_blob.h"

namespace codeseal {

// Versions that added fields (CS_SUPPORTS*).
inline constexpr uint32_t kCodeDirectoryEarliest = 0x20001;
inline constexpr uint32_t kCodeDirectoryWithScatter = 0x20100;
inline constexpr uint32_t kCodeDirectoryWithTeam = 0x20200;
inline constexpr uint32_t kCodeDirectoryWithCodeLimit64 = 0x20300;
inline constexpr uint32_t kCodeDirectoryWithExecSegment = 0x20400;
inline constexpr uint32_t kCodeDirectoryWithRuntime = 0x20500;
inline constexpr uint32_t kCodeDirectoryWithLinkage = 0x20600;
inline constexpr uint32_t kCodeDirectoryLatest = 0x2F000;

// Bits of CodeDirectory.flags that signing and verifying look at.
enum CodeDirectoryFlag : uint32_t {
  kAdHocFlag = 0x2,                 // CS_ADHOC
  kExpiresFlag = 0x400,             // CS_CHECK_EXPIRATION
  kLibraryValidationFlag = 0x2000,  // CS_REQUIRE_LV
  kRuntimeFlag = 0x10000,           // CS_RUNTIME
  kLinkerSignedFlag = 0x20000,      // CS_LINKER_SIGNED
};

// The part of the code that may be executed, as the kernel sees it.
struct ExecSegment {
  uint64_t offset = 0;  // execSegBase, bytes into the slice
  uint64_t size = 0;    // execSegLimit, bytes
  uint64_t flags = 0;   // CS_EXECSEG_*
};

// Immutable, copyable, thread-compatible. Owns nothing: returned views borrow
// from the bytes given to Parse().
class CodeDirectory {
 public:
  // Reads the blob that starts at blob[0]; bytes past its own length field are
  // ignored. Scatter vectors, which only the shared cache of dyld has, are
  // refused.
  //
  // Errors: INVALID_ARGUMENT with ErrorDetail.reason and .rule; byte_offset
  // counts from blob[0]. There is no partial result.
  static absl::StatusOr<CodeDirectory> Parse(ByteView blob);
  static absl::StatusOr<CodeDirectory> Parse(const Bytes&&) = delete;

  uint32_t version() const { return version_; }
  uint32_t flags() const { return flags_; }
  bool HasFlag(CodeDirectoryFlag flag) const { return (flags_ & flag) != 0; }
  std::string_view identifier() const { return identifier_; }
  std::string_view team_identifier() const {
    return team_identifier_;
  }  // or ""
  DigestKind digest_kind() const { return digest_kind_; }
  uint8_t platform() const { return platform_; }  // 0: not Apple's platform

  // Bytes per code page; 0 means that the whole file is one page.
  uint32_t page_size() const { return page_size_; }
  // Bytes that the code slots cover, from the start of the slice.
  uint64_t code_limit() const { return code_limit_; }
  const ExecSegment& exec_segment() const { return exec_segment_; }
  // 0x00XXYYZZ for version XX.YY.ZZ; 0 for none.
  uint32_t runtime_version() const { return runtime_version_; }

  uint32_t code_slot_count() const { return code_slot_count_; }
  uint32_t special_slot_count() const { return special_slot_count_; }

  // Digest of code page `index`; nullopt when index >= code_slot_count().
  std::optional<ByteView> CodeSlotDigest(uint32_t index) const;
  // All of them, one after another.
  ByteView code_slots() const;
  // Digest of side file `slot`; nullopt when there is no such slot. All zeros
  // means "slot present, nothing sealed" and is returned as is.
  std::optional<ByteView> SpecialSlotDigest(uint32_t slot) const;
  // Whether special slot `slot` seals something: present and not all zeros.
  bool SealsSpecialSlot(uint32_t slot) const;
  // Digests of the pages before encryption by the App Store, like
  // code_slots(); empty when there are none.
  ByteView pre_encrypt_slots() const;

  // Digest of the CodeDirectory itself, cut to 20 bytes.
  CdHash cdhash() const { return ComputeCdHash(digest_kind_, raw_); }

  // Exactly the bytes that the cdhash covers.
  ByteView raw() const { return raw_; }

  // What byte `offset` of raw() belongs to, in Apple's words: "execSegLimit",
  // "identifier", "specialSlot -2", "codeSlot 17"; "unused" for a gap.
  std::string DescribeOffset(uint64_t offset) const;

 private:
  CodeDirectory() = default;

  ByteView raw_;
  std::string_view identifier_;
  std::string_view team_identifier_;
  uint32_t version_ = 0;
  uint32_t flags_ = 0;
  DigestKind digest_kind_ = DigestKind::kSha256;
  uint8_t platform_ = 0;
  uint32_t page_size_ = 0;
  uint64_t code_limit_ = 0;
  ExecSegment exec_segment_;
  uint32_t runtime_version_ = 0;
  uint32_t hash_offset_ = 0;         // bytes; code slot 0
  uint32_t pre_encrypt_offset_ = 0;  // bytes; 0 for none
  uint32_t code_slot_count_ = 0;
  uint32_t special_slot_count_ = 0;
};

// Among the digests of one slice's CodeDirectories, the one that macOS judges
// by: SHA-384, SHA-256, truncated SHA-256, SHA-1. `kinds` must not be empty.
DigestKind BestDigest(std::span<const DigestKind> kinds);

// What a CodeDirectory is made from, page digests excepted.
struct CodeDirectoryFields {
  std::string identifier;
  std::string team_identifier;  // empty for none
  uint32_t flags = 0;
  DigestKind digest_kind = DigestKind::kSha256;
  uint8_t platform = 0;
  uint32_t page_size = 0;   // bytes: 0 for one page, 4096 or 16384
  uint64_t code_limit = 0;  // bytes
  ExecSegment exec_segment;
  uint32_t runtime_version = 0;
  bool pre_encrypt = false;
  // Digests by slot number (1 to 11), each DigestSize(digest_kind) bytes. Lower
  // slots that are not given are written as zeros.
  std::map<uint32_t, Bytes> special_slots;

  // What Apple's allocator reserves: the size with the header of version
  // 0x20500, whatever version is written.
  uint64_t ReservedSize() const;
  uint32_t CodeSlotCount() const;
};

// Lays out one CodeDirectory and lets the caller write the page digests in
// place. Movable; spans live until Build(). The version is the lowest that can
// hold the fields, as codesign chooses it.
class CodeDirectoryBuilder {
 public:
  // Errors: INVALID_ARGUMENT REASON_BAD_IDENTIFIER, REASON_BAD_TEAM_IDENTIFIER,
  // REASON_UNSUPPORTED_DIGEST, REASON_UNSUPPORTED_PAGE_SIZE,
  // REASON_FILE_TOO_BIG; STAGE_PLAN.
  static absl::StatusOr<CodeDirectoryBuilder> Create(
      const CodeDirectoryFields& fields);

  // CodeSlotCount() digests to fill in, one after another. Slots may be filled
  // from several threads.
  std::span<uint8_t> code_slots();
  // The same for the digests before encryption; empty unless asked for.
  std::span<uint8_t> pre_encrypt_slots();

  Bytes Build() && { return std::move(bytes_); }

 private:
  CodeDirectoryBuilder() = default;

  Bytes bytes_;
  size_t hash_offset_ = 0;
  size_t slots_size_ = 0;  // bytes of all code slots
  size_t pre_encrypt_offset_ = 0;
};

// Reads the words of codesign's -o option: names joined by commas, each name
// whole or an abbreviation that fits one name only, or one number (decimal, 0x
// or 0 octal). Only names that a user may set are known: "adhoc" is not.
// Errors: INVALID_ARGUMENT REASON_BAD_OPTION.
absl::StatusOr<uint32_t> ParseCodeDirectoryFlags(std::string_view text);

// As codesign -d prints them: "0x0(none)", "0x10002(adhoc,runtime)"; bits
// without a name add "???".
std::string FormatCodeDirectoryFlags(uint32_t flags);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_CODE_DIRECTORY_H_
