// The shim does what faults.md says: called directly, in this process.

#include <dlfcn.h>

#include <atomic>
#include <chrono>
#include <map>
#include <thread>

#include "gtest/gtest.h"
#include "tests/support/fault_shim.h"
#include "tests/support/softhsm.h"

// Last: it defines macros for common words.
#include <p11-kit/pkcs11.h>

namespace codeseal {
namespace {

using ::codeseal::testing::FaultShim;
using ::codeseal::testing::SoftHsm;

class FaultP11Test : public ::testing::Test {
 protected:
  FaultP11Test() {
    hsm_.AddToken("t");
    void* object = dlopen(FaultShim::Module().c_str(), RTLD_NOW | RTLD_LOCAL);
    const auto get = reinterpret_cast<CK_C_GetFunctionList>(
        object == nullptr ? nullptr : dlsym(object, "C_GetFunctionList"));
    if (get != nullptr) get(&p11_);
  }
  ~FaultP11Test() override {
    shim_.Play("");
    if (p11_ != nullptr) p11_->C_Finalize(nullptr);
  }
  void SetUp() override {
    ASSERT_NE(p11_, nullptr) << dlerror();
    ASSERT_EQ(p11_->C_Initialize(nullptr), CKR_OK);
    CK_SLOT_ID slots[2];  // the token's, and SoftHSM's empty one behind it
    CK_ULONG count = 2;
    ASSERT_EQ(p11_->C_GetSlotList(CK_TRUE, slots, &count), CKR_OK);
    slot_ = slots[0];
  }

  CK_RV Open() {
    return p11_->C_OpenSession(slot_, CKF_SERIAL_SESSION | CKF_RW_SESSION,
                               nullptr, nullptr, &session_);
  }
  CK_RV Login() {
    std::string pin = SoftHsm::kPin;
    return p11_->C_Login(session_, CKU_USER,
                         reinterpret_cast<CK_UTF8CHAR*>(pin.data()),
                         pin.size());
  }
  CK_RV GetInfo() {
    CK_SESSION_INFO session_info{};
    return p11_->C_GetSessionInfo(session_, &session_info);
  }
  CK_OBJECT_HANDLE Generate() {
    CK_MECHANISM mechanism = {CKM_EC_KEY_PAIR_GEN, nullptr, 0};
    CK_BYTE p256[] = {6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7};
    CK_ATTRIBUTE parameters = {CKA_EC_PARAMS, p256, sizeof(p256)};
    CK_BBOOL yes = CK_TRUE;
    CK_ATTRIBUTE sign = {CKA_SIGN, &yes, sizeof(yes)};
    CK_OBJECT_HANDLE public_key = 0;
    CK_OBJECT_HANDLE private_key = 0;
    EXPECT_EQ(p11_->C_GenerateKeyPair(session_, &mechanism, &parameters, 1,
                                      &sign, 1, &public_key, &private_key),
              CKR_OK);
    public_keys_[private_key] = public_key;
    return private_key;
  }
  // Signs, and says whether the key's public half verifies it.
  bool SignsWith(CK_OBJECT_HANDLE key) {
    CK_MECHANISM mechanism = {CKM_ECDSA, nullptr, 0};
    CK_BYTE digest[32] = {1, 2, 3};
    CK_BYTE signature[64];
    CK_ULONG size = sizeof(signature);
    EXPECT_EQ(p11_->C_SignInit(session_, &mechanism, key), CKR_OK);
    EXPECT_EQ(p11_->C_Sign(session_, digest, sizeof(digest), signature, &size),
              CKR_OK);
    EXPECT_EQ(p11_->C_VerifyInit(session_, &mechanism, public_keys_.at(key)),
              CKR_OK);
    return p11_->C_Verify(session_, digest, sizeof(digest), signature, size) ==
           CKR_OK;
  }

  SoftHsm hsm_;
  FaultShim shim_;
  CK_FUNCTION_LIST* p11_ = nullptr;
  CK_SLOT_ID slot_ = 0;
  CK_SESSION_HANDLE session_ = 0;
  std::map<CK_OBJECT_HANDLE, CK_OBJECT_HANDLE> public_keys_;
};

TEST_F(FaultP11Test, ForwardsWithoutAScript) {
  EXPECT_EQ(Open(), CKR_OK);
  EXPECT_EQ(Login(), CKR_OK);
  EXPECT_EQ(GetInfo(), CKR_OK);
}

TEST_F(FaultP11Test, SkipAndCountChooseTheCalls) {
  ASSERT_EQ(Open(), CKR_OK);
  shim_.Play("C_GetSessionInfo skip=1 count=2 rv=CKR_DEVICE_REMOVED # here");
  EXPECT_EQ(GetInfo(), CKR_OK);
  EXPECT_EQ(GetInfo(), CKR_DEVICE_REMOVED);
  EXPECT_EQ(GetInfo(), CKR_DEVICE_REMOVED);
  EXPECT_EQ(GetInfo(), CKR_OK);
  shim_.Play("C_GetSessionInfo count=1 rv=0x80000001");
  EXPECT_EQ(GetInfo(), 0x80000001u);
  EXPECT_EQ(GetInfo(), CKR_OK);
}

TEST_F(FaultP11Test, FirstLineWhoseTurnItIsPlays) {
  ASSERT_EQ(Open(), CKR_OK);
  shim_.Play(
      "C_GetSessionInfo count=1 rv=CKR_GENERAL_ERROR\n"
      "* rv=CKR_DEVICE_ERROR\n");
  EXPECT_EQ(GetInfo(), CKR_GENERAL_ERROR);
  EXPECT_EQ(GetInfo(), CKR_DEVICE_ERROR);
  EXPECT_EQ(Login(), CKR_DEVICE_ERROR);
}

TEST_F(FaultP11Test, StickyCodeLastsUntilFinalize) {
  ASSERT_EQ(Open(), CKR_OK);
  shim_.Play("C_GetSessionInfo count=1 rv=CKR_DEVICE_ERROR until=C_Finalize");
  EXPECT_EQ(GetInfo(), CKR_DEVICE_ERROR);
  EXPECT_EQ(GetInfo(), CKR_DEVICE_ERROR);
  EXPECT_EQ(Open(), CKR_DEVICE_ERROR);
  EXPECT_EQ(p11_->C_Finalize(nullptr), CKR_OK);
  EXPECT_EQ(p11_->C_Initialize(nullptr), CKR_OK);
  EXPECT_EQ(Open(), CKR_OK);
}

TEST_F(FaultP11Test, ForwardCallsTheModuleFirst) {
  ASSERT_EQ(Open(), CKR_OK);
  shim_.Play("C_Login count=1 rv=CKR_DEVICE_ERROR forward");
  EXPECT_EQ(Login(), CKR_DEVICE_ERROR);
  EXPECT_EQ(Login(), CKR_USER_ALREADY_LOGGED_IN);
}

TEST_F(FaultP11Test, DelayWaits) {
  ASSERT_EQ(Open(), CKR_OK);
  shim_.Play("C_GetSessionInfo delay=50ms");
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(GetInfo(), CKR_OK);
  EXPECT_GE(std::chrono::steady_clock::now() - start,
            std::chrono::milliseconds(50));
}

TEST_F(FaultP11Test, HangLastsUntilTheScriptChanges) {
  ASSERT_EQ(Open(), CKR_OK);
  shim_.Play("C_GetSessionInfo hang");
  std::atomic<bool> returned = false;
  std::thread caller([&] {
    EXPECT_EQ(GetInfo(), CKR_OK);
    returned = true;
  });
  // Another function is not held up.
  EXPECT_EQ(Login(), CKR_OK);
  EXPECT_FALSE(returned);
  shim_.Play("");
  caller.join();
  EXPECT_TRUE(returned);
}

TEST_F(FaultP11Test, CrashIsInTheJournal) {
  ASSERT_EQ(Open(), CKR_OK);
  shim_.Play("C_GetSessionInfo crash");
  EXPECT_DEATH(GetInfo(), "");
  EXPECT_EQ(shim_.CallCount("C_GetSessionInfo"), 1);
}

TEST_F(FaultP11Test, ScriptWithAMistakeEndsTheProcess) {
  ASSERT_EQ(Open(), CKR_OK);
  for (const char* script : {"C_Sign rv=CKR_TYPO", "C_Sign rw=CKR_OK",
                             "C_Sign delay=5", "C_Sign skip=x"}) {
    shim_.Play(script);
    EXPECT_EXIT(GetInfo(), ::testing::ExitedWithCode(70), "fault_p11");
  }
}

TEST_F(FaultP11Test, TokenFlagsAreAdded) {
  shim_.Play("C_GetTokenInfo flags=USER_PIN_LOCKED flags=USER_PIN_FINAL_TRY");
  CK_TOKEN_INFO token_info{};
  ASSERT_EQ(p11_->C_GetTokenInfo(slot_, &token_info), CKR_OK);
  EXPECT_NE(token_info.flags & CKF_USER_PIN_LOCKED, 0u);
  EXPECT_NE(token_info.flags & CKF_USER_PIN_FINAL_TRY, 0u);
  shim_.Play("");
  ASSERT_EQ(p11_->C_GetTokenInfo(slot_, &token_info), CKR_OK);
  EXPECT_EQ(token_info.flags & CKF_USER_PIN_LOCKED, 0u);
}

TEST_F(FaultP11Test, SessionsAreCapped) {
  shim_.Play("sessions max=2");
  EXPECT_EQ(Open(), CKR_OK);
  EXPECT_EQ(Open(), CKR_OK);
  EXPECT_EQ(p11_->C_OpenSession(slot_, CKF_SERIAL_SESSION, nullptr, nullptr,
                                &session_),
            CKR_SESSION_COUNT);
  EXPECT_EQ(p11_->C_CloseSession(session_), CKR_OK);
  EXPECT_EQ(Open(), CKR_OK);
}

TEST_F(FaultP11Test, FlippedSignatureDoesNotVerify) {
  ASSERT_EQ(Open(), CKR_OK);
  ASSERT_EQ(Login(), CKR_OK);
  const CK_OBJECT_HANDLE key = Generate();
  EXPECT_TRUE(SignsWith(key));
  shim_.Play("C_Sign count=1 flip");
  EXPECT_FALSE(SignsWith(key));
  EXPECT_TRUE(SignsWith(key));
}

TEST_F(FaultP11Test, SwapSignsWithAnotherKey) {
  ASSERT_EQ(Open(), CKR_OK);
  ASSERT_EQ(Login(), CKR_OK);
  const CK_OBJECT_HANDLE key = Generate();
  Generate();
  shim_.Play("C_SignInit count=1 swap");
  EXPECT_FALSE(SignsWith(key));
  EXPECT_TRUE(SignsWith(key));
}

TEST_F(FaultP11Test, JournalHasEveryCallWithItsResult) {
  ASSERT_EQ(Open(), CKR_OK);
  shim_.Play("C_Login count=2 rv=CKR_PIN_INCORRECT");
  Login();
  Login();
  EXPECT_EQ(Login(), CKR_OK);
  EXPECT_EQ(shim_.CallCount("C_Login"), 3);
  EXPECT_EQ(shim_.CallCount("C_Login", "0xa0"), 2);
  EXPECT_EQ(shim_.Processes().size(), 1u);
}

}  // namespace
}  // namespace codeseal
