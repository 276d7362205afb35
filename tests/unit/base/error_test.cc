#include "codesign/base/error.h"

#include <cerrno>

#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

using ::codeseal::testing::HasCode;
using ::codeseal::testing::HasReason;

TEST(ErrorTest, PayloadSurvives) {
  const absl::Status status =
      WithSubject(ParseError(v1::REASON_BAD_MAGIC, 12, "magic is 0"), "a.out");
  EXPECT_THAT(status, HasReason(v1::REASON_BAD_MAGIC));
  EXPECT_THAT(status, HasCode(absl::StatusCode::kInvalidArgument));
  const std::optional<ErrorDetail> detail = GetErrorDetail(status);
  ASSERT_TRUE(detail.has_value());
  EXPECT_EQ(detail->byte_offset(), 12u);
  EXPECT_EQ(detail->subject(), "a.out");
  EXPECT_EQ(Message(status), "magic is 0");
}

TEST(ErrorTest, NearestSubjectAndRuleStay) {
  absl::Status status = ParseError(v1::REASON_BAD_MAGIC, 0, "");
  status = WithRule(WithSubject(status, "slice"), "CD-1");
  status = WithRule(WithSubject(status, "file"), "CD-2");
  EXPECT_EQ(GetErrorDetail(status)->subject(), "slice");
  EXPECT_EQ(GetErrorDetail(status)->rule(), "CD-1");
}

TEST(ErrorTest, OffsetsAdd) {
  const absl::Status status =
      WithOffsetBase(ParseError(v1::REASON_TRUNCATED, 8, ""), 4096);
  EXPECT_EQ(GetErrorDetail(status)->byte_offset(), 4104u);
}

TEST(ErrorTest, ForeignStatusHasNoReason) {
  EXPECT_EQ(GetReason(absl::OkStatus()), v1::REASON_UNSPECIFIED);
  EXPECT_EQ(GetReason(absl::InternalError("x")), v1::REASON_UNSPECIFIED);
  EXPECT_FALSE(GetErrorDetail(absl::InternalError("x")).has_value());
}

TEST(ErrorTest, ErrnoBecomesReason) {
  EXPECT_THAT(FileError(ENOENT, v1::STAGE_PARSE, "open", "x"),
              HasReason(v1::REASON_FILE_NOT_FOUND));
  EXPECT_THAT(FileError(ENOSPC, v1::STAGE_WRITE, "write", "x"),
              HasReason(v1::REASON_DISK_FULL));
  EXPECT_THAT(FileError(EACCES, v1::STAGE_WRITE, "write", "x"),
              HasReason(v1::REASON_FILE_NOT_WRITABLE));
  EXPECT_THAT(FileError(EACCES, v1::STAGE_PARSE, "open", "x"),
              HasReason(v1::REASON_FILE_NOT_READABLE));
}

absl::StatusOr<int> Half(int value) {
  if (value % 2 != 0) return ParseError(v1::REASON_TRUNCATED, 0, "odd");
  return value / 2;
}

absl::StatusOr<int> Quarter(int value) {
  ASSIGN_OR_RETURN(const int half, Half(value));
  RETURN_IF_ERROR(Half(half).status());
  return half / 2;
}

TEST(ErrorTest, MacrosReturnEarly) {
  EXPECT_EQ(*Quarter(8), 2);
  EXPECT_THAT(Quarter(3), HasReason(v1::REASON_TRUNCATED));
  EXPECT_THAT(Quarter(6), HasReason(v1::REASON_TRUNCATED));
}

}  // namespace
}  // namespace codeseal
