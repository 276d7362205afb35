#include "tests/support/signed_code.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "codesign/base/error.h"

namespace codeseal::testing {
namespace {

constexpr size_t kReservedSize = 32 * 1024;  // bytes for the signature

template <typename T>
T Require(absl::StatusOr<T> result) {
  if (!result.ok()) {
    std::fprintf(stderr, "signed_code: %s\n",
                 result.status().ToString().c_str());
    std::abort();
  }
  return *std::move(result);
}

Bytes BuildDirectory(CodeDirectoryFields fields, ByteView code) {
  auto builder = Require(CodeDirectoryBuilder::Create(fields));
  const std::span<uint8_t> slots = builder.code_slots();
  const size_t digest_size = DigestSize(fields.digest_kind);
  const size_t page_size =
      fields.page_size != 0 ? fields.page_size : code.size();
  for (size_t page = 0; page < fields.CodeSlotCount(); ++page) {
    const size_t offset = page * page_size;
    const Bytes digest = ComputeDigest(
        fields.digest_kind,
        code.subspan(offset, std::min(page_size, code.size() - offset)));
    std::copy(digest.begin(), digest.end(),
              slots.begin() + static_cast<ptrdiff_t>(page * digest_size));
  }
  return std::move(builder).Build();
}

}  // namespace

CodeDirectoryFields DefaultFields() {
  CodeDirectoryFields fields;
  fields.identifier = "com.example.tool";
  fields.page_size = 4096;
  return fields;
}

Bytes BuildSignedCode(const SignedCode& code) {
  MachODescription description = code.mach_o;
  description.signature = Bytes(kReservedSize);
  Bytes file = BuildMachO(description);
  const MachO mach_o = Require(MachO::Parse(file));
  const ByteView covered =
      ByteView(file).first(static_cast<size_t>(mach_o.SigningLimit()));

  std::map<uint32_t, Bytes> blobs = code.blobs;
  blobs.try_emplace(kRequirementsSlot,
                    BuildSuperBlob(kRequirementSetMagic, {}));
  std::map<uint32_t, Bytes> sealed = blobs;
  if (mach_o.info_plist().has_value()) {
    sealed[kInfoPlistSlot] = ToBytes(*mach_o.info_plist());
  }

  std::vector<Bytes> directories;
  for (const DigestKind kind : code.digests) {
    CodeDirectoryFields fields = code.fields;
    fields.digest_kind = kind;
    fields.code_limit = covered.size();
    if (code.chain == nullptr) fields.flags |= kAdHocFlag;
    for (const auto& [slot, blob] : sealed) {
      fields.special_slots.try_emplace(slot, ComputeDigest(kind, blob));
    }
    if (code.change_fields) code.change_fields(fields);
    Bytes directory = BuildDirectory(std::move(fields), covered);
    if (code.change_directory) code.change_directory(directory);
    directories.push_back(std::move(directory));
  }

  Bytes cms;
  if (code.chain != nullptr) {
    std::vector<CodeDirectoryBlob> signed_blobs;
    for (size_t i = 0; i < directories.size(); ++i) {
      signed_blobs.push_back({code.digests[i], directories[i]});
    }
    const std::vector<Certificate> certificates =
        code.certificates.empty() ? code.chain->certificates()
                                  : code.certificates;
    CmsContent content = DescribeContent(signed_blobs);
    if (code.change_content) code.change_content(content);
    cms = Require(BuildAppleCms({code.chain->leaf.key(), nullptr, certificates},
                                content, code.signing_time));
    if (code.change_cms) code.change_cms(cms);
  }
  for (size_t i = 0; i < directories.size(); ++i) {
    const uint32_t slot =
        i == 0 ? uint32_t{kCodeDirectorySlot}
               : kAlternateCodeDirectorySlot + static_cast<uint32_t>(i) - 1;
    blobs[slot] = std::move(directories[i]);
  }
  blobs[kCmsSlot] = WrapBlob(kBlobWrapperMagic, cms);
  if (code.change_blobs) code.change_blobs(blobs);

  Bytes super_blob = BuildSuperBlob(kEmbeddedSignatureMagic, blobs);
  if (code.change_super_blob) code.change_super_blob(super_blob);
  std::copy(super_blob.begin(), super_blob.end(),
            file.begin() + static_cast<ptrdiff_t>(covered.size()));
  return file;
}

}  // namespace codeseal::testing
