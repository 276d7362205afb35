#include "codesign/code_object.h"

#include <memory>
#include <string>
#include <vector>

#include "codesign/signing_plan.h"
#include "tests/support/mach_o_builder.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"

namespace codeseal {
namespace {

using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::kArm64;
using ::codeseal::testing::kX86_64;
using ::codeseal::testing::TempFolder;
using ::testing::ElementsAre;

// Keeps the signature in memory.
class MemoryStore : public SignatureStore {
 public:
  explicit MemoryStore(std::map<uint32_t, Bytes>* blobs, Bytes* cms,
                       Bytes stored = {})
      : blobs_(blobs), cms_(cms), stored_(std::move(stored)) {}

  ByteView Stored() const override { return stored_; }
  absl::Status Stage(const SignatureParts& signature, const TargetPath&,
                     std::vector<StagedFile>&) const override {
    for (const auto& [slot, blob] : signature.blobs) {
      (*blobs_)[slot] = ToBytes(blob);
    }
    *cms_ = ToBytes(signature.cms);
    return absl::OkStatus();
  }

 private:
  std::map<uint32_t, Bytes>* const blobs_;
  Bytes* const cms_;
  const Bytes stored_;
};

class CodeObjectTest : public ::testing::Test {
 protected:
  absl::StatusOr<SigningPlan> PlanScript(const SigningOptions& options,
                                         Bytes stored = {}) {
    const std::string path = folder_.Write("run.sh", "#!/bin/sh\n");
    ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
    return SigningPlan::Create(
        MakePlainCode(std::move(file), std::make_unique<MemoryStore>(
                                           &blobs_, &cms_, std::move(stored))),
        options, {});
  }

  TempFolder folder_;
  std::map<uint32_t, Bytes> blobs_;
  Bytes cms_ = {1};
};

TEST_F(CodeObjectTest, PlainFileIsOneSliceHashedWhole) {
  const auto plan = PlanScript({});
  ASSERT_THAT(plan, IsOk());
  EXPECT_EQ(plan->Format(), "generic");
  const Bytes content = ToBytes("#!/bin/sh\n");
  EXPECT_EQ(plan->identifier(),
            "run-" + HexEncode(ComputeDigest(DigestKind::kSha1, content)));
  ASSERT_EQ(plan->slices().size(), 1u);
  EXPECT_EQ(plan->slices()[0].architecture, "");
  EXPECT_THAT(plan->slices()[0].digests, ElementsAre(DigestKind::kSha256));

  ASSERT_THAT(plan->Stage({}, [](const std::string& path) { return path; }),
              IsOk());
  EXPECT_TRUE(cms_.empty());
  const auto directory = CodeDirectory::Parse(blobs_[kCodeDirectorySlot]);
  ASSERT_THAT(directory, IsOk());
  EXPECT_EQ(directory->version(), kCodeDirectoryWithScatter);
  EXPECT_EQ(directory->page_size(), 0u);
  EXPECT_EQ(directory->code_limit(), content.size());
  EXPECT_EQ(directory->code_slot_count(), 1u);
  EXPECT_TRUE(Equal(*directory->CodeSlotDigest(0),
                    ComputeDigest(DigestKind::kSha256, content)));
  EXPECT_EQ(directory->exec_segment().flags, 0u);
  EXPECT_TRUE(blobs_.contains(kRequirementsSlot));
}

TEST_F(CodeObjectTest, StoredSignatureNeedsForce) {
  ASSERT_THAT(PlanScript({}), IsOk());
  EXPECT_THAT(PlanScript({}, ToBytes("broken")),
              HasReason(v1::REASON_ALREADY_SIGNED));
  SigningOptions options;
  options.force = true;
  const auto plan = PlanScript(options, ToBytes("broken"));
  ASSERT_THAT(plan, IsOk());
  EXPECT_TRUE(plan->replaces_signature());
}

TEST_F(CodeObjectTest, SealStoresBestHashOfNativeSliceAndAllOfThemAsText) {
  const Bytes universal = testing::BuildUniversal(
      {.slices = {{kX86_64, testing::BuildMachO({.architecture = kX86_64})},
                  {kArm64, testing::BuildMachO({.architecture = kArm64})}}});
  const std::string path = folder_.Write("tool", AsText(universal));
  SigningOptions options;
  options.digests = {DigestKind::kSha1, DigestKind::kSha256};
  for (const CpuType host : {CpuType::kArm64, CpuType::kX86_64}) {
    options.host_cpu = host;
    auto file = MappedFile::Open(path);
    ASSERT_THAT(file, IsOk());
    const auto plan = SigningPlan::Create(*std::move(file), options, {});
    ASSERT_THAT(plan, IsOk());
    const bool is_arm64 = host == CpuType::kArm64;
    const auto& native = plan->slices()[is_arm64 ? 1 : 0].cdhashes;
    const auto& other = plan->slices()[is_arm64 ? 0 : 1].cdhashes;
    EXPECT_EQ(plan->code_identity().cdhash, native[1]);
    std::string text;
    for (const CdHash& each : {native[0], native[1], other[0], other[1]}) {
      text += (text.empty() ? "cdhash H\"" : " or cdhash H\"") +
              HexEncode(each) + "\"";
    }
    EXPECT_EQ(plan->code_identity().designated_requirement, text);
  }
}

TEST_F(CodeObjectTest, DigestsAreKnownBeforeThePlan) {
  const Bytes old = testing::BuildMachO(
      {.build_version = MachO::Version{
           .platform = Platform::kMacOs, .minimum_os = 0x0a0900, .sdk = 0}});
  auto file = MappedFile::Open(folder_.Write("tool", AsText(old)));
  ASSERT_THAT(file, IsOk());
  const auto code = OpenMachO(*std::move(file));
  ASSERT_THAT(code, IsOk());
  const auto digests = SigningPlan::ChooseDigests(**code, {});
  ASSERT_THAT(digests, IsOk());
  EXPECT_THAT(*digests, ElementsAre(DigestKind::kSha1, DigestKind::kSha256));
}

}  // namespace
}  // namespace codeseal
