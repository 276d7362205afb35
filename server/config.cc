#include "server/config.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <system_error>

#include "codesign/base/digest.h"
#include "codesign/base/error.h"
#include "hsm/token_uri.h"
#include "server/identity_config.h"
#include "server/yaml_reader.h"
#include "tsa/timestamper.h"

namespace codeseal {
namespace {

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
