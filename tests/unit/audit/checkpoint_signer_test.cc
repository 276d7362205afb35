#include "audit/checkpoint_signer.h"

#include "gtest/gtest.h"
#include "tests/unit/audit/log_fixture.h"

namespace codeseal::audit {
namespace {

using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
namespace fs = std::filesystem;

class Leaves : public TreeReader {
 public:
  absl::StatusOr<TreeHash> Subtree(int height, uint64_t index) const override {
    std::vector<Bytes> entries;
    for (uint64_t i = 0; i < uint64_t{1} << height; ++i) {
      entries.push_back(TestEntry((index << height) + i));
    }
    return NaiveRoot(entries, 0, entries.size());
  }
};

class CheckpointSignerTest : public LogFixture {
 protected:
  absl::StatusOr<std::unique_ptr<CheckpointSigner>> TryOpen(
      bool may_create = true) {
    return CheckpointSigner::Open(RecordPath(), KeyOf(*key_), SignerOf(key_),
                                  may_create);
  }
  TreeHead Head(uint64_t size) const {
    return {size, *ComputeRoot(tree_, size)};
  }
  absl::StatusOr<SignedCheckpoint> Sign(CheckpointSigner& signer, uint64_t from,
                                        uint64_t size) const {
    return signer.Sign(Head(size), *BuildConsistencyProof(tree_, from, size),
                       absl::InfiniteFuture());
  }

  const Leaves tree_;
};

TEST_F(CheckpointSignerTest, RemembersWhatItSigned) {
  for (const uint64_t size : {1u, 3u, 3u, 7u, 20u}) {
    const auto signer = TryOpen();
    ASSERT_THAT(signer, IsOk());
    const uint64_t from =
        (*signer)->last().has_value() ? (*signer)->last()->head.size : 0;
    const auto made = Sign(**signer, from, size);
    ASSERT_THAT(made, IsOk());
    EXPECT_EQ(OpenCheckpoint(made->note, KeyOf(*key_))->head, Head(size));
    EXPECT_EQ((*signer)->last()->note, made->note);
  }
  EXPECT_EQ((*TryOpen())->last()->head, Head(20));
}

TEST_F(CheckpointSignerTest, NeverSignsWhatContradictsTheLast) {
  const auto signer = TryOpen();
  ASSERT_THAT(signer, IsOk());
  ASSERT_THAT(Sign(**signer, 0, 6), IsOk());
  const int sign_count = key_->sign_count();
  TreeHead fork = Head(6);
  fork.root[0] ^= 1;
  const auto refused = [&](const TreeHead& head, const Proof& proof) {
    return (*signer)->Sign(head, proof, absl::InfiniteFuture());
  };
  EXPECT_THAT(refused(fork, {}), HasReason(v1::REASON_AUDIT_INCONSISTENT));
  EXPECT_THAT(refused(Head(5), {}), HasReason(v1::REASON_AUDIT_INCONSISTENT));
  EXPECT_THAT(refused(Head(9), {}), HasReason(v1::REASON_AUDIT_INCONSISTENT));
  fork = Head(9);
  fork.root[0] ^= 1;
  EXPECT_THAT(refused(fork, *BuildConsistencyProof(tree_, 6, 9)),
              HasReason(v1::REASON_AUDIT_INCONSISTENT));
  EXPECT_EQ(key_->sign_count(), sign_count);
  EXPECT_EQ((*signer)->last()->head, Head(6));
  EXPECT_THAT(Sign(**signer, 6, 9), IsOk());
}

TEST_F(CheckpointSignerTest, ATornWriteLeavesTheOneBefore) {
  {
    const auto signer = TryOpen();
    ASSERT_THAT(Sign(**signer, 0, 3), IsOk());
    ASSERT_THAT(Sign(**signer, 3, 4), IsOk());
  }
  const std::string whole = folder_.Read("log.signed");
  for (const size_t size : {4096u, 4097u, 4200u}) {
    folder_.Write("log.signed", whole.substr(0, size));
    const auto signer = TryOpen();
    ASSERT_THAT(signer, IsOk());
    EXPECT_EQ((*signer)->last()->head.size, 3u);
  }
  std::string edited = whole;
  edited[4096 + 30] ^= 1;
  folder_.Write("log.signed", edited);
  EXPECT_EQ((*TryOpen())->last()->head.size, 3u);
  edited[30] ^= 1;
  folder_.Write("log.signed", edited);
  EXPECT_THAT(TryOpen(), HasReason(v1::REASON_AUDIT_INCONSISTENT));
}

TEST_F(CheckpointSignerTest, MakesARecordOnlyWhenToldTo) {
  EXPECT_THAT(TryOpen(false), HasReason(v1::REASON_FILE_NOT_FOUND));
  EXPECT_THAT(TryOpen(true), IsOk());
  EXPECT_THAT(TryOpen(false), IsOk());
}

TEST_F(CheckpointSignerTest, DoesNotSignWithoutItsRecord) {
  const auto signer = TryOpen();
  ASSERT_THAT(signer, IsOk());
  fs::rename(RecordPath(), folder_.Path("aside"));
  EXPECT_THAT(Sign(**signer, 0, 3), HasReason(v1::REASON_AUDIT_INCONSISTENT));
  fs::copy_file(folder_.Path("aside"), RecordPath());
  EXPECT_THAT(Sign(**signer, 0, 3), HasReason(v1::REASON_AUDIT_INCONSISTENT));
}

}  // namespace
}  // namespace codeseal::audit
