// The little ASN.1 that a CMS needs: elements are read where they lie, so that
// what was signed is hashed as it was stored, and written in DER.
//
// Reading takes BER as Apple writes it (definite or indefinite lengths, tags
// below 31). Every length is checked against what encloses it, and nesting is
// limited.
//
// Spec: X.690, sections 8.1 and 10.

#ifndef CODESEAL_CODESIGN_CMS_ASN1_H_
#define CODESEAL_CODESIGN_CMS_ASN1_H_

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "codesign/base/bytes.h"

namespace codeseal::asn1 {

// Identifier octets.
inline constexpr uint8_t kInteger = 0x02;
inline constexpr uint8_t kOctetString = 0x04;
inline constexpr uint8_t kNull = 0x05;
inline constexpr uint8_t kObjectIdentifier = 0x06;
inline constexpr uint8_t kUtcTime = 0x17;
inline constexpr uint8_t kGeneralizedTime = 0x18;
inline constexpr uint8_t kSequence = 0x30;
inline constexpr uint8_t kSet = 0x31;
inline constexpr uint8_t kContext0 = 0xa0;           // [0], constructed
inline constexpr uint8_t kContext1 = 0xa1;           // [1], constructed
inline constexpr uint8_t kContext0Primitive = 0x80;  // [0], primitive

// One element; both views borrow from the bytes that were read.
struct Element {
  uint8_t tag = 0;      // the identifier octet
  ByteView raw;         // header, content and end-of-contents
  ByteView content;     // without them
  uint64_t offset = 0;  // of raw[0], bytes from the start of the outermost
  bool indefinite = false;
};

// Reads the elements of one level in order. Borrows the bytes.
class Reader {
 public:
  // The outermost level: all of `bytes`.
  explicit Reader(ByteView bytes) : rest_(bytes) {}
  // The level inside `element`.
  explicit Reader(const Element& element);

  bool at_end() const { return rest_.empty(); }
  // The identifier octet that comes next; 0 at the end.
  uint8_t next_tag() const { return rest_.empty() ? 0 : rest_[0]; }
  uint64_t offset() const { return offset_; }

  // The next element. `what` names it in the error.
  // Errors: INVALID_ARGUMENT REASON_BAD_CMS with the offset.
  absl::StatusOr<Element> Next(std::string_view what);
  // The next element, which must have `tag`.
  absl::StatusOr<Element> Take(uint8_t tag, std::string_view what);

 private:
  ByteView rest_;
  uint64_t offset_ = 0;
};

// REASON_BAD_CMS at `offset`.
absl::Status Malformed(uint64_t offset, std::string_view message);

// UTCTime (two-digit years from 1950 to 2049) or GeneralizedTime, in UTC with
// seconds; nullopt for any other form.
std::optional<absl::Time> ReadTime(const Element& element);

// DER. `parts` are joined and get the header that fits.
Bytes Encode(uint8_t tag, std::initializer_list<ByteView> parts);
// A SET OF: sorts its already encoded members.
Bytes EncodeSetOf(uint8_t tag, std::vector<Bytes> members);
// UTCTime until 2049, GeneralizedTime after.
Bytes EncodeTime(absl::Time time);

}  // namespace codeseal::asn1

#endif  // CODESEAL_CODESIGN_CMS_ASN1_H_
