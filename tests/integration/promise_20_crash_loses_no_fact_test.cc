// Promise 20: kill -9 at any step loses no audit fact and signs nothing twice.
// The server is killed at named points: before and after each write and flush
// of the ledger, of the log and of the record of checkpoints, and before and
// after the token signs. Afterwards the ledger, the log and the token's own
// journal tell the same story.
//
// Ten kills every day; 200 with the label stress.

#include <signal.h>
#include <sys/wait.h>

#include <atomic>
#include <cstdlib>
#include <iterator>
#include <map>
#include <mutex>
#include <thread>

#include "audit/entry.h"
#include "codesign/base/error.h"
#include "codesign/cms/apple_cms.h"
#include "tests/integration/audit_fixture.h"

namespace codeseal::testing {
namespace {

using ::testing::IsEmpty;

constexpr int kCallers = 4;

// Where the server dies. `count` is of calls after the server works.
struct KillPoint {
  const char* name;
  const char* call;  // of io_fault.c; nullptr: C_Sign
};
constexpr KillPoint kKillPoints[] = {
    {"ledger, write", "pwrite@ledger.db-wal"},
    {"ledger, flush", "fdatasync@ledger.db-wal"},
    {"log, entry written", "pwrite@growing"},
    {"log, entry flushed", "fdatasync@growing"},
    {"log, checkpoint recorded", "pwrite@auditlog.signed"},
    {"log, record flushed", "fdatasync@auditlog.signed"},
    {"log, file renamed", "renameat@auditlog"},
    {"token", nullptr},
};

std::string HexSha256(ByteView bytes) {
  return HexEncode(ComputeDigest(DigestKind::kSha256, bytes));
}

class Promise20Test : public AuditServerTest {
 protected:
  Promise20Test() {
    // RSA signs the same bytes with the same bytes: whatever is signed twice
    // is in the token's journal twice.
    identity_ = "rsa";
  }

  // A request whose signature is its own.
  v1::SignRequest NextRequest() {
    SignRequestSpec spec;
    spec.request_id = RandomUuid();
    spec.identity = identity_;
    const std::lock_guard lock(mutex_);
    spec.identifier = "com.example.item" + std::to_string(requests_.size());
    v1::SignRequest request = BuildSignRequest(spec);
    request.mutable_signing_time()->set_seconds(
        absl::ToUnixSeconds(absl::Now()));
    requests_[request.request_id()] = request;
    return request;
  }

  void Keep(const absl::StatusOr<v1::SignResponse>& reply) {
    if (!reply.ok()) return;
    const std::lock_guard lock(mutex_);
    const auto [known, is_new] = replies_.emplace(reply->request_id(), *reply);
    if (is_new) return;
    EXPECT_EQ(known->second.cms(), reply->cms());
    EXPECT_EQ(known->second.audit().SerializeAsString(),
              reply->audit().SerializeAsString());
  }

  // Signs with all callers until the server is dead; false after a while.
  bool SignUntilDead() {
    const absl::Time limit = absl::Now() + absl::Seconds(30);
    std::atomic<bool> is_dead = false;
    std::vector<std::thread> callers;
    for (int i = 0; i < kCallers; ++i) {
      callers.emplace_back([&] {
        while (!is_dead && absl::Now() < limit) {
          const auto reply = client_->Sign(NextRequest(), absl::Seconds(10));
          Keep(reply);
          if (!reply.ok() && HasDied()) is_dead = true;
        }
      });
    }
    for (std::thread& each : callers) each.join();
    return is_dead;
  }
  // It is our child: a zombie until it is waited for.
  bool HasDied() const {
    siginfo_t info{};
    return waitid(P_PID, static_cast<id_t>(server_->pid()), &info,
                  WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info.si_pid != 0;
  }

  void KillAt(size_t turn) {
    constexpr size_t kPointCount = std::size(kKillPoints);
    const KillPoint& point = kKillPoints[turn % kPointCount];
    const bool after = turn / kPointCount % 2 == 1;
    const size_t count = 1 + turn / kPointCount / 2 % 5;
    if (point.call == nullptr) {
      shim_.Play("C_Sign skip=" + std::to_string(count - 1) +
                 " count=1 kill-parent" + (after ? " forward" : ""));
    } else {
      PlayDisk(std::string(point.call) + (after ? " kill-after " : " kill ") +
               std::to_string(count));
    }
    SCOPED_TRACE(point.name);
    EXPECT_TRUE(SignUntilDead()) << point.name;
    shim_.Play("");
    PlayDisk("");
  }

  // What the server makes of each request after the crash, which is the
  // ledger's story. Asked again, it signs nothing that the token may have
  // signed.
  void AskAgain() {
    for (const auto& [id, request] : requests_) {
      if (kept_.contains(id)) continue;
      const auto kept = client_->GetSignature(id);
      kept_.emplace(id, kept);
      const Reason reason = GetReason(kept.status());
      if (reason == v1::REASON_REQUEST_NOT_FOUND) continue;
      const auto again = client_->Sign(request);
      if (reason == v1::REASON_INDETERMINATE) {
        EXPECT_THAT(again, HasReason(v1::REASON_INDETERMINATE));
        continue;
      }
      ASSERT_THAT(again, IsOk());
      EXPECT_TRUE(again->replayed());
      late_.emplace(id, *again);
    }
  }

  std::mutex mutex_;
  std::map<std::string, v1::SignRequest> requests_;
  std::map<std::string, absl::StatusOr<v1::SignResponse>> kept_;
  std::map<std::string, v1::SignResponse> late_;
  std::map<std::string, v1::SignResponse> replies_;
};

TEST_F(Promise20Test, promise_20_killed_at_each_step_nothing_is_lost) {
  const char* const wanted = std::getenv("CODESEAL_KILL_COUNT");
  const size_t kill_count =
      wanted == nullptr ? 10 : static_cast<size_t>(std::atoi(wanted));
  Start();
  const size_t own_count = shim_.Signatures().size();
  ASSERT_THAT(SignSoon(), IsOk());
  std::vector<std::string> saved;
  for (size_t turn = 0; turn < kill_count; ++turn) {
    // Replies that must survive what follows.
    for (int i = 0; i < 3; ++i) Keep(client_->Sign(NextRequest()));
    // Ten of them touch every point.
    KillAt(kill_count > 10 ? turn : turn * 3);
    if (!HasDied()) server_->Terminate();
    EXPECT_EQ(server_->Wait(), -1) << turn;
    saved.push_back(world_.folder().Read("auditlog/checkpoint"));
    EXPECT_THAT(Verify(saved).problems, IsEmpty()) << turn;
    Start();
    ASSERT_THAT(SignSoon(), IsOk());
    ASSERT_NO_FATAL_FAILURE(AskAgain());
  }

  const std::vector<std::string> journal = shim_.Signatures();
  Stop();

  // The log's story.
  const audit::LogReport report = Verify(saved);
  EXPECT_THAT(report.problems, IsEmpty());
  EXPECT_THAT(report.open_intents, IsEmpty());
  const auto folder = audit::LogFolder::Open(LogPath());
  const auto log = audit::OpenLog(*folder, Key());
  ASSERT_THAT(log, IsOk());
  std::map<std::string, std::string> logged;  // request -> signature's digest
  std::map<std::string, audit::EntryKind> last;
  for (uint64_t at = 0; at < report.size;) {
    const auto entries = audit::ReadEntries(**folder, log->scanned, at, 256);
    ASSERT_THAT(entries, IsOk());
    ASSERT_FALSE(entries->empty());
    at += entries->size();
    for (const Bytes& each : *entries) {
      const auto entry = audit::ParseEntry(each);
      ASSERT_THAT(entry, IsOk());
      if (entry->kind == audit::EntryKind::kStarted) continue;
      last[entry->request_id] = entry->kind;
      if (entry->kind == audit::EntryKind::kSigned) {
        logged[entry->request_id] = entry->signature_sha256;
      }
    }
  }
  // The token's story: how often each signature was made.
  std::map<std::string, int> made;
  for (const std::string& each : journal) ++made[HexSha256(AsBytes(each))];

  for (const auto& [id, reply] : replies_) {
    // No reply left without its entry, as it was.
    ASSERT_TRUE(reply.has_audit());
    EXPECT_THAT(audit::CheckReceipt(ReceiptOf(reply), Key()), IsOk());
    const auto entry =
        audit::ReadEntries(**folder, log->scanned, reply.audit().index(), 1);
    ASSERT_THAT(entry, IsOk());
    ASSERT_EQ(entry->size(), 1u);
    EXPECT_EQ(ToString(entry->front()), reply.audit().entry());
    EXPECT_EQ(kept_.at(id)->cms(), reply.cms());
    EXPECT_EQ(kept_.at(id)->audit().SerializeAsString(),
              reply.audit().SerializeAsString());
  }
  int signed_count = 0;
  int waiting_count = 0;
  size_t indeterminate_count = 0;
  for (const auto& [id, status] : kept_) {
    const Reason reason = GetReason(status.status());
    if (reason == v1::REASON_INDETERMINATE) {
      ++indeterminate_count;
      EXPECT_FALSE(logged.contains(id));
      if (last.contains(id)) {
        EXPECT_EQ(last.at(id), audit::EntryKind::kIndeterminate);
      }
      continue;
    }
    if (reason == v1::REASON_REQUEST_NOT_FOUND) {
      if (last.contains(id)) {
        EXPECT_EQ(last.at(id), audit::EntryKind::kFailed);
      }
      continue;
    }
    ++signed_count;
    waiting_count += status.ok() ? 0 : 1;
    const auto signature = ParseAppleCms(AsBytes(late_.at(id).cms()));
    ASSERT_THAT(signature, IsOk());
    const std::string digest = HexSha256(signature->signature_value);
    EXPECT_EQ(logged[id], digest);
    EXPECT_EQ(made[digest], 1) << "signed twice, or by another token";
  }
  // The log claims nothing that the token did not do, and the token did nothing
  // that is not in the log, but for what the server signs when it starts.
  size_t claimed_count = 0;
  for (const auto& [id, digest] : logged) {
    EXPECT_GE(made[digest], 1) << id;
    ++claimed_count;
  }
  // (A test signature now and then, of each key, is the token's watchman's.)
  const size_t own = own_count * (kill_count + 1) + kill_count;
  EXPECT_LE(journal.size(), claimed_count + indeterminate_count + own);
  EXPECT_GE(replies_.size(), 3 * kill_count);
  std::printf(
      "%zu kills, %zu requests, %zu replies: %d signed (%d of them waited for "
      "the log), %zu indeterminate\n",
      kill_count, requests_.size(), replies_.size(), signed_count,
      waiting_count, indeterminate_count);
}

}  // namespace
}  // namespace codeseal::testing
