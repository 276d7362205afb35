#include "codesign/bundle/bundle_error.h"

#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

using ::codeseal::testing::HasCode;
using ::codeseal::testing::HasReason;

// The section "Bundles" of error_detail.proto.
bool IsAboutBundles(int number) { return number >= 700 && number < 800; }

TEST(BundleErrorTest, EveryReasonHasWords) {
  const auto* reasons = v1::Reason_descriptor();
  int count = 0;
  for (int i = 0; i < reasons->value_count(); ++i) {
    const int number = reasons->value(i)->number();
    const auto reason = static_cast<Reason>(number);
    if (!IsAboutBundles(number)) {
      EXPECT_EQ(AppleErrorCode(reason), std::nullopt) << reason;
      continue;
    }
    ++count;
    const absl::Status status = BundleError(reason, "x/y", "why");
    EXPECT_THAT(status, HasReason(reason));
    EXPECT_GT(Message(status).size(), std::string_view(": why").size());
    EXPECT_TRUE(Message(status).ends_with(": why")) << status;
    EXPECT_EQ(GetErrorDetail(status)->subject(), "x/y");
  }
  EXPECT_GT(count, 15);
}

TEST(BundleErrorTest, HasApplesNumbersAndWords) {
  EXPECT_EQ(AppleErrorCode(v1::REASON_SEALED_RESOURCE_CHANGED), -67054);
  EXPECT_EQ(AppleErrorCode(v1::REASON_RESOURCE_NAME_NOT_UTF8), std::nullopt);
  EXPECT_EQ(AppleErrorCode(v1::REASON_TRUNCATED), std::nullopt);
  EXPECT_EQ(Message(BundleError(v1::REASON_SEALED_RESOURCE_CHANGED, "a")),
            "a sealed resource is missing or invalid");
}

TEST(BundleErrorTest, MalformedIsNotRefused) {
  EXPECT_THAT(BundleError(v1::REASON_BAD_INFO_PLIST, "a"),
              HasCode(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(BundleError(v1::REASON_BAD_BUNDLE_FORMAT, "a"),
              HasCode(absl::StatusCode::kFailedPrecondition));
}

}  // namespace
}  // namespace codeseal
