// Two strangers read the same code: `openssl cms` judges the CMS signatures,
// LLVM reads the Mach-O files. Where they can judge they must agree with us;
// every disagreement is listed here with its reason, and one that is no more
// must leave the list.

#include <algorithm>
#include <cstdio>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "codesign/cms/apple_cms.h"
#include "codesign/embedded_signature.h"
#include "codesign/macho/universal_file.h"
#include "codesign/verify/verifier.h"
#include "gmock/gmock.h"
#include "tests/support/corpus_bundle.h"
#include "tests/support/signed_code.h"
#include "tests/support/status_matchers.h"
#include "tests/support/subprocess.h"

namespace codeseal {
namespace {

using ::codeseal::testing::CorpusBundle;
using ::codeseal::testing::CorpusItem;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::RunProgram;
using ::codeseal::testing::TempFolder;

constexpr char kObjdump[] = "llvm-objdump-19";
constexpr char kObjcopy[] = "llvm-objcopy-19";

struct Disagreement {
  const char* id;
  const char* why;
};

// Of OpenSSL: it hashes the signed attributes after it has encoded them anew,
// as DER, and RFC 5652 (section 5.4) is on its side. These hold the values of
// the second hash-agility attribute out of DER's order. Apple hashes what is
// stored, as we do, and macOS takes this code.
constexpr Disagreement kOpenSslDisagrees[] = {
    {"D28", "attribute values out of order"},
    {"D29", "attribute values out of order"},
    {"D30", "attribute values out of order"},
    {"D31", "attribute values out of order"},
    {"D32", "attribute values out of order"},
    {"D33",
     "attribute values out of order; its CMS is intact, its page is not"},
};

// --- OpenSSL ----------------------------------------------------------------

// Whether `openssl cms` takes `cms` for a signature of `content`. Chains are
// not its business here: times and Apple's marker extensions are ours to judge.
bool OpenSslTakes(const TempFolder& folder, ByteView cms, ByteView content) {
  const std::string signature = folder.Write("cms", AsText(cms));
  const std::string signed_file = folder.Write("content", AsText(content));
  return RunProgram({"openssl", "cms", "-verify", "-inform", "DER", "-binary",
                     "-noverify", "-in", signature, "-content", signed_file,
                     "-out", folder.Path("out")})
             .exit_code == 0;
}

bool WeTake(ByteView cms, const EmbeddedSignature& signature) {
  std::vector<CodeDirectoryBlob> blobs;
  for (const CodeDirectory& directory : signature.code_directories()) {
    blobs.push_back({directory.digest_kind(), directory.raw()});
  }
  CmsContent content = DescribeContent(blobs);
  content.sha1_message_digest =
      ComputeDigest(DigestKind::kSha1, signature.primary().raw());
  return VerifyAppleCms(cms, content).ok();
}

TEST(OpenSslAgreementTest, CmsSignatures) {
  const TempFolder folder;
  std::set<std::string> disagree;
  size_t count = 0;
  for (const CorpusItem& item : testing::Corpus()) {
    if (!testing::IsFetched(item)) {
      EXPECT_FALSE(testing::IsCorpusRequired()) << item.id;
      continue;
    }
    const CorpusBundle bundle(item);
    const absl::StatusOr<StoredCode> code = StoredCode::Open(bundle.path());
    ASSERT_THAT(code, IsOk());
    for (const CodePart& part : code->parts()) {
      if (part.signature.empty()) continue;
      const absl::StatusOr<EmbeddedSignature> signature =
          EmbeddedSignature::Parse(part.signature);
      ASSERT_THAT(signature, IsOk());
      if (signature->cms().empty()) continue;
      ++count;
      SCOPED_TRACE(item.id + " " + part.architecture);
      const ByteView content = signature->primary().raw();
      EXPECT_TRUE(WeTake(signature->cms(), *signature));
      if (!OpenSslTakes(folder, signature->cms(), content)) {
        disagree.insert(item.id);
      }
      // Of other content it is nobody's signature.
      Bytes changed = ToBytes(content);
      changed.back() ^= 1;
      EXPECT_FALSE(OpenSslTakes(folder, signature->cms(), changed));
    }
  }
  if (count == 0) GTEST_SKIP() << "no item was fetched";
  std::set<std::string> listed;
  for (const Disagreement& each : kOpenSslDisagrees) {
    std::printf("  %s  openssl refuses, we take: %s\n", each.id, each.why);
    listed.insert(each.id);
  }
  std::printf("  %zu CMS signatures\n", count);
  EXPECT_EQ(disagree, listed);
}

// What we sign, and what we refuse.
TEST(OpenSslAgreementTest, OurOwnSignatures) {
  const TempFolder folder;
  for (const testing::KeyType key :
       {testing::KeyType::kP256, testing::KeyType::kP384,
        testing::KeyType::kRsa2048}) {
    const testing::TestChain chain = testing::MakeCodeSigningChain(key);
    testing::SignedCode code;
    code.chain = &chain;
    code.digests = {DigestKind::kSha1, DigestKind::kSha256};
    const Bytes file = BuildSignedCode(code);
    const absl::StatusOr<MachO> mach_o = MachO::Parse(file);
    ASSERT_THAT(mach_o, IsOk());
    const absl::StatusOr<EmbeddedSignature> signature =
        EmbeddedSignature::Parse(mach_o->Signature());
    ASSERT_THAT(signature, IsOk());
    const ByteView content = signature->primary().raw();
    EXPECT_TRUE(OpenSslTakes(folder, signature->cms(), content));
    // Bytes of the signed attributes and of the signature itself.
    const absl::StatusOr<CmsSignature> parsed = ParseAppleCms(signature->cms());
    ASSERT_THAT(parsed, IsOk());
    for (const ByteView part : {ByteView(parsed->signed_attributes).subspan(1),
                                ByteView(parsed->signature_value)}) {
      Bytes changed = ToBytes(signature->cms());
      const auto found =
          std::search(changed.begin(), changed.end(), part.begin(), part.end());
      ASSERT_NE(found, changed.end());
      found[static_cast<ptrdiff_t>(part.size()) - 1] ^= 1;
      EXPECT_FALSE(OpenSslTakes(folder, changed, content));
      EXPECT_FALSE(WeTake(changed, *signature));
    }
  }
}

// --- LLVM -------------------------------------------------------------------

// The numbers behind `key` in LLVM's listing, in order.
std::vector<uint64_t> NumbersBehind(const std::string& listing,
                                    const std::string& key) {
  std::vector<uint64_t> numbers;
  for (const absl::string_view line : absl::StrSplit(listing, '\n')) {
    const std::vector<std::string> words =
        absl::StrSplit(line, ' ', absl::SkipEmpty());
    uint64_t number = 0;
    if (words.size() >= 2 && words[0] == key &&
        absl::SimpleAtoi(words[1], &number)) {
      numbers.push_back(number);
    }
  }
  return numbers;
}

// LC_CODE_SIGNATURE of each slice: offset and size; {0, 0} for none.
using Places = std::vector<std::pair<uint64_t, uint64_t>>;

Places PlacesForLlvm(const std::string& path) {
  const std::string listing =
      RunProgram(
          {kObjdump, "--macho", "--private-headers", "--arch", "all", path})
          .out;
  Places places;
  bool is_signature = false;
  for (const absl::string_view line : absl::StrSplit(listing, '\n')) {
    const std::vector<std::string> words =
        absl::StrSplit(line, ' ', absl::SkipEmpty());
    if (words.empty()) continue;
    uint64_t number = 0;
    if (words[0] == "Mach") places.emplace_back();
    if (words[0] == "cmd" && words.size() > 1) {
      is_signature = words[1] == "LC_CODE_SIGNATURE";
    }
    if (!is_signature || places.empty() || words.size() < 2 ||
        !absl::SimpleAtoi(words[1], &number)) {
      continue;
    }
    if (words[0] == "dataoff") places.back().first = number;
    if (words[0] == "datasize") places.back().second = number;
  }
  return places;
}

TEST(LlvmAgreementTest, SlicesAndPlacesOfSignatures) {
  size_t count = 0;
  for (const CorpusItem& item : testing::MachOCorpus()) {
    if (!testing::IsFetched(item)) {
      EXPECT_FALSE(testing::IsCorpusRequired()) << item.id;
      continue;
    }
    ++count;
    SCOPED_TRACE(item.id);
    const absl::StatusOr<MappedFile> file = MappedFile::Open(item.main_file);
    ASSERT_THAT(file, IsOk());
    const absl::StatusOr<UniversalFile> universal =
        UniversalFile::Parse(file->bytes());
    if (GetReason(universal.status()) == v1::REASON_NOT_MACH_O) {
      std::printf("  %s  static libraries, no Mach-O\n", item.id.c_str());
      --count;
      continue;
    }
    ASSERT_THAT(universal, IsOk());
    Places ours;
    std::vector<uint64_t> offsets;
    std::vector<uint64_t> sizes;
    for (const UniversalFile::Slice& slice : universal->slices()) {
      const ByteView place = slice.mach_o.Signature();
      ours.emplace_back(
          place.data() == nullptr ? 0 : slice.mach_o.SigningLimit(),
          place.size());
      offsets.push_back(slice.offset);
      sizes.push_back(slice.mach_o.raw().size());
    }
    EXPECT_EQ(PlacesForLlvm(item.main_file), ours);
    const std::string listing =
        RunProgram({kObjdump, "--macho", "--universal-headers", item.main_file})
            .out;
    if (ours.size() > 1) {
      EXPECT_EQ(NumbersBehind(listing, "offset"), offsets);
      EXPECT_EQ(NumbersBehind(listing, "size"), sizes);
    }
  }
  if (count == 0) GTEST_SKIP() << "no item was fetched";
  std::printf("  %zu files\n", count);
}

// What LLVM signs when it copies code that a linker signed.
TEST(LlvmAgreementTest, SignaturesThatLlvmMakesAreValid) {
  const TempFolder folder;
  size_t count = 0;
  for (const CorpusItem& item : testing::MachOCorpus()) {
    const bool is_linkers = item.slices.size() == 1 &&
                            item.slices[0].state == "linker-signed" &&
                            item.size < 4'000'000 && !item.is_bundle;
    if (!is_linkers || !testing::IsFetched(item)) continue;
    SCOPED_TRACE(item.id);
    const std::string copy = folder.Path(item.id);
    if (RunProgram({kObjcopy, item.main_file, copy}).exit_code != 0) {
      std::printf("  %s  LLVM cannot copy it\n", item.id.c_str());
      continue;
    }
    ++count;
    const absl::StatusOr<StoredCode> code = StoredCode::Open(copy);
    ASSERT_THAT(code, IsOk());
    EXPECT_THAT(Verify(*code, {}).Validity(), IsOk());
  }
  if (count == 0) GTEST_SKIP() << "no item was fetched";
}

struct Malformed {
  const char* name;
  std::function<void(Bytes&)> damage;
  // Empty: LLVM refuses it as well.
  const char* why_llvm_takes_it;
};

// Files that we refuse to open. A universal file has its slices at 4096 and
// behind.
TEST(LlvmAgreementTest, MalformedFiles) {
  testing::SignedCode intel;
  intel.mach_o.architecture = testing::kX86_64;
  const Bytes good = testing::BuildUniversal(
      {.slices = {{testing::kX86_64, BuildSignedCode(intel)},
                  {testing::kArm64, testing::BuildSignedCode({})}},
       .align_log2 = 14});
  const size_t first = BigEndianReader(ByteView(good).subspan(16)).U32();
  const size_t second = BigEndianReader(ByteView(good).subspan(36)).U32();
  const std::vector<Malformed> cases = {
      {"SlicesOverlap",
       [first](Bytes& file) {
         StoreU32(file, 36, static_cast<uint32_t>(first), ByteOrder::kBig);
       },
       ""},
      {"SliceBehindTheEnd",
       [](Bytes& file) { StoreU32(file, 36, 0x7fffc000, ByteOrder::kBig); },
       ""},
      {"SliceOnTheHeader",
       [](Bytes& file) { StoreU32(file, 16, 0, ByteOrder::kBig); }, ""},
      {"SameArchitectureTwice",
       [](Bytes& file) {
         for (size_t i = 0; i < 8; ++i) file[28 + i] = file[8 + i];
       },
       ""},
      {"LoadCommandOfNoSize",
       [second](Bytes& file) {
         StoreU32(file, second + 36, 0, ByteOrder::kLittle);
       },
       ""},
      {"MoreLoadCommandsThanThereAre",
       [second](Bytes& file) {
         StoreU32(file, second + 16, 200, ByteOrder::kLittle);
       },
       ""},
      {"LoadCommandsBehindTheEnd",
       [second](Bytes& file) {
         StoreU32(file, second + 20, 0x7fffffff, ByteOrder::kLittle);
       },
       ""},
      {"CutShort", [second](Bytes& file) { file.resize(second + 2000); }, ""},
  };
  const TempFolder folder;
  const auto llvm_takes = [&folder](ByteView file) {
    return RunProgram({kObjdump, "--macho", "--private-headers", "--arch",
                       "all", folder.Write("file", AsText(file))})
               .exit_code == 0;
  };
  EXPECT_TRUE(llvm_takes(good));
  EXPECT_THAT(UniversalFile::Parse(good), IsOk());
  for (const Malformed& each : cases) {
    SCOPED_TRACE(each.name);
    Bytes file = good;
    each.damage(file);
    EXPECT_FALSE(UniversalFile::Parse(file).ok());
    const bool disagrees = llvm_takes(file);
    EXPECT_EQ(disagrees, std::string(each.why_llvm_takes_it) != "");
    std::printf("  %-30s %s\n", each.name,
                disagrees ? each.why_llvm_takes_it : "both refuse");
  }
}

}  // namespace
}  // namespace codeseal
