#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/commands.h"
#include "client/open_signer.h"
#include "client/signer.h"
#include "client/small_file.h"
#include "codesign/base/error.h"
#include "codesign/cms/signed_message.h"

namespace codeseal::client {
namespace {

struct Line {
  std::string text;
  bool is_valid = false;
};

// `  1) 0123... "Developer ID Application: Example (AB12CD34EF)"`, as build
// tools pick it apart.
std::string Format(const std::vector<Line>& lines, bool valid_only,
                   std::string_view what) {
  std::string text;
  int count = 0;
  for (const Line& line : lines) {
    if (valid_only && !line.is_valid) continue;
    absl::StrAppend(&text, "  ", ++count, ") ", line.text, "\n");
  }
  absl::StrAppend(&text, "     ", count, " ");
  text.append(what).append(" found\n");
  return text;
}

std::string PolicyName(const std::string& policy) {
  if (policy == "codesigning") return "Code Signing";
  return policy.empty() || policy == "basic" ? "X.509 Basic" : policy;
}

}  // namespace

void RunSecurityFindIdentity(const SecurityFindIdentityCommand& command,
                             Reporter& reporter) {
  const absl::StatusOr<std::vector<SigningIdentity>> identities =
      ListIdentities(command.signer);
  if (!identities.ok()) {
    reporter.Fail("list", "security", identities.status());
    return;
  }
  // Every identity is for code signing and for nothing else.
  const bool fits = command.policy.empty() || command.policy == "basic" ||
                    command.policy == "codesigning";
  std::vector<Line> lines;
  for (const SigningIdentity& identity : *identities) {
    if (!fits || identity.chain.empty()) continue;
    const Certificate& leaf = identity.chain.front();
    const std::string name = Printable(leaf.CommonName());
    if (name.find(command.subject) == std::string::npos) continue;
    const bool expired = leaf.not_after() < absl::Now();
    Line line;
    line.is_valid = !expired && identity.unavailable_because.empty();
    line.text =
        absl::StrCat(absl::AsciiStrToUpper(HexEncode(leaf.Sha1())), " \"", name,
                     "\"", expired ? " (CSSMERR_TP_CERT_EXPIRED)" : "");
    lines.push_back(std::move(line));
  }
  if (!command.valid_only) {
    reporter.Raw("\nPolicy: " + PolicyName(command.policy) +
                 "\n  Matching identities\n" +
                 Format(lines, false, "identities") +
                 "\n  Valid identities only\n");
  }
  reporter.Raw(Format(lines, true, "valid identities"));
}

void RunSecurityDecodeCms(const SecurityDecodeCmsCommand& command,
                          Reporter& reporter) {
  const std::string& path = command.input_path;
  const absl::StatusOr<Bytes> cms = ReadInput(path);
  if (!cms.ok()) return reporter.Fail("read", path, cms.status());
  const absl::StatusOr<SignedMessage> message = OpenSignedMessage(*cms);
  if (!message.ok()) return reporter.Fail("read", path, message.status());
  if (command.output_path == "-") {
    reporter.Raw(AsText(message->content));
  } else if (const absl::Status status =
                 WriteWholeFile(command.output_path, message->content);
             !status.ok()) {
    reporter.Fail("write", command.output_path, status);
  }
}

}  // namespace codeseal::client
