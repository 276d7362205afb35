// Lists of revoked certificates, OCSP responses and what a CMS carries of them.
// No authority of the fuzzer's signed any of it for this certificate: nothing
// may ever call it good or revoked.

#include <string_view>
#include <vector>

#include "codesign/cms/revocation.h"
#include "tests/fuzz/require.h"

namespace codeseal {
namespace {

// Self-signed, P-256, until 2046; its key is gone.
constexpr std::string_view kIssuerPem =
    "-----BEGIN CERTIFICATE-----\n"
    "MIIBmDCCAT2gAwIBAgIUa9qNZhfIZbisEqfNN2+vLj2hW0IwCgYIKoZIzj0EAwIw\n"
    "GTEXMBUGA1UEAwwOZnV6eiBhdXRob3JpdHkwHhcNMjYxMTIyMDUxNTM1WhcNNDYx\n"
    "MTE3MDUxNTM1WjAZMRcwFQYDVQQDDA5mdXp6IGF1dGhvcml0eTBZMBMGByqGSM49\n"
    "AgEGCCqGSM49AwEHA0IABK9+RqC+8571spJOlZVWlyzK+gSeEKIneFdoTrbQ9UCP\n"
    "bF6WenA58L4ICXqGQ3OJRGYaTBgqqZVNIMyEb18QAAqjYzBhMB0GA1UdDgQWBBQB\n"
    "MeQLDTfToOq3Rq1qs0IWJg+kKDAfBgNVHSMEGDAWgBQBMeQLDTfToOq3Rq1qs0IW\n"
    "Jg+kKDAPBgNVHRMBAf8EBTADAQH/MA4GA1UdDwEB/wQEAwIBBjAKBggqhkjOPQQD\n"
    "AgNJADBGAiEApCJ7LByatGZqKx5ud0WmHJrqE0XMZDoRq/ImM0U2Kj4CIQClLmki\n"
    "rbJXAstHeuU5OMB3YQHSPcLjFoPK36ltxcSdLg==\n"
    "-----END CERTIFICATE-----\n";

const Certificate& Issuer() {
  static const Certificate issuer =
      Certificate::ParsePem(kIssuerPem).value().front();
  return issuer;
}

}  // namespace
}  // namespace codeseal

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace codeseal;
  const ByteView input(data, size);
  RevocationChecker checker;
  const bool is_list = checker.AddLists(input).ok();
  const bool is_answer = checker.AddOcspResponse(input).ok();
  const std::vector<Bytes> stapled = {ToBytes(input)};
  const RevocationAnswer answer = checker.Check(
      Issuer(), Issuer(), absl::FromUnixSeconds(1'800'000'000), stapled);
  Require(answer.state != RevocationState::kGood &&
          answer.state != RevocationState::kRevoked);
  return is_list || is_answer ? 0 : -1;
}
