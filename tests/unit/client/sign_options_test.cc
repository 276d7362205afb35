#include "client/sign_options.h"

#include <ostream>
#include <string>

#include "codesign/base/bytes.h"
#include "codesign/base/error.h"
#include "codesign/code_directory.h"
#include "codesign/requirement/requirement.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test_pki.h"

namespace codeseal::client {
namespace {

using ::codeseal::testing::HasMessage;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::TempFolder;
using ::testing::AllOf;
using ::testing::ElementsAre;

// "anchor apple", from Apple's csreq.
const Bytes kAnchorApple = {0xfa, 0xde, 0x0c, 0x00, 0, 0, 0, 0x10,
                            0,    0,    0,    1,    0, 0, 0, 3};

TEST(SignOptionsTest, EachOptionHasItsMeaning) {
  SignCommand command;
  command.identifier = "com.example.tool";
  command.identifier_prefix = "com.example.";
  command.flags = "runtime,kill";
  command.preserve_metadata = "identifier,runtime,entitlements";
  command.digest_algorithms = "sha1,sha256";
  command.page_size = "16384";
  command.runtime_version = "13.3.1";
  command.signature_size = 20000;
  command.force = true;
  command.force_library_entitlements = true;
  const absl::StatusOr<SigningOptions> options = ReadSigningOptions(command);
  ASSERT_THAT(options, IsOk());
  EXPECT_EQ(options->identifier, "com.example.tool");
  EXPECT_EQ(options->identifier_prefix, "com.example.");
  EXPECT_EQ(options->flags, 0x10200u);
  EXPECT_EQ(options->preserve_metadata, 0x105u);
  EXPECT_THAT(options->digests,
              ElementsAre(DigestKind::kSha1, DigestKind::kSha256));
  EXPECT_EQ(options->page_size, 16384u);
  EXPECT_EQ(options->runtime_version, 0x000d0301u);
  EXPECT_EQ(options->reserved_cms_size, 20000u);
  EXPECT_TRUE(options->force);
  EXPECT_TRUE(options->force_library_entitlements);
}

TEST(SignOptionsTest, WhatIsNotGivenIsLeftToThePlan) {
  const absl::StatusOr<SigningOptions> options = ReadSigningOptions({});
  ASSERT_THAT(options, IsOk());
  EXPECT_FALSE(options->identifier.has_value());
  EXPECT_FALSE(options->flags.has_value());
  EXPECT_FALSE(options->entitlements.has_value());
  EXPECT_FALSE(options->requirements.has_value());
  EXPECT_FALSE(options->page_size.has_value());
  EXPECT_FALSE(options->runtime_version.has_value());
  EXPECT_TRUE(options->digests.empty());
  EXPECT_EQ(options->reserved_cms_size, 18000u);
}

TEST(SignOptionsTest, WordsMayBeCutShortWhileTheyAreUnique) {
  SignCommand command;
  command.preserve_metadata = "ident,flag";
  EXPECT_EQ(ReadSigningOptions(command)->preserve_metadata, 0x11u);
  command.preserve_metadata = "r";
  EXPECT_THAT(ReadSigningOptions(command),
              AllOf(HasReason(v1::REASON_BAD_OPTION),
                    HasMessage("requirements, resource-rules, runtime")));
}

struct BadOptionCase {
  const char* name;
  std::string SignCommand::* field;
  const char* value;
};
void PrintTo(const BadOptionCase& each, std::ostream* out) {
  *out << each.name;
}

class BadOptionTest : public ::testing::TestWithParam<BadOptionCase> {};

TEST_P(BadOptionTest, IsRefusedWithTheOptionsName) {
  SignCommand command;
  command.*GetParam().field = GetParam().value;
  const absl::Status status = ReadSigningOptions(command).status();
  EXPECT_THAT(status, HasReason(v1::REASON_BAD_OPTION));
  EXPECT_TRUE(GetErrorDetail(status)->subject().starts_with("-"));
}

INSTANTIATE_TEST_SUITE_P(
    All, BadOptionTest,
    ::testing::Values(
        BadOptionCase{"EmptyWord", &SignCommand::preserve_metadata, "flags,"},
        BadOptionCase{"Word", &SignCommand::preserve_metadata, "colour"},
        BadOptionCase{"Digest", &SignCommand::digest_algorithms, "md5"},
        BadOptionCase{"PageSize", &SignCommand::page_size, "5000"},
        BadOptionCase{"PageSizeZero", &SignCommand::page_size, "0"},
        BadOptionCase{"PageSizeText", &SignCommand::page_size, "big"},
        BadOptionCase{"Version", &SignCommand::runtime_version, "13.x"},
        BadOptionCase{"VersionSize", &SignCommand::runtime_version, "13.256"},
        BadOptionCase{"VersionParts", &SignCommand::runtime_version, "1.2.3.4"},
        BadOptionCase{"VersionSign", &SignCommand::runtime_version, "-1"}),
    [](const auto& each) { return std::string(each.param.name); });

TEST(SignOptionsTest, UnknownFlagIsRefused) {
  SignCommand command;
  command.flags = "runtime,sparkling";
  EXPECT_THAT(ReadSigningOptions(command), HasReason(v1::REASON_BAD_OPTION));
}

TEST(SignOptionsTest, FilesAreNamedWhenTheyAreMissing) {
  SignCommand command;
  command.entitlements_path = "/nonexistent/e.plist";
  EXPECT_THAT(ReadSigningOptions(command),
              HasReason(v1::REASON_FILE_NOT_FOUND));
}

TEST(SignOptionsTest, TheFileOfBadEntitlementsIsNamed) {
  const TempFolder folder;
  SignCommand command;
  command.entitlements_path = folder.Write(
      "e.plist", "<plist><dict><key>a</key><true/><key>a</key></dict></plist>");
  const absl::Status status = ReadSigningOptions(command).status();
  EXPECT_THAT(status, HasReason(v1::REASON_BAD_ENTITLEMENTS));
  EXPECT_EQ(GetErrorDetail(status)->subject(), command.entitlements_path);
}

TEST(TimestampWishTest, IsAModeOrAnAddress) {
  EXPECT_EQ(ReadTimestampWish("")->mode, v1::TIMESTAMP_MODE_UNSPECIFIED);
  EXPECT_EQ(ReadTimestampWish("none")->mode, v1::TIMESTAMP_MODE_NONE);
  EXPECT_EQ(ReadTimestampWish("default")->mode, v1::TIMESTAMP_MODE_REQUIRED);
  EXPECT_EQ(ReadTimestampWish("default")->url, "");
  const auto named = ReadTimestampWish("http://tsa.example/ts");
  EXPECT_EQ(named->mode, v1::TIMESTAMP_MODE_REQUIRED);
  EXPECT_EQ(named->url, "http://tsa.example/ts");
  for (const char* text : {"yes", "file:///etc/passwd", "tsa.example"}) {
    EXPECT_THAT(ReadTimestampWish(text), HasReason(v1::REASON_BAD_OPTION))
        << text;
  }
}

class RequirementArgumentTest : public ::testing::Test {
 protected:
  std::string WriteFile(const std::string& name, ByteView content) {
    return folder_.Write(name, AsText(content));
  }

  TempFolder folder_;
};

TEST_F(RequirementArgumentTest, TextFileAndBinaryFileAreTheSame) {
  EXPECT_EQ(*ReadRequirement("=anchor apple"), kAnchorApple);
  EXPECT_EQ(*ReadRequirement(WriteFile("text", AsBytes("anchor apple\n"))),
            kAnchorApple);
  EXPECT_EQ(*ReadRequirement(WriteFile("binary", kAnchorApple)), kAnchorApple);
}

TEST_F(RequirementArgumentTest, SingleRequirementBecomesTheDesignatedOne) {
  const absl::StatusOr<Bytes> set =
      ReadRequirementSet("=designated => anchor apple", "");
  ASSERT_THAT(set, IsOk());
  EXPECT_EQ(*DumpRequirementBlob(*set), "designated => anchor apple\n");
  EXPECT_EQ(*ReadRequirementSet("=anchor apple", ""), *set);
  EXPECT_THAT(ReadRequirement("=designated => anchor apple"),
              HasReason(v1::REASON_BAD_OPTION));
}

TEST_F(RequirementArgumentTest, SelfIdentifierIsFilledIn) {
  const std::string text = "=designated => identifier \"$self.identifier\"";
  EXPECT_EQ(*DumpRequirementBlob(*ReadRequirementSet(text, "com.example.x")),
            "designated => identifier \"com.example.x\"\n");
  EXPECT_THAT(ReadRequirementSet(text, ""), HasReason(v1::REASON_BAD_OPTION));
}

TEST_F(RequirementArgumentTest, SelfIdentifierWaitsForTheIdentifier) {
  SigningOptions options;
  ASSERT_THAT(SetRequirements("=identifier \"$self.identifier\"", options),
              IsOk());
  EXPECT_FALSE(options.requirements.has_value());
  ASSERT_TRUE(options.requirements_for);
  EXPECT_EQ(*DumpRequirementBlob(*options.requirements_for("com.x")),
            "designated => identifier \"com.x\"\n");
  // Wrong text is not kept for later, and a plain one takes its place.
  EXPECT_THAT(SetRequirements("=identifier $self.identifier and", options),
              HasReason(v1::REASON_REQUIREMENT_SYNTAX));
  ASSERT_THAT(SetRequirements("=anchor apple", options), IsOk());
  EXPECT_TRUE(options.requirements.has_value());
  EXPECT_FALSE(options.requirements_for);
}

TEST_F(RequirementArgumentTest, CertificateFileBecomesItsSha1) {
  const auto root = codeseal::testing::MakeRoot({});
  const std::string pem = WriteFile("root.pem", AsBytes(root.pem()));
  const std::string der = WriteFile("root.der", root.der());
  const absl::StatusOr<Bytes> from_pem =
      ReadRequirement("=anchor = \"" + pem + "\"");
  ASSERT_THAT(from_pem, IsOk());
  EXPECT_EQ(*from_pem, *ReadRequirement("=anchor = \"" + der + "\""));
  EXPECT_EQ(
      *DumpRequirementBlob(*from_pem),
      "certificate root = H\"" + HexEncode(root.certificate().Sha1()) + "\"");
}

TEST_F(RequirementArgumentTest, FaultsSayWhere) {
  EXPECT_THAT(ReadRequirement("=anchor apple and"),
              HasReason(v1::REASON_REQUIREMENT_SYNTAX));
  EXPECT_THAT(ReadRequirement("anchor apple"),
              AllOf(HasReason(v1::REASON_FILE_NOT_FOUND),
                    HasMessage("text begins with =")));
  Bytes broken = kAnchorApple;
  broken[7] = 0x11;
  EXPECT_FALSE(ReadRequirement(WriteFile("broken", broken)).ok());
}

}  // namespace
}  // namespace codeseal::client
