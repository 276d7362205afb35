// Promise 11: the server keeps to the sessions that the token has; who waits
// for one waits no longer than until his deadline.

#include <atomic>
#include <thread>
#include <vector>

#include "tests/integration/promise_fixture.h"

namespace codeseal::testing {
namespace {

TEST_F(PromiseTest, Promise11SixtyFourClientsShareTwoSessions) {
  main_options_ = "sessions: 8, op_timeout: 2s";
  // One of the two keeps the login.
  shim_.Play("sessions max=2\nC_Sign delay=5ms\n");
  Start();
  std::atomic<int> good_count = 0;
  std::vector<std::thread> clients;
  for (int i = 0; i < 64; ++i) {
    clients.emplace_back([&] {
      if (Sign("shaky").ok()) ++good_count;
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(good_count, 64);
  EXPECT_EQ(shim_.Processes().size(), 1u);
}

TEST_F(PromiseTest, Promise11WaitersKeepTheirDeadlines) {
  main_options_ = "sessions: 8, op_timeout: 10s";
  shim_.Play("sessions max=2\n");
  Start();
  ASSERT_THAT(Sign("shaky"), IsOk());
  shim_.Play("sessions max=2\nC_Sign hang\n");
  constexpr absl::Duration kPatience = absl::Milliseconds(500);
  std::atomic<int> late_count = 0;
  std::atomic<int> good_count = 0;
  std::vector<std::thread> clients;
  for (int i = 0; i < 64; ++i) {
    clients.emplace_back([&] {
      const absl::Time begin = absl::Now();
      if (Sign("shaky", kPatience).ok()) ++good_count;
      if (absl::Now() - begin > kPatience + absl::Seconds(2)) ++late_count;
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(good_count, 0);
  EXPECT_EQ(late_count, 0);
  ExpectResumes();
}

}  // namespace
}  // namespace codeseal::testing
