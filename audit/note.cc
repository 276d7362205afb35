#include "audit/note.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "absl/strings/str_format.h"
#include "audit/text.h"
#include "codesign/base/digest.h"
#include "codesign/base/endian.h"
#include "codesign/base/error.h"
#include "codesign/base/utf8.h"
#include "codesign/cms/log_signature.h"

namespace codeseal::audit {
namespace {

constexpr std::string_view kSignaturePrefix = "\xe2\x80\x94 ";  // U+2014
constexpr size_t kMaxSignatureCount = 64;
constexpr size_t kKeyIdSize = 4;
constexpr size_t kTimeSize = 8;

absl::Status BadNote(std::string_view message) {
  return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_AUDIT,
                   v1::REASON_BAD_AUDIT_LOG, message);
}

absl::Status BadSignature(const NoteKey& key, std::string_view message) {
  return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_AUDIT,
                   v1::REASON_BAD_NOTE_SIGNATURE,
                   "key " + key.name() + ": " + std::string(message));
}

// Names are UTF-8; of its blanks only the ASCII one is looked for, since a name
// of ours is a URL without scheme.
bool IsKeyName(std::string_view name) {
  return !name.empty() && name.find_first_of(" +\n") == std::string_view::npos;
}

bool HasControlCharacter(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](char c) {
    return static_cast<uint8_t>(c) < 0x20 && c != '\n';
  });
}

uint32_t FirstWord(ByteView digest) { return BigEndianReader(digest).U32(); }

uint32_t ComputeKeyId(const std::string& name, NoteKey::Type type,
                      const Bytes& public_key) {
  Bytes bytes;
  if (type != NoteKey::Type::kEcdsa) {
    bytes = ToBytes(name + "\n");
    bytes.push_back(static_cast<uint8_t>(type));
  }  // An ECDSA key's id does not depend on its name.
  Append(bytes, public_key);
  return FirstWord(ComputeDigest(DigestKind::kSha256, bytes));
}

std::optional<NoteSignature> ParseSignatureLine(std::string_view line) {
  if (!line.starts_with(kSignaturePrefix)) return std::nullopt;
  line.remove_prefix(kSignaturePrefix.size());
  const size_t blank = line.find(' ');
  if (blank == std::string_view::npos) return std::nullopt;
  const std::optional<Bytes> bytes = DecodeBase64(line.substr(blank + 1));
  if (!bytes.has_value() || bytes->size() <= kKeyIdSize) return std::nullopt;
  NoteSignature signature;
  signature.name = std::string(line.substr(0, blank));
  signature.key_id = FirstWord(*bytes);
  signature.signature.assign(bytes->begin() + kKeyIdSize, bytes->end());
  if (!IsKeyName(signature.name)) return std::nullopt;
  return signature;
}

}  // namespace

absl::StatusOr<Note> ParseNote(std::string_view bytes) {
  if (bytes.size() > kMaxNoteSize) {  // NT-1
    return BadNote("a note has at most 64 KiB");
  }
  if (!IsUtf8(bytes) || HasControlCharacter(bytes)) {  // NT-2
    return BadNote("a note is UTF-8 text without control characters");
  }
  const size_t separator = bytes.rfind("\n\n");
  if (separator == std::string_view::npos) {  // NT-3
    return BadNote("a note has an empty line between text and signatures");
  }
  Note note;
  note.text = std::string(bytes.substr(0, separator + 1));
  std::string_view rest = bytes.substr(separator + 2);
  while (!rest.empty()) {
    const std::optional<std::string_view> line = TakeLine(rest);
    const std::optional<NoteSignature> signature =
        line.has_value() ? ParseSignatureLine(*line) : std::nullopt;
    if (!signature.has_value()) {  // NT-4
      return BadNote("a signature line is malformed");
    }
    note.signatures.push_back(*signature);
  }
  if (note.signatures.empty() ||  // NT-5
      note.signatures.size() > kMaxSignatureCount) {
    return BadNote("a note has 1 to 64 signatures");
  }
  return note;
}

std::string FormatNote(const Note& note) {
  std::string bytes = note.text + "\n";
  for (const NoteSignature& each : note.signatures) {
    BigEndianWriter out;
    out.U32(each.key_id);
    out.Raw(each.signature);
    bytes += std::string(kSignaturePrefix) + each.name + " " +
             EncodeBase64(std::move(out).Take()) + "\n";
  }
  return bytes;
}

absl::StatusOr<NoteKey> NoteKey::Create(std::string name, Type type,
                                        Bytes public_key) {
  if (!IsKeyName(name) || !IsUtf8(name) || HasControlCharacter(name)) {
    return BadNote(
        "a key's name is not empty and has no blank, '+' or newline");
  }
  switch (type) {
    case Type::kEcdsa:
      RETURN_IF_ERROR(CheckEcPublicKey(public_key));
      break;
    case Type::kEd25519Cosignature:
      if (public_key.size() == kEd25519PublicKeySize) break;
      return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_AUDIT,
                       v1::REASON_KEY_UNSUPPORTED,
                       "an Ed25519 public key has 32 bytes");
    default:
      return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_AUDIT,
                       v1::REASON_KEY_UNSUPPORTED,
                       "keys are of type 2 (ECDSA) or 4 (Ed25519 cosignature)");
  }
  NoteKey key;
  key.name_ = std::move(name);
  key.type_ = type;
  key.public_key_ = std::move(public_key);
  key.id_ = ComputeKeyId(key.name_, type, key.public_key_);
  return key;
}

absl::StatusOr<NoteKey> NoteKey::Parse(std::string_view text) {
  while (text.ends_with('\n')) text.remove_suffix(1);
  const size_t first = text.find('+');
  const size_t second = first == std::string_view::npos
                            ? std::string_view::npos
                            : text.find('+', first + 1);
  if (second == std::string_view::npos) {
    return BadNote("want a verifier key, NAME+KEYID+BASE64");
  }
  const std::optional<Bytes> bytes = DecodeBase64(text.substr(second + 1));
  if (!bytes.has_value() || bytes->empty()) {
    return BadNote("the verifier key's last part is no base64");
  }
  ASSIGN_OR_RETURN(NoteKey key,
                   Create(std::string(text.substr(0, first)),
                          static_cast<Type>(bytes->front()),
                          Bytes(bytes->begin() + 1, bytes->end())));
  if (key.Format() != text) {
    return BadNote("the verifier key's id is not that of its key");
  }
  return key;
}

std::string NoteKey::Format() const {
  Bytes bytes = {static_cast<uint8_t>(type_)};
  Append(bytes, public_key_);
  return name_ + absl::StrFormat("+%08x+", id_) + EncodeBase64(bytes);
}

absl::StatusOr<std::optional<absl::Time>> NoteKey::Check(
    const Note& note) const {
  std::optional<absl::Time> time;
  bool is_signed = false;
  for (const NoteSignature& each : note.signatures) {
    if (each.name != name_ || each.key_id != id_) continue;
    ByteView signature = each.signature;
    absl::Status verdict;
    if (type_ == Type::kEcdsa) {
      verdict = CheckEcdsaSha256(public_key_, AsBytes(note.text), signature);
    } else {
      if (signature.size() != kTimeSize + kEd25519SignatureSize) {
        return BadSignature(*this, "a cosignature has 72 bytes");
      }
      const uint64_t seconds = BigEndianReader(signature).U64();
      if (seconds > uint64_t{1} << 40) {  // farther than any clock of ours
        return BadSignature(*this, "the cosignature's time is out of range");
      }
      time = absl::FromUnixSeconds(static_cast<int64_t>(seconds));
      verdict = CheckEd25519(public_key_,
                             AsBytes(CosignatureMessage(note.text, *time)),
                             signature.subspan(kTimeSize));
    }
    if (!verdict.ok()) return BadSignature(*this, Message(verdict));
    is_signed = true;
  }
  if (!is_signed) return BadSignature(*this, "the note has no signature of it");
  return time;
}

std::string CosignatureMessage(std::string_view text, absl::Time time) {
  return "cosignature/v1\ntime " + std::to_string(absl::ToUnixSeconds(time)) +
         "\n" + std::string(text);
}

Bytes EncodeCosignature(absl::Time time, ByteView ed25519_signature) {
  BigEndianWriter out;
  out.U64(static_cast<uint64_t>(absl::ToUnixSeconds(time)));
  out.Raw(ed25519_signature);
  return std::move(out).Take();
}

}  // namespace codeseal::audit
