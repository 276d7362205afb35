#include "server/server.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "codesign/base/error.h"
#include "codesign/base/mapped_file.h"
#include "codesign/cms/certificate.h"
#include "grpc/grpc_security_constants.h"
#include "grpcpp/grpcpp.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/resource_quota.h"
#include "server/identity_admin.h"
#include "server/identity_service.h"
#include "server/identity_state.h"
#include "server/listener.h"
#include "server/log.h"
#include "server/request_handler.h"
#include "server/services.h"
#include "server/sqlite_ledger_store.h"
#include "server/timestamps.h"

namespace codeseal {
namespace {

constexpr char kSigningService[] = "codeseal.v1.SigningService";
constexpr char kIdentityService[] = "codeseal.v1.IdentityService";
constexpr char kOpsService[] = "codeseal.v1.OpsService";

// Unauthenticated connections live no longer than this.
constexpr int kHandshakeTimeoutMs = 10'000;
// Connections are renewed, so that load spreads over new servers and old
// certificates go away; calls in flight have the grace.
constexpr int kMaxConnectionAgeMs = 10 * 60'000;
constexpr int kMaxConnectionGraceMs = 10 * 60'000;
constexpr int kKeepaliveTimeMs = 60'000;
constexpr int kMinPingIntervalMs = 10'000;
constexpr int kMaxMetadataSize = 8 << 10;
// How long the server waits for tokens before it listens anyway.
constexpr absl::Duration kKeyLoadingTime = absl::Seconds(10);

// Reads a PEM file; a fault becomes a problem with the key of the file.
std::string ReadPem(const std::string& path, const char* key,
                    std::vector<ConfigProblem>& problems) {
  const absl::StatusOr<MappedFile> file = MappedFile::Open(path);
  if (file.ok()) return ToString(file->bytes());
  problems.push_back({0, key, std::string(Message(file.status()))});
  return "";
}

// gRPC itself would start with any text, and then fail every handshake.
std::vector<ConfigProblem> CheckTls(
    const TlsConfig& tls, const grpc::SslServerCredentialsOptions& options) {
  std::vector<ConfigProblem> problems;
  const auto require = [&](const char* key, const std::string& path,
                           const absl::Status& status) {
    if (status.ok()) return;
    problems.push_back({0, key, path + ": " + std::string(Message(status))});
  };
  const auto& pair = options.pem_key_cert_pairs.front();
  require("tls.client_ca", tls.client_ca,
          Certificate::ParsePem(options.pem_root_certs).status());
  const absl::StatusOr<std::vector<Certificate>> chain =
      Certificate::ParsePem(pair.cert_chain);
  require("tls.certificate", tls.certificate, chain.status());
  if (chain.ok()) {
    require("tls.key", tls.key,
            chain->front().CheckPrivateKeyPem(pair.private_key));
  }
  return problems;
}

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeCredentials(
    const TlsConfig& tls) {
  std::vector<ConfigProblem> problems;
  // The strictest mode: no certificate, no connection.
  grpc::SslServerCredentialsOptions options(
      GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  options.pem_root_certs = ReadPem(tls.client_ca, "tls.client_ca", problems);
  options.pem_key_cert_pairs.push_back(
      {ReadPem(tls.key, "tls.key", problems),
       ReadPem(tls.certificate, "tls.certificate", problems)});
  if (problems.empty()) problems = CheckTls(tls, options);
  if (!problems.empty()) return ConfigError("configuration", problems);
  return grpc::SslServerCredentials(options);
}

void SetLimits(grpc::ServerBuilder& builder, const LimitsConfig& limits) {
  builder.SetMaxReceiveMessageSize(static_cast<int>(limits.message));
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS,
                             static_cast<int>(limits.streams));
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMaxMetadataSize);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS,
                             kHandshakeTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_MS,
                             kMaxConnectionAgeMs);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_GRACE_MS,
                             kMaxConnectionGraceMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveTimeMs);
  builder.AddChannelArgument(
      GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
      kMinPingIntervalMs);
}

// What administrators did is in the state folder, if there is one.
absl::StatusOr<IdentityStoreOptions> StoreOptions(const ServerConfig& config,
                                                  const Clock& clock,
                                                  bool lock) {
  IdentityStoreOptions options;
  options.clock = &clock;
  if (!config.state.folder.empty()) {
    ASSIGN_OR_RETURN(options.state,
                     OpenIdentityState(config.state.folder, lock));
  }
  return options;
}

}  // namespace

// In the order of making; destroyed in the reverse order, with care in
// ~Server().
struct Server::Parts {
  LimitsConfig limits;
  PeerReader peers;
  std::unique_ptr<PeerGate> gate;
  std::unique_ptr<IdentityStore> identities;
  std::unique_ptr<IdentityAdmin> admin;
  std::unique_ptr<Ledger> ledger;
  std::unique_ptr<TimestampAuthorities> timestamps;
  std::unique_ptr<RequestHandler> handler;
  std::unique_ptr<SigningServiceImpl> signing;
  std::unique_ptr<IdentityServiceImpl> identity_service;
  std::unique_ptr<OpsServiceImpl> ops_service;
  std::unique_ptr<Listener> listener;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor;
  std::unique_ptr<grpc::Server> server;
};

absl::StatusOr<std::unique_ptr<Server>> Server::Start(
    const ServerConfig& config, const IdentityStore::TokenFactory& make_token,
    const Clock& clock, bool (*is_apple_root)(const Certificate&)) {
  auto parts = std::make_unique<Parts>();
  parts->limits = config.limits;
  ASSIGN_OR_RETURN(const std::shared_ptr<grpc::ServerCredentials> credentials,
                   MakeCredentials(config.tls));
  ASSIGN_OR_RETURN(parts->gate, PeerGate::Create(config.tls.deny_list, clock));
  ASSIGN_OR_RETURN(IdentityStoreOptions options,
                   StoreOptions(config, clock, /*lock=*/true));
  options.is_apple_root = is_apple_root;
  ASSIGN_OR_RETURN(
      parts->identities,
      IdentityStore::Create(config, make_token, std::move(options)));
  parts->admin = std::make_unique<IdentityAdmin>(*parts->identities, clock);
  if (!config.state.ledger.empty()) {
    ASSIGN_OR_RETURN(std::unique_ptr<LedgerStore> store,
                     OpenSqliteLedgerStore(config.state.ledger));
    parts->ledger = std::make_unique<Ledger>(std::move(store),
                                             config.state.retention, clock);
  }
  ASSIGN_OR_RETURN(parts->timestamps,
                   TimestampAuthorities::Create(config.authorities, clock));
  ASSIGN_OR_RETURN(parts->listener, Listener::Bind(config.listen));
  parts->handler = std::make_unique<RequestHandler>(
      *parts->identities, *parts->gate, *parts->timestamps, parts->ledger.get(),
      config.limits, clock);
  parts->signing = std::make_unique<SigningServiceImpl>(
      *parts->handler, parts->peers, config.limits);
  parts->identity_service = std::make_unique<IdentityServiceImpl>(
      *parts->identities, *parts->admin, *parts->gate, parts->peers,
      config.admin, clock);
  parts->ops_service = std::make_unique<OpsServiceImpl>(
      *parts->identities, *parts->gate, parts->peers, config.admin);
  parts->identities->LoadKeys(kKeyLoadingTime);
  parts->admin->StartSchedule();

  grpc::EnableDefaultHealthCheckService(true);
  grpc::ServerBuilder builder;
  SetLimits(builder, config.limits);
  grpc::ResourceQuota quota("codeseald");
  builder.SetResourceQuota(quota.Resize(config.limits.buffered));
  builder.RegisterService(parts->signing.get());
  builder.RegisterService(parts->identity_service.get());
  builder.RegisterService(parts->ops_service.get());
  parts->acceptor = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
      credentials);
  parts->server = builder.BuildAndStart();
  if (parts->server == nullptr) {
    return MakeError(absl::StatusCode::kInternal, v1::STAGE_TRANSPORT,
                     v1::REASON_INTERNAL, "gRPC can't start its server");
  }
  grpc::HealthCheckServiceInterface* const health =
      parts->server->GetHealthCheckService();
  health->SetServingStatus(kSigningService, true);
  health->SetServingStatus(kIdentityService, true);
  health->SetServingStatus(kOpsService, true);
  parts->listener->Start([acceptor = parts->acceptor.get()](int fd) {
    grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters
        connection;
    connection.fd = fd;
    acceptor->HandleNewConnection(&connection);
  });
  return std::unique_ptr<Server>(new Server(std::move(parts)));
}

absl::Status Server::CheckConfig(const ServerConfig& config,
                                 const IdentityStore::TokenFactory& make_token,
                                 const Clock& clock) {
  RETURN_IF_ERROR(MakeCredentials(config.tls).status());
  RETURN_IF_ERROR(PeerGate::Create(config.tls.deny_list, clock).status());
  RETURN_IF_ERROR(
      TimestampAuthorities::Create(config.authorities, clock).status());
  ASSIGN_OR_RETURN(IdentityStoreOptions options,
                   StoreOptions(config, clock, /*lock=*/false));
  return IdentityStore::Create(config, make_token, std::move(options)).status();
}

Server::Server(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

Server::~Server() {
  Drain();
  // The tokens' threads, the ledger's and those of the timestamps hand work to
  // each other: each stops taking it before any of them is destroyed.
  parts_->server.reset();
  parts_->identity_service.reset();
  parts_->admin.reset();
  parts_->identities->Stop();
  if (parts_->ledger != nullptr) parts_->ledger->Stop();
  parts_->timestamps.reset();
  parts_->ledger.reset();
  parts_->identities.reset();
}

const std::string& Server::bound_address() const {
  return parts_->listener->bound_address();
}

void Server::Drain() {
  if (parts_->listener == nullptr) return;
  const absl::Time deadline = absl::Now() + parts_->limits.drain;
  parts_->server->GetHealthCheckService()->SetServingStatus(false);
  parts_->handler->Drain();
  const bool idle = parts_->handler->WaitUntilIdle(deadline);
  parts_->listener->Stop();
  const bool all_done = parts_->signing->EndCalls(deadline);
  // gRPC waits until callers close their connections, which idle ones may not
  // do for seconds.
  parts_->listener->Disconnect();
  parts_->server->Shutdown(absl::ToChronoTime(deadline));
  Log(LogLevel::kInfo, "drained",
      {{"complete", idle && all_done ? "true" : "false"}});
  parts_->listener.reset();
}

}  // namespace codeseal
