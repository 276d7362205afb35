#include "hsm/ck_rv.h"

#include <p11-kit/pkcs11.h>

#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

using ::codeseal::testing::HasCode;
using ::codeseal::testing::HasMessage;
using ::codeseal::testing::HasReason;

TEST(CkRvTest, ErrorCarriesNameAndCode) {
  const absl::Status status = TokenError(CKR_DEVICE_REMOVED, "C_Sign");
  EXPECT_THAT(status, HasReason(v1::REASON_TOKEN_DOWN));
  EXPECT_THAT(status, HasCode(absl::StatusCode::kUnavailable));
  EXPECT_THAT(status, HasMessage("C_Sign returned CKR_DEVICE_REMOVED"));
  EXPECT_EQ(GetErrorDetail(status)->ck_rv(), uint64_t{CKR_DEVICE_REMOVED});
  EXPECT_EQ(GetErrorDetail(status)->stage(), v1::STAGE_TOKEN);
}

TEST(CkRvTest, UnknownCodeIsTreatedLikeAGeneralError) {
  EXPECT_EQ(FindCkRv(0x80000001).action, TokenAction::kNewSession);
  EXPECT_EQ(CkRvName(0x80000001), "CKR_0x80000001");
  EXPECT_EQ(CkRvName(CKR_OK), "CKR_OK");
  EXPECT_THAT(TokenError(0x80000001, "C_Sign"),
              HasCode(absl::StatusCode::kUnavailable));
}

// A PIN error must never lead to another try.
TEST(CkRvTest, PinErrorsAreFinal) {
  for (const CK_RV rv :
       {CKR_PIN_INCORRECT, CKR_PIN_INVALID, CKR_PIN_LEN_RANGE, CKR_PIN_LOCKED,
        CKR_PIN_EXPIRED, CKR_USER_PIN_NOT_INITIALIZED}) {
    EXPECT_EQ(FindCkRv(rv).action, TokenAction::kFail) << CkRvName(rv);
    EXPECT_EQ(FindCkRv(rv).code, absl::StatusCode::kFailedPrecondition);
  }
}

TEST(CkRvTest, LossOfTheTokenLeadsToAReopen) {
  for (const CK_RV rv :
       {CKR_SESSION_HANDLE_INVALID, CKR_SESSION_CLOSED, CKR_USER_NOT_LOGGED_IN,
        CKR_DEVICE_REMOVED, CKR_DEVICE_ERROR, CKR_TOKEN_NOT_PRESENT,
        CKR_CRYPTOKI_NOT_INITIALIZED}) {
    EXPECT_EQ(FindCkRv(rv).action, TokenAction::kReopen) << CkRvName(rv);
    EXPECT_EQ(FindCkRv(rv).code, absl::StatusCode::kUnavailable);
  }
}

}  // namespace
}  // namespace codeseal
