#include "tests/support/sign_request_builder.h"

#include <algorithm>
#include <random>

#include "codesign/code_directory.h"
#include "codesign/entitlements.h"
#include "codesign/super_blob.h"

namespace codeseal::testing {

v1::SignRequest BuildSignRequest(const SignRequestSpec& spec) {
  std::map<uint32_t, Bytes> blobs;
  blobs[kRequirementsSlot] = WrapBlob(kRequirementSetMagic, Bytes{0, 0, 0, 0});
  if (!spec.entitlements.empty()) {
    blobs[kEntitlementsSlot] =
        BuildEntitlements(AsBytes(spec.entitlements)).value();
    blobs[kEntitlementsDerSlot] =
        BuildEntitlementsDer(
            ParseEntitlements(blobs[kEntitlementsSlot]).value())
            .value();
  }

  v1::SignRequest request;
  request.set_request_id(spec.request_id);
  request.set_identity(spec.identity);
  request.mutable_artifact()->set_path("build/demo");
  v1::CodeDirectorySet& set = *request.mutable_code_directory_set();
  for (const DigestKind kind : spec.digests) {
    CodeDirectoryFields fields;
    fields.identifier = spec.identifier;
    fields.team_identifier = spec.team_identifier;
    fields.flags = spec.flags;
    fields.digest_kind = kind;
    fields.page_size = 4096;
    fields.code_limit = uint64_t{4096} * spec.code_page_count;
    fields.exec_segment = {0, 4096, spec.exec_segment_flags};
    for (const auto& [slot, blob] : blobs) {
      fields.special_slots[slot] = ComputeDigest(kind, blob);
    }
    for (const auto& [slot, content] : spec.file_digests) {
      fields.special_slots[slot] = ComputeDigest(kind, content);
    }
    CodeDirectoryBuilder builder = CodeDirectoryBuilder::Create(fields).value();
    std::fill(builder.code_slots().begin(), builder.code_slots().end(),
              uint8_t{0x5c});
    set.add_code_directories(ToString(std::move(builder).Build()));
  }
  set.set_requirements(ToString(blobs[kRequirementsSlot]));
  set.set_entitlements(ToString(blobs[kEntitlementsSlot]));
  set.set_entitlements_der(ToString(blobs[kEntitlementsDerSlot]));
  return request;
}

std::string RandomUuid() {
  static thread_local std::mt19937_64 random(std::random_device{}());
  Bytes id(16);
  for (uint8_t& byte : id) byte = static_cast<uint8_t>(random());
  std::string text = HexEncode(id);
  for (const size_t place : {8u, 13u, 18u, 23u}) text.insert(place, 1, '-');
  return text;
}

}  // namespace codeseal::testing
