// Digests of all code pages of a slice: where nearly all the time of signing
// and of verifying goes.
//
//   SliceLayout -> [HashPages] -> code slots of each CodeDirectory

#ifndef CODESEAL_CODESIGN_PAGE_HASHER_H_
#define CODESEAL_CODESIGN_PAGE_HASHER_H_

#include <cstdint>
#include <functional>
#include <span>

#include "codesign/base/digest.h"
#include "codesign/macho/layout.h"

namespace codeseal {

// Where the digests of one kind go: DigestSize(kind) bytes for each page, one
// after another, in exactly the room for layout.signature_offset() bytes.
struct PageDigests {
  DigestKind kind = DigestKind::kSha256;
  std::span<uint8_t> out;
};

// Told that the slice's original bytes [offset, offset + size) are not needed
// again, so that their memory can go. Called from several threads.
using ReleasePages = std::function<void(uint64_t offset, uint64_t size)>;

// Hashes everything before layout.signature_offset() in pages of `page_size`
// bytes (the last may be shorter), or as one page when it is 0. Every page is
// read once for all digests, on all cores; `thread_count` as in ParallelFor().
void HashPages(const SliceLayout& layout, uint32_t page_size,
               std::span<const PageDigests> digests,
               const ReleasePages& release = {}, size_t thread_count = 0);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_PAGE_HASHER_H_
