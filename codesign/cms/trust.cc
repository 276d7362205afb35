#include "codesign/cms/trust.h"

#include <openssl/pkcs7.h>
#include <openssl/ts.h>

#include <ctime>
#include <string>
#include <string_view>

#include "codesign/base/error.h"
#include "codesign/cms/openssl.h"

namespace codeseal {
namespace {

using Pkcs7Ptr = OpenSslPtr<PKCS7, PKCS7_free>;
using TimestampInfoPtr = OpenSslPtr<TS_TST_INFO, TS_TST_INFO_free>;
using TimestampVerifierPtr = OpenSslPtr<TS_VERIFY_CTX, TS_VERIFY_CTX_free>;

absl::Status NotTrusted(std::string_view message) {
  return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_VERIFY,
                   v1::REASON_CHAIN_NOT_TRUSTED, message);
}

absl::Status BadTimestamp(std::string_view message) {
  return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_VERIFY,
                   v1::REASON_BAD_TIMESTAMP, DrainOpenSslErrors(message));
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

absl::StatusOr<Timestamp> VerifyTimestampToken(
    ByteView token, ByteView stamped, std::span<const Certificate> candidates) {
  const unsigned char* der = token.data();
  const Pkcs7Ptr pkcs7(
      d2i_PKCS7(nullptr, &der, static_cast<long>(token.size())));
  if (pkcs7 == nullptr || der != token.data() + token.size()) {
    return BadTimestamp("the timestamp token does not parse");
  }
  const TimestampInfoPtr info(PKCS7_to_TS_TST_INFO(pkcs7.get()));
  std::tm broken_down = {};
  if (info == nullptr ||
      ASN1_TIME_to_tm(TS_TST_INFO_get_time(info.get()), &broken_down) != 1) {
    return BadTimestamp("the timestamp token names no time");
  }

  // The authority's chain.
  const X509StackPtr signers(PKCS7_get0_signers(pkcs7.get(), nullptr, 0));
  if (signers == nullptr || sk_X509_num(signers.get()) != 1) {
    return BadTimestamp("the timestamp token has not one signer");
  }
  std::vector<Certificate> pool(candidates.begin(), candidates.end());
  const STACK_OF(X509)* stored = pkcs7->d.sign->cert;
  for (int i = 0; i < sk_X509_num(stored); ++i) {
    absl::StatusOr<Certificate> certificate = Certificate::Parse(
        EncodeDer<const X509*>(i2d_X509, sk_X509_value(stored, i)));
    if (certificate.ok()) pool.push_back(*std::move(certificate));
  }
  const absl::StatusOr<Certificate> signer = Certificate::Parse(
      EncodeDer<const X509*>(i2d_X509, sk_X509_value(signers.get(), 0)));
  if (!signer.ok()) return BadTimestamp(Message(signer.status()));
  absl::StatusOr<std::vector<Certificate>> chain = BuildChain(*signer, pool);
  if (!chain.ok()) return BadTimestamp(Message(chain.status()));

  Timestamp timestamp = {absl::FromTM(broken_down, absl::UTCTimeZone()),
                         *std::move(chain)};
  const absl::Status dates =
      CheckValidityDates(timestamp.chain, timestamp.time);
  if (!dates.ok()) return BadTimestamp(Message(dates));

  // The verifier owns the store and the data.
  const TimestampVerifierPtr verifier(TS_VERIFY_CTX_new());
  TS_VERIFY_CTX_set_flags(verifier.get(),
                          TS_VFY_SIGNATURE | TS_VFY_VERSION | TS_VFY_DATA);
  TS_VERIFY_CTX_set_store(
      verifier.get(),
      MakeStore(timestamp.chain.back(), X509_V_FLAG_NO_CHECK_TIME).release());
  TS_VERIFY_CTX_set_data(
      verifier.get(),
      BIO_new_mem_buf(stamped.data(), static_cast<int>(stamped.size())));
  if (TS_RESP_verify_token(verifier.get(), pkcs7.get()) != 1) {
    return BadTimestamp("the timestamp token does not verify");
  }
  DrainOpenSslErrors("");
  return timestamp;
}

}  // namespace codeseal
