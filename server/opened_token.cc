#include "server/opened_token.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "absl/time/clock.h"
#include "codesign/base/error.h"
#include "codesign/base/mapped_file.h"
#include "hsm/token_uri.h"
#include "server/config.h"

namespace codeseal {
namespace {

// People wait for these commands; RSA-4096 in a token takes its time.
constexpr absl::Duration kCommandPatience = absl::Seconds(60);

absl::StatusOr<Bytes> ParseHex(const std::string& text) {
  Bytes bytes;
  for (size_t at = 0; at < text.size(); at += 2) {
    uint8_t byte = 0;
    const char* const first = text.data() + at;
    const char* const last = first + std::min<size_t>(2, text.size() - at);
    const auto [end, error] = std::from_chars(first, last, byte, 16);
    if (error != std::errc() || end != first + 2) {
      return UsageError("--id wants pairs of hexadecimal digits, not '" + text +
                        "'");
    }
    bytes.push_back(byte);
  }
  return bytes;
}

absl::StatusOr<TokenConfig> FindTokenConfig(const TokenArguments& arguments) {
  ASSIGN_OR_RETURN(ServerConfig config, LoadConfig(arguments.config));
  const auto named = [&](const TokenConfig& each) {
    return each.name == arguments.token;
  };
  const auto found =
      arguments.token.empty() && config.tokens.size() == 1
          ? config.tokens.begin()
          : std::find_if(config.tokens.begin(), config.tokens.end(), named);
  if (found == config.tokens.end()) {
    return UsageError(arguments.token.empty()
                          ? "name one of the tokens with --token"
                          : "the configuration has no token named " +
                                arguments.token);
  }
  return std::move(*found);
}

}  // namespace

absl::StatusOr<std::vector<Certificate>> ReadCertificates(
    const std::string& path) {
  ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  absl::StatusOr<std::vector<Certificate>> certificates =
      Certificate::ParsePem(AsText(file.bytes()));
  if (!certificates.ok()) return WithSubject(certificates.status(), path);
  return certificates;
}

absl::Status UsageError(const std::string& message) {
  return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_USAGE,
                   v1::REASON_USAGE, message);
}

absl::StatusOr<OpenedToken> OpenToken(const TokenArguments& arguments) {
  if (arguments.uri.empty() == arguments.config.empty()) {
    return UsageError("give either --token-uri or --config");
  }
  OpenedToken opened;
  TokenConfig config;
  if (!arguments.uri.empty()) {
    ASSIGN_OR_RETURN(TokenUri uri, ParseTokenUri(arguments.uri));
    config = std::move(uri.config);
    opened.key = std::move(uri.key);
  } else {
    ASSIGN_OR_RETURN(config, FindTokenConfig(arguments));
  }
  if (!arguments.id.empty()) {
    ASSIGN_OR_RETURN(opened.key.id, ParseHex(arguments.id));
  }
  if (!arguments.label.empty()) opened.key.label = arguments.label;
  config.operation_timeout =
      std::max(config.operation_timeout, kCommandPatience);
  ASSIGN_OR_RETURN(opened.token, Token::Create(std::move(config)));
  return opened;
}

absl::StatusOr<OpenedToken> OpenKey(const TokenArguments& arguments) {
  ASSIGN_OR_RETURN(OpenedToken opened, OpenToken(arguments));
  if (opened.key.id.empty() && opened.key.label.empty()) {
    return UsageError(
        "name the key: id= or object= in the URI, or --id or --label");
  }
  return opened;
}

absl::Time TokenDeadline() { return absl::Now() + kCommandPatience; }

}  // namespace codeseal
