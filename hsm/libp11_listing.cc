#include "hsm/libp11_listing.h"

#include <libp11.h>

#include <span>
#include <utility>

#include "codesign/base/error.h"
#include "hsm/openssl_ptr.h"
#include "hsm/public_key.h"

namespace codeseal {
namespace {

absl::Status Libp11Error(const std::string& what) {
  return MakeError(absl::StatusCode::kUnavailable, v1::STAGE_TOKEN,
                   v1::REASON_TOKEN_FUNCTION_FAILED,
                   what + ": " + DrainOpenSslErrors());
}

std::string Text(const char* text) {
  std::string value(text == nullptr ? "" : text);
  value.erase(value.find_last_not_of(' ') + 1);
  return value;
}

std::string Id(const unsigned char* id, size_t size) {
  return id == nullptr ? "" : ToString(ByteView(id, size));
}

hsm::Key DescribeKey(PKCS11_KEY& key, const TokenObjects& objects) {
  hsm::Key listed;
  listed.set_id(Id(key.id, key.id_len));
  listed.set_label(Text(key.label));
  *listed.mutable_attributes() = ToWire(KeyAttributes());  // the unsafe values
  if (const UniqueEvpPkey public_key(PKCS11_get_public_key(&key));
      public_key != nullptr) {
    unsigned char* der = nullptr;
    const int size = i2d_PUBKEY(public_key.get(), &der);
    const UniqueBuffer owner(der);
    if (size > 0) {
      listed.set_public_key(ToString({der, static_cast<size_t>(size)}));
    }
  }
  const absl::StatusOr<TokenObject> object = objects.FindKey(
      {ToBytes(listed.id()), listed.label()}, AsBytes(listed.public_key()));
  if (object.ok()) {
    *listed.mutable_attributes() = ToWire(object->key.attributes);
    listed.set_public_key(ToString(object->key.public_key));
  }
  return listed;
}

hsm::Certificate DescribeCertificate(const PKCS11_CERT& certificate) {
  hsm::Certificate listed;
  listed.set_id(Id(certificate.id, certificate.id_len));
  listed.set_label(Text(certificate.label));
  unsigned char* der = nullptr;
  const int size = i2d_X509(certificate.x509, &der);
  const UniqueBuffer owner(der);
  if (size > 0) listed.set_der(ToString({der, static_cast<size_t>(size)}));
  return listed;
}

}  // namespace

absl::StatusOr<hsm::Listing> ListToken(const std::string& module,
                                       unsigned long slot,
                                       const TokenObjects& objects) {
  // Never freed: PKCS11_CTX_unload() would call C_Finalize under our sessions,
  // and the process ends with the listing.
  PKCS11_CTX* context = PKCS11_CTX_new();
  if (context == nullptr || PKCS11_CTX_load(context, module.c_str()) != 0) {
    return Libp11Error("cannot load the module for listing");
  }
  PKCS11_SLOT* slots = nullptr;
  unsigned int slot_count = 0;
  if (PKCS11_enumerate_slots(context, &slots, &slot_count) != 0) {
    return Libp11Error("cannot list the slots");
  }
  PKCS11_TOKEN* token = nullptr;
  for (PKCS11_SLOT& each : std::span(slots, slot_count)) {
    if (PKCS11_get_slotid_from_slot(&each) == slot) token = each.token;
  }
  if (token == nullptr) return Libp11Error("the token left its slot");

  hsm::Listing listing;
  listing.set_label(Text(token->label));
  listing.set_serial(Text(token->serialnr));
  listing.set_manufacturer(Text(token->manufacturer));
  listing.set_model(Text(token->model));
  PKCS11_KEY* keys = nullptr;
  unsigned int key_count = 0;
  if (PKCS11_enumerate_keys(token, &keys, &key_count) != 0) {
    return Libp11Error("cannot list the keys");
  }
  for (PKCS11_KEY& key : std::span(keys, key_count)) {
    *listing.add_keys() = DescribeKey(key, objects);
  }
  PKCS11_CERT* certificates = nullptr;
  unsigned int certificate_count = 0;
  if (PKCS11_enumerate_certs(token, &certificates, &certificate_count) != 0) {
    return Libp11Error("cannot list the certificates");
  }
  for (const PKCS11_CERT& certificate :
       std::span(certificates, certificate_count)) {
    *listing.add_certificates() = DescribeCertificate(certificate);
  }
  return listing;
}

}  // namespace codeseal
