#include "tests/support/server_process.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "absl/time/clock.h"
#include "hsm/token.h"

extern char** environ;

namespace codeseal::testing {
namespace {

[[noreturn]] void Abort(const std::string& why) {
  std::fprintf(stderr, "%s\n", why.c_str());
  std::abort();
}

TestIdentity MakeCa(const std::string& name) {
  CertificateSpec spec;
  spec.common_name = name;
  return MakeRoot(spec);
}

Bytes FromHex(const std::string& text) {
  Bytes bytes;
  for (size_t at = 0; at + 1 < text.size(); at += 2) {
    bytes.push_back(
        static_cast<uint8_t>(std::stoi(text.substr(at, 2), nullptr, 16)));
  }
  return bytes;
}

}  // namespace

ServerWorld::ServerWorld()
    : tls_ca_(MakeCa("codeseal test TLS CA")),
      code_ca_(MakeCa("codeseal test CA")) {
  folder_.Write("tls-ca.pem", tls_ca_.pem());
  folder_.Write("code-ca.pem", code_ca_.pem());
  AddServer("server");
  CertificateSpec client;
  client.uris = {kClientUri};
  AddClient("client", client);

  softhsm_.AddToken("main");
  AddKey("main", "01", KeyAlgorithm::kRsa2048);
  AddKey("main", "02", KeyAlgorithm::kP256);
}

void ServerWorld::WriteTls(const std::string& name,
                           const TestIdentity& identity) {
  const ClientFiles files = Files(name);
  folder_.Write(name + ".pem", identity.pem());
  folder_.Write(name + ".key", identity.key_pem());
  chmod(files.key.c_str(), 0600);
}

ClientFiles ServerWorld::AddServer(const std::string& name) {
  CertificateSpec server;
  server.common_name = "localhost";
  server.dns_names = {"localhost"};
  server.extended_key_usage = {kServerAuth};
  WriteTls(name, Issue(server, tls_ca_));
  return Files(name);
}

ClientFiles ServerWorld::AddClient(const std::string& name,
                                   const CertificateSpec& spec) {
  CertificateSpec client = spec;
  client.extended_key_usage = {kClientAuth};
  WriteTls(name, Issue(client, tls_ca_));
  return Files(name);
}

std::string ServerWorld::AddKey(const std::string& token, const std::string& id,
                                KeyAlgorithm algorithm,
                                const std::string& usage) {
  const auto opened = Token::Create(softhsm_.Config(token));
  if (!opened.ok()) Abort(opened.status().ToString());
  const auto public_key = (*opened)->GenerateKey(
      {FromHex(id), "key " + id}, algorithm, absl::Now() + absl::Seconds(60));
  if (!public_key.ok()) Abort(public_key.status().ToString());
  return WriteChain(token + "-" + id, *public_key, usage);
}

std::string ServerWorld::WriteChain(const std::string& name,
                                    ByteView public_key,
                                    const std::string& usage) {
  CertificateSpec spec;
  spec.common_name = "codeseal test signer " + name;
  spec.extended_key_usage = {usage};
  const Certificate leaf = IssueForKey(public_key, spec, code_ca_);
  return folder_.Write(name + ".chain.pem", leaf.Pem() + code_ca_.pem());
}

std::string ServerWorld::TokensSection(const std::string& module) const {
  return "tokens:\n  main: {module: " + module +
         ", label: main, pin_source: \"file:" + softhsm_.pin_file() +
         "\", sessions: 2, op_timeout: 2s}\n";
}

std::string ServerWorld::Identity(const std::string& name,
                                  const std::string& token,
                                  const std::string& key_id,
                                  const std::string& chain,
                                  const std::string& more) {
  return "  - name: " + name +
         "\n    versions: [{id: v1, key: {token: " + token + ", id: \"" +
         key_id + "\"}, chain: " + chain + "}]\n    allow: [{spiffe: \"" +
         std::string(kClientUri) + "\"}]\n" + more;
}

std::string ServerWorld::IdentitiesSection() const {
  return "identities:\n" + Identity("rsa", "main", "01", "main-01.chain.pem") +
         Identity("ec", "main", "02", "main-02.chain.pem");
}

std::string ServerWorld::Config(const std::string& tokens,
                                const std::string& identities,
                                const std::string& more) const {
  return "version: 1\nlisten: {address: \"127.0.0.1:0\"}\n"
         "tls: {certificate: server.pem, key: server.key, client_ca: "
         "tls-ca.pem}\n" +
         tokens + identities + more;
}

std::string ServerProgram() { return CODESEAL_CODESEALD; }

ServerProcess::ServerProcess(const std::string& config,
                             const Options& options) {
  int output[2];
  if (pipe2(output, O_CLOEXEC) != 0) Abort("pipe2");
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null",
                                   O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, output[1], STDOUT_FILENO);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO,
                                   folder_.Path("log").c_str(),
                                   O_WRONLY | O_CREAT | O_APPEND, 0600);
  std::vector<std::string> arguments = {ServerProgram(), "serve", "--config",
                                        config};
  if (options.max_descriptors > 0) {
    arguments.insert(arguments.begin(),
                     {"/bin/sh", "-c", "ulimit -n $0 && exec \"$@\"",
                      std::to_string(options.max_descriptors)});
  }
  std::vector<char*> argv;
  for (std::string& each : arguments) argv.push_back(each.data());
  argv.push_back(nullptr);
  const int spawned =
      posix_spawn(&pid_, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(output[1]);
  if (spawned != 0) Abort("cannot start " + arguments[0]);

  // "listening ADDRESS\n", or the end of the file when it gives up.
  std::string line;
  char byte = 0;
  while (read(output[0], &byte, 1) == 1 && byte != '\n') line.push_back(byte);
  close(output[0]);
  constexpr std::string_view kListening = "listening ";
  if (!line.starts_with(kListening)) Abort("codeseald: " + log());
  address_ = line.substr(kListening.size());
}

ServerProcess::~ServerProcess() {
  if (pid_ < 0) return;
  kill(pid_, SIGKILL);
  Wait();
}

int ServerProcess::EventCount(std::string_view event) const {
  const std::string text = log();
  const std::string field = "\"event\":\"" + std::string(event) + "\"";
  int count = 0;
  for (size_t at = text.find(field); at != std::string::npos;
       at = text.find(field, at + 1)) {
    ++count;
  }
  return count;
}

void ServerProcess::Terminate() const { kill(pid_, SIGTERM); }

int ServerProcess::Wait() {
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace codeseal::testing
