#include "server/signing_pool.h"

#include <future>
#include <memory>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

using ::codeseal::testing::HasCode;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;

constexpr absl::Duration kLong = absl::Seconds(30);

// A task's fate, to wait for.
class Outcome {
 public:
  SigningPool::Task Task(absl::Time deadline = absl::InfiniteFuture()) {
    return {deadline, nullptr, [state = state_](absl::Status status) {
              state->set_value(status);
            }};
  }
  absl::Status Wait() {
    std::future<absl::Status> future = state_->get_future();
    return future.wait_for(std::chrono::seconds(30)) ==
                   std::future_status::ready
               ? future.get()
               : absl::UnknownError("the task was not run");
  }

 private:
  std::shared_ptr<std::promise<absl::Status>> state_ =
      std::make_shared<std::promise<absl::Status>>();
};

// Keeps the only thread of the pool busy until it goes.
class Blocker {
 public:
  explicit Blocker(SigningPool& pool) {
    EXPECT_THAT(pool.Submit({absl::InfiniteFuture(), nullptr,
                             [this](const absl::Status&) {
                               begun_.Notify();
                               end_.WaitForNotificationWithTimeout(kLong);
                               done_.Notify();
                             }}),
                IsOk());
    begun_.WaitForNotificationWithTimeout(kLong);
  }
  ~Blocker() {
    if (!end_.HasBeenNotified()) end_.Notify();
    done_.WaitForNotificationWithTimeout(kLong);
  }
  void End() { end_.Notify(); }

 private:
  absl::Notification begun_;
  absl::Notification end_;
  absl::Notification done_;
};

TEST(SigningPoolTest, RunsTasksOnItsThreads) {
  SigningPool pool({2, 10, kLong});
  // Each waits for the other: one thread alone would not do.
  absl::Notification here[2];
  std::promise<bool> met[2];
  for (size_t i = 0; i < 2; ++i) {
    ASSERT_THAT(
        pool.Submit({absl::InfiniteFuture(), nullptr,
                     [&, i](const absl::Status& status) {
                       here[i].Notify();
                       met[i].set_value(
                           status.ok() &&
                           here[1 - i].WaitForNotificationWithTimeout(kLong));
                     }}),
        IsOk());
  }
  EXPECT_TRUE(met[0].get_future().get());
  EXPECT_TRUE(met[1].get_future().get());
}

TEST(SigningPoolTest, AFullLineRefuses) {
  SigningPool pool({1, 1, kLong});
  Blocker blocker(pool);
  Outcome waits;
  EXPECT_THAT(pool.Submit(waits.Task()), IsOk());
  Outcome refused;
  const absl::Status status = pool.Submit(refused.Task());
  EXPECT_THAT(status, HasCode(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(status, HasReason(v1::REASON_OVERLOADED));
  blocker.End();
  EXPECT_THAT(waits.Wait(), IsOk());
}

TEST(SigningPoolTest, ResumedWorkComesFirstHoweverLongTheLine) {
  SigningPool pool({1, 1, kLong});
  std::vector<int> order;
  std::promise<void> both;
  const auto note = [&](int number) {
    return [&, number](const absl::Status&) {
      order.push_back(number);  // one thread
      if (order.size() == 2) both.set_value();
    };
  };
  Blocker blocker(pool);
  ASSERT_THAT(pool.Submit({absl::InfiniteFuture(), nullptr, note(1)}), IsOk());
  ASSERT_THAT(pool.Submit({absl::InfiniteFuture(), nullptr, note(2), true}),
              IsOk());
  blocker.End();
  both.get_future().wait();
  EXPECT_EQ(order, (std::vector<int>{2, 1}));
}

TEST(SigningPoolTest, NothingIsTakenAfterTheStop) {
  SigningPool pool({1, 10, kLong});
  pool.Stop();
  Outcome late;
  SigningPool::Task task = late.Task();
  task.resumed = true;
  EXPECT_THAT(pool.Submit(std::move(task)), HasReason(v1::REASON_DRAINING));
}

TEST(SigningPoolTest, WhatWaitsTooLongIsAnsweredWhileTheThreadIsStuck) {
  SigningPool pool({1, 10, absl::Milliseconds(50)});
  Blocker blocker(pool);
  Outcome outcome;
  ASSERT_THAT(pool.Submit(outcome.Task()), IsOk());
  EXPECT_THAT(outcome.Wait(), HasReason(v1::REASON_OVERLOADED));
}

TEST(SigningPoolTest, ADeadlinePassesWhileTheThreadIsStuck) {
  SigningPool pool({1, 10, kLong});
  Blocker blocker(pool);
  Outcome patient;
  Outcome hasty;
  ASSERT_THAT(pool.Submit(patient.Task()), IsOk());
  ASSERT_THAT(pool.Submit(hasty.Task(absl::Now() + absl::Milliseconds(60))),
              IsOk());
  const absl::Status status = hasty.Wait();
  EXPECT_THAT(status, HasCode(absl::StatusCode::kDeadlineExceeded));
  EXPECT_THAT(status, HasReason(v1::REASON_DEADLINE_EXCEEDED));
  blocker.End();
  EXPECT_THAT(patient.Wait(), IsOk());
}

TEST(SigningPoolTest, WorkThatLeavesNoTimeForTheReplyIsNotBegun) {
  SigningPool pool({1, 10, kLong});
  Outcome late;
  ASSERT_THAT(pool.Submit(late.Task(absl::Now() + absl::Milliseconds(5))),
              IsOk());
  EXPECT_THAT(late.Wait(), HasReason(v1::REASON_DEADLINE_EXCEEDED));
}

// A token that takes a tenth of a second for each does not take on more than it
// can do in time, and says so at once.
TEST(SigningPoolTest, WhatCannotBeDoneInTimeIsRefusedWhenItComes) {
  SigningPool pool({1, 1000, kLong});
  const auto work = [](const absl::Status&) {
    absl::SleepFor(absl::Milliseconds(100));
  };
  absl::Notification measured;
  for (int i = 0; i < 3; ++i) {
    ASSERT_THAT(pool.Submit({absl::InfiniteFuture(), nullptr, work}), IsOk());
  }
  ASSERT_THAT(pool.Submit({absl::InfiniteFuture(), nullptr,
                           [&](const absl::Status&) { measured.Notify(); }}),
              IsOk());
  ASSERT_TRUE(measured.WaitForNotificationWithTimeout(kLong));
  Blocker blocker(pool);
  const auto deadline = [] { return absl::Now() + absl::Seconds(1); };
  int taken_count = 0;
  absl::Status refused;
  while (refused.ok() && taken_count < 100) {
    refused = pool.Submit({deadline(), nullptr, [](const absl::Status&) {}});
    taken_count += refused.ok() ? 1 : 0;
  }
  EXPECT_THAT(refused, HasReason(v1::REASON_OVERLOADED));
  EXPECT_GE(taken_count, 1);
  EXPECT_LE(taken_count, 11);  // 1 s of 87.5 ms: the short one counts, too
  // Whoever has the time is taken.
  EXPECT_THAT(pool.Submit({absl::InfiniteFuture(), nullptr,
                           [](const absl::Status&) {}}),
              IsOk());
}

TEST(SigningPoolTest, CancelledWorkIsDropped) {
  SigningPool pool({1, 10, kLong});
  Outcome outcome;
  SigningPool::Task task = outcome.Task();
  task.cancelled = [] { return true; };
  ASSERT_THAT(pool.Submit(std::move(task)), IsOk());
  EXPECT_THAT(outcome.Wait(), HasCode(absl::StatusCode::kCancelled));
}

TEST(SigningPoolTest, TheEndAnswersWhoeverWaits) {
  auto pool = std::make_unique<SigningPool>(SigningPool::Options{1, 10, kLong});
  Blocker blocker(*pool);
  Outcome outcome;
  ASSERT_THAT(pool->Submit(outcome.Task()), IsOk());
  std::thread end([&pool] { pool.reset(); });
  EXPECT_THAT(outcome.Wait(), HasReason(v1::REASON_DRAINING));
  blocker.End();
  end.join();
}

}  // namespace
}  // namespace codeseal
