#include "audit/entry.h"

#include <algorithm>
#include <array>
#include <utility>

#include "codesign/base/error.h"
#include "nlohmann/json.hpp"

namespace codeseal::audit {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kVersion = 1;
// With these and the limits of a request no entry comes near kMaxEntrySize.
constexpr size_t kMaxTextSize = 1024;
constexpr size_t kMaxDetailSize = 8192;
constexpr size_t kMaxCdHashCount = 64;

constexpr std::array<std::pair<EntryKind, std::string_view>, 6> kKinds = {{
    {EntryKind::kStarted, "started"},
    {EntryKind::kIntent, "intent"},
    {EntryKind::kSigned, "signed"},
    {EntryKind::kFailed, "failed"},
    {EntryKind::kIndeterminate, "indeterminate"},
    {EntryKind::kEvent, "event"},
}};

// The one list of text fields, in the order in which they are written.
constexpr std::array<std::pair<const char*, std::string Entry::*>, 20> kTexts =
    {{
        {"policy", &Entry::policy},
        {"server", &Entry::server},
        {"event", &Entry::event},
        {"request_id", &Entry::request_id},
        {"client", &Entry::client},
        {"client_certificate", &Entry::client_certificate},
        {"identity", &Entry::identity},
        {"identity_version", &Entry::identity_version},
        {"certificate", &Entry::certificate},
        {"identifier", &Entry::identifier},
        {"checksum", &Entry::checksum},
        {"artifact", &Entry::artifact},
        {"architecture", &Entry::architecture},
        {"artifact_sha256", &Entry::artifact_sha256},
        {"decision", &Entry::decision},
        {"cms_sha256", &Entry::cms_sha256},
        {"signature_sha256", &Entry::signature_sha256},
        {"subject", &Entry::subject},
        {"detail", &Entry::detail},
        {"reason", &Entry::reason},
    }};

absl::Status BadEntry(const std::string& message) {
  return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_AUDIT,
                   v1::REASON_BAD_AUDIT_LOG, "a log entry: " + message);
}

Json ParseJson(ByteView bytes) {
  return Json::parse(bytes.begin(), bytes.end(), nullptr,
                     /*allow_exceptions=*/false);
}

}  // namespace

std::string_view EntryKindName(EntryKind kind) {
  for (const auto& [each, name] : kKinds) {
    if (each == kind) return name;
  }
  return "unknown";
}

Bytes EncodeEntry(const Entry& entry) {
  Json json = {{"v", kVersion},
               {"kind", std::string(EntryKindName(entry.kind))},
               {"time", absl::FormatTime(absl::RFC3339_full, entry.time,
                                         absl::UTCTimeZone())}};
  for (const auto& [name, member] : kTexts) {
    if ((entry.*member).empty()) continue;
    json[name] = (entry.*member)
                     .substr(0, member == &Entry::detail ? kMaxDetailSize
                                                         : kMaxTextSize);
  }
  if (!entry.cdhashes.empty()) {
    Json& list = json["cdhashes"] = Json::array();
    for (const std::string& each : entry.cdhashes) {
      if (list.size() == kMaxCdHashCount) break;
      list.push_back(each);
    }
  }
  if (entry.intent.has_value()) json["intent"] = *entry.intent;
  // Cutting may leave half a character, which is replaced.
  return ToBytes(json.dump(-1, ' ', false, Json::error_handler_t::replace));
}

absl::StatusOr<Entry> ParseEntry(ByteView bytes) {
  const Json json = ParseJson(bytes);
  if (!json.is_object()) return BadEntry("it is no JSON object");  // EN-1
  const auto text = [&](const char* name, std::string& value) {
    const auto found = json.find(name);
    if (found == json.end()) return true;
    if (!found->is_string()) return false;
    value = found->get<std::string>();
    return true;
  };
  const auto version = json.find("v");
  if (version == json.end() || *version != kVersion) {  // EN-2
    return BadEntry("it is not of version 1");
  }
  Entry entry;
  std::string kind;
  std::string time;
  if (!text("kind", kind) || !text("time", time)) {  // EN-3
    return BadEntry("kind or time is no text");
  }
  const auto* const known =
      std::find_if(kKinds.begin(), kKinds.end(),
                   [&](const auto& each) { return each.second == kind; });
  if (known == kKinds.end()) return BadEntry("unknown kind");  // EN-4
  entry.kind = known->first;
  if (!absl::ParseTime(absl::RFC3339_full, time, &entry.time, nullptr)) {
    return BadEntry("its time is not RFC 3339");  // EN-5
  }
  for (const auto& [name, member] : kTexts) {
    if (!text(name, entry.*member)) {  // EN-6
      return BadEntry(std::string(name) + " is no text");
    }
  }
  if (const auto list = json.find("cdhashes"); list != json.end()) {
    if (!list->is_array()) return BadEntry("cdhashes is no list");  // EN-7
    for (const Json& each : *list) {
      if (!each.is_string()) return BadEntry("a cdhash is no text");  // EN-8
      entry.cdhashes.push_back(each.get<std::string>());
    }
  }
  if (const auto intent = json.find("intent"); intent != json.end()) {
    if (!intent->is_number_unsigned()) {  // EN-9
      return BadEntry("intent is no index");
    }
    entry.intent = intent->get<uint64_t>();
  }
  return entry;
}

bool IsWholeEntry(ByteView bytes) { return ParseJson(bytes).is_object(); }

}  // namespace codeseal::audit
