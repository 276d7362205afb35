// An auditor who has only the folder, the log's key and a checkpoint kept
// earlier finds whatever was done to the log.

#include "audit/verify_log.h"

#include <functional>
#include <sstream>

#include "audit/commands.h"
#include "audit/tile.h"
#include "gtest/gtest.h"
#include "tests/unit/audit/log_fixture.h"

namespace codeseal::audit {
namespace {

using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
namespace fs = std::filesystem;

Bytes MakeEntry(EntryKind kind, const std::string& request_id,
                std::optional<uint64_t> intent = std::nullopt,
                const std::string& cms = "", const std::string& signature = "",
                const std::string& client = "") {
  Entry entry;
  entry.kind = kind;
  entry.time = absl::FromUnixSeconds(1'700'000'000);
  entry.request_id = request_id;
  entry.intent = intent;
  entry.cms_sha256 = cms;
  entry.signature_sha256 = signature;
  entry.client = client;
  return EncodeEntry(entry);
}

class VerifyLogTest : public LogFixture {
 protected:
  static void Sign(Log& log, const std::string& request_id,
                   const std::string& cms, const std::string& signature = "",
                   const std::string& client = "") {
    const auto intent = log.Append(
        MakeEntry(EntryKind::kIntent, request_id, std::nullopt, "", "", client),
        AppendOptions());
    ASSERT_THAT(intent, IsOk());
    AppendOptions options;
    options.wants_receipt = true;
    ASSERT_THAT(log.Append(MakeEntry(EntryKind::kSigned, request_id,
                                     intent->index, cms, signature, client),
                           options),
                IsOk());
  }

  // 600 entries, and a checkpoint that was kept when there were 400.
  void MakeLog() {
    const auto log = Open();
    for (int i = 0; i < 200; ++i) {
      Sign(*log, "r" + std::to_string(i), "c" + std::to_string(i));
    }
    saved_ = log->checkpoint();
    for (int i = 200; i < 300; ++i) {
      Sign(*log, "r" + std::to_string(i), "c" + std::to_string(i));
    }
  }

  LogReport Verify() {
    const auto folder = LogFolder::Open(options_.path);
    EXPECT_THAT(folder, IsOk());
    const auto report = VerifyLog(**folder, KeyOf(*key_), {{saved_}});
    EXPECT_THAT(report, IsOk());
    return *report;
  }

  std::vector<Bytes> EntriesOf(const std::string& name) const {
    const std::string bytes = folder_.Read("log/" + name);
    std::vector<Bytes> entries;
    for (const ByteView each : ParseWholeEntries(AsBytes(bytes))) {
      entries.push_back(ToBytes(each));
    }
    return entries;
  }
  void WriteEntries(const std::string& name,
                    const std::vector<Bytes>& entries) const {
    Bytes bundle;
    for (const Bytes& each : entries) AppendToBundle(bundle, each);
    folder_.Write("log/" + name, AsText(bundle));
  }

  std::string saved_;
};

TEST_F(VerifyLogTest, FindsNothingWrongWithAnHonestLog) {
  MakeLog();
  const LogReport report = Verify();
  EXPECT_THAT(report.problems, IsEmpty());
  EXPECT_THAT(report.open_intents, IsEmpty());
  EXPECT_EQ(report.size, 600u);
  EXPECT_EQ(report.checkpoint.head.size, 600u);
  EXPECT_EQ(report.uncovered_count, 0u);
  EXPECT_EQ(report.intent_count, 300u);
  EXPECT_EQ(report.signed_count, 300u);
}

// Every way in which a test changes the folder is found.
TEST_F(VerifyLogTest, FindsEveryEditDeletionReorderingTruncationAndFork) {
  MakeLog();
  CopyLog("honest");
  using Change = std::function<void()>;
  const auto on_entries =
      [this](const std::string& name,
             std::function<void(std::vector<Bytes>&)> edit) -> Change {
    return [this, name, edit] {
      std::vector<Bytes> entries = EntriesOf(name);
      edit(entries);
      WriteEntries(name, entries);
    };
  };
  const auto remove = [this](const std::string& name) -> Change {
    return [this, name] { fs::remove_all(Path(name)); };
  };
  const auto edit = [](std::vector<Bytes>& all) { all[7] = TestEntry(7); };
  const auto erase = [](std::vector<Bytes>& all) {
    all.erase(all.begin() + 3);
  };
  const auto swap = [](std::vector<Bytes>& all) { std::swap(all[4], all[5]); };
  const auto insert = [](std::vector<Bytes>& all) {
    all.insert(all.begin() + 2, TestEntry(2));
  };
  const auto cut = [](std::vector<Bytes>& all) { all.pop_back(); };
  const auto replace_one = [](std::vector<Bytes>& all) {
    all.erase(all.begin() + 9);
    all.push_back(TestEntry(1));
  };
  const std::vector<std::pair<std::string, Change>> changes = {
      {"edit of a full bundle", on_entries("tile/entries/000", edit)},
      {"edit of the second bundle", on_entries("tile/entries/001", edit)},
      {"edit of the growing bundle", on_entries("growing", edit)},
      {"deletion in a full bundle", on_entries("tile/entries/000", erase)},
      {"deletion in the growing bundle", on_entries("growing", erase)},
      {"reordering in a full bundle", on_entries("tile/entries/001", swap)},
      {"reordering in the growing bundle", on_entries("growing", swap)},
      {"insertion into a full bundle", on_entries("tile/entries/001", insert)},
      {"insertion into the growing bundle", on_entries("growing", insert)},
      {"replacement", on_entries("tile/entries/000", replace_one)},
      {"truncation by one", on_entries("growing", cut)},
      {"truncation of the growing bundle", remove("growing")},
      {"loss of a bundle", remove("tile/entries/001")},
      {"loss of a tile", remove("tile/0/001")},
      {"loss of all tiles", remove("tile/0")},
      {"loss of everything but the checkpoint",
       [&] {
         remove("tile")();
         remove("growing")();
       }},
      {"loss of the checkpoint", remove("checkpoint")},
      {"swapped bundles",
       [&] {
         fs::rename(Path("tile/entries/000"), Path("aside"));
         fs::rename(Path("tile/entries/001"), Path("tile/entries/000"));
         fs::rename(Path("aside"), Path("tile/entries/001"));
       }},
      {"swapped tiles",
       [&] {
         fs::rename(Path("tile/0/000"), Path("aside"));
         fs::rename(Path("tile/0/001"), Path("tile/0/000"));
         fs::rename(Path("aside"), Path("tile/0/001"));
       }},
      {"a bundle behind the end",
       [&] {
         fs::copy_file(Path("tile/entries/000"), Path("tile/entries/003"));
       }},
      {"a file that has no place",
       [&] { folder_.Write("log/tile/0/zzz", "x"); }},
      {"the checkpoint of an earlier size, entries cut to it",
       [&] {
         folder_.Write("log/checkpoint", saved_);
         std::vector<Bytes> entries = EntriesOf("tile/entries/001");
         entries.resize(400 - 256 - 1);
         fs::remove(Path("tile/entries/001"));
         fs::remove(Path("tile/0/001"));
         WriteEntries("growing", entries);
       }},
  };
  for (const auto& [name, change] : changes) {
    ReplaceLog("honest");
    EXPECT_THAT(Verify().problems, IsEmpty());
    change();
    EXPECT_FALSE(Verify().problems.empty()) << name;
  }
}

TEST_F(VerifyLogTest, FindsEveryChangedByteOfEveryTile) {
  MakeLog();
  for (const char* name : {"log/tile/0/000", "log/tile/0/001"}) {
    const std::string honest = folder_.Read(name);
    for (size_t at = 0; at < honest.size(); at += 61) {
      std::string changed = honest;
      changed[at] = static_cast<char>(changed[at] ^ 0x10);
      folder_.Write(name, changed);
      ASSERT_THAT(Verify().problems, ElementsAre(HasSubstr("tile/0/")));
    }
    folder_.Write(name, honest);
  }
}

// Somebody with the log's key writes another history of the same length, with a
// good checkpoint of its own: only what was kept elsewhere shows it.
TEST_F(VerifyLogTest, FindsARewrittenHistoryWithItsOwnGoodCheckpoint) {
  MakeLog();
  fs::remove_all(options_.path);
  fs::remove(RecordPath());
  {
    const auto log = Open();
    for (int i = 0; i < 300; ++i) Sign(*log, "x" + std::to_string(i), "c");
  }
  const auto folder = LogFolder::Open(options_.path);
  EXPECT_THAT(VerifyLog(**folder, KeyOf(*key_), {})->problems, IsEmpty());
  EXPECT_THAT(Verify().problems,
              ElementsAre(HasSubstr("are not those of the folder")));
}

TEST_F(VerifyLogTest, FindsACheckpointOfAnotherKey) {
  MakeLog();
  const auto folder = LogFolder::Open(options_.path);
  const auto other = testing::SoftwareKey::Generate("p256");
  EXPECT_FALSE(VerifyLog(**folder, KeyOf(*other), {})->problems.empty());
}

TEST_F(VerifyLogTest, FindsWhatDoesNotHoldTogether) {
  AppendOptions wait;
  wait.wants_receipt = true;
  {
    const auto log = Open();
    Sign(*log, "twice", "c1");
    Sign(*log, "twice", "c2");
    Sign(*log, "replayed", "c3");
    Sign(*log, "replayed", "c3");
    Sign(*log, "stamped again", "c6", "s1");
    Sign(*log, "stamped again", "c7", "s1");
    Sign(*log, "of two clients", "c8", "s2", "one");
    Sign(*log, "of two clients", "c9", "s3", "two");
    Sign(*log, "withheld", "c4");
    ASSERT_THAT(
        log->Append(MakeEntry(EntryKind::kFailed, "withheld", log->size() - 2),
                    wait),
        IsOk());
    Sign(*log, "withheld", "c5");
    ASSERT_THAT(
        log->Append(MakeEntry(EntryKind::kSigned, "never begun", 0), wait),
        IsOk());
    ASSERT_THAT(log->Append(MakeEntry(EntryKind::kIntent, "open"), wait),
                IsOk());
    ASSERT_THAT(log->Append(ToBytes("{\"v\":9}"), wait), IsOk());
  }
  saved_ = folder_.Read("log/checkpoint");
  const LogReport report = Verify();
  EXPECT_THAT(report.problems,
              ElementsAre(HasSubstr("request twice was signed twice"),
                          HasSubstr("never begun"), HasSubstr("version 1")));
  EXPECT_THAT(report.open_intents, ElementsAre("open"));
}

// ---------------------------------------------------------------- commands

class AuditCommandsTest : public VerifyLogTest {
 protected:
  AuditCommandsTest() {
    log_.folder = options_.path;
    log_.key = folder_.Write("log.vkey", KeyOf(*key_).Format() + "\n");
    MakeLog();
    saved_path_ = folder_.Write("saved", saved_);
  }

  FolderArguments log_;
  std::string saved_path_;
  std::ostringstream out_;
};

TEST_F(AuditCommandsTest, VerifySaysWhatIsWrong) {
  EXPECT_THAT(VerifyCommand({log_, {saved_path_}, {}}, out_), IsOk());
  EXPECT_THAT(out_.str(), HasSubstr("600 entries, 600 under the checkpoint"));
  fs::remove(Path("tile/0/000"));
  EXPECT_THAT(VerifyCommand({log_, {saved_path_}, {}}, out_),
              HasReason(v1::REASON_AUDIT_INCONSISTENT));
  EXPECT_THAT(out_.str(), HasSubstr("WRONG: tile/0/000: is missing"));
}

TEST_F(AuditCommandsTest, ProofsOfEntriesAreReceiptsThatCheck) {
  ProveArguments prove;
  prove.log = log_;
  prove.request_id = "r250";
  ASSERT_THAT(ProveCommand(prove, out_), IsOk());
  const std::string path = folder_.Write("receipt", out_.str());
  std::ostringstream entry;
  ASSERT_THAT(CheckReceiptCommand({path, log_.key}, entry), IsOk());
  EXPECT_THAT(entry.str(), HasSubstr("\"cms_sha256\":\"c250\""));
  prove.request_id = "nobody";
  EXPECT_THAT(ProveCommand(prove, out_), HasReason(v1::REASON_AUDIT_NOT_FOUND));
  prove.index = 1;
  EXPECT_THAT(ProveCommand(prove, out_), HasReason(v1::REASON_USAGE));
  prove.request_id = "";
  EXPECT_THAT(ProveCommand(prove, out_), IsOk());
  prove.index = 600;
  EXPECT_THAT(ProveCommand(prove, out_), HasReason(v1::REASON_AUDIT_NOT_FOUND));
}

TEST_F(AuditCommandsTest, CheckpointAndEntriesArePrinted) {
  ASSERT_THAT(CheckpointCommand(log_, out_), IsOk());
  EXPECT_EQ(out_.str(), folder_.Read("log/checkpoint"));
  std::ostringstream entries;
  ASSERT_THAT(EntriesCommand({log_, 255, 3}, entries), IsOk());
  EXPECT_THAT(entries.str(), HasSubstr("{\"index\":255,"));
  EXPECT_THAT(entries.str(), HasSubstr("{\"index\":257,"));
  EXPECT_EQ(std::count(entries.view().begin(), entries.view().end(), '\n'), 3);
  std::ostringstream all;
  ASSERT_THAT(EntriesCommand({log_, 0, 0}, all), IsOk());
  EXPECT_EQ(std::count(all.view().begin(), all.view().end(), '\n'), 600);
}

TEST_F(AuditCommandsTest, AWitnessCosignsOnlyWhatGrewOutOfWhatItSaw) {
  WitnessArguments witness;
  witness.log = log_;
  witness.name = "witness.example/w1";
  witness.state_path = folder_.Path("state");
  witness.witness_key = folder_.Write(
      "witness.pem",
      "-----BEGIN "
      "PRIVATE KEY-----\n"
      "MC4CAQAwBQYDK2VwBCIEIEzNCJso/5banbbDRuwRTg9bijGfNaumJNqM9u1PuKb7\n"
      "-----END PRIVATE KEY-----\n");
  ASSERT_THAT(WitnessCommand(witness, out_), IsOk());
  const auto cosigned = ParseNote(out_.str());
  ASSERT_THAT(cosigned, IsOk());
  EXPECT_EQ(cosigned->signatures.size(), 2u);
  EXPECT_EQ(folder_.Read("state"), out_.str());
  EXPECT_THAT(WitnessCommand(witness, out_), IsOk());  // the same again

  // An older state of the log, whole in itself, is not cosigned.
  CopyLog("newer");
  const std::string record = folder_.Read("log.signed");
  fs::remove_all(options_.path);
  fs::remove(RecordPath());
  {
    const auto log = Open();
    Sign(*log, "other", "c");
  }
  EXPECT_THAT(WitnessCommand(witness, out_),
              HasReason(v1::REASON_AUDIT_INCONSISTENT));
  {
    const auto log = Open();
    for (int i = 0; i < 310; ++i) Sign(*log, std::to_string(i), "c");
  }
  EXPECT_THAT(WitnessCommand(witness, out_),
              HasReason(v1::REASON_AUDIT_INCONSISTENT));
  // Nor is anything on the word of a state that this witness did not sign.
  folder_.Write("state", folder_.Read("log/checkpoint"));
  EXPECT_THAT(WitnessCommand(witness, out_),
              HasReason(v1::REASON_BAD_NOTE_SIGNATURE));
}

}  // namespace
}  // namespace codeseal::audit
