// Verdicts on real code, signed by Apple's tools, their clones and linkers.

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "codesign/cms/apple_cms.h"
#include "codesign/cms/trust.h"
#include "codesign/embedded_signature.h"
#include "codesign/macho/universal_file.h"
#include "codesign/verify/description.h"
#include "codesign/verify/verifier.h"
#include "gmock/gmock.h"
#include "tests/support/corpus_bundle.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_pki.h"

namespace codeseal {
namespace {

using ::codeseal::testing::CorpusBundle;
using ::codeseal::testing::CorpusItem;
using ::codeseal::testing::CorpusSlice;
using ::codeseal::testing::CorpusTestName;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;

// All that is code: not a provisioning profile, not a disk image.
std::vector<CorpusItem> CodeItems() {
  std::vector<CorpusItem> items = testing::Corpus();
  std::erase_if(items, [](const CorpusItem& item) {
    return item.id == "D45" || item.id == "D49";
  });
  return items;
}

std::vector<CorpusItem> SignedItems() {
  std::vector<CorpusItem> items = CodeItems();
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
           item.detached_signature.has_value() ||
           std::none_of(item.slices.begin(), item.slices.end(),
                        [](const CorpusSlice& slice) {
                          return slice.signature.has_value() &&
                                 slice.signature->cms.has_value() &&
                                 slice.signature->cms->digest == "sha256";
                        });
  });
  return items;
}

VerificationReport VerifyCorpusItem(const CorpusItem& item,
                                    const VerifyOptions& options = {}) {
  const CorpusBundle bundle(item);
  const absl::StatusOr<StoredCode> code = StoredCode::Open(bundle.path());
  EXPECT_THAT(code, IsOk());
  return code.ok() ? Verify(*code, options) : VerificationReport();
}

class CorpusVerifyTest : public ::testing::TestWithParam<CorpusItem> {
 protected:
  VerificationReport VerifyItem(const VerifyOptions& options = {}) {
    return VerifyCorpusItem(GetParam(), options);
  }

  static const CorpusSlice& Facts(const SliceReport& slice) {
    const std::vector<CorpusSlice>& slices = GetParam().slices;
    return *std::find_if(slices.begin(), slices.end(),
                         [&slice](const CorpusSlice& candidate) {
                           return candidate.offset == slice.offset;
                         });
  }
};

TEST_P(CorpusVerifyTest, ReportsTheKnownFacts) {
  CODESEAL_NEED_CORPUS_ITEM(GetParam());
  const VerificationReport report = VerifyItem();
  if (!GetParam().detached_signature.has_value()) {
    ASSERT_EQ(report.slices.size(), GetParam().slices.size());
  }
  for (const SliceReport& slice : report.slices) {
    SCOPED_TRACE(slice.architecture);
    const std::optional<testing::CorpusSignature>& known =
        GetParam().detached_signature.has_value()
            ? GetParam().detached_signature
            : Facts(slice).signature;
    if (!known.has_value()) continue;
    ASSERT_EQ(slice.cdhashes.size(), known->code_directories.size());
    for (size_t i = 0; i < slice.cdhashes.size(); ++i) {
      EXPECT_EQ(HexEncode(slice.cdhashes[i]),
                known->code_directories[i].cdhash);
    }
    EXPECT_EQ(slice.identifier, known->code_directories[0].identifier);
    EXPECT_EQ(slice.team_identifier, known->code_directories[0].team);
    EXPECT_EQ(slice.ad_hoc, !known->cms.has_value());
    if (!known->cms.has_value()) continue;
    const testing::CorpusCms& cms = *known->cms;
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
                         ::testing::ValuesIn(CodeItems()), CorpusTestName);

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

// --- Verdicts ---------------------------------------------------------------

std::string Verdict(const absl::Status& validity) {
  if (validity.ok()) return "intact";
  return GetReason(validity) == v1::REASON_NOT_SIGNED ? "unsigned" : "broken";
}

// Why an item is refused though the corpus calls it intact: all that its seal
// covers is, but strict verification, which is the default of Apple's tool,
// takes no seal of version 1, and none with rules of the author's own.
Reason ObsoleteSeal(const std::string& id) {
  if (id == "D27") return v1::REASON_WEAK_RESOURCE_ENVELOPE;
  if (id == "D44") return v1::REASON_WEAK_RESOURCE_RULES;
  return v1::REASON_UNSPECIFIED;
}

// Why a broken item is.
Reason KnownFault(const std::string& id) {
  return id == "D33" ? v1::REASON_CODE_MODIFIED
                     : v1::REASON_SEALED_RESOURCE_CHANGED;
}

TEST(CorpusVerdictTest, EveryItemHasTheExpectedOne) {
  size_t count = 0;
  for (const CorpusItem& item : testing::Corpus()) {
    SCOPED_TRACE(item.id);
    if (!testing::IsFetched(item)) {
      std::printf("  %-4s was not fetched\n", item.id.c_str());
      EXPECT_FALSE(testing::IsCorpusRequired());
      continue;
    }
    ++count;
    const VerificationReport report = VerifyCorpusItem(item);
    const absl::Status validity = report.Validity();
    std::string verdict = Verdict(validity);
    const Reason obsolete = ObsoleteSeal(item.id);
    if (obsolete != v1::REASON_UNSPECIFIED) {
      EXPECT_THAT(validity, HasReason(obsolete));
      verdict =
          Verdict(VerifyCorpusItem(item, {.is_strict = false}).Validity());
    }
    if (item.expected == "broken") {
      EXPECT_THAT(validity, HasReason(KnownFault(item.id)));
    }
    if (item.id == "D42" || item.id == "D46") {
      ASSERT_TRUE(report.resources.has_value());
      const bool is_d42 = item.id == "D42";
      EXPECT_EQ(report.resources->problems.size(), is_d42 ? 64u : 1u);
      for (const ResourceProblem& problem : report.resources->problems) {
        EXPECT_EQ(problem.change,
                  is_d42 ? ResourceChange::kMissing : ResourceChange::kAdded);
      }
    }
    if (item.id == "D45") {
      // Intact as a CMS; codesign calls a file without a signature unsigned.
      EXPECT_EQ(verdict, "unsigned");
    } else {
      EXPECT_EQ(verdict, item.expected) << validity;
    }
    std::printf("  %-4s %-8s %-46s %s\n", item.id.c_str(), verdict.c_str(),
                report.format.c_str(),
                validity.ok() ? "" : std::string(Message(validity)).c_str());
  }
  if (count == 0) GTEST_SKIP() << "no item was fetched";
}

// --- What is shown ----------------------------------------------------------

struct KnownBundle {
  const char* id;
  const char* format;
  const char* seal;
};

TEST(CorpusDescriptionTest, BundlesAreShownWithTheirSeals) {
  size_t count = 0;
  for (const KnownBundle& known : {
           KnownBundle{"D27", "app bundle with Mach-O thin (x86_64)",
                       "version=1 rules=4 files=4"},
           KnownBundle{"D28", "bundle", "version=2 rules=13 files=46"},
           KnownBundle{"D29", "bundle with generic",
                       "version=2 rules=13 files=0"},
           KnownBundle{"D31",
                       "app bundle with Mach-O universal (i386 ppc7400 x86_64)",
                       "version=2 rules=13 files=10"},
           KnownBundle{"D34", "bundle", "version=2 rules=10 files=30"},
           KnownBundle{"D38", "bundle with Mach-O universal (x86_64 arm64)",
                       "version=2 rules=13 files=53"},
           KnownBundle{"D39", "app bundle with Mach-O universal (x86_64 arm64)",
                       "version=2 rules=10 files=37"},
           KnownBundle{"D44", "app bundle with Mach-O universal (armv7 armv7s)",
                       "version=1 rules=3 files=5"},
       }) {
    SCOPED_TRACE(known.id);
    const CorpusItem& item = testing::FindCorpusItem(known.id);
    if (!testing::IsFetched(item)) {
      EXPECT_FALSE(testing::IsCorpusRequired());
      continue;
    }
    ++count;
    const CorpusBundle bundle(item);
    const absl::StatusOr<StoredCode> code = StoredCode::Open(bundle.path());
    ASSERT_THAT(code, IsOk());
    const CodeDescription description = Describe(*code);
    const std::string text =
        FormatDescription(description, description.slices.front(), 1);
    EXPECT_THAT(text, ::testing::HasSubstr(std::string("\nFormat=") +
                                           known.format + "\n"));
    EXPECT_THAT(text, ::testing::HasSubstr(std::string("\nSealed Resources ") +
                                           known.seal + "\n"));
    EXPECT_THAT(text, ::testing::HasSubstr("\nInfo.plist entries="));
  }
  if (count == 0) GTEST_SKIP() << "no item was fetched";
}

// Only Apple's certificates have a Team ID, so only a real chain can tell.
TEST(CorpusTeamTest, ClaimedTeamMustBeTheCertificates) {
  CODESEAL_CORPUS_ITEM(item, "D17");
  const VerificationReport report = VerifyCorpusItem(item);
  const std::vector<Certificate>& chain = report.slices.front().authorities;
  EXPECT_THAT(CheckTeamIdentifier("HX7739G8FX", chain), IsOk());
  EXPECT_THAT(CheckTeamIdentifier("", chain), IsOk());
  EXPECT_THAT(CheckTeamIdentifier("ABCDE12345", chain),
              HasReason(v1::REASON_TEAM_IDENTIFIER_MISMATCH));
}

}  // namespace
}  // namespace codeseal
