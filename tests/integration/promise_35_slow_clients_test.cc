// Promise 35: clients that send and never read cost a bounded amount of memory,
// and nobody else notices them.

#include <fstream>
#include <list>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/integration/test_client.h"
#include "tests/support/server_process.h"
#include "tests/support/sign_request_builder.h"
#include "tests/support/status_matchers.h"

namespace codeseal::testing {
namespace {

constexpr int kStreamCount = 200;
constexpr int kWindow = 4;
// All of them fit into what HTTP/2 lets a client send before the server reads.
constexpr int kItemCount = 100;
// What HTTP/2 lets the server send before the client reads, 64 KiB of answers,
// and the window; on average.
constexpr int kMostAnswers = 60;

// Resident memory, KiB.
long MemoryOf(pid_t pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string word; status >> word;) {
    long size = 0;
    if (word == "VmRSS:" && status >> size) return size;
  }
  return 0;
}

v1::SignRequest NewRequest(const std::string& identity) {
  SignRequestSpec spec;
  spec.request_id = RandomUuid();
  spec.identity = identity;
  return BuildSignRequest(spec);
}

TEST(Promise35Test, promise_35_streams_that_nobody_reads_are_bounded) {
  ServerWorld world;
  const ServerProcess server(world.WriteConfig(
      world.Config(world.TokensSection(), world.IdentitiesSection(),
                   "limits: {queue: 100000, queue_age: 60s, stream_window: " +
                       std::to_string(kWindow) + "}\n")));
  TestClient reader(server.address(), world.tls_ca(), world.client());
  ASSERT_THAT(reader.Sign(NewRequest("ec")), IsOk());
  const long before = MemoryOf(server.pid());
  ASSERT_GT(before, 0);

  struct Slow {
    grpc::ClientContext context;
    std::unique_ptr<TestClient::Stream> stream;
  };
  std::list<Slow> slow;
  std::list<TestClient> connections;
  for (int i = 0; i < kStreamCount; ++i) {
    // The server takes a hundred streams on one connection.
    if (i % 50 == 0) {
      connections.emplace_back(server.address(), world.tls_ca(),
                               world.client());
    }
    Slow& each = slow.emplace_back();
    each.stream = connections.back().OpenStream(each.context);
    v1::SignStreamRequest message;
    message.mutable_open()->set_identity("ec");
    ASSERT_TRUE(each.stream->Write(message));
    // Many more than it has credit for; what the server does not read waits in
    // the client and in the kernel.
    for (int item = 0; item < kItemCount; ++item) {
      *message.mutable_item() = NewRequest("");
      if (!each.stream->Write(message)) break;
    }
  }
  // Others are served while all of them wait.
  for (int i = 0; i < 20; ++i) {
    EXPECT_THAT(reader.Sign(NewRequest("ec")), IsOk());
  }
  // Until nothing more is signed.
  int count = server.EventCount("signed");
  for (int last = -1; last != count && count < kStreamCount * kItemCount;) {
    last = count;
    absl::SleepFor(absl::Seconds(1));
    count = server.EventCount("signed");
  }
  EXPECT_LT(count, kStreamCount * kMostAnswers);
  const long after = MemoryOf(server.pid());
  EXPECT_LT(after - before, 96 << 10) << "KiB for 200 streams";
  for (Slow& each : slow) each.context.TryCancel();
  for (Slow& each : slow) each.stream->Finish();
  EXPECT_THAT(reader.Sign(NewRequest("ec")), IsOk());
}

}  // namespace
}  // namespace codeseal::testing
