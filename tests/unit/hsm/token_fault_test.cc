// The token when the module misbehaves: what tokens do in the field, played by
// the fault shim. Each test is a promise: an answer within the deadline, no
// wrong PIN sent twice, signing again soon after the token is back.

#include <poll.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <filesystem>
#include <memory>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "hsm/public_key.h"
#include "hsm/token.h"
#include "tests/support/fault_shim.h"
#include "tests/support/softhsm.h"
#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

using ::codeseal::testing::FaultShim;
using ::codeseal::testing::HasCode;
using ::codeseal::testing::HasMessage;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::SoftHsm;

absl::Time Soon() { return absl::Now() + absl::Seconds(30); }

// How long signing may take to resume once the token is back, and slack for a
// machine that is busy with other tests.
constexpr absl::Duration kResumeTime = absl::Seconds(2);

class TokenFaultTest : public ::testing::Test {
 protected:
  void SetUp() override {
    hsm_.AddToken("faulty");
    TokenConfig config = ShimConfig();
    auto token = Token::Create(config);
    ASSERT_THAT(token, IsOk());
    token_ = *token;
    ASSERT_THAT(token_->GenerateKey({{1}, "key"}, KeyAlgorithm::kP256, Soon()),
                IsOk());
    auto key = token_->LoadKey({{1}, ""}, KeyPolicy::kStrict, {}, Soon());
    ASSERT_THAT(key, IsOk());
    key_ = *key;
    auto verifier = ParsePublicKey(key_->public_key());
    ASSERT_THAT(verifier, IsOk());
    verifier_ = *std::move(verifier);
  }

  TokenConfig ShimConfig() {
    TokenConfig config = hsm_.Config("faulty");
    config.module = FaultShim::Module();
    config.operation_timeout = absl::Seconds(1);
    return config;
  }

  // Signs, and checks what came back.
  absl::Status Sign(KeyBackend& key, absl::Time deadline) {
    const Bytes digest(32, 0x17);
    const absl::StatusOr<Bytes> signature =
        key.Sign(SignMechanism::kEcdsa, SignDigest::kSha256, digest, deadline);
    if (!signature.ok()) return signature.status();
    return VerifyDigest(verifier_.get(), SignMechanism::kEcdsa,
                        SignDigest::kSha256, digest, *signature);
  }
  absl::Status Sign() { return Sign(*key_, Soon()); }
  // Leaves the check to the key.
  absl::Status SignUnchecked() {
    return key_
        ->Sign(SignMechanism::kEcdsa, SignDigest::kSha256, Bytes(32, 0x17),
               Soon())
        .status();
  }

  // Keeps asking, as clients do, until a signature comes; returns how long that
  // took.
  absl::Duration TimeUntilSigned() {
    const absl::Time start = absl::Now();
    while (!Sign().ok() && absl::Now() - start < absl::Seconds(20)) {
      absl::SleepFor(absl::Milliseconds(2));  // a client that asks again
    }
    return absl::Now() - start;
  }

  // Asks until the token was really tried: fast refusals do not count.
  void FailOnceMore() {
    const int before = shim_.CallCount("C_Initialize");
    const absl::Time end = absl::Now() + absl::Seconds(10);
    while (shim_.CallCount("C_Initialize") == before && absl::Now() < end) {
      EXPECT_FALSE(Sign().ok());
    }
  }

  // A second token in the same store, whose module is healthy.
  std::shared_ptr<KeyBackend> HealthyKey() {
    hsm_.AddToken("healthy");
    auto token = Token::Create(hsm_.Config("healthy"));
    EXPECT_THAT((*token)->GenerateKey({{2}, ""}, KeyAlgorithm::kP256, Soon()),
                IsOk());
    auto key = (*token)->LoadKey({{2}, ""}, KeyPolicy::kStrict, {}, Soon());
    EXPECT_THAT(key, IsOk());
    return key.ok() ? *key : nullptr;
  }

  SoftHsm hsm_;
  FaultShim shim_;
  std::shared_ptr<Token> token_;
  std::shared_ptr<KeyBackend> key_;
  UniqueEvpPkey verifier_;
};

TEST_F(TokenFaultTest, HangIsAnsweredInTimeAndTheWorkerReplaced) {
  const auto healthy = HealthyKey();
  shim_.Play("C_Sign hang");
  const absl::Time start = absl::Now();
  const absl::Status status = Sign();
  EXPECT_THAT(status, HasReason(v1::REASON_TOKEN_TIMEOUT));
  EXPECT_THAT(status, HasCode(absl::StatusCode::kDeadlineExceeded));
  EXPECT_LT(absl::Now() - start, absl::Seconds(3));

  // Still hung: another token does not notice.
  const absl::Time healthy_start = absl::Now();
  EXPECT_THAT(healthy->Sign(SignMechanism::kEcdsa, SignDigest::kSha256,
                            Bytes(32, 1), Soon()),
              IsOk());
  EXPECT_LT(absl::Now() - healthy_start, absl::Seconds(1));

  // It hangs for longer than an operation may take, and is asked meanwhile.
  for (int i = 0; i < 4; ++i) EXPECT_FALSE(Sign().ok());
  shim_.Play("");
  EXPECT_LT(TimeUntilSigned(), kResumeTime);
}

TEST_F(TokenFaultTest, CallerWithAShortDeadlineDoesNotKillASlowToken) {
  shim_.Play("C_Sign delay=300ms");
  for (int i = 0; i < 3; ++i) {
    const absl::Time start = absl::Now();
    EXPECT_THAT(Sign(*key_, start + absl::Milliseconds(50)),
                HasReason(v1::REASON_TOKEN_TIMEOUT));
    EXPECT_LT(absl::Now() - start, absl::Milliseconds(290));
  }
  EXPECT_THAT(Sign(), IsOk());
  EXPECT_EQ(shim_.Processes().size(), 1u);
}

// Nobody waits for these calls any more, but they must not block the token.
TEST_F(TokenFaultTest, AbandonedCallsThatHangAreNoticed) {
  const int before = shim_.CallCount("C_SignInit");
  shim_.Play("C_Sign count=4 hang");  // as many as there are sessions
  for (int i = 0; i < 4; ++i) {
    EXPECT_FALSE(Sign(*key_, absl::Now() + absl::Milliseconds(50)).ok());
  }
  EXPECT_TRUE(shim_.WaitForCalls("C_SignInit", before + 3));
  EXPECT_LT(TimeUntilSigned(), absl::Seconds(1) + kResumeTime);
}

TEST_F(TokenFaultTest, CrashIsNotSeenByTheCaller) {
  shim_.Play("C_Sign count=1 crash");
  EXPECT_THAT(Sign(), IsOk());
  EXPECT_EQ(shim_.Processes().size(), 2u);
}

TEST_F(TokenFaultTest, CrashEachTimeIsReportedAndFailsFast) {
  const auto healthy = HealthyKey();
  shim_.Play("C_Sign crash");
  const absl::Status status = Sign();
  EXPECT_THAT(status, HasReason(v1::REASON_TOKEN_DOWN));
  EXPECT_THAT(status, HasCode(absl::StatusCode::kUnavailable));
  EXPECT_THAT(healthy->Sign(SignMechanism::kEcdsa, SignDigest::kSha256,
                            Bytes(32, 1), Soon()),
              IsOk());
  for (int i = 0; i < 8; ++i) FailOnceMore();
  // While it is down, a thousand calls start no more than a few workers.
  const size_t workers = shim_.Processes().size();
  for (int i = 0; i < 1000; ++i) EXPECT_FALSE(Sign().ok());
  EXPECT_LE(shim_.Processes().size(), workers + 3);
  shim_.Play("");
  EXPECT_LT(TimeUntilSigned(), kResumeTime);
}

TEST_F(TokenFaultTest, CrashUnderLoadLosesNoCallThatHasTime) {
  shim_.Play("C_Sign skip=20 count=1 crash");
  std::atomic<int> good_count = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 25; ++n) {
        if (Sign().ok()) ++good_count;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good_count, 100);
}

TEST_F(TokenFaultTest, RemovedOnceIsRecoveredWithinTheCall) {
  shim_.Play("C_Sign count=1 rv=CKR_DEVICE_REMOVED");
  EXPECT_THAT(Sign(), IsOk());
  EXPECT_EQ(shim_.Processes().size(), 1u);
}

TEST_F(TokenFaultTest, RemovedForAWhile) {
  shim_.Play("* rv=CKR_DEVICE_REMOVED");
  const absl::Time start = absl::Now();
  const absl::Status status = Sign();
  EXPECT_THAT(status, HasReason(v1::REASON_TOKEN_DOWN));
  EXPECT_THAT(status, HasCode(absl::StatusCode::kUnavailable));
  EXPECT_THAT(status, HasMessage("CKR_DEVICE_REMOVED"));
  EXPECT_LT(absl::Now() - start, absl::Seconds(2));
  for (int i = 0; i < 8; ++i) FailOnceMore();
  shim_.Play("");
  EXPECT_LT(TimeUntilSigned(), kResumeTime);
}

TEST_F(TokenFaultTest, SessionsThatAreInvalidAreOpenedAnew) {
  EXPECT_THAT(Sign(), IsOk());
  // One alone: the login is still there.
  shim_.Play("C_SignInit count=1 rv=CKR_SESSION_HANDLE_INVALID");
  EXPECT_THAT(Sign(), IsOk());
  EXPECT_EQ(shim_.CallCount("C_Login"), 1);
  // All of them.
  shim_.Play(
      "C_SignInit count=1 rv=CKR_SESSION_HANDLE_INVALID "
      "until=C_CloseAllSessions");
  EXPECT_THAT(Sign(), IsOk());
  EXPECT_EQ(shim_.Processes().size(), 1u);
  EXPECT_EQ(shim_.CallCount("C_Login"), 2);
}

// A reopen waits until no call runs: it must not wait for ever while others
// keep coming.
TEST_F(TokenFaultTest, ReopenUnderLoadLosesNoCall) {
  const int before = shim_.CallCount("C_Login");
  shim_.Play(
      "C_SignInit skip=20 count=1 rv=CKR_SESSION_CLOSED "
      "until=C_CloseAllSessions\n"
      "C_Sign delay=5ms\n");
  std::atomic<int> good_count = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 120; ++n) {
        if (Sign().ok()) ++good_count;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good_count, 8 * 120);
  EXPECT_EQ(shim_.CallCount("C_Login"), before + 1);
  EXPECT_EQ(shim_.Processes().size(), 1u);
}

// What fails in one session is tried in another: everything else stays.
TEST_F(TokenFaultTest, FaultsOfOneSessionCostNoLoginAndNoSearch) {
  ASSERT_THAT(Sign(), IsOk());
  const int logins = shim_.CallCount("C_Login");
  const int searches = shim_.CallCount("C_FindObjectsInit");
  shim_.Play("C_Sign count=3 rv=CKR_GENERAL_ERROR");
  EXPECT_THAT(Sign(), IsOk());
  EXPECT_EQ(shim_.CallCount("C_Login"), logins);
  EXPECT_EQ(shim_.CallCount("C_FindObjectsInit"), searches);
  EXPECT_EQ(shim_.CallCount("C_Finalize"), 0);
}

// A reopen waits for the calls that run, but not for one that hangs.
TEST_F(TokenFaultTest, HungCallDoesNotHoldUpAReopen) {
  TokenConfig config = ShimConfig();
  config.operation_timeout = absl::Seconds(10);
  const auto token = Token::Create(config);
  ASSERT_THAT(token, IsOk());
  const auto key = (*token)->LoadKey({{1}, ""}, KeyPolicy::kStrict, {}, Soon());
  ASSERT_THAT(key, IsOk());
  const size_t workers = shim_.Processes().size();
  const int before = shim_.CallCount("C_SignInit");
  shim_.Play(
      "C_Sign count=1 hang\n"
      "C_SignInit skip=1 count=1 rv=CKR_SESSION_CLOSED "
      "until=C_CloseAllSessions\n");
  const absl::Time start = absl::Now();
  std::thread hung([&] { EXPECT_THAT(Sign(**key, Soon()), IsOk()); });
  ASSERT_TRUE(shim_.WaitForCalls("C_SignInit", before));
  EXPECT_THAT(Sign(**key, Soon()), IsOk());
  hung.join();
  EXPECT_LT(absl::Now() - start, absl::Seconds(8));
  EXPECT_EQ(shim_.Processes().size(), workers + 1);
}

// After a reopen every thread wants the key: one looks for it.
TEST_F(TokenFaultTest, OneThreadSearchesForAll) {
  const std::string reopen =
      "C_SignInit count=1 rv=CKR_SESSION_CLOSED until=C_CloseAllSessions\n";
  int searches = shim_.CallCount("C_FindObjectsInit");
  shim_.Play(reopen);
  ASSERT_THAT(Sign(), IsOk());
  const int calls_of_one = shim_.CallCount("C_FindObjectsInit") - searches;
  ASSERT_GT(calls_of_one, 0);
  searches += calls_of_one;
  shim_.Play(reopen + "C_FindObjectsInit delay=100ms\n");
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] { EXPECT_THAT(Sign(), IsOk()); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(shim_.CallCount("C_FindObjectsInit"), searches + calls_of_one);
}

// A lost login hides behind other codes on every token.
TEST_F(TokenFaultTest, LostLoginBehindAnotherCodeIsFound) {
  for (const char* rv : {"CKR_KEY_HANDLE_INVALID", "CKR_KEY_TYPE_INCONSISTENT",
                         "CKR_OBJECT_HANDLE_INVALID", "CKR_USER_NOT_LOGGED_IN",
                         "CKR_GENERAL_ERROR", "0x80000001"}) {
    shim_.Play(std::string("C_SignInit count=1 rv=") + rv +
               "\nC_GetSessionInfo count=1 rv=CKR_SESSION_CLOSED\n");
    EXPECT_THAT(Sign(), IsOk()) << rv;
  }
  EXPECT_EQ(shim_.Processes().size(), 1u);
}

TEST_F(TokenFaultTest, MechanismErrorWithAGoodLoginIsFinal) {
  const int before = shim_.CallCount("C_SignInit");
  shim_.Play("C_SignInit rv=CKR_MECHANISM_INVALID");
  const absl::Status status = Sign();
  EXPECT_THAT(status, HasReason(v1::REASON_KEY_UNSUPPORTED));
  EXPECT_THAT(status, HasCode(absl::StatusCode::kFailedPrecondition));
  EXPECT_EQ(shim_.CallCount("C_SignInit"), before + 1);
  shim_.Play("");
  EXPECT_THAT(Sign(), IsOk());
}

TEST_F(TokenFaultTest, DeviceErrorThatSticksUntilFinalize) {
  shim_.Play("C_Sign count=1 rv=CKR_DEVICE_ERROR until=C_Finalize");
  EXPECT_THAT(Sign(), IsOk());
  EXPECT_EQ(shim_.Processes().size(), 1u);
  EXPECT_EQ(shim_.CallCount("C_Finalize"), 1);
}

TEST_F(TokenFaultTest, FaultThatOnlyANewProcessCures) {
  // Finalize itself fails to cure: every call of the first worker fails.
  shim_.Play(
      "C_Sign count=5 rv=CKR_FUNCTION_FAILED\n"
      "C_Initialize count=1 rv=CKR_GENERAL_ERROR\n");
  EXPECT_LT(TimeUntilSigned(), kResumeTime);
  EXPECT_GE(shim_.CallCount("C_Finalize"), 1);
}

TEST_F(TokenFaultTest, RejectedPinIsSentOnce) {
  hsm_.folder().Write("pin", "11111111");
  const int before = shim_.CallCount("C_Login");
  shim_.Play("C_Sign count=1 rv=CKR_SESSION_CLOSED until=C_CloseAllSessions");
  EXPECT_THAT(Sign(), HasReason(v1::REASON_PIN_REJECTED));
  for (int i = 0; i < 20; ++i) {
    EXPECT_THAT(Sign(), HasReason(v1::REASON_PIN_HOLD));
    EXPECT_THAT(token_->List(Soon()), HasReason(v1::REASON_PIN_HOLD));
  }
  EXPECT_EQ(shim_.CallCount("C_Login"), before + 1);
  EXPECT_EQ(shim_.CallCount("C_Login", "0xa0"), 1);
}

TEST_F(TokenFaultTest, RejectedPinIsSentOnceByManyThreads) {
  hsm_.folder().Write("pin", "11111111");
  auto token = Token::Create(ShimConfig());
  ASSERT_THAT(token, IsOk());
  const int before = shim_.CallCount("C_Login");
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 5; ++n) {
        EXPECT_THAT((*token)->Probe({{1}, ""}, Soon()),
                    HasCode(absl::StatusCode::kFailedPrecondition));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(shim_.CallCount("C_Login"), before + 1);
}

// The crash hides what the token said to the PIN; its counter tells.
TEST_F(TokenFaultTest, PinInDoubtIsNotSentAgainWhenTheTokenCountedIt) {
  hsm_.folder().Write("pin", "11111111");
  auto token = Token::Create(ShimConfig());
  ASSERT_THAT(token, IsOk());
  const int before = shim_.CallCount("C_Login");
  shim_.Play(
      "C_Login count=1 crash\n"
      "C_GetTokenInfo skip=2 flags=USER_PIN_COUNT_LOW\n");
  for (int i = 0; i < 5; ++i) {
    EXPECT_FALSE((*token)->Probe({{1}, ""}, Soon()).ok());
  }
  EXPECT_EQ(shim_.CallCount("C_Login"), before + 1);
}

TEST_F(TokenFaultTest, InterruptedLoginWithAGoodPinIsRepeated) {
  auto token = Token::Create(ShimConfig());
  ASSERT_THAT(token, IsOk());
  shim_.Play("C_Login count=1 crash");
  EXPECT_THAT((*token)->Probe({{1}, ""}, Soon()), IsOk());
}

TEST_F(TokenFaultTest, NoLoginOnTheFinalTryOrALockedPin) {
  for (const char* flag :
       {"USER_PIN_FINAL_TRY", "USER_PIN_LOCKED", "USER_PIN_TO_BE_CHANGED"}) {
    auto token = Token::Create(ShimConfig());
    ASSERT_THAT(token, IsOk());
    const int before = shim_.CallCount("C_Login");
    shim_.Play(std::string("C_GetTokenInfo flags=") + flag);
    EXPECT_THAT((*token)->Probe({{1}, ""}, Soon()),
                HasReason(v1::REASON_PIN_HOLD))
        << flag;
    EXPECT_THAT((*token)->List(Soon()), HasReason(v1::REASON_PIN_HOLD)) << flag;
    EXPECT_EQ(shim_.CallCount("C_Login"), before) << flag;
    // An operator has reset the PIN: no restart is needed.
    shim_.Play("");
    const absl::Time start = absl::Now();
    while (!(*token)->Probe({{1}, ""}, Soon()).ok() &&
           absl::Now() - start < absl::Seconds(10)) {
      absl::SleepFor(absl::Milliseconds(2));
    }
    EXPECT_LT(absl::Now() - start, kResumeTime) << flag;
  }
}

// Some modules must not even be called by two threads in turn.
TEST_F(TokenFaultTest, ModuleThatCannotLockIsCalledByOneThread) {
  struct Case {
    const char* name;
    const char* script;
    void (*change)(TokenConfig& config);
  };
  const Case cases[] = {
      {"the module says so", "C_Initialize count=1 rv=CKR_CANT_LOCK",
       [](TokenConfig&) {}},
      {"serialize", "", [](TokenConfig& config) { config.serialize = true; }},
      {"no-os-locking", "",
       [](TokenConfig& config) { config.no_os_locking = true; }},
  };
  for (const Case& each : cases) {
    FaultShim shim;  // a journal of its own
    shim.Play(each.script);
    TokenConfig config = ShimConfig();
    each.change(config);
    const auto token = Token::Create(config);
    ASSERT_THAT(token, IsOk());
    auto key = (*token)->LoadKey({{1}, ""}, KeyPolicy::kStrict, {}, Soon());
    ASSERT_THAT(key, IsOk()) << each.name;
    std::atomic<int> good_count = 0;
    std::vector<std::thread> threads;
    for (int i = 0; i < 6; ++i) {
      threads.emplace_back([&] {
        for (int n = 0; n < 10; ++n) {
          if (Sign(**key, Soon()).ok()) ++good_count;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(good_count, 60) << each.name;
    EXPECT_EQ(shim.Threads().size(), 1u) << each.name;
  }
}

TEST_F(TokenFaultTest, KeyThatHidesThatItWantsThePinEachTime) {
  TokenConfig config = ShimConfig();
  config.pin_per_signature = true;
  // After the login as such, SoftHSM does not expect a PIN; the shim does.
  shim_.Play("C_Login skip=1 rv=CKR_OK");
  const auto token = Token::Create(config);
  ASSERT_THAT(token, IsOk());
  const auto key = (*token)->LoadKey({{1}, ""}, KeyPolicy::kStrict, {}, Soon());
  ASSERT_THAT(key, IsOk());
  const int before = shim_.CallCount("C_Login");
  for (int i = 0; i < 3; ++i) EXPECT_THAT(Sign(**key, Soon()), IsOk());
  EXPECT_EQ(shim_.CallCount("C_Login"), before + 3);
}

// A cluster shows several members; which one answers may change.
TEST_F(TokenFaultTest, FirstSerialThatIsThereIsUsed) {
  const auto own = token_->List(Soon());
  ASSERT_THAT(own, IsOk());
  const std::string first = own->serial;
  hsm_.AddToken("second");
  TokenConfig other = hsm_.Config("second");
  const auto listing = (*Token::Create(other))->List(Soon());
  ASSERT_THAT(listing, IsOk());
  const std::string second = listing->serial;
  ASSERT_NE(first, second);
  TokenConfig config = ShimConfig();
  config.label.clear();
  config.serials = {"absent", second, first};
  const auto chosen = (*Token::Create(config))->List(Soon());
  ASSERT_THAT(chosen, IsOk());
  EXPECT_EQ(chosen->serial, second);
  config.serials = {first, second};
  const auto again = (*Token::Create(config))->List(Soon());
  ASSERT_THAT(again, IsOk());
  EXPECT_EQ(again->serial, first);
}

// Such a key wants the PIN again for each signature.
TEST_F(TokenFaultTest, KeyThatAlwaysAuthenticatesGetsThePinEachTime) {
  hsm_.Run({"pkcs11-tool", "--module", testing::kSoftHsmModule, "--token-label",
            "faulty", "--login", "--pin", SoftHsm::kPin, "--keypairgen",
            "--key-type", "EC:prime256v1", "--usage-sign", "--sensitive",
            "--always-auth", "--id", "05"});
  // pkcs11-tool leaves CKA_DECRYPT true.
  const auto key =
      token_->LoadKey({{5}, ""}, KeyPolicy::kImportedAllowed, {}, Soon());
  ASSERT_THAT(key, IsOk());
  const auto sign = [&] {
    return (*key)
        ->Sign(SignMechanism::kEcdsa, SignDigest::kSha256, Bytes(32, 1), Soon())
        .status();
  };
  const int before = shim_.CallCount("C_Login");
  for (int i = 0; i < 3; ++i) EXPECT_THAT(sign(), IsOk());
  EXPECT_EQ(shim_.CallCount("C_Login"), before + 3);

  hsm_.folder().Write("pin", "11111111");
  EXPECT_THAT(sign(), HasReason(v1::REASON_PIN_REJECTED));
  for (int i = 0; i < 5; ++i) {
    EXPECT_THAT(sign(), HasReason(v1::REASON_PIN_HOLD));
  }
  EXPECT_EQ(shim_.CallCount("C_Login"), before + 4);
}

TEST_F(TokenFaultTest, FlippedSignatureAfterAReopenIsNotReturned) {
  shim_.Play(
      "C_SignInit count=1 rv=CKR_SESSION_CLOSED\n"
      "C_Sign count=1 flip\n");
  const absl::Status status = SignUnchecked();
  EXPECT_THAT(status, HasReason(v1::REASON_SELF_VERIFY_FAILED));
  EXPECT_THAT(status, HasCode(absl::StatusCode::kDataLoss));
  EXPECT_LT(TimeUntilSigned(), kResumeTime);
}

TEST_F(TokenFaultTest, HandleOfAnotherKeyAfterAReopenIsNotUsed) {
  ASSERT_THAT(token_->GenerateKey({{2}, "other"}, KeyAlgorithm::kP256, Soon()),
              IsOk());
  shim_.Play(
      "C_SignInit count=1 rv=CKR_SESSION_CLOSED\n"
      "C_SignInit count=1 swap\n");
  EXPECT_THAT(SignUnchecked(), HasReason(v1::REASON_SELF_VERIFY_FAILED));
}

// Somebody stores a second key under the same names after ours was loaded.
TEST_F(TokenFaultTest, KeyIsFoundAgainByItsPublicHalf) {
  const KeyReference reference = {{8}, "twin"};
  ASSERT_THAT(token_->GenerateKey(reference, KeyAlgorithm::kRsa2048, Soon()),
              IsOk());
  const auto key = token_->LoadKey(reference, KeyPolicy::kStrict, {}, Soon());
  ASSERT_THAT(key, IsOk());
  hsm_.Run({"openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt",
            "rsa_keygen_bits:2048", "-out", hsm_.folder().Path("twin.pem")});
  hsm_.Run({"softhsm2-util", "--import", hsm_.folder().Path("twin.pem"),
            "--token", "faulty", "--label", "twin", "--id", "08", "--pin",
            SoftHsm::kPin, "--force"});
  shim_.Play("C_SignInit count=1 rv=CKR_SESSION_CLOSED");
  EXPECT_THAT((*key)->Sign(SignMechanism::kRsaPkcs1, SignDigest::kSha256,
                           Bytes(32, 1), Soon()),
              IsOk());
  EXPECT_THAT(token_->LoadKey(reference, KeyPolicy::kStrict, {}, Soon()),
              HasReason(v1::REASON_KEY_NOT_FOUND));
}

TEST_F(TokenFaultTest, KeyThatSignsWithAnotherHalfIsNotLoaded) {
  ASSERT_THAT(token_->GenerateKey({{2}, "other"}, KeyAlgorithm::kP256, Soon()),
              IsOk());
  shim_.Play("C_SignInit swap");
  EXPECT_THAT(token_->LoadKey({{1}, ""}, KeyPolicy::kStrict, {}, Soon()),
              HasReason(v1::REASON_SELF_VERIFY_FAILED));
}

TEST_F(TokenFaultTest, FullTokenServesWithTheSessionsItHas) {
  for (const char* cap : {"1", "2", "3"}) {
    shim_.Play(std::string("sessions max=") + cap);
    auto token = Token::Create(ShimConfig());
    ASSERT_THAT(token, IsOk());
    auto key = (*token)->LoadKey({{1}, ""}, KeyPolicy::kStrict, {}, Soon());
    ASSERT_THAT(key, IsOk()) << cap;
    std::atomic<int> good_count = 0;
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; ++i) {
      threads.emplace_back([&] {
        for (int n = 0; n < 10; ++n) {
          if (Sign(**key, Soon()).ok()) ++good_count;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(good_count, 80) << cap;
  }
}

// Another program had the token's sessions and gave them back.
TEST_F(TokenFaultTest, FullTokenIsAskedForMoreLater) {
  shim_.Play("sessions max=2");
  auto token = Token::Create(ShimConfig());
  ASSERT_THAT(token, IsOk());
  auto key = (*token)->LoadKey({{1}, ""}, KeyPolicy::kStrict, {}, Soon());
  ASSERT_THAT(key, IsOk());
  const auto sign_on_four_threads = [&](absl::Duration time) {
    const absl::Time end = absl::Now() + time;
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        while (absl::Now() < end) EXPECT_THAT(Sign(**key, Soon()), IsOk());
      });
    }
    for (std::thread& thread : threads) thread.join();
  };
  sign_on_four_threads(absl::Milliseconds(100));
  const int refused = shim_.CallCount("C_OpenSession", "0xb1");
  EXPECT_GE(refused, 1);
  const int before = shim_.CallCount("C_OpenSession");
  shim_.Play("C_Sign delay=5ms");
  sign_on_four_threads(absl::Milliseconds(1500));
  EXPECT_GE(shim_.CallCount("C_OpenSession"), before + 1);
  EXPECT_EQ(shim_.CallCount("C_OpenSession", "0xb1"), refused);
}

TEST_F(TokenFaultTest, TokenWithoutASessionForUsIsBusy) {
  shim_.Play("sessions max=0");
  auto token = Token::Create(ShimConfig());
  ASSERT_THAT(token, IsOk());
  const absl::Status status = (*token)->Probe({{1}, ""}, Soon());
  EXPECT_THAT(status, HasReason(v1::REASON_TOKEN_BUSY));
  EXPECT_THAT(status, HasCode(absl::StatusCode::kResourceExhausted));
}

// SoftHSM says "logged in" all the while and shows no objects.
TEST_F(TokenFaultTest, TokenFolderMovedAwayAndBack) {
  EXPECT_THAT(Sign(), IsOk());
  const std::string away = hsm_.folder().Path("away");
  std::filesystem::rename(hsm_.token_folder(), away);
  EXPECT_THAT(Sign(), HasCode(absl::StatusCode::kUnavailable));
  for (int i = 0; i < 5; ++i) FailOnceMore();
  std::filesystem::rename(away, hsm_.token_folder());
  EXPECT_LT(TimeUntilSigned(), kResumeTime);
}

TEST_F(TokenFaultTest, ListingThatHangsEndsAtItsDeadline) {
  shim_.Play("C_FindObjectsInit hang");
  const absl::Time start = absl::Now();
  EXPECT_THAT(token_->List(start + absl::Milliseconds(700)),
              HasReason(v1::REASON_TOKEN_TIMEOUT));
  EXPECT_LT(absl::Now() - start, absl::Seconds(5));
}

TEST_F(TokenFaultTest, ListingSurvivesASessionThatDoesNotOpen) {
  shim_.Play("C_OpenSession skip=1 rv=CKR_DEVICE_ERROR");
  const absl::Time start = absl::Now();
  EXPECT_FALSE(token_->List(start + absl::Seconds(1)).ok());
  EXPECT_LT(absl::Now() - start, absl::Seconds(5));
}

// The first failure of a token that lies is not forgotten when its next worker
// answers: only a signature that verifies counts.
TEST_F(TokenFaultTest, TokenThatKeepsLyingFailsFast) {
  shim_.Play("C_Sign flip");
  key_->Distrust(absl::DataLossError("somebody noticed"));
  const int before = shim_.CallCount("C_Sign");
  const absl::Time end = absl::Now() + absl::Seconds(1);
  while (absl::Now() < end) {
    EXPECT_FALSE(
        token_->LoadKey({{1}, ""}, KeyPolicy::kStrict, {}, Soon()).ok());
  }
  EXPECT_LT(shim_.CallCount("C_Sign") - before, 12);
  EXPECT_GT(shim_.CallCount("C_Sign") - before, 2);
  shim_.Play("");
  EXPECT_LT(TimeUntilSigned(), kResumeTime);
}

// Sockets of this process must not live on in a worker.
TEST_F(TokenFaultTest, WorkerInheritsNothing) {
  std::array<int, 2> ends{};
  ASSERT_EQ(pipe(ends.data()), 0);  // without CLOEXEC
  auto token = Token::Create(ShimConfig());
  ASSERT_THAT(token, IsOk());
  ASSERT_THAT((*token)->Probe({{1}, ""}, Soon()), IsOk());
  close(ends[1]);
  // At its end at once: the worker, which runs, has no copy.
  pollfd reading = {ends[0], POLLIN, 0};
  EXPECT_EQ(poll(&reading, 1, 0), 1);
  EXPECT_NE(reading.revents & POLLHUP, 0);
  close(ends[0]);
}

int CountFds() {
  return static_cast<int>(
      std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}));
}
int CountThreads() {
  return static_cast<int>(std::distance(
      std::filesystem::directory_iterator("/proc/self/task"), {}));
}

TEST_F(TokenFaultTest, WorkersLeaveNothingBehind) {
  ASSERT_THAT(Sign(), IsOk());
  const int fds = CountFds();
  const int threads = CountThreads();
  constexpr int kRestarts = 200;
  for (int i = 0; i < kRestarts; ++i) {
    shim_.Play("C_Sign count=1 crash");
    ASSERT_THAT(Sign(), IsOk()) << i;
  }
  EXPECT_EQ(shim_.Processes().size(), size_t{1 + kRestarts});
  EXPECT_EQ(CountFds(), fds);
  EXPECT_EQ(CountThreads(), threads);
  shim_.Play("");
  key_.reset();
  token_.reset();
  EXPECT_EQ(CountThreads(), threads - 1);
}

}  // namespace
}  // namespace codeseal
