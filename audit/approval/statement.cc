#include "audit/approval/statement.h"

#include <cstdint>
#include <string_view>

#include "codesign/base/digest.h"
#include "codesign/base/utf8.h"

namespace codeseal::audit {
namespace {

std::string Escaped(std::string_view value) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string out;
  for (const char c : EscapeInvalidUtf8(value)) {
    const auto byte = static_cast<uint8_t>(c);
    if (byte < 0x20 || byte == 0x7f || c == '\\') {
      out += "\\x";
      out.push_back(kHex[byte >> 4]);
      out.push_back(kHex[byte & 0xf]);
    } else {
      out.push_back(c);
    }
  }
  return out;
}

std::string At(absl::Time time) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", time, absl::UTCTimeZone());
}

}  // namespace

std::string FormatApproval(const v1::Grant& grant, bool approves,
                           ByteView public_key, absl::Time at) {
  std::string text = "codeseal approval v1\n";
  const auto add = [&](std::string_view name, std::string_view value) {
    text += std::string(name) + ": " + Escaped(value) + "\n";
  };
  add("decision", approves ? "approve" : "reject");
  add("grant", grant.id());
  add("identity", grant.identity());
  for (const std::string& each : grant.cdhashes()) {
    add("cdhash", HexEncode(AsBytes(each)));
  }
  add("release", grant.release());
  for (const std::string& each : grant.identifiers()) add("identifier", each);
  add("max_uses", std::to_string(grant.max_uses()));
  add("expires_at", At(absl::FromUnixSeconds(grant.expires_at().seconds())));
  add("requester", grant.requester());
  add("reason", grant.reason());
  add("key",
      "sha256:" + HexEncode(ComputeDigest(DigestKind::kSha256, public_key)));
  add("at", At(at));
  return text;
}

}  // namespace codeseal::audit
