// A token used directly, without anything of codeseal: what the benchmarks
// compare with.
//
//   PKCS#11 module -> [RawToken] -> C_SignInit + C_Sign, one thread a session
//
// Spec: PKCS#11 v2.40.

#ifndef CODESEAL_TESTS_BENCH_RAW_TOKEN_H_
#define CODESEAL_TESTS_BENCH_RAW_TOKEN_H_

#include <cstddef>
#include <memory>
#include <string>

#include "codesign/base/bytes.h"

namespace codeseal::bench {

enum class RawMechanism { kRsaPkcs1, kEcdsa };

// Loads the module into this process. Ends the process with a message when a
// call fails: a benchmark has nobody to report to. Sign() may be called from
// several threads, each with a session of its own.
class RawToken {
 public:
  struct Options {
    std::string module;
    std::string token_label;
    std::string pin;
    Bytes key_id;  // CKA_ID
    RawMechanism mechanism = RawMechanism::kRsaPkcs1;
    size_t session_count = 1;
  };
  explicit RawToken(const Options& options);
  ~RawToken();
  RawToken(const RawToken&) = delete;
  RawToken& operator=(const RawToken&) = delete;

  size_t session_count() const;

  // Signs a fixed SHA-256 digest: a DigestInfo for RSA, the bare digest for
  // ECDSA. session < session_count().
  void Sign(size_t session);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace codeseal::bench

#endif  // CODESEAL_TESTS_BENCH_RAW_TOKEN_H_
