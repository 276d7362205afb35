#include "codesign/bundle/file_digests.h"

#include <algorithm>

#include "codesign/base/error.h"
#include "codesign/base/mapped_file.h"
#include "codesign/base/parallel.h"

namespace codeseal {
namespace {

constexpr uint64_t kPieceSize = uint64_t{1} << 20;  // bytes
// From this size on, the digests of one file are separate pieces of work.
constexpr uint64_t kLargeFileSize = uint64_t{8} << 20;  // bytes

struct Work {
  FileDigests* file = nullptr;
  std::vector<DigestKind> kinds = {};
  bool counts = true;  // its bytes, for OnHashed

  absl::Status status = absl::OkStatus();
  std::vector<Bytes> digests = {};  // in order of kinds
};

void Do(Work& work, const OnHashed& on_hashed) {
  const absl::StatusOr<MappedFile> file = MappedFile::Open(work.file->path);
  if (!file.ok()) {
    work.status = file.status();
    return;
  }
  std::vector<Digester> digesters;
  for (const DigestKind kind : work.kinds) digesters.emplace_back(kind);
  const ByteView bytes = file->bytes();
  for (uint64_t offset = 0; offset < bytes.size(); offset += kPieceSize) {
    const uint64_t size = std::min<uint64_t>(kPieceSize, bytes.size() - offset);
    for (Digester& digester : digesters) {
      digester.Update(bytes.subspan(offset, size));
    }
    if (bytes.size() > kPieceSize) file->Release(offset, size);
    if (on_hashed && work.counts) on_hashed(size);
  }
  for (size_t i = 0; i < work.kinds.size(); ++i) {
    digesters[i].Finish(work.digests.emplace_back(DigestSize(work.kinds[i])));
  }
}

}  // namespace

void ComputeFileDigests(std::span<FileDigests> files, size_t thread_count,
                        const OnHashed& on_hashed) {
  std::vector<Work> works;
  for (FileDigests& file : files) {
    if (file.size < kLargeFileSize) {
      works.push_back({.file = &file, .kinds = file.kinds});
      continue;
    }
    for (const DigestKind kind : file.kinds) {
      works.push_back({.file = &file,
                       .kinds = {kind},
                       .counts = kind == file.kinds.front()});
    }
  }
  // Large files first: a last one would leave the other threads idle.
  std::sort(works.begin(), works.end(), [](const Work& a, const Work& b) {
    return a.file->size > b.file->size;
  });
  ParallelFor(
      works.size(), [&](size_t i) { Do(works[i], on_hashed); }, thread_count);
  for (Work& work : works) {
    work.file->status.Update(work.status);
    for (size_t i = 0; i < work.digests.size(); ++i) {
      work.file->digests[work.kinds[i]] = std::move(work.digests[i]);
    }
  }
}

}  // namespace codeseal
