#include "hsm/attestation.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <utility>

#include "codesign/base/error.h"

namespace codeseal {
namespace {

constexpr char kYubicoFirmware[] = "1.3.6.1.4.1.41482.3.3";  // three bytes
constexpr char kYubicoSerial[] = "1.3.6.1.4.1.41482.3.7";    // DER INTEGER
constexpr char kYubicoPolicy[] = "1.3.6.1.4.1.41482.3.8";    // PIN, touch

absl::Status BadAttestation(const std::string& message) {
  return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_TOKEN,
                   v1::REASON_BAD_ATTESTATION, message);
}

template <size_t N>
std::string WordAt(const std::array<const char*, N>& words, uint8_t index) {
  return index < N ? words[index] : std::to_string(index);
}

// A small non-negative INTEGER; empty for anything else.
std::string DecimalOf(ByteView der) {
  constexpr uint8_t kInteger = 0x02;
  if (der.size() < 3 || der[0] != kInteger || der[1] != der.size() - 2 ||
      der[1] > sizeof(uint64_t) || (der[2] & 0x80) != 0) {
    return "";
  }
  uint64_t value = 0;
  for (const uint8_t byte : der.subspan(2)) value = value << 8 | byte;
  return std::to_string(value);
}

void ReadYubico(KeyAttestation& attestation) {
  const Certificate& certificate = attestation.chain.front();
  const std::optional<Bytes> firmware =
      certificate.ExtensionValue(kYubicoFirmware);
  if (firmware.has_value() && firmware->size() == 3) {
    attestation.firmware = std::to_string((*firmware)[0]) + "." +
                           std::to_string((*firmware)[1]) + "." +
                           std::to_string((*firmware)[2]);
  }
  if (const auto serial = certificate.ExtensionValue(kYubicoSerial)) {
    attestation.serial = DecimalOf(*serial);
  }
  const std::optional<Bytes> policy = certificate.ExtensionValue(kYubicoPolicy);
  if (policy.has_value() && policy->size() == 2) {
    constexpr std::array kPin = {"default", "never",      "once",
                                 "always",  "match once", "match always"};
    constexpr std::array kTouch = {"default", "never", "always", "cached"};
    attestation.pin_policy = WordAt(kPin, (*policy)[0]);
    attestation.touch_policy = WordAt(kTouch, (*policy)[1]);
  }
}

}  // namespace

absl::StatusOr<KeyAttestation> CheckAttestation(
    ByteView public_key, const Certificate& attestation,
    std::span<const Certificate> intermediates,
    std::span<const Certificate> vendor_roots) {
  const Bytes attested = attestation.SubjectPublicKeyInfo();
  if (public_key.empty() || !Equal(attested, public_key)) {
    return BadAttestation("the attestation \"" + attestation.CommonName() +
                          "\" is about another key");
  }
  std::vector<Certificate> candidates(intermediates.begin(),
                                      intermediates.end());
  candidates.insert(candidates.end(), vendor_roots.begin(), vendor_roots.end());
  absl::StatusOr<std::vector<Certificate>> chain =
      BuildChain(attestation, candidates);
  if (!chain.ok()) {
    return BadAttestation("the attestation does not chain to a vendor: " +
                          std::string(Message(chain.status())));
  }
  // A certificate that signs itself attests nothing, root or not.
  const bool trusted =
      chain->size() > 1 && std::find(vendor_roots.begin(), vendor_roots.end(),
                                     chain->back()) != vendor_roots.end();
  if (!trusted) {
    return BadAttestation("the attestation chains to \"" +
                          chain->back().CommonName() +
                          "\", which is no vendor's root of yours");
  }
  KeyAttestation result;
  result.chain = *std::move(chain);
  ReadYubico(result);
  return result;
}

absl::StatusOr<KeyAttestation> FindAttestation(
    const TokenListing& listing, ByteView public_key,
    std::span<const Certificate> intermediates,
    std::span<const Certificate> vendor_roots) {
  std::vector<Certificate> stored;
  for (const CertificateListing& each : listing.certificates) {
    // A token may hold certificates of other kinds.
    absl::StatusOr<Certificate> certificate = Certificate::Parse(each.der);
    if (certificate.ok()) stored.push_back(*std::move(certificate));
  }
  std::vector<Certificate> between(intermediates.begin(), intermediates.end());
  between.insert(between.end(), stored.begin(), stored.end());
  for (const Certificate& each : stored) {
    absl::StatusOr<KeyAttestation> attestation =
        CheckAttestation(public_key, each, between, vendor_roots);
    if (attestation.ok()) return attestation;
  }
  return MakeError(absl::StatusCode::kNotFound, v1::STAGE_TOKEN,
                   v1::REASON_NO_ATTESTATION,
                   "the token stores no attestation of this key");
}

}  // namespace codeseal
