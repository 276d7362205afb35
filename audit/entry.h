// One line of the log: a fact about a signature, as JSON, so that anybody can
// read it without our code.
//
//   request -> [intent] -> token signs -> [signed | failed] -> reply
//              crash in between: [indeterminate], at the next start
//   rotation, a PIN hold cleared, a grant -> [event]
//
// The signed entry repeats the facts of its intent: alone it is the evidence.
// A signature whose reply was held back, and that leaves later with another
// timestamp, has two signed entries with the same signature_sha256.

#ifndef CODESEAL_AUDIT_ENTRY_H_
#define CODESEAL_AUDIT_ENTRY_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "codesign/base/bytes.h"

namespace codeseal::audit {

enum class EntryKind : uint8_t {
  kStarted,        // a server opened the log
  kIntent,         // a key is about to be used
  kSigned,         // it was, and the reply may leave
  kFailed,         // nothing left: no signature, or one that was withheld
  kIndeterminate,  // a crash came between: whether it was is not known
  kEvent,          // something else that an auditor wants to know
};
std::string_view EntryKindName(EntryKind kind);  // "signed"

// Texts are UTF-8; digests are lower-case hexadecimal; empty means absent.
struct Entry {
  EntryKind kind = EntryKind::kStarted;
  absl::Time time;
  std::string policy;  // SHA-256 of the configuration in force
  std::string server;  // version of codeseald, of kStarted

  // Of every kind but kStarted; of an event those that it is about.
  std::string request_id;
  std::string client;              // as its certificate names it
  std::string client_certificate;  // SHA-256
  std::string identity;
  std::string identity_version;
  std::string certificate;  // SHA-256 of the signer's
  std::string identifier;   // of the code or the package
  std::vector<std::string> cdhashes;
  std::string checksum;         // of a package's table of contents
  std::string artifact;         // path; the client's own words
  std::string architecture;     // the client's own words
  std::string artifact_sha256;  // the client's own words
  std::string decision;         // "allowed", and by what

  std::optional<uint64_t> intent;  // index of the intent, of the last three
  std::string cms_sha256;          // of kSigned: of the CMS that was returned
  std::string signature_sha256;    // of kSigned: of what the key made in it
  std::string reason;              // of what failed: the error's Reason

  // Of kEvent; `client` did it.
  std::string event;    // "identity_activated"
  std::string subject;  // a token, a grant
  std::string detail;   // in words; of a ceremony, a line of its transcript

  friend bool operator==(const Entry&, const Entry&) = default;
};

// At most kMaxEntrySize bytes: texts that are too long are cut.
Bytes EncodeEntry(const Entry& entry);

// Ignores keys that it does not know: later versions may have more.
// Errors: INVALID_ARGUMENT REASON_BAD_AUDIT_LOG.
absl::StatusOr<Entry> ParseEntry(ByteView bytes);

// Whether the bytes are JSON at all, as every entry that was written whole is.
bool IsWholeEntry(ByteView bytes);

}  // namespace codeseal::audit

#endif  // CODESEAL_AUDIT_ENTRY_H_
