// What Apple's CMS costs beside the signature in it: the difference between
// BuildAppleCms() and the raw key operation, in one interleaved run.
//
// Prints medians of CPU microseconds for each key type; fails when the overhead
// is above 40 us, which is what OpenSSL's own CMS takes.

#include <openssl/evp.h>
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <vector>

#include "codesign/cms/apple_cms.h"
#include "codesign/cms/openssl.h"
#include "tests/support/test_pki.h"

namespace codeseal {
namespace {

using testing::KeyType;

constexpr int kRounds = 15;
constexpr size_t kCodeDirectorySize = 4096;
constexpr double kMaxOverhead = 40;  // us

// CPU time of this thread, which other work on the machine disturbs least.
double CpuMicroseconds() {
  timespec time = {};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e6 +
         static_cast<double>(time.tv_nsec) / 1e3;
}

double MeasureMicroseconds(int count, const std::function<void()>& work) {
  const double begin = CpuMicroseconds();
  for (int i = 0; i < count; ++i) work();
  return (CpuMicroseconds() - begin) / count;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Returns whether the goal is met.
bool Run(const char* name, KeyType type, int count) {
  const testing::TestChain chain = testing::MakeCodeSigningChain(type);
  const std::vector<Certificate> certificates = chain.certificates();
  const Bytes code_directory(kCodeDirectorySize, 7);
  const CodeDirectoryBlob blob = {DigestKind::kSha256, code_directory};
  const CmsContent content = DescribeContent({&blob, 1});
  const CmsSigner signer = {chain.leaf.key(), nullptr, certificates};

  Bytes signature(512);
  Bytes cms;
  bool ok = true;
  std::vector<double> raw_times;
  std::vector<double> cms_times;
  std::vector<double> overheads;
  std::vector<double> check_times;
  for (int round = 0; round < kRounds; ++round) {
    const double raw = MeasureMicroseconds(count, [&] {
      const EvpPkeyContextPtr context(
          EVP_PKEY_CTX_new(chain.leaf.key(), nullptr));
      size_t size = signature.size();
      ok = ok && EVP_PKEY_sign_init(context.get()) == 1 &&
           EVP_PKEY_CTX_set_signature_md(context.get(), EVP_sha256()) == 1 &&
           EVP_PKEY_sign(context.get(), signature.data(), &size,
                         content.message_digest.data(),
                         content.message_digest.size()) == 1;
    });
    const double whole = MeasureMicroseconds(count, [&] {
      absl::StatusOr<Bytes> result =
          BuildAppleCms(signer, content, absl::Now());
      ok = ok && result.ok();
      if (result.ok()) cms = *std::move(result);
    });
    raw_times.push_back(raw);
    cms_times.push_back(whole);
    overheads.push_back(whole - raw);
    check_times.push_back(MeasureMicroseconds(count, [&] {
      ok = ok && VerifyAppleCms(cms, content, certificates).ok();
    }));
  }
  std::printf(
      "%-8s raw %7.1f us  cms %7.1f us  overhead %5.1f us  check %7.1f "
      "us\n",
      name, Median(raw_times), Median(cms_times), Median(overheads),
      Median(check_times));
  if (!ok) std::printf("%s: a call failed\n", name);
  return ok && Median(overheads) <= kMaxOverhead;
}

}  // namespace
}  // namespace codeseal

int main() {
  const bool rsa =
      codeseal::Run("rsa2048", codeseal::testing::KeyType::kRsa2048, 50);
  const bool p256 =
      codeseal::Run("p256", codeseal::testing::KeyType::kP256, 200);
  return rsa && p256 ? 0 : 1;
}
