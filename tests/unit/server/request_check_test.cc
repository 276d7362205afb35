#include "server/request_check.h"

#include <functional>
#include <string>

#include "codesign/base/endian.h"
#include "codesign/entitlements.h"
#include "codesign/super_blob.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/sign_request_builder.h"
#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

using ::codeseal::testing::BuildSignRequest;
using ::codeseal::testing::HasCode;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::SignRequestSpec;
using ::testing::SizeIs;

constexpr char kEntitlements[] =
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
    "<plist version=\"1.0\"><dict><key>com.apple.security.app-sandbox</key>"
    "<true/></dict></plist>\n";

MATCHER_P(HasRule, rule, "") {
  *result_listener << testing::Describe(testing::GetStatus(arg));
  const auto detail = GetErrorDetail(testing::GetStatus(arg));
  return detail.has_value() && detail->rule() == rule;
}

SignRequestSpec FullSpec() {
  SignRequestSpec spec;
  spec.digests = {DigestKind::kSha1, DigestKind::kSha256};
  spec.team_identifier = "TESTTEAM01";
  spec.flags = kRuntimeFlag;
  spec.entitlements = kEntitlements;
  spec.file_digests = {{kInfoPlistSlot, {1}}, {kCodeResourcesSlot, {3}}};
  return spec;
}

// A CodeDirectory of the request, to be spoiled.
std::string& Directory(v1::SignRequest& request, int index) {
  return *request.mutable_code_directory_set()->mutable_code_directories(index);
}
void SetU32(std::string& bytes, size_t offset, uint32_t value) {
  for (size_t i = 0; i < 4; ++i) {
    bytes[offset + i] = static_cast<char>(value >> (24 - 8 * i));
  }
}

TEST(RequestCheckTest, AcceptsWhatHoldsTogether) {
  const v1::SignRequest request = BuildSignRequest(FullSpec());
  const absl::StatusOr<CheckedRequest> checked = CheckSignRequest(request);
  ASSERT_THAT(checked, IsOk());
  ASSERT_THAT(checked->code_directories, SizeIs(2));
  EXPECT_EQ(checked->code_directories[0].identifier(), "com.example.demo");
  EXPECT_EQ(checked->code_directories[1].team_identifier(), "TESTTEAM01");
  ASSERT_TRUE(checked->entitlements.has_value());
  const bool* const sandboxed = FindInDict<bool>(
      *checked->entitlements, "com.apple.security.app-sandbox");
  EXPECT_TRUE(sandboxed != nullptr && *sandboxed);
  // What is signed, computed the long way round.
  const auto& set = request.code_directory_set();
  EXPECT_EQ(
      checked->content.message_digest,
      ComputeDigest(DigestKind::kSha256, AsBytes(set.code_directories(0))));
  ASSERT_THAT(checked->content.code_directories, SizeIs(2));
  EXPECT_EQ(checked->content.code_directories[0].digest,
            ComputeDigest(DigestKind::kSha1, AsBytes(set.code_directories(0))));
  EXPECT_EQ(
      checked->content.code_directories[1].digest,
      ComputeDigest(DigestKind::kSha256, AsBytes(set.code_directories(1))));
  ASSERT_THAT(checked->cdhashes, SizeIs(2));
  EXPECT_EQ(
      checked->cdhashes[1],
      ComputeCdHash(DigestKind::kSha256, AsBytes(set.code_directories(1))));
}

TEST(RequestCheckTest, AcceptsTheLeastThereCanBe) {
  EXPECT_THAT(CheckSignRequest(BuildSignRequest({})), IsOk());
}

TEST(RequestCheckTest, EveryOneBitChangeOfASealedBlobIsSeen) {
  using Set = v1::CodeDirectorySet;
  for (std::string* (Set::* const blob)() :
       {&Set::mutable_requirements, &Set::mutable_entitlements,
        &Set::mutable_entitlements_der}) {
    const v1::SignRequest good = BuildSignRequest(FullSpec());
    v1::SignRequest request = good;
    const size_t size = (request.mutable_code_directory_set()->*blob)()->size();
    for (size_t at = 0; at < size; ++at) {
      request = good;
      (*(request.mutable_code_directory_set()->*blob)())[at] ^= 1;
      EXPECT_THAT(CheckSignRequest(request), HasRule("SR-11")) << at;
    }
  }
}

TEST(RequestCheckTest, EveryTruncationOfACodeDirectoryIsSeen) {
  const v1::SignRequest good = BuildSignRequest(FullSpec());
  for (size_t size = 0;
       size < good.code_directory_set().code_directories(1).size(); ++size) {
    v1::SignRequest request = good;
    Directory(request, 1).resize(size);
    EXPECT_THAT(CheckSignRequest(request),
                HasCode(absl::StatusCode::kInvalidArgument))
        << size;
  }
}

TEST(RequestCheckTest, HugeNumbersInEveryHeaderFieldAreSurvived) {
  const v1::SignRequest good = BuildSignRequest(FullSpec());
  for (size_t offset = 0; offset < 96; offset += 4) {
    if (offset == 40 || offset == 52) continue;  // spare2, spare3: ignored
    for (const uint32_t value : {0xffffffffu, 0x80000000u, 0x7fffffffu}) {
      v1::SignRequest request = good;
      SetU32(Directory(request, 0), offset, value);
      // Some fields may hold anything alone, but then differ from the other's.
      EXPECT_THAT(CheckSignRequest(request),
                  HasCode(absl::StatusCode::kInvalidArgument))
          << offset;
    }
  }
}

struct RuleCase {
  const char* name;
  const char* rule;
  Reason reason;
  std::function<void(v1::SignRequest&)> spoil;
};

class RequestRuleTest : public ::testing::TestWithParam<RuleCase> {};

TEST_P(RequestRuleTest, OneFaultIsRefusedByItsRule) {
  v1::SignRequest request = BuildSignRequest(FullSpec());
  ASSERT_THAT(CheckSignRequest(request), IsOk());
  GetParam().spoil(request);
  const absl::StatusOr<CheckedRequest> checked = CheckSignRequest(request);
  EXPECT_THAT(checked, HasRule(GetParam().rule));
  EXPECT_THAT(checked, HasReason(GetParam().reason));
  EXPECT_THAT(checked, HasCode(absl::StatusCode::kInvalidArgument));
}

// Replaces the request with one of another description.
std::function<void(v1::SignRequest&)> Rebuild(
    const std::function<void(SignRequestSpec&)>& change) {
  return [change](v1::SignRequest& request) {
    SignRequestSpec spec = FullSpec();
    change(spec);
    request = BuildSignRequest(spec);
  };
}

// The second CodeDirectory comes from another description.
std::function<void(v1::SignRequest&)> Mix(
    const std::function<void(SignRequestSpec&)>& change) {
  return [change](v1::SignRequest& request) {
    SignRequestSpec spec = FullSpec();
    change(spec);
    Directory(request, 1) =
        BuildSignRequest(spec).code_directory_set().code_directories(1);
  };
}

v1::DigestSet& Digests(v1::SignRequest& request) {
  v1::DigestSet& set = *request.mutable_digest_set();
  auto& sha1 = *set.add_digests();
  sha1.set_hash_type(1);
  sha1.set_digest(std::string(20, 'a'));
  auto& sha256 = *set.add_digests();
  sha256.set_hash_type(2);
  sha256.set_digest(std::string(32, 'b'));
  set.set_message_digest(std::string(32, 'c'));
  return set;
}

constexpr Reason kBadRequest = v1::REASON_BAD_REQUEST;
constexpr Reason kBadDirectory = v1::REASON_BAD_CODE_DIRECTORY;

INSTANTIATE_TEST_SUITE_P(
    Rules, RequestRuleTest,
    ::testing::Values(
        RuleCase{"RequestIdEmpty", "SR-1", kBadRequest,
                 [](auto& r) { r.clear_request_id(); }},
        RuleCase{"RequestIdNoUuid", "SR-1", kBadRequest,
                 [](auto& r) {
                   r.set_request_id("00000000-0000-4000-8000-00000000000g");
                 }},
        RuleCase{"NoPayload", "SR-2", kBadRequest,
                 [](auto& r) { r.clear_payload(); }},
        RuleCase{"NoCodeDirectory", "SR-2", kBadRequest,
                 [](auto& r) {
                   r.mutable_code_directory_set()->clear_code_directories();
                 }},
        RuleCase{"NoDigest", "SR-2", kBadRequest,
                 [](auto& r) { Digests(r).clear_digests(); }},
        RuleCase{"BytesBehind", "SR-3", kBadDirectory,
                 [](auto& r) { Directory(r, 1) += 'x'; }},
        RuleCase{"WrongOrder", "SR-4", kBadDirectory,
                 [](auto& r) { Directory(r, 0).swap(Directory(r, 1)); }},
        RuleCase{"SameDigestTwice", "SR-4", kBadDirectory,
                 [](auto& r) { Directory(r, 0) = Directory(r, 1); }},
        RuleCase{"OtherIdentifier", "SR-5", kBadDirectory,
                 Mix([](auto& s) { s.identifier = "com.example.evil"; })},
        RuleCase{"OtherTeam", "SR-5", kBadDirectory,
                 Mix([](auto& s) { s.team_identifier = "OTHERTEAM1"; })},
        RuleCase{"OtherCodeLimit", "SR-5", kBadDirectory,
                 Mix([](auto& s) { s.code_page_count = 3; })},
        RuleCase{"OtherFlags", "SR-5", kBadDirectory,
                 Mix([](auto& s) { s.flags = 0; })},
        RuleCase{"OtherExecSegment", "SR-5", kBadDirectory,
                 Mix([](auto& s) { s.exec_segment_flags = 0; })},
        RuleCase{"AdHoc", "SR-6", kBadDirectory,
                 Rebuild([](auto& s) { s.flags = kAdHocFlag; })},
        RuleCase{"LinkerSigned", "SR-6", kBadDirectory,
                 Rebuild([](auto& s) { s.flags = kLinkerSignedFlag; })},
        RuleCase{"ApplePlatform", "SR-7", kBadDirectory,
                 [](auto& r) {
                   Directory(r, 0)[38] = 1;
                   Directory(r, 1)[38] = 1;
                 }},
        RuleCase{"TopDirectorySlot", "SR-8", kBadDirectory,
                 Rebuild([](auto& s) { s.file_digests[4] = {4}; })},
        RuleCase{"SealedBlobLeftOut", "SR-9", kBadDirectory,
                 [](auto& r) {
                   r.mutable_code_directory_set()->clear_requirements();
                 }},
        RuleCase{"BlobNotSealed", "SR-10", kBadDirectory,
                 [](auto& r) {
                   r.mutable_code_directory_set()->set_library_constraint(
                       ToString(WrapBlob(kLaunchConstraintMagic, {})));
                 }},
        RuleCase{"SealOfOtherBlob", "SR-11", kBadDirectory,
                 Mix([](auto& s) { s.entitlements += " "; })},
        RuleCase{"DerAlone", "SR-12", kBadDirectory,
                 [](auto& r) {
                   // Slot 5 is the third digest before the first two slots.
                   r.mutable_code_directory_set()->clear_entitlements();
                   for (const int i : {0, 1}) {
                     std::string& raw = Directory(r, i);
                     const auto d = CodeDirectory::Parse(AsBytes(raw)).value();
                     const ByteView seal = *d.SpecialSlotDigest(5);
                     const auto offset = static_cast<size_t>(
                         seal.data() -
                         reinterpret_cast<const uint8_t*>(raw.data()));
                     raw.replace(offset, seal.size(), seal.size(), '\0');
                   }
                 }},
        RuleCase{"BitsWithoutEntitlement", "SR-13", kBadDirectory,
                 Rebuild([](auto& s) {
                   s.exec_segment_flags =
                       kExecSegmentMainBinary | kExecSegmentDebugger;
                 })},
        RuleCase{"DigestOfWrongSize", "SR-14", kBadRequest,
                 [](auto& r) {
                   Digests(r).mutable_digests(0)->set_digest("short");
                 }},
        RuleCase{
            "DigestOfUnknownType", "SR-14", kBadRequest,
            [](auto& r) { Digests(r).mutable_digests(0)->set_hash_type(9); }},
        RuleCase{"DigestTypeOf32Bits", "SR-14", kBadRequest,
                 [](auto& r) {
                   Digests(r).mutable_digests(0)->set_hash_type(0x101);
                 }},
        RuleCase{"DigestsDoNotAscend", "SR-4", kBadRequest,
                 [](auto& r) {
                   v1::DigestSet& set = Digests(r);
                   *set.add_digests() = set.digests(0);
                 }},
        RuleCase{"MessageDigestCut", "SR-15", kBadRequest,
                 [](auto& r) { Digests(r).set_message_digest("short"); }},
        RuleCase{"MessageDigestOfOther", "SR-15", kBadRequest,
                 [](auto& r) {
                   v1::DigestSet& set = Digests(r);
                   set.mutable_digests()->DeleteSubrange(0, 1);
                 }},
        RuleCase{"Timestamp", "SR-16", kBadRequest,
                 [](auto& r) {
                   r.set_timestamp(v1::TIMESTAMP_MODE_NONE);
                   r.set_timestamp_url("http://tsa.example");
                 }},
        RuleCase{"TimestampMode", "SR-16", kBadRequest,
                 [](auto& r) {
                   r.set_timestamp(static_cast<v1::TimestampMode>(9));
                 }},
        RuleCase{"SigningTime", "SR-17", kBadRequest,
                 [](auto& r) {
                   r.mutable_signing_time()->set_seconds(int64_t{1} << 60);
                 }}),
    [](const auto& each) { return std::string(each.param.name); });

TEST(RequestCheckTest, EntitlementsMustSayTheSameTwice) {
  // Every digest fits, but the two forms differ.
  SignRequestSpec spec = FullSpec();
  v1::SignRequest request = BuildSignRequest(spec);
  spec.entitlements = std::string(kEntitlements);
  spec.entitlements.replace(spec.entitlements.find("<true/>"), 7, "<false/>");
  const v1::SignRequest other = BuildSignRequest(spec);
  auto& set = *request.mutable_code_directory_set();
  set.set_entitlements_der(other.code_directory_set().entitlements_der());
  for (const int i : {0, 1}) {
    std::string& raw = Directory(request, i);
    const auto mine = CodeDirectory::Parse(AsBytes(raw)).value();
    const auto theirs =
        CodeDirectory::Parse(
            AsBytes(other.code_directory_set().code_directories(i)))
            .value();
    const ByteView seal = *mine.SpecialSlotDigest(7);
    raw.replace(static_cast<size_t>(seal.data() - mine.raw().data()),
                seal.size(), ToString(*theirs.SpecialSlotDigest(7)));
  }
  EXPECT_THAT(CheckSignRequest(request),
              HasReason(v1::REASON_BAD_ENTITLEMENTS));
}

TEST(RequestCheckTest, DigestsAloneAreDescribed) {
  v1::SignRequest request = BuildSignRequest({});
  Digests(request);
  const absl::StatusOr<CheckedRequest> checked = CheckSignRequest(request);
  ASSERT_THAT(checked, IsOk());
  EXPECT_THAT(checked->code_directories, SizeIs(0));
  ASSERT_THAT(checked->cdhashes, SizeIs(2));
  EXPECT_EQ(checked->cdhashes[1][19], 'b');
  EXPECT_EQ(checked->content.message_digest, Bytes(32, 'c'));
}

TEST(UuidTest, HasOneForm) {
  EXPECT_TRUE(IsUuid("123e4567-e89b-42d3-A456-426614174000"));
  EXPECT_FALSE(IsUuid("123e4567e89b42d3a456426614174000"));
  EXPECT_FALSE(IsUuid("{23e4567-e89b-42d3-a456-426614174000"));
  EXPECT_FALSE(IsUuid("123e4567-e89b-42d3-a456-4266141740000"));
  EXPECT_FALSE(IsUuid(""));
}

}  // namespace
}  // namespace codeseal
