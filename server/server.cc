#include "server/server.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/time/clock.h"
#include "codesign/base/error.h"
#include "codesign/base/mapped_file.h"
#include "grpc/grpc.h"
#include "grpcpp/grpcpp.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/resource_quota.h"
#include "server/admin_http.h"
#include "server/approval_service.h"
#include "server/audit_log.h"
#include "server/audit_service.h"
#include "server/health.h"
#include "server/identity_admin.h"
#include "server/identity_service.h"
#include "server/identity_state.h"
#include "server/ledger_store.h"
#include "server/listener.h"
#include "server/log.h"
#include "server/metrics.h"
#include "server/request_handler.h"
#include "server/services.h"
#include "server/timestamps.h"
#include "server/tls_files.h"
#include "server/workload_identity.h"

namespace codeseal {
namespace {

constexpr char kSigningService[] = "codeseal.v1.SigningService";
constexpr char kIdentityService[] = "codeseal.v1.IdentityService";
constexpr char kOpsService[] = "codeseal.v1.OpsService";
constexpr char kAuditService[] = "codeseal.v1.AuditService";

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

// Everything that a caller may write for an identity of the configuration.
std::unordered_map<std::string, std::string> NamesOf(
    const IdentityStore& identities) {
  std::unordered_map<std::string, std::string> names;
  for (const std::string& name : identities.Names()) {
    names[name] = name;
    for (IdentityVersion* const each : identities.Versions(name)) {
      names[HexEncode(each->leaf_sha1())] = name;
    }
  }
  return names;
}

// Tells grpc.health.v1 what Health says, once a second.
class HealthPulse {
 public:
  HealthPulse(const Health& health, grpc::HealthCheckServiceInterface& service)
      : thread_([this, &health, &service] {
          std::unique_lock lock(mutex_);
          while (!is_stopping_) {
            service.SetServingStatus(kSigningService, health.Ask().is_ready);
            stop_.wait_for(lock, kPulse, [this] { return is_stopping_; });
          }
        }) {}
  ~HealthPulse() {
    {
      const std::lock_guard lock(mutex_);
      is_stopping_ = true;
    }
    stop_.notify_all();
    thread_.join();
  }
  HealthPulse(const HealthPulse&) = delete;
  HealthPulse& operator=(const HealthPulse&) = delete;

 private:
  static constexpr auto kPulse = std::chrono::seconds(1);

  std::mutex mutex_;
  std::condition_variable stop_;
  bool is_stopping_ = false;
  std::thread thread_;
};

// None when the configuration names none.
absl::StatusOr<std::vector<std::unique_ptr<LedgerStore>>> OpenLedgerStores(
    const StateConfig& state) {
  std::vector<std::unique_ptr<LedgerStore>> stores;
  if (!state.postgres.dsn_file.empty()) {
    ASSIGN_OR_RETURN(const MappedFile dsn,
                     MappedFile::Open(state.postgres.dsn_file));
    PostgresOptions options;
    options.dsn =
        std::string(absl::StripAsciiWhitespace(ToString(dsn.bytes())));
    options.timeout = state.postgres.timeout;
    options.lease = state.postgres.lease;
    options.connection_count = state.postgres.connections;
    return OpenPostgresLedgerStores(options);
  }
  if (!state.ledger.empty()) {
    ASSIGN_OR_RETURN(std::unique_ptr<LedgerStore> store,
                     OpenSqliteLedgerStore(state.ledger));
    stores.push_back(std::move(store));
  }
  return stores;
}

}  // namespace

// In the order of making; destroyed in the reverse order, with care in
// ~Server().
struct Server::Parts {
  LimitsConfig limits;
  std::unique_ptr<WorkloadVerifier> workloads;
  std::unique_ptr<TlsFiles> tls;
  PeerReader peers;
  std::unique_ptr<PeerGate> gate;
  std::unique_ptr<IdentityStore> identities;
  std::unique_ptr<Ledger> ledger;
  std::unique_ptr<TimestampAuthorities> timestamps;
  std::unique_ptr<AuditTrail> audit;
  std::unique_ptr<IdentityAdmin> admin;
  std::unique_ptr<Health> health;
  std::unique_ptr<Metrics> metrics;
  std::unique_ptr<RequestHandler> handler;
  std::unique_ptr<SigningServiceImpl> signing;
  std::unique_ptr<IdentityServiceImpl> identity_service;
  std::unique_ptr<OpsServiceImpl> ops_service;
  std::unique_ptr<AuditServiceImpl> audit_service;
  std::unique_ptr<Approvals> approvals;
  std::unique_ptr<ApprovalServiceImpl> approval_service;
  std::unique_ptr<Listener> listener;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor;
  std::unique_ptr<grpc::Server> server;
  std::unique_ptr<HealthPulse> pulse;
  std::unique_ptr<AdminHttp> admin_http;

  void MakeMetrics(const ServerConfig& config);
  absl::Status StartAdminHttp(const std::string& address);
};

// Gauges must not wait: they are asked when things go wrong.
void Server::Parts::MakeMetrics(const ServerConfig& config) {
  metrics = std::make_unique<Metrics>(NamesOf(*identities));
  metrics->AddGauge("codeseal_config_info",
                    "Always 1; the SHA-256 of the configuration in force.",
                    {{"sha256", config.sha256}}, [] { return 1; });
  metrics->AddGauge("codeseal_start_time_seconds",
                    "When the server started, in seconds since 1970.", {},
                    [at = absl::ToDoubleSeconds(
                         absl::Now() - absl::UnixEpoch())] { return at; });
  metrics->AddGauge("codeseal_ready", "1 when /readyz says so.", {},
                    [this] { return health->Ask().is_ready ? 1 : 0; });
  for (const std::string& name : identities->Names()) {
    metrics->AddGauge(
        "codeseal_identity_ready",
        "1 when the last signature that was asked of the identity's key, real "
        "or for a test, was made.",
        {{"identity", name}},
        [this, name] { return health->IdentityStatus(name).ok() ? 1 : 0; });
    metrics->AddGauge(
        "codeseal_certificate_expiry_seconds",
        "When the certificate of the active version expires, in seconds since "
        "1970; 0 without one.",
        {{"identity", name}}, [this, name]() -> double {
          for (IdentityVersion* const each : identities->Versions(name)) {
            if (each->state() != v1::IDENTITY_STATE_ACTIVE) continue;
            return static_cast<double>(
                absl::ToUnixSeconds(each->chain().front().not_after()));
          }
          return 0;
        });
  }
  metrics->AddGauge(
      "codeseal_tls_certificate_expiry_seconds",
      "When the server's own TLS certificate expires, in seconds since 1970.",
      {}, [this] {
        return static_cast<double>(absl::ToUnixSeconds(tls->not_after()));
      });
  for (const TokenConfig& token : config.tokens) {
    metrics->AddGauge(
        "codeseal_token_waiting_requests", "Requests in the line of the token.",
        {{"token", token.name}}, [this, name = token.name] {
          return static_cast<double>(identities->WaitingCount(name));
        });
  }
  metrics->AddGauge(
      "codeseal_requests_in_flight",
      "Signing requests that were taken and not answered.", {},
      [this] { return static_cast<double>(handler->in_flight_count()); });
  metrics->AddGauge(
      "codeseal_buffered_bytes", "What the requests in memory have together.",
      {}, [this] { return static_cast<double>(handler->buffered_size()); });
  metrics->AddCounter(
      "codeseal_connections_refused_total", "Connections beyond a limit.", {},
      [this] { return static_cast<double>(listener->shed_count()); });
  if (audit == nullptr) return;
  metrics->AddGauge("codeseal_audit_log_writable",
                    "1 when the audit log takes entries.", {},
                    [this] { return audit->fault().ok() ? 1 : 0; });
  metrics->AddGauge("codeseal_audit_log_entries",
                    "Entries of the audit log that are durable.", {},
                    [this]() -> double {
                      const auto log = audit->log();
                      return log.ok() ? static_cast<double>((*log)->size()) : 0;
                    });
}

absl::Status Server::Parts::StartAdminHttp(const std::string& address) {
  AdminHttp::Pages pages;
  // That this page comes is all it says.
  pages["/livez"] = [] { return HttpPage{200, "text/plain", "ok\n"}; };
  pages["/readyz"] = [this] {
    const HealthReport report = health->Ask();
    return HttpPage{report.is_ready ? 200 : 503, "application/json",
                    FormatHealth(report)};
  };
  pages["/metrics"] = [this] {
    return HttpPage{200, "text/plain; version=0.0.4; charset=utf-8",
                    metrics->Text()};
  };
  ASSIGN_OR_RETURN(admin_http, AdminHttp::Start(address, std::move(pages)));
  Log(LogLevel::kInfo, "admin_listening",
      {{"address", admin_http->bound_address()}});
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Server>> Server::Start(
    const ServerConfig& config, const IdentityStore::TokenFactory& make_token,
    const Clock& clock, bool (*is_apple_root)(const Certificate&)) {
  auto parts = std::make_unique<Parts>();
  parts->limits = config.limits;
  ASSIGN_OR_RETURN(parts->tls, TlsFiles::Load(config.tls));
  if (!config.oidc.empty()) {
    ASSIGN_OR_RETURN(parts->workloads,
                     WorkloadVerifier::Create(config.oidc, clock));
    parts->peers.VerifyTokensWith(*parts->workloads);
  }
  ASSIGN_OR_RETURN(parts->gate, PeerGate::Create(config.tls, clock));
  ASSIGN_OR_RETURN(IdentityStoreOptions options,
                   StoreOptions(config, clock, /*lock=*/true));
  options.is_apple_root = is_apple_root;
  ASSIGN_OR_RETURN(
      parts->identities,
      IdentityStore::Create(config, make_token, std::move(options)));
  ASSIGN_OR_RETURN(std::vector<std::unique_ptr<LedgerStore>> stores,
                   OpenLedgerStores(config.state));
  if (!stores.empty()) {
    parts->ledger = std::make_unique<Ledger>(std::move(stores),
                                             config.state.retention, clock);
  }
  ASSIGN_OR_RETURN(parts->timestamps,
                   TimestampAuthorities::Create(config.authorities, clock));
  if (!config.audit.folder.empty()) {
    parts->audit = std::make_unique<AuditTrail>(
        config.audit, parts->identities->FindToken(config.audit.token),
        config.sha256, parts->ledger.get(), clock);
  }
  parts->admin = std::make_unique<IdentityAdmin>(*parts->identities, clock,
                                                 parts->audit.get());
  ASSIGN_OR_RETURN(parts->listener, Listener::Bind(config.listen));
  parts->handler = std::make_unique<RequestHandler>(
      *parts->identities, *parts->gate, *parts->timestamps, parts->ledger.get(),
      parts->audit.get(), config.limits, clock);
  parts->health =
      std::make_unique<Health>(*parts->identities, parts->audit.get());
  parts->MakeMetrics(config);
  parts->handler->CountIn(*parts->metrics);
  parts->signing = std::make_unique<SigningServiceImpl>(
      *parts->handler, parts->peers, config.limits);
  parts->identity_service = std::make_unique<IdentityServiceImpl>(
      *parts->identities, *parts->admin, *parts->gate, parts->peers,
      config.admin, clock);
  parts->ops_service = std::make_unique<OpsServiceImpl>(
      *parts->identities, *parts->gate, parts->peers, config.admin,
      parts->audit.get());
  parts->audit_service = std::make_unique<AuditServiceImpl>(
      parts->audit.get(), config.audit.readers, *parts->gate, parts->peers);
  if (parts->ledger != nullptr) {
    ASSIGN_OR_RETURN(
        parts->approvals,
        Approvals::Create(config, *parts->identities, *parts->ledger,
                          parts->audit.get(), clock));
    parts->approval_service = std::make_unique<ApprovalServiceImpl>(
        *parts->approvals, *parts->gate, parts->peers);
  }
  parts->identities->LoadKeys(kKeyLoadingTime);
  if (parts->audit != nullptr) parts->audit->Open(kKeyLoadingTime);
  parts->admin->StartSchedule();

  grpc::EnableDefaultHealthCheckService(true);
  grpc::ServerBuilder builder;
  SetLimits(builder, config.limits);
  grpc::ResourceQuota quota("codeseald");
  builder.SetResourceQuota(quota.Resize(config.limits.buffered));
  builder.RegisterService(parts->signing.get());
  builder.RegisterService(parts->identity_service.get());
  builder.RegisterService(parts->ops_service.get());
  builder.RegisterService(parts->audit_service.get());
  if (parts->approval_service != nullptr) {
    builder.RegisterService(parts->approval_service.get());
  }
  parts->acceptor = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
      parts->tls->MakeCredentials());
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
  health->SetServingStatus(kAuditService, true);
  parts->pulse = std::make_unique<HealthPulse>(*parts->health, *health);
  if (!config.admin.address.empty()) {
    RETURN_IF_ERROR(parts->StartAdminHttp(config.admin.address));
  }
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
  RETURN_IF_ERROR(TlsFiles::Load(config.tls).status());
  RETURN_IF_ERROR(PeerGate::Create(config.tls, clock).status());
  RETURN_IF_ERROR(
      TimestampAuthorities::Create(config.authorities, clock).status());
  ASSIGN_OR_RETURN(IdentityStoreOptions options,
                   StoreOptions(config, clock, /*lock=*/false));
  return IdentityStore::Create(config, make_token, std::move(options)).status();
}

Server::Server(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

Server::~Server() {
  Drain();
  // The tokens' threads, the ledger's, the log's and those of the timestamps
  // hand work to each other: each stops taking it before any of them is
  // destroyed.
  parts_->admin_http.reset();
  parts_->server.reset();
  parts_->identity_service.reset();
  parts_->approval_service.reset();
  parts_->admin.reset();
  parts_->audit_service.reset();
  parts_->identities->Stop();
  if (parts_->audit != nullptr) parts_->audit->Close();
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
  parts_->health->Drain();
  parts_->pulse.reset();
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
