// Fetches small things over HTTP: lists of revoked certificates, OCSP answers.
//
//   URL in a certificate -> [FetchOverHttp] -> RevocationChecker
//
// Plain HTTP is meant: what comes back is signed. No protocol but HTTP and
// HTTPS is spoken, also after a redirection.

#ifndef CODESEAL_CLIENT_HTTP_FETCH_H_
#define CODESEAL_CLIENT_HTTP_FETCH_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "codesign/base/bytes.h"

namespace codeseal::client {

// What a call may take; tests want less of it.
struct FetchLimits {
  size_t max_answer_size = size_t{32} << 20;  // bytes
  absl::Duration connect_timeout = absl::Seconds(5);
  absl::Duration timeout = absl::Seconds(15);  // of the whole call
  int max_redirections = 3;
};

// POST of an OCSP request, GET when `body` is empty. A POST that is redirected
// goes on as a GET, as with every browser. Thread-safe.
// Errors: UNAVAILABLE REASON_SERVER_UNREACHABLE for everything but an answer
// with status 200 within the limits.
absl::StatusOr<Bytes> FetchOverHttp(const std::string& url, const Bytes& body,
                                    const FetchLimits& limits = {});

}  // namespace codeseal::client

#endif  // CODESEAL_CLIENT_HTTP_FETCH_H_
