#include "server/token_commands.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "codesign/base/error.h"
#include "codesign/base/mapped_file.h"
#include "codesign/cms/certificate.h"
#include "hsm/certificate_issuer.h"
#include "hsm/certificate_request.h"
#include "hsm/token.h"
#include "nlohmann/json.hpp"
#include "server/config.h"
#include "server/validity.h"

namespace codeseal {
namespace {

using Json = nlohmann::ordered_json;

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

Json ListingToJson(const TokenListing& listing) {
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

void PrintListing(const TokenListing& listing, std::ostream& out) {
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
        const auto location = std::find_if(
            version.keys.begin(), version.keys.end(),
            [&](const KeyLocation& key) { return key.token == each.name; });
        if (location == version.keys.end() ||
            (version.state != v1::IDENTITY_STATE_ACTIVE &&
             version.state != v1::IDENTITY_STATE_STAGED)) {
          continue;
        }
        ASSIGN_OR_RETURN(const MappedFile file,
                         MappedFile::Open(version.chain));
        ASSIGN_OR_RETURN(const std::vector<Certificate> chain,
                         Certificate::ParsePem(AsText(file.bytes())));
        absl::Status status =
            token
                ->LoadKey(location->key, identity.key_policy,
                          chain.front().der(), TokenDeadline())
                .status();
        if (status.ok()) status = token->Probe(location->key, TokenDeadline());
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
  ASSIGN_OR_RETURN(const TokenListing listing,
                   opened.token->List(TokenDeadline()));
  if (arguments.json) {
    out << ListingToJson(listing).dump(2, ' ', false,
                                       Json::error_handler_t::replace)
        << "\n";
  } else {
    PrintListing(listing, out);
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
                       opened.token->Probe(opened.key, TokenDeadline())});
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

absl::Status ClearPinHold(const TokenArguments& arguments, std::ostream& out) {
  ASSIGN_OR_RETURN(const OpenedToken opened, OpenToken(arguments));
  const TokenConfig& config = opened.token->config();
  if (config.state_folder.empty()) {
    return UsageError(
        "the configuration has no state folder, where a hold would be "
        "remembered: restart the server instead");
  }
  RETURN_IF_ERROR(opened.token->ClearPinHold(TokenDeadline()));
  out << "token " << config.name
      << ": no hold; the PIN is sent once with the next login\n";
  return absl::OkStatus();
}

std::optional<KeyAlgorithm> ParseKeyAlgorithm(std::string_view word) {
  constexpr std::pair<std::string_view, KeyAlgorithm> kAlgorithms[] = {
      {"rsa2048", KeyAlgorithm::kRsa2048}, {"rsa3072", KeyAlgorithm::kRsa3072},
      {"rsa4096", KeyAlgorithm::kRsa4096}, {"p256", KeyAlgorithm::kP256},
      {"p384", KeyAlgorithm::kP384},
  };
  for (const auto& [name, algorithm] : kAlgorithms) {
    if (name == word) return algorithm;
  }
  return std::nullopt;
}

absl::Status GenerateKey(const TokenArguments& arguments,
                         const std::string& algorithm, std::ostream& out) {
  const std::optional<KeyAlgorithm> parsed = ParseKeyAlgorithm(algorithm);
  if (!parsed.has_value()) {
    return UsageError("--algorithm is rsa2048, rsa3072, rsa4096, p256 or p384");
  }
  ASSIGN_OR_RETURN(const OpenedToken opened, OpenKey(arguments));
  ASSIGN_OR_RETURN(
      const Bytes public_key,
      opened.token->GenerateKey(opened.key, *parsed, TokenDeadline()));
  out << ToPem("PUBLIC KEY", public_key);
  return absl::OkStatus();
}

absl::Status RequestCertificate(const TokenArguments& arguments,
                                const std::string& subject, std::ostream& out) {
  ASSIGN_OR_RETURN(const OpenedToken opened, OpenKey(arguments));
  ASSIGN_OR_RETURN(
      std::shared_ptr<KeyBackend> key,
      opened.token->LoadKey(opened.key, KeyPolicy::kImportedAllowed, {},
                            TokenDeadline()));
  ASSIGN_OR_RETURN(
      const std::string pem,
      BuildCertificateRequest(std::move(key), subject, TokenDeadline()));
  out << pem;
  return absl::OkStatus();
}

absl::Status SelfSign(const TokenArguments& arguments,
                      const std::string& subject, uint32_t days,
                      std::ostream& out) {
  ASSIGN_OR_RETURN(const OpenedToken opened, OpenKey(arguments));
  ASSIGN_OR_RETURN(
      std::shared_ptr<KeyBackend> key,
      opened.token->LoadKey(opened.key, KeyPolicy::kImportedAllowed, {},
                            TokenDeadline()));
  const ValidityPeriod validity = ValidityFromNow(days);
  ASSIGN_OR_RETURN(
      const std::string pem,
      BuildSelfSignedCertificate(std::move(key), subject, validity.not_before,
                                 validity.not_after, TokenDeadline()));
  ASSIGN_OR_RETURN(const std::vector<Certificate> certificates,
                   Certificate::ParsePem(pem));
  RETURN_IF_ERROR(opened.token->ImportCertificate(
      opened.key, certificates.front().der(), TokenDeadline()));
  out << pem;
  return absl::OkStatus();
}

absl::Status ImportCertificate(const TokenArguments& arguments,
                               const std::string& certificate_path,
                               std::ostream& out) {
  ASSIGN_OR_RETURN(const std::vector<Certificate> certificates,
                   ReadCertificates(certificate_path));
  ASSIGN_OR_RETURN(const OpenedToken opened, OpenKey(arguments));
  RETURN_IF_ERROR(opened.token->ImportCertificate(
      opened.key, certificates.front().der(), TokenDeadline()));
  out << "imported '" << certificates.front().CommonName() << "'\n";
  return absl::OkStatus();
}

absl::StatusOr<KeyAttestation> AttestKey(Token& token, ByteView public_key,
                                         const std::string& attestation,
                                         const std::string& intermediates,
                                         const std::string& vendor_roots) {
  ASSIGN_OR_RETURN(const std::vector<Certificate> roots,
                   ReadCertificates(vendor_roots));
  std::vector<Certificate> between;
  if (!intermediates.empty()) {
    ASSIGN_OR_RETURN(between, ReadCertificates(intermediates));
  }
  if (attestation.empty()) {
    ASSIGN_OR_RETURN(const TokenListing listing, token.List(TokenDeadline()));
    return FindAttestation(listing, public_key, between, roots);
  }
  ASSIGN_OR_RETURN(const std::vector<Certificate> given,
                   ReadCertificates(attestation));
  between.insert(between.end(), given.begin() + 1, given.end());
  return CheckAttestation(public_key, given.front(), between, roots);
}

absl::Status AttestKey(const AttestArguments& arguments, std::ostream& out) {
  ASSIGN_OR_RETURN(const OpenedToken opened, OpenKey(arguments.key));
  ASSIGN_OR_RETURN(
      const std::shared_ptr<KeyBackend> key,
      opened.token->LoadKey(opened.key, KeyPolicy::kImportedAllowed, {},
                            TokenDeadline()));
  ASSIGN_OR_RETURN(
      const KeyAttestation attestation,
      AttestKey(*opened.token, key->public_key(), arguments.attestation,
                arguments.intermediates, arguments.vendor_roots));
  out << "attested by  " << attestation.chain.back().CommonName() << "\n";
  const std::pair<const char*, const std::string&> facts[] = {
      {"device       serial ", attestation.serial},
      {"firmware     ", attestation.firmware},
      {"PIN          ", attestation.pin_policy},
      {"touch        ", attestation.touch_policy},
  };
  for (const auto& [name, value] : facts) {
    if (!value.empty()) out << name << value << "\n";
  }
  for (const Certificate& each : attestation.chain) out << each.Pem();
  return absl::OkStatus();
}

}  // namespace codeseal
