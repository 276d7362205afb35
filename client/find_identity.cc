#include "client/find_identity.h"

#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "codesign/base/error.h"

namespace codeseal::client {

absl::StatusOr<SigningIdentity> FindIdentity(Signer& signer,
                                             const std::string& name) {
  // Apple's tools print digests in capitals.
  constexpr size_t kSha1Digits = 40;
  const bool is_sha1 =
      name.size() == kSha1Digits &&
      name.find_first_not_of("0123456789abcdefABCDEF") == std::string::npos;
  absl::StatusOr<SigningIdentity> named =
      signer.GetIdentity(is_sha1 ? absl::AsciiStrToLower(name) : name);
  if (named.ok() ||
      GetReason(named.status()) != v1::REASON_IDENTITY_NOT_FOUND) {
    return named;
  }
  // Whoever may not list keeps the first answer.
  absl::StatusOr<std::vector<SigningIdentity>> listed = signer.ListIdentities();
  if (!listed.ok()) return named;
  // The whole name counts for more than a part of it.
  std::vector<SigningIdentity> exact;
  std::vector<SigningIdentity> partial;
  for (SigningIdentity& identity : *listed) {
    if (identity.chain.empty()) continue;
    const std::string common_name = identity.chain.front().CommonName();
    if (common_name.find(name) == std::string::npos) continue;
    // A server may have one certificate under several names.
    const bool known =
        !exact.empty() && exact.front().chain.front() == identity.chain.front();
    if (common_name == name && known) continue;
    (common_name == name ? exact : partial).push_back(std::move(identity));
  }
  std::vector<SigningIdentity>& fitting = exact.empty() ? partial : exact;
  if (fitting.size() == 1) return std::move(fitting.front());
  if (fitting.empty()) return named;
  std::string names;
  for (const SigningIdentity& each : fitting) {
    const Certificate& leaf = each.chain.front();
    names += (names.empty() ? "\"" : " and \"") + leaf.CommonName() + "\"";
    // Then only the digest tells them apart.
    if (!exact.empty()) names += " " + HexEncode(leaf.Sha1());
  }
  return WithSubject(MakeError(absl::StatusCode::kFailedPrecondition,
                               v1::STAGE_PLAN, v1::REASON_IDENTITY_NOT_FOUND,
                               "ambiguous (matches " + names + ")"),
                     "identity " + name);
}

}  // namespace codeseal::client
