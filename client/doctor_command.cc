#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/commands.h"
#include "client/findings.h"
#include "client/open_signer.h"
#include "client/signer.h"
#include "client/small_file.h"
#include "codesign/assess/identity_checkup.h"
#include "codesign/base/error.h"
#include "hsm/token.h"

namespace codeseal::client {
namespace {

// A certificate that issued another one here is there to complete chains.
void MarkAuthorities(IdentityCollection& collection) {
  for (IdentityCollection::Leaf& leaf : collection.certificates) {
    leaf.is_authority = std::any_of(
        collection.certificates.begin(), collection.certificates.end(),
        [&](const IdentityCollection::Leaf& other) {
          return &other != &leaf &&
                 other.certificate.IsIssuedBy(leaf.certificate);
        });
  }
}

absl::StatusOr<IdentityCollection> LookAtToken(const SignerOptions& options) {
  ASSIGN_OR_RETURN(const LocalToken local, OpenLocalToken(options.token_uri));
  ASSIGN_OR_RETURN(const TokenListing listing,
                   local.token->List(absl::Now() + options.timeout));
  IdentityCollection collection;
  collection.place = "token " + listing.label;
  for (const KeyListing& key : listing.keys) {
    collection.keys.push_back(
        {.label = key.label,
         .id = key.id,
         .public_key = key.public_key,
         .algorithm = key.algorithm,
         .can_sign = key.attributes.sign,
         .is_protected = key.attributes.local && key.attributes.sensitive &&
                         key.attributes.never_extractable});
  }
  for (const CertificateListing& stored : listing.certificates) {
    const absl::StatusOr<Certificate> certificate =
        Certificate::Parse(stored.der);
    if (!certificate.ok()) continue;  // of another kind, not ours
    std::string name = certificate->CommonName();
    if (name.empty()) name = stored.label;
    collection.certificates.push_back({.name = std::move(name),
                                       .id = stored.id,
                                       .certificate = *certificate});
  }
  if (!options.chain_path.empty()) {
    ASSIGN_OR_RETURN(std::vector<Certificate> chain,
                     ReadCertificates(options.chain_path));
    for (Certificate& certificate : chain) {
      const bool has_key = std::any_of(
          collection.keys.begin(), collection.keys.end(),
          [&](const IdentityCollection::Key& key) {
            return key.public_key == certificate.SubjectPublicKeyInfo();
          });
      if (has_key) {
        std::string name = certificate.CommonName();
        collection.certificates.push_back(
            {.name = std::move(name), .id = {}, .certificate = certificate});
      }
      collection.others.push_back(std::move(certificate));
    }
  }
  MarkAuthorities(collection);
  return collection;
}

// The server tells of its identities; which other keys its tokens hold is its
// operators' business: codeseald token list.
absl::StatusOr<IdentityCollection> LookAtServer(const SignerOptions& options) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Signer> signer,
                   OpenSigner(options, TimestampWish(), false));
  ASSIGN_OR_RETURN(const std::vector<SigningIdentity> identities,
                   signer->ListIdentities());
  IdentityCollection collection;
  collection.place = "the server";
  collection.has_keys = false;
  for (const SigningIdentity& identity : identities) {
    if (identity.chain.empty()) continue;
    collection.certificates.push_back(
        {.name = identity.name,
         .id = {},
         .certificate = identity.chain.front(),
         .unavailable_because = identity.unavailable_because});
    collection.others.insert(collection.others.end(),
                             identity.chain.begin() + 1, identity.chain.end());
  }
  return collection;
}

}  // namespace

void RunIdentitiesDoctor(const IdentitiesDoctorCommand& command,
                         Reporter& reporter) {
  CheckupOptions options;
  options.team = command.team;
  options.soon = absl::Hours(24) * command.soon_days;
  if (!command.anchors_path.empty()) {
    absl::StatusOr<std::vector<Certificate>> anchors =
        ReadCertificates(command.anchors_path);
    if (!anchors.ok()) {
      reporter.Fail("examine", "identities", anchors.status());
      return;
    }
    options.anchors = *std::move(anchors);
  }
  const absl::StatusOr<IdentityCollection> collection =
      command.signer.token_uri.empty() ? LookAtServer(command.signer)
                                       : LookAtToken(command.signer);
  if (!collection.ok()) {
    reporter.Fail("examine", "identities", collection.status());
    return;
  }
  const std::vector<Finding> findings = ExamineIdentities(*collection, options);
  SayFindings(findings, reporter);
  const auto count = [&](Severity severity) {
    return std::count_if(
        findings.begin(), findings.end(),
        [&](const Finding& each) { return each.severity == severity; });
  };
  const std::string summary = absl::StrCat(
      collection->certificates.size(), " certificates, ",
      collection->has_keys ? absl::StrCat(collection->keys.size(), " keys, ")
                           : "",
      count(Severity::kError), " errors, ", count(Severity::kWarning),
      " warnings");
  reporter.Say(0, collection->place + ": " + summary);
  absl::Status status;
  if (HasErrors(findings)) {
    status = WithSubject(
        MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_TOKEN,
                  v1::REASON_PROBLEMS_FOUND, summary),
        collection->place);
  }
  reporter.Judge(status, {{"name", collection->place},
                          {"certificates", collection->certificates.size()},
                          {"keys", collection->keys.size()},
                          {"issues", FindingsJson(findings)}});
}

}  // namespace codeseal::client
