#include "hsm/pkcs11_module.h"

#include <dlfcn.h>

#include <utility>

#include "codesign/base/error.h"
#include "hsm/ck_rv.h"

namespace codeseal {
namespace {

absl::Status LoadError(const std::string& message) {
  return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_TOKEN,
                   v1::REASON_MODULE_LOAD, message);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Pkcs11Module>> Pkcs11Module::Load(
    const std::string& path, const std::string& init_args, bool os_locking) {
  void* object = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (object == nullptr) {
    const char* reason = dlerror();
    return LoadError("cannot load the PKCS#11 module: " +
                     std::string(reason == nullptr ? path.c_str() : reason));
  }
  const auto get_functions = reinterpret_cast<CK_C_GetFunctionList>(
      dlsym(object, "C_GetFunctionList"));
  CK_FUNCTION_LIST* functions = nullptr;
  if (get_functions == nullptr || get_functions(&functions) != CKR_OK ||
      functions == nullptr) {
    return LoadError(path + " is not a PKCS#11 module");
  }
  std::unique_ptr<Pkcs11Module> module(
      new Pkcs11Module(functions, init_args, os_locking));
  RETURN_IF_ERROR(module->Initialize());
  return module;
}

absl::Status Pkcs11Module::Initialize() {
  // NSS reads one pointer behind the standard struct: its own LibraryParameters
  // stand where the standard has pReserved, which comes after them.
  struct {
    CK_C_INITIALIZE_ARGS standard{};
    void* nss_reserved = nullptr;
  } args;
  args.standard.flags = single_threaded_ ? 0 : CKF_OS_LOCKING_OK;
  if (!init_args_.empty()) args.standard.pReserved = init_args_.data();
  CK_RV rv = functions_->C_Initialize(&args);
  if (rv == CKR_CANT_LOCK || rv == CKR_NEED_TO_CREATE_THREADS) {
    args.standard.flags = 0;
    rv = functions_->C_Initialize(&args);
    single_threaded_ = true;
  }
  if (rv == CKR_OK || rv == CKR_CRYPTOKI_ALREADY_INITIALIZED) {
    return absl::OkStatus();
  }
  return TokenError(rv, "C_Initialize");
}

absl::Status Pkcs11Module::Reinitialize() {
  Finalize();
  return Initialize();
}

void Pkcs11Module::Finalize() { functions_->C_Finalize(nullptr); }

}  // namespace codeseal
