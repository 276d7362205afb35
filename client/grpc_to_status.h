// From what gRPC delivers back to the Status that the server had: the other
// end of server/status_to_grpc.
//
//   grpc::Status + error_details -> absl::Status + ErrorDetail
//
// Spec: google.rpc.Status in the "grpc-status-details-bin" trailer, read as
//       codeseal.v1.Status (same field numbers).

#ifndef CODESEAL_CLIENT_GRPC_TO_STATUS_H_
#define CODESEAL_CLIENT_GRPC_TO_STATUS_H_

#include <grpcpp/support/status.h>

#include "absl/status/status.h"
#include "codeseal/v1/status.pb.h"

namespace codeseal::client {

// A status that carries no ErrorDetail of ours did not come from codeseald's
// own code: gRPC made it, here or there. It gets the reason that its code and
// text speak for (REASON_SERVER_UNREACHABLE, REASON_TLS_FAILED, ...).
absl::Status GrpcToStatus(const grpc::Status& status);

// The error of one item of a stream. A hostile or broken server's code OK
// becomes INTERNAL: an error is never taken for success.
absl::Status WireToStatus(const v1::Status& status);

}  // namespace codeseal::client

#endif  // CODESEAL_CLIENT_GRPC_TO_STATUS_H_
