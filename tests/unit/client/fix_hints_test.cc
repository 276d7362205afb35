#include "client/fix_hints.h"

#include <set>
#include <string>

#include "client/exit_code.h"
#include "gtest/gtest.h"

namespace codeseal::client {
namespace {

const std::string_view kUnknown = FixHint(v1::REASON_UNSPECIFIED);

TEST(FixHintTest, EveryReasonHasItsAdvice) {
  const auto* reasons = v1::Reason_descriptor();
  ASSERT_GT(reasons->value_count(), 60);
  for (int i = 0; i < reasons->value_count(); ++i) {
    const auto* reason = reasons->value(i);
    if (reason->number() == v1::REASON_UNSPECIFIED) continue;
    const std::string_view hint =
        FixHint(static_cast<Reason>(reason->number()));
    EXPECT_NE(hint, kUnknown) << reason->name() << " has no hint";
    EXPECT_FALSE(hint.ends_with(".")) << reason->name();
    EXPECT_EQ(hint.find('\n'), hint.npos) << reason->name();
  }
}

TEST(FixHintTest, ReasonOfANewerServerStillGetsAdvice) {
  EXPECT_EQ(FixHint(static_cast<Reason>(99999)), kUnknown);
  EXPECT_FALSE(kUnknown.empty());
}

absl::Status Fault(absl::StatusCode code, Stage stage, Reason reason) {
  return MakeError(code, stage, reason, "what happened");
}

TEST(ExitCodeTest, FollowsTheTableOfTheInterface) {
  using enum absl::StatusCode;
  EXPECT_EQ(ExitCodeFor(absl::OkStatus()), ExitCode::kDone);
  EXPECT_EQ(ExitCodeFor(Fault(kInvalidArgument, v1::STAGE_PARSE,
                              v1::REASON_NOT_MACH_O)),
            ExitCode::kNo);
  EXPECT_EQ(ExitCodeFor(Fault(kPermissionDenied, v1::STAGE_POLICY,
                              v1::REASON_POLICY_VIOLATION)),
            ExitCode::kNo);
  EXPECT_EQ(
      ExitCodeFor(Fault(kInvalidArgument, v1::STAGE_USAGE, v1::REASON_USAGE)),
      ExitCode::kUsage);
  EXPECT_EQ(ExitCodeFor(
                Fault(kInvalidArgument, v1::STAGE_PLAN, v1::REASON_BAD_OPTION)),
            ExitCode::kUsage);
  EXPECT_EQ(ExitCodeFor(Fault(kFailedPrecondition, v1::STAGE_VERIFY,
                              v1::REASON_REQUIREMENT_NOT_SATISFIED)),
            ExitCode::kRequirementFailed);
  EXPECT_EQ(ExitCodeFor(Fault(kUnavailable, v1::STAGE_TRANSPORT,
                              v1::REASON_SERVER_UNREACHABLE)),
            ExitCode::kTryAgain);
  EXPECT_EQ(ExitCodeFor(Fault(kDeadlineExceeded, v1::STAGE_TOKEN,
                              v1::REASON_TOKEN_TIMEOUT)),
            ExitCode::kTryAgain);
  for (const absl::StatusCode code : {kInternal, kDataLoss}) {
    EXPECT_EQ(
        ExitCodeFor(Fault(code, v1::STAGE_CMS, v1::REASON_SELF_VERIFY_FAILED)),
        ExitCode::kInternal);
  }
  EXPECT_EQ(ExitCodeFor(absl::UnknownError("foreign")), ExitCode::kInternal);
}

TEST(ExitCodeTest, TryingAgainIsNotOfferedWhenItCannotHelp) {
  using enum absl::StatusCode;
  EXPECT_EQ(ExitCodeFor(Fault(kUnavailable, v1::STAGE_TRANSPORT,
                              v1::REASON_TLS_FAILED)),
            ExitCode::kNo);
  EXPECT_EQ(ExitCodeFor(Fault(kResourceExhausted, v1::STAGE_WRITE,
                              v1::REASON_DISK_FULL)),
            ExitCode::kNo);
}

TEST(ExitCodeTest, DefiniteAnswersOutrankTryAgain) {
  EXPECT_EQ(Worse(ExitCode::kDone, ExitCode::kTryAgain), ExitCode::kTryAgain);
  EXPECT_EQ(Worse(ExitCode::kNo, ExitCode::kTryAgain), ExitCode::kNo);
  EXPECT_EQ(Worse(ExitCode::kRequirementFailed, ExitCode::kNo), ExitCode::kNo);
  EXPECT_EQ(Worse(ExitCode::kInternal, ExitCode::kNo), ExitCode::kInternal);
  EXPECT_EQ(Worse(ExitCode::kDone, ExitCode::kDone), ExitCode::kDone);
}

}  // namespace
}  // namespace codeseal::client
