// Key ceremonies: what is done with keys by several people around a table, from
// one file that they can read beforehand, with a record of what happened.
//
//   ceremony.yaml -> [Ceremony] -> token, files; Transcript
//
// A ceremony never replaces anything. Run again, it finds what it did and goes
// on where it stopped; what is there but not of its making is refused.

#ifndef CODESEAL_SERVER_CEREMONY_H_
#define CODESEAL_SERVER_CEREMONY_H_

#include <cstdint>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "hsm/token.h"
#include "server/admin_client.h"
#include "server/config.h"
#include "server/opened_token.h"
#include "server/transcript.h"

namespace codeseal {

enum class CeremonyAction : uint8_t {
  kGenerate,           // a key inside the token
  kRequest,            // "csr": a certificate request for a key
  kSelfSign,           // a certificate that the key signs itself
  kImportCertificate,  // from a file, beside its key
  kAttest,             // check and keep the vendor's word about a key
};

struct CeremonyStep {
  CeremonyAction action = CeremonyAction::kGenerate;
  KeyReference key;
  std::string algorithm = "rsa2048";  // kGenerate
  std::string subject;                // kRequest, kSelfSign: "CN=...,O=..."
  uint32_t days = 365;                // kSelfSign
  std::string out;                    // file to write; may be empty for kAttest
  std::string certificate;            // kImportCertificate: PEM file
  // kAttest: PEM files. Without `attestation`, what the token stores.
  std::string attestation;
  std::string intermediates;
  std::string vendor_roots;
};

struct Ceremony {
  std::string name;
  std::vector<std::string> operators;  // who was there
  TokenArguments token;
  std::string transcript;  // path
  std::vector<CeremonyStep> steps;
  std::string file_sha256;  // of the file's text
};

struct ParsedCeremony {
  Ceremony ceremony;  // complete only when there are no problems
  std::vector<ConfigProblem> problems;
};

// Reads YAML text, as strictly as the server's configuration. Relative paths
// count from `folder`.
ParsedCeremony ParseCeremony(std::string_view text, const std::string& folder);

// Errors: those of files; INVALID_ARGUMENT REASON_BAD_CONFIG with all problems.
absl::StatusOr<Ceremony> LoadCeremony(const std::string& path);

// Runs the steps in order and stops at the first that fails. Says on `out` what
// each did. The transcript gets an entry before and after each step; when that
// can't be written, the ceremony stops.
// Errors: FAILED_PRECONDITION REASON_CEREMONY when what is there is not the
// ceremony's, or a file is awaited; those of hsm/.
absl::Status RunCeremony(const Ceremony& ceremony, Transcript& transcript,
                         std::ostream& out);

// What would be done, for reading aloud.
void DescribeCeremony(const Ceremony& ceremony, std::ostream& out);

// Writes the transcript at `path` into the audit log of a running server. Done
// again, it is written again.
// Errors: those of ReadTranscript(), OpenAdminChannel() and the server.
absl::Status RecordCeremony(const AdminConnection& server,
                            const std::string& path, std::ostream& out);

}  // namespace codeseal

#endif  // CODESEAL_SERVER_CEREMONY_H_
