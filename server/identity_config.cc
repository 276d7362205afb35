#include "server/identity_config.h"

#include <algorithm>
#include <charconv>
#include <string>
#include <system_error>
#include <utility>

#include "codesign/code_directory.h"

namespace codeseal {
namespace {

constexpr absl::Duration kYear = absl::Hours(24 * 366);

bool IsLowerHex(std::string_view text) {
  return text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
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

}  // namespace

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

}  // namespace codeseal
