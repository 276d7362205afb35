#include "server/config.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <system_error>

#include "codesign/base/digest.h"
#include "codesign/base/error.h"
#include "codesign/code_directory.h"
#include "hsm/token_uri.h"
#include "server/yaml_reader.h"
#include "tsa/timestamper.h"

namespace codeseal {
namespace {

constexpr absl::Duration kYear = absl::Hours(24 * 366);

bool IsLowerHex(std::string_view text) {
  return text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

// "HOST:PORT" with a numeric host, or "[V6]:PORT".
bool IsAddress(std::string_view address) {
  const size_t colon = address.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return false;
  uint16_t port = 0;
  const std::string_view digits = address.substr(colon + 1);
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), port);
  return error == std::errc() && end == digits.data() + digits.size();
}

void ReadListen(YamlSection& section, ListenConfig& listen) {
  if (section.ReadString("address", kRequired, listen.address) &&
      !IsAddress(listen.address)) {
    section.Report("address", "want HOST:PORT, such as 127.0.0.1:8443");
  }
  section.ReadCount("max_connections", 1, 1 << 20, listen.max_connections);
  section.ReadCount("per_peer", 1, 1 << 20, listen.per_peer);
  section.Finish();
}

void ReadTls(YamlSection& section, TlsConfig& tls) {
  section.ReadPath("certificate", kRequired, tls.certificate);
  section.ReadPath("key", kRequired, tls.key);
  section.ReadPath("client_ca", kRequired, tls.client_ca);
  section.ReadPath("deny_list", kOptional, tls.deny_list);
  section.ReadPath("client_crl", kOptional, tls.client_crl);
  section.Finish();
}

void ReadPinSource(YamlContext& context, YamlSection& section,
                   std::string& pin_source) {
  if (!section.ReadString("pin_source", kOptional, pin_source)) return;
  constexpr std::string_view kFile = "file:";
  constexpr std::string_view kCredential = "credential:";
  if (pin_source.starts_with(kFile)) {
    const std::string path = context.Path(pin_source.substr(kFile.size()));
    std::error_code error;
    if (!std::filesystem::is_regular_file(path, error)) {
      section.Report("pin_source", "there is no file " + path);
    }
    pin_source = std::string(kFile) + path;
  } else if (!pin_source.starts_with(kCredential) ||
             pin_source.size() == kCredential.size()) {
    // The value is not repeated: it might be the PIN.
    section.Report("pin_source",
                   "want file:PATH or credential:NAME, never the PIN itself");
  }
}

// What a module needs that PKCS#11 does not know of.
void ReadQuirks(YamlSection& section, TokenConfig& token) {
  const std::pair<const char*, bool*> quirks[] = {
      {"serialize", &token.serialize},
      {"no-os-locking", &token.no_os_locking},
      {"pin-per-signature", &token.pin_per_signature},
  };
  std::vector<std::string> words;
  section.ReadStrings("quirks", words);
  for (const std::string& word : words) {
    const auto* const quirk =
        std::find_if(std::begin(quirks), std::end(quirks),
                     [&](const auto& each) { return each.first == word; });
    if (quirk == std::end(quirks)) {
      section.Report("quirks", "'" + word +
                                   "' is none of serialize, no-os-locking, "
                                   "pin-per-signature");
    } else {
      *quirk->second = true;
    }
  }
}

void ReadTokenConfig(YamlContext& context, const std::string& name,
                     YamlSection& section, TokenConfig& token) {
  token.name = name;
  section.ReadPath("module", kRequired, token.module);
  section.ReadString("label", kOptional, token.label);
  section.ReadStrings("serials", token.serials);
  if (token.label.empty() && token.serials.empty()) {
    section.Report("label", "want the token's label, its serials, or both");
  }
  ReadPinSource(context, section, token.pin_source);
  section.ReadString("init_args", kOptional, token.init_args);
  section.ReadCount("sessions", 1, 256, token.session_count);
  section.ReadDuration("op_timeout", token.operation_timeout);
  section.ReadDuration("idle_ping", token.idle_ping);
  section.ReadBool("serialize", token.serialize);
  ReadQuirks(section, token);
  section.Finish();
}

// {provider: NAME, CLAIM: VALUE, ...}
void ReadTokenRule(YamlSection& section, PeerRule& rule) {
  section.ReadString("provider", kRequired, rule.provider);
  section.ReadSection("claims", kRequired, [&](YamlSection& claims) {
    for (const std::string& name : claims.Names()) {
      claims.ReadString(name, kRequired, rule.claims[name]);
    }
    claims.Finish();
  });
  section.Finish();
}

bool IsLoopbackUrl(const std::string& url) {
  return url.starts_with("http://127.0.0.1:") ||
         url.starts_with("http://localhost:") ||
         url.starts_with("http://[::1]:");
}

void ReadOidcProvider(const std::string& name, YamlSection& section,
                      OidcProviderConfig& provider) {
  provider.name = name;
  section.ReadString("issuer", kRequired, provider.issuer);
  section.ReadString("audience", kRequired, provider.audience);
  std::string type = "github";
  section.ReadWord<std::string>(
      "type", {{"github", "github"}, {"gitlab", "gitlab"}}, type);
  provider.id_claim = type == "github" ? "repository_id" : "project_id";
  if (section.ReadStrings("algorithms", provider.algorithms)) {
    for (const std::string& each : provider.algorithms) {
      if (each == "RS256" || each == "ES256") continue;
      section.Report("algorithms", "want RS256, ES256 or both");
    }
  }
  const bool file =
      section.ReadPath("keys_file", kOptional, provider.keys_file);
  const bool url = section.ReadString("keys_url", kOptional, provider.keys_url);
  if (file == url) section.Report("keys_url", "want keys_url or keys_file");
  if (url && !provider.keys_url.starts_with("https://") &&
      !IsLoopbackUrl(provider.keys_url)) {
    section.Report("keys_url",
                   "want https: whoever changes the keys on their "
                   "way here can sign");
  }
  section.ReadDuration("refresh", provider.refresh);
  section.ReadDuration("max_age", provider.max_age);
  section.ReadDuration("leeway", provider.leeway, absl::Minutes(5));
  section.Finish();
}

// A rule that anybody with a repository of the right name fulfils is none.
void CheckTokenRules(YamlSection& section, const ServerConfig& config,
                     const std::vector<PeerRule>& rules) {
  for (const PeerRule& rule : rules) {
    if (rule.provider.empty()) continue;
    const auto provider = std::find_if(
        config.oidc.begin(), config.oidc.end(),
        [&](const auto& each) { return each.name == rule.provider; });
    if (provider == config.oidc.end()) {
      section.Report("allow", rule.provider + " is not under oidc");
      continue;
    }
    const auto id = rule.claims.find(provider->id_claim);
    if (id == rule.claims.end() || id->second.empty() ||
        id->second.find_first_not_of("0123456789") != std::string::npos) {
      section.Report("allow", "a rule for " + rule.provider +
                                  " must name the " + provider->id_claim +
                                  ", a number: names are given away again");
    }
    if (provider->id_claim == "repository_id" &&
        !rule.claims.contains("job_workflow_ref")) {
      section.Report("allow", "a rule for " + rule.provider +
                                  " must name the job_workflow_ref: any "
                                  "workflow of the repository would do");
    }
  }
}

void ReadPeerRule(YamlSection& section, std::vector<PeerRule>& rules);

void ReadApprover(YamlSection& section, ApprovalConfig& approvals) {
  ApproverConfig& approver = approvals.approvers.emplace_back();
  section.ReadString("name", kRequired, approver.name);
  section.ReadPath("key", kRequired, approver.key);
  std::vector<PeerRule> rules;
  section.ReadSection("peer", kRequired,
                      [&](YamlSection& rule) { ReadPeerRule(rule, rules); });
  if (!rules.empty()) approver.peer = rules.front();
  section.Finish();
}

void ReadApprovals(YamlSection& section, ApprovalConfig& approvals) {
  section.ReadCount("quorum", 1, 100, approvals.quorum);
  if (approvals.quorum == 0) section.Report("quorum", "the key is missing");
  section.ReadDuration("window", approvals.window, absl::Hours(24 * 31));
  section.ReadCount("max_uses", 1, 1'000'000, approvals.max_uses);
  section.ReadSections("approvers", kRequired, [&](YamlSection& approver) {
    ReadApprover(approver, approvals);
  });
  section.Finish();
  if (approvals.approvers.size() < approvals.quorum) {
    section.Report("quorum", "there are fewer approvers than that");
  }
  for (size_t i = 0; i < approvals.approvers.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (approvals.approvers[i].name == approvals.approvers[j].name) {
        section.Report("approvers",
                       approvals.approvers[i].name + " is given twice");
      }
    }
  }
}

// A SHA-256 as openssl prints it, or plain.
bool ReadFingerprint(YamlSection& section, const char* key, const char* of,
                     std::string& fingerprint) {
  if (!section.ReadString(key, kOptional, fingerprint)) return false;
  std::erase(fingerprint, ':');
  std::transform(fingerprint.begin(), fingerprint.end(), fingerprint.begin(),
                 [](char c) {
                   return c >= 'A' && c <= 'F' ? static_cast<char>(c + 32) : c;
                 });
  if (fingerprint.size() != 64 || !IsLowerHex(fingerprint)) {
    section.Report(key, "want the " + std::string(of) +
                            "'s SHA-256, 64 hexadecimal digits");
  }
  return true;
}

void ReadPeerRule(YamlSection& section, std::vector<PeerRule>& rules) {
  PeerRule rule;
  const bool spiffe = section.ReadString("spiffe", kOptional, rule.spiffe);
  const bool dns = section.ReadString("dns", kOptional, rule.dns);
  const bool fingerprint =
      ReadFingerprint(section, "fingerprint", "certificate", rule.fingerprint);
  const bool key = ReadFingerprint(section, "key_fingerprint", "public key",
                                   rule.key_fingerprint);
  const bool oidc = section.ReadSection(
      "oidc", kOptional,
      [&](YamlSection& token) { ReadTokenRule(token, rule); });
  if (!spiffe && !dns && !fingerprint && !key && !oidc) {
    section.Report("spiffe",
                   "want at least one of spiffe, dns, fingerprint, "
                   "key_fingerprint, oidc");
  }
  if (spiffe && !rule.spiffe.starts_with("spiffe://")) {
    section.Report("spiffe", "want a pattern that starts with spiffe://");
  }
  section.Finish();
  rules.push_back(std::move(rule));
}

void ReadKeyLocation(YamlSection& section, IdentityVersionConfig& version) {
  KeyLocation& location = version.keys.emplace_back();
  section.ReadString("token", kRequired, location.token);
  std::string id;
  const bool has_id = section.ReadString("id", kOptional, id);
  const bool has_label =
      section.ReadString("label", kOptional, location.key.label);
  if (!has_id && !has_label) {
    section.Report("id", "want the key's id (hexadecimal), its label, or both");
  }
  for (size_t at = 0; has_id && at < id.size(); at += 2) {
    uint8_t byte = 0;
    const char* const first = id.data() + at;
    const char* const last = first + std::min<size_t>(2, id.size() - at);
    const auto [end, error] = std::from_chars(first, last, byte, 16);
    if (error != std::errc() || end != first + 2) {
      section.Report("id",
                     "want pairs of hexadecimal digits, such as 01 or "
                     "a1b2; quote it so that YAML keeps the zeros");
      break;
    }
    location.key.id.push_back(byte);
  }
  section.Finish();
}

void ReadKeys(YamlSection& section, IdentityVersionConfig& version) {
  const bool one = section.ReadSection("key", kOptional, [&](YamlSection& key) {
    ReadKeyLocation(key, version);
  });
  std::vector<std::string> names;
  const bool several = section.ReadStrings("keys", names);
  if (one == several) {
    section.Report("key",
                   "want key, or keys when several tokens hold the same one");
  }
  for (const std::string& name : names) {
    KeyLocation location;
    if (ParseKeyLocation(name, location)) {
      version.keys.push_back(std::move(location));
    } else {
      section.Report("keys",
                     "'" + name + "' is not TOKEN:id=%01 or TOKEN:object=NAME");
    }
  }
}

void ReadVersion(YamlSection& section, IdentityConfig& identity) {
  IdentityVersionConfig version;
  section.ReadString("id", kRequired, version.id);
  section.ReadWord<v1::IdentityState>(
      "state",
      {{"staged", v1::IDENTITY_STATE_STAGED},
       {"active", v1::IDENTITY_STATE_ACTIVE},
       {"retired", v1::IDENTITY_STATE_RETIRED},
       {"disabled", v1::IDENTITY_STATE_DISABLED}},
      version.state);
  ReadKeys(section, version);
  section.ReadPath("chain", kRequired, version.chain);
  section.ReadTime("activate_at", version.activate_at);
  section.ReadWord<bool>("requirement_change",
                         {{"refused", false}, {"allowed", true}},
                         version.requirement_change_allowed);
  if (version.activate_at != absl::InfiniteFuture() &&
      version.state != v1::IDENTITY_STATE_STAGED) {
    section.Report("activate_at", "only a staged version is activated later");
  }
  section.Finish();
  for (const IdentityVersionConfig& other : identity.versions) {
    if (other.id == version.id) {
      section.Report("id", "version " + version.id + " is given twice");
    }
    if (other.state == v1::IDENTITY_STATE_ACTIVE &&
        version.state == v1::IDENTITY_STATE_ACTIVE) {
      section.Report("state", "version " + other.id +
                                  " is active too; at most one may be");
    }
  }
  identity.versions.push_back(std::move(version));
}

void ReadFlags(YamlSection& section, const char* name, uint32_t& value) {
  std::vector<std::string> words;
  section.ReadStrings(name, words);
  for (const std::string& word : words) {
    const absl::StatusOr<uint32_t> flags = ParseCodeDirectoryFlags(word);
    if (flags.ok()) {
      value |= *flags;
    } else {
      section.Report(name, std::string(Message(flags.status())));
    }
  }
}

void ReadQuotas(YamlSection& section, QuotaConfig& quotas) {
  constexpr uint32_t kMax = 1'000'000'000;
  section.ReadCount("per_minute", 1, kMax, quotas.per_minute);
  section.ReadCount("per_hour", 1, kMax, quotas.per_hour);
  section.ReadCount("per_day", 1, kMax, quotas.per_day);
  section.ReadCount("client_per_minute", 1, kMax, quotas.client_per_minute);
  section.ReadCount("client_per_hour", 1, kMax, quotas.client_per_hour);
  section.ReadCount("client_per_day", 1, kMax, quotas.client_per_day);
  section.Finish();
}

void ReadReleaseWindow(YamlSection& section,
                       std::vector<ReleaseWindow>& windows) {
  ReleaseWindow& window = windows.emplace_back();
  const std::vector<std::string> names = {"mon", "tue", "wed", "thu",
                                          "fri", "sat", "sun"};
  std::vector<std::string> days = names;
  section.ReadStrings("days", days);
  for (const std::string& day : days) {
    const auto name = std::find(names.begin(), names.end(), day);
    if (name == names.end()) {
      section.Report("days", "'" + day +
                                 "' is none of mon, tue, wed, thu, "
                                 "fri, sat, sun");
    } else {
      window.days[static_cast<size_t>(name - names.begin())] = true;
    }
  }
  const auto read_time = [&](const char* name, int& minute) {
    std::string text;
    if (section.ReadString(name, kOptional, text) &&
        !ParseTimeOfDay(text, minute)) {
      section.Report(name, "want a time of day such as \"09:30\"");
    }
  };
  read_time("from", window.from_minute);
  read_time("to", window.to_minute);
  std::string zone = "UTC";
  section.ReadString("zone", kOptional, zone);
  if (!absl::LoadTimeZone(zone, &window.zone)) {
    section.Report("zone", "this machine knows no time zone " + zone +
                               "; want a name such as Europe/Berlin");
  }
  section.Finish();
}

void ReadRules(YamlSection& section, IdentityRules& rules) {
  section.ReadString("team", kOptional, rules.team);
  section.ReadStrings("identifiers", rules.identifiers);
  ReadFlags(section, "require_flags", rules.require_flags);
  ReadFlags(section, "forbid_flags", rules.forbid_flags);
  if ((rules.require_flags & rules.forbid_flags) != 0) {
    section.Report("forbid_flags", "a flag cannot be required and forbidden");
  }
  section.ReadStrings("entitlements_deny", rules.entitlements_deny);
  section.ReadStrings("entitlements_allow", rules.entitlements_allow);
  section.ReadWord<DigestKind>("min_digest",
                               {{"sha1", DigestKind::kSha1},
                                {"sha256", DigestKind::kSha256},
                                {"sha384", DigestKind::kSha384}},
                               rules.min_digest);
  section.ReadBool("allow_digest_only", rules.allow_digest_only);
  section.ReadBool("allow_packages", rules.allow_packages);
  section.Finish();
}

void CheckTokenName(YamlSection& section, const ServerConfig& config,
                    const IdentityVersionConfig& version,
                    const std::string& name) {
  std::vector<std::string> names;
  for (const TokenConfig& token : config.tokens) names.push_back(token.name);
  const bool known = std::find(names.begin(), names.end(), name) != names.end();
  if (known || name.empty()) return;
  const std::string nearest = NearestWord(name, names);
  section.Report(
      "versions",
      "version " + version.id + " names token " + name +
          ", which is not under tokens" +
          (nearest.empty() ? "" : "; did you mean " + nearest + "?"));
}

void ReadTsa(const std::string& name, YamlSection& section, TsaConfig& tsa) {
  tsa.name = name;
  section.ReadStrings("urls", tsa.urls);
  if (tsa.urls.empty()) section.Report("urls", "want at least one URL");
  for (const std::string& url : tsa.urls) {
    if (IsTimestampUrl(url)) continue;
    section.Report("urls",
                   "want http://HOST/PATH or https://HOST/PATH, not " + url);
  }
  section.ReadDuration("timeout", tsa.timeout);
  section.ReadCount("attempts", 1, 100, tsa.attempts);
  section.ReadCount("concurrency", 1, 10'000, tsa.concurrency);
  section.ReadWord<TimestampProfile>("profile",
                                     {{"rfc3161", TimestampProfile::kRfc3161},
                                      {"apple", TimestampProfile::kApple}},
                                     tsa.profile);
  section.ReadPath(
      "roots", tsa.profile == TimestampProfile::kApple ? kOptional : kRequired,
      tsa.roots);
  section.ReadString("policy", kOptional, tsa.policy);
  section.Finish();
}

void ReadIdentityTimestamp(YamlSection& section, const ServerConfig& config,
                           IdentityTimestampConfig& timestamp) {
  section.ReadString("tsa", kRequired, timestamp.tsa);
  timestamp.mode = TimestampPolicy::kRequired;
  section.ReadWord<TimestampPolicy>("mode",
                                    {{"required", TimestampPolicy::kRequired},
                                     {"preferred", TimestampPolicy::kPreferred},
                                     {"none", TimestampPolicy::kNone}},
                                    timestamp.mode);
  section.ReadStrings("also", timestamp.also);
  section.Finish();
  std::vector<std::string> known;
  for (const TsaConfig& tsa : config.authorities) known.push_back(tsa.name);
  const auto require = [&](const char* key, const std::string& name) {
    if (name.empty() ||
        std::find(known.begin(), known.end(), name) != known.end()) {
      return;
    }
    const std::string nearest = NearestWord(name, known);
    section.Report(
        key, name + " is not under tsa" +
                 (nearest.empty() ? "" : "; did you mean " + nearest + "?"));
  };
  require("tsa", timestamp.tsa);
  for (const std::string& name : timestamp.also) require("also", name);
}

bool KeepsRows(const StateConfig& state) {
  return !state.ledger.empty() || !state.postgres.dsn_file.empty();
}

void ReadIdentity(YamlSection& section, ServerConfig& config) {
  IdentityConfig identity;
  section.ReadString("name", kRequired, identity.name);
  section.ReadSections("versions", kRequired, [&](YamlSection& version) {
    ReadVersion(version, identity);
  });
  section.ReadWord<KeyPolicy>(
      "key_policy",
      {{"strict", KeyPolicy::kStrict},
       {"imported-allowed", KeyPolicy::kImportedAllowed}},
      identity.key_policy);
  section.ReadSection("rules", kOptional, [&](YamlSection& rules) {
    ReadRules(rules, identity.rules);
  });
  section.ReadSection("timestamp", kOptional, [&](YamlSection& timestamp) {
    ReadIdentityTimestamp(timestamp, config, identity.timestamp);
  });
  section.ReadSections("allow", kRequired, [&](YamlSection& rule) {
    ReadPeerRule(rule, identity.allow);
  });
  section.ReadSections("digest_only", kOptional, [&](YamlSection& rule) {
    ReadPeerRule(rule, identity.digest_only);
  });
  if (!identity.digest_only.empty()) identity.rules.allow_digest_only = true;
  section.ReadSection("limits", kOptional, [&](YamlSection& limits) {
    ReadQuotas(limits, identity.limits);
  });
  section.ReadSection("approvals", kOptional, [&](YamlSection& approvals) {
    ReadApprovals(approvals, identity.approvals);
  });
  CheckTokenRules(section, config, identity.allow);
  const bool has_token_rules =
      std::any_of(identity.allow.begin(), identity.allow.end(),
                  [](const PeerRule& rule) { return !rule.provider.empty(); });
  if (!KeepsRows(config.state) &&
      (identity.limits != QuotaConfig() || identity.approvals.quorum != 0 ||
       has_token_rules)) {
    section.Report("name",
                   "limits, approvals and rules with oidc need state: "
                   "{sqlite: ...} or {postgres: ...}");
  }
  section.ReadSections("release_windows", kOptional, [&](YamlSection& window) {
    ReadReleaseWindow(window, identity.release_windows);
  });
  section.ReadDuration("overlap", identity.overlap);
  section.ReadDuration("expiry_warning", identity.expiry_warning, kYear);
  section.Finish();
  for (const IdentityConfig& other : config.identities) {
    if (other.name == identity.name && !identity.name.empty()) {
      section.Report("name", "identity " + other.name + " is given twice");
    }
  }
  if (identity.versions.empty()) {
    section.Report("versions", "want at least one version");
  }
  for (const IdentityVersionConfig& version : identity.versions) {
    for (const KeyLocation& location : version.keys) {
      CheckTokenName(section, config, version, location.token);
    }
  }
  config.identities.push_back(std::move(identity));
}

void ReadLimits(YamlSection& section, LimitsConfig& limits) {
  constexpr size_t kKiB = size_t{1} << 10;
  constexpr size_t kMiB = size_t{1} << 20;
  section.ReadSize("message", 64 * kKiB, 64 * kMiB, limits.message);
  section.ReadSize("item", 64 * kKiB, 1024 * kMiB, limits.item);
  section.ReadSize("buffered", kMiB, size_t{64} << 30, limits.buffered);
  section.ReadCount("streams", 1, 10'000, limits.streams);
  section.ReadCount("stream_window", 1, 10'000, limits.stream_window);
  section.ReadCount("queue", 1, 1'000'000, limits.queue);
  section.ReadDuration("queue_age", limits.queue_age);
  section.ReadDuration("deadline", limits.deadline);
  section.ReadDuration("drain", limits.drain);
  section.Finish();
  if (limits.buffered < limits.item) {
    section.Report("buffered", "must be at least as large as item");
  }
}

void ReadPostgres(YamlSection& section, PostgresConfig& postgres) {
  section.ReadPath("dsn_file", kRequired, postgres.dsn_file);
  section.ReadDuration("timeout", postgres.timeout, absl::Minutes(1));
  section.ReadDuration("lease", postgres.lease, absl::Hours(1));
  section.ReadCount("connections", 1, 64, postgres.connections);
  section.Finish();
}

void ReadState(YamlContext& context, YamlSection& section, StateConfig& state) {
  std::string folder;
  if (section.ReadString("folder", kOptional, folder)) {
    state.folder = context.Path(folder);
  }
  section.ReadSection("sqlite", kOptional, [&](YamlSection& sqlite) {
    // Not ReadPath(): the first start makes the file.
    if (sqlite.ReadString("path", kRequired, state.ledger)) {
      state.ledger = context.Path(state.ledger);
    }
    sqlite.Finish();
  });
  section.ReadSection("postgres", kOptional, [&](YamlSection& postgres) {
    ReadPostgres(postgres, state.postgres);
  });
  if (!state.ledger.empty() && !state.postgres.dsn_file.empty()) {
    section.Report("postgres", "want sqlite or postgres, not both");
  }
  section.ReadDuration("retention", state.retention);
  section.Finish();
}

void ReadAudit(YamlContext& context, YamlSection& section,
               const std::vector<TokenConfig>& tokens, AuditConfig& audit) {
  if (section.ReadString("dir", kRequired, audit.folder)) {
    audit.folder = context.Path(audit.folder);
  }
  if (section.ReadString("record", kOptional, audit.record)) {
    audit.record = context.Path(audit.record);
  }
  if (section.ReadString("origin", kRequired, audit.origin) &&
      audit.origin.find_first_of(" +\n") != std::string::npos) {
    section.Report("origin",
                   "want a name without blanks and '+', such as "
                   "seal.example/r1");
  }
  section.ReadSection("key", kRequired, [&](YamlSection& key) {
    IdentityVersionConfig version;
    ReadKeyLocation(key, version);
    audit.token = version.keys.front().token;
    audit.key = version.keys.front().key;
  });
  section.ReadWord<KeyPolicy>(
      "key_policy",
      {{"strict", KeyPolicy::kStrict},
       {"imported-allowed", KeyPolicy::kImportedAllowed}},
      audit.key_policy);
  section.ReadDuration("timeout", audit.timeout);
  section.ReadSize("reserve", 0, size_t{1} << 50, audit.reserve);
  section.ReadSections("readers", kOptional, [&](YamlSection& rule) {
    ReadPeerRule(rule, audit.readers);
  });
  section.Finish();
  if (!audit.token.empty() &&
      std::none_of(tokens.begin(), tokens.end(), [&](const TokenConfig& each) {
        return each.name == audit.token;
      })) {
    section.Report("key", "token " + audit.token + " is not under tokens");
  }
}

void ReadVersionNumber(YamlSection& section) {
  std::string version;
  if (section.ReadString("version", kRequired, version) && version != "1") {
    section.Report("version", "this program reads version 1");
  }
}

void ReadServer(YamlContext& context, YamlSection& section,
                ServerConfig& config) {
  ReadVersionNumber(section);
  section.ReadSection("listen", kRequired, [&](YamlSection& listen) {
    ReadListen(listen, config.listen);
  });
  section.ReadSection("tls", kRequired,
                      [&](YamlSection& tls) { ReadTls(tls, config.tls); });
  section.ReadSection("state", kOptional, [&](YamlSection& state) {
    ReadState(context, state, config.state);
  });
  section.ReadSection("admin", kOptional, [&](YamlSection& admin) {
    if (admin.ReadString("address", kOptional, config.admin.address) &&
        !IsAddress(config.admin.address)) {
      admin.Report("address", "want HOST:PORT, such as 127.0.0.1:9443");
    }
    admin.ReadSections("allow", kOptional, [&](YamlSection& rule) {
      ReadPeerRule(rule, config.admin.allow);
    });
    admin.Finish();
  });
  section.ReadNamedSections(
      "tokens", kRequired, [&](const std::string& name, YamlSection& token) {
        ReadTokenConfig(context, name, token, config.tokens.emplace_back());
      });
  for (TokenConfig& token : config.tokens) {
    token.state_folder = config.state.folder;
  }
  section.ReadNamedSections(
      "tsa", kOptional, [&](const std::string& name, YamlSection& tsa) {
        ReadTsa(name, tsa, config.authorities.emplace_back());
      });
  section.ReadNamedSections(
      "oidc", kOptional, [&](const std::string& name, YamlSection& provider) {
        ReadOidcProvider(name, provider, config.oidc.emplace_back());
      });
  section.ReadSections("identities", kRequired, [&](YamlSection& identity) {
    ReadIdentity(identity, config);
  });
  section.ReadSection("limits", kOptional, [&](YamlSection& limits) {
    ReadLimits(limits, config.limits);
  });
  section.ReadSection("audit", kOptional, [&](YamlSection& audit) {
    ReadAudit(context, audit, config.tokens, config.audit);
  });
  section.Finish();
}

}  // namespace

bool ParseKeyLocation(const std::string& text, KeyLocation& location) {
  const size_t colon = text.find(':');
  if (colon == std::string::npos || colon == 0) return false;
  location.token = text.substr(0, colon);
  const absl::StatusOr<TokenUri> uri =
      ParseTokenUri("pkcs11:token=any;" + text.substr(colon + 1));
  if (!uri.ok() || uri->config.label != "any" || !uri->config.serials.empty() ||
      text.find('?') != std::string::npos) {
    return false;
  }
  location.key = uri->key;
  return !location.key.id.empty() || !location.key.label.empty();
}

ParsedConfig ParseConfig(std::string_view text, const std::string& folder) {
  YamlContext context{folder, {}};
  ParsedConfig parsed;
  ReadYaml(context, text, [&](YamlSection& section) {
    ReadServer(context, section, parsed.config);
  });
  parsed.problems = std::move(context.problems);
  return parsed;
}

absl::Status ConfigError(const std::string& path,
                         const std::vector<ConfigProblem>& problems) {
  std::string message;
  for (const ConfigProblem& problem : problems) {
    if (!message.empty()) message += "\n";
    message += path;
    if (problem.line > 0) message += ":" + std::to_string(problem.line);
    message += ": ";
    if (!problem.key.empty()) message += problem.key + ": ";
    message += problem.message;
  }
  return WithSubject(MakeError(absl::StatusCode::kInvalidArgument,
                               v1::STAGE_USAGE, v1::REASON_BAD_CONFIG, message),
                     path);
}

absl::StatusOr<ServerConfig> LoadConfig(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadYamlText(path));
  ParsedConfig parsed = ParseConfig(text, FolderOf(path));
  if (!parsed.problems.empty()) return ConfigError(path, parsed.problems);
  parsed.config.sha256 =
      HexEncode(ComputeDigest(DigestKind::kSha256, AsBytes(text)));
  return std::move(parsed.config);
}

absl::StatusOr<std::vector<PeerRule>> LoadDenyList(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadYamlText(path));
  YamlContext context{FolderOf(path), {}};
  std::vector<PeerRule> rules;
  ReadYaml(context, text, [&](YamlSection& section) {
    ReadVersionNumber(section);
    section.ReadSections("deny", kRequired,
                         [&](YamlSection& rule) { ReadPeerRule(rule, rules); });
    section.Finish();
  });
  if (!context.problems.empty()) return ConfigError(path, context.problems);
  return rules;
}

}  // namespace codeseal
