// A codeseald process in a world made for one test: SoftHSM tokens with keys
// generated inside them, a code-signing authority, TLS certificates, a
// configuration, port 0.
//
//   ServerWorld -> configuration file -> [ServerProcess] -> address

#ifndef CODESEAL_TESTS_SUPPORT_SERVER_PROCESS_H_
#define CODESEAL_TESTS_SUPPORT_SERVER_PROCESS_H_

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "tests/support/softhsm.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test_pki.h"

namespace codeseal::testing {

// Files of one TLS client, PEM.
struct ClientFiles {
  std::string certificate;
  std::string key;
};

// One object at a time: it sets SOFTHSM2_CONF. Failures abort the program.
class ServerWorld {
 public:
  // SPIFFE id of client(), which may use every identity of Config().
  static constexpr char kClientUri[] = "spiffe://test/build-host";

  // The token "main" with an RSA-2048 key (id 01) and a P-256 key (id 02), and
  // their identities "rsa" and "ec".
  ServerWorld();
  ServerWorld(const ServerWorld&) = delete;
  ServerWorld& operator=(const ServerWorld&) = delete;

  // Generates a key inside the token and writes the chain of a certificate for
  // it; returns the chain's path.
  std::string AddKey(const std::string& token, const std::string& id,
                     KeyAlgorithm algorithm,
                     const std::string& usage = kCodeSigning);
  // A certificate of another key for this extendedKeyUsage; returns the chain's
  // path.
  std::string WriteChain(const std::string& name, ByteView public_key,
                         const std::string& usage = kCodeSigning);

  // The configuration in words. `tokens` and `identities` replace the two
  // sections; `more` comes at the end.
  std::string TokensSection(const std::string& module = kSoftHsmModule) const;
  std::string IdentitiesSection() const;
  // One entry of `identities`.
  static std::string Identity(const std::string& name, const std::string& token,
                              const std::string& key_id,
                              const std::string& chain,
                              const std::string& more = "");
  std::string Config(const std::string& tokens, const std::string& identities,
                     const std::string& more = "") const;
  std::string Config() const {
    return Config(TokensSection(), IdentitiesSection());
  }
  // Replaces codeseald.yaml and returns its path.
  std::string WriteConfig(const std::string& text) const {
    return folder_.Write("codeseald.yaml", text);
  }

  // A TLS client certified by the authority that the server trusts.
  ClientFiles AddClient(const std::string& name, const CertificateSpec& spec);
  ClientFiles client() const { return Files("client"); }
  // A server certificate certified by the same; "server" is in use.
  ClientFiles AddServer(const std::string& name);
  std::string tls_ca() const { return folder_.Path("tls-ca.pem"); }
  const TestIdentity& tls_authority() const { return tls_ca_; }
  // The code-signing root, which chains end in.
  std::string code_ca() const { return folder_.Path("code-ca.pem"); }

  const TempFolder& folder() const { return folder_; }
  SoftHsm& softhsm() { return softhsm_; }

 private:
  ClientFiles Files(const std::string& name) const {
    return {folder_.Path(name + ".pem"), folder_.Path(name + ".key")};
  }
  void WriteTls(const std::string& name, const TestIdentity& identity);

  TempFolder folder_;
  SoftHsm softhsm_;
  TestIdentity tls_ca_;
  TestIdentity code_ca_;
};

// Path of the program under test.
std::string ServerProgram();

// Runs, kills by pid. Standard error goes to a file of its own.
class ServerProcess {
 public:
  struct Options {
    int max_descriptors = 0;  // ulimit -n; 0: as it is
  };

  // Waits until it listens; aborts the program with its log when it does not.
  ServerProcess(const std::string& config, const Options& options);
  explicit ServerProcess(const std::string& config)
      : ServerProcess(config, Options()) {}
  ~ServerProcess();
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  const std::string& address() const { return address_; }  // "127.0.0.1:41235"
  pid_t pid() const { return pid_; }
  std::string log() const { return folder_.Read("log"); }
  // How many lines of the log are of the event.
  int EventCount(std::string_view event) const;

  // SIGTERM, without waiting.
  void Terminate() const;
  // Waits for the end; the exit status, or -1 when a signal ended it.
  int Wait();
  int Stop() {
    Terminate();
    return Wait();
  }

 private:
  TempFolder folder_;
  std::string address_;
  pid_t pid_ = -1;
};

}  // namespace codeseal::testing

#endif  // CODESEAL_TESTS_SUPPORT_SERVER_PROCESS_H_
