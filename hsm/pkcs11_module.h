// A PKCS#11 module, loaded and initialised. In the worker process only.

#ifndef CODESEAL_HSM_PKCS11_MODULE_H_
#define CODESEAL_HSM_PKCS11_MODULE_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "hsm/pkcs11.h"

namespace codeseal {

// Thread-compatible; the functions it leads to are as thread-safe as
// single_threaded() says.
class Pkcs11Module {
 public:
  // Loads the shared object `path` and calls C_Initialize, with
  // CKF_OS_LOCKING_OK if `os_locking`. The object is never unloaded: modules
  // leave threads and exit handlers behind.
  // Errors: FAILED_PRECONDITION REASON_MODULE_LOAD; those of C_Initialize.
  static absl::StatusOr<std::unique_ptr<Pkcs11Module>> Load(
      const std::string& path, const std::string& init_args, bool os_locking);

  // C_Finalize, then C_Initialize: what some modules need after their device
  // came back. No call may be running.
  absl::Status Reinitialize();
  void Finalize();

  // The module does not lock for itself: one call at a time.
  bool single_threaded() const { return single_threaded_; }

  CK_FUNCTION_LIST* operator->() const { return functions_; }

 private:
  Pkcs11Module(CK_FUNCTION_LIST* functions, std::string init_args,
               bool os_locking)
      : functions_(functions),
        init_args_(std::move(init_args)),
        single_threaded_(!os_locking) {}
  absl::Status Initialize();

  CK_FUNCTION_LIST* functions_;
  std::string init_args_;
  bool single_threaded_;
};

}  // namespace codeseal

#endif  // CODESEAL_HSM_PKCS11_MODULE_H_
