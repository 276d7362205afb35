#include "codesign/super_blob.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "codesign/base/endian.h"
#include "codesign/base/error.h"

namespace codeseal {

std::string SlotName(uint32_t slot) {
  switch (slot) {
    case kCodeDirectorySlot:
      return "CodeDirectory";
    case kInfoPlistSlot:
      return "Info.plist";
    case kRequirementsSlot:
      return "requirements";
    case kCodeResourcesSlot:
      return "CodeResources";
    case kTopDirectorySlot:
      return "top directory";
    case kEntitlementsSlot:
      return "entitlements";
    case kRepSpecificSlot:
      return "representation-specific data";
    case kEntitlementsDerSlot:
      return "DER entitlements";
    case kLaunchConstraintSelfSlot:
      return "launch constraint (self)";
    case kLaunchConstraintParentSlot:
      return "launch constraint (parent)";
    case kLaunchConstraintResponsibleSlot:
      return "launch constraint (responsible)";
    case kLibraryConstraintSlot:
      return "library constraint";
    case kCmsSlot:
      return "CMS signature";
    case kIdentificationSlot:
      return "identification";
    case kTicketSlot:
      return "notarization ticket";
    default:
      break;
  }
  if (slot >= kAlternateCodeDirectorySlot &&
      slot < kAlternateCodeDirectoryEndSlot) {
    return absl::StrFormat("alternate CodeDirectory %d",
                           slot - kAlternateCodeDirectorySlot);
  }
  return absl::StrFormat("slot %#x", slot);
}

Bytes WrapBlob(uint32_t magic, ByteView payload) {
  BigEndianWriter out;
  out.U32(magic);
  out.U32(static_cast<uint32_t>(kBlobHeaderSize + payload.size()));
  out.Raw(payload);
  return std::move(out).Take();
}

absl::StatusOr<ByteView> UnwrapBlob(uint32_t magic, ByteView blob) {
  BigEndianReader in(blob);
  const uint32_t found = in.U32();
  const uint32_t size = in.U32();
  if (!in.ok()) {
    return ParseError(v1::REASON_TRUNCATED, 0,
                      "the blob is shorter than its header");
  }
  if (found != magic) {
    return ParseError(v1::REASON_BAD_MAGIC, 0,
                      absl::StrFormat("magic is %#x, want %#x", found, magic));
  }
  if (size != blob.size()) {
    return ParseError(
        v1::REASON_BLOB_LENGTH_OUT_OF_RANGE, 4,
        absl::StrFormat("length is %d, want %d", size, blob.size()));
  }
  return blob.subspan(kBlobHeaderSize);
}

absl::StatusOr<SuperBlob> SuperBlob::Parse(ByteView bytes, uint32_t magic) {
  BigEndianReader in(bytes);
  const uint32_t found = in.U32();
  const uint32_t size = in.U32();
  const uint32_t count = in.U32();
  if (!in.ok()) {
    return BrokenRule("SB-1", v1::REASON_TRUNCATED, in.offset(),
                      "the SuperBlob header is cut short");
  }
  if (found != magic) {
    return BrokenRule("SB-2", v1::REASON_BAD_MAGIC, 0,
                      absl::StrFormat("magic is %#x, want %#x", found, magic));
  }
  if (size < kSuperBlobHeaderSize || size > bytes.size()) {
    return BrokenRule("SB-3", v1::REASON_BLOB_LENGTH_OUT_OF_RANGE, 4,
                      absl::StrFormat("length %d is outside [%d, %d]", size,
                                      kSuperBlobHeaderSize, bytes.size()));
  }
  if ((size - kSuperBlobHeaderSize) / kSuperBlobEntrySize < count) {
    return BrokenRule("SB-4", v1::REASON_BAD_SUPER_BLOB, 8,
                      absl::StrFormat("%d index entries do not fit in %d bytes",
                                      count, size));
  }

  SuperBlob super_blob;
  super_blob.raw_ = bytes.first(size);
  super_blob.index_count_ = count;
  const size_t index_end = kSuperBlobHeaderSize + count * kSuperBlobEntrySize;
  std::vector<uint32_t> slots;
  slots.reserve(count);
  for (uint32_t i = 0; i < count; ++i) {
    const size_t entry_offset = in.offset();
    Entry entry;
    entry.slot = in.U32();
    entry.offset = in.U32();
    if (entry.offset == 0) continue;
    if (entry.offset < index_end || entry.offset > size ||
        size - entry.offset < kBlobHeaderSize) {
      return BrokenRule(
          "SB-5", v1::REASON_BAD_SUPER_BLOB, entry_offset + 4,
          absl::StrFormat("%s is at byte %d, outside [%d, %d]",
                          SlotName(entry.slot), entry.offset, index_end, size));
    }
    BigEndianReader blob(super_blob.raw_.subspan(entry.offset));
    entry.magic = blob.U32();
    const uint32_t blob_size = blob.U32();
    if (blob_size < kBlobHeaderSize || blob_size > size - entry.offset) {
      return BrokenRule("SB-6", v1::REASON_BLOB_LENGTH_OUT_OF_RANGE,
                        uint64_t{entry.offset} + 4,
                        absl::StrFormat("%s has length %d, outside [%d, %d]",
                                        SlotName(entry.slot), blob_size,
                                        kBlobHeaderSize, size - entry.offset));
    }
    entry.blob = super_blob.raw_.subspan(entry.offset, blob_size);
    super_blob.entries_.push_back(entry);
    slots.push_back(entry.slot);
  }
  // Two readers must never see two different blobs in one slot.
  std::sort(slots.begin(), slots.end());
  const auto twice = std::adjacent_find(slots.begin(), slots.end());
  if (twice != slots.end()) {
    return BrokenRule("SB-7", v1::REASON_BAD_SUPER_BLOB, kSuperBlobHeaderSize,
                      SlotName(*twice) + " is in the index twice");
  }
  return super_blob;
}

std::optional<ByteView> SuperBlob::Find(uint32_t slot) const {
  for (const Entry& entry : entries_) {
    if (entry.slot == slot) return entry.blob;
  }
  return std::nullopt;
}

absl::Status SuperBlob::CheckPacked() const {
  std::vector<Entry> sorted = entries_;
  std::sort(sorted.begin(), sorted.end(),
            [](const Entry& a, const Entry& b) { return a.offset < b.offset; });
  // Overlaps first: a caller may tolerate a gap, but never an overlap.
  const size_t index_end =
      kSuperBlobHeaderSize + index_count_ * kSuperBlobEntrySize;
  size_t expected = index_end;
  for (const Entry& entry : sorted) {
    if (entry.offset < expected) {
      return BrokenRule("SB-8", v1::REASON_OVERLAPPING_RANGES, entry.offset,
                        SlotName(entry.slot) + " overlaps the blob before it");
    }
    expected = entry.offset + entry.blob.size();
  }
  expected = index_end;
  for (const Entry& entry : sorted) {
    if (entry.offset > expected) {
      return BrokenRule(
          "SB-9", v1::REASON_BAD_SUPER_BLOB, expected,
          absl::StrFormat("%d bytes before %s belong to no blob",
                          entry.offset - expected, SlotName(entry.slot)));
    }
    expected = entry.offset + entry.blob.size();
  }
  if (expected != raw_.size()) {
    return BrokenRule("SB-10", v1::REASON_BAD_SUPER_BLOB, expected,
                      absl::StrFormat("%d bytes at the end belong to no blob",
                                      raw_.size() - expected));
  }
  return absl::OkStatus();
}

Bytes BuildSuperBlobIndex(uint32_t magic,
                          const std::map<uint32_t, size_t>& blob_sizes) {
  const size_t index_end =
      kSuperBlobHeaderSize + blob_sizes.size() * kSuperBlobEntrySize;
  size_t size = index_end;
  for (const auto& [slot, blob_size] : blob_sizes) size += blob_size;

  BigEndianWriter out;
  out.U32(magic);
  out.U32(static_cast<uint32_t>(size));
  out.U32(static_cast<uint32_t>(blob_sizes.size()));
  size_t offset = index_end;
  for (const auto& [slot, blob_size] : blob_sizes) {
    out.U32(slot);
    out.U32(static_cast<uint32_t>(offset));
    offset += blob_size;
  }
  return std::move(out).Take();
}

Bytes BuildSuperBlob(uint32_t magic, const std::map<uint32_t, Bytes>& blobs) {
  std::map<uint32_t, size_t> sizes;
  for (const auto& [slot, blob] : blobs) sizes[slot] = blob.size();
  Bytes super_blob = BuildSuperBlobIndex(magic, sizes);
  for (const auto& [slot, blob] : blobs) Append(super_blob, blob);
  return super_blob;
}

}  // namespace codeseal
