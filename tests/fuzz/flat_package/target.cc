// A flat package, or, because a fuzzer cannot write zlib streams, the XML of
// its table of contents alone. Views stay inside; a table with new signatures
// reads back with them and with the same files, and without them it is what it
// was.

#include <string_view>

#include "codesign/image/flat_package.h"
#include "codesign/image/package_info.h"
#include "tests/fuzz/require.h"

namespace codeseal {
namespace {

void RequireSameFiles(const TableOfContents& a, const TableOfContents& b) {
  Require(a.files().size() == b.files().size());
  for (size_t i = 0; i < a.files().size(); ++i) {
    Require(a.files()[i].path == b.files()[i].path);
    Require(a.files()[i].content.has_value() ==
            b.files()[i].content.has_value());
  }
}

void CheckTable(const TableOfContents& table) {
  const NewPackageSignature signatures[] = {
      {PackageSignatureKind::kRsa, 256, {{1, 2, 3}}},
      {PackageSignatureKind::kCms, 1024, {{4, 5, 6}, {7}}}};
  // Far behind anything: no offset moves.
  constexpr uint64_t kNowhere = ~uint64_t{0};
  for (const DigestKind kind : {DigestKind::kSha1, DigestKind::kSha256}) {
    const auto with = TableOfContents::Parse(
        table.WithSignatures(kind, signatures, kNowhere));
    Require(with.ok());
    Require(with->checksum_kind() == kind);
    Require(with->signatures().size() == 2);
    Require(with->signatures()[1].place.size == 1024);
    Require(with->signatures()[1].certificates[1] == Bytes{7});
    RequireSameFiles(table, *with);
    const auto without =
        TableOfContents::Parse(with->WithSignatures(kind, {}, kNowhere));
    Require(without.ok() && without->signatures().empty());
    RequireSameFiles(table, *without);
  }
}

int CheckPackage(ByteView bytes) {
  const absl::StatusOr<FlatPackage> package = FlatPackage::Parse(bytes);
  if (!package.ok()) return -1;
  RequireInside(package->stored_table(), bytes);
  RequireInside(package->content(), bytes);
  for (const PackageFile& file : package->table().files()) {
    if (!file.content.has_value()) continue;
    const ByteView stored = package->At(file.content->place);
    RequireInside(stored, bytes);
    const auto unpacked = UnpackFile(file, stored, 1 << 16);
    if (unpacked.ok()) {
      Require(unpacked->size() == file.content->full_size);
      (void)ReadPackageIdentifiers(file.path, *unpacked);
    }
  }
  (void)package->CheckChecksum();
  CheckTable(package->table());
  return 0;
}

}  // namespace
}  // namespace codeseal

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using codeseal::FlatPackage;
  using codeseal::TableOfContents;
  const codeseal::ByteView bytes(data, size);
  if (FlatPackage::IsFlatPackage(bytes)) return codeseal::CheckPackage(bytes);
  const auto table = TableOfContents::Parse(codeseal::ToString(bytes));
  if (!table.ok()) return -1;
  codeseal::CheckTable(*table);
  return 0;
}
