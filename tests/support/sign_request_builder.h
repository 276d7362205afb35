// Well-formed signing requests for tests to send, or to spoil first.

#ifndef CODESEAL_TESTS_SUPPORT_SIGN_REQUEST_BUILDER_H_
#define CODESEAL_TESTS_SUPPORT_SIGN_REQUEST_BUILDER_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "codeseal/v1/signing.pb.h"
#include "codesign/base/bytes.h"
#include "codesign/base/digest.h"

namespace codeseal::testing {

struct SignRequestSpec {
  std::string request_id = "00000000-0000-4000-8000-000000000001";
  std::string identity = "dev";
  std::string identifier = "com.example.demo";
  std::string team_identifier;
  uint32_t flags = 0;
  uint64_t exec_segment_flags = 1;
  std::vector<DigestKind> digests = {DigestKind::kSha256};
  uint32_t code_page_count = 2;  // of 4 KiB
  // A property list; put into slots 5 and 7.
  std::string entitlements;
  // Special slots that are digests of files: 1, 3, 6.
  std::map<uint32_t, Bytes> file_digests;
};

// The requirement set is the empty one.
v1::SignRequest BuildSignRequest(const SignRequestSpec& spec);

// A new random request id.
std::string RandomUuid();

}  // namespace codeseal::testing

#endif  // CODESEAL_TESTS_SUPPORT_SIGN_REQUEST_BUILDER_H_
