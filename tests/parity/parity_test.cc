#include <filesystem>

#include "codesign/embedded_signature.h"
#include "codesign/macho/universal_file.h"
#include "codesign/signing_plan.h"
#include "gtest/gtest.h"
#include "tests/parity/comparison.h"
#include "tests/support/corpus.h"
#include "tests/support/status_matchers.h"

namespace codeseal::parity {
namespace {

using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;

std::string Name(const ::testing::TestParamInfo<const char*>& each) {
  return each.param;
}

// Code of Apple's codesign, from 2020 to macOS 26, with all that goes with it.
class IdenticalTest : public ::testing::TestWithParam<const char*> {};

TEST_P(IdenticalTest, EveryByteIsApples) {
  CODESEAL_CORPUS_ITEM(item, GetParam());
  const auto comparison = CompareWithApple(item.main_file);
  ASSERT_THAT(comparison, IsOk());
  EXPECT_EQ(comparison->slices.size(), item.slices.size());
  for (const SliceComparison& slice : comparison->slices) {
    EXPECT_GE(slice.components.size(), 4u);
    for (const Component& component : slice.components) {
      EXPECT_TRUE(component.identical) << component.name;
    }
  }
  EXPECT_TRUE(comparison->IsIdentical()) << FormatText(*comparison);
}

INSTANTIATE_TEST_SUITE_P(Corpus, IdenticalTest,
                         ::testing::Values("D11", "D12", "D14", "D15", "D17",
                                           "D18", "D21", "D23", "D24", "D25",
                                           "D26", "D27", "D30", "D31", "D32",
                                           "D37", "D38", "D40", "D43", "D44",
                                           "D46"),
                         Name);

// Code whose bytes can't come out the same, and why.
struct Explained {
  const char* id;
  const char* reason;  // in the report
};

class ExplainedTest : public ::testing::TestWithParam<Explained> {};

TEST_P(ExplainedTest, DifferenceHasCheckedReason) {
  CODESEAL_CORPUS_ITEM(item, GetParam().id);
  const auto comparison = CompareWithApple(item.main_file);
  ASSERT_THAT(comparison, IsOk());
  EXPECT_FALSE(comparison->IsIdentical());
  EXPECT_TRUE(comparison->IsExplained()) << FormatText(*comparison);
  EXPECT_THAT(FormatText(*comparison), ::testing::HasSubstr(GetParam().reason));
}

INSTANTIATE_TEST_SUITE_P(
    Corpus, ExplainedTest,
    ::testing::Values(Explained{"D13", "in the form of macOS 11"},
                      Explained{"D16", "not made by Apple's codesign"},
                      Explained{"D20", "signed with different options"},
                      Explained{"D33", "changed after it had been signed"},
                      Explained{"D39", "leftover bytes"},
                      Explained{"D41", "leftover bytes"},
                      Explained{"D42", "leftover bytes"}),
    [](const auto& each) { return std::string(each.param.id); });

// What codesign called these when nobody gave it a name, on that machine.
struct Named {
  const char* id;
  CpuType host_cpu;
};

class IdentifierTest : public ::testing::TestWithParam<Named> {};

TEST_P(IdentifierTest, IsChosenAsAppleChoseIt) {
  CODESEAL_CORPUS_ITEM(item, GetParam().id);
  auto file = MappedFile::Open(item.main_file);
  ASSERT_THAT(file, IsOk());
  SigningOptions options;
  options.force = true;
  options.host_cpu = GetParam().host_cpu;
  const auto plan = SigningPlan::Create(*std::move(file), options, {});
  ASSERT_THAT(plan, IsOk());
  EXPECT_EQ(plan->identifier(),
            item.slices[0].signature->code_directories[0].identifier);
}

INSTANTIATE_TEST_SUITE_P(Corpus, IdentifierTest,
                         ::testing::Values(Named{"D11", CpuType::kArm64},
                                           Named{"D12", CpuType::kX86_64},
                                           Named{"D13", CpuType::kX86_64},
                                           Named{"D37", CpuType::kArm64}),
                         [](const auto& each) {
                           return std::string(each.param.id);
                         });

// Whatever Mach-O there is can be signed ad-hoc, and doing so twice, or after
// stripping, gives the same bytes.
class AnyMachOTest
    : public ::testing::TestWithParam<::codeseal::testing::CorpusItem> {};

TEST_P(AnyMachOTest, SigningIsRepeatable) {
  CODESEAL_NEED_CORPUS_ITEM(GetParam());
  namespace fs = std::filesystem;
  std::string folder =
      (fs::temp_directory_path() / "codeseal-parity-XXXXXX").string();
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  const fs::path source = GetParam().main_file;
  const std::string path = folder + "/" + source.filename().string();
  const auto sign = [&](const std::string& from) -> absl::StatusOr<Bytes> {
    SigningOptions options;
    options.force = true;
    // Without LC_UUID the name that is chosen changes with the load commands.
    options.identifier = "same.name";
    ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(from));
    ASSIGN_OR_RETURN(const SigningPlan plan,
                     SigningPlan::Create(std::move(file), options, {}));
    RETURN_IF_ERROR(plan.WriteSigned(path, {}));
    ASSIGN_OR_RETURN(const MappedFile written, MappedFile::Open(path));
    ASSIGN_OR_RETURN(const UniversalFile universal,
                     UniversalFile::Parse(written.bytes()));
    RETURN_IF_ERROR(universal.CheckStrictStructure());
    return ToBytes(written.bytes());
  };

  const auto first = sign(source.string());
  if (GetParam().id == "D29") {  // MH_OBJECT
    EXPECT_THAT(first, HasReason(v1::REASON_UNSUPPORTED_FILE_TYPE));
  } else if (GetParam().id == "D36") {  // static libraries
    EXPECT_THAT(first, HasReason(v1::REASON_NOT_MACH_O));
  } else {
    ASSERT_THAT(first, IsOk());
    const auto again = sign(path);
    ASSERT_THAT(again, IsOk());
    EXPECT_TRUE(*again == *first);
    ASSERT_THAT(StripSignature(path), IsOk());
    const auto after_strip = sign(path);
    ASSERT_THAT(after_strip, IsOk());
    // Stripping loses what an earlier signature left behind, nothing else.
    EXPECT_EQ(after_strip->size(), first->size());
    const auto covered = [](const Bytes& file) {
      const auto universal = UniversalFile::Parse(file);
      std::vector<CdHash> cdhashes;
      for (const auto& slice : universal->slices()) {
        cdhashes.push_back(EmbeddedSignature::Parse(slice.mach_o.Signature())
                               ->primary()
                               .cdhash());
      }
      return cdhashes;
    };
    EXPECT_EQ(covered(*after_strip), covered(*first));
  }
  fs::remove_all(folder);
}

INSTANTIATE_TEST_SUITE_P(
    Corpus, AnyMachOTest,
    ::testing::ValuesIn(::codeseal::testing::MachOCorpus()),
    ::codeseal::testing::CorpusTestName);

}  // namespace
}  // namespace codeseal::parity
