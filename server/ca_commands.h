// `codeseald ca ...`: a certificate authority of one's own, for code that need
// not satisfy Apple. Its root key is generated inside a token and never leaves
// it; it issues code-signing leaves and nothing else.
//
//   ca init -> DIR/root.pem, the key and the root certificate on the token
//   ca issue -> DIR/issued/SERIAL.pem, the leaf beside its key
//
// The folder holds public things only. It is the record of what was issued.

#ifndef CODESEAL_SERVER_CA_COMMANDS_H_
#define CODESEAL_SERVER_CA_COMMANDS_H_

#include <cstdint>
#include <ostream>
#include <string>

#include "absl/status/status.h"
#include "server/opened_token.h"

namespace codeseal {

// All print to `out` what was asked for, and nothing when they fail. Files are
// written beside their name and renamed.
// Errors: those of hsm/token.h, hsm/certificate_issuer.h and StagedFile;
// INVALID_ARGUMENT STAGE_USAGE REASON_USAGE.

struct CaInitArguments {
  TokenArguments key;  // of the root; must not be there yet
  std::string folder;  // made if need be; without a root yet
  std::string algorithm = "p256";
  std::string subject;
  uint32_t days = 3650;
  // After an init that was interrupted: the key is there, the root is not.
  bool use_existing_key = false;
};
// Prints the root certificate, PEM.
absl::Status InitCa(const CaInitArguments& arguments, std::ostream& out);

struct CaIssueArguments {
  TokenArguments key;  // of the root
  std::string folder;
  // Whom to certify: a request of any key, or a key on the same token, or with
  // a URI of its own on another.
  std::string request_path;
  TokenArguments leaf;
  std::string subject;  // with a key
  uint32_t days = 365;
};
// Prints the chain, leaf and root, PEM: what `chain` of an identity version in
// the configuration of codeseald wants.
absl::Status IssueFromCa(const CaIssueArguments& arguments, std::ostream& out);

// One line for each certificate that was issued: serial number, SHA-1, end,
// common name.
absl::Status ListCa(const std::string& folder, bool json, std::ostream& out);

}  // namespace codeseal

#endif  // CODESEAL_SERVER_CA_COMMANDS_H_
