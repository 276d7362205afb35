// Promise 29: a bad rotation of the server's TLS files keeps the last good
// pair. New ones are in force for the next connection, without a restart;
// files that do not fit together, or of which half is written, are not.

#include <atomic>
#include <filesystem>
#include <iterator>
#include <thread>

#include "absl/time/clock.h"
#include "codesign/cms/certificate.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/integration/test_client.h"
#include "tests/support/server_process.h"
#include "tests/support/status_matchers.h"
#include "tests/support/subprocess.h"

namespace codeseal::testing {
namespace {

namespace fs = std::filesystem;

class Promise29Test : public ::testing::Test {
 protected:
  void Start() {
    server_ =
        std::make_unique<ServerProcess>(world_.WriteConfig(world_.Config()));
  }
  // A call on a connection of its own.
  absl::Status Connect() const {
    TestClient client(server_->address(), world_.tls_ca(), world_.client());
    return client.GetIdentity("ec").status();
  }
  // The certificate that new connections are shown, as another program sees it.
  std::string Shown() const {
    const SubprocessResult seen =
        RunProgram({"openssl", "s_client", "-connect", server_->address(),
                    "-cert", world_.client().certificate, "-key",
                    world_.client().key, "-alpn", "h2"});
    const size_t begin = seen.out.find("-----BEGIN CERTIFICATE-----");
    const auto certificates = Certificate::ParsePem(
        begin == std::string::npos ? "" : seen.out.substr(begin));
    return certificates.ok() ? ToString(certificates->front().der()) : "";
  }
  std::string Of(const ClientFiles& files) const {
    const auto certificates = Certificate::ParsePem(
        world_.folder().Read(fs::path(files.certificate).filename().string()));
    return ToString(certificates->front().der());
  }
  bool WaitUntilShown(const ClientFiles& files) const {
    const absl::Time limit = absl::Now() + absl::Seconds(20);
    while (absl::Now() < limit) {
      if (Shown() == Of(files)) return true;
    }
    return false;
  }
  // As deployment tools do: beside, then renamed over it.
  void Put(const std::string& name, const std::string& from) const {
    const std::string staged = world_.folder().Path("staged");
    fs::copy_file(from, staged, fs::copy_options::overwrite_existing);
    fs::rename(staged, world_.folder().Path(name));
  }
  void PutPair(const ClientFiles& files) const {
    Put("server.pem", files.certificate);
    Put("server.key", files.key);
  }
  // A connection makes the server look; half a second lies between two looks.
  bool WaitForRefusal() const {
    const absl::Time limit = absl::Now() + absl::Seconds(20);
    while (absl::Now() < limit) {
      EXPECT_THAT(Connect(), IsOk());
      if (server_->log().find("tls_files_refused") != std::string::npos) {
        return true;
      }
    }
    return false;
  }

  ServerWorld world_;
  std::unique_ptr<ServerProcess> server_;
};

TEST_F(Promise29Test, promise_29_new_files_are_in_force_without_a_restart) {
  Start();
  TestClient early(server_->address(), world_.tls_ca(), world_.client());
  ASSERT_THAT(early.GetIdentity("ec"), IsOk());
  const ClientFiles next = world_.AddServer("next");
  PutPair(next);
  EXPECT_TRUE(WaitUntilShown(next));
  EXPECT_THAT(Connect(), IsOk());
  // Whoever is connected stays so.
  EXPECT_THAT(early.GetIdentity("ec"), IsOk());
}

TEST_F(Promise29Test, promise_29_a_mismatched_pair_keeps_the_last_good_one) {
  Start();
  const std::string good = Shown();
  ASSERT_NE(good, "");
  const ClientFiles next = world_.AddServer("next");
  Put("server.pem", next.certificate);
  EXPECT_TRUE(WaitForRefusal());
  EXPECT_EQ(Shown(), good);
  Put("server.key", next.key);
  EXPECT_TRUE(WaitUntilShown(next));
}

TEST_F(Promise29Test, promise_29_a_half_written_file_keeps_the_last_good_one) {
  Start();
  const std::string good = Shown();
  const std::string whole = world_.folder().Read("server.pem");
  world_.folder().Write("server.pem", whole.substr(0, whole.size() / 2));
  EXPECT_TRUE(WaitForRefusal());
  fs::remove(world_.folder().Path("server.pem"));
  EXPECT_THAT(Connect(), IsOk());
  EXPECT_EQ(Shown(), good);
  const ClientFiles next = world_.AddServer("next");
  PutPair(next);
  EXPECT_TRUE(WaitUntilShown(next));
}

TEST_F(Promise29Test, promise_29_seven_hundred_rotations_lose_no_connection) {
  const ClientFiles pairs[] = {world_.AddServer("one"),
                               world_.AddServer("two")};
  Start();
  const auto descriptors = [this] {
    return std::distance(fs::directory_iterator(
                             "/proc/" + std::to_string(server_->pid()) + "/fd"),
                         fs::directory_iterator());
  };
  ASSERT_THAT(Connect(), IsOk());
  const auto before = descriptors();
  std::atomic<bool> done = false;
  std::atomic<int> connected = 0;
  std::thread caller([&] {
    while (!done) {
      EXPECT_THAT(Connect(), IsOk());
      ++connected;
    }
  });
  for (int i = 0; i < 700; ++i) PutPair(pairs[i % 2]);
  done = true;
  caller.join();
  EXPECT_GT(connected, 0);
  EXPECT_TRUE(WaitUntilShown(pairs[1]));
  EXPECT_LT(descriptors(), before + 20);
}

}  // namespace
}  // namespace codeseal::testing
