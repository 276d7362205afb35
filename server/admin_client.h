// How an administrator's command reaches the running server.
//
//   flags, CODESEAL_* -> [OpenAdminChannel] -> gRPC + mutual TLS -> codeseald

#ifndef CODESEAL_SERVER_ADMIN_CLIENT_H_
#define CODESEAL_SERVER_ADMIN_CLIENT_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "grpcpp/grpcpp.h"

namespace codeseal {

// What is empty comes from the environment, as for the client `codeseal`:
// CODESEAL_SERVER, CODESEAL_CA, CODESEAL_CERT, CODESEAL_KEY.
struct AdminConnection {
  std::string server;       // HOST:PORT
  std::string ca;           // PEM file: whom the server's certificate is from
  std::string certificate;  // PEM file: the administrator's
  std::string key;          // PEM file
};

// Connects to nothing yet.
// Errors: INVALID_ARGUMENT STAGE_USAGE REASON_USAGE for what is not given;
// those of files.
absl::StatusOr<std::shared_ptr<grpc::Channel>> OpenAdminChannel(
    AdminConnection connection);

// For each call: an administrator waits, but not for ever.
void SetAdminDeadline(grpc::ClientContext& context);

// The Status that the server sent, ErrorDetail included; UNAVAILABLE
// REASON_SERVER_UNREACHABLE when none came.
absl::Status StatusFromGrpc(const grpc::Status& status);

}  // namespace codeseal

#endif  // CODESEAL_SERVER_ADMIN_CLIENT_H_
