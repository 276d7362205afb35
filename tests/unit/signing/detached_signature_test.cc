#include "codesign/detached_signature.h"

#include "codesign/signing_plan.h"
#include "codesign/super_blob.h"
#include "gtest/gtest.h"
#include "tests/support/mach_o_builder.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"

namespace codeseal {
namespace {

using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;

class DetachedSignatureTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<CodeObject>> Open(const std::string& path) {
    absl::StatusOr<MappedFile> file = MappedFile::Open(path);
    if (!file.ok()) return file.status();
    return OpenDetached(*std::move(file), signature_path_);
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
  EXPECT_THAT(CheckDetached(AsBytes(signature), AsBytes(text)), IsOk());
  EXPECT_THAT(CheckDetached(AsBytes(signature), AsBytes(text + " ")),
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
    EXPECT_THAT(CheckDetached(bytes, AsBytes("file")),
                HasReason(v1::REASON_BAD_DETACHED_SIGNATURE));
  }
}

TEST_F(DetachedSignatureTest, CodeWithRoomKeepsItsSignatureInside) {
  const Bytes mach_o = testing::BuildMachO({});
  EXPECT_THAT(Open(folder_.Write("tool", AsText(mach_o))),
              HasReason(v1::REASON_BAD_OPTION));
}

}  // namespace
}  // namespace codeseal
