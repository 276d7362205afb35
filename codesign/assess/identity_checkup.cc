#include "codesign/assess/identity_checkup.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "codesign/assess/signer_kind.h"
#include "codesign/base/error.h"

namespace codeseal {
namespace {

using Key = IdentityCollection::Key;
using Leaf = IdentityCollection::Leaf;

// Purposes that a certificate for code has no business with.
struct Purpose {
  std::string_view oid;
  std::string_view name;
};
constexpr std::array<Purpose, 6> kForeignPurposes = {{
    {"1.3.6.1.5.5.7.3.1", "TLS servers"},
    {"1.3.6.1.5.5.7.3.2", "TLS clients"},
    {"1.3.6.1.5.5.7.3.4", "e-mail"},
    {"1.3.6.1.5.5.7.3.8", "timestamps"},
    {"1.3.6.1.5.5.7.3.9", "OCSP"},
    {"2.5.29.37.0", "anything"},
}};

std::string FormatDate(absl::Time time) {
  return absl::FormatTime("%Y-%m-%d", time, absl::UTCTimeZone());
}

class Checkup {
 public:
  Checkup(const IdentityCollection& collection, const CheckupOptions& options)
      : collection_(collection), options_(options) {
    for (const Leaf& leaf : collection.certificates) {
      candidates_.push_back(leaf.certificate);
    }
    candidates_.insert(candidates_.end(), collection.others.begin(),
                       collection.others.end());
    candidates_.insert(candidates_.end(), options.anchors.begin(),
                       options.anchors.end());
  }

  std::vector<Finding> Run() {
    for (const Leaf& leaf : collection_.certificates) {
      if (leaf.is_authority) continue;
      CheckUse(leaf);
      CheckDates(leaf);
      CheckPurpose(leaf);
      CheckChain(leaf);
      CheckDuplicates(leaf);
    }
    for (const Key& key : collection_.keys) CheckKey(key);
    return std::move(findings_);
  }

 private:
  void Add(const Leaf& leaf, std::string rule, Severity severity,
           std::string message, std::string detail, std::string fix) {
    AddFor(leaf.name, std::move(rule), severity, std::move(message),
           std::move(detail), std::move(fix));
  }

  void AddFor(const std::string& name, std::string rule, Severity severity,
              std::string message, std::string detail, std::string fix) {
    findings_.push_back({.rule = std::move(rule),
                         .severity = severity,
                         .path = name,
                         .message = std::move(message),
                         .detail = std::move(detail),
                         .fix = std::move(fix)});
  }

  static bool Belongs(const Key& key, const Leaf& leaf) {
    return key.public_key.empty()
               ? !leaf.id.empty() && key.id == leaf.id
               : key.public_key == leaf.certificate.SubjectPublicKeyInfo();
  }

  void CheckUse(const Leaf& leaf) {
    if (!leaf.unavailable_because.empty()) {
      Add(leaf, "unavailable", Severity::kError,
          "The server cannot sign with it now.", leaf.unavailable_because,
          "ask the signing team to look at the token; codeseald token probe "
          "tries a signature");
    }
    if (!collection_.has_keys) return;
    const bool has_key =
        std::any_of(collection_.keys.begin(), collection_.keys.end(),
                    [&](const Key& key) { return Belongs(key, leaf); });
    if (has_key) return;
    const auto same_id = std::find_if(
        collection_.keys.begin(), collection_.keys.end(),
        [&](const Key& key) { return !leaf.id.empty() && key.id == leaf.id; });
    Add(leaf, "certificate-without-key", Severity::kError,
        "The private key of the certificate is missing.",
        same_id == collection_.keys.end()
            ? "no key on " + collection_.place + " is its own"
            : "the key of the same id, " + same_id->label +
                  ", is another certificate's",
        "plug in the token that its key was made on, or have a certificate "
        "issued for a key that is here: codeseald key csr");
  }

  void CheckDates(const Leaf& leaf) {
    const Certificate& certificate = leaf.certificate;
    const std::string until = FormatDate(certificate.not_after());
    if (certificate.not_after() < options_.now) {
      Add(leaf, "expired", Severity::kError, "The certificate has expired.",
          "it was valid until " + until +
              "; what it signed with a timestamp stays valid",
          "have it renewed for the same key or a new one: codeseald key csr");
    } else if (certificate.not_after() < options_.now + options_.soon) {
      Add(leaf, "expires-soon", Severity::kWarning,
          "The certificate expires soon.", "it is valid until " + until,
          "have it renewed now, and sign with a timestamp until then");
    }
    if (certificate.not_before() > options_.now) {
      Add(leaf, "not-yet-valid", Severity::kError,
          "The certificate is not valid yet.",
          "it is valid from " + FormatDate(certificate.not_before()) + " on",
          "wait, or set this machine's clock right");
    }
  }

  void CheckPurpose(const Leaf& leaf) {
    const Certificate& certificate = leaf.certificate;
    if (!certificate.IsSuitableForCodeSigning() &&
        !certificate.IsSuitableForPackageSigning()) {
      Add(leaf, "wrong-purpose", Severity::kError,
          "This certificate cannot be used for signing code.",
          "it lacks the extended key usage codeSigning (or that of an "
          "installer), or the key usage digitalSignature",
          "have a certificate for code signing issued for the same key");
      return;
    }
    std::string others;
    for (const Purpose& purpose : kForeignPurposes) {
      if (!certificate.HasExtendedKeyUsage(purpose.oid)) continue;
      absl::StrAppend(&others, others.empty() ? "" : ", ",
                      std::string(purpose.name));
    }
    if (!others.empty()) {
      Add(leaf, "additional-purpose", Severity::kWarning,
          "The certificate is for more than signing code.",
          "it is also for " + others,
          "use a key and a certificate for code signing alone");
    }
    const std::string algorithm = certificate.KeyAlgorithm();
    if (algorithm == "rsa1024" || algorithm == "rsa512" ||
        algorithm == "rsa768") {
      Add(leaf, "weak-key", Severity::kError, "The key is too weak.",
          "it is " + algorithm,
          "make a new key of at least rsa2048: codeseald key generate");
    }
  }

  void CheckChain(const Leaf& leaf) {
    const absl::StatusOr<std::vector<Certificate>> chain =
        BuildChain(leaf.certificate, candidates_);
    if (!chain.ok()) {
      Add(leaf, "missing-intermediate", Severity::kError,
          "The certificate's chain has a gap.",
          std::string(Message(chain.status())),
          "add the missing certificate to the token or to the identity's "
          "chain (--chain PEM); Apple's are at "
          "https://www.apple.com/certificateauthority/");
      CheckTeam(leaf, {leaf.certificate}, SignerKind::kOther);
      return;
    }
    const bool is_apples =
        IsAppleRoot(chain->back()) ||
        std::find(options_.anchors.begin(), options_.anchors.end(),
                  chain->back()) != options_.anchors.end();
    for (size_t i = 1; i < chain->size(); ++i) {
      const Certificate& issuer = (*chain)[i];
      if (issuer.not_after() > options_.now + options_.soon) continue;
      Add(leaf, "issuer-expires-soon", Severity::kWarning,
          "A certificate above it expires soon, or has expired.",
          issuer.CommonName() + " is valid until " +
              FormatDate(issuer.not_after()),
          "get the issuer's successor (Developer ID G2 for Developer ID), and "
          "a certificate issued by it");
    }
    CheckTeam(leaf, *chain, KindOfSigner(*chain, is_apples));
  }

  void CheckTeam(const Leaf& leaf, const std::vector<Certificate>& chain,
                 SignerKind kind) {
    const std::string team = TeamOfSigner(chain, kind);
    if (!options_.team.empty() && team != options_.team) {
      Add(leaf, "wrong-team", Severity::kError,
          "The certificate is not of the team that was asked for.",
          team.empty() ? "it has no Team ID: Apple did not issue it, or its "
                         "chain is incomplete"
                       : "its Team ID is " + team,
          "use an identity of team " + options_.team);
    }
    // "Apple Development: Jane (PERSONID)": people take that for the team.
    const std::string name = chain.front().CommonName();
    const size_t open = name.rfind(" (");
    if (team.empty() || open == std::string::npos || !name.ends_with(")")) {
      return;
    }
    const std::string shown = name.substr(open + 2, name.size() - open - 3);
    if (shown == team) return;
    Add(leaf, "misleading-name", Severity::kNote,
        "What stands in brackets is not the Team ID.",
        "the name ends in " + shown + ", the Team ID is " + team,
        "use " + team + " wherever a Team ID is asked for");
  }

  void CheckDuplicates(const Leaf& leaf) {
    for (const Leaf& other : collection_.certificates) {
      if (&other == &leaf) return;  // each pair once
      if (other.is_authority) continue;
      const std::string other_sha1 = HexEncode(other.certificate.Sha1());
      if (other.certificate == leaf.certificate ||
          other.certificate.SubjectPublicKeyInfo() ==
              leaf.certificate.SubjectPublicKeyInfo()) {
        Add(leaf, "duplicate-key", Severity::kWarning,
            "There are several certificates for one key.",
            "the other is " + other_sha1,
            "remove the older one from the token, or name the one you mean by "
            "its SHA-1");
      } else if (other.certificate.CommonName() ==
                 leaf.certificate.CommonName()) {
        Add(leaf, "duplicate-name", Severity::kWarning,
            "The name is ambiguous.",
            "another certificate has the same name: " + other_sha1,
            "name the one you mean by its SHA-1: -s " +
                HexEncode(leaf.certificate.Sha1()));
      }
    }
  }

  void CheckKey(const Key& key) {
    const std::string name =
        key.label.empty() ? "key " + HexEncode(key.id) : "key " + key.label;
    const bool has_certificate = std::any_of(
        collection_.certificates.begin(), collection_.certificates.end(),
        [&](const Leaf& leaf) { return Belongs(key, leaf); });
    if (!has_certificate) {
      AddFor(name, "key-without-certificate", Severity::kError,
             "There is no certificate for this key.",
             "a " + key.algorithm + " key on " + collection_.place,
             "ask for one (codeseald key csr), then store it beside the key "
             "(codeseald key import-certificate) or give it with --chain");
    }
    if (!key.can_sign) {
      AddFor(name, "key-cannot-sign", Severity::kError,
             "The token does not let this key sign.", "CKA_SIGN is false",
             "generate a key for signing: codeseald key generate");
    }
    if (!key.is_protected) {
      AddFor(
          name, "key-not-protected", Severity::kWarning,
          "The key was not made in the token, or can leave it.",
          "copies of it may exist elsewhere",
          "generate a key inside the token (codeseald key generate) and have a "
          "certificate issued for it");
    }
  }

  const IdentityCollection& collection_;
  const CheckupOptions& options_;
  std::vector<Certificate> candidates_;
  std::vector<Finding> findings_;
};

}  // namespace

std::vector<Finding> ExamineIdentities(const IdentityCollection& collection,
                                       const CheckupOptions& options) {
  return Checkup(collection, options).Run();
}

}  // namespace codeseal
