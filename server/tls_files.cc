#include "server/tls_files.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "codesign/base/error.h"
#include "codesign/base/mapped_file.h"
#include "codesign/cms/certificate.h"
#include "grpc/grpc.h"
#include "grpc/grpc_security.h"
#include "server/log.h"

namespace codeseal {
namespace {

// Reads a PEM file; a fault becomes a problem with the key of the file.
std::string ReadPemFile(const std::string& path, const char* key,
                        std::vector<ConfigProblem>& problems) {
  const absl::StatusOr<MappedFile> file = MappedFile::Open(path);
  if (file.ok()) return ToString(file->bytes());
  problems.push_back({0, key, std::string(Message(file.status()))});
  return "";
}

// gRPC itself would start with any text, and then fail every handshake.
std::vector<ConfigProblem> Check(const TlsConfig& tls, TlsMaterial& material) {
  std::vector<ConfigProblem> problems;
  const auto require = [&](const char* key, const std::string& path,
                           const absl::Status& status) {
    if (status.ok()) return;
    problems.push_back({0, key, path + ": " + std::string(Message(status))});
  };
  require("tls.client_ca", tls.client_ca,
          Certificate::ParsePem(material.client_ca).status());
  const absl::StatusOr<std::vector<Certificate>> chain =
      Certificate::ParsePem(material.certificate);
  require("tls.certificate", tls.certificate, chain.status());
  if (chain.ok()) {
    require("tls.key", tls.key,
            chain->front().CheckPrivateKeyPem(material.key));
    material.not_after = chain->front().not_after();
  }
  return problems;
}

absl::StatusOr<TlsMaterial> Read(const TlsConfig& tls) {
  std::vector<ConfigProblem> problems;
  TlsMaterial material;
  material.client_ca = ReadPemFile(tls.client_ca, "tls.client_ca", problems);
  material.key = ReadPemFile(tls.key, "tls.key", problems);
  material.certificate =
      ReadPemFile(tls.certificate, "tls.certificate", problems);
  if (problems.empty()) problems = Check(tls, material);
  if (!problems.empty()) return ConfigError("configuration", problems);
  return material;
}

// gRPC's fetcher: called before each handshake.
grpc_ssl_certificate_config_reload_status FetchCertificates(
    void* files, grpc_ssl_server_certificate_config** config) {
  const std::optional<TlsMaterial> material =
      static_cast<TlsFiles*>(files)->TakeChanged();
  if (!material.has_value())
    return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
  const grpc_ssl_pem_key_cert_pair pair = {material->key.c_str(),
                                           material->certificate.c_str()};
  *config = grpc_ssl_server_certificate_config_create(
      material->client_ca.c_str(), &pair, 1);
  return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
}

class FetchedCredentials : public grpc::ServerCredentials {
 public:
  explicit FetchedCredentials(TlsFiles& files)
      : credentials_(grpc_ssl_server_credentials_create_with_options(
            grpc_ssl_server_credentials_create_options_using_config_fetcher(
                GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY,
                &FetchCertificates, &files))) {}
  ~FetchedCredentials() override {
    grpc_server_credentials_release(credentials_);
  }

  void SetAuthMetadataProcessor(
      const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {}

 private:
  int AddPortToServer(const std::string& address,
                      grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), credentials_);
  }

  grpc_server_credentials* const credentials_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<TlsFiles>> TlsFiles::Load(
    const TlsConfig& config) {
  std::unique_ptr<TlsFiles> files(new TlsFiles(config));
  ASSIGN_OR_RETURN(files->material_, Read(config));
  return files;
}

void TlsFiles::LookLocked(absl::Time now) {
  if (!files_.IsTimeToLook(now)) return;
  // What was refused may have been read while it was written.
  if (!files_.HaveChanged() && fault_.ok()) return;
  absl::StatusOr<TlsMaterial> read = Read(config_);
  const bool is_news = Message(read.status()) != Message(fault_);
  fault_ = read.status();
  if (!read.ok()) {
    if (is_news) LogStatus(LogLevel::kError, "tls_files_refused", fault_);
    return;
  }
  material_ = *std::move(read);
  is_taken_ = false;
  Log(LogLevel::kInfo, "tls_files_loaded",
      {{"not_after",
        absl::FormatTime(material_.not_after, absl::UTCTimeZone())}});
}

std::optional<TlsMaterial> TlsFiles::TakeChanged() {
  const std::lock_guard lock(mutex_);
  LookLocked(absl::Now());
  if (std::exchange(is_taken_, true)) return std::nullopt;
  return material_;
}

absl::Time TlsFiles::not_after() const {
  const std::lock_guard lock(mutex_);
  return material_.not_after;
}

std::shared_ptr<grpc::ServerCredentials> TlsFiles::MakeCredentials() {
  return std::make_shared<FetchedCredentials>(*this);
}

}  // namespace codeseal
