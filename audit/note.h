// A note is text with signatures beneath it, as people and programs can read
// it. Checkpoints are notes.
//
//   text + key -> [note] -> file, reply -> checked with the key's public half
//
// Spec: c2sp.org/signed-note. Two of its signature types: 0x02, ECDSA, for the
// log, because every token makes it; 0x04, timestamped Ed25519 cosignatures
// (c2sp.org/tlog-cosignature), for witnesses.

#ifndef CODESEAL_AUDIT_NOTE_H_
#define CODESEAL_AUDIT_NOTE_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "codesign/base/bytes.h"

namespace codeseal::audit {

inline constexpr size_t kMaxNoteSize = 64 << 10;

struct NoteSignature {
  std::string name;     // of the key
  uint32_t key_id = 0;  // identifies it together with the name
  Bytes signature;      // what the key's type says

  friend bool operator==(const NoteSignature&, const NoteSignature&) = default;
};

struct Note {
  std::string text;  // ends with a newline
  std::vector<NoteSignature> signatures;

  friend bool operator==(const Note&, const Note&) = default;
};

// Checks no signature. At most kMaxNoteSize bytes.
// Errors: INVALID_ARGUMENT REASON_BAD_AUDIT_LOG.
absl::StatusOr<Note> ParseNote(std::string_view bytes);
std::string FormatNote(const Note& note);

// The public half of a key with the name under which it signs. Copyable,
// immutable.
class NoteKey {
 public:
  enum class Type : uint8_t {
    kEcdsa = 0x02,               // DER signature over SHA-256 of the text
    kEd25519Cosignature = 0x04,  // of a witness: time, then the signature
  };

  // `public_key`: a SubjectPublicKeyInfo for kEcdsa, 32 bytes for the other.
  // Errors: INVALID_ARGUMENT REASON_BAD_AUDIT_LOG for a name that is empty or
  // holds blanks or '+'; REASON_KEY_UNSUPPORTED.
  static absl::StatusOr<NoteKey> Create(std::string name, Type type,
                                        Bytes public_key);
  // "NAME+KEYID+BASE64", as Format() writes it: a "verifier key".
  static absl::StatusOr<NoteKey> Parse(std::string_view text);
  std::string Format() const;

  const std::string& name() const { return name_; }
  Type type() const { return type_; }
  uint32_t id() const { return id_; }
  const Bytes& public_key() const { return public_key_; }

  // Checks this key's signature on the note; the time of a cosignature.
  // Errors: FAILED_PRECONDITION REASON_BAD_NOTE_SIGNATURE, also when the note
  // has none of this key.
  absl::StatusOr<std::optional<absl::Time>> Check(const Note& note) const;

 private:
  NoteKey() = default;

  std::string name_;
  Type type_ = Type::kEcdsa;
  Bytes public_key_;
  uint32_t id_ = 0;
};

// The bytes that a witness signs for `text` at `time`, and the signature line
// around what its key made of them.
std::string CosignatureMessage(std::string_view text, absl::Time time);
Bytes EncodeCosignature(absl::Time time, ByteView ed25519_signature);

}  // namespace codeseal::audit

#endif  // CODESEAL_AUDIT_NOTE_H_
