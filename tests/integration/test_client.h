// A small signing client for tests, so that our own client is not the oracle.

#ifndef CODESEAL_TESTS_INTEGRATION_TEST_CLIENT_H_
#define CODESEAL_TESTS_INTEGRATION_TEST_CLIENT_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "codeseal/v1/audit.grpc.pb.h"
#include "codeseal/v1/identity.grpc.pb.h"
#include "codeseal/v1/ops.grpc.pb.h"
#include "codeseal/v1/signing.grpc.pb.h"
#include "grpcpp/grpcpp.h"
#include "tests/support/server_process.h"

namespace codeseal::testing {

// The Status that the server sent, ErrorDetail included.
absl::Status Decode(const grpc::Status& status);
absl::Status Decode(const v1::Status& status);

class TestClient {
 public:
  using Stream =
      grpc::ClientReaderWriter<v1::SignStreamRequest, v1::SignStreamResponse>;
  using Result = absl::StatusOr<v1::SignResponse>;

  // `ca` and the client's files are PEM paths. Each object has connections of
  // its own.
  TestClient(const std::string& address, const std::string& ca,
             const ClientFiles& files);

  Result Sign(const v1::SignRequest& request,
              absl::Duration timeout = absl::Seconds(20));
  absl::StatusOr<v1::SignResponse> GetSignature(const std::string& request_id);
  absl::StatusOr<v1::Identity> GetIdentity(const std::string& name);
  absl::StatusOr<std::vector<v1::Identity>> ListIdentities();
  absl::Status ClearPinHold(const std::string& token);
  // For services that have no function here.
  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }
  std::unique_ptr<v1::AuditService::Stub> Audit() const {
    return v1::AuditService::NewStub(channel_);
  }
  // The answer of grpc.health.v1, "SERVING" or other.
  std::string Health(const std::string& service);

  // Sends all requests in one stream, those above `chunk_size` bytes in pieces,
  // keeping to the server's credit, and waits for all results. `end` gets the
  // stream's own status.
  std::map<std::string, Result> SignAll(
      const std::vector<v1::SignRequest>& requests, const std::string& identity,
      absl::Status* end = nullptr, size_t chunk_size = size_t{1} << 20);

  // A stream for tests that misbehave; the context must outlive it.
  std::unique_ptr<Stream> OpenStream(grpc::ClientContext& context) {
    return signing_->SignStream(&context);
  }

 private:
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::SigningService::Stub> signing_;
  std::unique_ptr<v1::IdentityService::Stub> identities_;
  std::unique_ptr<v1::OpsService::Stub> ops_;
};

}  // namespace codeseal::testing

#endif  // CODESEAL_TESTS_INTEGRATION_TEST_CLIENT_H_
