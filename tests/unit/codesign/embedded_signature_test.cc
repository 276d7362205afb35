#include "codesign/embedded_signature.h"

#include <map>

#include "codesign/base/endian.h"
#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;

const Bytes& Requirements() {
  static const Bytes& set =
      *new Bytes(BuildSuperBlob(kRequirementSetMagic, {}));
  return set;
}

Bytes Directory(DigestKind kind, uint32_t flags = 0) {
  CodeDirectoryFields fields;
  fields.identifier = "x";
  fields.flags = flags;
  fields.digest_kind = kind;
  fields.code_limit = 1;
  fields.special_slots[kRequirementsSlot] = ComputeDigest(kind, Requirements());
  return (*CodeDirectoryBuilder::Create(fields)).Build();
}

std::map<uint32_t, Bytes> Blobs() {
  return {{kCodeDirectorySlot, Directory(DigestKind::kSha1)},
          {kRequirementsSlot, Requirements()},
          {kAlternateCodeDirectorySlot, Directory(DigestKind::kSha256)},
          {kCmsSlot, WrapBlob(kBlobWrapperMagic, AsBytes("cms"))}};
}

Bytes Build(const std::map<uint32_t, Bytes>& blobs) {
  return BuildSuperBlob(kEmbeddedSignatureMagic, blobs);
}

TEST(EmbeddedSignatureTest, FindsEverything) {
  Bytes bytes = Build(Blobs());
  bytes.resize(bytes.size() + 100);  // what the load command reserved
  const absl::StatusOr<EmbeddedSignature> signature =
      EmbeddedSignature::Parse(bytes);
  ASSERT_THAT(signature, IsOk());
  ASSERT_EQ(signature->code_directories().size(), 2u);
  EXPECT_EQ(signature->primary().digest_kind(), DigestKind::kSha1);
  EXPECT_EQ(signature->best().digest_kind(), DigestKind::kSha256);
  EXPECT_EQ(AsText(signature->cms()), "cms");
  EXPECT_TRUE(Equal(*signature->Find(kRequirementsSlot), Requirements()));
  EXPECT_FALSE(signature->Find(kEntitlementsSlot).has_value());
  EXPECT_FALSE(signature->is_ad_hoc());
}

TEST(EmbeddedSignatureTest, AdHocAndLinkerSigned) {
  std::map<uint32_t, Bytes> blobs = {
      {kCodeDirectorySlot,
       Directory(DigestKind::kSha256, kAdHocFlag | kLinkerSignedFlag)}};
  const Bytes bytes = Build(blobs);
  const absl::StatusOr<EmbeddedSignature> signature =
      EmbeddedSignature::Parse(bytes);
  ASSERT_THAT(signature, IsOk());
  EXPECT_TRUE(signature->is_ad_hoc());
  EXPECT_TRUE(signature->is_linker_signed());
  EXPECT_TRUE(signature->cms().empty());
}

std::string RuleOf(const std::map<uint32_t, Bytes>& blobs) {
  const Bytes bytes = Build(blobs);
  const absl::StatusOr<EmbeddedSignature> signature =
      EmbeddedSignature::Parse(bytes);
  if (signature.ok()) return "accepted";
  return GetErrorDetail(signature.status())->rule();
}

TEST(EmbeddedSignatureTest, ES1_NoPrimaryCodeDirectory) {
  std::map<uint32_t, Bytes> blobs = Blobs();
  blobs.erase(kCodeDirectorySlot);
  EXPECT_EQ(RuleOf(blobs), "ES-1");
  EXPECT_EQ(RuleOf({}), "ES-1");
}

TEST(EmbeddedSignatureTest, ES2_MagicMustFitTheSlot) {
  for (const uint32_t slot :
       {0u, 2u, 5u, 7u, 8u, 9u, 10u, 11u, 0x1000u, 0x1004u, 0x10000u}) {
    std::map<uint32_t, Bytes> blobs = Blobs();
    blobs[slot] = WrapBlob(kLibraryDependencyMagic, {});
    EXPECT_EQ(RuleOf(blobs), "ES-2") << slot;
  }
  std::map<uint32_t, Bytes> blobs = Blobs();
  blobs[0x1005] = WrapBlob(kLibraryDependencyMagic, {});  // nobody's slot
  EXPECT_EQ(RuleOf(blobs), "accepted");
}

TEST(EmbeddedSignatureTest, ES3_SameDigestTwice) {
  std::map<uint32_t, Bytes> blobs = Blobs();
  blobs[kAlternateCodeDirectorySlot] = Directory(DigestKind::kSha1);
  EXPECT_EQ(RuleOf(blobs), "ES-3");
}

TEST(EmbeddedSignatureTest, FaultsOfCodeDirectoriesCountFromTheStart) {
  std::map<uint32_t, Bytes> blobs = Blobs();
  blobs[kCodeDirectorySlot][39] = 13;  // page size
  const Bytes bytes = Build(blobs);
  const absl::StatusOr<EmbeddedSignature> signature =
      EmbeddedSignature::Parse(bytes);
  ASSERT_THAT(signature, HasReason(v1::REASON_UNSUPPORTED_PAGE_SIZE));
  EXPECT_EQ(GetErrorDetail(signature.status())->byte_offset(),
            12u + 8u * blobs.size() + 39u);
}

// The order of the index means nothing: slots do.
TEST(EmbeddedSignatureTest, UnsortedIndex) {
  Bytes bytes = Build(Blobs());
  for (size_t i = 0; i < 8; ++i) std::swap(bytes[12 + i], bytes[28 + i]);
  const absl::StatusOr<EmbeddedSignature> signature =
      EmbeddedSignature::Parse(bytes);
  ASSERT_THAT(signature, IsOk());
  EXPECT_EQ(signature->primary().digest_kind(), DigestKind::kSha1);
}

TEST(CheckSpecialSlotTest, ComparesWithTheContent) {
  const Bytes blob = Directory(DigestKind::kSha256);
  const CodeDirectory directory = *CodeDirectory::Parse(blob);
  EXPECT_THAT(CheckSpecialSlot(directory, kRequirementsSlot, Requirements()),
              IsOk());
  Bytes other = Requirements();
  other.back() = 1;
  for (const std::optional<ByteView> content :
       {std::optional<ByteView>(other), std::optional<ByteView>()}) {
    const absl::Status status =
        CheckSpecialSlot(directory, kRequirementsSlot, content);
    ASSERT_THAT(status, HasReason(v1::REASON_SPECIAL_SLOT_MISMATCH));
    EXPECT_EQ(GetErrorDetail(status)->subject(), "requirements");
  }
  // Slots 1 and 3 seal nothing: zeros, and out of the table.
  EXPECT_THAT(CheckSpecialSlot(directory, kInfoPlistSlot, other), IsOk());
  EXPECT_THAT(CheckSpecialSlot(directory, kCodeResourcesSlot, std::nullopt),
              IsOk());
}

}  // namespace
}  // namespace codeseal
