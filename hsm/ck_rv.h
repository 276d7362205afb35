// What a PKCS#11 return value means: its name, what the worker does about it,
// and what the caller is told. One table, ck_rv.cc.

#ifndef CODESEAL_HSM_CK_RV_H_
#define CODESEAL_HSM_CK_RV_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "codesign/base/error.h"

namespace codeseal {

// The worker's answer to a failed call.
enum class TokenAction : uint8_t {
  kFail,        // asking again would not help
  kCheckState,  // may hide a lost login: ask for the session's state, then fail
  kNewSession,  // as kCheckState, but try once more in a new session
  kReopen,      // sessions and login are gone: open the token anew
  kRestart,     // the module is in a state that cannot be: initialise it anew
};

// No module returns this: a search found no key where there was one, without an
// error.
inline constexpr unsigned long kKeyVanished = 1UL << 40;

struct CkRvRule {
  unsigned long rv;  // CK_RV
  const char* name;  // "CKR_PIN_INCORRECT"
  TokenAction action;
  absl::StatusCode code;
  v1::Reason reason;
};

// The rule for `rv`; for codes that the table does not know, the one of
// CKR_GENERAL_ERROR.
const CkRvRule& FindCkRv(unsigned long rv);

// "CKR_DEVICE_ERROR", or "CKR_0x80000001" for codes without a name.
std::string CkRvName(unsigned long rv);

// The Status for `call` ("C_Sign") having returned `rv`, which is not CKR_OK.
absl::Status TokenError(unsigned long rv, std::string_view call);

}  // namespace codeseal

#endif  // CODESEAL_HSM_CK_RV_H_
