#include "tests/bench/bench_world.h"

#include <optional>

#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "tests/support/fault_shim.h"
#include "tests/support/server_process.h"
#include "tests/support/timestamp_authority.h"
#include "tests/support/timestamp_server.h"

namespace codeseal::bench {

using ::codeseal::testing::FaultShim;
using ::codeseal::testing::kSoftHsmModule;
using ::codeseal::testing::ServerProcess;
using ::codeseal::testing::ServerWorld;
using ::codeseal::testing::SoftHsm;

struct BenchWorld::Impl {
  explicit Impl(const Options& options)
      : identity(options.key == BenchKey::kP256 ? "ec" : "rsa") {
    std::string module = kSoftHsmModule;
    if (options.slow_token) {
      shim.emplace();
      shim->Play("C_Sign delay=20ms\n");
      module = FaultShim::Module();
    }
    std::string tokens =
        "tokens:\n  main: {module: " + module +
        ", label: main, pin_source: \"file:" + world.softhsm().pin_file() +
        "\", sessions: " + std::to_string(options.session_count) + "}\n";
    std::string more;
    if (options.parts.ledger) more += "state: {sqlite: {path: ledger.db}}\n";
    if (options.parts.audit) {
      world.softhsm().AddToken("logkey");
      world.AddKey("logkey", "07", KeyAlgorithm::kP256);
      tokens +=
          "  logkey: {module: " + module +
          ", label: logkey, pin_source: \"file:" + world.softhsm().pin_file() +
          "\", sessions: 1}\n";
      more +=
          "audit: {dir: auditlog, origin: log.example/bench, key: {token: "
          "logkey, id: \"07\"}}\n";
    }
    std::string terms;
    if (options.parts.policy) {
      terms +=
          "    rules: {identifiers: [\"com.example.*\"], forbid_flags: "
          "[library-validation], entitlements_deny: [\"*get-task-allow\"], "
          "entitlements_allow: [\"com.apple.security.*\"], min_digest: "
          "sha256}\n";
    }
    if (options.parts.timestamps) {
      stamps.emplace(authority);
      terms += "    timestamp: {tsa: test, mode: required}\n";
      more += "tsa:\n  test: {urls: [\"" + stamps->url() + "\"], roots: " +
              world.folder().Write("tsa-roots.pem", authority.root().Pem()) +
              "}\n";
    }
    const bool ec = options.key == BenchKey::kP256;
    server.emplace(world.WriteConfig(world.Config(
        tokens,
        "identities:\n" + ServerWorld::Identity(
                              identity, "main", ec ? "02" : "01",
                              ec ? "main-02.chain.pem" : "main-01.chain.pem",
                              terms),
        more)));
    raw = {
        .module = module,
        .token_label = "main",
        .pin = SoftHsm::kPin,
        .key_id = {static_cast<uint8_t>(options.key == BenchKey::kP256 ? 0x02
                                                                       : 0x01)},
        .mechanism = options.key == BenchKey::kP256 ? RawMechanism::kEcdsa
                                                    : RawMechanism::kRsaPkcs1,
        .session_count = options.session_count};
  }

  std::string identity;
  ServerWorld world;
  testing::TimestampAuthority authority;
  std::optional<testing::TimestampServer> stamps;
  std::optional<FaultShim> shim;
  std::optional<ServerProcess> server;
  RawToken::Options raw;
};

BenchWorld::BenchWorld(const Options& options)
    : impl_(std::make_unique<Impl>(options)) {}
BenchWorld::~BenchWorld() = default;

std::shared_ptr<grpc::Channel> BenchWorld::channel() const {
  const auto& folder = impl_->world.folder();
  grpc::SslCredentialsOptions tls;
  tls.pem_root_certs = folder.Read("tls-ca.pem");
  tls.pem_private_key = folder.Read("client.key");
  tls.pem_cert_chain = folder.Read("client.pem");
  grpc::ChannelArguments arguments;
  arguments.SetSslTargetNameOverride("localhost");
  return grpc::CreateCustomChannel(impl_->server->address(),
                                   grpc::SslCredentials(tls), arguments);
}

const std::string& BenchWorld::identity() const { return impl_->identity; }

const RawToken::Options& BenchWorld::raw_options() const { return impl_->raw; }

}  // namespace codeseal::bench
