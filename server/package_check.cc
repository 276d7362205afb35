#include "server/package_check.h"

#include <algorithm>
#include <map>
#include <utility>

#include "codesign/base/error.h"
#include "codesign/cms/digest_signature.h"
#include "codesign/image/package_info.h"

namespace codeseal {
namespace {

absl::Status RefusePackage(std::string_view rule, const std::string& message) {
  return WithRule(MakeError(absl::StatusCode::kInvalidArgument,
                            v1::STAGE_POLICY, v1::REASON_BAD_REQUEST, message),
                  rule);
}

// Both signatures have their room, one behind the other, and nothing else lies
// there.
absl::Status CheckSignatureRoom(const TableOfContents& table) {
  const auto signatures = table.signatures();
  if (signatures.size() != 2 ||
      signatures[0].kind != PackageSignatureKind::kRsa ||
      signatures[1].kind != PackageSignatureKind::kCms) {  // PR-1
    return RefusePackage("PR-1",
                         "the table of contents has not one RSA and one CMS "
                         "signature");
  }
  uint64_t offset = table.checksum_place().size;
  for (const PackageSignature& each : signatures) {
    if (each.place.offset != offset || each.place.size > UINT32_MAX) {  // PR-2
      return RefusePackage("PR-2",
                           "the signatures are not behind the checksum");
    }
    offset += each.place.size;
  }
  for (const HeapRange& each : table.content()) {
    if (each.offset < offset) {
      return RefusePackage("PR-2", "content lies where the signatures go");
    }
  }
  return absl::OkStatus();
}

void AddNew(std::vector<std::string>& all,
            const std::vector<std::string>& added) {
  for (const std::string& each : added) {
    if (std::find(all.begin(), all.end(), each) == all.end()) {
      all.push_back(each);
    }
  }
}

}  // namespace

absl::StatusOr<CheckedPackage> CheckPackage(const v1::Package& package) {
  const ByteView stored = AsBytes(package.table_of_contents());
  ASSIGN_OR_RETURN(
      TableOfContents table,
      TableOfContents::ParseStored(stored, package.table_of_contents_size()));
  RETURN_IF_ERROR(CheckSignatureRoom(table));

  std::map<std::string, ByteView> members;
  for (const v1::Package::Member& each : package.members()) {
    if (!members.emplace(each.path(), AsBytes(each.stored())).second) {  // PR-3
      return RefusePackage("PR-3", "the request has " + each.path() + " twice");
    }
  }
  Bytes checksum = ComputeDigest(table.checksum_kind(), stored);
  CheckedPackage checked{std::move(table), std::move(checksum), {}};
  for (const PackageFile& file : checked.table.files()) {
    if (!file.content.has_value() || !DescribesPackage(file.path)) continue;
    const auto member = members.find(file.path);
    if (member == members.end()) {  // PR-4
      return RefusePackage("PR-4", "the request leaves out " + file.path +
                                       ", which says what is installed");
    }
    ASSIGN_OR_RETURN(const Bytes xml,
                     UnpackFile(file, member->second, kMaxPackageInfoSize));
    ASSIGN_OR_RETURN(const std::vector<std::string> identifiers,
                     ReadPackageIdentifiers(file.path, xml));
    AddNew(checked.identifiers, identifiers);
    members.erase(member);
  }
  if (!members.empty()) {  // PR-5
    return RefusePackage("PR-5", "the table of contents has no " +
                                     members.begin()->first +
                                     " that says what is installed");
  }
  if (checked.identifiers.empty()) {  // PR-6
    return RefusePackage("PR-6",
                         "the archive does not say which package it is");
  }
  return checked;
}

absl::Status CheckPackageSigner(const CheckedPackage& package,
                                std::span<const Certificate> chain) {
  const auto signatures = package.table.signatures();
  if (signatures[0].place.size != RsaSignatureSize(chain.front())) {  // PR-7
    return RefusePackage("PR-7",
                         "the room for the RSA signature is not the size of "
                         "the identity's");
  }
  for (const PackageSignature& each : signatures) {
    const bool same = std::equal(
        each.certificates.begin(), each.certificates.end(), chain.begin(),
        chain.end(), [](const Bytes& der, const Certificate& certificate) {
          return Equal(der, certificate.der());
        });
    if (!same) {  // PR-8
      return RefusePackage("PR-8",
                           "the table of contents names other certificates "
                           "than the identity's");
    }
  }
  return absl::OkStatus();
}

}  // namespace codeseal
