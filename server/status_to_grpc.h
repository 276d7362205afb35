// The single way out for errors: what a caller is told, and what stays here.
//
//   absl::Status with ErrorDetail -> [full form to the log] -> wire Status
//
// Spec: google/rpc/status.proto for the shape in gRPC's error details.

#ifndef CODESEAL_SERVER_STATUS_TO_GRPC_H_
#define CODESEAL_SERVER_STATUS_TO_GRPC_H_

#include <string_view>

#include "absl/status/status.h"
#include "codeseal/v1/status.pb.h"
#include "grpcpp/support/status.h"

namespace codeseal {

// Both functions log the full Status under `request_id` and return what an
// untrusted caller may see: the code, the message, and an ErrorDetail with the
// request id. CK_RV values and paths of this machine are taken out. A Status
// without ErrorDetail becomes INTERNAL REASON_INTERNAL and its message stays
// in the log. OK stays OK and is not logged.
grpc::Status StatusToGrpc(const absl::Status& status,
                          std::string_view request_id);
// For one item of a stream.
v1::Status StatusToWire(const absl::Status& status,
                        std::string_view request_id);

}  // namespace codeseal

#endif  // CODESEAL_SERVER_STATUS_TO_GRPC_H_
