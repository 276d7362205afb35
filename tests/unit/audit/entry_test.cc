#include "audit/entry.h"

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/support/status_matchers.h"

namespace codeseal::audit {
namespace {

using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;

Entry FullEntry() {
  Entry entry;
  entry.kind = EntryKind::kSigned;
  entry.time = absl::FromUnixMillis(1'700'000'000'123);
  entry.policy = "aa";
  entry.request_id = "7f3a9100-0000-4000-8000-000000000000";
  entry.client = "spiffe://corp/ci/runner";
  entry.client_certificate = "bb";
  entry.identity = "developer-id";
  entry.identity_version = "2026a";
  entry.certificate = "cc";
  entry.identifier = "com.example.tool";
  entry.cdhashes = {"01", "02"};
  entry.checksum = "dd";
  entry.artifact = "build/Tüte";
  entry.architecture = "arm64";
  entry.artifact_sha256 = "ee";
  entry.decision = "allowed";
  entry.intent = uint64_t{1} << 60;
  entry.cms_sha256 = "ff";
  entry.signature_sha256 = "0f";
  entry.event = "identity_activated";
  entry.subject = "main";
  entry.detail = "because";
  entry.reason = "REASON_TOKEN_DOWN";
  entry.server = "1.0";
  return entry;
}

TEST(EntryTest, EveryFieldIsReadBack) {
  const Entry entry = FullEntry();
  const auto parsed = ParseEntry(EncodeEntry(entry));
  ASSERT_THAT(parsed, IsOk());
  EXPECT_EQ(*parsed, entry);
  for (const EntryKind kind :
       {EntryKind::kStarted, EntryKind::kIntent, EntryKind::kSigned,
        EntryKind::kFailed, EntryKind::kIndeterminate, EntryKind::kEvent}) {
    Entry small;
    small.kind = kind;
    EXPECT_EQ(*ParseEntry(EncodeEntry(small)), small);
  }
}

TEST(EntryTest, IsPlainJsonWithTheKindInWords) {
  const Bytes bytes = EncodeEntry(FullEntry());
  const auto json = nlohmann::json::parse(bytes.begin(), bytes.end());
  EXPECT_EQ(json["kind"], "signed");
  EXPECT_EQ(json["time"], "2023-11-14T22:13:20.123+00:00");
  EXPECT_EQ(json["cdhashes"][1], "02");
}

TEST(EntryTest, LongAndBrokenTextsStayBoundedAndUtf8) {
  Entry entry = FullEntry();
  for (int i = 0; i < 5000; ++i) entry.artifact += "ü";
  entry.architecture = "\xff\xfe";
  entry.cdhashes.assign(10'000, std::string(40, 'a'));
  const Bytes bytes = EncodeEntry(entry);
  EXPECT_LT(bytes.size(), 32'000u);
  EXPECT_THAT(ParseEntry(bytes), IsOk());
}

TEST(EntryTest, LaterVersionsMayHaveMoreKeys) {
  EXPECT_THAT(
      ParseEntry(AsBytes(R"({"v":1,"kind":"started","time":)"
                         R"("2026-01-01T00:00:00+00:00","new":{"a":[1]}})")),
      IsOk());
}

TEST(EntryTest, RulesAreKept) {
  const std::string time = R"("time":"2026-01-01T00:00:00+00:00")";
  const std::string start = R"({"v":1,"kind":"intent",)" + time;
  const std::pair<const char*, std::string> cases[] = {
      {"EN-1", ""},
      {"EN-1", "[]"},
      {"EN-1", start},
      {"EN-2", R"({"kind":"intent",)" + time + "}"},
      {"EN-2", R"({"v":2,"kind":"intent",)" + time + "}"},
      {"EN-3", R"({"v":1,"kind":1,)" + time + "}"},
      {"EN-4", R"({"v":1,"kind":"other",)" + time + "}"},
      {"EN-5", R"({"v":1,"kind":"intent","time":"now"})"},
      {"EN-6", start + R"(,"identity":7})"},
      {"EN-7", start + R"(,"cdhashes":"a"})"},
      {"EN-8", start + R"(,"cdhashes":[1]})"},
      {"EN-9", start + R"(,"intent":-1})"},
  };
  for (const auto& [rule, text] : cases) {
    EXPECT_THAT(ParseEntry(AsBytes(text)), HasReason(v1::REASON_BAD_AUDIT_LOG))
        << rule << ": " << text;
  }
}

TEST(EntryTest, ATornEntryIsNotWhole) {
  const Bytes bytes = EncodeEntry(FullEntry());
  EXPECT_TRUE(IsWholeEntry(bytes));
  for (size_t size = 0; size < bytes.size(); ++size) {
    Bytes torn(bytes.begin(), bytes.begin() + static_cast<long>(size));
    EXPECT_FALSE(IsWholeEntry(torn)) << size;
    torn.resize(bytes.size());  // what a power cut leaves
    EXPECT_FALSE(IsWholeEntry(torn)) << size;
  }
}

}  // namespace
}  // namespace codeseal::audit
