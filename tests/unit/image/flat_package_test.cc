#include "codesign/image/flat_package.h"

#include "codesign/image/package_info.h"
#include "gmock/gmock.h"
#include "tests/support/package_builder.h"
#include "tests/support/rule_matcher.h"
#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

using ::codeseal::testing::HasReason;
using ::codeseal::testing::HasRule;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::JoinPackage;
using ::codeseal::testing::MakePackage;
using ::codeseal::testing::MakePackageParts;
using ::codeseal::testing::PackageParts;
using ::testing::ElementsAre;

// The package with `from` in its table replaced once.
std::string Edited(const std::string& from, const std::string& to) {
  PackageParts parts = MakePackageParts();
  const size_t at = parts.xml.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  parts.xml.replace(at, from.size(), to);
  return JoinPackage(parts);
}

// A signature element that is complete.
std::string SignatureElement(const std::string& name, const std::string& style,
                             uint64_t offset, uint64_t size) {
  return "<" + name + " style=\"" + style + "\"><offset>" +
         std::to_string(offset) + "</offset><size>" + std::to_string(size) +
         "</size><KeyInfo><X509Data><X509Certificate>AQID</X509Certificate>"
         "</X509Data></KeyInfo></" +
         name + ">";
}

TEST(FlatPackageTest, ReadsFilesAndChecksum) {
  for (const bool sha256 : {false, true}) {
    testing::PackageSpec spec;
    spec.sha256 = sha256;
    const std::string file = MakePackage(spec);
    const absl::StatusOr<FlatPackage> package =
        FlatPackage::Parse(AsBytes(file));
    ASSERT_THAT(package, IsOk());
    std::vector<std::string> paths;
    for (const PackageFile& each : package->table().files()) {
      paths.push_back(each.path);
    }
    EXPECT_THAT(paths, ElementsAre("Distribution", "Tool.pkg",
                                   "Tool.pkg/PackageInfo", "Tool.pkg/Payload"));
    EXPECT_TRUE(package->table().signatures().empty());
    EXPECT_EQ(package->content_offset(), sha256 ? 32u : 20u);
    EXPECT_FALSE(package->has_ticket());
    EXPECT_THAT(package->CheckChecksum(), IsOk());
    EXPECT_THAT(package->CheckFiles(), IsOk());

    const PackageFile& info = package->table().files()[2];
    const absl::StatusOr<Bytes> xml =
        UnpackFile(info, package->At(info.content->place), 4096);
    ASSERT_THAT(xml, IsOk());
    EXPECT_EQ(ToString(*xml), spec.entries[1].content);
    EXPECT_THAT(*ReadPackageIdentifiers(info.path, *xml),
                ElementsAre("com.example.tool"));
  }
}

TEST(FlatPackageTest, FindsWhatWasChanged) {
  std::string file = MakePackage();
  file.back() ^= 1;  // in the payload
  absl::StatusOr<FlatPackage> package = FlatPackage::Parse(AsBytes(file));
  ASSERT_THAT(package, IsOk());
  EXPECT_THAT(package->CheckFiles(), HasReason(v1::REASON_PACKAGE_MODIFIED));
  EXPECT_EQ(GetErrorDetail(package->CheckFiles())->subject(),
            "Tool.pkg/Payload");
  EXPECT_THAT(package->CheckChecksum(), IsOk());

  file = MakePackage();
  package = FlatPackage::Parse(AsBytes(file));
  const size_t checksum = static_cast<size_t>(
      package->At(package->table().checksum_place()).data() -
      AsBytes(file).data());
  file[checksum] ^= 1;
  EXPECT_THAT(FlatPackage::Parse(AsBytes(file))->CheckChecksum(),
              HasReason(v1::REASON_PACKAGE_MODIFIED));
}

TEST(FlatPackageTest, KnowsTheTicketBehindTheArchive) {
  const auto trailer = [](char type, char size) {
    return std::string("t8lr\1\0", 6) + type + '\0' + size +
           std::string(7, '\0');
  };
  const std::string ticket = trailer(1, 0) + "ticket" + trailer(2, 6);
  const std::string file = MakePackage() + ticket;
  const absl::StatusOr<FlatPackage> package = FlatPackage::Parse(AsBytes(file));
  ASSERT_THAT(package, IsOk());
  EXPECT_TRUE(package->has_ticket());
  EXPECT_EQ(package->content().size() + package->content_offset() +
                package->stored_table().size() + 28 + ticket.size(),
            file.size());
}

TEST(FlatPackageTest, RefusesEveryFileThatIsCutShort) {
  const std::string file = MakePackage();
  for (size_t size = 0; size < file.size(); ++size) {
    EXPECT_THAT(FlatPackage::Parse(AsBytes(file).first(size)),
                HasReason(v1::REASON_BAD_PACKAGE))
        << size;
  }
}

TEST(FlatPackageTest, RefusesATableThatIsABomb) {
  PackageParts parts = MakePackageParts();
  parts.xml.append(size_t{20} << 20, ' ');
  EXPECT_THAT(FlatPackage::Parse(AsBytes(JoinPackage(parts))),
              HasReason(v1::REASON_FILE_TOO_BIG));
  EXPECT_THAT(FlatPackage::Parse(AsBytes(JoinPackage(parts))),
              HasRule("TC-12"));
  // A header that promises less than there is.
  std::string file = JoinPackage(parts);
  for (size_t i = 16; i < 24; ++i) file[i] = '\0';
  file[22] = 1;
  EXPECT_THAT(FlatPackage::Parse(AsBytes(file)),
              HasReason(v1::REASON_FILE_TOO_BIG));
}

struct EditCase {
  const char* rule;
  const char* from;
  std::string to;
};

class FlatPackageRuleTest : public ::testing::TestWithParam<EditCase> {};

TEST_P(FlatPackageRuleTest, OneBadElementIsRefused) {
  const std::string file = Edited(GetParam().from, GetParam().to);
  EXPECT_THAT(FlatPackage::Parse(AsBytes(file)), HasRule(GetParam().rule));
}

INSTANTIATE_TEST_SUITE_P(
    Rules, FlatPackageRuleTest,
    ::testing::Values(
        EditCase{"TC-1", "<toc>", "<toc/><toc>"},
        EditCase{"TC-2", "<creation-time>",
                 "<checksum style=\"sha1\"/><creation-time>"},
        EditCase{"TC-3", "style=\"sha1\"", "style=\"md5\""},
        EditCase{"TC-4", "<offset>0<", "<offset>1<"},
        EditCase{"TC-4", "<size>20<", "<size>21<"},
        EditCase{
            "TC-5", "<creation-time>",
            SignatureElement("signature", "DSA", 20, 1) + "<creation-time>"},
        EditCase{"TC-5", "<creation-time>",
                 SignatureElement("signature", "RSA", 20, 1) +
                     SignatureElement("signature", "RSA", 21, 1) +
                     "<creation-time>"},
        EditCase{"TC-6", "<creation-time>",
                 "<signature style=\"RSA\"/><creation-time>"},
        EditCase{"TC-7", "<creation-time>",
                 "<signature style=\"RSA\"><offset>20</offset><size>1</size>"
                 "<KeyInfo><X509Data><X509Certificate>*</X509Certificate>"
                 "</X509Data></KeyInfo></signature><creation-time>"},
        EditCase{"TC-8", "<name>Payload</name>",
                 "<name>Payload</name><name>Other</name>"},
        EditCase{"TC-9", "<name>Payload</name>", "<name>..</name>"},
        EditCase{"TC-9", "<name>Payload</name>", "<name>a/b</name>"},
        EditCase{"TC-9", "<name>Payload</name>", "<name>PackageInfo</name>"},
        EditCase{"TC-9", "<name>Payload</name>",
                 "<name enctype=\"base64\">UGF5bG9hZA==</name>"},
        EditCase{"TC-10", "<type>file</type>",
                 "<type>file</type><data><offset>1</offset><length>1</length>"
                 "<size>1</size></data>"},
        EditCase{"TC-11", "<length>", "<length>1</length><length>"},
        EditCase{"TC-11", "<length>3006", "<length>-3006"},
        EditCase{"FP-5", "<creation-time>",
                 SignatureElement("signature", "RSA", 20, 1u << 30) +
                     "<creation-time>"},
        EditCase{
            "FP-5", "<creation-time>",
            SignatureElement("signature", "RSA", 19, 1) + "<creation-time>"},
        EditCase{"FP-6", "<length>3006<", "<length>3007<"},
        EditCase{"FP-6", "<length>3006<", "<length>18446744073709551615<"},
        EditCase{
            "FP-7", "<creation-time>",
            SignatureElement("signature", "RSA", 20, 1) + "<creation-time>"},
        EditCase{"FP-9", "<length>3006<", "<length>3005<"}));

TEST(FlatPackageTest, RefusesASignatureBehindTheContent) {
  PackageParts parts = MakePackageParts();
  const std::string element =
      SignatureElement("signature", "RSA", 20 + parts.heap.size(), 1);
  parts.heap += "S";
  parts.xml.insert(parts.xml.find("<creation-time>"), element);
  EXPECT_THAT(FlatPackage::Parse(AsBytes(JoinPackage(parts))), HasRule("FP-8"));
}

TEST(FlatPackageTest, RefusesBadHeaders) {
  struct HeaderCase {
    const char* rule;
    size_t offset;
    char value;
  };
  for (const HeaderCase& bad :
       {HeaderCase{"FP-1", 0, 'y'}, HeaderCase{"FP-2", 5, 27},
        HeaderCase{"FP-2", 7, 2}, HeaderCase{"FP-3", 8, 1},
        HeaderCase{"TC-13", 23, 1}, HeaderCase{"FP-4", 27, 3}}) {
    std::string file = MakePackage();
    file[bad.offset] ^= bad.value;
    if (bad.offset == 0) file[0] = bad.value;
    const absl::Status status = FlatPackage::Parse(AsBytes(file)).status();
    if (std::string(bad.rule) == "TC-13" &&
        GetReason(status) == v1::REASON_FILE_TOO_BIG) {
      continue;  // one byte less than there is
    }
    EXPECT_THAT(status, HasRule(bad.rule)) << bad.offset;
  }
}

TEST(FlatPackageTest, RefusesXmlThatOthersReadDifferently) {
  for (const auto& [from, to] :
       std::vector<std::pair<std::string, std::string>>{
           {"<xar>", "<!DOCTYPE xar><xar>"},
           {"<xar>", "<!DOCTYPE xar [<!ENTITY a \"b\">]><xar>"},
           {"encoding=\"UTF-8\"", "encoding=\"ISO-8859-1\""},
           {"<toc>", "<x:toc xmlns:x=\"u\"></x:toc><toc>"},
           {"</toc>", ""}}) {
    EXPECT_THAT(FlatPackage::Parse(AsBytes(Edited(from, to))),
                HasReason(v1::REASON_BAD_PACKAGE))
        << to;
  }
  std::string deep;
  for (int i = 0; i < 100; ++i) deep += "<file>";
  EXPECT_THAT(FlatPackage::Parse(AsBytes(Edited("<xar>", "<xar>" + deep))),
              HasReason(v1::REASON_BAD_PACKAGE));
}

TEST(PackageInfoTest, ReadsIdentifiersOfProductsAndComponents) {
  EXPECT_TRUE(DescribesPackage("Distribution"));
  EXPECT_TRUE(DescribesPackage("PackageInfo"));
  EXPECT_TRUE(DescribesPackage("a.pkg/PackageInfo"));
  EXPECT_FALSE(DescribesPackage("Resources/Distribution"));
  EXPECT_FALSE(DescribesPackage("a.pkg/Payload"));
  EXPECT_THAT(
      *ReadPackageIdentifiers(
          "Distribution",
          AsBytes("<installer-gui-script><product id=\"p\"/><choice><pkg-ref "
                  "id=\"a\"/></choice><pkg-ref id=\"b\"/><pkg-ref id=\"a\"/>"
                  "</installer-gui-script>")),
      ElementsAre("p", "a", "b"));
  EXPECT_THAT(ReadPackageIdentifiers("PackageInfo", AsBytes("<pkg-info/>")),
              HasReason(v1::REASON_BAD_PACKAGE));
  EXPECT_THAT(ReadPackageIdentifiers("PackageInfo", AsBytes("<a b=\"c\"/>")),
              HasReason(v1::REASON_BAD_PACKAGE));
}

}  // namespace
}  // namespace codeseal
