#include "codesign/page_hasher.h"

#include <algorithm>
#include <cassert>
#include <vector>

#include "codesign/base/parallel.h"

namespace codeseal {
namespace {

// Bytes of one work item: few enough that all threads together hold little
// memory, enough that handing them out costs nothing.
constexpr uint64_t kChunkSize = uint64_t{1} << 20;
// Bytes that every digest reads before the next ones: they stay in the cache.
constexpr uint64_t kReadSize = uint64_t{16} << 10;

// Passes on what has been read, in pieces of a chunk at most.
class Releaser {
 public:
  Releaser(const ReleasePages& release, uint64_t begin)
      : release_(release), begin_(begin) {}

  void ReadUpTo(uint64_t end) {
    if (end - begin_ >= kChunkSize) Flush(end);
  }
  void Flush(uint64_t end) {
    if (release_ && end > begin_) release_(begin_, end - begin_);
    begin_ = end;
  }

 private:
  const ReleasePages& release_;
  uint64_t begin_;
};

// Feeds the page [begin, end) to each of `digesters`.
void HashPage(const SliceLayout& layout, uint64_t begin, uint64_t end,
              std::vector<Digester>& digesters, Releaser& releaser) {
  for (uint64_t at = begin; at < end;) {
    const uint64_t size = std::min(kReadSize, end - at);
    for (const ByteView part : layout.Read(at, size)) {
      if (part.empty()) continue;
      for (Digester& digester : digesters) digester.Update(part);
    }
    at += size;
    releaser.ReadUpTo(at);
  }
}

}  // namespace

void HashPages(const SliceLayout& layout, uint32_t page_size,
               std::span<const PageDigests> digests,
               const ReleasePages& release, size_t thread_count) {
  const uint64_t limit = layout.signature_offset();
  if (limit == 0) return;
  const uint64_t page = page_size == 0 ? limit : page_size;
  const uint64_t pages_per_chunk = std::max<uint64_t>(1, kChunkSize / page);
  const uint64_t page_count = (limit - 1) / page + 1;
  const uint64_t chunk_count = (page_count - 1) / pages_per_chunk + 1;
  for ([[maybe_unused]] const PageDigests& each : digests) {
    assert(each.out.size() == page_count * DigestSize(each.kind));
  }

  const auto hash_chunk = [&](size_t chunk) {
    std::vector<Digester> digesters;
    for (const PageDigests& each : digests) digesters.emplace_back(each.kind);
    const uint64_t first = chunk * pages_per_chunk;
    const uint64_t last = std::min(page_count, first + pages_per_chunk);
    Releaser releaser(release, first * page);
    for (uint64_t i = first; i < last; ++i) {
      const uint64_t end = i + 1 == page_count ? limit : (i + 1) * page;
      HashPage(layout, i * page, end, digesters, releaser);
      for (size_t d = 0; d < digests.size(); ++d) {
        const size_t size = DigestSize(digests[d].kind);
        digesters[d].Finish(digests[d].out.subspan(i * size, size));
      }
    }
    releaser.Flush(last == page_count ? limit : last * page);
  };
  ParallelFor(chunk_count, hash_chunk, thread_count);
}

}  // namespace codeseal
