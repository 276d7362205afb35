#include "codesign/bundle/property_list.h"

#include <bit>
#include <cstdlib>
#include <limits>
#include <memory>

#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

using ::codeseal::testing::HasMessage;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr std::string_view kHead =
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
    "<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" "
    "\"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n"
    "<plist version=\"1.0\">\n";

std::string Document(std::string_view body) {
  return std::string(kHead).append(body).append("</plist>\n");
}

PlistValue Text(std::string text) { return PlistValue{std::move(text)}; }

Bytes Filled(size_t size) { return Bytes(size, 0xff); }

TEST(PropertyListTest, WritesWhatCoreFoundationWrites) {
  PlistDict dict;
  dict["array"] = PlistValue{PlistArray{Text("a<b>&\"c'"), PlistValue{true}}};
  dict["date"] = PlistValue{absl::FromUnixSeconds(1'580'376'563)};
  dict["empty"] = PlistValue{PlistDict()};
  dict["integer"] = PlistValue{int64_t{-5}};
  dict["none"] = PlistValue{PlistArray()};
  dict["real"] = PlistValue{1000.0};
  dict["third"] = PlistValue{1.0 / 3};
  dict["zero"] = PlistValue{0.0};
  EXPECT_EQ(BuildXmlPlist(dict),
            Document("<dict>\n"
                     "\t<key>array</key>\n"
                     "\t<array>\n"
                     "\t\t<string>a&lt;b&gt;&amp;\"c'</string>\n"
                     "\t\t<true/>\n"
                     "\t</array>\n"
                     "\t<key>date</key>\n"
                     "\t<date>2020-01-30T09:29:23Z</date>\n"
                     "\t<key>empty</key>\n"
                     "\t<dict/>\n"
                     "\t<key>integer</key>\n"
                     "\t<integer>-5</integer>\n"
                     "\t<key>none</key>\n"
                     "\t<array/>\n"
                     "\t<key>real</key>\n"
                     "\t<real>1000</real>\n"
                     "\t<key>third</key>\n"
                     "\t<real>0.33333333333333331</real>\n"
                     "\t<key>zero</key>\n"
                     "\t<real>0.0</real>\n"
                     "</dict>\n"));
}

// 76 characters less eight for each tab: at two tabs 60, at three 52.
TEST(PropertyListTest, BreaksDataByItsIndent) {
  PlistDict inner;
  inner["d"] = PlistValue{Filled(39)};  // exactly 52 digits
  PlistDict outer;
  outer["inner"] = PlistValue{inner};
  outer["short"] = PlistValue{Bytes{1}};
  PlistDict dict;
  dict["outer"] = PlistValue{outer};
  dict["long"] = PlistValue{Filled(52)};  // 72 digits, then one byte
  dict["nothing"] = PlistValue{Bytes()};
  EXPECT_EQ(BuildXmlPlist(dict),
            Document("<dict>\n\t<key>long</key>\n\t<data>\n\t" +
                     std::string(68, '/') +
                     "\n\t/w==\n\t</data>\n"
                     "\t<key>nothing</key>\n\t<data>\n\t</data>\n"
                     "\t<key>outer</key>\n\t<dict>\n"
                     "\t\t<key>inner</key>\n\t\t<dict>\n"
                     "\t\t\t<key>d</key>\n\t\t\t<data>\n\t\t\t" +
                     std::string(52, '/') +
                     "\n\t\t\t</data>\n\t\t</dict>\n"
                     "\t\t<key>short</key>\n\t\t<data>\n\t\tAQ==\n"
                     "\t\t</data>\n\t</dict>\n</dict>\n"));
}

// Lines of data have eight tabs at most; the element around them has its own.
TEST(PropertyListTest, IndentsDeepDataByEightTabs) {
  PlistValue value = PlistValue{Filled(18)};  // 24 digits
  for (int depth = 0; depth < 9; ++depth) {
    value = PlistValue{PlistArray{std::move(value)}};
  }
  PlistDict dict;
  dict["deep"] = std::move(value);
  const std::string line = "\n" + std::string(8, '\t') + std::string(12, '/');
  EXPECT_THAT(BuildXmlPlist(dict),
              HasSubstr("\n" + std::string(10, '\t') + "<data>" + line + line +
                        "\n" + std::string(10, '\t') + "</data>\n"));
}

TEST(PropertyListTest, KeysAreInOrderOfUtf16) {
  const PlistKeyLess less;
  EXPECT_TRUE(less("a", "b"));
  EXPECT_TRUE(less("a", "aa"));
  EXPECT_FALSE(less("a", "a"));
  EXPECT_FALSE(less("aa", "a"));
  EXPECT_TRUE(less("Z", "a"));
  EXPECT_TRUE(less("z", "\xc3\xa9"));                     // U+00E9
  EXPECT_TRUE(less("\xf0\x9f\x98\x80", "\xef\xbc\xa1"));  // U+1F600, U+FF21
  EXPECT_FALSE(less("\xef\xbc\xa1", "\xf0\x9f\x98\x80"));
  EXPECT_TRUE(less("\xed\x9f\xbf", "\xf0\x9f\x98\x80"));  // U+D7FF, U+1F600
  EXPECT_FALSE(less("\xf0\x9f\x98\x80", "\xed\x9f\xbf"));
}

TEST(PropertyListTest, ReadsBackWhatItWrites) {
  PlistDict dict;
  dict["data"] = PlistValue{Bytes{0, 1, 2, 250}};
  dict["false"] = PlistValue{false};
  dict["date"] = PlistValue{absl::FromUnixSeconds(1'580'376'563)};
  dict["list"] = PlistValue{PlistArray{PlistValue{PlistDict()}}};
  dict["minus"] = PlistValue{std::numeric_limits<int64_t>::min() + 1};
  dict["real"] = PlistValue{20.0};
  // Blanks and line ends are text, too: a requirement or a file name has them.
  dict[" <key>\r"] = Text("  two words & a tab\t\n");
  dict["\xc3\xa9"] = Text("\xf0\x9f\x98\x80");
  dict["empty"] = Text("");
  const auto read = ParsePlistDict(AsBytes(BuildXmlPlist(dict)));
  ASSERT_THAT(read, IsOk());
  EXPECT_EQ(BuildXmlPlist(*read), BuildXmlPlist(dict));
  EXPECT_TRUE(*read == dict);
}

TEST(PropertyListTest, FindsByKeyAndType) {
  PlistDict dict;
  dict["a"] = Text("x");
  ASSERT_NE(FindInDict<std::string>(dict, "a"), nullptr);
  EXPECT_EQ(*FindInDict<std::string>(dict, "a"), "x");
  EXPECT_EQ(FindInDict<bool>(dict, "a"), nullptr);
  EXPECT_EQ(FindInDict<std::string>(dict, "b"), nullptr);
}

// {"a": ["b", true, 1]}, laid out by hand.
Bytes SmallBinary() {
  Bytes bytes = ToBytes("bplist00");
  Append(bytes, Bytes{0xd1, 1, 2});             // 8: object 0
  Append(bytes, Bytes{0x51, 'a'});              // 11: object 1
  Append(bytes, Bytes{0xa3, 3, 4, 5});          // 13: object 2
  Append(bytes, Bytes{0x51, 'b'});              // 17: object 3
  Append(bytes, Bytes{0x09});                   // 19: object 4
  Append(bytes, Bytes{0x10, 1});                // 20: object 5
  Append(bytes, Bytes{8, 11, 13, 17, 19, 20});  // 22: offsets
  Append(bytes, Bytes{0, 0, 0, 0, 0, 0, 1, 1});
  Append(bytes, Bytes{0, 0, 0, 0, 0, 0, 0, 6});
  Append(bytes, Bytes{0, 0, 0, 0, 0, 0, 0, 0});
  Append(bytes, Bytes{0, 0, 0, 0, 0, 0, 0, 22});
  return bytes;
}

TEST(PropertyListTest, ReadsBinary) {
  const auto read = ParsePlistDict(SmallBinary());
  ASSERT_THAT(read, IsOk());
  const auto* array = FindInDict<PlistArray>(*read, "a");
  ASSERT_NE(array, nullptr);
  EXPECT_EQ(*array,
            (PlistArray{Text("b"), PlistValue{true}, PlistValue{int64_t{1}}}));
}

TEST(PropertyListTest, RefusesEveryTruncation) {
  const Bytes binary = SmallBinary();
  for (size_t size = 0; size < binary.size(); ++size) {
    EXPECT_THAT(ParsePlistDict(ByteView(binary).first(size)),
                HasReason(v1::REASON_BAD_PLIST))
        << size;
  }
  const std::string xml = Document("<dict><key>a</key><true/></dict>");
  ASSERT_THAT(ParsePlistDict(AsBytes(xml)), IsOk());
  for (size_t size = 0; size < xml.find("</dict>"); ++size) {
    EXPECT_THAT(ParsePlistDict(AsBytes(xml.substr(0, size))),
                HasReason(v1::REASON_BAD_PLIST))
        << size;
  }
}

struct BinaryFault {
  const char* name;
  size_t offset;
  uint8_t value;
  const char* message;
};

class BinaryFaultTest : public ::testing::TestWithParam<BinaryFault> {};

TEST_P(BinaryFaultTest, IsRefusedBeforeParsing) {
  Bytes bytes = SmallBinary();
  bytes[GetParam().offset] = GetParam().value;
  EXPECT_THAT(ParsePlistDict(bytes), AllOf(HasReason(v1::REASON_BAD_PLIST),
                                           HasMessage(GetParam().message)));
}

INSTANTIATE_TEST_SUITE_P(
    Faults, BinaryFaultTest,
    ::testing::Values(
        BinaryFault{"ReferenceNamesNoObject", 14, 6, "names no object"},
        BinaryFault{"ReferenceToItself", 14, 2, "too deep"},
        BinaryFault{"KeyIsNoText", 9, 2, "a key is no text"},
        BinaryFault{"KeyIsNoObject", 9, 6, "names no object"},
        BinaryFault{"KeyHoldsNul", 12, 0, "NUL"},
        BinaryFault{"KeyDoesNotFit", 11, 0x5e, "a text does not fit"},
        BinaryFault{"WideKeyDoesNotFit", 11, 0x67, "a text does not fit"},
        BinaryFault{"TextHoldsNul", 18, 0, "NUL"},
        BinaryFault{"CycleThroughTheTop", 14, 0, "too deep"},
        BinaryFault{"ObjectOutsideTheFile", 24, 22, "outside the file"},
        BinaryFault{"ObjectInTheHeader", 24, 7, "outside the file"},
        BinaryFault{"CollectionDoesNotFit", 13, 0xae,
                    "a collection does not fit"},
        BinaryFault{"CountIsNoInteger", 13, 0xaf, "a count is no integer"},
        BinaryFault{"NoOffsetSize", 34, 0, "trailer"},
        BinaryFault{"OffsetSizeTooLarge", 34, 9, "trailer"},
        BinaryFault{"NoReferenceSize", 35, 0, "trailer"},
        BinaryFault{"TooManyObjects", 43, 7, "trailer"},
        BinaryFault{"EndlessObjects", 36, 0xff, "trailer"},
        BinaryFault{"TopIsNoObject", 51, 6, "trailer"},
        BinaryFault{"TableOutside", 59, 200, "trailer"},
        BinaryFault{"TopIsNoDictionary", 51, 2, "no dictionary"}),
    [](const auto& each) { return std::string(each.param.name); });

TEST(PropertyListTest, RefusesCountsThatDoNotFit) {
  Bytes bytes = SmallBinary();
  bytes[19] = 0xaf;  // object 4: an array whose count follows
  for (const int integer : {0x13, 0x14, 0x1f}) {
    bytes[20] = static_cast<uint8_t>(integer);
    EXPECT_THAT(ParsePlist(bytes), HasMessage("a count does not fit"));
  }
}

// A binary list of arrays, each of at most 14 references; one without any is
// `true`. The first is the top.
Bytes BinaryArrays(const std::vector<Bytes>& references) {
  Bytes bytes = ToBytes("bplist00");
  Bytes offsets;
  for (const Bytes& each : references) {
    offsets.push_back(static_cast<uint8_t>(bytes.size() >> 8));
    offsets.push_back(static_cast<uint8_t>(bytes.size() & 0xff));
    if (each.empty()) {
      bytes.push_back(0x09);
    } else {
      bytes.push_back(static_cast<uint8_t>(0xa0 | each.size()));
      Append(bytes, each);
    }
  }
  const size_t table = bytes.size();
  Append(bytes, offsets);
  Append(bytes, Bytes{0, 0, 0, 0, 0, 0, 2, 1});
  Append(bytes,
         Bytes{0, 0, 0, 0, 0, 0, 0, static_cast<uint8_t>(references.size())});
  Append(bytes, Bytes{0, 0, 0, 0, 0, 0, 0, 0});
  Append(bytes, Bytes{0, 0, 0, 0, 0, 0, static_cast<uint8_t>(table >> 8),
                      static_cast<uint8_t>(table)});
  return bytes;
}

// Sixty arrays, each of which names the next one eight times: 500 bytes that
// stand for 8^60 values.
TEST(PropertyListTest, RefusesBinaryThatMultiplies) {
  std::vector<Bytes> references;
  for (uint8_t next = 1; next < 60; ++next) {
    references.push_back(Bytes(8, next));
  }
  references.push_back({});
  EXPECT_THAT(
      ParsePlist(BinaryArrays(references)),
      AllOf(HasReason(v1::REASON_BAD_PLIST), HasMessage("too many values")));
}

// What is named twice is looked at once, and still counts where it is deeper.
TEST(PropertyListTest, LimitsDepthOfBinaryWhereverAnObjectIsNamed) {
  // The top names the chain 1, 2, ... and, behind as many others, again.
  const auto chains = [](uint8_t length) {
    std::vector<Bytes> references;
    references.push_back({1, static_cast<uint8_t>(length + 1)});
    for (uint8_t i = 1; i < length; ++i) {
      references.push_back({static_cast<uint8_t>(i + 1)});
    }
    references.push_back({});
    for (uint8_t i = 1; i < length; ++i) {
      references.push_back({static_cast<uint8_t>(length + i + 1)});
    }
    references.push_back({1});
    return BinaryArrays(references);
  };
  static_assert(kMaxPlistDepth % 2 == 0);
  constexpr uint8_t kHalf = kMaxPlistDepth / 2;
  EXPECT_THAT(ParsePlist(chains(kHalf - 1)), IsOk());
  EXPECT_THAT(ParsePlist(chains(kHalf)),
              AllOf(HasReason(v1::REASON_BAD_PLIST), HasMessage("too deep")));
}

std::string Nested(int depth) {
  std::string body;
  for (int i = 0; i < depth; ++i) body += "<array>";
  for (int i = 0; i < depth; ++i) body += "</array>";
  return Document(body);
}

TEST(PropertyListTest, LimitsDepth) {
  EXPECT_THAT(ParsePlist(AsBytes(Nested(kMaxPlistDepth - 1))), IsOk());
  EXPECT_THAT(ParsePlist(AsBytes(Nested(kMaxPlistDepth))),
              AllOf(HasReason(v1::REASON_BAD_PLIST), HasMessage("too deep")));
  EXPECT_THAT(ParsePlist(AsBytes(Nested(1'000'000))), HasMessage("too deep"));
}

TEST(PropertyListTest, CommentsDoNotNest) {
  std::string comment;
  for (int i = 0; i < 2 * kMaxPlistDepth; ++i) comment += "<!-- > <array> -->";
  EXPECT_THAT(ParsePlist(AsBytes(Document(comment + "<true/>"))), IsOk());
}

TEST(PropertyListTest, CharacterDataDoesNotNest) {
  std::string data = ">";
  for (int i = 0; i < 2 * kMaxPlistDepth; ++i) data += "<array>";
  const auto read = ParsePlist(
      AsBytes(Document("<string><![CDATA[" + data + "]]></string>")));
  ASSERT_THAT(read, IsOk());
  EXPECT_EQ(*read, Text(data));
}

TEST(PropertyListTest, RefusesOtherForms) {
  for (const char* text :
       {"", "{ a = b; }", "{\"a\": 1}", "plain text", "\xff\xfe<\0?\0"}) {
    EXPECT_THAT(ParsePlist(AsBytes(text)), HasReason(v1::REASON_BAD_PLIST))
        << text;
  }
  EXPECT_THAT(
      ParsePlistDict(AsBytes(Document("<array/>"))),
      AllOf(HasReason(v1::REASON_BAD_PLIST), HasMessage("no dictionary")));
}

TEST(PropertyListTest, IntegersHave64BitsAndASign) {
  const auto parse = [](const std::string& digits) {
    return ParsePlist(AsBytes(Document("<integer>" + digits + "</integer>")));
  };
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(*parse("9223372036854775807"), PlistValue{kMost});
  EXPECT_EQ(*parse("-9223372036854775807"), PlistValue{-kMost});
  for (const char* digits : {"9223372036854775808", "18446744073709551615"}) {
    EXPECT_THAT(parse(digits), AllOf(HasReason(v1::REASON_BAD_PLIST),
                                     HasMessage("does not fit in 64 bits")));
  }
}

TEST(PropertyListTest, DatesMayBeFarAway) {
  // A binary date: seconds since 2001, as a big-endian double.
  const auto binary = [](double seconds) {
    Bytes bytes = ToBytes("bplist00");
    bytes.push_back(0x33);
    const auto bits = std::bit_cast<uint64_t>(seconds);
    for (int shift = 56; shift >= 0; shift -= 8) {
      bytes.push_back(static_cast<uint8_t>(bits >> shift));
    }
    Append(bytes, Bytes{8});  // 17: the only offset
    Append(bytes, Bytes{0, 0, 0, 0, 0, 0, 1, 1});
    Append(bytes, Bytes{0, 0, 0, 0, 0, 0, 0, 1});
    Append(bytes, Bytes{0, 0, 0, 0, 0, 0, 0, 0});
    Append(bytes, Bytes{0, 0, 0, 0, 0, 0, 0, 17});
    return ParsePlist(bytes);
  };
  const absl::Time epoch =
      absl::FromCivil(absl::CivilDay(2001, 1, 1), absl::UTCTimeZone());
  // The distant past and future of Apple's Foundation among them.
  for (const char* text :
       {"0001-01-01T00:00:00Z", "1901-12-13T20:45:52Z", "2001-01-01T00:00:00Z",
        "2038-01-19T03:14:08Z", "4001-01-01T00:00:00Z"}) {
    absl::Time time;
    std::string error;
    ASSERT_TRUE(absl::ParseTime(absl::RFC3339_full, text, &time, &error));
    const auto xml =
        ParsePlist(AsBytes(Document(std::string("<date>") + text + "</date>")));
    ASSERT_THAT(xml, IsOk()) << text;
    EXPECT_EQ(*xml, PlistValue{time}) << text;
    const double seconds = absl::ToDoubleSeconds(time - epoch);
    ASSERT_THAT(binary(seconds), IsOk()) << text;
    EXPECT_EQ(*binary(seconds), PlistValue{time}) << text;
  }
  for (const double seconds :
       {1e300, -1e300, std::numeric_limits<double>::quiet_NaN()}) {
    EXPECT_THAT(binary(seconds), AllOf(HasReason(v1::REASON_BAD_PLIST),
                                       HasMessage("out of range")))
        << seconds;
  }
}

TEST(PropertyListTest, RefusesNulInXml) {
  std::string xml = Document("<dict><key>a.b</key><string>c.d</string></dict>");
  EXPECT_THAT(ParsePlistDict(AsBytes(xml)), IsOk());
  for (const char* place : {"a.b", "c.d"}) {
    std::string with_nul = xml;
    with_nul[xml.find(place) + 1] = '\0';
    EXPECT_THAT(ParsePlistDict(AsBytes(with_nul)),
                HasReason(v1::REASON_BAD_PLIST));
  }
}

// Surrogates by reference and stray bytes; as a key and as a value.
TEST(PropertyListTest, RefusesTextThatIsNoUtf8) {
  for (const char* text :
       {"a&#xd800;", "a&#55296;", "a\xff", "\xc3", "\xc0\xaf"}) {
    for (const std::string& xml :
         {Document(std::string("<dict><key>k</key><string>") + text +
                   "</string></dict>"),
          Document(std::string("<dict><key>") + text +
                   "</key><string>v</string></dict>")}) {
      EXPECT_THAT(ParsePlistDict(AsBytes(xml)),
                  AllOf(HasReason(v1::REASON_BAD_PLIST), HasMessage("UTF-8")))
          << xml;
    }
  }
  Bytes binary = SmallBinary();
  for (const size_t place : {size_t{12}, size_t{18}}) {
    Bytes changed = binary;
    changed[place] = 0xff;
    EXPECT_THAT(ParsePlistDict(changed), HasMessage("UTF-8")) << place;
  }
}

TEST(PropertyListTest, ReadsLatin1ThatSaysSo) {
  const std::string body =
      "<plist version=\"1.0\"><dict><key>k</key><string>Z\xfcrich &#233;"
      "</string></dict></plist>";
  const auto read = ParsePlistDict(
      AsBytes("<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>\n" + body));
  ASSERT_THAT(read, IsOk());
  EXPECT_EQ(*FindInDict<std::string>(*read, "k"), "Z\u00fcrich \u00e9");
  EXPECT_THAT(ParsePlistDict(AsBytes(
                  "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n" + body)),
              HasMessage("UTF-8"));
  // What it says holds, even if it could be read as something else.
  const auto umlaut = ParsePlist(
      AsBytes("<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>\n"
              "<plist version=\"1.0\"><string>\xc3\xbc</string></plist>"));
  ASSERT_THAT(umlaut, IsOk());
  EXPECT_EQ(*umlaut, Text("\u00c3\u00bc"));
}

TEST(PropertyListTest, RefusesWhatIsTooLarge) {
  constexpr size_t kSize = kMaxPlistSize + 1;
  // Zeros that take no memory until they are read.
  const std::unique_ptr<void, decltype(&std::free)> zeros(std::calloc(kSize, 1),
                                                          &std::free);
  ASSERT_NE(zeros, nullptr);
  EXPECT_THAT(
      ParsePlist(ByteView(static_cast<const uint8_t*>(zeros.get()), kSize)),
      AllOf(HasReason(v1::REASON_BAD_PLIST), HasMessage("too large")));
}

TEST(PropertyListTest, SkipsAByteOrderMark) {
  EXPECT_THAT(ParsePlistDict(AsBytes("\xef\xbb\xbf" + Document("<dict/>"))),
              IsOk());
}

}  // namespace
}  // namespace codeseal
