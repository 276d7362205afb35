// Verdicts on real code, signed by Apple's tools, their clones and linkers.

#include "tests/support/corpus.h"

#include <algorithm>

#include "codesign/cms/apple_cms.h"
#include "codesign/cms/trust.h"
#include "codesign/embedded_signature.h"
#include "codesign/macho/universal_file.h"
#include "codesign/verify/verifier.h"
#include "gmock/gmock.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_pki.h"

namespace codeseal {
namespace {

using ::codeseal::testing::CorpusItem;
using ::codeseal::testing::CorpusSlice;
using ::codeseal::testing::CorpusTestName;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::MachOCorpus;

// Items whose signature is in the file itself.
std::vector<CorpusItem> EmbeddedItems() {
  std::vector<CorpusItem> items = MachOCorpus();
  std::erase_if(items, [](const CorpusItem& item) {
    return item.detached_signature.has_value();
  });
  return items;
}

std::vector<CorpusItem> SignedItems() {
  std::vector<CorpusItem> items = EmbeddedItems();
  std::erase_if(items, [](const CorpusItem& item) {
    return item.expected == "unsigned";
  });
  return items;
}

// Items with a CMS that has hash-agility attributes in DER order. Before 2016
// there were none; D30 to D33 have them out of order.
std::vector<CorpusItem> AgileItems() {
  std::vector<CorpusItem> items = SignedItems();
  std::erase_if(items, [](const CorpusItem& item) {
    return (item.id >= "D30" && item.id <= "D33") ||
           std::none_of(item.slices.begin(), item.slices.end(),
                        [](const CorpusSlice& slice) {
                          return slice.signature.has_value() &&
                                 slice.signature->cms.has_value() &&
                                 slice.signature->cms->digest == "sha256";
                        });
  });
  return items;
}

class CorpusVerifyTest : public ::testing::TestWithParam<CorpusItem> {
 protected:
  // Bundles are judged by their main executable alone.
  VerificationReport VerifyItem(const VerifyOptions& options = {}) {
    VerifyOptions used = options;
    used.is_part_of_bundle = GetParam().is_bundle;
    const absl::StatusOr<MappedFile> file =
        MappedFile::Open(GetParam().main_file);
    EXPECT_THAT(file, IsOk());
    const absl::StatusOr<VerificationReport> report = Verify(*file, used);
    EXPECT_THAT(report, IsOk());
    return report.ok() ? *report : VerificationReport();
  }

  static const CorpusSlice& Facts(const SliceReport& slice) {
    const std::vector<CorpusSlice>& slices = GetParam().slices;
    return *std::find_if(slices.begin(), slices.end(),
                         [&slice](const CorpusSlice& candidate) {
                           return candidate.offset == slice.offset;
                         });
  }
};

TEST_P(CorpusVerifyTest, HasTheExpectedVerdict) {
  CODESEAL_NEED_CORPUS_ITEM(GetParam());
  const absl::Status validity = VerifyItem().Validity();
  if (GetParam().expected == "unsigned") {
    EXPECT_THAT(validity, HasReason(v1::REASON_NOT_SIGNED));
  } else if (GetParam().expected == "broken" && !GetParam().is_bundle) {
    EXPECT_THAT(validity, HasReason(v1::REASON_CODE_MODIFIED));
  } else {
    // A broken bundle's fault is in its resources, not in this file.
    EXPECT_THAT(validity, IsOk());
  }
}

TEST_P(CorpusVerifyTest, ReportsTheKnownFacts) {
  CODESEAL_NEED_CORPUS_ITEM(GetParam());
  const VerificationReport report = VerifyItem();
  ASSERT_EQ(report.slices.size(), GetParam().slices.size());
  for (const SliceReport& slice : report.slices) {
    SCOPED_TRACE(slice.architecture);
    const CorpusSlice& facts = Facts(slice);
    if (!facts.signature.has_value()) continue;
    ASSERT_EQ(slice.cdhashes.size(), facts.signature->code_directories.size());
    for (size_t i = 0; i < slice.cdhashes.size(); ++i) {
      EXPECT_EQ(HexEncode(slice.cdhashes[i]),
                facts.signature->code_directories[i].cdhash);
    }
    EXPECT_EQ(slice.identifier,
              facts.signature->code_directories[0].identifier);
    EXPECT_EQ(slice.team_identifier, facts.signature->code_directories[0].team);
    EXPECT_EQ(slice.ad_hoc, facts.state != "cms");
    if (!facts.signature->cms.has_value()) continue;
    const testing::CorpusCms& cms = *facts.signature->cms;
    ASSERT_FALSE(slice.authorities.empty());
    EXPECT_EQ(slice.authorities.front().CommonName(), cms.leaf);
    EXPECT_EQ(slice.trusted, IsAppleRoot(slice.authorities.back()));
    const auto format = [](const std::optional<absl::Time>& time) {
      return time.has_value() ? absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", *time,
                                                 absl::UTCTimeZone())
                              : std::string();
    };
    EXPECT_EQ(format(slice.signing_time), cms.signed_at);
    EXPECT_EQ(format(slice.timestamp), cms.timestamp_at);
  }
}

INSTANTIATE_TEST_SUITE_P(Corpus, CorpusVerifyTest,
                         ::testing::ValuesIn(EmbeddedItems()), CorpusTestName);

class CorpusSignedTest : public CorpusVerifyTest {};

TEST_P(CorpusSignedTest, SatisfiesItsDesignatedRequirement) {
  CODESEAL_NEED_CORPUS_ITEM(GetParam());
  const absl::Status status = VerifyItem().DesignatedRequirement();
  if (GetParam().id == "D16") {
    // Ad-hoc code that another signer gave a requirement on certificates.
    EXPECT_THAT(status, HasReason(v1::REASON_REQUIREMENT_NOT_SATISFIED));
  } else {
    EXPECT_THAT(status, IsOk());
  }
}

INSTANTIATE_TEST_SUITE_P(Corpus, CorpusSignedTest,
                         ::testing::ValuesIn(SignedItems()), CorpusTestName);

class CorpusCmsTest : public CorpusVerifyTest {};

// What we would sign for the same CodeDirectories and time are, byte for byte,
// the attributes that Apple's codesign signed.
TEST_P(CorpusCmsTest, OurSignedAttributesAreApples) {
  CODESEAL_NEED_CORPUS_ITEM(GetParam());
  const absl::StatusOr<MappedFile> file =
      MappedFile::Open(GetParam().main_file);
  ASSERT_THAT(file, IsOk());
  const absl::StatusOr<UniversalFile> universal =
      UniversalFile::Parse(file->bytes());
  ASSERT_THAT(universal, IsOk());
  const testing::TestChain chain = testing::MakeCodeSigningChain();
  const std::vector<Certificate> certificates = chain.certificates();
  int compared_count = 0;
  for (const UniversalFile::Slice& slice : universal->slices()) {
    if (slice.mach_o.Signature().empty()) continue;
    const absl::StatusOr<EmbeddedSignature> signature =
        EmbeddedSignature::Parse(slice.mach_o.Signature());
    ASSERT_THAT(signature, IsOk());
    if (signature->cms().empty()) continue;
    const absl::StatusOr<CmsSignature> stored = ParseAppleCms(signature->cms());
    ASSERT_THAT(stored, IsOk());
    std::vector<CodeDirectoryBlob> blobs;
    for (const CodeDirectory& directory : signature->code_directories()) {
      blobs.push_back({directory.digest_kind(), directory.raw()});
    }
    const absl::StatusOr<Bytes> cms =
        BuildAppleCms({chain.leaf.key(), nullptr, certificates},
                      DescribeContent(blobs), stored->signing_time);
    ASSERT_THAT(cms, IsOk());
    const absl::StatusOr<CmsSignature> ours = ParseAppleCms(*cms);
    ASSERT_THAT(ours, IsOk());
    EXPECT_EQ(ours->signed_attributes, stored->signed_attributes);
    ++compared_count;
  }
  EXPECT_GT(compared_count, 0);
}

INSTANTIATE_TEST_SUITE_P(Corpus, CorpusCmsTest,
                         ::testing::ValuesIn(AgileItems()), CorpusTestName);

// Only Apple's certificates have a Team ID, so only a real chain can tell.
TEST(CorpusTeamTest, ClaimedTeamMustBeTheCertificates) {
  CODESEAL_CORPUS_ITEM(item, "D17");
  const absl::StatusOr<MappedFile> file = MappedFile::Open(item.main_file);
  ASSERT_THAT(file, IsOk());
  const absl::StatusOr<VerificationReport> report = Verify(*file, {});
  ASSERT_THAT(report, IsOk());
  const std::vector<Certificate>& chain = report->slices.front().authorities;
  EXPECT_THAT(CheckTeamIdentifier("HX7739G8FX", chain), IsOk());
  EXPECT_THAT(CheckTeamIdentifier("", chain), IsOk());
  EXPECT_THAT(CheckTeamIdentifier("ABCDE12345", chain),
              HasReason(v1::REASON_TEAM_IDENTIFIER_MISMATCH));
}

}  // namespace
}  // namespace codeseal
