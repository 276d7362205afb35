#include "codesign/cms/signer_verdict.h"

#include <algorithm>
#include <utility>

#include "codesign/base/error.h"
#include "codesign/cms/trust.h"

namespace codeseal {
namespace {

absl::Status Fault(Reason reason, std::string_view message) {
  return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_VERIFY,
                   reason, message);
}

class Judge {
 public:
  Judge(const SignerFacts& facts, const SignerPolicy& policy)
      : facts_(facts), policy_(policy) {}

  SignerVerdict Run() && {
    if (CheckChain()) {
      CheckDates();
      CheckRevocation();
      if (policy_.purpose == SignerPurpose::kCode) {
        Add(kSignerTeam,
            CheckTeamIdentifier(policy_.team_identifier, verdict_.authorities));
      }
    }
    return std::move(verdict_);
  }

 private:
  void Add(const char* name, absl::Status status, std::string note = "") {
    verdict_.checks.push_back({name, true, std::move(status), std::move(note)});
  }

  bool IsKnownRoot(const Certificate& root) const {
    return IsAppleRoot(root) ||
           std::find(policy_.anchors.begin(), policy_.anchors.end(), root) !=
               policy_.anchors.end();
  }
  // Somebody we know vouches for the time.
  bool TimeIsAttested() const {
    return facts_.timestamp.has_value() &&
           IsKnownRoot(facts_.timestamp->chain.back());
  }

  bool CheckChain() {
    std::vector<Certificate> candidates = facts_.candidates;
    candidates.insert(candidates.end(), policy_.anchors.begin(),
                      policy_.anchors.end());
    absl::StatusOr<std::vector<Certificate>> chain =
        BuildChain(facts_.signer, candidates);
    if (!chain.ok()) {
      verdict_.authorities = {facts_.signer};
      Add(kSignerChain, chain.status());
      return false;
    }
    verdict_.authorities = *std::move(chain);
    const Certificate& root = verdict_.authorities.back();
    const bool is_known = IsKnownRoot(root);
    absl::Status status = policy_.purpose == SignerPurpose::kCode
                              ? CheckCodeSigningChain(verdict_.authorities)
                              : CheckPackageSigningChain(verdict_.authorities);
    if (status.ok() && policy_.require_trusted_anchor && !is_known) {
      status = WithRule(Fault(v1::REASON_CHAIN_NOT_TRUSTED,
                              "the root " + root.CommonName() +
                                  " is neither Apple's nor among the anchors"),
                        kRuleRootNotTrusted);
    }
    if (status.ok() && IsAppleRoot(root) && facts_.timestamp.has_value() &&
        !IsAppleRoot(facts_.timestamp->chain.back())) {  // TR-2
      // An Apple signer's certificate may have been stolen and have expired; a
      // stranger's word on the time must not bring it back.
      status = WithRule(
          Fault(v1::REASON_CHAIN_NOT_TRUSTED,
                "the signer is Apple's and the timestamp authority is not"),
          "TR-2");
    }
    verdict_.holds = status.ok();
    verdict_.trusted = status.ok() && is_known;
    Add(kSignerChain, std::move(status),
        (is_known ? "the trusted root is "
                  : "the root, which nobody vouches for, is ") +
            root.CommonName());
    return true;
  }

  void CheckDates() {
    std::optional<absl::Time> stamped;
    if (facts_.timestamp.has_value()) stamped = facts_.timestamp->time;
    const absl::Time at = policy_.at.value_or(
        stamped.value_or(facts_.signing_time.value_or(policy_.now)));
    const absl::Status status = CheckValidityDates(verdict_.authorities, at);
    if (status.ok() || policy_.expiration_counts || stamped.has_value()) {
      Add(kSignerDates, status);
    } else {
      Add(kSignerDates, absl::OkStatus(),
          "tolerated: " + std::string(Message(status)));
    }
  }

  // TR-3: a certificate that was revoked after a timestamp that we trust was
  // good when it signed. The signer's own word on the time does not count.
  // TR-4: who asks wants an answer: not knowing is a no, unless nobody could
  // know.
  void CheckRevocation() {
    if (policy_.revocation == nullptr) {
      verdict_.checks.push_back(
          {kSignerRevocation, false, absl::OkStatus(), "nobody was asked"});
      return;
    }
    const std::vector<Certificate>& chain = verdict_.authorities;
    std::string note;
    bool any_answer = chain.size() == 1;  // a root answers for itself
    for (size_t i = 0; i + 1 < chain.size(); ++i) {
      const RevocationAnswer answer = policy_.revocation->Check(
          chain[i], chain[i + 1], policy_.at.value_or(policy_.now),
          facts_.revocation_values, /*may_fetch=*/verdict_.trusted);
      const std::string what = chain[i].CommonName() + ": " + answer.text;
      if (answer.state == RevocationState::kRevoked &&
          !(TimeIsAttested() && facts_.timestamp->time < answer.revoked_at)) {
        // Nothing that such a signer says holds.
        verdict_.holds = false;
        verdict_.trusted = false;
        return Add(
            kSignerRevocation,
            WithRule(Fault(v1::REASON_CERTIFICATE_REVOKED, what), "TR-3"));
      }
      if (answer.state == RevocationState::kUnknown) {
        return Add(
            kSignerRevocation,
            WithRule(Fault(v1::REASON_REVOCATION_UNKNOWN, what), "TR-4"));
      }
      any_answer |= answer.state != RevocationState::kNoSource;
      note += (note.empty() ? "" : "; ") + what;
    }
    if (const absl::Status status = CheckAuthority(); !status.ok()) {
      return Add(kSignerRevocation, status);
    }
    verdict_.checks.push_back(
        {kSignerRevocation, any_answer, absl::OkStatus(), note});
  }

  // TR-5: what a timestamp authority stamped after it was revoked has no time.
  // Nobody need know of authorities, though: many name no source.
  absl::Status CheckAuthority() const {
    if (!facts_.timestamp.has_value()) return absl::OkStatus();
    const std::vector<Certificate>& chain = facts_.timestamp->chain;
    for (size_t i = 0; i + 1 < chain.size(); ++i) {
      const RevocationAnswer answer = policy_.revocation->Check(
          chain[i], chain[i + 1], policy_.at.value_or(policy_.now),
          facts_.revocation_values,
          /*may_fetch=*/verdict_.trusted && TimeIsAttested());
      if (answer.state == RevocationState::kRevoked &&
          answer.revoked_at <= facts_.timestamp->time) {
        return WithRule(Fault(v1::REASON_CERTIFICATE_REVOKED,
                              "the timestamp authority " +
                                  chain[i].CommonName() + ": " + answer.text),
                        "TR-5");
      }
    }
    return absl::OkStatus();
  }

  const SignerFacts& facts_;
  const SignerPolicy& policy_;
  SignerVerdict verdict_;
};

}  // namespace

absl::Status SignerVerdict::status() const {
  for (const SignerCheck& check : checks) {
    if (!check.status.ok()) return check.status;
  }
  return absl::OkStatus();
}

SignerVerdict JudgeSigner(const SignerFacts& facts,
                          const SignerPolicy& policy) {
  return Judge(facts, policy).Run();
}

}  // namespace codeseal
