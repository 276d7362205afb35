// Promise 31, the rules: a model of what a grant may do, held against the rows.
// tests/integration/promise_31_* has the races and the whole way.

#include "server/grants.h"

#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>

#include "codesign/base/error.h"
#include "gtest/gtest.h"
#include "server/sqlite_database.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"

namespace codeseal {
namespace {

using ::codeseal::testing::HasMessage;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

Bytes CdHashOf(char letter) { return Bytes(20, static_cast<uint8_t>(letter)); }

class GrantsTest : public ::testing::Test {
 protected:
  GrantsTest() {
    auto database = OpenSqliteDatabase(folder_.Path("state.db"));
    EXPECT_THAT(database, IsOk());
    database_ = *std::move(database);
  }

  v1::Grant Terms(const std::string& id = "g") const {
    v1::Grant grant;
    grant.set_id(id);
    grant.set_identity("release");
    grant.add_cdhashes(std::string(20, 'a'));
    grant.add_cdhashes(std::string(20, 'b'));
    grant.set_max_uses(2);
    grant.set_quorum(2);
    grant.set_requester("build");
    grant.mutable_created_at()->set_seconds(absl::ToUnixSeconds(kNow));
    grant.mutable_expires_at()->set_seconds(
        absl::ToUnixSeconds(kNow + absl::Hours(1)));
    return grant;
  }
  // As the ledger runs it: an error leaves nothing behind.
  template <typename Work>
  absl::Status Do(const Work& work) {
    RETURN_IF_ERROR(database_->Begin());
    absl::Status status = work();
    if (status.ok()) status = database_->Commit();
    if (!status.ok()) database_->Rollback();
    return status;
  }
  absl::Status Create(const v1::Grant& terms) {
    return Do([&] { return CreateGrant(*database_, terms); });
  }
  absl::Status Decide(const std::string& approver, bool approves,
                      absl::Time now = kNow, const std::string& id = "g") {
    v1::Approval approval;
    approval.set_approver(approver);
    approval.set_approves(approves);
    return Do([&] { return DecideGrant(*database_, id, approval, now); });
  }
  absl::Status Use(const std::vector<Bytes>& cdhashes, absl::Time now = kNow,
                   const std::string& identity = "release",
                   const std::string& id = "g") {
    const GrantUse use = {id, identity, cdhashes, {"com.example.demo"}};
    return Do([&] { return UseGrant(*database_, use, now); });
  }
  v1::Grant Find(const std::string& id = "g") {
    v1::Grant grant;
    EXPECT_THAT(Do([&]() -> absl::Status {
                  ASSIGN_OR_RETURN(grant, FindGrant(*database_, id));
                  return absl::OkStatus();
                }),
                IsOk());
    return grant;
  }

  testing::TempFolder folder_;
  std::unique_ptr<Database> database_;
};

TEST_F(GrantsTest, ItTakesEveryApproval) {
  ASSERT_THAT(Create(Terms()), IsOk());
  EXPECT_THAT(Use({CdHashOf('a')}), HasReason(v1::REASON_APPROVAL_REQUIRED));
  EXPECT_THAT(Decide("alice", true), IsOk());
  EXPECT_THAT(Use({CdHashOf('a')}), HasMessage("1 of 2 approvals"));
  EXPECT_THAT(Decide("alice", true), HasReason(v1::REASON_GRANT_STATE));
  EXPECT_EQ(Find().state(), v1::GRANT_STATE_PENDING);
  EXPECT_THAT(Decide("bob", true), IsOk());
  EXPECT_EQ(Find().state(), v1::GRANT_STATE_APPROVED);
  EXPECT_THAT(Use({CdHashOf('a')}), IsOk());
  EXPECT_THAT(Decide("carol", false), HasReason(v1::REASON_GRANT_STATE));
}

TEST_F(GrantsTest, ItIsBoundToWhatWasApproved) {
  ASSERT_THAT(Create(Terms()), IsOk());
  ASSERT_THAT(Decide("alice", true), IsOk());
  ASSERT_THAT(Decide("bob", true), IsOk());
  EXPECT_THAT(Use({CdHashOf('c')}), HasReason(v1::REASON_APPROVAL_REQUIRED));
  EXPECT_THAT(Use({CdHashOf('a'), CdHashOf('c')}),
              HasReason(v1::REASON_APPROVAL_REQUIRED));
  EXPECT_THAT(Use({}), HasReason(v1::REASON_APPROVAL_REQUIRED));
  EXPECT_THAT(Use({CdHashOf('a')}, kNow, "another"),
              HasReason(v1::REASON_GRANT_NOT_FOUND));
  EXPECT_THAT(Use({CdHashOf('a')}, kNow, "release", "h"),
              HasReason(v1::REASON_GRANT_NOT_FOUND));
  EXPECT_THAT(Use({CdHashOf('a')}, kNow, "release", ""),
              HasReason(v1::REASON_APPROVAL_REQUIRED));
  EXPECT_EQ(Find().use_count(), 0u);
  EXPECT_THAT(Use({CdHashOf('b'), CdHashOf('a')}), IsOk());
}

TEST_F(GrantsTest, AReleaseIsBoundToItsIdentifiers) {
  v1::Grant terms = Terms();
  terms.clear_cdhashes();
  terms.set_release("1.2");
  terms.add_identifiers("com.example.demo");
  ASSERT_THAT(Create(terms), IsOk());
  ASSERT_THAT(Decide("alice", true), IsOk());
  ASSERT_THAT(Decide("bob", true), IsOk());
  const auto use = [&](const std::vector<std::string>& identifiers) {
    const GrantUse each = {"g", "release", {CdHashOf('x')}, identifiers};
    return Do([&] { return UseGrant(*database_, each, kNow); });
  };
  EXPECT_THAT(use({"com.example.other"}),
              HasReason(v1::REASON_APPROVAL_REQUIRED));
  EXPECT_THAT(use({"com.example.demo", "com.example.other"}),
              HasReason(v1::REASON_APPROVAL_REQUIRED));
  EXPECT_THAT(use({}), HasReason(v1::REASON_APPROVAL_REQUIRED));
  EXPECT_THAT(use({"com.example.demo"}), IsOk());
}

// What a grant of Terms() must do, in the simplest words.
struct Model {
  std::set<std::string> approvers;
  std::set<std::string> deciders;
  bool rejected = false;
  bool revoked = false;
  int uses = 0;

  bool approved() const { return approvers.size() >= 2; }
  bool over() const { return rejected || revoked; }
  bool Decide(const std::string& who, bool approves, bool expired) {
    if (expired || over() || approved() || !deciders.insert(who).second) {
      return false;
    }
    if (approves) {
      approvers.insert(who);
    } else {
      rejected = true;
    }
    return true;
  }
  bool Revoke() {
    if (over()) return false;
    return revoked = true;
  }
  bool Use(bool bound, bool expired) {
    if (expired || over() || !approved() || !bound || uses >= 2) return false;
    ++uses;
    return true;
  }
  bool Return() {
    if (uses > 0) --uses;
    return true;
  }
};

TEST_F(GrantsTest, promise_31_every_history_agrees_with_the_model) {
  std::mt19937 random(31);
  const auto pick = [&](int count) {
    return static_cast<int>(random() % static_cast<unsigned>(count));
  };
  const std::string people[] = {"alice", "bob", "carol"};
  for (int history = 0; history < 200; ++history) {
    const std::string id = "g" + std::to_string(history);
    ASSERT_THAT(Create(Terms(id)), IsOk());
    Model model;
    for (int step = 0; step < 14; ++step) {
      const bool expired = pick(8) == 0;
      const absl::Time now = expired ? kNow + absl::Hours(1) : kNow;
      const int what = pick(12);
      bool want = false;
      absl::Status got;
      if (what < 4) {
        const std::string& who = people[pick(3)];
        const bool approves = pick(5) != 0;
        want = model.Decide(who, approves, expired);
        got = Decide(who, approves, now, id);
      } else if (what < 10) {
        const bool bound = pick(4) != 0;
        want = model.Use(bound, expired);
        got = Use({CdHashOf(bound ? 'a' : 'z')}, now, "release", id);
      } else if (what == 10) {
        want = model.Return();
        const GrantUse use = {id, "release", {}, {}};
        got = Do([&] { return ReturnGrant(*database_, use); });
      } else if (pick(3) == 0) {
        want = model.Revoke();
        got = Do([&] { return RevokeGrant(*database_, id); });
      } else {
        continue;
      }
      ASSERT_EQ(got.ok(), want) << "history " << history << " step " << step
                                << " what " << what << ": " << got;
      const v1::Grant grant = Find(id);
      ASSERT_EQ(grant.use_count(), static_cast<uint32_t>(model.uses));
      ASSERT_LE(grant.use_count(), grant.max_uses());
      ASSERT_EQ(grant.state() == v1::GRANT_STATE_APPROVED,
                model.approved() && !model.over());
    }
  }
}

TEST_F(GrantsTest, ListsWhatMayStillBeUsed) {
  for (const char* const id : {"a", "b", "c"}) {
    ASSERT_THAT(Create(Terms(id)), IsOk());
  }
  ASSERT_THAT(Decide("alice", false, kNow, "b"), IsOk());
  const auto list = [&](bool all, absl::Time now) {
    std::vector<std::string> ids;
    EXPECT_THAT(Do([&]() -> absl::Status {
                  ASSIGN_OR_RETURN(const std::vector<v1::Grant> grants,
                                   ListGrants(*database_, "release", all, now));
                  for (const v1::Grant& each : grants) ids.push_back(each.id());
                  return absl::OkStatus();
                }),
                IsOk());
    return ids;
  };
  EXPECT_EQ(list(false, kNow), (std::vector<std::string>{"a", "c"}));
  EXPECT_EQ(list(true, kNow).size(), 3u);
  EXPECT_TRUE(list(false, kNow + absl::Hours(1)).empty());
}

}  // namespace
}  // namespace codeseal
