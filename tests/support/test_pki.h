// Throw-away keys and certificates, made in memory: no test depends on a key
// file, none can leave one behind.
//
//   CertificateSpec -> MakeRoot / Issue -> TestIdentity -> token, server, CMS

#ifndef CODESEAL_TESTS_SUPPORT_TEST_PKI_H_
#define CODESEAL_TESTS_SUPPORT_TEST_PKI_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "codesign/base/bytes.h"
#include "codesign/cms/certificate.h"

struct evp_pkey_st;

namespace codeseal::testing {

enum class KeyType { kRsa2048, kRsa3072, kRsa4096, kP256, kP384 };

inline constexpr char kCodeSigning[] = "1.3.6.1.5.5.7.3.3";
inline constexpr char kServerAuth[] = "1.3.6.1.5.5.7.3.1";
inline constexpr char kClientAuth[] = "1.3.6.1.5.5.7.3.2";
inline constexpr char kTimeStamping[] = "1.3.6.1.5.5.7.3.8";

struct CertificateSpec {
  KeyType key = KeyType::kP256;
  std::string common_name = "codeseal test";
  std::string organization;         // O, left out when empty
  std::string organizational_unit;  // OU
  std::string country;              // C
  // basicConstraints CA and keyUsage keyCertSign, cRLSign; otherwise keyUsage
  // digitalSignature.
  bool certificate_authority = false;
  std::vector<std::string> extended_key_usage;  // dotted OIDs
  bool extended_key_usage_critical = true;
  std::vector<std::string> markers;  // Apple's: critical, value 05 00
  // Dotted OID and the octets inside extnValue; not critical.
  std::vector<std::pair<std::string, Bytes>> raw_extensions = {};
  std::vector<std::string> dns_names;  // subjectAltName
  std::vector<std::string> uris;       // subjectAltName
  std::string list_url;                // of revoked certificates
  std::string ocsp_url;
  absl::Time not_before = absl::Now() - absl::Hours(1);
  absl::Time not_after = absl::Now() + absl::Hours(24);
  uint64_t serial = 0;  // 0: random
};

// A certificate with its private key. Copyable; copies share the key.
class TestIdentity {
 public:
  TestIdentity(Certificate certificate, std::shared_ptr<evp_pkey_st> key)
      : certificate_(std::move(certificate)), key_(std::move(key)) {}

  const Certificate& certificate() const { return certificate_; }
  ByteView der() const { return certificate_.der(); }
  std::string pem() const { return certificate_.Pem(); }
  evp_pkey_st* key() const { return key_.get(); }  // borrowed
  std::string key_pem() const;                     // PKCS#8, not encrypted
  Bytes key_der() const;                           // PKCS#8, not encrypted

 private:
  Certificate certificate_;
  std::shared_ptr<evp_pkey_st> key_;
};

// A new key; for RSA this takes tenths of a second.
std::shared_ptr<evp_pkey_st> MakeKey(KeyType type);

// A self-signed certificate; with `certificate_authority` as the spec says.
TestIdentity MakeSelfSigned(const CertificateSpec& spec);
// The same, and a certificate authority whatever the spec says.
TestIdentity MakeRoot(CertificateSpec spec);
// A new key certified by `issuer`.
TestIdentity Issue(const CertificateSpec& spec, const TestIdentity& issuer);
// Certifies a key that lives elsewhere (on a token). `spec.key` is ignored.
Certificate IssueForKey(ByteView subject_public_key_info,
                        const CertificateSpec& spec,
                        const TestIdentity& issuer);

// Root, intermediate and a code-signing leaf "codeseal test signer" with O and
// OU "TESTTEAM01". The leaf has a key of `type`, its issuers P-256 keys: RSA
// keys take long to make.
struct TestChain {
  TestIdentity leaf;
  TestIdentity intermediate;
  TestIdentity root;

  std::vector<Certificate> certificates() const {  // leaf first
    return {leaf.certificate(), intermediate.certificate(), root.certificate()};
  }
};
TestChain MakeCodeSigningChain(KeyType type = KeyType::kP256);

}  // namespace codeseal::testing

#endif  // CODESEAL_TESTS_SUPPORT_TEST_PKI_H_
