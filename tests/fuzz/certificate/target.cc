// A certificate, DER or PEM: what is read comes back as it was stored, and the
// questions of code signing have an answer.

#include <string>

#include "codesign/cms/certificate.h"
#include "codesign/cms/trust.h"
#include "tests/fuzz/require.h"

namespace codeseal {
namespace {

void Ask(const Certificate& certificate) {
  const absl::StatusOr<Certificate> again =
      Certificate::Parse(certificate.der());
  Require(again.ok() && *again == certificate);
  const auto from_pem = Certificate::ParsePem(certificate.Pem());
  Require(from_pem.ok() && from_pem->size() == 1 &&
          from_pem->front() == certificate);
  Require(!IsAppleRoot(certificate));  // no seed is one
  for (const char* name :
       {"C", "CN", "D", "L", "O", "OU", "ST", "STREET", "UID", "nonsense"}) {
    (void)certificate.SubjectValues(name);
  }
  for (const char* oid : {"1.2.840.113635.100.6.1.13", "2.5.29.15", "x"}) {
    (void)certificate.ExtensionValue(oid);
    (void)certificate.HasPolicy(oid);
    (void)certificate.HasExtendedKeyUsage(oid);
  }
  (void)certificate.KeyAlgorithm();
  (void)certificate.SerialNumber();
  const absl::StatusOr<std::vector<Certificate>> chain =
      BuildChain(certificate, {&certificate, 1});
  Require(!chain.ok() || (chain->size() == 1 && certificate.IsSelfSigned()));
  const std::vector<Certificate> alone = {certificate};
  (void)CheckCodeSigningChain(alone);
  Require(CheckValidityDates(alone, certificate.not_before()).ok() ==
          (certificate.not_before() <= certificate.not_after()));
  Require(!TeamIdentifier(alone).has_value());
}

}  // namespace
}  // namespace codeseal

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace codeseal;
  const ByteView input(data, size);
  const absl::StatusOr<Certificate> der = Certificate::Parse(input);
  if (der.ok()) Ask(*der);
  const auto pem = Certificate::ParsePem(AsText(input));
  if (pem.ok()) {
    for (const Certificate& each : *pem) Ask(each);
  }
  return der.ok() || pem.ok() ? 0 : -1;
}
