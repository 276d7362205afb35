// codeseald itself: all parts put together, from listening to the last answer.
//
//   ServerConfig -> [Server] -> Listener, gRPC, services, tokens

#ifndef CODESEAL_SERVER_SERVER_H_
#define CODESEAL_SERVER_SERVER_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "codesign/base/clock.h"
#include "server/config.h"
#include "server/identity_store.h"

namespace codeseal {

// Created, drained and destroyed by one thread; serves on many.
class Server {
 public:
  // Loads keys, then listens. A token that is down, or a key that is refused,
  // makes its identities unavailable and is logged; the server serves the
  // others. Borrows the clock. Tests have Apple-like roots of their own.
  // Errors: INVALID_ARGUMENT or FAILED_PRECONDITION REASON_BAD_CONFIG.
  static absl::StatusOr<std::unique_ptr<Server>> Start(
      const ServerConfig& config, const IdentityStore::TokenFactory& make_token,
      const Clock& clock,
      bool (*is_apple_root)(const Certificate&) = &IsAppleRoot);

  // Everything of Start() that needs no token and no socket: what the files
  // of the configuration hold.
  static absl::Status CheckConfig(const ServerConfig& config,
                                  const IdentityStore::TokenFactory& make_token,
                                  const Clock& clock);

  // Drains when nobody did.
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // "127.0.0.1:41235".
  const std::string& bound_address() const;

  // Ends well: health says NOT_SERVING, new requests are refused with
  // REASON_DRAINING, those that were taken are answered, then the connections
  // are closed. Takes at most LimitsConfig::drain.
  void Drain();

 private:
  struct Parts;

  explicit Server(std::unique_ptr<Parts> parts);

  std::unique_ptr<Parts> parts_;
};

}  // namespace codeseal

#endif  // CODESEAL_SERVER_SERVER_H_
