#include "codesign/verify/description.h"

#include "codesign/entitlements.h"
#include "gmock/gmock.h"
#include "tests/support/signed_code.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"

namespace codeseal {
namespace {

using ::codeseal::testing::BuildSignedCode;
using ::codeseal::testing::BuildUniversal;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::SignedCode;
using ::codeseal::testing::TempFolder;
using ::codeseal::testing::TestChain;
using ::testing::HasSubstr;
using ::testing::Not;

CodeDescription DescribeBytes(ByteView file) {
  const TempFolder folder;
  const absl::StatusOr<StoredCode> code =
      StoredCode::Open(folder.Write("code", AsText(file)));
  EXPECT_THAT(code, IsOk());
  if (!code.ok()) return {};
  CodeDescription description = Describe(*code);
  description.path = "/tmp/code";
  return description;
}

// Everything that the lines below show, and no more.
SignedCode KnownCode() {
  SignedCode code;
  code.fields.team_identifier = "ABCDE12345";
  code.fields.flags = kRuntimeFlag;
  code.fields.runtime_version = 0x1a0500;
  code.fields.exec_segment = {0, 16384, kExecSegmentMainBinary};
  code.digests = {DigestKind::kSha1, DigestKind::kSha256};
  return code;
}

TEST(DescriptionTest, AdHocLinesPerVerbosity) {
  const CodeDescription description =
      DescribeBytes(BuildSignedCode(KnownCode()));
  ASSERT_EQ(description.slices.size(), 1u);
  const SliceDescription& slice = description.slices[0];
  ASSERT_THAT(slice.status, IsOk());
  EXPECT_EQ(FormatDescription(description, slice, 0), "Executable=/tmp/code\n");
  const std::string size = std::to_string(slice.code_directory_size);
  EXPECT_EQ(FormatDescription(description, slice, 1),
            "Executable=/tmp/code\n"
            "Identifier=com.example.tool\n"
            "Format=Mach-O thin (arm64)\n"
            "CodeDirectory v=20500 size=" +
                size + " flags=0x10002(adhoc,runtime) hashes=" +
                std::to_string(slice.code_slot_count) +
                "+2 location=embedded\n"
                "Signature=adhoc\n"
                "Info.plist=not bound\n"
                "TeamIdentifier=ABCDE12345\n"
                "Runtime Version=26.5.0\n"
                "Sealed Resources=none\n"
                "Internal requirements count=0 size=12\n");
  const std::string all = FormatDescription(description, slice, 6);
  const std::string cdhash = HexEncode(slice.cdhash);
  // SHA-1 of the empty requirement set is a known number.
  EXPECT_THAT(slice.code_directories, ::testing::SizeIs(2));
  EXPECT_THAT(all, HasSubstr("VersionPlatform=1\n"
                             "VersionMin=720896\n"
                             "VersionSDK=917504\n"
                             "Hash type=sha256 size=32\n"
                             "CandidateCDHash sha1="));
  EXPECT_THAT(all, HasSubstr("\nCandidateCDHash sha256=" + cdhash + "\n"));
  EXPECT_THAT(all, HasSubstr("\nHash choices=sha1,sha256\nCMSDigest=" +
                             HexEncode(slice.cms_digest) +
                             "\nCMSDigestType=2\n"
                             "Executable Segment base=0\n"
                             "Executable Segment limit=16384\n"
                             "Executable Segment flags=0x1\n"
                             "Page size=4096\n"
                             "    -2=987920904eab650e75788c054aa0b0524e6a80bf"
                             "c71aa32df8d237a61743f986\n"
                             "    -1="));
  EXPECT_THAT(all, HasSubstr("\n     0=" +
                             HexEncode(ByteView(slice.code_slots).first(32))));
  EXPECT_THAT(all, HasSubstr("\nCDHash=" + cdhash + "\nSignature=adhoc\n"));
}

TEST(DescriptionTest, SignerLines) {
  const TestChain chain = testing::MakeCodeSigningChain();
  SignedCode code = KnownCode();
  code.chain = &chain;
  code.signing_time = absl::FromCivil(absl::CivilSecond(2026, 1, 2, 15, 4, 5),
                                      absl::UTCTimeZone());
  const CodeDescription description = DescribeBytes(BuildSignedCode(code));
  const SliceDescription& slice = description.slices[0];
  EXPECT_EQ(slice.authorities, chain.certificates());
  EXPECT_THAT(FormatDescription(description, slice, 2),
              HasSubstr("\nSignature size=" + std::to_string(slice.cms_size) +
                        "\nAuthority=codeseal test signer\n"
                        "Authority=codeseal test intermediate\n"
                        "Authority=codeseal test root\n"
                        "Signed Time=Jan 2, 2026 at 3:04:05 PM\n"));
  EXPECT_THAT(FormatDescription(description, slice, 1),
              Not(HasSubstr("Authority")));
  EXPECT_THAT(
      slice.requirements,
      HasSubstr("# designated => identifier \"com.example.tool\" and "));
}

TEST(DescriptionTest, ImplicitRequirementNamesOwnSliceFirst) {
  SignedCode code;
  const Bytes arm = BuildSignedCode(code);
  code.mach_o.architecture = testing::kX86_64;
  const Bytes intel = BuildSignedCode(code);
  const CodeDescription description = DescribeBytes(BuildUniversal(
      {.slices = {{testing::kX86_64, intel}, {testing::kArm64, arm}},
       .align_log2 = 14}));
  ASSERT_EQ(description.slices.size(), 2u);
  const std::string first = HexEncode(description.slices[0].cdhash);
  const std::string second = HexEncode(description.slices[1].cdhash);
  EXPECT_EQ(description.slices[0].requirements, "# designated => cdhash H\"" +
                                                    first + "\" or cdhash H\"" +
                                                    second + "\"\n");
  EXPECT_EQ(description.slices[1].requirements,
            "# designated => cdhash H\"" + second + "\" or cdhash H\"" + first +
                "\"\n");
}

TEST(DescriptionTest, UnsignedSliceSaysSo) {
  const CodeDescription description = DescribeBytes(testing::BuildMachO());
  ASSERT_EQ(description.slices.size(), 1u);
  EXPECT_THAT(description.slices[0].status, HasReason(v1::REASON_NOT_SIGNED));
}

TEST(DescriptionTest, InfoPlistAndEntitlements) {
  constexpr char kPlist[] =
      "<plist version=\"1.0\"><dict><key>a&amp;b</key><array><string>x</string>"
      "<integer>-7</integer></array><key>c</key><true/></dict></plist>";
  SignedCode code;
  code.mach_o.info_plist = kPlist;
  code.blobs[kEntitlementsSlot] = WrapBlob(kEntitlementsMagic, AsBytes(kPlist));
  const CodeDescription description = DescribeBytes(BuildSignedCode(code));
  const SliceDescription& slice = description.slices[0];
  EXPECT_THAT(FormatDescription(description, slice, 1),
              HasSubstr("\nInfo.plist entries=2\n"));
  EXPECT_EQ(AsText(*slice.entitlements_xml), kPlist);
  ASSERT_TRUE(slice.entitlements.has_value());
  EXPECT_EQ(FormatEntitlements(*slice.entitlements),
            "[Dict]\n"
            "\t[Key] a&b\n"
            "\t[Value]\n"
            "\t\t[Array]\n"
            "\t\t\t[String] x\n"
            "\t\t\t[Int] -7\n"
            "\t[Key] c\n"
            "\t[Value]\n"
            "\t\t[Bool] true\n");
  EXPECT_EQ(FormatEntitlementsXml(*slice.entitlements),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><!DOCTYPE plist PUBLIC "
            "\"-//Apple//DTD PLIST 1.0//EN\" "
            "\"https://www.apple.com/DTDs/PropertyList-1.0.dtd\"><plist "
            "version=\"1.0\"><dict><key>a&amp;b</key><array><string>x</string>"
            "<integer>-7</integer></array><key>c</key><true/></dict></plist>");
}

}  // namespace
}  // namespace codeseal
