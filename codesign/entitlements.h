// Entitlements: what the code may do. The author gives a property list; the
// signature stores it twice, as given and in DER.
//
//   plist -> [entitlements blob, DER blob] -> special slots 5 and 7
//
// Spec: Security signer.cpp, cookEntitlements; CoreEntitlements for the DER
//       form. Rules EN-*.

#ifndef CODESEAL_CODESIGN_ENTITLEMENTS_H_
#define CODESEAL_CODESIGN_ENTITLEMENTS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "codesign/base/bytes.h"
#include "codesign/bundle/property_list.h"

namespace codeseal {

// Limits on what is read; a real list has some dozen keys.
inline constexpr size_t kMaxEntitlementsSize = size_t{1} << 20;  // bytes
inline constexpr size_t kMaxEntitlementsDepth = 32;  // of the DER form

// The blob for slot 5: a header around `plist` exactly as given; or `plist`
// itself when it is such a blob already. The content must parse.
// Errors: INVALID_ARGUMENT REASON_BAD_ENTITLEMENTS.
absl::StatusOr<Bytes> BuildEntitlements(ByteView plist);

// The dictionary in a blob of slot 5. Stricter than Apple's tools where one
// text could be read in two ways: keys given twice and bytes that are not UTF-8
// are refused, and so are binary property lists.
// Errors: INVALID_ARGUMENT REASON_BAD_ENTITLEMENTS; what UnwrapBlob() returns.
absl::StatusOr<PlistDict> ParseEntitlements(ByteView blob);

// The blob for slot 7, of booleans, integers, strings, data, arrays and
// dictionaries.
// Errors: INVALID_ARGUMENT REASON_BAD_ENTITLEMENTS for reals and dates.
absl::StatusOr<Bytes> BuildEntitlementsDer(const PlistDict& entitlements);

// The dictionary in a blob of slot 7, or of the constraint slots when `magic`
// says so. Also reads the form of 2020 and 2021, in which dictionaries are
// sets. Any other encoding than DER is refused.
// Errors: INVALID_ARGUMENT REASON_BAD_ENTITLEMENTS; what UnwrapBlob() returns.
absl::StatusOr<PlistDict> ParseEntitlementsDer(ByteView blob);
absl::StatusOr<PlistDict> ParseEntitlementsDer(ByteView blob, uint32_t magic);

// Whether the blobs of slots 5 and 7 say the same. Older systems obey the one,
// newer the other: a difference is an attack or a fault.
// Errors: those of the parsers; INVALID_ARGUMENT REASON_BAD_ENTITLEMENTS with
// the first key that differs.
absl::Status CheckEntitlementsAgree(ByteView blob, ByteView der_blob);

// Bits of execSegFlags, CS_EXECSEG_*.
enum ExecSegmentFlag : uint64_t {
  kExecSegmentMainBinary = 0x1,
  kExecSegmentAllowUnsigned = 0x10,
  kExecSegmentDebugger = 0x20,
  kExecSegmentJit = 0x40,
  kExecSegmentSkipLibraryValidation = 0x80,
  kExecSegmentCanLoadCdHash = 0x100,
  kExecSegmentCanExecuteCdHash = 0x200,
};

// The bits that entitlements call for. kExecSegmentMainBinary is not theirs.
uint64_t ExecSegmentFlags(const PlistDict& entitlements);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_ENTITLEMENTS_H_
