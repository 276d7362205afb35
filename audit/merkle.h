// The Merkle tree over the log's entries: how hashes are made, and proofs that
// an entry is in a tree or that one tree grew out of another.
//
//   entry -> leaf hash -> [tree] -> root -> checkpoint
//
// Spec: RFC 6962 section 2.1 with SHA-256; the checks are those of RFC 9162
//       sections 2.1.3.2 and 2.1.4.2.

#ifndef CODESEAL_AUDIT_MERKLE_H_
#define CODESEAL_AUDIT_MERKLE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "codesign/base/bytes.h"

namespace codeseal::audit {

inline constexpr size_t kTreeHashSize = 32;
using TreeHash = std::array<uint8_t, kTreeHashSize>;
// The siblings from the leaf, or from the older tree, up to the root.
using Proof = std::vector<TreeHash>;

// No tree has more entries, so that sizes can be added without care.
inline constexpr uint64_t kMaxTreeSize = uint64_t{1} << 62;

struct TreeHead {
  uint64_t size = 0;  // entries
  TreeHash root{};

  friend bool operator==(const TreeHead&, const TreeHead&) = default;
};

TreeHash HashLeaf(ByteView entry);
TreeHash HashChildren(const TreeHash& left, const TreeHash& right);
TreeHash EmptyTreeRoot();

// Gives the root of a complete subtree: the 2^height entries from
// index * 2^height on. Implementations say whether they are thread-safe.
class TreeReader {
 public:
  virtual ~TreeReader() = default;
  virtual absl::StatusOr<TreeHash> Subtree(int height,
                                           uint64_t index) const = 0;
};

// Each reads hashes of a tree that has at least `size` entries.
// Errors: the reader's; INVALID_ARGUMENT REASON_AUDIT_NOT_FOUND unless
// index < size, old_size <= size <= kMaxTreeSize.
absl::StatusOr<TreeHash> ComputeRoot(const TreeReader& tree, uint64_t size);
absl::StatusOr<Proof> BuildInclusionProof(const TreeReader& tree,
                                          uint64_t index, uint64_t size);
absl::StatusOr<Proof> BuildConsistencyProof(const TreeReader& tree,
                                            uint64_t old_size, uint64_t size);

// That the entry with this leaf hash is number `index` of the tree.
// Errors: FAILED_PRECONDITION REASON_AUDIT_INCONSISTENT.
absl::Status CheckInclusion(const TreeHash& leaf_hash, uint64_t index,
                            const TreeHead& head,
                            std::span<const TreeHash> proof);

// That the newer tree begins with the entries of the older one. A tree without
// entries is the beginning of every tree.
// Errors: FAILED_PRECONDITION REASON_AUDIT_INCONSISTENT.
absl::Status CheckConsistency(const TreeHead& older, const TreeHead& newer,
                              std::span<const TreeHash> proof);

}  // namespace codeseal::audit

#endif  // CODESEAL_AUDIT_MERKLE_H_
