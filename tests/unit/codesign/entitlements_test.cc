#include "codesign/entitlements.h"

#include <algorithm>
#include <ostream>

#include "codesign/super_blob.h"
#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;

std::string Plist(const std::string& content) {
  return "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
         "<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" "
         "\"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n"
         "<plist version=\"1.0\"><dict>" +
         content + "</dict></plist>\n";
}

Bytes XmlBlob(const std::string& content) {
  return WrapBlob(kEntitlementsMagic, AsBytes(Plist(content)));
}

// The DER of a property list, without the blob's header.
std::string Der(const std::string& content) {
  const absl::StatusOr<PlistDict> parsed = ParseEntitlements(XmlBlob(content));
  if (!parsed.ok()) return std::string(Message(parsed.status()));
  const absl::StatusOr<Bytes> der = BuildEntitlementsDer(*parsed);
  if (!der.ok()) return std::string(Message(der.status()));
  EXPECT_THAT(CheckEntitlementsAgree(XmlBlob(content), *der), IsOk());
  return HexEncode(ByteView(*der).subspan(kBlobHeaderSize));
}

Bytes DerBlob(std::initializer_list<uint8_t> der) {
  return WrapBlob(kEntitlementsDerMagic, Bytes(der));
}

// Around the pairs of a dictionary.
Bytes DerPairs(const Bytes& pairs) {
  Bytes der = {0x70, static_cast<uint8_t>(pairs.size() + 5), 2, 1, 1,
               0xb0, static_cast<uint8_t>(pairs.size())};
  Append(der, pairs);
  return WrapBlob(kEntitlementsDerMagic, der);
}

std::string RuleOf(const absl::Status& status) {
  const std::optional<ErrorDetail> detail = GetErrorDetail(status);
  return detail.has_value() ? detail->rule() : "";
}

// ---- XML

TEST(EntitlementsTest, BytesStayAsGiven) {
  const std::string plist = Plist("<key>a</key> <true/>");
  const absl::StatusOr<Bytes> blob = BuildEntitlements(AsBytes(plist));
  ASSERT_THAT(blob, IsOk());
  EXPECT_EQ(AsText(*UnwrapBlob(kEntitlementsMagic, *blob)), plist);
  // A blob is taken as it is.
  EXPECT_EQ(*BuildEntitlements(*blob), *blob);
}

TEST(EntitlementsTest, BlobOfTheWrongLengthIsRefused) {
  Bytes blob = XmlBlob("");
  blob.push_back('\n');
  EXPECT_THAT(BuildEntitlements(blob),
              HasReason(v1::REASON_BLOB_LENGTH_OUT_OF_RANGE));
}

TEST(EntitlementsTest, ReadsEveryType) {
  const absl::StatusOr<PlistDict> parsed = ParseEntitlements(XmlBlob(
      "<key>b</key><true/><key>i</key><integer>-2</integer>"
      "<key>s</key><string>x &amp; <![CDATA[<key>]]></string>"
      "<!-- <key>no</key> --><key>d</key><data>AQID</data>"
      "<key>l</key><array><string/><dict><key>k</key><false/></dict></array>"));
  ASSERT_THAT(parsed, IsOk());
  EXPECT_EQ(*FindInDict<bool>(*parsed, "b"), true);
  EXPECT_EQ(*FindInDict<int64_t>(*parsed, "i"), -2);
  EXPECT_EQ(*FindInDict<std::string>(*parsed, "s"), "x & <key>");
  EXPECT_EQ(*FindInDict<Bytes>(*parsed, "d"), (Bytes{1, 2, 3}));
  const PlistArray& list = *FindInDict<PlistArray>(*parsed, "l");
  ASSERT_EQ(list.size(), 2u);
  EXPECT_EQ(*list[0].As<std::string>(), "");
  EXPECT_EQ(*FindInDict<bool>(*list[1].As<PlistDict>(), "k"), false);
}

struct XmlCase {
  const char* rule;
  std::string plist;
};
void PrintTo(const XmlCase& each, std::ostream* out) { *out << each.rule; }

class EntitlementsXmlTest : public ::testing::TestWithParam<XmlCase> {};

TEST_P(EntitlementsXmlTest, IsRefused) {
  const absl::StatusOr<Bytes> blob =
      BuildEntitlements(AsBytes(GetParam().plist));
  ASSERT_THAT(blob, HasReason(v1::REASON_BAD_ENTITLEMENTS));
  EXPECT_EQ(RuleOf(blob.status()), GetParam().rule);
}

INSTANTIATE_TEST_SUITE_P(
    Rules, EntitlementsXmlTest,
    ::testing::Values(
        XmlCase{"EN-1", Plist("<!-- no end ")},
        XmlCase{"EN-2", "<!DOCTYPE plist [<!ENTITY x \"y\">]><plist><dict/>"},
        XmlCase{"EN-4", Plist(std::string(kMaxEntitlementsSize, ' '))},
        XmlCase{"EN-5", "bplist00"}, XmlCase{"EN-6", Plist("\xc0\x80")},
        XmlCase{"EN-6", Plist("\xed\xa0\x80")},
        XmlCase{"EN-6", Plist("\xf4\x90\x80\x80")},
        XmlCase{"EN-6", Plist("\xe0\x9f\xbf")}, XmlCase{"EN-7", "hello"},
        XmlCase{"EN-7", ""},
        // A surrogate by reference: the file is UTF-8, its text is not.
        XmlCase{"EN-7", Plist("<key>a</key><string>&#xd800;</string>")},
        XmlCase{"EN-7", Plist("<key>&#xdfff;</key><true/>")},
        XmlCase{"EN-7", "<plist version=\"1.0\"><array/></plist>"},
        XmlCase{"EN-8", Plist("<key>a</key>")},
        XmlCase{"EN-7", Plist("<key>a</key><integer>9223372036854775808"
                              "</integer>")},
        XmlCase{"EN-8", Plist("<key>a</key><true/><key>a</key><false/>")},
        XmlCase{"EN-8", Plist("<key>l</key><array><dict><key>a</key><true/>"
                              "<key>a</key><true/></dict></array>")}));

TEST(EntitlementsTest, NestingIsLimited) {
  std::string deep;
  for (int i = 0; i < 100000; ++i) deep += "<key>a</key><dict>";
  EXPECT_THAT(BuildEntitlements(AsBytes(Plist(deep).substr(0, 1000000))),
              HasReason(v1::REASON_BAD_ENTITLEMENTS));
}

// ---- DER

TEST(EntitlementsDerTest, KnownForms) {
  EXPECT_EQ(Der(""), "7005020101b000");
  EXPECT_EQ(Der("<key>a</key><true/>"), "700d020101b00830060c01610101ff");
  EXPECT_EQ(Der("<key>a</key><false/>"), "700d020101b00830060c0161010100");
  EXPECT_EQ(Der("<key>a</key><string>hi</string>"),
            "700e020101b00930070c01610c026869");
  EXPECT_EQ(Der("<key>a</key><array><true/><string/></array>"),
            "7011020101b00c300a0c016130050101ff0c00");
  EXPECT_EQ(Der("<key>a</key><dict><key>b</key><true/></dict>"),
            "7014020101b00f300d0c0161b00830060c01620101ff");
  EXPECT_EQ(Der("<key>a</key><data>AQ==</data>"),
            "700d020101b00830060c0161040101");
}

TEST(EntitlementsDerTest, IntegersAreAsShortAsCanBe) {
  const auto integer = [](const std::string& value) {
    return Der("<key>a</key><integer>" + value + "</integer>").substr(24);
  };
  EXPECT_EQ(integer("0"), "020100");
  EXPECT_EQ(integer("127"), "02017f");
  EXPECT_EQ(integer("128"), "02020080");
  EXPECT_EQ(integer("-1"), "0201ff");
  EXPECT_EQ(integer("-128"), "020180");
  EXPECT_EQ(integer("-129"), "0202ff7f");
  EXPECT_EQ(integer("9223372036854775807"), "02087fffffffffffffff");
  EXPECT_EQ(integer("-9223372036854775808"), "02088000000000000000");
}

TEST(EntitlementsDerTest, KeysAreSortedByTheirBytes) {
  const std::string der =
      Der("<key>b</key><true/><key>a.b</key><true/><key>a</key><true/>"
          "<key>B</key><true/><key>\xef\xbf\xbd</key><true/>"
          "<key>\xf0\x90\x80\x80</key><true/>");
  const size_t positions[] = {der.find("0c0142"),     der.find("0c0161"),
                              der.find("0c03612e62"), der.find("0c0162"),
                              der.find("0c03efbfbd"), der.find("0c04f0908080")};
  EXPECT_NE(positions[0], std::string::npos);
  EXPECT_NE(positions[5], std::string::npos);
  EXPECT_TRUE(std::is_sorted(std::begin(positions), std::end(positions)))
      << der;
}

TEST(EntitlementsDerTest, LongLengths) {
  const std::string text(300, 'x');
  EXPECT_EQ(Der("<key>a</key><string>" + text + "</string>").substr(0, 44),
            "7082013e"
            "020101"
            "b0820137"
            "30820133"
            "0c0161"
            "0c82012c");
}

TEST(EntitlementsDerTest, RealsAndDatesHaveNoForm) {
  EXPECT_EQ(Der("<key>a</key><real>1.5</real>"),
            "an entitlement is a real number or a date");
  EXPECT_EQ(Der("<key>a</key><array><date>2020-01-01T00:00:00Z</date></array>"),
            "an entitlement is a real number or a date");
}

TEST(EntitlementsDerTest, ReadsTheFormOf2020) {
  // SET { SEQUENCE { "b", TRUE as 01 }, SEQUENCE { "a", SET {} } }
  const absl::StatusOr<PlistDict> parsed =
      ParseEntitlementsDer(DerBlob({0x31, 0x0f, 0x30, 0x06, 0x0c, 1, 'b', 1, 1,
                                    1, 0x30, 0x05, 0x0c, 1, 'a', 0x31, 0}));
  ASSERT_THAT(parsed, IsOk());
  EXPECT_EQ(*FindInDict<bool>(*parsed, "b"), true);
  EXPECT_TRUE(FindInDict<PlistDict>(*parsed, "a")->empty());
}

TEST(EntitlementsDerTest, RejectsEveryTruncation) {
  const Bytes blob = DerPairs({0x30, 6, 0x0c, 1, 'a', 1, 1, 0xff});
  ASSERT_THAT(ParseEntitlementsDer(blob), IsOk());
  const ByteView der = ByteView(blob).subspan(kBlobHeaderSize);
  for (size_t size = 0; size < der.size(); ++size) {
    EXPECT_FALSE(
        ParseEntitlementsDer(WrapBlob(kEntitlementsDerMagic, der.first(size)))
            .ok())
        << size;
  }
}

struct DerCase {
  const char* rule;
  Bytes blob;
};
void PrintTo(const DerCase& each, std::ostream* out) { *out << each.rule; }

class EntitlementsDerRuleTest : public ::testing::TestWithParam<DerCase> {};

TEST_P(EntitlementsDerRuleTest, IsRefused) {
  const absl::StatusOr<PlistDict> parsed =
      ParseEntitlementsDer(GetParam().blob);
  ASSERT_THAT(parsed, HasReason(v1::REASON_BAD_ENTITLEMENTS));
  EXPECT_EQ(RuleOf(parsed.status()), GetParam().rule);
}

INSTANTIATE_TEST_SUITE_P(
    Rules, EntitlementsDerRuleTest,
    ::testing::Values(
        // Behind the whole, the dictionary and a pair's value.
        DerCase{"EN-9", DerBlob({0x70, 5, 2, 1, 1, 0xb0, 0, 0})},
        DerCase{"EN-9", DerBlob({0x70, 7, 2, 1, 1, 0xb0, 0, 5, 0})},
        DerCase{"EN-9", DerPairs({0x30, 8, 0x0c, 1, 'a', 1, 1, 0, 5, 0})},
        DerCase{"EN-10", DerBlob({0x70, 6, 2, 1, 1, 0xb0, 0})},
        DerCase{"EN-10", DerBlob({0x70, 0x82, 1})},
        // Indefinite, too long a form, longer than 4 GB.
        DerCase{"EN-11", DerBlob({0x70, 0x80, 2, 1, 1, 0xb0, 0, 0, 0})},
        DerCase{"EN-11", DerBlob({0x70, 0x81, 5, 2, 1, 1, 0xb0, 0})},
        DerCase{"EN-11", DerBlob({0x70, 0x82, 0, 5, 2, 1, 1, 0xb0, 0})},
        DerCase{"EN-11", DerBlob({0x70, 0x85, 1, 0, 0, 0, 0})},
        DerCase{"EN-12", DerBlob({0x60, 5, 2, 1, 1, 0xb0, 0})},
        DerCase{"EN-12", DerBlob({0x70, 5, 2, 1, 1, 0x31, 0})},
        DerCase{"EN-12", DerPairs({0x31, 6, 0x0c, 1, 'a', 1, 1, 0})},
        DerCase{"EN-12", DerPairs({0x30, 6, 0x04, 1, 'a', 1, 1, 0})},
        DerCase{"EN-13", DerPairs({0x30, 7, 0x0c, 1, 'a', 2, 2, 0, 1})},
        DerCase{"EN-13", DerPairs({0x30, 7, 0x0c, 1, 'a', 2, 2, 0xff, 0x80})},
        DerCase{"EN-13", DerPairs({0x30, 5, 0x0c, 1, 'a', 2, 0})},
        DerCase{"EN-13", DerPairs({0x30, 14, 0x0c, 1, 'a', 2, 9, 1, 0, 0, 0, 0,
                                   0, 0, 0, 0})},
        DerCase{"EN-14", DerPairs({0x30, 6, 0x0c, 1, 0x80, 1, 1, 0})},
        DerCase{"EN-15", DerPairs({0x30, 6, 0x0c, 1, 'a', 1, 1, 0,  //
                                   0x30, 6, 0x0c, 1, 'a', 1, 1, 0})},
        DerCase{"EN-15", DerPairs({0x30, 6, 0x0c, 1, 'b', 1, 1, 0,  //
                                   0x30, 6, 0x0c, 1, 'a', 1, 1, 0})},
        DerCase{"EN-17", DerPairs({0x30, 6, 0x0c, 1, 'a', 1, 1, 1})},
        DerCase{"EN-17", DerPairs({0x30, 5, 0x0c, 1, 'a', 1, 0})},
        DerCase{"EN-18", DerPairs({0x30, 5, 0x0c, 1, 'a', 5, 0})},
        DerCase{"EN-18", DerPairs({0x30, 5, 0x0c, 1, 'a', 0x31, 0})},
        DerCase{"EN-19", DerBlob({0x70, 5, 2, 1, 2, 0xb0, 0})}));

TEST(EntitlementsDerTest, EN16_NestedTooDeep) {
  const auto nested = [](size_t depth) {
    Bytes value = {0x30, 0};  // an empty array
    for (size_t level = 1; level < depth; ++level) {
      Bytes outer = {0x30};
      if (value.size() >= 0x80) outer.push_back(0x81);
      outer.push_back(static_cast<uint8_t>(value.size()));
      Append(outer, value);
      value = outer;
    }
    Bytes pair = {0x30, static_cast<uint8_t>(value.size() + 3), 0x0c, 1, 'a'};
    Append(pair, value);
    return DerPairs(pair);
  };
  // One level is the dictionary's.
  EXPECT_THAT(ParseEntitlementsDer(nested(kMaxEntitlementsDepth - 1)), IsOk());
  const absl::StatusOr<PlistDict> parsed =
      ParseEntitlementsDer(nested(kMaxEntitlementsDepth));
  ASSERT_THAT(parsed, HasReason(v1::REASON_BAD_ENTITLEMENTS));
  EXPECT_EQ(RuleOf(parsed.status()), "EN-16");
}

TEST(EntitlementsTest, XmlAndDerMustAgree) {
  const Bytes der = DerPairs({0x30, 6, 0x0c, 1, 'a', 1, 1, 0xff});
  EXPECT_THAT(CheckEntitlementsAgree(XmlBlob("<key>a</key><true/>"), der),
              IsOk());
  for (const char* other :
       {"", "<key>a</key><false/>", "<key>a</key><integer>1</integer>",
        "<key>a</key><true/><key>b</key><true/>"}) {
    const absl::Status status = CheckEntitlementsAgree(XmlBlob(other), der);
    ASSERT_THAT(status, HasReason(v1::REASON_BAD_ENTITLEMENTS)) << other;
    EXPECT_EQ(RuleOf(status), "EN-20");
  }
  EXPECT_EQ(
      GetErrorDetail(CheckEntitlementsAgree(XmlBlob("<key>a</key><true/>"
                                                    "<key>b</key><true/>"),
                                            der))
          ->subject(),
      "b");
}

TEST(EntitlementsTest, ExecSegmentFlags) {
  const auto flags = [](const std::string& content) {
    return ExecSegmentFlags(*ParseEntitlements(XmlBlob(content)));
  };
  EXPECT_EQ(flags(""), 0u);
  EXPECT_EQ(flags("<key>get-task-allow</key><true/>"), 0x10u);
  EXPECT_EQ(flags("<key>run-unsigned-code</key><true/>"), 0x10u);
  EXPECT_EQ(flags("<key>get-task-allow</key><false/>"), 0u);
  EXPECT_EQ(flags("<key>get-task-allow</key><integer>1</integer>"), 0u);
  EXPECT_EQ(flags("<key>com.apple.security.get-task-allow</key><true/>"), 0u);
  EXPECT_EQ(
      flags("<key>com.apple.private.cs.debugger</key><true/>"
            "<key>dynamic-codesigning</key><true/>"
            "<key>com.apple.private.skip-library-validation</key><true/>"
            "<key>com.apple.private.amfi.can-load-cdhash</key><true/>"
            "<key>com.apple.private.amfi.can-execute-cdhash</key><true/>"),
      0x3e0u);
}

}  // namespace
}  // namespace codeseal
