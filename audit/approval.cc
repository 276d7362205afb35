#include "audit/approval.h"

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

std::string FormatApproval(const ApprovalStatement& statement) {
  std::string text = "codeseal approval v1\n";
  const auto add = [&](std::string_view name, std::string_view value) {
    text += std::string(name) + ": " + Escaped(value) + "\n";
  };
  add("decision", statement.approves ? "approve" : "reject");
  add("grant", statement.grant);
  add("identity", statement.identity);
  for (const Bytes& each : statement.cdhashes) add("cdhash", HexEncode(each));
  add("release", statement.release);
  for (const std::string& each : statement.identifiers) add("identifier", each);
  add("max_uses", std::to_string(statement.max_uses));
  add("expires_at", At(statement.expires_at));
  add("requester", statement.requester);
  add("reason", statement.reason);
  add("key", "sha256:" + HexEncode(ComputeDigest(DigestKind::kSha256,
                                                 statement.public_key)));
  add("at", At(statement.at));
  return text;
}

}  // namespace codeseal::audit
