#include "hsm/certificate_request.h"

#include <openssl/pem.h>

#include "hsm/openssl_ptr.h"
#include "hsm/public_key.h"
#include "tests/support/software_key.h"
#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

using ::codeseal::testing::HasMessage;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::SoftwareKey;

std::string Line(const X509_NAME* name) {
  const UniqueBio out(BIO_new(BIO_s_mem()));
  X509_NAME_print_ex(out.get(), name, 0, XN_FLAG_ONELINE & ~XN_FLAG_SPC_EQ);
  char* text = nullptr;
  const long size = BIO_get_mem_data(out.get(), &text);
  return std::string(text, static_cast<size_t>(size));
}

UniqueX509Req ReadRequest(const std::string& pem) {
  const UniqueBio in(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  return UniqueX509Req(
      PEM_read_bio_X509_REQ(in.get(), nullptr, nullptr, nullptr));
}

class CertificateRequestTest : public ::testing::TestWithParam<const char*> {};

TEST_P(CertificateRequestTest, RequestHasSubjectAndVerifies) {
  const auto key = SoftwareKey::Cached(GetParam());
  const auto pem = BuildCertificateRequest(
      key, "CN=Developer ID: Ex\\, Inc. (AB12),O=Ex\\, Inc.,OU=AB12, C=DE",
      absl::InfiniteFuture());
  ASSERT_THAT(pem, IsOk());
  const UniqueX509Req request = ReadRequest(*pem);
  ASSERT_NE(request, nullptr);
  EXPECT_EQ(Line(X509_REQ_get_subject_name(request.get())),
            "CN=\"Developer ID: Ex, Inc. (AB12)\", O=\"Ex, Inc.\", OU=AB12, "
            "C=DE");
  const auto public_key = ParsePublicKey(key->public_key());
  EXPECT_EQ(X509_REQ_verify(request.get(), public_key->get()), 1);
}

INSTANTIATE_TEST_SUITE_P(Keys, CertificateRequestTest,
                         ::testing::Values("rsa2048", "p256", "p384"));

TEST(CertificateRequestSubjectTest, BadSubjectIsNamed) {
  const auto key = SoftwareKey::Cached("p256");
  for (const char* subject : {"", "CN", "CN=", "CN=a,", ",CN=a", "CN=a\\",
                              "XX=a", "C=DEU", "CN=a;O=b,P"}) {
    EXPECT_THAT(BuildCertificateRequest(key, subject, absl::InfiniteFuture()),
                HasReason(v1::REASON_BAD_OPTION))
        << subject;
  }
  EXPECT_THAT(BuildCertificateRequest(key, "XX=a", absl::InfiniteFuture()),
              HasMessage("XX"));
}

TEST(CertificateRequestSubjectTest, TokensOwnErrorComesThrough) {
  const auto key = SoftwareKey::Cached("p256");
  key->Fail(MakeError(absl::StatusCode::kUnavailable, v1::STAGE_TOKEN,
                      v1::REASON_TOKEN_DOWN, "gone"));
  EXPECT_THAT(BuildCertificateRequest(key, "CN=a", absl::InfiniteFuture()),
              HasReason(v1::REASON_TOKEN_DOWN));
}

}  // namespace
}  // namespace codeseal
