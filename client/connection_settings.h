// Where the server is and how the two prove themselves to each other: options,
// then the environment, then ~/.config/codeseal/client.yaml.

#ifndef CODESEAL_CLIENT_CONNECTION_SETTINGS_H_
#define CODESEAL_CLIENT_CONNECTION_SETTINGS_H_

#include <functional>
#include <optional>
#include <string>

#include "absl/status/statusor.h"

namespace codeseal::client {

struct ConnectionSettings {
  std::string server;  // HOST:PORT, or several with ',' between: replicas
  std::string ca;      // path of PEM: CAs of the server's certificate
  std::string cert;    // path of PEM: our certificate and its issuers
  std::string key;     // path of PEM: its private key
  // An OpenID Connect token that goes with every call: which CI job this is.
  // Not from the file; empty: none.
  std::string identity_token = {};
};

// What was given on the command line; empty means not given.
using ConnectionFlags = ConnectionSettings;

// getenv(3), or a test's own environment.
using Environment =
    std::function<std::optional<std::string>(const std::string& name)>;
Environment ProcessEnvironment();

// $XDG_CONFIG_HOME/codeseal/client.yaml, by default under ~/.config; empty
// when there is no home folder.
std::string DefaultSettingsPath(const Environment& environment);

// Fills each setting from the first place that has it. `settings_path` need
// not exist; relative paths in it count from its folder.
// Errors: STAGE_USAGE. REASON_BAD_CONFIG names file, line and key, for unknown
// keys too; REASON_USAGE lists everything that is still missing at once.
absl::StatusOr<ConnectionSettings> ResolveConnection(
    const ConnectionFlags& flags, const Environment& environment,
    const std::string& settings_path);

}  // namespace codeseal::client

#endif  // CODESEAL_CLIENT_CONNECTION_SETTINGS_H_
