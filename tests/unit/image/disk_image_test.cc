#include "codesign/image/disk_image.h"

#include "codesign/base/digest.h"
#include "gtest/gtest.h"
#include "tests/support/disk_image_builder.h"
#include "tests/support/rule_matcher.h"
#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

using ::codeseal::testing::HasReason;
using ::codeseal::testing::HasRule;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::kKolySize;
using ::codeseal::testing::MakeDiskImage;
using ::codeseal::testing::WithKolyField;
using ::codeseal::testing::WithSignatureInImage;

TEST(DiskImageTest, TellsWhereASignatureGoes) {
  const std::string file = MakeDiskImage();
  const absl::StatusOr<DiskImage> image = DiskImage::Parse(AsBytes(file));
  ASSERT_THAT(image, IsOk());
  EXPECT_EQ(image->signing_limit(), file.size() - 512);
  EXPECT_TRUE(image->signature().empty());
  EXPECT_THAT(image->CheckStrictStructure(), IsOk());
}

TEST(DiskImageTest, FindsTheSignature) {
  const std::string unsigned_file = MakeDiskImage();
  const std::string file = WithSignatureInImage(unsigned_file, "signature");
  const absl::StatusOr<DiskImage> image = DiskImage::Parse(AsBytes(file));
  ASSERT_THAT(image, IsOk());
  EXPECT_EQ(image->signing_limit(), unsigned_file.size() - 512);
  EXPECT_EQ(AsText(image->signature()), "signature");
  EXPECT_THAT(image->CheckStrictStructure(), IsOk());
}

// Signing, replacing and removing put these bytes behind the signature.
TEST(DiskImageTest, WritesTheTrailer) {
  const std::string unsigned_file = MakeDiskImage();
  const std::string file = WithSignatureInImage(unsigned_file, "signature");
  for (const std::string& each : {unsigned_file, file}) {
    const absl::StatusOr<DiskImage> image = DiskImage::Parse(AsBytes(each));
    ASSERT_THAT(image, IsOk());
    EXPECT_EQ(ToString(image->Trailer(9)), file.substr(file.size() - 512));
    EXPECT_EQ(ToString(image->Trailer(0)),
              unsigned_file.substr(unsigned_file.size() - 512));
    // The blinded trailer knows where the signature is, not how long.
    const std::string blinded =
        WithKolyField(file, testing::kKolySignatureSize, 0, 8);
    EXPECT_EQ(ToString(image->BlindedTrailer()),
              blinded.substr(blinded.size() - 512));
  }
}

TEST(DiskImageTest, IdentificationIsTheDigestOfTheTrailerAsItIs) {
  const std::string file = WithSignatureInImage(MakeDiskImage(), "signature");
  const std::string blinded =
      WithKolyField(file, testing::kKolySignatureSize, 0, 8);
  EXPECT_EQ(DiskImage::Parse(AsBytes(file))->Identification(),
            ComputeDigest(DigestKind::kSha1, AsBytes(blinded).last(kKolySize)));
}

TEST(DiskImageTest, StrictStructureHasNoGapBehindTheSignature) {
  std::string file = WithSignatureInImage(MakeDiskImage(), "signature");
  file = WithKolyField(file, testing::kKolySignatureSize, 8, 8);
  const absl::StatusOr<DiskImage> image = DiskImage::Parse(AsBytes(file));
  ASSERT_THAT(image, IsOk());
  EXPECT_THAT(image->CheckStrictStructure(), HasRule("DI-10"));
}

TEST(DiskImageTest, KnowsImagesThatItDoesNotHandle) {
  EXPECT_TRUE(DiskImage::IsDiskImage(AsBytes(MakeDiskImage())));
  EXPECT_FALSE(DiskImage::IsDiskImage(AsBytes(std::string(4096, 'k'))));
  EXPECT_FALSE(DiskImage::IsDiskImage(AsBytes("koly")));
  for (const std::string& file :
       {std::string("encrcdsa version 2"), std::string("version 1 cdsaencr")}) {
    EXPECT_TRUE(DiskImage::IsDiskImage(AsBytes(file)));
    EXPECT_THAT(DiskImage::Parse(AsBytes(file)),
                HasReason(v1::REASON_UNSUPPORTED_DISK_IMAGE));
    EXPECT_THAT(DiskImage::Parse(AsBytes(file)), HasRule("DI-1"));
  }
  const std::string segment =
      WithKolyField(MakeDiskImage(), testing::kKolySegmentCount, 2, 4);
  EXPECT_THAT(DiskImage::Parse(AsBytes(segment)),
              HasReason(v1::REASON_UNSUPPORTED_DISK_IMAGE));
}

TEST(DiskImageTest, RefusesEveryFileThatIsCutShort) {
  const std::string file = WithSignatureInImage(MakeDiskImage(10), "signature");
  for (size_t size = 0; size < file.size(); ++size) {
    // The trailer is at the end: without its last byte there is none.
    EXPECT_THAT(DiskImage::Parse(AsBytes(file).first(size)),
                HasReason(v1::REASON_BAD_DISK_IMAGE))
        << size;
    // Cut at the front, the ranges do not fit any more.
    EXPECT_FALSE(DiskImage::Parse(AsBytes(file).last(size)).ok()) << size;
  }
}

struct FieldCase {
  const char* rule;
  size_t field;
  uint64_t value;
  size_t size;
};

class DiskImageRuleTest : public ::testing::TestWithParam<FieldCase> {};

TEST_P(DiskImageRuleTest, OneBadFieldIsRefused) {
  const FieldCase& bad = GetParam();
  const std::string file =
      WithKolyField(WithSignatureInImage(MakeDiskImage(), "signature"),
                    bad.field, bad.value, bad.size);
  EXPECT_THAT(DiskImage::Parse(AsBytes(file)), HasRule(bad.rule));
}

constexpr uint64_t kHuge = ~uint64_t{0};

INSTANTIATE_TEST_SUITE_P(
    Rules, DiskImageRuleTest,
    ::testing::Values(FieldCase{"DI-2", 0, 0, 4},  //
                      FieldCase{"DI-3", testing::kKolyVersion, 5, 4},
                      FieldCase{"DI-4", testing::kKolyHeaderSize, 500, 4},
                      FieldCase{"DI-5", testing::kKolySegmentNumber, 2, 4},
                      FieldCase{"DI-5", testing::kKolySegmentCount, 7, 4},
                      FieldCase{"DI-6", testing::kKolySignatureOffset, kHuge,
                                8},
                      FieldCase{"DI-6", testing::kKolySignatureSize, kHuge, 8},
                      FieldCase{"DI-6", testing::kKolySignatureSize, 10, 8},
                      FieldCase{"DI-7", testing::kKolySignatureOffset, 0, 8},
                      FieldCase{"DI-8", testing::kKolyDataOffset, kHuge, 8},
                      FieldCase{"DI-8", testing::kKolyDataSize, kHuge, 8},
                      FieldCase{"DI-8", testing::kKolyResourceSize, kHuge, 8},
                      FieldCase{"DI-8", testing::kKolyPlistOffset, 5001, 8},
                      FieldCase{"DI-9", testing::kKolyPlistSize, 0, 8}));

}  // namespace
}  // namespace codeseal
