// Verdicts on real code, signed by Apple's tools, their clones and linkers.

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "codesign/cms/apple_cms.h"
#include "codesign/cms/signed_message.h"
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

// What is known of every item: Apple's verdict, as corpus.json has it, and why.
// `why` lists what must fail, in Apple's order: the slice and the check, for
// resources how many of each kind. Empty: nothing.
struct KnownVerdict {
  const char* id;
  const char* verdict;  // "intact", "unsigned" or "broken"
  Reason reason;        // of the first failure
  const char* why;
};

constexpr Reason kNothing = v1::REASON_UNSPECIFIED;
constexpr Reason kNotSigned = v1::REASON_NOT_SIGNED;
constexpr Reason kResource = v1::REASON_SEALED_RESOURCE_CHANGED;

constexpr KnownVerdict kKnownVerdicts[] = {
    {"D01", "unsigned", kNotSigned, "x86_64 signed"},
    {"D02", "unsigned", kNotSigned, "i386 signed"},
    // One slice is not signed, and every one is verified by default.
    {"D03", "unsigned", kNotSigned, "x86_64 signed"},
    {"D04", "unsigned", kNotSigned, "x86_64 signed"},
    {"D05", "intact", kNothing, ""},
    {"D06", "intact", kNothing, ""},
    {"D07", "unsigned", kNotSigned, "x86_64 signed"},
    {"D08", "intact", kNothing, ""},
    {"D09", "unsigned", kNotSigned, "arm64 signed"},
    {"D10", "intact", kNothing, ""},
    {"D11", "intact", kNothing, ""},
    {"D12", "intact", kNothing, ""},
    {"D13", "intact", kNothing, ""},
    {"D14", "intact", kNothing, ""},
    {"D15", "intact", kNothing, ""},
    {"D16", "intact", kNothing, ""},
    {"D17", "intact", kNothing, ""},
    {"D18", "intact", kNothing, ""},
    {"D19", "intact", kNothing, ""},
    {"D20", "intact", kNothing, ""},
    {"D21", "intact", kNothing, ""},
    {"D22", "intact", kNothing, ""},
    {"D23", "intact", kNothing, ""},
    {"D24", "intact", kNothing, ""},
    {"D25", "intact", kNothing, ""},
    {"D26", "intact", kNothing, ""},
    {"D27", "intact", kNothing, ""},  // see kObsoleteSeals
    {"D28", "intact", kNothing, ""},
    {"D29", "intact", kNothing, ""},
    {"D30", "intact", kNothing, ""},
    {"D31", "intact", kNothing, ""},
    {"D32", "intact", kNothing, ""},
    // Page 0 was changed after signing, in every slice.
    {"D33", "broken", v1::REASON_CODE_MODIFIED,
     "i386 code-pages, i386 code-pages, ppc7400 code-pages, ppc7400 "
     "code-pages, x86_64 code-pages, x86_64 code-pages, ppc64 code-pages, "
     "ppc64 code-pages"},
    {"D34", "intact", kNothing, ""},
    {"D35", "intact", kNothing, ""},
    {"D36", "intact", kNothing, ""},
    {"D37", "intact", kNothing, ""},
    {"D38", "intact", kNothing, ""},
    {"D39", "intact", kNothing, ""},
    {"D40", "intact", kNothing, ""},
    {"D41", "intact", kNothing, ""},
    // Headers and Modules were stripped when it was embedded.
    {"D42", "broken", kResource, "resources: 64 missing"},
    {"D43", "intact", kNothing, ""},
    {"D44", "intact", kNothing, ""},  // see kObsoleteSeals
    {"D45", "intact", kNothing, ""},  // a signed message, no code
    {"D46", "broken", kResource, "resources: 1 added"},
    // A linker signed the other slice, and nobody the bundle; what should be a
    // link, Versions/Current, is a copy.
    {"D47", "unsigned", kNotSigned, "x86_64 signed, bundle-shape"},
    {"D48", "unsigned", kNotSigned, "x86_64 signed"},
    {"D49", "unsigned", kNotSigned, "signed"},
};

// Where our default answer is not the corpus's, which only asks whether what
// was sealed is intact. Apple's codesign verifies strictly by default, and
// strict verification refuses a seal of version 1
// (errSecCSWeakResourceEnvelope) and rules with gaps
// (errSecCSWeakResourceRules) before it looks at any file. That nothing else is
// wrong is shown by --no-strict.
struct ObsoleteSeal {
  const char* id;
  Reason reason;
  const AppleError& apple_error;
};
const ObsoleteSeal kObsoleteSeals[] = {
    {"D27", v1::REASON_WEAK_RESOURCE_ENVELOPE, kErrWeakResourceEnvelope},
    {"D44", v1::REASON_WEAK_RESOURCE_RULES, kErrWeakResourceRules},
};

// "x86_64 signed, resources: 64 missing": every check that failed.
std::string Why(const VerificationReport& report) {
  std::string why;
  const auto add = [&why](const std::string& text) {
    why += (why.empty() ? "" : ", ") + text;
  };
  for (const SliceReport& slice : report.slices) {
    for (const Check& check : slice.checks) {
      if (check.outcome != CheckOutcome::kFailed ||
          check.name == kCheckDesignatedRequirement) {
        continue;
      }
      add((slice.architecture.empty() ? "" : slice.architecture + " ") +
          check.name);
    }
  }
  for (const Check& check : report.checks) {
    if (check.outcome != CheckOutcome::kFailed) continue;
    if (check.name != kCheckResources) {
      add(check.name);
      continue;
    }
    size_t counts[4] = {};
    for (const ResourceProblem& problem : report.resources->problems) {
      ++counts[static_cast<size_t>(problem.change)];
    }
    static constexpr const char* kWords[] = {"added", "modified", "missing",
                                             "bad"};
    for (size_t i = 0; i < 4; ++i) {
      if (counts[i] == 0) continue;
      add("resources: " + std::to_string(counts[i]) + " " + kWords[i]);
    }
  }
  return why;
}

struct Verdict {
  std::string verdict;
  Reason reason = kNothing;
  std::string why;
};

Verdict VerdictOf(const VerificationReport& report) {
  const absl::Status validity = report.Validity();
  const Reason reason = GetReason(validity);
  return {validity.ok()          ? "intact"
          : reason == kNotSigned ? "unsigned"
                                 : "broken",
          reason, Why(report)};
}

// A provisioning profile is a signed message. As code it is not signed.
Verdict VerdictOfProfile(const CorpusItem& item) {
  const VerificationReport report = VerifyCorpusItem(item);
  EXPECT_THAT(report.Validity(), HasReason(kNotSigned));
  const absl::StatusOr<MappedFile> file = MappedFile::Open(item.main_file);
  EXPECT_THAT(file, IsOk());
  const absl::StatusOr<SignedMessage> message =
      OpenSignedMessage(file->bytes());
  EXPECT_THAT(message, IsOk());
  Bytes changed = ToBytes(file->bytes());
  changed[changed.size() / 2] ^= 1;
  EXPECT_FALSE(OpenSignedMessage(changed).ok());
  return {message.ok() ? "intact" : "broken", GetReason(message.status()), ""};
}

// The table of all items, with what is expected and what is found; any
// difference fails.
TEST(CorpusVerdictTest, EveryItemHasTheExpectedOneForTheExpectedReason) {
  ASSERT_EQ(testing::Corpus().size(), std::size(kKnownVerdicts));
  std::printf("  item expected verdict  default answer\n");
  size_t count = 0;
  for (size_t i = 0; i < std::size(kKnownVerdicts); ++i) {
    const KnownVerdict& known = kKnownVerdicts[i];
    const CorpusItem& item = testing::Corpus()[i];
    SCOPED_TRACE(item.id);
    ASSERT_EQ(item.id, known.id);
    EXPECT_EQ(item.expected, known.verdict);
    if (!testing::IsFetched(item)) {
      std::printf("  %-4s was not fetched\n", item.id.c_str());
      EXPECT_FALSE(testing::IsCorpusRequired());
      continue;
    }
    ++count;
    std::string answer = "the same";
    Verdict found;
    const auto* const obsolete = std::find_if(
        std::begin(kObsoleteSeals), std::end(kObsoleteSeals),
        [&item](const ObsoleteSeal& each) { return each.id == item.id; });
    if (item.id == "D45") {
      found = VerdictOfProfile(item);
      answer = "as code: not signed at all";
    } else if (obsolete != std::end(kObsoleteSeals)) {
      const VerificationReport strict = VerifyCorpusItem(item);
      EXPECT_EQ(Why(strict), kCheckResourceSeal);
      EXPECT_THAT(strict.Validity(), HasReason(obsolete->reason));
      EXPECT_EQ(strict.FirstFailure()->apple_error, obsolete->apple_error);
      answer = std::string(Message(strict.Validity()));
      found = VerdictOf(VerifyCorpusItem(item, {.is_strict = false}));
    } else {
      found = VerdictOf(VerifyCorpusItem(item));
    }
    const bool is_same = found.verdict == known.verdict &&
                         found.reason == known.reason && found.why == known.why;
    std::printf(
        "  %-4s %-8s %-8s %-9s %s\n", item.id.c_str(), known.verdict,
        found.verdict.c_str(), is_same ? answer.c_str() : "DIFFERENT",
        known.reason == kNothing
            ? ""
            : (v1::Reason_Name(found.reason) + ": " + found.why).c_str());
    EXPECT_EQ(found.verdict, known.verdict);
    EXPECT_EQ(v1::Reason_Name(found.reason), v1::Reason_Name(known.reason));
    EXPECT_EQ(found.why, known.why);
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

// An Apple chain is needed, and Apple's keys sign nothing for a test: real code
// with another timestamp.
TEST(CorpusTrustTest, TR2_ApplesSignerNeedsApplesTimestamp) {
  CODESEAL_CORPUS_ITEM(item, "D17");
  const VerificationReport report = VerifyCorpusItem(item);
  const SliceReport& slice = report.slices.front();
  ASSERT_TRUE(slice.timestamp.has_value());
  Timestamp timestamp;
  timestamp.time = *slice.timestamp;
  timestamp.chain = slice.authorities;  // as good as its authority's: Apple's
  SignerPolicy policy;
  policy.now = absl::Now();
  const auto judge = [&] {
    return JudgeSigner({slice.authorities.front(),
                        slice.authorities,
                        slice.signing_time,
                        timestamp,
                        {}},
                       policy);
  };
  EXPECT_THAT(judge().status(), IsOk());
  EXPECT_TRUE(judge().trusted);
  timestamp.chain = testing::MakeCodeSigningChain().certificates();
  EXPECT_THAT(judge().status(), HasReason(v1::REASON_CHAIN_NOT_TRUSTED));
  EXPECT_FALSE(judge().trusted);
}

}  // namespace
}  // namespace codeseal
