#include "codesign/detached_signature.h"

#include "codesign/base/digest.h"
#include "codesign/signing_plan.h"
#include "codesign/super_blob.h"
#include "codesign/verify/stored_code.h"
#include "codesign/verify/verifier.h"
#include "gtest/gtest.h"
#include "tests/support/disk_image_builder.h"
#include "tests/support/mach_o_builder.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"

namespace codeseal {
namespace {

using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;

Bytes Sha1(std::string_view text) {
  return ComputeDigest(DigestKind::kSha1, AsBytes(text));
}

class DetachedSignatureTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<CodeObject>> Open(const std::string& path) {
    absl::StatusOr<MappedFile> file = MappedFile::Open(path);
    if (!file.ok()) return file.status();
    return OpenDetached(*std::move(file), /*in_bundle=*/false, signature_path_);
  }

  absl::Status Sign(const std::string& path, bool force) {
    ASSIGN_OR_RETURN(std::unique_ptr<CodeObject> code, Open(path));
    SigningOptions options;
    options.force = force;
    ASSIGN_OR_RETURN(const SigningPlan plan,
                     SigningPlan::Create(std::move(code), options, {}));
    ASSIGN_OR_RETURN(std::vector<StagedFile> staged,
                     plan.Stage({}, [](const std::string& p) { return p; }));
    return StagedFile::CommitAll(std::move(staged));
  }

  testing::TempFolder folder_;
  const std::string signature_path_ = folder_.Path("sig");
};

TEST_F(DetachedSignatureTest, IsMadeAndFitsItsFileAlone) {
  const std::string text = "#!/bin/sh\nexit 0\n";
  const std::string path = folder_.Write("tool.sh", text);
  ASSERT_THAT(Sign(path, false), IsOk());
  EXPECT_EQ(folder_.Read("tool.sh"), text);
  const std::string signature = folder_.Read("sig");
  EXPECT_THAT(CheckDetached(AsBytes(signature), Sha1(text)), IsOk());
  EXPECT_THAT(CheckDetached(AsBytes(signature), Sha1(text + " ")),
              HasReason(v1::REASON_BAD_DETACHED_SIGNATURE));

  // Its code slot is the digest of the whole file.
  const auto parsed = EmbeddedSignature::Parse(AsBytes(signature));
  ASSERT_THAT(parsed, IsOk());
  EXPECT_EQ(parsed->primary().page_size(), 0u);
  EXPECT_TRUE(Equal(*parsed->primary().CodeSlotDigest(0),
                    ComputeDigest(DigestKind::kSha256, AsBytes(text))));

  EXPECT_THAT(Sign(path, false), HasReason(v1::REASON_ALREADY_SIGNED));
  EXPECT_THAT(Sign(path, true), IsOk());
}

TEST_F(DetachedSignatureTest, OtherFilesAreNone) {
  for (const Bytes& bytes :
       {Bytes(), ToBytes("text"), BuildSuperBlob(kEmbeddedSignatureMagic, {}),
        BuildSuperBlob(kEmbeddedSignatureMagic,
                       {{kIdentificationSlot, WrapBlob(0xfade0c02, {})}})}) {
    EXPECT_THAT(CheckDetached(bytes, Sha1("file")),
                HasReason(v1::REASON_BAD_DETACHED_SIGNATURE));
    EXPECT_EQ(FindDetachedSeal(bytes), std::nullopt);
  }
}

TEST_F(DetachedSignatureTest, MachOStaysAsItIs) {
  const Bytes x86_64 =
      testing::BuildMachO({.architecture = testing::kX86_64,
                           .uuid = std::array<uint8_t, 16>{1, 2, 3}});
  const Bytes arm64 = testing::BuildMachO({});
  const std::string bytes(AsText(testing::BuildUniversal(
      {.slices = {{testing::kX86_64, x86_64}, {testing::kArm64, arm64}}})));
  const std::string path = folder_.Write("tool", bytes);
  ASSERT_THAT(Sign(path, false), IsOk());
  EXPECT_EQ(folder_.Read("tool"), bytes);

  // One SuperBlob for each CPU type, and an empty one for what they share.
  const std::string signature = folder_.Read("sig");
  const auto all = SuperBlob::Parse(AsBytes(signature), 0xfade0cc1);
  ASSERT_THAT(all, IsOk());
  ASSERT_EQ(all->entries().size(), 3u);
  EXPECT_EQ(all->entries()[0].slot, 0u);
  EXPECT_EQ(all->entries()[0].blob.size(), 12u);
  EXPECT_EQ(all->entries()[1].slot, 0x01000007u);
  EXPECT_EQ(all->entries()[2].slot, 0x0100000cu);
  const Bytes uuid =
      ToBytes(std::string("UUID\x01\x02\x03", 7) + std::string(13, '\0'));
  const auto slice = EmbeddedSignature::Parse(all->entries()[1].blob);
  ASSERT_THAT(slice, IsOk());
  const auto identification = slice->Find(kIdentificationSlot);
  ASSERT_TRUE(identification.has_value());
  EXPECT_TRUE(Equal(*identification, WrapBlob(0xfade0b01, uuid)));
  EXPECT_EQ(slice->primary().code_limit(), x86_64.size());

  absl::StatusOr<StoredCode> code = StoredCode::Open(path);
  ASSERT_THAT(code, IsOk());
  EXPECT_THAT(Verify(*code, {}).Validity(), HasReason(v1::REASON_NOT_SIGNED));
  ASSERT_THAT(code->UseDetached(AsBytes(signature)), IsOk());
  const VerificationReport report = Verify(*code, {});
  EXPECT_THAT(report.Validity(), IsOk());
  EXPECT_EQ(report.slices.size(), 2u);

  EXPECT_THAT(Sign(path, false), HasReason(v1::REASON_ALREADY_SIGNED));
  EXPECT_THAT(Sign(path, true), IsOk());
}

TEST_F(DetachedSignatureTest, OfAnotherMachOFitsNot) {
  const std::string path =
      folder_.Write("tool", AsText(testing::BuildMachO({})));
  ASSERT_THAT(Sign(path, false), IsOk());
  const std::string signature = folder_.Read("sig");

  // The same load commands, other code: the signature is for it, and broken.
  std::string changed(AsText(testing::BuildMachO({})));
  changed[changed.size() - 1] ^= 1;
  absl::StatusOr<StoredCode> code =
      StoredCode::Open(folder_.Write("changed", changed));
  ASSERT_THAT(code, IsOk());
  ASSERT_THAT(code->UseDetached(AsBytes(signature)), IsOk());
  EXPECT_THAT(Verify(*code, {}).Validity(),
              HasReason(v1::REASON_CODE_MODIFIED));

  const Bytes other_commands = testing::BuildMachO({.code_size = 512});
  const Bytes other_cpu =
      testing::BuildMachO({.architecture = testing::kX86_64});
  for (const Bytes& other : {other_commands, other_cpu}) {
    code = StoredCode::Open(folder_.Write("other", AsText(other)));
    ASSERT_THAT(code, IsOk());
    EXPECT_THAT(code->UseDetached(AsBytes(signature)),
                HasReason(v1::REASON_BAD_DETACHED_SIGNATURE));
  }
  code = StoredCode::Open(path);
  ASSERT_THAT(code, IsOk());
  EXPECT_THAT(code->UseDetached(AsBytes("no signature")),
              HasReason(v1::REASON_BAD_DETACHED_SIGNATURE));
}

TEST_F(DetachedSignatureTest, DiskImageStaysAsItIs) {
  const std::string image = testing::MakeDiskImage();
  const std::string path = folder_.Write("a.dmg", image);
  ASSERT_THAT(Sign(path, false), IsOk());
  EXPECT_EQ(folder_.Read("a.dmg"), image);
  const std::string signature = folder_.Read("sig");
  const auto parsed = EmbeddedSignature::Parse(AsBytes(signature));
  ASSERT_THAT(parsed, IsOk());
  EXPECT_TRUE(parsed->primary().SealsSpecialSlot(kRepSpecificSlot));

  absl::StatusOr<StoredCode> code = StoredCode::Open(path);
  ASSERT_THAT(code, IsOk());
  EXPECT_THAT(Verify(*code, {}).Validity(), HasReason(v1::REASON_NOT_SIGNED));
  ASSERT_THAT(code->UseDetached(AsBytes(signature)), IsOk());
  EXPECT_THAT(Verify(*code, {}).Validity(), IsOk());
  EXPECT_THAT(Sign(path, false), HasReason(v1::REASON_ALREADY_SIGNED));

  // Other data under the same trailer: it is for this image, and broken.
  std::string changed = image;
  changed[17] ^= 1;
  code = StoredCode::Open(folder_.Write("b.dmg", changed));
  ASSERT_THAT(code, IsOk());
  ASSERT_THAT(code->UseDetached(AsBytes(signature)), IsOk());
  EXPECT_THAT(Verify(*code, {}).Validity(),
              HasReason(v1::REASON_CODE_MODIFIED));
  code = StoredCode::Open(
      folder_.Write("c.dmg", testing::MakeDiskImage(/*data_size=*/6000)));
  ASSERT_THAT(code, IsOk());
  EXPECT_THAT(code->UseDetached(AsBytes(signature)),
              HasReason(v1::REASON_BAD_DETACHED_SIGNATURE));
}

TEST_F(DetachedSignatureTest, TwoSlicesOfOneCpuTypeHaveNoPlace) {
  const Bytes bytes = testing::BuildUniversal(
      {.slices = {{testing::kArm64, testing::BuildMachO({})},
                  {testing::kArm64e,
                   testing::BuildMachO({.architecture = testing::kArm64e})}}});
  EXPECT_THAT(Open(folder_.Write("tool", AsText(bytes))),
              HasReason(v1::REASON_BAD_OPTION));
}

}  // namespace
}  // namespace codeseal
