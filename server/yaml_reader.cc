#include "server/yaml_reader.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <optional>
#include <system_error>

#include "codesign/base/error.h"

namespace codeseal {
namespace {

constexpr size_t kMaxFileSize = size_t{1} << 20;

std::string Listed(const std::vector<std::string>& words) {
  std::string list;
  for (const std::string& word : words) {
    list += (list.empty() ? "" : ", ") + word;
  }
  return list;
}

size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

struct Unit {
  std::string_view name;
  uint64_t factor;
};

// A number directly followed by one of the units.
std::optional<uint64_t> ParseNumberWithUnit(std::string_view text,
                                            std::initializer_list<Unit> units) {
  uint64_t number = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return std::nullopt;
  const std::string_view rest =
      text.substr(static_cast<size_t>(end - text.data()));
  for (const Unit& unit : units) {
    if (rest == unit.name && number <= UINT64_MAX / unit.factor) {
      return number * unit.factor;
    }
  }
  return std::nullopt;
}

}  // namespace

std::string NearestWord(std::string_view word,
                        const std::vector<std::string>& words) {
  std::string nearest;
  size_t nearest_distance = std::max<size_t>(2, word.size() / 3) + 1;
  for (const std::string& each : words) {
    const size_t distance = EditDistance(word, each);
    if (distance < nearest_distance) {
      nearest = each;
      nearest_distance = distance;
    }
  }
  return nearest;
}

void YamlContext::Report(const YAML::Node& node, std::string_view key,
                         std::string message) {
  const int line = node.IsDefined() ? node.Mark().line + 1 : 0;
  problems.push_back({std::max(line, 0), std::string(key), message});
}

std::string YamlContext::Path(std::string_view path) const {
  return (std::filesystem::path(folder) / path).string();
}

YamlSection::YamlSection(YamlContext& context, const YAML::Node& node,
                         std::string key)
    : context_(context), node_(node), key_(std::move(key)) {
  if (!node_.IsMap()) {
    context_.Report(node_, key_, "want a mapping of keys to values");
    node_.reset(YAML::Node(YAML::NodeType::Map));  // "=" would change `node`
    return;
  }
  std::vector<std::string> seen;
  for (const auto& entry : node_) {
    const std::string name =
        entry.first.IsScalar() ? entry.first.Scalar() : std::string();
    if (name.empty()) {
      context_.Report(entry.first, key_, "a key must be a word");
    } else if (std::find(seen.begin(), seen.end(), name) != seen.end()) {
      context_.Report(entry.first, KeyOf(name), "the key is given twice");
    }
    seen.push_back(name);
  }
}

std::string YamlSection::KeyOf(std::string_view name) const {
  return key_.empty() ? std::string(name) : key_ + "." + std::string(name);
}

std::vector<std::string> YamlSection::Names() const {
  std::vector<std::string> names;
  for (const auto& entry : node_) {
    if (entry.first.IsScalar()) names.push_back(entry.first.Scalar());
  }
  return names;
}

void YamlSection::Report(std::string_view name, std::string message) {
  for (const auto& entry : node_) {
    if (entry.first.IsScalar() && entry.first.Scalar() == name) {
      context_.Report(entry.first, KeyOf(name), std::move(message));
      return;
    }
  }
  context_.Report(node_, KeyOf(name), std::move(message));
}

YAML::Node YamlSection::Take(std::string_view name, Presence presence) {
  asked_.emplace_back(name);
  for (const auto& entry : node_) {
    if (entry.first.IsScalar() && entry.first.Scalar() == name) {
      return entry.second;
    }
  }
  if (presence == kRequired) Report(name, "the key is missing");
  return YAML::Node(YAML::NodeType::Undefined);
}

bool YamlSection::TakeScalar(std::string_view name, Presence presence,
                             std::string& text) {
  const YAML::Node node = Take(name, presence);
  if (!node.IsDefined()) return false;
  if (!node.IsScalar()) {
    context_.Report(node, KeyOf(name), "want one value");
    return false;
  }
  text = node.Scalar();
  return true;
}

bool YamlSection::ReadString(std::string_view name, Presence presence,
                             std::string& value) {
  std::string text;
  if (!TakeScalar(name, presence, text)) return false;
  if (text.empty()) {
    Report(name, "the value is empty");
    return false;
  }
  value = std::move(text);
  return true;
}

bool YamlSection::ReadStrings(std::string_view name,
                              std::vector<std::string>& value) {
  const YAML::Node node = Take(name, kOptional);
  if (!node.IsDefined()) return false;
  if (!node.IsSequence()) {
    context_.Report(node, KeyOf(name), "want a list: [a, b]");
    return false;
  }
  std::vector<std::string> strings;
  for (const YAML::Node& element : node) {
    if (!element.IsScalar() || element.Scalar().empty()) {
      context_.Report(element, KeyOf(name), "want a list of words");
      return false;
    }
    strings.push_back(element.Scalar());
  }
  value = std::move(strings);
  return true;
}

bool YamlSection::ReadPath(std::string_view name, Presence presence,
                           std::string& value) {
  std::string path;
  if (!ReadString(name, presence, path)) return false;
  path = context_.Path(path);
  std::error_code error;
  if (access(path.c_str(), R_OK) != 0) {
    Report(name, "cannot read " + path + ": " + std::strerror(errno));
    return false;
  }
  if (!std::filesystem::is_regular_file(path, error)) {
    Report(name, path + " is not a file");
    return false;
  }
  value = path;
  return true;
}

bool YamlSection::ReadBool(std::string_view name, bool& value) {
  return ReadWord<bool>(name, {{"true", true}, {"false", false}}, value);
}

bool YamlSection::ReadCount(std::string_view name, uint32_t min, uint32_t max,
                            uint32_t& value) {
  std::string text;
  if (!TakeScalar(name, kOptional, text)) return false;
  const std::optional<uint64_t> number = ParseNumberWithUnit(text, {{"", 1}});
  if (!number.has_value() || *number < min || *number > max) {
    Report(name, Quoted(text) + " is not a whole number from " +
                     std::to_string(min) + " to " + std::to_string(max));
    return false;
  }
  value = static_cast<uint32_t>(*number);
  return true;
}

bool YamlSection::ReadSize(std::string_view name, size_t min, size_t max,
                           size_t& value) {
  std::string text;
  if (!TakeScalar(name, kOptional, text)) return false;
  const std::optional<uint64_t> size = ParseNumberWithUnit(
      text, {{"", 1}, {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}});
  if (!size.has_value() || *size < min || *size > max) {
    Report(name, Quoted(text) + " is not a size such as 4MiB, from " +
                     std::to_string(min) + " to " + std::to_string(max) +
                     " bytes");
    return false;
  }
  value = *size;
  return true;
}

bool YamlSection::ReadDuration(std::string_view name, absl::Duration& value,
                               absl::Duration max) {
  std::string text;
  if (!TakeScalar(name, kOptional, text)) return false;
  const std::optional<uint64_t> milliseconds =
      ParseNumberWithUnit(text, {{"ms", 1},
                                 {"s", 1000},
                                 {"m", 60'000},
                                 {"h", 3'600'000},
                                 {"d", 24 * 3'600'000}});
  if (!milliseconds.has_value() || *milliseconds == 0 ||
      *milliseconds > static_cast<uint64_t>(absl::ToInt64Milliseconds(max))) {
    Report(name, Quoted(text) + " is not a time such as 500ms, 5s or 2m");
    return false;
  }
  value = absl::Milliseconds(static_cast<int64_t>(*milliseconds));
  return true;
}

bool YamlSection::ReadTime(std::string_view name, absl::Time& value) {
  std::string text;
  if (!TakeScalar(name, kOptional, text)) return false;
  std::string error;
  if (!absl::ParseTime(absl::RFC3339_full, text, &value, &error)) {
    Report(name, Quoted(text) + " is not a time such as 2026-11-01T06:00:00Z");
    return false;
  }
  return true;
}

int YamlSection::ReadWordIndex(std::string_view name,
                               const std::vector<std::string>& words) {
  std::string text;
  if (!TakeScalar(name, kOptional, text)) return -1;
  const auto found = std::find(words.begin(), words.end(), text);
  if (found == words.end()) {
    Report(name, Quoted(text) + " is not one of " + Listed(words));
    return -1;
  }
  return static_cast<int>(found - words.begin());
}

bool YamlSection::ReadSection(std::string_view name, Presence presence,
                              const std::function<void(YamlSection&)>& read) {
  const YAML::Node node = Take(name, presence);
  if (!node.IsDefined()) return false;
  YamlSection section(context_, node, KeyOf(name));
  if (node.IsMap()) read(section);
  return true;
}

bool YamlSection::ReadSections(std::string_view name, Presence presence,
                               const std::function<void(YamlSection&)>& read) {
  const YAML::Node node = Take(name, presence);
  if (!node.IsDefined()) return false;
  if (!node.IsSequence()) {
    context_.Report(node, KeyOf(name), "want a list of mappings");
    return false;
  }
  size_t index = 0;
  for (const YAML::Node& element : node) {
    YamlSection section(context_, element,
                        KeyOf(name) + "[" + std::to_string(index++) + "]");
    if (element.IsMap()) read(section);
  }
  return true;
}

bool YamlSection::ReadNamedSections(
    std::string_view name, Presence presence,
    const std::function<void(const std::string&, YamlSection&)>& read) {
  return ReadSection(name, presence, [&](YamlSection& names) {
    for (const auto& entry : names.node_) {
      if (!entry.first.IsScalar()) continue;  // reported already
      const std::string& each = entry.first.Scalar();
      YamlSection section(context_, entry.second, names.KeyOf(each));
      if (entry.second.IsMap()) read(each, section);
    }
  });
}

void YamlSection::Finish() {
  for (const auto& entry : node_) {
    if (!entry.first.IsScalar()) continue;
    const std::string& name = entry.first.Scalar();
    if (std::find(asked_.begin(), asked_.end(), name) != asked_.end()) {
      continue;
    }
    const std::string nearest = NearestWord(name, asked_);
    context_.Report(entry.first, KeyOf(name),
                    nearest.empty()
                        ? "unknown key; known keys: " + Listed(asked_)
                        : "unknown key; did you mean " + nearest + "?");
  }
}

void ReadYaml(YamlContext& context, std::string_view text,
              const std::function<void(YamlSection&)>& read) {
  if (text.size() > kMaxFileSize) {
    context.problems.push_back({0, "", "the file is larger than 1 MiB"});
    return;
  }
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(std::string(text));
    if (documents.size() != 1 || !documents[0].IsMap()) {
      context.problems.push_back({1, "", "want one document with a mapping"});
      return;
    }
    YamlSection section(context, documents[0], "");
    read(section);
  } catch (const YAML::Exception& error) {
    context.problems.push_back({error.mark.line + 1, "", error.msg});
  } catch (const std::exception& error) {
    context.problems.push_back({0, "", error.what()});
  }
  std::stable_sort(context.problems.begin(), context.problems.end(),
                   [](const ConfigProblem& a, const ConfigProblem& b) {
                     return a.line < b.line;
                   });
}

// Not mapped: an administrator may edit the file while it is read.
absl::StatusOr<std::string> ReadYamlText(const std::string& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::string text(kMaxFileSize + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!file.is_open() || file.bad()) {
    return FileError(errno != 0 ? errno : EIO, v1::STAGE_USAGE, "read", path);
  }
  text.resize(static_cast<size_t>(file.gcount()));
  return text;
}

std::string FolderOf(const std::string& path) {
  const std::filesystem::path folder =
      std::filesystem::path(path).parent_path();
  return folder.empty() ? "." : folder.string();
}

}  // namespace codeseal
