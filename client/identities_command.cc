#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "client/commands.h"
#include "client/find_identity.h"
#include "client/open_signer.h"
#include "client/signer.h"
#include "codesign/base/error.h"

namespace codeseal::client {
namespace {

std::string ChainPem(const SigningIdentity& identity) {
  std::string pem;
  for (const Certificate& certificate : identity.chain) {
    pem += certificate.Pem();
  }
  return pem;
}

nlohmann::json DescribeIdentity(const SigningIdentity& identity) {
  const Certificate& leaf = identity.chain.front();
  nlohmann::json authorities = nlohmann::json::array();
  for (const Certificate& certificate : identity.chain) {
    authorities.push_back(certificate.CommonName());
  }
  nlohmann::json json = {
      {"name", identity.name},
      {"state", identity.state},
      {"common_name", leaf.CommonName()},
      {"sha1", HexEncode(leaf.Sha1())},
      {"sha256", HexEncode(leaf.Sha256())},
      {"team_identifier", TeamIdentifier(identity.chain).value_or("")},
      {"key_algorithm", leaf.KeyAlgorithm()},
      {"not_before", FormatUtc(leaf.not_before())},
      {"not_after", FormatUtc(leaf.not_after())},
      {"authorities", std::move(authorities)},
      {"chain_pem", ChainPem(identity)},
  };
  if (!identity.version.empty()) json["version"] = identity.version;
  if (!identity.unavailable_because.empty()) {
    json["unavailable_because"] = identity.unavailable_because;
  }
  return json;
}

// Also one that cannot sign now: people ask why.
absl::StatusOr<SigningIdentity> Get(const SignerOptions& options,
                                    const std::string& name) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Signer> signer,
                   OpenSigner(options, TimestampWish(), false));
  absl::StatusOr<SigningIdentity> usable = FindIdentity(*signer, name);
  if (usable.ok()) return usable;
  absl::StatusOr<std::vector<SigningIdentity>> listed =
      signer->ListIdentities();
  if (!listed.ok()) return usable;
  std::vector<SigningIdentity> fitting;
  for (SigningIdentity& identity : *listed) {
    if (identity.chain.empty()) continue;
    const Certificate& leaf = identity.chain.front();
    if (identity.name == name || leaf.CommonName() == name ||
        HexEncode(leaf.Sha1()) == absl::AsciiStrToLower(name)) {
      fitting.push_back(std::move(identity));
    }
  }
  if (fitting.size() != 1) return usable;
  SigningIdentity& identity = fitting.front();
  if (identity.unavailable_because.empty()) {
    identity.unavailable_because = std::string(Message(usable.status()));
  }
  return std::move(identity);
}

}  // namespace

void RunIdentitiesList(const IdentitiesListCommand& command,
                       Reporter& reporter) {
  const absl::StatusOr<std::vector<SigningIdentity>> identities =
      ListIdentities(command.signer);
  if (!identities.ok()) {
    reporter.Fail("list", "identities", identities.status());
    return;
  }
  for (const SigningIdentity& identity : *identities) {
    if (identity.chain.empty()) continue;
    // Like `security find-identity`: SHA-1, then the name in quotes.
    reporter.Say(0, absl::StrCat(HexEncode(identity.chain.front().Sha1()),
                                 " \"", identity.name, "\" ",
                                 identity.chain.front().CommonName(), " (",
                                 identity.state, ")",
                                 identity.unavailable_because.empty()
                                     ? ""
                                     : ": " + identity.unavailable_because));
    reporter.Succeed(DescribeIdentity(identity));
  }
  reporter.Say(0, absl::StrCat("     ", identities->size(), " identities"));
}

void RunIdentitiesShow(const IdentitiesShowCommand& command,
                       Reporter& reporter) {
  const absl::StatusOr<SigningIdentity> identity =
      Get(command.signer, command.name);
  if (!identity.ok()) {
    reporter.Fail("show", "identity " + command.name, identity.status());
    return;
  }
  const nlohmann::json described = DescribeIdentity(*identity);
  const auto text = [&](const char* key) {
    return described.value(key, std::string());
  };
  if (command.pem || command.team) {
    // Whoever reads PEM passes over the line before it.
    if (command.team) reporter.Say(0, text("team_identifier"));
    if (command.pem) reporter.Raw(text("chain_pem"));
  } else {
    reporter.Say(0, "Name=" + text("name"));
    if (described.contains("version")) {
      reporter.Say(0, "Version=" + text("version"));
    }
    reporter.Say(0, "State=" + text("state"));
    for (const Certificate& certificate : identity->chain) {
      reporter.Say(0, "Authority=" + certificate.CommonName());
    }
    const std::string team = text("team_identifier");
    reporter.Say(0, "TeamIdentifier=" + (team.empty() ? "not set" : team));
    reporter.Say(0, "Key=" + text("key_algorithm"));
    reporter.Say(0, "SHA-1=" + text("sha1"));
    reporter.Say(0, "Valid=" + text("not_before") + " to " + text("not_after"));
    if (described.contains("unavailable_because")) {
      reporter.Say(0, "Unavailable=" + text("unavailable_because"));
    }
  }
  reporter.Succeed(described);
}

}  // namespace codeseal::client
