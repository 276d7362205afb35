#include "client/open_signer.h"

#include <algorithm>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "client/connection.h"
#include "client/connection_settings.h"
#include "client/pin_prompt.h"
#include "client/remote_signer.h"
#include "client/small_file.h"
#include "client/token_signer.h"
#include "codesign/base/clock.h"
#include "codesign/base/error.h"
#include "hsm/token_uri.h"
#include "tsa/timestamper.h"

namespace codeseal::client {
namespace {

const Clock& WallClock() {
  static const SystemClock clock;
  return clock;
}

// Debian's list of all that it trusts.
constexpr char kSystemRoots[] = "/etc/ssl/certs/ca-certificates.crt";
constexpr char kAppleTimestampUrl[] = "http://timestamp.apple.com/ts01";

// Who stamps what a token on this machine signs; null when nobody does.
absl::StatusOr<std::shared_ptr<Timestamper>> OpenTimestamper(
    const SignerOptions& options, const TimestampWish& wish) {
  if (wish.mode != v1::TIMESTAMP_MODE_REQUIRED) return nullptr;
  TimestamperOptions tsa;
  tsa.urls = {wish.url.empty() ? kAppleTimestampUrl : wish.url};
  tsa.name = tsa.urls.front();
  tsa.timeout = absl::Seconds(15);  // as codesign
  if (wish.url.empty() || wish.url.starts_with("http://timestamp.apple.com/")) {
    tsa.rules.profile = TimestampProfile::kApple;
  } else if (options.timestamp_roots_path.empty()) {
    absl::StatusOr<std::vector<Certificate>> roots =
        ReadCertificates(kSystemRoots);
    if (!roots.ok()) {
      return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_USAGE,
                       v1::REASON_USAGE,
                       "this machine has no list of trusted roots: name the "
                       "timestamp authority's with --timestamp-roots PEM");
    }
    tsa.rules.roots = *std::move(roots);
  }
  if (!options.timestamp_roots_path.empty()) {
    ASSIGN_OR_RETURN(tsa.rules.roots,
                     ReadCertificates(options.timestamp_roots_path));
  }
  return std::make_shared<Timestamper>(std::move(tsa), WallClock());
}

// As the CI system gave it, in a file or a variable; empty: there is none.
absl::StatusOr<std::string> ReadIdentityToken(const SignerOptions& options,
                                              const Environment& environment) {
  std::string path = options.oidc_token_path;
  if (path.empty()) path = environment("CODESEAL_OIDC_TOKEN_FILE").value_or("");
  if (path.empty()) return environment("CODESEAL_OIDC_TOKEN").value_or("");
  ASSIGN_OR_RETURN(const Bytes text, ReadSmallFile(path));
  const std::string token(absl::StripAsciiWhitespace(ToString(text)));
  // A header holds nothing else; gRPC would drop the call without a word.
  const bool clean = std::all_of(token.begin(), token.end(),
                                 [](char c) { return c > ' ' && c < 0x7f; });
  if (clean && !token.empty()) return token;
  return WithSubject(MakeError(absl::StatusCode::kInvalidArgument,
                               v1::STAGE_USAGE, v1::REASON_BAD_IDENTITY_TOKEN,
                               "the file holds no OpenID Connect token"),
                     path);
}

absl::StatusOr<std::unique_ptr<Signer>> OpenTokenSigner(
    const SignerOptions& options, const TimestampWish& timestamp,
    bool validate_only) {
  ASSIGN_OR_RETURN(LocalToken local,
                   OpenLocalToken(options.token_uri, options.timeout));
  TokenSignerOptions signer_options;
  signer_options.key = local.key;
  signer_options.typed_pin = local.typed_pin;
  signer_options.timeout = options.timeout;
  signer_options.validate_only = validate_only;
  signer_options.on_wait =
      [name = local.token->config().label](const std::string& what) {
        std::cerr << "codeseal: the token " + name + " waits " + what +
                         ": touch it if it blinks\n"
                  << std::flush;
      };
  ASSIGN_OR_RETURN(signer_options.timestamper,
                   OpenTimestamper(options, timestamp));
  if (options.imported_key_allowed) {
    signer_options.key_policy = KeyPolicy::kImportedAllowed;
  }
  if (!options.chain_path.empty()) {
    ASSIGN_OR_RETURN(signer_options.certificates,
                     ReadCertificates(options.chain_path));
  }
  return MakeTokenSigner(std::move(local.token), std::move(signer_options),
                         WallClock());
}

}  // namespace

absl::StatusOr<std::vector<SigningIdentity>> ListIdentities(
    const SignerOptions& options) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Signer> signer,
                   OpenSigner(options, TimestampWish(), false));
  return signer->ListIdentities();
}

absl::StatusOr<LocalToken> OpenLocalToken(const std::string& text,
                                          absl::Duration patience) {
  ASSIGN_OR_RETURN(TokenUri uri, ParseTokenUri(text));
  if (uri.config.module.empty()) {
    return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_USAGE,
                     v1::REASON_BAD_TOKEN_URI,
                     "the token URI names no PKCS#11 module (module-path)");
  }
  // People take their time to touch a token.
  uri.config.operation_timeout =
      std::max(uri.config.operation_timeout, patience);
  LocalToken local;
  local.key = uri.key;
  if (uri.config.pin_source.empty()) {
    ASSIGN_OR_RETURN(PromptedPin pin, PromptedPin::Ask(uri.config.label));
    uri.config.pin_source = pin.pin_source();
    local.typed_pin = std::make_shared<const PromptedPin>(std::move(pin));
  }
  ASSIGN_OR_RETURN(local.token, Token::Create(std::move(uri.config)));
  return local;
}

absl::StatusOr<std::vector<std::shared_ptr<grpc::Channel>>> OpenServers(
    const SignerOptions& options) {
  const Environment environment = ProcessEnvironment();
  ASSIGN_OR_RETURN(ConnectionSettings settings,
                   ResolveConnection(options.connection, environment,
                                     DefaultSettingsPath(environment)));
  ASSIGN_OR_RETURN(settings.identity_token,
                   ReadIdentityToken(options, environment));
  return OpenChannels(settings, WallClock());
}

absl::StatusOr<std::unique_ptr<Signer>> OpenSigner(
    const SignerOptions& options, const TimestampWish& timestamp,
    bool validate_only) {
  if (!options.token_uri.empty()) {
    return OpenTokenSigner(options, timestamp, validate_only);
  }
  ASSIGN_OR_RETURN(std::vector<std::shared_ptr<grpc::Channel>> channels,
                   OpenServers(options));
  RemoteSignerOptions signer_options;
  signer_options.limits.timeout = options.timeout;
  signer_options.timestamp = timestamp;
  signer_options.validate_only = validate_only;
  signer_options.grant =
      options.grant.empty()
          ? ProcessEnvironment()("CODESEAL_GRANT").value_or("")
          : options.grant;
  return MakeRemoteSigner(std::move(channels), signer_options);
}

}  // namespace codeseal::client
