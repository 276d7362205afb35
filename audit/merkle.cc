#include "audit/merkle.h"

#include <algorithm>
#include <bit>
#include <optional>
#include <string>

#include "codesign/base/digest.h"
#include "codesign/base/error.h"

namespace codeseal::audit {
namespace {

constexpr uint8_t kLeafPrefix[] = {0};
constexpr uint8_t kNodePrefix[] = {1};

// Making an EVP context for each hash costs more than the hash.
Digester& ThreadDigester() {
  static thread_local Digester digester(DigestKind::kSha256);
  return digester;
}

struct Range {
  uint64_t begin;
  uint64_t end;
};

// k of RFC 6962: the largest power of two that is smaller than `size`, which is
// at least 2.
uint64_t SplitPoint(uint64_t size) { return std::bit_floor(size - 1); }

absl::Status NoSuchTree(std::string message) {
  return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_AUDIT,
                   v1::REASON_AUDIT_NOT_FOUND, message);
}

absl::Status Inconsistent(std::string_view message) {
  return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_AUDIT,
                   v1::REASON_AUDIT_INCONSISTENT, message);
}

// MTH(D[begin:end]) of a range that RFC 6962 splits off: its begin is a
// multiple of the power of two that is not smaller than its size.
absl::StatusOr<TreeHash> HashRange(const TreeReader& tree, Range range) {
  std::vector<TreeHash> subtrees;  // complete, each smaller than the one before
  while (range.begin < range.end) {
    const int height =
        static_cast<int>(std::bit_width(range.end - range.begin)) - 1;
    ASSIGN_OR_RETURN(subtrees.emplace_back(),
                     tree.Subtree(height, range.begin >> height));
    range.begin += uint64_t{1} << height;
  }
  TreeHash hash = subtrees.back();
  for (size_t i = subtrees.size() - 1; i > 0; --i) {
    hash = HashChildren(subtrees[i - 1], hash);
  }
  return hash;
}

// The ranges are in the order in which the tree is descended; a proof starts
// below.
absl::StatusOr<Proof> HashUpwards(const TreeReader& tree,
                                  std::span<const Range> ranges) {
  Proof proof;
  for (size_t i = ranges.size(); i > 0; --i) {
    ASSIGN_OR_RETURN(proof.emplace_back(), HashRange(tree, ranges[i - 1]));
  }
  return proof;
}

// Moves both up as long as the older node is the only child on the right edge.
void SkipSingleChildren(uint64_t& node, uint64_t& last) {
  while (node != 0 && (node & 1) == 0) {
    node >>= 1;
    last >>= 1;
  }
}

}  // namespace

TreeHash HashLeaf(ByteView entry) {
  TreeHash hash;
  Digester& digester = ThreadDigester();
  digester.Update(kLeafPrefix);
  digester.Update(entry);
  digester.Finish(hash);
  return hash;
}

TreeHash HashChildren(const TreeHash& left, const TreeHash& right) {
  TreeHash hash;
  Digester& digester = ThreadDigester();
  digester.Update(kNodePrefix);
  digester.Update(left);
  digester.Update(right);
  digester.Finish(hash);
  return hash;
}

TreeHash EmptyTreeRoot() {
  TreeHash hash;
  ThreadDigester().Digest({}, hash);
  return hash;
}

absl::StatusOr<TreeHash> ComputeRoot(const TreeReader& tree, uint64_t size) {
  if (size > kMaxTreeSize) return NoSuchTree("no log is that long");
  if (size == 0) return EmptyTreeRoot();
  return HashRange(tree, {0, size});
}

absl::StatusOr<Proof> BuildInclusionProof(const TreeReader& tree,
                                          uint64_t index, uint64_t size) {
  if (index >= size || size > kMaxTreeSize) {
    return NoSuchTree("a tree of " + std::to_string(size) +
                      " entries has no entry " + std::to_string(index));
  }
  std::vector<Range> ranges;
  Range at = {0, size};
  while (at.end - at.begin > 1) {
    const uint64_t middle = at.begin + SplitPoint(at.end - at.begin);
    if (index < middle) {
      ranges.push_back({middle, at.end});
      at.end = middle;
    } else {
      ranges.push_back({at.begin, middle});
      at.begin = middle;
    }
  }
  return HashUpwards(tree, ranges);
}

absl::StatusOr<Proof> BuildConsistencyProof(const TreeReader& tree,
                                            uint64_t old_size, uint64_t size) {
  if (old_size > size || size > kMaxTreeSize) {
    return NoSuchTree("a tree of " + std::to_string(size) +
                      " entries did not grow out of one of " +
                      std::to_string(old_size));
  }
  if (old_size == 0 || old_size == size) return Proof();
  std::vector<Range> ranges;
  Range at = {0, size};
  bool is_old_root = true;  // the verifier has the hash of `at` then
  while (at.end != old_size) {
    const uint64_t middle = at.begin + SplitPoint(at.end - at.begin);
    if (old_size <= middle) {
      ranges.push_back({middle, at.end});
      at.end = middle;
    } else {
      ranges.push_back({at.begin, middle});
      at.begin = middle;
      is_old_root = false;
    }
  }
  if (!is_old_root) ranges.push_back(at);
  return HashUpwards(tree, ranges);
}

absl::Status CheckInclusion(const TreeHash& leaf_hash, uint64_t index,
                            const TreeHead& head,
                            std::span<const TreeHash> proof) {
  if (index >= head.size) return Inconsistent("the tree has no such entry");
  uint64_t node = index;
  uint64_t last = head.size - 1;
  TreeHash hash = leaf_hash;
  for (const TreeHash& sibling : proof) {
    if (last == 0) return Inconsistent("the inclusion proof is too long");
    if ((node & 1) == 1 || node == last) {
      hash = HashChildren(sibling, hash);
      SkipSingleChildren(node, last);
    } else {
      hash = HashChildren(hash, sibling);
    }
    node >>= 1;
    last >>= 1;
  }
  if (last != 0) return Inconsistent("the inclusion proof is too short");
  if (hash != head.root) {
    return Inconsistent("the inclusion proof does not lead to the root");
  }
  return absl::OkStatus();
}

absl::Status CheckConsistency(const TreeHead& older, const TreeHead& newer,
                              std::span<const TreeHash> proof) {
  if (older.size > newer.size) {
    return Inconsistent("the log had " + std::to_string(older.size) +
                        " entries and has " + std::to_string(newer.size));
  }
  if (older.size == 0 || older.size == newer.size) {
    if (!proof.empty()) return Inconsistent("the proof should be empty");
    const TreeHash root = older.size == 0 ? EmptyTreeRoot() : newer.root;
    if (older.root == root) return absl::OkStatus();
    return Inconsistent("two trees of " + std::to_string(older.size) +
                        " entries have different roots");
  }
  uint64_t node = older.size - 1;
  uint64_t last = newer.size - 1;
  while ((node & 1) == 1) {
    node >>= 1;
    last >>= 1;
  }
  // An older tree that is complete is its own first hash.
  std::optional<TreeHash> first;
  if (std::has_single_bit(older.size)) {
    first = older.root;
  } else if (!proof.empty()) {
    first = proof.front();
    proof = proof.subspan(1);
  }
  if (!first.has_value()) return Inconsistent("the proof is too short");
  TreeHash old_hash = *first;
  TreeHash new_hash = *first;
  for (const TreeHash& sibling : proof) {
    if (last == 0) return Inconsistent("the consistency proof is too long");
    if ((node & 1) == 1 || node == last) {
      old_hash = HashChildren(sibling, old_hash);
      new_hash = HashChildren(sibling, new_hash);
      SkipSingleChildren(node, last);
    } else {
      new_hash = HashChildren(new_hash, sibling);
    }
    node >>= 1;
    last >>= 1;
  }
  if (last != 0) return Inconsistent("the consistency proof is too short");
  if (old_hash != older.root || new_hash != newer.root) {
    return Inconsistent("the tree of " + std::to_string(newer.size) +
                        " entries did not grow out of that of " +
                        std::to_string(older.size));
  }
  return absl::OkStatus();
}

}  // namespace codeseal::audit
