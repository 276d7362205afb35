#include "server/config.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"

namespace codeseal {
namespace {

using ::codeseal::testing::HasMessage;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr char kComplete[] = R"(version: 1
listen: {address: "127.0.0.1:0", max_connections: 64, per_peer: 8}
tls: {certificate: file, key: file, client_ca: file, deny_list: file, client_crl: file}
tokens:
  main:
    module: file
    label: codeseal
    serials: [abc, def]
    pin_source: file:file
    sessions: 8
    op_timeout: 1500ms
    init_args: "configdir='x'"
    serialize: true
  other: {module: file, serials: [abc], pin_source: credential:other, idle_ping: 7s, quirks: [no-os-locking, pin-per-signature]}
tsa:
  apple: {urls: ["http://timestamp.apple.com/ts01"], profile: apple}
  own:
    urls: ["https://a.example/ts", "https://b.example/ts"]
    roots: file
    timeout: 2s
    attempts: 3
    concurrency: 40
    policy: 1.2.3.4
identities:
  - name: teams/ABCDE12345/identities/app
    versions:
      - {id: 2025a, state: retired, key: {token: other, label: old}, chain: file}
      - {id: 2026a, key: {token: main, id: "01ff"}, chain: file}
    key_policy: imported-allowed
    rules:
      team: ABCDE12345
      identifiers: ["com.example.*"]
      require_flags: [runtime, library-validation]
      entitlements_deny: [get-task-allow]
      allow_digest_only: true
      allow_packages: true
    timestamp: {tsa: apple, mode: preferred, also: [own]}
    allow:
      - {spiffe: "spiffe://corp/ci/*", dns: "*.ci"}
      - {key_fingerprint: "FE:23456789abcdef0123456789abcdef0123456789abcdef0123456789ABCDEF"}
      - {fingerprint: "01:23456789abcdef0123456789abcdef0123456789abcdef0123456789ABCDEF"}
limits: {message: 1MiB, item: 8MiB, buffered: 64MiB, streams: 5,
         stream_window: 6, queue: 7, queue_age: 8s, deadline: 1m, drain: 2m}
state: {folder: kept, sqlite: {path: ledger.db}, retention: 24h}
admin: {allow: [{dns: "admin.corp"}]}
)";

class ConfigTest : public ::testing::Test {
 protected:
  ConfigTest() { folder_.Write("file", "x"); }

  // The complete file with the first `from` replaced.
  std::string With(const std::string& from, const std::string& to) const {
    std::string text = complete_;
    const size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return at == std::string::npos ? text : text.replace(at, from.size(), to);
  }

  // Every problem as "LINE KEY: MESSAGE".
  std::vector<std::string> Problems(const std::string& text) const {
    std::vector<std::string> problems;
    for (const ConfigProblem& each :
         ParseConfig(text, folder_.path()).problems) {
      problems.push_back(std::to_string(each.line) + " " + each.key + ": " +
                         each.message);
    }
    return problems;
  }

  testing::TempFolder folder_;
  std::string complete_ = kComplete;
};

TEST_F(ConfigTest, ATimestampIsRequiredUnlessItSaysOtherwise) {
  const ParsedConfig parsed = ParseConfig(
      With("{tsa: apple, mode: preferred, also: [own]}", "{tsa: apple}"),
      folder_.path());
  ASSERT_THAT(parsed.problems, IsEmpty());
  EXPECT_EQ(parsed.config.identities[0].timestamp.mode,
            TimestampPolicy::kRequired);
}

TEST_F(ConfigTest, TimestampAuthoritiesMustBeAddressesWithRoots) {
  EXPECT_THAT(
      Problems(With("http://timestamp.apple.com/ts01", "file:///etc/passwd")),
      ElementsAre(HasSubstr("tsa.apple.urls: want http://")));
  EXPECT_THAT(Problems(With("    roots: file\n", "")),
              ElementsAre(HasSubstr("tsa.own.roots: ")));
  EXPECT_THAT(Problems(With("tsa: apple,", "tsa: aple,")),
              ElementsAre(HasSubstr("did you mean apple?")));
  EXPECT_THAT(Problems(With("also: [own]", "also: [none]")),
              ElementsAre(HasSubstr("none is not under tsa")));
}

TEST_F(ConfigTest, ReadsEveryKey) {
  const ParsedConfig parsed = ParseConfig(complete_, folder_.path());
  ASSERT_THAT(Problems(complete_), IsEmpty());
  const ServerConfig& config = parsed.config;
  const std::string file = folder_.Path("file");
  EXPECT_EQ(config.listen.address, "127.0.0.1:0");
  EXPECT_EQ(config.listen.max_connections, 64u);
  EXPECT_EQ(config.listen.per_peer, 8u);
  EXPECT_EQ(config.tls.certificate, file);
  EXPECT_EQ(config.tls.key, file);
  EXPECT_EQ(config.tls.client_ca, file);
  EXPECT_EQ(config.tls.deny_list, file);
  EXPECT_EQ(config.tls.client_crl, file);

  EXPECT_EQ(config.state.ledger, folder_.Path("ledger.db"));
  EXPECT_EQ(config.state.retention, absl::Hours(24));

  ASSERT_EQ(config.tokens.size(), 2u);
  const TokenConfig& token = config.tokens[0];
  EXPECT_EQ(token.name, "main");
  EXPECT_EQ(token.module, file);
  EXPECT_EQ(token.label, "codeseal");
  EXPECT_THAT(token.serials, ElementsAre("abc", "def"));
  EXPECT_EQ(token.pin_source, "file:" + file);
  EXPECT_EQ(token.session_count, 8u);
  EXPECT_EQ(token.operation_timeout, absl::Milliseconds(1500));
  EXPECT_EQ(token.init_args, "configdir='x'");
  EXPECT_TRUE(token.serialize);
  EXPECT_EQ(config.tokens[1].pin_source, "credential:other");
  EXPECT_EQ(config.tokens[1].session_count, 4u);
  EXPECT_FALSE(config.tokens[0].no_os_locking);
  EXPECT_TRUE(config.tokens[1].no_os_locking);
  EXPECT_TRUE(config.tokens[1].pin_per_signature);
  EXPECT_FALSE(config.tokens[1].serialize);
  EXPECT_EQ(config.tokens[1].idle_ping, absl::Seconds(7));
  EXPECT_EQ(config.state.folder, folder_.Path("kept"));
  EXPECT_EQ(token.state_folder, folder_.Path("kept"));
  ASSERT_EQ(config.admin.allow.size(), 1u);
  EXPECT_EQ(config.admin.allow[0].dns, "admin.corp");

  ASSERT_EQ(config.authorities.size(), 2u);
  EXPECT_EQ(config.authorities[0].name, "apple");
  EXPECT_EQ(config.authorities[0].profile, TimestampProfile::kApple);
  EXPECT_EQ(config.authorities[0].attempts, 5u);
  const TsaConfig& tsa = config.authorities[1];
  EXPECT_THAT(tsa.urls,
              ElementsAre("https://a.example/ts", "https://b.example/ts"));
  EXPECT_EQ(tsa.roots, file);
  EXPECT_EQ(tsa.timeout, absl::Seconds(2));
  EXPECT_EQ(tsa.attempts, 3u);
  EXPECT_EQ(tsa.concurrency, 40u);
  EXPECT_EQ(tsa.policy, "1.2.3.4");
  EXPECT_EQ(tsa.profile, TimestampProfile::kRfc3161);

  ASSERT_EQ(config.identities.size(), 1u);
  EXPECT_EQ(config.identities[0].timestamp.tsa, "apple");
  EXPECT_EQ(config.identities[0].timestamp.mode, TimestampPolicy::kPreferred);
  EXPECT_THAT(config.identities[0].timestamp.also, ElementsAre("own"));
  const IdentityConfig& identity = config.identities[0];
  EXPECT_EQ(identity.name, "teams/ABCDE12345/identities/app");
  ASSERT_EQ(identity.versions.size(), 2u);
  EXPECT_EQ(identity.versions[0].state, v1::IDENTITY_STATE_RETIRED);
  EXPECT_EQ(identity.versions[0].keys[0].key.label, "old");
  EXPECT_EQ(identity.versions[1].id, "2026a");
  EXPECT_EQ(identity.versions[1].state, v1::IDENTITY_STATE_ACTIVE);
  EXPECT_EQ(identity.versions[1].keys[0].token, "main");
  EXPECT_THAT(identity.versions[1].keys[0].key.id, ElementsAre(0x01, 0xff));
  EXPECT_EQ(identity.versions[1].chain, file);
  EXPECT_EQ(identity.key_policy, KeyPolicy::kImportedAllowed);
  EXPECT_EQ(identity.rules.team, "ABCDE12345");
  EXPECT_THAT(identity.rules.identifiers, ElementsAre("com.example.*"));
  EXPECT_EQ(identity.rules.require_flags, 0x12000u);
  EXPECT_THAT(identity.rules.entitlements_deny, ElementsAre("get-task-allow"));
  EXPECT_TRUE(identity.rules.allow_digest_only);
  EXPECT_TRUE(identity.rules.allow_packages);
  ASSERT_EQ(identity.allow.size(), 3u);
  EXPECT_EQ(identity.allow[0].spiffe, "spiffe://corp/ci/*");
  EXPECT_EQ(identity.allow[0].dns, "*.ci");
  EXPECT_EQ(identity.allow[1].key_fingerprint,
            "fe23456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef");
  EXPECT_EQ(identity.allow[2].fingerprint,
            "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef");

  EXPECT_EQ(config.limits.message, size_t{1} << 20);
  EXPECT_EQ(config.limits.item, size_t{8} << 20);
  EXPECT_EQ(config.limits.buffered, size_t{64} << 20);
  EXPECT_EQ(config.limits.streams, 5u);
  EXPECT_EQ(config.limits.stream_window, 6u);
  EXPECT_EQ(config.limits.queue, 7u);
  EXPECT_EQ(config.limits.queue_age, absl::Seconds(8));
  EXPECT_EQ(config.limits.deadline, absl::Minutes(1));
  EXPECT_EQ(config.limits.drain, absl::Minutes(2));
}

constexpr char kConditions[] = R"(
    limits: {per_minute: 10, client_per_day: 5}
    release_windows: [{days: [mon, fri], from: "09:00", to: "17:30", zone: Europe/Berlin}, {}]
    digest_only: [{dns: "*.hsm"}]
    approvals:
      quorum: 1
      window: 2h
      max_uses: 7
      approvers: [{name: alice, key: file, peer: {dns: alice}}]
    allow:
      - dns: "*.ci"
        oidc: {provider: github, claims: {repository_id: "12", job_workflow_ref: a/b@c}}
)";
constexpr char kProviders[] = R"(oidc:
  github: {issuer: "https://i", audience: codeseal, keys_url: "https://i/keys", algorithms: [RS256, ES256]}
  gitlab: {type: gitlab, issuer: "https://g", audience: codeseal, keys_file: file}
identities:)";

TEST_F(ConfigTest, ReadsWhoSignsWhenAndHowOften) {
  const auto with_conditions = [&](const std::string& from = "",
                                   const std::string& to = "") {
    std::string conditions = kConditions;
    std::string text = With("identities:", kProviders);
    const size_t first = text.find("    allow:\n");
    const size_t last = text.find("limits:", first);
    text.replace(first, last - first, conditions.substr(1));
    if (!from.empty()) {
      const size_t at = text.find(from);
      EXPECT_NE(at, std::string::npos) << from;
      text.replace(at, from.size(), to);
    }
    return text;
  };
  const ParsedConfig parsed = ParseConfig(with_conditions(), folder_.path());
  for (const ConfigProblem& each : parsed.problems) {
    ADD_FAILURE() << each.line << " " << each.key << ": " << each.message;
  }
  const IdentityConfig& identity = parsed.config.identities[0];
  EXPECT_EQ(identity.limits.per_minute, 10u);
  EXPECT_EQ(identity.limits.client_per_day, 5u);
  ASSERT_EQ(identity.release_windows.size(), 2u);
  EXPECT_TRUE(identity.release_windows[0].days[4]);
  EXPECT_FALSE(identity.release_windows[0].days[1]);
  EXPECT_EQ(identity.release_windows[0].to_minute, 17 * 60 + 30);
  EXPECT_TRUE(identity.release_windows[1].days[1]);
  EXPECT_EQ(identity.approvals.quorum, 1u);
  EXPECT_EQ(identity.approvals.approvers[0].peer.dns, "alice");
  EXPECT_EQ(identity.allow[0].provider, "github");
  EXPECT_EQ(identity.allow[0].claims.at("repository_id"), "12");
  ASSERT_EQ(parsed.config.oidc.size(), 2u);
  EXPECT_EQ(parsed.config.oidc[1].id_claim, "project_id");

  const struct {
    const char* from;
    const char* to;
    const char* problem;
  } cases[] = {
      {"repository_id: \"12\"", "repository: a/b",
       "must name the repository_id"},
      {"repository_id: \"12\"", "repository_id: a", "must name the repository"},
      {", job_workflow_ref: a/b@c", "", "must name the job_workflow_ref"},
      {"provider: github", "provider: circle", "circle is not under oidc"},
      {"[RS256, ES256]", "[HS256]", "want RS256, ES256 or both"},
      {"\"https://i/keys\"", "\"http://i/keys\"", "want https"},
      {"keys_file: file", "x: y", "want keys_url or keys_file"},
      {"quorum: 1", "quorum: 2", "fewer approvers than that"},
      {"[mon, fri]", "[monday]", "'monday' is none of mon"},
      {"from: \"09:00\"", "from: \"9\"", "want a time of day"},
      {"Europe/Berlin", "Europe/Atlantis", "no time zone Europe/Atlantis"},
      {"sqlite: {path: ledger.db}, ", "", "need state: {sqlite"},
  };
  for (const auto& each : cases) {
    EXPECT_THAT(Problems(with_conditions(each.from, each.to)),
                Contains(HasSubstr(each.problem)))
        << each.from << " -> " << each.to;
  }
}

TEST_F(ConfigTest, OneKeyMayBeOnSeveralTokens) {
  const ParsedConfig parsed = ParseConfig(
      With("key: {token: main, id: \"01ff\"}",
           "keys: [\"main:id=%01%ff\", \"other:object=a%20b;id=%02\"]"),
      folder_.path());
  ASSERT_THAT(parsed.problems, IsEmpty());
  const auto& keys = parsed.config.identities[0].versions[1].keys;
  ASSERT_EQ(keys.size(), 2u);
  EXPECT_EQ(keys[0].token, "main");
  EXPECT_THAT(keys[0].key.id, ElementsAre(0x01, 0xff));
  EXPECT_EQ(keys[1].token, "other");
  EXPECT_EQ(keys[1].key.label, "a b");
  EXPECT_THAT(keys[1].key.id, ElementsAre(0x02));
}

TEST_F(ConfigTest, AKeyNameSaysTokenAndKeyAndNothingElse) {
  for (const char* name : {"main", "main:", ":id=%01", "main:id=",
                           "main:id=%01;serial=1", "main:id=%01;token=other",
                           "main:id=%01?pin-source=file:x", "main:label=x"}) {
    const std::string keys = std::string("keys: [\"") + name + "\"]";
    EXPECT_THAT(Problems(With("key: {token: main, id: \"01ff\"}", keys)),
                ElementsAre(HasSubstr("is not TOKEN:id=%01")))
        << name;
  }
  EXPECT_THAT(Problems(With("key: {token: main, id: \"01ff\"}",
                            "keys: [\"main:id=%01\", \"mein:id=%01\"]")),
              ElementsAre(HasSubstr("mein, which is not under tokens; did you "
                                    "mean main?")));
  EXPECT_THAT(Problems(With(
                  "key: {token: main, id: \"01ff\"}",
                  "key: {token: main, id: \"01ff\"}, keys: [\"main:id=%1\"]")),
              Contains(HasSubstr("want key, or keys when")));
}

TEST_F(ConfigTest, UnknownKeyNamesLineAndNearestKey) {
  EXPECT_THAT(Problems(With("op_timeout", "op_timout")),
              ElementsAre("11 tokens.main.op_timout: unknown key; did you mean "
                          "op_timeout?"));
  EXPECT_THAT(
      Problems(With("limits:", "zebra:")),
      ElementsAre(HasSubstr("zebra: unknown key; known keys: version")));
}

TEST_F(ConfigTest, OneFaultIsOneProblem) {
  const struct {
    const char* from;
    const char* to;
    const char* problem;
  } cases[] = {
      {"version: 1", "version: 2", "1 version: this program reads version 1"},
      {"version: 1", "# nothing", "version: the key is missing"},
      {"\"127.0.0.1:0\"", "localhost", "2 listen.address: want HOST:PORT"},
      {"\"127.0.0.1:0\"", "\":70000\"", "2 listen.address: want HOST:PORT"},
      {"\"127.0.0.1:0\"", "[a]", "2 listen.address: want one value"},
      {"per_peer: 8", "per_peer: 0",
       "2 listen.per_peer: '0' is not a whole number from 1"},
      {"per_peer: 8", "per_peer: -1", "2 listen.per_peer: '-1' is not"},
      {"per_peer: 8", "per_peer: 8, per_peer: 9",
       "2 listen.per_peer: the key is given twice"},
      {"key: file", "key: missing", "3 tls.key: cannot read "},
      {"key: file", "key: .", "3 tls.key: "},
      {"label: codeseal\n    serials: [abc, def]", "",
       "tokens.main.label: want the token's label, its serials, or both"},
      {"serials: [abc, def]", "serials: abc", "8 tokens.main.serials: want a"},
      {"sessions: 8", "sessions: many", "10 tokens.main.sessions: 'many' is"},
      {"[no-os-locking,", "[no-locking,", "'no-locking' is none of serialize"},
      {"kept,", "kept, x: 1,", "state.x: unknown key"},
      {"1500ms", "1500", "11 tokens.main.op_timeout: '1500' is not a time"},
      {"1500ms", "0s", "11 tokens.main.op_timeout: '0s' is not a time"},
      {"1500ms", "99999999999h", "'99999999999h' is not a time"},
      {"serialize: true", "serialize: yes", "'yes' is not one of true, false"},
      {"pin_source: file:file", "pin_source: file:gone", "there is no file"},
      {"state: retired", "state: active", "version 2025a is active too"},
      {"id: 2025a", "id: 2026a", "version 2026a is given twice"},
      {"token: other", "token: othr", "did you mean other?"},
      {"id: \"01ff\"", "id: 1", "want pairs of hexadecimal digits"},
      {"id: \"01ff\"", "id: 0x", "want pairs of hexadecimal digits"},
      {", id: \"01ff\"", "", "want the key's id (hexadecimal), its label"},
      {"imported-allowed", "lax", "'lax' is not one of strict, imported-"},
      {"01:23456789", "1:23456789", "want the certificate's SHA-256"},
      {"FE:23456789", "E:23456789", "want the public key's SHA-256"},
      {"spiffe://corp", "https://corp", "starts with spiffe://"},
      {"{spiffe: \"spiffe://corp/ci/*\", dns: \"*.ci\"}", "{}",
       "want at least one of spiffe, dns, fingerprint, key_fingerprint"},
      {"message: 1MiB", "message: 1MB", "'1MB' is not a size such as 4MiB"},
      {"item: 8MiB", "item: 65MiB", "buffered: must be at least as large"},
      {"[runtime,", "[walktime,", "rules.require_flags: "},
      {"[\"com.example.*\"]", "[[a]]", "want a list of words"},
  };
  for (const auto& each : cases) {
    EXPECT_THAT(Problems(With(each.from, each.to)),
                ElementsAre(HasSubstr(each.problem)))
        << each.from << " -> " << each.to;
  }
}

TEST_F(ConfigTest, AnUnknownStateNamesTheKnownOnes) {
  EXPECT_THAT(Problems(With("state: retired", "state: old")),
              ::testing::Contains(HasSubstr(
                  "'old' is not one of staged, active, retired, disabled")));
}

TEST_F(ConfigTest, APinInPlaceOfItsSourceIsNotRepeated) {
  const std::vector<std::string> problems =
      Problems(With("pin_source: file:file", "pin_source: \"271828\""));
  EXPECT_THAT(problems, ElementsAre(HasSubstr("never the PIN itself")));
  EXPECT_THAT(problems[0], Not(HasSubstr("271828")));
}

TEST_F(ConfigTest, AllProblemsAreReportedInOrder) {
  EXPECT_THAT(
      Problems("version: 1\nlisten: 7\ntls: {certificate: gone}\ntokens: []\n"),
      ElementsAre(HasSubstr("identities: the key is missing"),
                  "2 listen: want a mapping of keys to values",
                  HasSubstr("3 tls.certificate: cannot read"),
                  "3 tls.key: the key is missing",
                  "3 tls.client_ca: the key is missing",
                  "4 tokens: want a mapping of keys to values"));
}

TEST_F(ConfigTest, WhatIsNotYamlIsOneProblemWithItsLine) {
  EXPECT_THAT(Problems("version: 1\nlisten: {\n"),
              ElementsAre(::testing::MatchesRegex("[23] : .*")));
  EXPECT_THAT(Problems(""), ElementsAre(HasSubstr("one document")));
  EXPECT_THAT(Problems("a: 1\n---\nb: 2\n"),
              ElementsAre(HasSubstr("one document")));
  EXPECT_THAT(Problems("[1, 2]"), ElementsAre(HasSubstr("one document")));
  EXPECT_THAT(Problems(std::string(2 << 20, '#')),
              ElementsAre(HasSubstr("larger than 1 MiB")));
  EXPECT_THAT(Problems(std::string(100'000, '[')), ElementsAre(::testing::_));
}

TEST_F(ConfigTest, LoadNamesFileAndLine) {
  const std::string path = folder_.Path("c.yaml");
  EXPECT_THAT(LoadConfig(folder_.Path("gone.yaml")),
              HasReason(v1::REASON_FILE_NOT_FOUND));
  folder_.Write("c.yaml", complete_);
  EXPECT_THAT(LoadConfig(path), IsOk());
  folder_.Write("c.yaml", With("per_peer", "per_pear"));
  EXPECT_THAT(LoadConfig(path), HasReason(v1::REASON_BAD_CONFIG));
  EXPECT_THAT(LoadConfig(path),
              HasMessage("c.yaml:2: listen.per_pear: unknown key"));
}

TEST_F(ConfigTest, DenyListHasItsOwnShape) {
  const std::string path = folder_.Write(
      "deny.yaml", "version: 1\ndeny: [{dns: bad.ci}, {spiffe: spiffe://x}]\n");
  const absl::StatusOr<std::vector<PeerRule>> rules = LoadDenyList(path);
  ASSERT_THAT(rules, IsOk());
  ASSERT_EQ(rules->size(), 2u);
  EXPECT_EQ((*rules)[0].dns, "bad.ci");
  EXPECT_EQ((*rules)[1].spiffe, "spiffe://x");
  folder_.Write("deny.yaml", "version: 1\ndenny: []\n");
  EXPECT_THAT(LoadDenyList(path), HasReason(v1::REASON_BAD_CONFIG));
  EXPECT_THAT(LoadDenyList(path), HasMessage("did you mean deny?"));
}

}  // namespace
}  // namespace codeseal
