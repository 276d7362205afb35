#include "hsm/token_uri.h"

#include <memory>
#include <string>

#include "codesign/base/error.h"
#include "hsm/pin.h"
#include "hsm/pkcs11.h"

// After the PKCS#11 header, which it needs.
#include <p11-kit/uri.h>

namespace codeseal {
namespace {

absl::Status UriError(std::string_view message) {
  return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_USAGE,
                   v1::REASON_BAD_TOKEN_URI, message);
}

struct UriDeleter {
  void operator()(P11KitUri* uri) const { p11_kit_uri_free(uri); }
};

// Fixed-size text, blank-padded when given and all zeros when not.
template <size_t kSize>
std::string FixedText(const unsigned char (&text)[kSize]) {
  std::string value(reinterpret_cast<const char*>(text), kSize);
  value.erase(std::min(value.find('\0'), value.size()));
  value.erase(value.find_last_not_of(' ') + 1);
  return value;
}

Bytes AttributeValue(P11KitUri* uri, CK_ATTRIBUTE_TYPE type) {
  const CK_ATTRIBUTE* attribute = p11_kit_uri_get_attribute(uri, type);
  if (attribute == nullptr || attribute->pValue == nullptr) return {};
  return ToBytes(ByteView(static_cast<const uint8_t*>(attribute->pValue),
                          attribute->ulValueLen));
}

// Attributes that p11-kit understands and we would ignore.
absl::Status CheckUnused(P11KitUri* uri) {
  const CK_TOKEN_INFO* token = p11_kit_uri_get_token_info(uri);
  const CK_INFO* module = p11_kit_uri_get_module_info(uri);
  const CK_SLOT_INFO* slot = p11_kit_uri_get_slot_info(uri);
  if (!FixedText(token->manufacturerID).empty() ||
      !FixedText(token->model).empty()) {
    return UriError("name the token by token= or serial= only");
  }
  if (!FixedText(module->manufacturerID).empty() ||
      !FixedText(module->libraryDescription).empty() ||
      p11_kit_uri_get_module_name(uri) != nullptr) {
    return UriError("name the module by module-path= only");
  }
  if (!FixedText(slot->manufacturerID).empty() ||
      !FixedText(slot->slotDescription).empty() ||
      p11_kit_uri_get_slot_id(uri) != ~CK_SLOT_ID{0}) {
    return UriError("slots change their numbers: name the token instead");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TokenUri> ParseTokenUri(std::string_view text) {
  const std::unique_ptr<P11KitUri, UriDeleter> uri(p11_kit_uri_new());
  const int result = p11_kit_uri_parse(std::string(text).c_str(),
                                       P11_KIT_URI_FOR_ANY, uri.get());
  if (text.find('\0') != std::string_view::npos || result != P11_KIT_URI_OK) {
    return UriError("not a PKCS#11 URI (pkcs11:token=...;object=...)");
  }
  if (p11_kit_uri_get_pin_value(uri.get()) != nullptr) {
    return UriError(
        "pin-value is refused, because a command line is no secret; use "
        "pin-source=file:/path");
  }
  if (p11_kit_uri_any_unrecognized(uri.get()) != 0) {
    return UriError("an attribute of the URI is not known");
  }
  RETURN_IF_ERROR(CheckUnused(uri.get()));
  const Bytes object_class = AttributeValue(uri.get(), CKA_CLASS);
  constexpr CK_OBJECT_CLASS kPrivateKey = CKO_PRIVATE_KEY;
  if (!object_class.empty() &&
      !Equal(object_class, {reinterpret_cast<const uint8_t*>(&kPrivateKey),
                            sizeof(kPrivateKey)})) {
    return UriError("type= has to be private");
  }

  TokenUri parsed;
  const CK_TOKEN_INFO* token = p11_kit_uri_get_token_info(uri.get());
  parsed.config.label = FixedText(token->label);
  if (std::string serial = FixedText(token->serialNumber); !serial.empty()) {
    parsed.config.serials.push_back(std::move(serial));
  }
  if (parsed.config.label.empty() && parsed.config.serials.empty()) {
    return UriError("the URI names no token: token= or serial= is missing");
  }
  parsed.config.name = parsed.config.label.empty()
                           ? parsed.config.serials.front()
                           : parsed.config.label;
  if (const char* module = p11_kit_uri_get_module_path(uri.get())) {
    parsed.config.module = module;
  }
  if (const char* source = p11_kit_uri_get_pin_source(uri.get())) {
    parsed.config.pin_source = source;
    if (parsed.config.pin_source.starts_with('/')) {
      parsed.config.pin_source.insert(0, "file:");
    }
    if (!Pin::CheckSource(parsed.config.pin_source).ok()) {
      return UriError("pin-source has to be file:/path or credential:NAME");
    }
  }
  parsed.key.id = AttributeValue(uri.get(), CKA_ID);
  parsed.key.label = ToString(AttributeValue(uri.get(), CKA_LABEL));
  return parsed;
}

}  // namespace codeseal
