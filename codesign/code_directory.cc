#include "codesign/code_directory.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>

#include "absl/strings/str_format.h"
#include "codesign/base/endian.h"
#include "codesign/base/error.h"

namespace codeseal {
namespace {

constexpr uint32_t kMaxUint32 = std::numeric_limits<uint32_t>::max();
constexpr uint32_t kMaxSpecialSlot = kLibraryConstraintSlot;

// The header in wire order. `since` is the first version that has the field.
struct Field {
  const char* name;  // Apple's
  uint32_t offset;
  uint32_t size;
  uint32_t since;
};
constexpr Field kFields[] = {
    {"magic", 0, 4, 0},
    {"length", 4, 4, 0},
    {"version", 8, 4, 0},
    {"flags", 12, 4, 0},
    {"hashOffset", 16, 4, 0},
    {"identOffset", 20, 4, 0},
    {"nSpecialSlots", 24, 4, 0},
    {"nCodeSlots", 28, 4, 0},
    {"codeLimit", 32, 4, 0},
    {"hashSize", 36, 1, 0},
    {"hashType", 37, 1, 0},
    {"platform", 38, 1, 0},
    {"pageSize", 39, 1, 0},
    {"spare2", 40, 4, 0},
    {"scatterOffset", 44, 4, kCodeDirectoryWithScatter},
    {"teamOffset", 48, 4, kCodeDirectoryWithTeam},
    {"spare3", 52, 4, kCodeDirectoryWithCodeLimit64},
    {"codeLimit64", 56, 8, kCodeDirectoryWithCodeLimit64},
    {"execSegBase", 64, 8, kCodeDirectoryWithExecSegment},
    {"execSegLimit", 72, 8, kCodeDirectoryWithExecSegment},
    {"execSegFlags", 80, 8, kCodeDirectoryWithExecSegment},
    {"runtime", 88, 4, kCodeDirectoryWithRuntime},
    {"preEncryptOffset", 92, 4, kCodeDirectoryWithRuntime},
    {"linkageHashType", 96, 1, kCodeDirectoryWithLinkage},
    {"linkageApplicationType", 97, 1, kCodeDirectoryWithLinkage},
    {"linkageApplicationSubType", 98, 2, kCodeDirectoryWithLinkage},
    {"linkageOffset", 100, 4, kCodeDirectoryWithLinkage},
    {"linkageSize", 104, 4, kCodeDirectoryWithLinkage},
};

// Bytes of the header of `version`.
constexpr uint32_t HeaderSize(uint32_t version) {
  uint32_t size = 0;
  for (const Field& field : kFields) {
    if (version >= field.since) size = field.offset + field.size;
  }
  return size;
}
static_assert(HeaderSize(kCodeDirectoryEarliest) == 44);
static_assert(HeaderSize(kCodeDirectoryWithScatter) == 48);
static_assert(HeaderSize(kCodeDirectoryWithTeam) == 52);
static_assert(HeaderSize(kCodeDirectoryWithCodeLimit64) == 64);
static_assert(HeaderSize(kCodeDirectoryWithExecSegment) == 88);
static_assert(HeaderSize(kCodeDirectoryWithRuntime) == 96);
static_assert(HeaderSize(kCodeDirectoryWithLinkage) == 108);

absl::Status PlanFault(Reason reason, const std::string& message) {
  return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_PLAN, reason,
                   message);
}

bool IsSupportedPageSize(uint32_t page_size) {
  return page_size == 0 || page_size == 4096 || page_size == 16384;
}

// Pages that cover `code_limit` bytes.
uint64_t PageCount(uint64_t code_limit, uint32_t page_size) {
  if (code_limit == 0) return 0;
  return page_size == 0 ? 1 : (code_limit - 1) / page_size + 1;
}

// The NUL-terminated text at `offset`, without its NUL; nullopt when it runs
// out of `raw`.
std::optional<std::string_view> TextAt(ByteView raw, uint32_t offset) {
  if (offset > raw.size()) return std::nullopt;
  const std::string_view tail = AsText(raw.subspan(offset));
  const size_t size = tail.find('\0');
  if (size == std::string_view::npos) return std::nullopt;
  return tail.substr(0, size);
}

uint32_t VersionFor(const CodeDirectoryFields& fields) {
  if (fields.pre_encrypt || fields.runtime_version != 0) {
    return kCodeDirectoryWithRuntime;
  }
  if (fields.exec_segment.size > 0) return kCodeDirectoryWithExecSegment;
  if (fields.code_limit > kMaxUint32) return kCodeDirectoryWithCodeLimit64;
  if (!fields.team_identifier.empty()) return kCodeDirectoryWithTeam;
  return kCodeDirectoryWithScatter;
}

uint32_t SpecialSlotCount(const CodeDirectoryFields& fields) {
  return fields.special_slots.empty() ? 0
                                      : fields.special_slots.rbegin()->first;
}

uint64_t SizeWithHeader(const CodeDirectoryFields& fields,
                        uint64_t header_size) {
  const uint64_t code_slots = PageCount(fields.code_limit, fields.page_size);
  const uint64_t digests =
      SpecialSlotCount(fields) + code_slots * (fields.pre_encrypt ? 2 : 1);
  uint64_t size = header_size + fields.identifier.size() + 1;
  if (!fields.team_identifier.empty()) {
    size += fields.team_identifier.size() + 1;
  }
  return size + digests * DigestSize(fields.digest_kind);
}

struct FlagWord {
  const char* word;
  uint32_t bit;
  bool settable;  // by the user
};
// Spec: Security codedirectory.cpp, kSecCodeDirectoryFlagTable, in its order.
constexpr FlagWord kFlagWords[] = {
    {"host", 0x1, true},
    {"adhoc", kAdHocFlag, false},
    {"hard", 0x100, true},
    {"kill", 0x200, true},
    {"expires", kExpiresFlag, true},
    {"restrict", 0x800, true},
    {"enforcement", 0x1000, true},
    {"library-validation", kLibraryValidationFlag, true},
    {"runtime", kRuntimeFlag, true},
    {"linker-signed", kLinkerSignedFlag, true},
};

absl::Status BadFlags(const std::string& message) {
  return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_USAGE,
                   v1::REASON_BAD_OPTION, message);
}

absl::StatusOr<uint32_t> ParseFlagWord(std::string_view word) {
  const FlagWord* found = nullptr;
  for (const FlagWord& candidate : kFlagWords) {
    if (!candidate.settable) continue;
    const std::string_view name = candidate.word;
    if (name == word) return candidate.bit;
    if (word.empty() || name.substr(0, word.size()) != word) continue;
    if (found != nullptr) {
      return BadFlags("flag \"" + std::string(word) + "\" may be " +
                      found->word + " or " + candidate.word);
    }
    found = &candidate;
  }
  if (found == nullptr) {
    return BadFlags("flag \"" + std::string(word) + "\" is not known");
  }
  return found->bit;
}

std::optional<uint32_t> ParseNumber(std::string_view text) {
  int base = 10;
  if (text.starts_with("0x") || text.starts_with("0X")) {
    base = 16;
    text.remove_prefix(2);
  } else if (text.size() > 1 && text.front() == '0') {
    base = 8;
  }
  uint32_t value = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value, base);
  if (error != std::errc() || stop != end) return std::nullopt;
  return value;
}

}  // namespace

absl::StatusOr<CodeDirectory> CodeDirectory::Parse(ByteView blob) {
  // Layout, in wire order.
  CodeDirectory directory;
  BigEndianReader in(blob);
  const uint32_t magic = in.U32();
  const uint32_t size = in.U32();
  const uint32_t version = directory.version_ = in.U32();
  directory.flags_ = in.U32();
  const uint32_t hash_offset = directory.hash_offset_ = in.U32();
  const uint32_t ident_offset = in.U32();
  const uint32_t special_slots = directory.special_slot_count_ = in.U32();
  const uint32_t code_slots = directory.code_slot_count_ = in.U32();
  directory.code_limit_ = in.U32();
  const uint8_t hash_size = in.U8();
  const DigestKind kind = directory.digest_kind_ = DigestKind{in.U8()};
  directory.platform_ = in.U8();
  const uint8_t page_log2 = in.U8();
  in.U32();  // spare2
  if (!in.ok()) {
    return BrokenRule("CD-1", v1::REASON_TRUNCATED, in.offset(),
                      "the fixed CodeDirectory header is cut short");
  }

  // Rules. Bounds use subtraction or division, never a sum or product of
  // untrusted numbers.
  if (magic != kCodeDirectoryMagic) {
    return BrokenRule("CD-2", v1::REASON_BAD_MAGIC, 0,
                      absl::StrFormat("magic is %#x, want %#x", magic,
                                      uint32_t{kCodeDirectoryMagic}));
  }
  if (version < kCodeDirectoryEarliest || version > kCodeDirectoryLatest) {
    return BrokenRule(
        "CD-3", v1::REASON_UNSUPPORTED_VERSION, 8,
        absl::StrFormat("version %#x is outside [%#x, %#x]", version,
                        kCodeDirectoryEarliest, kCodeDirectoryLatest));
  }
  const uint32_t header_size = HeaderSize(version);
  if (size < header_size || size > blob.size()) {
    return BrokenRule("CD-4", v1::REASON_BLOB_LENGTH_OUT_OF_RANGE, 4,
                      absl::StrFormat("length %d is outside [%d, %d]", size,
                                      header_size, blob.size()));
  }
  if (page_log2 != 0 && page_log2 != 12 && page_log2 != 14) {
    return BrokenRule("CD-5", v1::REASON_UNSUPPORTED_PAGE_SIZE, 39,
                      absl::StrFormat("page size is 2^%d", page_log2));
  }
  if (hash_size == 0 || hash_size != DigestSize(kind)) {
    return BrokenRule("CD-6", v1::REASON_UNSUPPORTED_DIGEST, 36,
                      absl::StrFormat("hashType %d cannot have hashSize %d",
                                      static_cast<int>(kind), hash_size));
  }
  if (hash_offset < header_size || hash_offset > size ||
      (hash_offset - header_size) / hash_size < special_slots ||
      (size - hash_offset) / hash_size < code_slots) {
    return BrokenRule(
        "CD-7", v1::REASON_SLOT_TABLE_OUT_OF_RANGE, 16,
        absl::StrFormat("%d special and %d code slots around byte %d "
                        "do not fit in %d bytes",
                        special_slots, code_slots, hash_offset, size));
  }
  directory.raw_ = blob.first(size);
  directory.page_size_ = page_log2 == 0 ? 0 : uint32_t{1} << page_log2;

  const std::optional<std::string_view> identifier =
      TextAt(directory.raw_, ident_offset);
  if (ident_offset < header_size || !identifier || identifier->empty()) {
    return BrokenRule("CD-8", v1::REASON_BAD_IDENTIFIER, 20,
                      "identifier is missing, empty or not NUL-terminated");
  }
  directory.identifier_ = *identifier;

  // The fields of later versions; the reader can't run out, CD-4 saw to it.
  const uint32_t scatter_offset =
      version >= kCodeDirectoryWithScatter ? in.U32() : 0;
  if (scatter_offset != 0) {
    return BrokenRule("CD-9", v1::REASON_UNSUPPORTED_CODE, 44,
                      "scattered code is not supported");
  }
  const uint32_t team_offset = version >= kCodeDirectoryWithTeam ? in.U32() : 0;
  if (team_offset != 0) {
    const std::optional<std::string_view> team =
        TextAt(directory.raw_, team_offset);
    if (team_offset < header_size || !team) {
      return BrokenRule(
          "CD-10", v1::REASON_BAD_TEAM_IDENTIFIER, 48,
          "team identifier is out of range or not NUL-terminated");
    }
    directory.team_identifier_ = *team;
  }
  if (version >= kCodeDirectoryWithCodeLimit64) {
    in.U32();  // spare3
    const uint64_t code_limit64 = in.U64();
    if (code_limit64 != 0) directory.code_limit_ = code_limit64;
  }
  if (PageCount(directory.code_limit_, directory.page_size_) != code_slots ||
      (directory.page_size_ != 0 && code_slots == 0)) {
    return BrokenRule(
        "CD-11", v1::REASON_CODE_LIMIT_MISMATCH, 28,
        absl::StrFormat("%d code slots cannot cover %d bytes in pages "
                        "of %d",
                        code_slots, directory.code_limit_,
                        directory.page_size_));
  }
  if (version >= kCodeDirectoryWithExecSegment) {
    directory.exec_segment_.offset = in.U64();
    directory.exec_segment_.size = in.U64();
    directory.exec_segment_.flags = in.U64();
  }
  if (version >= kCodeDirectoryWithRuntime) {
    directory.runtime_version_ = in.U32();
    const uint32_t pre_encrypt = directory.pre_encrypt_offset_ = in.U32();
    if (pre_encrypt != 0 && (pre_encrypt < header_size || pre_encrypt > size ||
                             (size - pre_encrypt) / hash_size < code_slots)) {
      return BrokenRule(
          "CD-12", v1::REASON_SLOT_TABLE_OUT_OF_RANGE, 92,
          absl::StrFormat("%d pre-encrypt slots from byte %d do not "
                          "fit in %d bytes",
                          code_slots, pre_encrypt, size));
    }
  }
  return directory;
}

std::optional<ByteView> CodeDirectory::CodeSlotDigest(uint32_t index) const {
  if (index >= code_slot_count_) return std::nullopt;
  const size_t size = DigestSize(digest_kind_);
  return raw_.subspan(hash_offset_ + index * size, size);
}

ByteView CodeDirectory::code_slots() const {
  return raw_.subspan(hash_offset_,
                      code_slot_count_ * DigestSize(digest_kind_));
}

std::optional<ByteView> CodeDirectory::SpecialSlotDigest(uint32_t slot) const {
  if (slot == 0 || slot > special_slot_count_) return std::nullopt;
  const size_t size = DigestSize(digest_kind_);
  return raw_.subspan(hash_offset_ - slot * size, size);
}

bool CodeDirectory::SealsSpecialSlot(uint32_t slot) const {
  const std::optional<ByteView> digest = SpecialSlotDigest(slot);
  return digest.has_value() &&
         std::any_of(digest->begin(), digest->end(),
                     [](uint8_t byte) { return byte != 0; });
}

ByteView CodeDirectory::pre_encrypt_slots() const {
  if (pre_encrypt_offset_ == 0) return {};
  return raw_.subspan(pre_encrypt_offset_,
                      code_slot_count_ * DigestSize(digest_kind_));
}

std::string CodeDirectory::DescribeOffset(uint64_t offset) const {
  for (const Field& field : kFields) {
    if (version_ >= field.since && offset >= field.offset &&
        offset - field.offset < field.size) {
      return field.name;
    }
  }
  if (offset >= raw_.size()) return "past the end";

  const auto inside = [&](size_t start, size_t size) {
    return offset >= start && offset - start < size;
  };
  const auto start_of = [&](std::string_view text) {
    return static_cast<size_t>(AsBytes(text).data() - raw_.data());
  };
  if (inside(start_of(identifier_), identifier_.size() + 1)) {
    return "identifier";
  }
  if (!team_identifier_.empty() &&
      inside(start_of(team_identifier_), team_identifier_.size() + 1)) {
    return "teamIdentifier";
  }
  const size_t digest_size = DigestSize(digest_kind_);
  if (inside(hash_offset_, code_slots().size())) {
    return absl::StrFormat("codeSlot %d",
                           (offset - hash_offset_) / digest_size);
  }
  const size_t special_size = special_slot_count_ * digest_size;
  if (inside(hash_offset_ - special_size, special_size)) {
    return absl::StrFormat("specialSlot -%d",
                           (hash_offset_ - 1 - offset) / digest_size + 1);
  }
  if (inside(pre_encrypt_offset_, pre_encrypt_slots().size())) {
    return absl::StrFormat("preEncryptSlot %d",
                           (offset - pre_encrypt_offset_) / digest_size);
  }
  return "unused";
}

DigestKind BestDigest(std::span<const DigestKind> kinds) {
  constexpr DigestKind kBestFirst[] = {DigestKind::kSha384, DigestKind::kSha256,
                                       DigestKind::kSha256Truncated,
                                       DigestKind::kSha1};
  for (const DigestKind best : kBestFirst) {
    if (std::find(kinds.begin(), kinds.end(), best) != kinds.end()) {
      return best;
    }
  }
  return kinds.front();
}

uint64_t CodeDirectoryFields::ReservedSize() const {
  return SizeWithHeader(*this, HeaderSize(kCodeDirectoryWithRuntime));
}

uint32_t CodeDirectoryFields::CodeSlotCount() const {
  return static_cast<uint32_t>(PageCount(code_limit, page_size));
}

absl::StatusOr<CodeDirectoryBuilder> CodeDirectoryBuilder::Create(
    const CodeDirectoryFields& fields) {
  if (fields.identifier.empty() ||
      fields.identifier.find('\0') != std::string::npos) {
    return PlanFault(v1::REASON_BAD_IDENTIFIER,
                     "identifier is empty or contains a NUL");
  }
  if (fields.team_identifier.find('\0') != std::string::npos) {
    return PlanFault(v1::REASON_BAD_TEAM_IDENTIFIER,
                     "team identifier contains a NUL");
  }
  const size_t digest_size = DigestSize(fields.digest_kind);
  if (digest_size == 0) {
    return PlanFault(v1::REASON_UNSUPPORTED_DIGEST, "digest is not known");
  }
  if (!IsSupportedPageSize(fields.page_size)) {
    return PlanFault(v1::REASON_UNSUPPORTED_PAGE_SIZE,
                     absl::StrFormat("page size is %d, not 0, 4096 or 16384",
                                     fields.page_size));
  }
  for (const auto& [slot, digest] : fields.special_slots) {
    if (slot == 0 || slot > kMaxSpecialSlot || digest.size() != digest_size) {
      return PlanFault(v1::REASON_UNSUPPORTED_DIGEST,
                       absl::StrFormat("special slot %d has %d bytes, not %d",
                                       slot, digest.size(), digest_size));
    }
  }
  const uint32_t version = VersionFor(fields);
  const uint32_t header_size = HeaderSize(version);
  const uint64_t code_slots = PageCount(fields.code_limit, fields.page_size);
  // No product overflows: digests are at most 48 bytes.
  if (code_slots > kMaxUint32 ||
      SizeWithHeader(fields, header_size) > kMaxUint32) {
    return PlanFault(
        v1::REASON_FILE_TOO_BIG,
        absl::StrFormat("a CodeDirectory cannot hold %d pages", code_slots));
  }

  CodeDirectoryBuilder builder;
  const uint32_t special_slots = SpecialSlotCount(fields);
  const auto size = static_cast<uint32_t>(SizeWithHeader(fields, header_size));
  builder.slots_size_ = static_cast<size_t>(code_slots) * digest_size;

  // Behind the header: identifier, team, pre-encrypt, special and code slots.
  const uint32_t ident_offset = header_size;
  size_t next = ident_offset + fields.identifier.size() + 1;
  uint32_t team_offset = 0;
  if (!fields.team_identifier.empty()) {
    team_offset = static_cast<uint32_t>(next);
    next += fields.team_identifier.size() + 1;
  }
  if (fields.pre_encrypt) {
    builder.pre_encrypt_offset_ = next;
    next += builder.slots_size_;
  }
  builder.hash_offset_ = next + special_slots * digest_size;

  const bool needs_code_limit64 = fields.code_limit > kMaxUint32;
  uint8_t page_log2 = 0;
  while ((uint32_t{1} << page_log2) < fields.page_size) ++page_log2;

  BigEndianWriter out;
  out.U32(kCodeDirectoryMagic);
  out.U32(size);
  out.U32(version);
  out.U32(fields.flags);
  out.U32(static_cast<uint32_t>(builder.hash_offset_));
  out.U32(ident_offset);
  out.U32(special_slots);
  out.U32(static_cast<uint32_t>(code_slots));
  out.U32(needs_code_limit64 ? kMaxUint32
                             : static_cast<uint32_t>(fields.code_limit));
  out.U8(static_cast<uint8_t>(digest_size));
  out.U8(static_cast<uint8_t>(fields.digest_kind));
  out.U8(fields.platform);
  out.U8(page_log2);
  out.U32(0);  // spare2
  out.U32(0);  // scatterOffset
  if (version >= kCodeDirectoryWithTeam) out.U32(team_offset);
  if (version >= kCodeDirectoryWithCodeLimit64) {
    out.U32(0);  // spare3
    out.U64(needs_code_limit64 ? fields.code_limit : 0);
  }
  if (version >= kCodeDirectoryWithExecSegment) {
    out.U64(fields.exec_segment.offset);
    out.U64(fields.exec_segment.size);
    out.U64(fields.exec_segment.flags);
  }
  if (version >= kCodeDirectoryWithRuntime) {
    out.U32(fields.runtime_version);
    out.U32(static_cast<uint32_t>(builder.pre_encrypt_offset_));
  }
  out.Raw(AsBytes(fields.identifier));
  out.U8(0);
  if (team_offset != 0) {
    out.Raw(AsBytes(fields.team_identifier));
    out.U8(0);
  }
  builder.bytes_ = std::move(out).Take();
  builder.bytes_.resize(size);
  for (const auto& [slot, digest] : fields.special_slots) {
    const size_t slot_offset = builder.hash_offset_ - slot * digest_size;
    std::copy(digest.begin(), digest.end(),
              std::span(builder.bytes_).subspan(slot_offset).begin());
  }
  return builder;
}

std::span<uint8_t> CodeDirectoryBuilder::code_slots() {
  return std::span(bytes_).subspan(hash_offset_, slots_size_);
}

std::span<uint8_t> CodeDirectoryBuilder::pre_encrypt_slots() {
  if (pre_encrypt_offset_ == 0) return {};
  return std::span(bytes_).subspan(pre_encrypt_offset_, slots_size_);
}

absl::StatusOr<uint32_t> ParseCodeDirectoryFlags(std::string_view text) {
  if (const std::optional<uint32_t> number = ParseNumber(text)) return *number;
  uint32_t flags = 0;
  for (;;) {
    const size_t comma = text.find(',');
    ASSIGN_OR_RETURN(const uint32_t bit, ParseFlagWord(text.substr(0, comma)));
    flags |= bit;
    if (comma == std::string_view::npos) return flags;
    text.remove_prefix(comma + 1);
  }
}

std::string FormatCodeDirectoryFlags(uint32_t flags) {
  std::string words;
  uint32_t rest = flags;
  const auto add = [&](const char* word) {
    if (!words.empty()) words += ',';
    words += word;
  };
  for (const FlagWord& flag : kFlagWords) {
    if ((flags & flag.bit) == 0) continue;
    add(flag.word);
    rest &= ~flag.bit;
  }
  if (rest != 0) add("???");
  if (words.empty()) words = "none";
  return absl::StrFormat("0x%x(%s)", flags, words);
}

}  // namespace codeseal
