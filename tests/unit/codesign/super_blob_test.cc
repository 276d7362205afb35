#include "codesign/super_blob.h"

#include <ostream>

#include "codesign/base/digest.h"
#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::testing::ElementsAre;

// Two blobs, laid out by hand: an empty requirement set and an empty CMS
// wrapper.
Bytes TwoBlobs() {
  return {0xfa, 0xde, 0x0c, 0xc0, 0,    0,    0, 48,  // magic, length
          0,    0,    0,    2,                        // count
          0,    0,    0,    2,    0,    0,    0, 28,  // slot 2 at 28
          0,    1,    0,    0,    0,    0,    0, 40,  // slot 0x10000 at 40
          0xfa, 0xde, 0x0c, 0x01, 0,    0,    0, 12, 0, 0,
          0,    0,    0xfa, 0xde, 0x0b, 0x01, 0, 0,  0, 8};
}

absl::StatusOr<SuperBlob> Parse(ByteView bytes) {
  return SuperBlob::Parse(bytes, kEmbeddedSignatureMagic);
}

TEST(SuperBlobTest, ReadsIndexAndBlobs) {
  Bytes bytes = TwoBlobs();
  bytes.push_back(0xff);  // behind the blob: not its business
  const absl::StatusOr<SuperBlob> blob = Parse(bytes);
  ASSERT_THAT(blob, IsOk());
  EXPECT_EQ(blob->raw().size(), 48u);
  ASSERT_EQ(blob->entries().size(), 2u);
  EXPECT_EQ(blob->entries()[0].slot, kRequirementsSlot);
  EXPECT_EQ(blob->entries()[0].magic, kRequirementSetMagic);
  EXPECT_EQ(blob->entries()[1].offset, 40u);
  EXPECT_EQ(blob->Find(kCmsSlot)->size(), 8u);
  EXPECT_FALSE(blob->Find(kCodeDirectorySlot).has_value());
  EXPECT_THAT(blob->CheckPacked(), IsOk());
}

TEST(SuperBlobTest, BuildsTheSameBytes) {
  const Bytes empty_set = BuildSuperBlob(kRequirementSetMagic, {});
  EXPECT_EQ(BuildSuperBlob(kEmbeddedSignatureMagic,
                           {{kCmsSlot, WrapBlob(kBlobWrapperMagic, {})},
                            {kRequirementsSlot, empty_set}}),
            TwoBlobs());
}

// Digests of the requirement slot in every ad-hoc signature of Apple's tools.
TEST(SuperBlobTest, EmptyRequirementSetHasApplesDigests) {
  const Bytes empty = BuildSuperBlob(kRequirementSetMagic, {});
  EXPECT_EQ(HexEncode(ComputeDigest(DigestKind::kSha256, empty)),
            "987920904eab650e75788c054aa0b0524e6a80bfc71aa32df8d237a61743f986");
  EXPECT_EQ(HexEncode(ComputeDigest(DigestKind::kSha1, empty)),
            "3a75f6db058529148e14dd7ea1b4729cc09ec973");
}

TEST(SuperBlobTest, RejectsEveryTruncation) {
  const Bytes bytes = TwoBlobs();
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(Parse(ByteView(bytes).first(size)).ok()) << size;
  }
}

TEST(SuperBlobTest, OffsetZeroMeansNoBlob) {
  Bytes bytes = TwoBlobs();
  bytes[19] = 0;
  const absl::StatusOr<SuperBlob> blob = Parse(bytes);
  ASSERT_THAT(blob, IsOk());
  EXPECT_FALSE(blob->Find(kRequirementsSlot).has_value());
  EXPECT_TRUE(blob->Find(kCmsSlot).has_value());
  EXPECT_THAT(blob->CheckPacked(), HasReason(v1::REASON_BAD_SUPER_BLOB));
}

struct RuleCase {
  const char* name;
  size_t offset;
  uint8_t value;
  const char* rule;
  Reason reason;
};

void PrintTo(const RuleCase& each, std::ostream* out) { *out << each.rule; }

class SuperBlobRuleTest : public ::testing::TestWithParam<RuleCase> {};

TEST_P(SuperBlobRuleTest, OneBadByteIsReportedByRule) {
  Bytes bytes = TwoBlobs();
  bytes[GetParam().offset] = GetParam().value;
  const absl::StatusOr<SuperBlob> blob = Parse(bytes);
  ASSERT_THAT(blob, HasReason(GetParam().reason));
  EXPECT_EQ(GetErrorDetail(blob.status())->rule(), GetParam().rule);
}

INSTANTIATE_TEST_SUITE_P(
    Rules, SuperBlobRuleTest,
    ::testing::Values(
        RuleCase{"Magic", 3, 0xc1, "SB-2", v1::REASON_BAD_MAGIC},
        RuleCase{"Length", 4, 0xff, "SB-3",
                 v1::REASON_BLOB_LENGTH_OUT_OF_RANGE},
        RuleCase{"Count", 8, 0xff, "SB-4", v1::REASON_BAD_SUPER_BLOB},
        RuleCase{"CountByOne", 11, 5, "SB-4", v1::REASON_BAD_SUPER_BLOB},
        RuleCase{"OffsetInIndex", 19, 27, "SB-5", v1::REASON_BAD_SUPER_BLOB},
        RuleCase{"OffsetBehindEnd", 16, 0xff, "SB-5",
                 v1::REASON_BAD_SUPER_BLOB},
        RuleCase{"NoRoomForHeader", 27, 41, "SB-5", v1::REASON_BAD_SUPER_BLOB},
        RuleCase{"BlobTooLong", 47, 9, "SB-6",
                 v1::REASON_BLOB_LENGTH_OUT_OF_RANGE},
        RuleCase{"BlobTooShort", 47, 7, "SB-6",
                 v1::REASON_BLOB_LENGTH_OUT_OF_RANGE},
        RuleCase{"BlobHuge", 44, 0xff, "SB-6",
                 v1::REASON_BLOB_LENGTH_OUT_OF_RANGE}),
    [](const auto& each) { return std::string(each.param.name); });

TEST(SuperBlobTest, SB1_HeaderCutShort) {
  const Bytes bytes = TwoBlobs();
  const absl::StatusOr<SuperBlob> blob = Parse(ByteView(bytes).first(8));
  ASSERT_THAT(blob, HasReason(v1::REASON_TRUNCATED));
  EXPECT_EQ(GetErrorDetail(blob.status())->rule(), "SB-1");
}

TEST(SuperBlobTest, SB7_SlotTwice) {
  Bytes bytes = TwoBlobs();
  bytes[21] = 0;
  bytes[23] = 2;
  const absl::StatusOr<SuperBlob> blob = Parse(bytes);
  ASSERT_THAT(blob, HasReason(v1::REASON_BAD_SUPER_BLOB));
  EXPECT_EQ(GetErrorDetail(blob.status())->rule(), "SB-7");
}

std::string PackedRule(ByteView bytes) {
  const absl::StatusOr<SuperBlob> blob = Parse(bytes);
  if (!blob.ok()) return "does not parse";
  const absl::Status packed = blob->CheckPacked();
  return packed.ok() ? "packed" : GetErrorDetail(packed)->rule();
}

TEST(SuperBlobTest, CheckPackedFindsOverlapsAndGaps) {
  Bytes overlap = TwoBlobs();
  overlap[35] = 13;  // the set reaches into the wrapper
  EXPECT_EQ(PackedRule(overlap), "SB-8");
  Bytes gap = TwoBlobs();
  gap[35] = 11;  // a byte between them
  EXPECT_EQ(PackedRule(gap), "SB-9");
  Bytes tail = TwoBlobs();
  tail.push_back(0);
  tail[7] = 49;
  EXPECT_EQ(PackedRule(tail), "SB-10");
  EXPECT_EQ(PackedRule(TwoBlobs()), "packed");
}

TEST(SuperBlobTest, WrapAndUnwrap) {
  const Bytes blob = WrapBlob(kEntitlementsMagic, AsBytes("hi"));
  EXPECT_THAT(blob, ElementsAre(0xfa, 0xde, 0x71, 0x71, 0, 0, 0, 10, 'h', 'i'));
  EXPECT_EQ(AsText(*UnwrapBlob(kEntitlementsMagic, blob)), "hi");
  EXPECT_THAT(UnwrapBlob(kEntitlementsDerMagic, blob),
              HasReason(v1::REASON_BAD_MAGIC));
  EXPECT_THAT(UnwrapBlob(kEntitlementsMagic, ByteView(blob).first(9)),
              HasReason(v1::REASON_BLOB_LENGTH_OUT_OF_RANGE));
  EXPECT_THAT(UnwrapBlob(kEntitlementsMagic, ByteView(blob).first(7)),
              HasReason(v1::REASON_TRUNCATED));
}

TEST(SuperBlobTest, SlotsHaveNames) {
  EXPECT_EQ(SlotName(kEntitlementsDerSlot), "DER entitlements");
  EXPECT_EQ(SlotName(0x1001), "alternate CodeDirectory 1");
  EXPECT_EQ(SlotName(0x1005), "slot 0x1005");
}

}  // namespace
}  // namespace codeseal
