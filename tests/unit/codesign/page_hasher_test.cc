#include "codesign/page_hasher.h"

#include <mutex>
#include <set>

#include "tests/support/mach_o_builder.h"
#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

using ::codeseal::testing::BuildMachO;
using ::codeseal::testing::IsOk;

class PageHasherTest : public ::testing::TestWithParam<uint32_t> {
 protected:
  // Header, 2.5 MB of code and padding: several chunks, none of them even.
  PageHasherTest()
      : original_(
            BuildMachO({.code_size = 2'500'000, .string_table_size = 4099})),
        layout_(*ReserveSignature(*MachO::Parse(original_), 20000)) {
    for (const ByteView part : layout_.Read(0, layout_.signature_offset())) {
      Append(covered_, part);
    }
  }

  // What HashPages should give, computed page by page from a plain copy.
  Bytes Expected(DigestKind kind, size_t page) const {
    Bytes digests;
    for (size_t at = 0; at < covered_.size(); at += page) {
      Append(digests, ComputeDigest(
                          kind, ByteView(covered_).subspan(
                                    at, std::min(page, covered_.size() - at))));
    }
    return digests;
  }

  Bytes original_;
  SliceLayout layout_;
  Bytes covered_;
};

TEST_P(PageHasherTest, EveryDigestOfEveryPage) {
  const size_t page = GetParam() == 0 ? covered_.size() : GetParam();
  const Bytes sha1 = Expected(DigestKind::kSha1, page);
  const Bytes sha256 = Expected(DigestKind::kSha256, page);
  Bytes sha1_out(sha1.size());
  Bytes sha256_out(sha256.size());
  const PageDigests outputs[] = {{DigestKind::kSha1, sha1_out},
                                 {DigestKind::kSha256, sha256_out}};
  HashPages(layout_, GetParam(), outputs);
  EXPECT_EQ(sha1_out, sha1);
  EXPECT_EQ(sha256_out, sha256);
}

TEST_P(PageHasherTest, ReleasesEveryByteOnceAndAfterUse) {
  const size_t page = GetParam() == 0 ? covered_.size() : GetParam();
  Bytes out(Expected(DigestKind::kSha256, page).size());
  const PageDigests outputs[] = {{DigestKind::kSha256, out}};
  std::mutex mutex;
  uint64_t largest = 0;
  std::set<std::pair<uint64_t, uint64_t>> ranges;
  HashPages(layout_, GetParam(), outputs, [&](uint64_t begin, uint64_t size) {
    const std::lock_guard lock(mutex);
    largest = std::max(largest, size);
    ranges.emplace(begin, begin + size);
  });
  EXPECT_LE(largest, uint64_t{1} << 20);
  uint64_t end = 0;
  for (const auto& [from, to] : ranges) {
    EXPECT_EQ(from, end);
    end = to;
  }
  EXPECT_EQ(end, covered_.size());
}

INSTANTIATE_TEST_SUITE_P(Pages, PageHasherTest,
                         ::testing::Values(0u, 4096u, 16384u));

TEST(UnchangedSliceTest, EndsWhereItIsTold) {
  const Bytes slice = BuildMachO({.code_size = 9000});
  const auto layout = SliceLayout::Unchanged(*MachO::Parse(slice), 5000);
  Bytes out(2 * 32);
  const PageDigests outputs[] = {{DigestKind::kSha256, out}};
  HashPages(layout, 4096, outputs);
  Bytes expected =
      ComputeDigest(DigestKind::kSha256, ByteView(slice).first(4096));
  Append(expected, ComputeDigest(DigestKind::kSha256,
                                 ByteView(slice).subspan(4096, 904)));
  EXPECT_EQ(out, expected);
}

}  // namespace
}  // namespace codeseal
