#include "audit/merkle.h"

#include <map>
#include <string>

#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/audit/log_fixture.h"

namespace codeseal::audit {
namespace {

using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;

Bytes FromHex(const std::string& text) {
  Bytes bytes;
  for (size_t at = 0; at < text.size(); at += 2) {
    bytes.push_back(
        static_cast<uint8_t>(std::stoi(text.substr(at, 2), nullptr, 16)));
  }
  return bytes;
}

TreeHash HashFromHex(const std::string& text) {
  const Bytes bytes = FromHex(text);
  TreeHash hash{};
  std::copy(bytes.begin(), bytes.end(), hash.begin());
  return hash;
}

// Subtrees straight from the definition.
class NaiveTree : public TreeReader {
 public:
  explicit NaiveTree(std::vector<Bytes> entries)
      : entries_(std::move(entries)) {}

  absl::StatusOr<TreeHash> Subtree(int height, uint64_t index) const override {
    const uint64_t begin = index << height;
    const uint64_t end = begin + (uint64_t{1} << height);
    EXPECT_LE(end, entries_.size());
    return NaiveRoot(entries_, begin, end);
  }
  TreeHead Head(uint64_t size) const {
    return {size, NaiveRoot(entries_, 0, size)};
  }
  const Bytes& entry(uint64_t index) const { return entries_[index]; }

 private:
  const std::vector<Bytes> entries_;
};

// The vectors of the Certificate Transparency project for RFC 6962.
const char* const kEntries[] = {"",
                                "00",
                                "10",
                                "2021",
                                "3031",
                                "40414243",
                                "5051525354555657",
                                "606162636465666768696a6b6c6d6e6f"};
const char* const kRoots[] = {
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"};
const char* const k96 =
    "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7";
const char* const k5f =
    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e";
const char* const k6b =
    "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4";
const char* const kBc =
    "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b";
const char* const kCa =
    "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0";
const char* const k0e =
    "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a";

NaiveTree PublishedTree() {
  std::vector<Bytes> entries;
  for (const char* each : kEntries) entries.push_back(FromHex(each));
  return NaiveTree(std::move(entries));
}

Proof FromHexes(const std::vector<const char*>& texts) {
  Proof proof;
  for (const char* each : texts) proof.push_back(HashFromHex(each));
  return proof;
}

TEST(MerkleTest, PublishedRoots) {
  const NaiveTree tree = PublishedTree();
  for (uint64_t size = 0; size <= 8; ++size) {
    EXPECT_EQ(*ComputeRoot(tree, size), HashFromHex(kRoots[size])) << size;
  }
}

TEST(MerkleTest, PublishedInclusionProofs) {
  const NaiveTree tree = PublishedTree();
  struct Case {
    uint64_t index;
    uint64_t size;
    Proof proof;
  };
  const Case cases[] = {
      {0, 1, {}},
      {0, 8, FromHexes({k96, k5f, k6b})},
      {5, 8, FromHexes({kBc, kCa, kRoots[4]})},
      {2, 3, FromHexes({kRoots[2]})},
      {1, 5, FromHexes({kRoots[1], k5f, kBc})},
  };
  for (const Case& each : cases) {
    EXPECT_EQ(*BuildInclusionProof(tree, each.index, each.size), each.proof);
    EXPECT_THAT(
        CheckInclusion(HashLeaf(tree.entry(each.index)), each.index,
                       {each.size, HashFromHex(kRoots[each.size])}, each.proof),
        IsOk());
  }
}

TEST(MerkleTest, PublishedConsistencyProofs) {
  const NaiveTree tree = PublishedTree();
  struct Case {
    uint64_t old_size;
    uint64_t size;
    Proof proof;
  };
  const Case cases[] = {
      {1, 1, {}},
      {1, 8, FromHexes({k96, k5f, k6b})},
      {6, 8, FromHexes({k0e, kCa, kRoots[4]})},
      {2, 5, FromHexes({k5f, kBc})},
  };
  for (const Case& each : cases) {
    EXPECT_EQ(*BuildConsistencyProof(tree, each.old_size, each.size),
              each.proof);
    EXPECT_THAT(CheckConsistency(
                    {each.old_size, HashFromHex(kRoots[each.old_size])},
                    {each.size, HashFromHex(kRoots[each.size])}, each.proof),
                IsOk());
  }
}

// Every proof of every small tree, and everything near it that is wrong.
TEST(MerkleTest, EveryProofOfSmallTreesHoldsAndNoOther) {
  std::vector<Bytes> entries;
  for (uint64_t i = 0; i < 40; ++i) entries.push_back(TestEntry(i));
  const NaiveTree tree(entries);
  for (uint64_t size = 1; size <= 40; ++size) {
    const TreeHead head = tree.Head(size);
    EXPECT_EQ(*ComputeRoot(tree, size), head.root);
    for (uint64_t index = 0; index < size; ++index) {
      const TreeHash leaf = HashLeaf(entries[index]);
      Proof proof = *BuildInclusionProof(tree, index, size);
      EXPECT_THAT(CheckInclusion(leaf, index, head, proof), IsOk());
      for (uint64_t other = 0; other <= size; ++other) {
        if (other == index) continue;
        EXPECT_THAT(CheckInclusion(leaf, other, head, proof),
                    HasReason(v1::REASON_AUDIT_INCONSISTENT));
      }
      EXPECT_FALSE(CheckInclusion(HashLeaf(Bytes{1}), index, head, proof).ok());
      for (size_t i = 0; i < proof.size(); ++i) {
        proof[i][7] ^= 1;
        EXPECT_FALSE(CheckInclusion(leaf, index, head, proof).ok());
        proof[i][7] ^= 1;
      }
      proof.push_back(leaf);
      EXPECT_FALSE(CheckInclusion(leaf, index, head, proof).ok());
      proof.pop_back();
      if (!proof.empty()) {
        proof.pop_back();
        EXPECT_FALSE(CheckInclusion(leaf, index, head, proof).ok());
      }
    }
    for (uint64_t old_size = 0; old_size <= size; ++old_size) {
      const TreeHead older = tree.Head(old_size);
      Proof proof = *BuildConsistencyProof(tree, old_size, size);
      EXPECT_THAT(CheckConsistency(older, head, proof), IsOk());
      TreeHead forged = older;
      forged.root[0] ^= 1;
      EXPECT_FALSE(CheckConsistency(forged, head, proof).ok());
      if (old_size > 0) {
        forged = head;
        forged.root[0] ^= 1;
        EXPECT_FALSE(CheckConsistency(older, forged, proof).ok());
      }
      if (old_size < size) {
        EXPECT_FALSE(CheckConsistency(head, older, proof).ok());
      }
      for (size_t i = 0; i < proof.size(); ++i) {
        proof[i][31] ^= 1;
        EXPECT_FALSE(CheckConsistency(older, head, proof).ok());
        proof[i][31] ^= 1;
      }
      proof.push_back(older.root);
      EXPECT_FALSE(CheckConsistency(older, head, proof).ok());
      proof.pop_back();
      if (!proof.empty()) {
        proof.pop_back();
        EXPECT_FALSE(CheckConsistency(older, head, proof).ok());
      }
    }
  }
}

TEST(MerkleTest, ThereAreNoProofsOfWhatIsNotThere) {
  const NaiveTree tree = PublishedTree();
  EXPECT_THAT(BuildInclusionProof(tree, 3, 3),
              HasReason(v1::REASON_AUDIT_NOT_FOUND));
  EXPECT_THAT(BuildConsistencyProof(tree, 4, 3),
              HasReason(v1::REASON_AUDIT_NOT_FOUND));
  EXPECT_THAT(ComputeRoot(tree, kMaxTreeSize + 1),
              HasReason(v1::REASON_AUDIT_NOT_FOUND));
}

}  // namespace
}  // namespace codeseal::audit
