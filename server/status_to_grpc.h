// The single way out for errors: what a caller is told, and what stays here.
//
//   absl::Status with ErrorDetail -> [full form to the log] -> wire Status
//
// Spec: google/rpc/status.proto for the shape in gRPC's error details.

#ifndef CODESEAL_SERVER_STATUS_TO_GRPC_H_
#define CODESEAL_SERVER_STATUS_TO_GRPC_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "codeseal/v1/status.pb.h"
#include "grpcpp/support/status.h"

namespace codeseal {

// Both functions log the full Status with `request_id` and `peer` (whichever
// are known) and return what an untrusted caller may see: the code, the
// message, an ErrorDetail with the request id, and, when trying again may help,
// a RetryInfo that says when. CK_RV values and paths of
// this machine are taken out. A Status without ErrorDetail becomes INTERNAL
// REASON_INTERNAL and its message stays in the log. OK stays OK and is not
// logged.
grpc::Status StatusToGrpc(const absl::Status& status,
                          std::string_view request_id,
                          std::string_view peer = "");
// For one item of a stream.
v1::Status StatusToWire(const absl::Status& status, std::string_view request_id,
                        std::string_view peer = "");

// `text` as a caller may see it: without paths of this machine, valid UTF-8.
std::string TextForCaller(std::string_view text);

}  // namespace codeseal

#endif  // CODESEAL_SERVER_STATUS_TO_GRPC_H_
