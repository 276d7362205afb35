// Spec: provider-keymgmt(7), provider-signature(7) of OpenSSL 3.0.
//
// What is here is what libcrypto needs for CMS, certificate requests and
// certificates; leaving a function out breaks a test of provider_test.cc. Three
// rules make it work beside the default provider:
//   PV-1  `default` wins every fetch that does not name a provider. Being
//   loaded
//         first is not enough: OpenSSL 3.0 caches what it fetched from one
//         provider by name where a fetch from any provider finds it. So ours
//         are not the first in that cache.
//   PV-2  export refuses every selection with the private half. libcrypto then
//         cannot move the key to `default`, and signs here.
//   PV-3  import takes a public key only. Without it libcrypto could not
//         compare a certificate's key with ours.

#include "hsm/provider.h"

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/objects.h>
#include <openssl/proverr.h>
#include <openssl/provider.h>

#include <array>
#include <atomic>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "codesign/base/error.h"
#include "hsm/openssl_ptr.h"
#include "hsm/public_key.h"

namespace codeseal {

namespace {
thread_local SignScope* current_scope = nullptr;
}  // namespace

struct SignScopeAccess {
  static absl::Time Deadline() {
    return current_scope == nullptr ? absl::InfiniteFuture()
                                    : current_scope->deadline_;
  }
  static void SetStatus(const absl::Status& status) {
    if (current_scope != nullptr) current_scope->token_status_ = status;
  }
};

SignScope::SignScope(absl::Time deadline)
    : deadline_(deadline), outer_(current_scope) {
  current_scope = this;
}
SignScope::~SignScope() { current_scope = outer_; }

namespace {

enum class KeyType { kRsa, kEc };

// What OpenSSL calls the key data of our EVP_PKEY. Without a backend it is a
// public key that libcrypto imported to compare with.
struct ProviderKey {
  explicit ProviderKey(KeyType key_type) : type(key_type) {}

  KeyType type;
  UniqueEvpPkey public_key;  // in the default provider
  std::shared_ptr<KeyBackend> backend;
};

// Carries a KeyBackend through EVP_PKEY_fromdata: 3.0 gives a built-in provider
// no other way in. A ticket is good once.
class TicketOffice {
 public:
  uint64_t Leave(std::shared_ptr<KeyBackend> backend) {
    const std::lock_guard<std::mutex> lock(mutex_);
    backends_[++last_ticket_] = std::move(backend);
    return last_ticket_;
  }
  // Null for an unknown or used ticket.
  std::shared_ptr<KeyBackend> Collect(uint64_t ticket) {
    const std::lock_guard<std::mutex> lock(mutex_);
    auto node = backends_.extract(ticket);
    return node.empty() ? nullptr : std::move(node.mapped());
  }

 private:
  std::mutex mutex_;
  uint64_t last_ticket_ = 0;
  std::map<uint64_t, std::shared_ptr<KeyBackend>> backends_;
};

TicketOffice& Tickets() {
  static TicketOffice* const office = new TicketOffice;  // never destroyed
  return *office;
}

constexpr char kTicketParam[] = "codeseal-ticket";

// ---- Key management

template <KeyType kType>
void* KeyNew(void*) {
  return new ProviderKey(kType);
}

void KeyFree(void* key_data) { delete static_cast<ProviderKey*>(key_data); }

int KeyHas(const void* key_data, int selection) {
  const auto* key = static_cast<const ProviderKey*>(key_data);
  if (key == nullptr || key->public_key == nullptr) return 0;
  return (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) == 0 ||
                 key->backend != nullptr
             ? 1
             : 0;
}

int KeyMatch(const void* left_data, const void* right_data, int /*selection*/) {
  const auto* left = static_cast<const ProviderKey*>(left_data);
  const auto* right = static_cast<const ProviderKey*>(right_data);
  return left->public_key != nullptr && right->public_key != nullptr &&
                 EVP_PKEY_eq(left->public_key.get(), right->public_key.get()) ==
                     1
             ? 1
             : 0;
}

int KeyImport(void* key_data, int selection, const OSSL_PARAM params[]) {
  auto* key = static_cast<ProviderKey*>(key_data);
  const char* const type = key->type == KeyType::kRsa ? "RSA" : "EC";
  uint64_t ticket = 0;
  const OSSL_PARAM* param = OSSL_PARAM_locate_const(params, kTicketParam);
  if (param != nullptr) {
    if (OSSL_PARAM_get_uint64(param, &ticket) != 1) return 0;
    std::shared_ptr<KeyBackend> backend = Tickets().Collect(ticket);
    if (backend == nullptr) return 0;
    absl::StatusOr<UniqueEvpPkey> parsed =
        ParsePublicKey(backend->public_key());
    if (!parsed.ok() || EVP_PKEY_is_a(parsed->get(), type) != 1) return 0;
    key->public_key = *std::move(parsed);
    key->backend = std::move(backend);
    return 1;
  }
  if ((selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0) return 0;  // PV-3
  const UniqueEvpPkeyCtx context(EVP_PKEY_CTX_new_from_name(
      TokenLibraryContext(), type, "provider=default"));
  EVP_PKEY* raw = nullptr;
  if (context == nullptr || EVP_PKEY_fromdata_init(context.get()) != 1 ||
      EVP_PKEY_fromdata(context.get(), &raw, EVP_PKEY_PUBLIC_KEY,
                        const_cast<OSSL_PARAM*>(params)) != 1) {
    return 0;
  }
  key->public_key.reset(raw);
  return 1;
}

int KeyExport(void* key_data, int selection, OSSL_CALLBACK* callback,
              void* argument) {
  const auto* key = static_cast<const ProviderKey*>(key_data);
  if ((selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0 ||
      key->public_key == nullptr) {  // PV-2
    return 0;
  }
  OSSL_PARAM* params = nullptr;
  if (EVP_PKEY_todata(key->public_key.get(), EVP_PKEY_PUBLIC_KEY, &params) !=
      1) {
    return 0;
  }
  const UniqueParams owner(params);
  return callback(params, argument);
}

const OSSL_PARAM* RsaKeyTypes(int /*selection*/) {
  static const OSSL_PARAM types[] = {
      OSSL_PARAM_uint64(kTicketParam, nullptr),
      OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_N, nullptr, 0),
      OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_E, nullptr, 0), OSSL_PARAM_END};
  return types;
}

const OSSL_PARAM* EcKeyTypes(int /*selection*/) {
  static const OSSL_PARAM types[] = {
      OSSL_PARAM_uint64(kTicketParam, nullptr),
      OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, nullptr, 0),
      OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, nullptr, 0),
      OSSL_PARAM_END};
  return types;
}

int KeyGetParams(void* key_data, OSSL_PARAM params[]) {
  const auto* key = static_cast<const ProviderKey*>(key_data);
  return key->public_key != nullptr &&
                 EVP_PKEY_get_params(key->public_key.get(), params) == 1
             ? 1
             : 0;
}

const OSSL_PARAM* KeyGettableParams(void* /*provider_context*/) {
  static const OSSL_PARAM params[] = {
      OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, nullptr),
      OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, nullptr),
      OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, nullptr),
      OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_DEFAULT_DIGEST, nullptr, 0),
      OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_N, nullptr, 0),
      OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_E, nullptr, 0),
      OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, nullptr, 0),
      OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, nullptr, 0),
      OSSL_PARAM_END};
  return params;
}

// libcrypto looks for a signature algorithm called like the key unless told:
// EC keys sign with ECDSA.
template <KeyType kType>
const char* KeyOperationName(int /*operation_id*/) {
  return kType == KeyType::kRsa ? "RSA" : "ECDSA";
}

// ---- Signature

// One signature in progress. Copyable: libcrypto duplicates it between the size
// query and the signature.
struct SignatureContext {
  explicit SignatureContext(KeyType key_type) : type(key_type) {}

  KeyType type;
  std::shared_ptr<KeyBackend> backend;
  size_t max_signature_size = 0;
  std::optional<SignDigest> digest_kind;
  bool pss = false;
  UniqueEvpMdCtx hash;  // while a digest-sign runs
};

constexpr std::array<SignDigest, 4> kDigests = {
    SignDigest::kSha1, SignDigest::kSha256, SignDigest::kSha384,
    SignDigest::kSha512};

UniqueEvpMd FetchDigest(const char* name) {
  return UniqueEvpMd(EVP_MD_fetch(TokenLibraryContext(), name, nullptr));
}

bool SetDigest(SignatureContext& context, const char* name) {
  const UniqueEvpMd md = FetchDigest(name);
  if (md == nullptr) return false;
  for (const SignDigest kind : kDigests) {
    if (EVP_MD_is_a(md.get(), DigestName(kind)) == 1) {
      context.digest_kind = kind;
      return true;
    }
  }
  ERR_raise(ERR_LIB_PROV, PROV_R_INVALID_DIGEST);
  return false;
}

template <KeyType kType>
void* SignatureNew(void* /*provider_context*/, const char* /*properties*/) {
  return new SignatureContext(kType);
}

void SignatureFree(void* data) { delete static_cast<SignatureContext*>(data); }

void* SignatureDuplicate(void* data) {
  const auto* from = static_cast<const SignatureContext*>(data);
  auto to = std::make_unique<SignatureContext>(from->type);
  to->backend = from->backend;
  to->max_signature_size = from->max_signature_size;
  to->digest_kind = from->digest_kind;
  to->pss = from->pss;
  if (from->hash != nullptr) {
    to->hash.reset(EVP_MD_CTX_new());
    if (to->hash == nullptr ||
        EVP_MD_CTX_copy_ex(to->hash.get(), from->hash.get()) != 1) {
      return nullptr;
    }
  }
  return to.release();
}

bool PaddingIs(const OSSL_PARAM& param, int number, const char* name,
               bool& known) {
  if (param.data_type == OSSL_PARAM_UTF8_STRING) {
    const bool equal =
        std::strcmp(static_cast<const char*>(param.data), name) == 0;
    known = known || equal;
    return equal;
  }
  int value = 0;
  const bool equal = OSSL_PARAM_get_int(&param, &value) == 1 && value == number;
  known = known || equal;
  return equal;
}

// The salt is as long as the digest, always: asking for that by number, by
// name, or leaving it to us is fine, anything else is refused.
bool IsDigestSalt(const SignatureContext& context, const OSSL_PARAM& param) {
  int value = 0;
  if (param.data_type == OSSL_PARAM_UTF8_STRING) {
    const std::string_view text = static_cast<const char*>(param.data);
    if (text == OSSL_PKEY_RSA_PSS_SALT_LEN_DIGEST ||
        text == OSSL_PKEY_RSA_PSS_SALT_LEN_AUTO) {
      return true;
    }
    value = std::atoi(static_cast<const char*>(param.data));
  } else if (OSSL_PARAM_get_int(&param, &value) != 1) {
    return false;
  }
  return value == RSA_PSS_SALTLEN_DIGEST || value == RSA_PSS_SALTLEN_AUTO ||
         (context.digest_kind.has_value() && value > 0 &&
          static_cast<size_t>(value) == DigestSize(*context.digest_kind));
}

int SignatureSetParams(void* data, const OSSL_PARAM params[]) {
  auto* context = static_cast<SignatureContext*>(data);
  if (params == nullptr) return 1;
  if (const OSSL_PARAM* param =
          OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_DIGEST)) {
    if (param->data_type != OSSL_PARAM_UTF8_STRING ||
        !SetDigest(*context, static_cast<const char*>(param->data))) {
      return 0;
    }
  }
  if (context->type != KeyType::kRsa) return 1;
  if (const OSSL_PARAM* param =
          OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PAD_MODE)) {
    bool known = false;
    context->pss = PaddingIs(*param, RSA_PKCS1_PSS_PADDING,
                             OSSL_PKEY_RSA_PAD_MODE_PSS, known);
    PaddingIs(*param, RSA_PKCS1_PADDING, OSSL_PKEY_RSA_PAD_MODE_PKCSV15, known);
    if (!known) {
      ERR_raise(ERR_LIB_PROV, PROV_R_ILLEGAL_OR_UNSUPPORTED_PADDING_MODE);
      return 0;
    }
  }
  if (const OSSL_PARAM* param =
          OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PSS_SALTLEN)) {
    if (!IsDigestSalt(*context, *param)) {
      ERR_raise(ERR_LIB_PROV, PROV_R_INVALID_SALT_LENGTH);
      return 0;
    }
  }
  if (const OSSL_PARAM* param =
          OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_MGF1_DIGEST)) {
    // MGF1 uses the signature's digest, always.
    const UniqueEvpMd md =
        param->data_type == OSSL_PARAM_UTF8_STRING
            ? FetchDigest(static_cast<const char*>(param->data))
            : nullptr;
    if (md == nullptr || !context->digest_kind.has_value() ||
        EVP_MD_is_a(md.get(), DigestName(*context->digest_kind)) != 1) {
      ERR_raise(ERR_LIB_PROV, PROV_R_INVALID_MGF1_MD);
      return 0;
    }
  }
  return 1;
}

template <KeyType kType>
const OSSL_PARAM* SignatureSettableParams(void* /*context*/,
                                          void* /*provider_context*/) {
  static const OSSL_PARAM rsa[] = {
      OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_DIGEST, nullptr, 0),
      OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PAD_MODE, nullptr, 0),
      OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, nullptr, 0),
      OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_MGF1_DIGEST, nullptr, 0),
      OSSL_PARAM_END};
  static const OSSL_PARAM ec[] = {
      OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_DIGEST, nullptr, 0),
      OSSL_PARAM_END};
  return kType == KeyType::kRsa ? rsa : ec;
}

int SignatureInit(void* data, void* key_data, const OSSL_PARAM params[]) {
  auto* context = static_cast<SignatureContext*>(data);
  const auto* key = static_cast<const ProviderKey*>(key_data);
  if (key != nullptr) {
    if (key->backend == nullptr) {
      ERR_raise(ERR_LIB_PROV, PROV_R_NOT_A_PRIVATE_KEY);
      return 0;
    }
    context->backend = key->backend;
    context->max_signature_size =
        static_cast<size_t>(EVP_PKEY_get_size(key->public_key.get()));
  }
  return SignatureSetParams(data, params);
}

int DigestSignInit(void* data, const char* digest_name, void* key_data,
                   const OSSL_PARAM params[]) {
  auto* context = static_cast<SignatureContext*>(data);
  if (digest_name != nullptr && *digest_name != '\0' &&
      !SetDigest(*context, digest_name)) {
    return 0;
  }
  if (SignatureInit(data, key_data, params) != 1) return 0;
  if (!context->digest_kind.has_value()) {
    context->digest_kind = SignDigest::kSha256;
  }
  const UniqueEvpMd md = FetchDigest(DigestName(*context->digest_kind));
  context->hash.reset(EVP_MD_CTX_new());
  return md != nullptr && context->hash != nullptr &&
                 EVP_DigestInit_ex2(context->hash.get(), md.get(), nullptr) == 1
             ? 1
             : 0;
}

int DigestSignUpdate(void* data, const unsigned char* bytes, size_t size) {
  auto* context = static_cast<SignatureContext*>(data);
  return context->hash == nullptr
             ? 0
             : EVP_DigestUpdate(context->hash.get(), bytes, size);
}

int SignDigestBytes(SignatureContext& context, unsigned char* signature,
                    size_t* signature_size, size_t capacity, ByteView digest) {
  if (context.backend == nullptr || !context.digest_kind.has_value()) return 0;
  if (digest.size() != DigestSize(*context.digest_kind)) {
    ERR_raise(ERR_LIB_PROV, PROV_R_INVALID_DIGEST_LENGTH);
    return 0;
  }
  const SignMechanism mechanism = context.type == KeyType::kEc
                                      ? SignMechanism::kEcdsa
                                  : context.pss ? SignMechanism::kRsaPss
                                                : SignMechanism::kRsaPkcs1;
  const absl::StatusOr<Bytes> signed_bytes = context.backend->Sign(
      mechanism, *context.digest_kind, digest, SignScopeAccess::Deadline());
  if (!signed_bytes.ok()) {
    SignScopeAccess::SetStatus(signed_bytes.status());
    ERR_raise_data(ERR_LIB_PROV, PROV_R_FAILED_TO_SIGN, "%s",
                   std::string(Message(signed_bytes.status())).c_str());
    return 0;
  }
  if (signed_bytes->size() > capacity) {
    ERR_raise(ERR_LIB_PROV, PROV_R_OUTPUT_BUFFER_TOO_SMALL);
    return 0;
  }
  std::copy(signed_bytes->begin(), signed_bytes->end(), signature);
  *signature_size = signed_bytes->size();
  return 1;
}

int SignatureSign(void* data, unsigned char* signature, size_t* signature_size,
                  size_t capacity, const unsigned char* digest,
                  size_t digest_size) {
  auto* context = static_cast<SignatureContext*>(data);
  if (signature == nullptr) {
    *signature_size = context->max_signature_size;
    return 1;
  }
  return SignDigestBytes(*context, signature, signature_size, capacity,
                         {digest, digest_size});
}

int DigestSignFinal(void* data, unsigned char* signature,
                    size_t* signature_size, size_t capacity) {
  auto* context = static_cast<SignatureContext*>(data);
  if (signature == nullptr) {
    *signature_size = context->max_signature_size;
    return 1;
  }
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int digest_size = 0;
  if (context->hash == nullptr ||
      EVP_DigestFinal_ex(context->hash.get(), digest.data(), &digest_size) !=
          1) {
    return 0;
  }
  context->hash.reset();
  return SignDigestBytes(*context, signature, signature_size, capacity,
                         {digest.data(), digest_size});
}

// The DER AlgorithmIdentifier that names this signature in a certificate or a
// CMS. Empty when OpenSSL is out of memory.
Bytes AlgorithmIdentifier(const SignatureContext& context) {
  const UniqueEvpMd md = FetchDigest(DigestName(*context.digest_kind));
  const UniqueAlgorithm algorithm(X509_ALGOR_new());
  if (md == nullptr || algorithm == nullptr) return {};
  if (context.pss) {
    const UniquePssParams pss(RSA_PSS_PARAMS_new());
    if (pss == nullptr) return {};
    pss->hashAlgorithm = X509_ALGOR_new();
    pss->maskGenAlgorithm = X509_ALGOR_new();
    pss->saltLength = ASN1_INTEGER_new();
    const UniqueAlgorithm mask_digest(X509_ALGOR_new());
    if (pss->hashAlgorithm == nullptr || pss->maskGenAlgorithm == nullptr ||
        pss->saltLength == nullptr || mask_digest == nullptr) {
      return {};
    }
    X509_ALGOR_set_md(pss->hashAlgorithm, md.get());
    X509_ALGOR_set_md(mask_digest.get(), md.get());
    ASN1_STRING* packed =
        ASN1_item_pack(mask_digest.get(), ASN1_ITEM_rptr(X509_ALGOR), nullptr);
    X509_ALGOR_set0(pss->maskGenAlgorithm, OBJ_nid2obj(NID_mgf1),
                    V_ASN1_SEQUENCE, packed);
    ASN1_INTEGER_set(pss->saltLength,
                     static_cast<long>(DigestSize(*context.digest_kind)));
    packed = ASN1_item_pack(pss.get(), ASN1_ITEM_rptr(RSA_PSS_PARAMS), nullptr);
    X509_ALGOR_set0(algorithm.get(), OBJ_nid2obj(NID_rsassaPss),
                    V_ASN1_SEQUENCE, packed);
  } else {
    const bool rsa = context.type == KeyType::kRsa;
    int nid = NID_undef;
    if (OBJ_find_sigid_by_algs(
            &nid, EVP_MD_get_type(md.get()),
            rsa ? NID_rsaEncryption : NID_X9_62_id_ecPublicKey) != 1) {
      return {};
    }
    X509_ALGOR_set0(algorithm.get(), OBJ_nid2obj(nid),
                    rsa ? V_ASN1_NULL : V_ASN1_UNDEF, nullptr);
  }
  unsigned char* der = nullptr;
  const int size = i2d_X509_ALGOR(algorithm.get(), &der);
  const UniqueBuffer owner(der);
  return size <= 0 ? Bytes() : Bytes(der, der + size);
}

int SignatureGetParams(void* data, OSSL_PARAM params[]) {
  const auto* context = static_cast<const SignatureContext*>(data);
  if (OSSL_PARAM* param =
          OSSL_PARAM_locate(params, OSSL_SIGNATURE_PARAM_ALGORITHM_ID)) {
    if (!context->digest_kind.has_value()) return 0;
    const Bytes der = AlgorithmIdentifier(*context);
    if (der.empty() ||
        OSSL_PARAM_set_octet_string(param, der.data(), der.size()) != 1) {
      return 0;
    }
  }
  if (OSSL_PARAM* param =
          OSSL_PARAM_locate(params, OSSL_SIGNATURE_PARAM_DIGEST)) {
    if (!context->digest_kind.has_value() ||
        OSSL_PARAM_set_utf8_string(param, DigestName(*context->digest_kind)) !=
            1) {
      return 0;
    }
  }
  if (OSSL_PARAM* param =
          OSSL_PARAM_locate(params, OSSL_SIGNATURE_PARAM_PAD_MODE)) {
    const int set =
        param->data_type == OSSL_PARAM_UTF8_STRING
            ? OSSL_PARAM_set_utf8_string(
                  param, context->pss ? OSSL_PKEY_RSA_PAD_MODE_PSS
                                      : OSSL_PKEY_RSA_PAD_MODE_PKCSV15)
            : OSSL_PARAM_set_int(param, context->pss ? RSA_PKCS1_PSS_PADDING
                                                     : RSA_PKCS1_PADDING);
    if (set != 1) return 0;
  }
  return 1;
}

template <KeyType kType>
const OSSL_PARAM* SignatureGettableParams(void* /*context*/,
                                          void* /*provider_context*/) {
  static const OSSL_PARAM rsa[] = {
      OSSL_PARAM_octet_string(OSSL_SIGNATURE_PARAM_ALGORITHM_ID, nullptr, 0),
      OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_DIGEST, nullptr, 0),
      OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PAD_MODE, nullptr, 0),
      OSSL_PARAM_END};
  static const OSSL_PARAM ec[] = {
      OSSL_PARAM_octet_string(OSSL_SIGNATURE_PARAM_ALGORITHM_ID, nullptr, 0),
      OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_DIGEST, nullptr, 0),
      OSSL_PARAM_END};
  return kType == KeyType::kRsa ? rsa : ec;
}

// ---- Tables

template <typename F>
void (*Erase(F* function))() {
  return reinterpret_cast<void (*)()>(function);
}

template <KeyType kType>
const OSSL_DISPATCH* KeyManagement() {
  constexpr auto types = kType == KeyType::kRsa ? RsaKeyTypes : EcKeyTypes;
  static const OSSL_DISPATCH table[] = {
      {OSSL_FUNC_KEYMGMT_NEW, Erase(KeyNew<kType>)},
      {OSSL_FUNC_KEYMGMT_FREE, Erase(KeyFree)},
      {OSSL_FUNC_KEYMGMT_HAS, Erase(KeyHas)},
      {OSSL_FUNC_KEYMGMT_MATCH, Erase(KeyMatch)},
      {OSSL_FUNC_KEYMGMT_IMPORT, Erase(KeyImport)},
      {OSSL_FUNC_KEYMGMT_IMPORT_TYPES, Erase(types)},
      {OSSL_FUNC_KEYMGMT_EXPORT, Erase(KeyExport)},
      {OSSL_FUNC_KEYMGMT_EXPORT_TYPES, Erase(types)},
      {OSSL_FUNC_KEYMGMT_GET_PARAMS, Erase(KeyGetParams)},
      {OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, Erase(KeyGettableParams)},
      {OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME, Erase(KeyOperationName<kType>)},
      {0, nullptr}};
  return table;
}

template <KeyType kType>
const OSSL_DISPATCH* Signature() {
  static const OSSL_DISPATCH table[] = {
      {OSSL_FUNC_SIGNATURE_NEWCTX, Erase(SignatureNew<kType>)},
      {OSSL_FUNC_SIGNATURE_FREECTX, Erase(SignatureFree)},
      {OSSL_FUNC_SIGNATURE_DUPCTX, Erase(SignatureDuplicate)},
      {OSSL_FUNC_SIGNATURE_SIGN_INIT, Erase(SignatureInit)},
      {OSSL_FUNC_SIGNATURE_SIGN, Erase(SignatureSign)},
      {OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT, Erase(DigestSignInit)},
      {OSSL_FUNC_SIGNATURE_DIGEST_SIGN_UPDATE, Erase(DigestSignUpdate)},
      {OSSL_FUNC_SIGNATURE_DIGEST_SIGN_FINAL, Erase(DigestSignFinal)},
      {OSSL_FUNC_SIGNATURE_GET_CTX_PARAMS, Erase(SignatureGetParams)},
      {OSSL_FUNC_SIGNATURE_GETTABLE_CTX_PARAMS,
       Erase(SignatureGettableParams<kType>)},
      {OSSL_FUNC_SIGNATURE_SET_CTX_PARAMS, Erase(SignatureSetParams)},
      {OSSL_FUNC_SIGNATURE_SETTABLE_CTX_PARAMS,
       Erase(SignatureSettableParams<kType>)},
      {0, nullptr}};
  return table;
}

// All names of a type, so that EVP_PKEY_get_id() knows it and CMS takes its
// RSA or EC branch.
constexpr char kRsaNames[] = "RSA:rsaEncryption:1.2.840.113549.1.1.1";
constexpr char kEcNames[] = "EC:id-ecPublicKey:1.2.840.10045.2.1";
constexpr char kProperties[] = "provider=codeseal";

const OSSL_ALGORITHM* QueryOperation(void* /*provider_context*/,
                                     int operation_id, int* no_cache) {
  static const OSSL_ALGORITHM key_management[] = {
      {kRsaNames, kProperties, KeyManagement<KeyType::kRsa>(), nullptr},
      {kEcNames, kProperties, KeyManagement<KeyType::kEc>(), nullptr},
      {nullptr, nullptr, nullptr, nullptr}};
  static const OSSL_ALGORITHM signature[] = {
      {kRsaNames, kProperties, Signature<KeyType::kRsa>(), nullptr},
      {"ECDSA", kProperties, Signature<KeyType::kEc>(), nullptr},
      {nullptr, nullptr, nullptr, nullptr}};
  *no_cache = 0;
  if (operation_id == OSSL_OP_KEYMGMT) return key_management;
  if (operation_id == OSSL_OP_SIGNATURE) return signature;
  return nullptr;
}

int InitProvider(const OSSL_CORE_HANDLE* handle, const OSSL_DISPATCH* /*in*/,
                 const OSSL_DISPATCH** out, void** provider_context) {
  static const OSSL_DISPATCH table[] = {
      {OSSL_FUNC_PROVIDER_QUERY_OPERATION, Erase(QueryOperation)},
      {0, nullptr}};
  *out = table;
  // Only has to be something: the provider keeps no state of its own.
  *provider_context = const_cast<OSSL_CORE_HANDLE*>(handle);
  return 1;
}

OSSL_LIB_CTX* MakeLibraryContext() {
  OSSL_LIB_CTX* context = OSSL_LIB_CTX_new();
  // Fails only without memory: no caller could go on.
  if (context == nullptr ||
      OSSL_PROVIDER_add_builtin(context, "codeseal", InitProvider) != 1 ||
      OSSL_PROVIDER_load(context, "default") == nullptr ||  // PV-1
      OSSL_PROVIDER_load(context, "codeseal") == nullptr) {
    std::abort();
  }
  for (const char* name : {"RSA", "EC"}) {  // PV-1
    EVP_KEYMGMT_free(EVP_KEYMGMT_fetch(context, name, nullptr));
  }
  for (const char* name : {"RSA", "ECDSA"}) {
    EVP_SIGNATURE_free(EVP_SIGNATURE_fetch(context, name, nullptr));
  }
  return context;
}

}  // namespace

OSSL_LIB_CTX* TokenLibraryContext() {
  static OSSL_LIB_CTX* const context = MakeLibraryContext();
  return context;
}

absl::StatusOr<UniqueEvpPkey> MakeTokenPkey(
    std::shared_ptr<KeyBackend> backend) {
  ASSIGN_OR_RETURN(const UniqueEvpPkey public_key,
                   ParsePublicKey(backend->public_key()));
  const bool rsa = EVP_PKEY_is_a(public_key.get(), "RSA") == 1;
  uint64_t ticket = Tickets().Leave(std::move(backend));
  OSSL_PARAM params[] = {OSSL_PARAM_uint64(kTicketParam, &ticket),
                         OSSL_PARAM_END};
  const UniqueEvpPkeyCtx context(EVP_PKEY_CTX_new_from_name(
      TokenLibraryContext(), rsa ? "RSA" : "EC", kProperties));
  EVP_PKEY* raw = nullptr;
  const bool ok =
      context != nullptr && EVP_PKEY_fromdata_init(context.get()) == 1 &&
      EVP_PKEY_fromdata(context.get(), &raw, EVP_PKEY_KEYPAIR, params) == 1;
  UniqueEvpPkey key(raw);
  Tickets().Collect(ticket);
  if (!ok) {
    return MakeError(absl::StatusCode::kInternal, v1::STAGE_TOKEN,
                     v1::REASON_INTERNAL,
                     "cannot make a key for OpenSSL: " + DrainOpenSslErrors());
  }
  return key;
}

}  // namespace codeseal
