#include "server/token_commands.h"

#include <algorithm>
#include <charconv>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "codesign/base/error.h"
#include "codesign/base/mapped_file.h"
#include "codesign/cms/certificate.h"
#include "hsm/certificate_request.h"
#include "hsm/token.h"
#include "hsm/token_uri.h"
#include "nlohmann/json.hpp"
#include "server/config.h"

namespace codeseal {
namespace {

using Json = nlohmann::ordered_json;

// People wait for these commands; RSA-4096 in a token takes its time.
constexpr absl::Duration kPatience = absl::Seconds(60);

absl::Status UsageError(const std::string& message) {
  return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_USAGE,
                   v1::REASON_USAGE, message);
}

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

struct OpenedToken {
  std::shared_ptr<Token> token;
  KeyReference key;
};

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
  config.operation_timeout = std::max(config.operation_timeout, kPatience);
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

absl::Time Deadline() { return absl::Now() + kPatience; }

std::vector<std::string> AttributeWords(const KeyAttributes& attributes) {
  const std::pair<bool, const char*> words[] = {
      {attributes.sensitive, "sensitive"},
      {attributes.always_sensitive, "always-sensitive"},
      {attributes.never_extractable, "never-extractable"},
      {attributes.extractable, "EXTRACTABLE"},
      {attributes.local, "local"},
      {attributes.sign, "sign"},
      {attributes.decrypt, "decrypt"},
      {attributes.unwrap, "unwrap"},
      {attributes.always_authenticate, "always-authenticate"},
  };
  std::vector<std::string> given;
  for (const auto& [set, word] : words) {
    if (set) given.emplace_back(word);
  }
  return given;
}

std::string CommonNameOf(const Bytes& der) {
  const absl::StatusOr<Certificate> certificate = Certificate::Parse(der);
  return certificate.ok() ? certificate->CommonName() : "unreadable";
}

Json ToJson(const TokenListing& listing) {
  Json token = {{"label", listing.label},
                {"serial", listing.serial},
                {"manufacturer", listing.manufacturer},
                {"model", listing.model},
                {"keys", Json::array()},
                {"certificates", Json::array()}};
  for (const KeyListing& key : listing.keys) {
    token["keys"].push_back({{"id", HexEncode(key.id)},
                             {"label", key.label},
                             {"algorithm", key.algorithm},
                             {"attributes", AttributeWords(key.attributes)}});
  }
  for (const CertificateListing& certificate : listing.certificates) {
    token["certificates"].push_back(
        {{"id", HexEncode(certificate.id)},
         {"label", certificate.label},
         {"common_name", CommonNameOf(certificate.der)}});
  }
  return token;
}

void Print(const TokenListing& listing, std::ostream& out) {
  out << "token        " << listing.label << "\n"
      << "serial       " << listing.serial << "\n"
      << "made by      " << listing.manufacturer << " " << listing.model
      << "\n";
  for (const KeyListing& key : listing.keys) {
    out << "key          id=" << HexEncode(key.id) << " " << key.algorithm
        << " '" << key.label << "':";
    for (const std::string& word : AttributeWords(key.attributes)) {
      out << " " << word;
    }
    out << "\n";
  }
  for (const CertificateListing& certificate : listing.certificates) {
    out << "certificate  id=" << HexEncode(certificate.id) << " '"
        << CommonNameOf(certificate.der) << "'\n";
  }
}

std::string ToPem(const char* type, ByteView der) {
  const std::string text = ToString(der);
  const std::string base64 = absl::Base64Escape(text);
  std::string pem = std::string("-----BEGIN ") + type + "-----\n";
  for (size_t at = 0; at < base64.size(); at += 64) {
    pem += base64.substr(at, 64) + "\n";
  }
  return pem + "-----END " + type + "-----\n";
}

struct ProbeResult {
  std::string name;
  absl::Status status;
};

// Loads each key as the server would, then signs with it.
absl::StatusOr<std::vector<ProbeResult>> ProbeIdentities(
    const TokenArguments& arguments) {
  ASSIGN_OR_RETURN(const ServerConfig config, LoadConfig(arguments.config));
  std::vector<ProbeResult> results;
  for (const TokenConfig& each : config.tokens) {
    if (!arguments.token.empty() && each.name != arguments.token) continue;
    ASSIGN_OR_RETURN(const std::shared_ptr<Token> token, Token::Create(each));
    for (const IdentityConfig& identity : config.identities) {
      for (const IdentityVersionConfig& version : identity.versions) {
        if (version.token != each.name ||
            (version.state != v1::IDENTITY_STATE_ACTIVE &&
             version.state != v1::IDENTITY_STATE_STAGED)) {
          continue;
        }
        ASSIGN_OR_RETURN(const MappedFile file,
                         MappedFile::Open(version.chain));
        ASSIGN_OR_RETURN(const std::vector<Certificate> chain,
                         Certificate::ParsePem(AsText(file.bytes())));
        absl::Status status = token
                                  ->LoadKey(version.key, identity.key_policy,
                                            chain.front().der(), Deadline())
                                  .status();
        if (status.ok()) status = token->Probe(version.key, Deadline());
        results.push_back(
            {identity.name + " " + version.id + " on token " + each.name,
             status});
      }
    }
  }
  return results;
}

}  // namespace

absl::Status ListToken(const TokenArguments& arguments, std::ostream& out) {
  ASSIGN_OR_RETURN(const OpenedToken opened, OpenToken(arguments));
  ASSIGN_OR_RETURN(const TokenListing listing, opened.token->List(Deadline()));
  if (arguments.json) {
    out << ToJson(listing).dump(2, ' ', false, Json::error_handler_t::replace)
        << "\n";
  } else {
    Print(listing, out);
  }
  return absl::OkStatus();
}

absl::Status ProbeToken(const TokenArguments& arguments, std::ostream& out) {
  std::vector<ProbeResult> results;
  if (!arguments.config.empty() && arguments.id.empty() &&
      arguments.label.empty()) {
    ASSIGN_OR_RETURN(results, ProbeIdentities(arguments));
  } else {
    ASSIGN_OR_RETURN(const OpenedToken opened, OpenKey(arguments));
    results.push_back({"key on token " + opened.token->config().label,
                       opened.token->Probe(opened.key, Deadline())});
  }
  absl::Status first_fault;
  Json list = Json::array();
  for (const ProbeResult& each : results) {
    first_fault.Update(each.status);
    const std::string text =
        each.status.ok() ? "signs" : std::string(Message(each.status));
    list.push_back(
        {{"key", each.name},
         {"ok", each.status.ok()},
         {"reason",
          each.status.ok() ? "" : v1::Reason_Name(GetReason(each.status))},
         {"message", text}});
    if (!arguments.json) out << each.name << ": " << text << "\n";
  }
  if (arguments.json) {
    out << list.dump(2, ' ', false, Json::error_handler_t::replace) << "\n";
  }
  return first_fault;
}

absl::Status GenerateKey(const TokenArguments& arguments,
                         const std::string& algorithm, std::ostream& out) {
  const std::pair<const char*, KeyAlgorithm> algorithms[] = {
      {"rsa2048", KeyAlgorithm::kRsa2048}, {"rsa3072", KeyAlgorithm::kRsa3072},
      {"rsa4096", KeyAlgorithm::kRsa4096}, {"p256", KeyAlgorithm::kP256},
      {"p384", KeyAlgorithm::kP384},
  };
  const auto* const found =
      std::find_if(std::begin(algorithms), std::end(algorithms),
                   [&](const auto& each) { return algorithm == each.first; });
  if (found == std::end(algorithms)) {
    return UsageError("--algorithm is rsa2048, rsa3072, rsa4096, p256 or p384");
  }
  ASSIGN_OR_RETURN(const OpenedToken opened, OpenKey(arguments));
  ASSIGN_OR_RETURN(
      const Bytes public_key,
      opened.token->GenerateKey(opened.key, found->second, Deadline()));
  out << ToPem("PUBLIC KEY", public_key);
  return absl::OkStatus();
}

absl::Status RequestCertificate(const TokenArguments& arguments,
                                const std::string& subject, std::ostream& out) {
  ASSIGN_OR_RETURN(const OpenedToken opened, OpenKey(arguments));
  ASSIGN_OR_RETURN(
      std::shared_ptr<KeyBackend> key,
      opened.token->LoadKey(opened.key, KeyPolicy::kImportedAllowed, {},
                            Deadline()));
  ASSIGN_OR_RETURN(
      const std::string pem,
      BuildCertificateRequest(std::move(key), subject, Deadline()));
  out << pem;
  return absl::OkStatus();
}

absl::Status ImportCertificate(const TokenArguments& arguments,
                               const std::string& certificate_path,
                               std::ostream& out) {
  ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(certificate_path));
  const absl::StatusOr<std::vector<Certificate>> certificates =
      Certificate::ParsePem(AsText(file.bytes()));
  if (!certificates.ok()) {
    return WithSubject(certificates.status(), certificate_path);
  }
  ASSIGN_OR_RETURN(const OpenedToken opened, OpenKey(arguments));
  RETURN_IF_ERROR(opened.token->ImportCertificate(
      opened.key, certificates->front().der(), Deadline()));
  out << "imported '" << certificates->front().CommonName() << "'\n";
  return absl::OkStatus();
}

}  // namespace codeseal
