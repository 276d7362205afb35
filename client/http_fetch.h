// Fetches small things over HTTP: lists of revoked certificates, OCSP answers.
//
//   URL in a certificate -> [FetchOverHttp] -> RevocationChecker
//
// Plain HTTP is meant: what comes back is signed. A call takes 15 seconds and
// 32 MiB at most, follows three redirections at most, and speaks no protocol
// but HTTP and HTTPS.

#ifndef CODESEAL_CLIENT_HTTP_FETCH_H_
#define CODESEAL_CLIENT_HTTP_FETCH_H_

#include <string>

#include "absl/status/statusor.h"
#include "codesign/base/bytes.h"

namespace codeseal::client {

// POST of an OCSP request, GET when `body` is empty. Thread-safe.
// Errors: UNAVAILABLE REASON_SERVER_UNREACHABLE for everything but an answer
// with status 200.
absl::StatusOr<Bytes> FetchOverHttp(const std::string& url, const Bytes& body);

}  // namespace codeseal::client

#endif  // CODESEAL_CLIENT_HTTP_FETCH_H_
