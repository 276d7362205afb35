// Promise 17: while a token is down its requests fail fast, and one at a time
// tries it, less and less often.

#include <atomic>
#include <thread>
#include <vector>

#include "tests/integration/promise_fixture.h"

namespace codeseal::testing {
namespace {

TEST_F(PromiseTest, Promise17ADownTokenFailsFastAndHasOneProbe) {
  Start();
  ASSERT_THAT(Sign("shaky"), IsOk());
  shim_.Play(
      "C_Initialize delay=50ms rv=CKR_DEVICE_ERROR\n* rv=CKR_DEVICE_ERROR");
  for (int i = 0; i < 8; ++i) EXPECT_FALSE(SignInTime().ok());
  const int before = shim_.CallCount("C_Initialize");
  std::atomic<int> answer_count = 0;
  std::atomic<int> slow_count = 0;
  const absl::Time end = absl::Now() + absl::Seconds(3);
  std::vector<std::thread> clients;
  for (int i = 0; i < 4; ++i) {
    clients.emplace_back([&] {
      while (absl::Now() < end) {
        const absl::Time begin = absl::Now();
        EXPECT_FALSE(Sign("shaky").ok());
        ++answer_count;
        // Longer than the time of the module's own delay: it was the probe, or
        // waited for it.
        if (absl::Now() - begin > absl::Milliseconds(50)) ++slow_count;
      }
    });
  }
  for (std::thread& client : clients) client.join();
  const int tries = shim_.CallCount("C_Initialize") - before;
  // 3 s with pauses that grow to 1 s; a try may initialise the module twice.
  EXPECT_LE(tries, 16);
  EXPECT_GE(tries, 1) << "nobody asks whether it is back";
  EXPECT_GT(answer_count, 100);
  EXPECT_LT(slow_count, answer_count / 4);
  ExpectResumes();
}

}  // namespace
}  // namespace codeseal::testing
