#include "codesign/cms/trust.h"

#include <string>
#include <string_view>

#include "codesign/base/error.h"
#include "codesign/cms/openssl.h"

namespace codeseal {
namespace {

absl::Status NotTrusted(std::string_view message) {
  return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_VERIFY,
                   v1::REASON_CHAIN_NOT_TRUSTED, message);
}

// A store that trusts `root` alone and leaves dates to its user.
X509StorePtr MakeStore(const Certificate& root, unsigned long flags) {
  X509StorePtr store(X509_STORE_new());
  X509_STORE_add_cert(store.get(), root.x509());
  X509_STORE_set_flags(store.get(), X509_V_FLAG_IGNORE_CRITICAL | flags);
  return store;
}

std::string Iso8601(absl::Time time) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", time, absl::UTCTimeZone());
}

// Everything but what the leaf is for. `chain` is not empty.
absl::Status CheckChain(std::span<const Certificate> chain) {
  const Certificate& leaf = chain.front();
  const X509StorePtr store = MakeStore(chain.back(), X509_V_FLAG_NO_CHECK_TIME);
  const X509StackPtr untrusted(sk_X509_new_null());
  for (const Certificate& certificate : chain) {
    sk_X509_push(untrusted.get(), certificate.x509());
  }
  const X509StoreContextPtr context(X509_STORE_CTX_new());
  if (X509_STORE_CTX_init(context.get(), store.get(), leaf.x509(),
                          untrusted.get()) != 1 ||
      X509_verify_cert(context.get()) != 1) {
    const int error = X509_STORE_CTX_get_error(context.get());
    DrainOpenSslErrors("");
    return NotTrusted(
        "the certificate chain of " + leaf.CommonName() +
        " does not hold: " + X509_verify_cert_error_string(error));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckCodeSigningChain(std::span<const Certificate> chain) {
  if (chain.empty()) return NotTrusted("there is no certificate");
  if (!chain.front().IsSuitableForCodeSigning()) {
    return NotTrusted("the certificate of " + chain.front().CommonName() +
                      " is not for signing code");
  }
  return CheckChain(chain);
}

absl::Status CheckPackageSigningChain(std::span<const Certificate> chain) {
  if (chain.empty()) return NotTrusted("there is no certificate");
  if (!chain.front().IsSuitableForPackageSigning()) {
    return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_VERIFY,
                     v1::REASON_NOT_INSTALLER_CERTIFICATE,
                     "the certificate of " + chain.front().CommonName() +
                         " is not for signing installer packages");
  }
  return CheckChain(chain);
}

absl::Status CheckValidityDates(std::span<const Certificate> chain,
                                absl::Time at) {
  for (const Certificate& certificate : chain) {
    if (at >= certificate.not_before() && at <= certificate.not_after()) {
      continue;
    }
    return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_VERIFY,
                     v1::REASON_CERTIFICATE_EXPIRED,
                     "the certificate of " + certificate.CommonName() +
                         " is valid from " + Iso8601(certificate.not_before()) +
                         " to " + Iso8601(certificate.not_after()) +
                         ", not at " + Iso8601(at));
  }
  return absl::OkStatus();
}

absl::Status CheckTeamIdentifier(std::string_view claimed,
                                 std::span<const Certificate> chain) {
  if (claimed.empty() || !IsAppleDeveloperChain(chain)) return absl::OkStatus();
  const std::string certified = TeamIdentifier(chain).value_or("");
  if (claimed == certified) return absl::OkStatus();
  return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_VERIFY,
                   v1::REASON_TEAM_IDENTIFIER_MISMATCH,
                   "the code claims team " + std::string(claimed) +
                       ", the certificate is of " +
                       (certified.empty() ? "none" : certified));
}

}  // namespace codeseal
