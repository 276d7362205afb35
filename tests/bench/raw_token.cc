#include "tests/bench/raw_token.h"

#include <dlfcn.h>
#include <p11-kit/pkcs11.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace codeseal::bench {
namespace {

[[noreturn]] void Die(const char* what, unsigned long value) {
  std::fprintf(stderr, "raw token: %s: %#lx\n", what, value);
  std::exit(1);
}

void Check(CK_RV rv, const char* what) {
  if (rv != CKR_OK) Die(what, rv);
}

// DigestInfo of SHA-256 without the digest (RFC 8017, section 9.2, note 1).
constexpr std::array<uint8_t, 19> kSha256DigestInfo = {
    0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01,
    0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20};
constexpr size_t kDigestSize = 32;
constexpr size_t kMaxSignatureSize = 512;  // RSA-4096

// CK_TOKEN_INFO.label is padded with blanks.
bool HasLabel(const CK_TOKEN_INFO& token, const std::string& label) {
  std::string padded = label;
  padded.resize(sizeof(token.label), ' ');
  return std::equal(padded.begin(), padded.end(), token.label,
                    [](char a, unsigned char b) {
                      return static_cast<unsigned char>(a) == b;
                    });
}

}  // namespace

struct RawToken::Impl {
  CK_FUNCTION_LIST* module = nullptr;
  CK_MECHANISM mechanism{};
  Bytes input;
  std::vector<CK_SESSION_HANDLE> sessions;
  CK_OBJECT_HANDLE key = 0;

  CK_SLOT_ID FindSlot(const std::string& label) const {
    CK_ULONG count = 0;
    Check(module->C_GetSlotList(CK_TRUE, nullptr, &count), "C_GetSlotList");
    std::vector<CK_SLOT_ID> slots(count);
    Check(module->C_GetSlotList(CK_TRUE, slots.data(), &count),
          "C_GetSlotList");
    for (const CK_SLOT_ID slot : slots) {
      CK_TOKEN_INFO token{};
      Check(module->C_GetTokenInfo(slot, &token), "C_GetTokenInfo");
      if (HasLabel(token, label)) return slot;
    }
    Die("no such token; tokens seen", count);
  }

  CK_OBJECT_HANDLE FindKey(Bytes id) const {
    CK_OBJECT_CLASS key_class = CKO_PRIVATE_KEY;
    std::array<CK_ATTRIBUTE, 2> wanted = {
        CK_ATTRIBUTE{CKA_CLASS, &key_class, sizeof(key_class)},
        CK_ATTRIBUTE{CKA_ID, id.data(), id.size()}};
    CK_OBJECT_HANDLE found = 0;
    CK_ULONG count = 0;
    Check(module->C_FindObjectsInit(sessions[0], wanted.data(), wanted.size()),
          "C_FindObjectsInit");
    Check(module->C_FindObjects(sessions[0], &found, 1, &count),
          "C_FindObjects");
    Check(module->C_FindObjectsFinal(sessions[0]), "C_FindObjectsFinal");
    if (count != 1) Die("no such key; keys found", count);
    return found;
  }
};

RawToken::RawToken(const Options& options) : impl_(std::make_unique<Impl>()) {
  // Never unloaded: libraries of vendors leave threads behind.
  void* const library = dlopen(options.module.c_str(), RTLD_NOW | RTLD_LOCAL);
  const auto get_functions = library == nullptr
                                 ? nullptr
                                 : reinterpret_cast<CK_C_GetFunctionList>(
                                       dlsym(library, "C_GetFunctionList"));
  if (get_functions == nullptr) Die("cannot load the module", 0);
  Check(get_functions(&impl_->module), "C_GetFunctionList");
  CK_C_INITIALIZE_ARGS arguments{};
  arguments.flags = CKF_OS_LOCKING_OK;
  Check(impl_->module->C_Initialize(&arguments), "C_Initialize");

  const CK_SLOT_ID slot = impl_->FindSlot(options.token_label);
  for (size_t i = 0; i < options.session_count; ++i) {
    CK_SESSION_HANDLE session = 0;
    Check(impl_->module->C_OpenSession(slot, CKF_SERIAL_SESSION, nullptr,
                                       nullptr, &session),
          "C_OpenSession");
    impl_->sessions.push_back(session);
  }
  std::string pin = options.pin;
  Check(impl_->module->C_Login(impl_->sessions[0], CKU_USER,
                               reinterpret_cast<unsigned char*>(pin.data()),
                               pin.size()),
        "C_Login");
  impl_->key = impl_->FindKey(options.key_id);

  if (options.mechanism == RawMechanism::kRsaPkcs1) {
    impl_->mechanism.mechanism = CKM_RSA_PKCS;
    Append(impl_->input, kSha256DigestInfo);
  } else {
    impl_->mechanism.mechanism = CKM_ECDSA;
  }
  impl_->input.resize(impl_->input.size() + kDigestSize, 0x5a);
}

RawToken::~RawToken() { impl_->module->C_Finalize(nullptr); }

size_t RawToken::session_count() const { return impl_->sessions.size(); }

void RawToken::Sign(size_t session) {
  CK_MECHANISM mechanism = impl_->mechanism;
  Bytes input = impl_->input;
  std::array<uint8_t, kMaxSignatureSize> signature{};
  CK_ULONG size = signature.size();
  Check(impl_->module->C_SignInit(impl_->sessions[session], &mechanism,
                                  impl_->key),
        "C_SignInit");
  Check(impl_->module->C_Sign(impl_->sessions[session], input.data(),
                              input.size(), signature.data(), &size),
        "C_Sign");
}

}  // namespace codeseal::bench
