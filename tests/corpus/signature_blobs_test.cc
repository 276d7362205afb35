// The blobs of real signatures against what is known of them, and our writers
// against Apple's: whatever can be rebuilt from what was read must come out
// with the same bytes.

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "codesign/base/mapped_file.h"
#include "codesign/cms/apple_cms.h"
#include "codesign/cms/signed_message.h"
#include "codesign/embedded_signature.h"
#include "codesign/entitlements.h"
#include "codesign/requirement/compiler.h"
#include "codesign/requirement/default_designated.h"
#include "codesign/requirement/evaluator.h"
#include "codesign/requirement/requirement.h"
#include "gmock/gmock.h"
#include "tests/support/corpus.h"
#include "tests/support/status_matchers.h"

namespace codeseal::testing {
namespace {

// Not laid out as Apple does: D16 comes from another signer, D22 from a linker
// that leaves gaps.
bool HasOwnLayout(const CorpusItem& item) {
  return item.id == "D16" || item.id == "D22";
}

// The author, or the other signer, gave a designated requirement.
bool HasOwnRequirement(const CorpusItem& item) {
  return item.id == "D16" || item.id == "D18" || item.id == "D27" ||
         item.id == "D30";
}

class SignatureBlobsTest : public ::testing::TestWithParam<CorpusItem> {
 protected:
  // Calls check(slice, known, signature) for each slice that has a signature.
  template <typename Check>
  void ForEachSignature(Check check) {
    CODESEAL_NEED_CORPUS_ITEM(GetParam());
    const auto file = MappedFile::Open(GetParam().main_file);
    ASSERT_THAT(file, IsOk());
    for (const CorpusSlice& slice : GetParam().slices) {
      if (!slice.signature.has_value()) continue;
      SCOPED_TRACE(GetParam().id + " " + slice.arch);
      const auto signature = EmbeddedSignature::Parse(file->bytes().subspan(
          slice.offset + slice.signature_offset, slice.signature_size));
      ASSERT_THAT(signature, IsOk());
      check(*slice.signature, *signature);
    }
  }
};

TEST_P(SignatureBlobsTest, IndexAndCodeDirectories) {
  ForEachSignature([](const CorpusSignature& known,
                      const EmbeddedSignature& signature) {
    const SuperBlob& super_blob = signature.super_blob();
    EXPECT_EQ(super_blob.CheckPacked().ok(), GetParam().id != "D22");
    EXPECT_EQ(super_blob.raw().size(), known.super_blob_size);
    ASSERT_EQ(super_blob.entries().size(), known.blobs.size());
    std::map<uint32_t, Bytes> blobs;
    for (size_t i = 0; i < known.blobs.size(); ++i) {
      const SuperBlob::Entry& entry = super_blob.entries()[i];
      EXPECT_EQ(entry.slot, known.blobs[i].slot);
      EXPECT_EQ(entry.magic, known.blobs[i].magic);
      EXPECT_EQ(entry.blob.size(), known.blobs[i].size);
      blobs[entry.slot] = ToBytes(entry.blob);
    }
    if (super_blob.CheckPacked().ok()) {
      EXPECT_TRUE(Equal(BuildSuperBlob(kEmbeddedSignatureMagic, blobs),
                        super_blob.raw()));
    }

    ASSERT_EQ(signature.code_directories().size(),
              known.code_directories.size());
    for (size_t i = 0; i < known.code_directories.size(); ++i) {
      const CodeDirectory& directory = signature.code_directories()[i];
      const CorpusCodeDirectory& expected = known.code_directories[i];
      EXPECT_EQ(directory.version(), expected.version);
      EXPECT_EQ(DigestName(directory.digest_kind()), expected.digest);
      EXPECT_EQ(directory.page_size(), expected.page_size);
      EXPECT_EQ(directory.flags(), expected.flags);
      EXPECT_EQ(directory.identifier(), expected.identifier);
      EXPECT_EQ(directory.team_identifier(), expected.team);
      EXPECT_EQ(directory.special_slot_count(), expected.special_slot_count);
      EXPECT_EQ(directory.code_slot_count(), expected.code_slot_count);
      EXPECT_EQ(directory.code_limit(), expected.code_limit);
      EXPECT_EQ(HexEncode(directory.cdhash()), expected.cdhash);
      for (uint32_t slot = kRequirementsSlot; slot <= kLibraryConstraintSlot;
           ++slot) {
        // Slot 3 and files beside the Mach-O are not in the signature.
        if (!MagicOfSlot(slot).has_value()) continue;
        EXPECT_THAT(CheckSpecialSlot(directory, slot, signature.Find(slot)),
                    IsOk());
      }
    }
  });
}

TEST_P(SignatureBlobsTest, CodeDirectoriesRebuild) {
  ForEachSignature([](const CorpusSignature&,
                      const EmbeddedSignature& signature) {
    for (const CodeDirectory& directory : signature.code_directories()) {
      // Versions before scatter vectors are read only.
      if (directory.version() < kCodeDirectoryWithScatter) continue;
      CodeDirectoryFields fields;
      fields.identifier = directory.identifier();
      fields.team_identifier = directory.team_identifier();
      fields.flags = directory.flags();
      fields.digest_kind = directory.digest_kind();
      fields.platform = directory.platform();
      fields.page_size = directory.page_size();
      fields.code_limit = directory.code_limit();
      fields.exec_segment = directory.exec_segment();
      fields.runtime_version = directory.runtime_version();
      fields.pre_encrypt = !directory.pre_encrypt_slots().empty();
      for (uint32_t slot = 1; slot <= directory.special_slot_count(); ++slot) {
        fields.special_slots[slot] =
            ToBytes(*directory.SpecialSlotDigest(slot));
      }
      auto builder = CodeDirectoryBuilder::Create(fields);
      ASSERT_THAT(builder, IsOk());
      std::ranges::copy(directory.code_slots(), builder->code_slots().begin());
      std::ranges::copy(directory.pre_encrypt_slots(),
                        builder->pre_encrypt_slots().begin());
      const Bytes built = (*std::move(builder)).Build();
      const auto [theirs, ours] = std::ranges::mismatch(directory.raw(), built);
      EXPECT_EQ(Equal(built, directory.raw()), !HasOwnLayout(GetParam()))
          << "first difference at "
          << directory.DescribeOffset(
                 static_cast<uint64_t>(theirs - directory.raw().begin()));
    }
  });
}

TEST_P(SignatureBlobsTest, Requirements) {
  ForEachSignature(
      [](const CorpusSignature& known, const EmbeddedSignature& signature) {
        const auto blob = signature.Find(kRequirementsSlot);
        if (!blob.has_value()) {
          EXPECT_TRUE(known.requirements.empty());
          return;
        }
        const auto set = ParseRequirementSet(*blob);
        ASSERT_THAT(set, IsOk());
        EXPECT_TRUE(Equal(BuildRequirementSet(*set), *blob));
        std::vector<std::string> texts;
        for (const auto& [type, requirement] : *set) {
          const auto expression = ParseRequirement(requirement);
          ASSERT_THAT(expression, IsOk());
          EXPECT_EQ(BuildRequirement(*expression), requirement);
          texts.push_back(DumpRequirement(*expression));
          const auto recompiled = CompileRequirement(texts.back());
          ASSERT_THAT(recompiled, IsOk());
          EXPECT_EQ(DumpRequirement(*recompiled), texts.back());
        }
        EXPECT_EQ(texts, known.requirements);
      });
}

TEST_P(SignatureBlobsTest, DefaultDesignatedRequirement) {
  ForEachSignature([](const CorpusSignature&,
                      const EmbeddedSignature& signature) {
    const auto blob = signature.Find(kRequirementsSlot);
    if (signature.cms().empty() || !blob.has_value()) return;
    const auto cms = ParseAppleCms(signature.cms());
    ASSERT_THAT(cms, IsOk());
    const auto chain = BuildChain(cms->signer, cms->certificates);
    ASSERT_THAT(chain, IsOk());
    const auto set = ParseRequirementSet(*blob);
    ASSERT_THAT(set, IsOk());
    ASSERT_TRUE(set->contains(kDesignatedRequirement));
    const Bytes& designated = set->at(kDesignatedRequirement);
    const std::string identifier(signature.best().identifier());

    if (!HasOwnRequirement(GetParam())) {
      EXPECT_EQ(*DumpRequirementBlob(designated),
                DumpRequirement(*BuildDefaultDesignated(identifier, *chain)));
      EXPECT_EQ(HexEncode(BuildRequirement(
                    *BuildDefaultDesignated(identifier, *chain))),
                HexEncode(designated));
    }

    RequirementContext context;
    context.identifier = identifier;
    context.chain = *chain;
    EXPECT_THAT(CheckRequirement(*ParseRequirement(designated), context),
                IsOk());
    context.identifier = "someone else";
    context.chain = {};
    EXPECT_FALSE(CheckRequirement(*ParseRequirement(designated), context).ok());
  });
}

TEST_P(SignatureBlobsTest, Entitlements) {
  ForEachSignature([](const CorpusSignature& known,
                      const EmbeddedSignature& signature) {
    const auto blob = signature.Find(kEntitlementsSlot);
    const auto der_blob = signature.Find(kEntitlementsDerSlot);
    if (!blob.has_value()) {
      EXPECT_FALSE(der_blob.has_value());
      return;
    }
    const auto entitlements = ParseEntitlements(*blob);
    ASSERT_THAT(entitlements, IsOk());
    std::vector<std::string> keys;
    for (const auto& [key, value] : *entitlements) keys.push_back(key);
    EXPECT_THAT(keys, ::testing::UnorderedElementsAreArray(known.entitlements));
    EXPECT_TRUE(Equal(
        *BuildEntitlements(*UnwrapBlob(kEntitlementsMagic, *blob)), *blob));
    if (!der_blob.has_value()) return;
    EXPECT_THAT(CheckEntitlementsAgree(*blob, *der_blob), IsOk());
    constexpr uint8_t kObsoleteForm = 0x31;
    if ((*der_blob)[kBlobHeaderSize] == kObsoleteForm) return;
    EXPECT_EQ(HexEncode(*BuildEntitlementsDer(*entitlements)),
              HexEncode(*der_blob));
  });
}

// Bundles without a Mach-O of their own keep the set in a file.
class DetachedRequirementsTest : public ::testing::TestWithParam<CorpusItem> {};

TEST_P(DetachedRequirementsTest, PrintAsRecorded) {
  const CorpusItem& item = GetParam();
  CODESEAL_NEED_CORPUS_ITEM(item);
  absl::StatusOr<MappedFile> file =
      MappedFile::Open(item.path + "/Contents/_CodeSignature/CodeRequirements");
  if (!file.ok()) {
    file = MappedFile::Open(item.path + "/_CodeSignature/CodeRequirements");
  }
  ASSERT_THAT(file, IsOk());
  const auto set = ParseRequirementSet(file->bytes());
  ASSERT_THAT(set, IsOk());
  EXPECT_TRUE(Equal(BuildRequirementSet(*set), file->bytes()));
  std::vector<std::string> texts;
  for (const auto& [type, requirement] : *set) {
    const auto expression = ParseRequirement(requirement);
    ASSERT_THAT(expression, IsOk());
    texts.push_back(DumpRequirement(*expression));
  }
  EXPECT_EQ(texts, item.detached_signature->requirements);
}

std::vector<CorpusItem> DetachedCorpus() {
  std::vector<CorpusItem> items = Corpus();
  std::erase_if(items, [](const CorpusItem& item) {
    return !item.detached_signature.has_value();
  });
  return items;
}

INSTANTIATE_TEST_SUITE_P(Corpus, DetachedRequirementsTest,
                         ::testing::ValuesIn(DetachedCorpus()), CorpusTestName);

TEST(ProfileTest, OpensAndHoldsItsSignatureAgainstIt) {
  const CorpusItem& item = FindCorpusItem("D45");
  CODESEAL_NEED_CORPUS_ITEM(item);
  const auto file = MappedFile::Open(item.path);
  ASSERT_THAT(file, IsOk());
  const auto message = OpenSignedMessage(file->bytes());
  ASSERT_THAT(message, IsOk());
  EXPECT_THAT(ToString(message->content),
              ::testing::AllOf(::testing::StartsWith("<?xml"),
                               ::testing::HasSubstr("TeamIdentifier")));
  EXPECT_FALSE(message->certificates.empty());

  std::string changed = ToString(file->bytes());
  changed[changed.find("TeamIdentifier")] = 'X';
  EXPECT_THAT(OpenSignedMessage(AsBytes(changed)),
              HasReason(v1::REASON_CMS_SIGNATURE_INVALID));
}

std::vector<CorpusItem> SignedCorpus() {
  std::vector<CorpusItem> items = MachOCorpus();
  std::erase_if(items, [](const CorpusItem& item) {
    return std::ranges::none_of(item.slices, [](const CorpusSlice& slice) {
      return slice.signature.has_value();
    });
  });
  return items;
}

INSTANTIATE_TEST_SUITE_P(Corpus, SignatureBlobsTest,
                         ::testing::ValuesIn(SignedCorpus()), CorpusTestName);

}  // namespace
}  // namespace codeseal::testing
