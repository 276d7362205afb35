// Tokens of four PKCS#11 modules, made afresh without hardware: what one module
// forgives, another one does not.
//
//   SoftHSM2              files
//   NSS softokn           an SQLite file, as Firefox has it
//   tpm2-pkcs11           a TPM (swtpm) behind a resource manager (tpm2-abrmd)
//   p11-kit remoting      SoftHSM2 in another process

#ifndef CODESEAL_TESTS_SUPPORT_PKCS11_MODULES_H_
#define CODESEAL_TESTS_SUPPORT_PKCS11_MODULES_H_

#include <memory>
#include <optional>
#include <string>

#include "hsm/token.h"

namespace codeseal::testing {

// Sets what the module reads from the environment: one object at a time.
// Failures abort the test program.
class ModuleToken {
 public:
  virtual ~ModuleToken() = default;

  // An empty token.
  virtual TokenConfig config() const = 0;

  // An RSA-2048 key that was there from the start, for a module that signs with
  // none that Token::GenerateKey() makes.
  virtual std::optional<KeyReference> RsaKey() const { return std::nullopt; }

  // Kills the processes behind the module and starts them again; false when it
  // has none.
  virtual bool Restart() { return false; }
};

struct ModuleKind {
  const char* name;
  std::string (*missing_because)();  // empty: this machine has all it needs
  std::unique_ptr<ModuleToken> (*make)();
};

inline constexpr int kModuleKindCount = 4;
extern const ModuleKind kModuleKinds[kModuleKindCount];

}  // namespace codeseal::testing

#endif  // CODESEAL_TESTS_SUPPORT_PKCS11_MODULES_H_
