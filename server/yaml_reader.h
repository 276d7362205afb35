// Reads YAML strictly: every key must be asked for, every value must have the
// type that is asked for, and all faults are collected instead of stopping at
// the first one.

#ifndef CODESEAL_SERVER_YAML_READER_H_
#define CODESEAL_SERVER_YAML_READER_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/config.h"
#include "yaml-cpp/yaml.h"

namespace codeseal {

// Where faults go, and where relative paths count from.
struct YamlContext {
  std::string folder;
  std::vector<ConfigProblem> problems;

  void Report(const YAML::Node& node, std::string_view key,
              std::string message);
  // `path`, counted from the folder.
  std::string Path(std::string_view path) const;
};

enum class Presence : uint8_t { kRequired, kOptional };
using enum Presence;

// One mapping of the file. Borrows the context. Each Read*() returns whether
// the key was there and well-formed, and changes `value` only then. Finish()
// reports the keys that nobody asked for.
class YamlSection {
 public:
  // Reports duplicate keys and a node that is not a mapping.
  YamlSection(YamlContext& context, const YAML::Node& node, std::string key);

  bool ReadString(std::string_view name, Presence presence, std::string& value);
  bool ReadStrings(std::string_view name, std::vector<std::string>& value);
  // A file that can be read; relative to the context's folder.
  bool ReadPath(std::string_view name, Presence presence, std::string& value);
  bool ReadBool(std::string_view name, bool& value);
  bool ReadCount(std::string_view name, uint32_t min, uint32_t max,
                 uint32_t& value);
  // 4MiB, 64KiB or a number of bytes.
  bool ReadSize(std::string_view name, size_t min, size_t max, size_t& value);
  // 500ms, 5s, 2m, 24h, 1d; more than zero.
  bool ReadDuration(std::string_view name, absl::Duration& value,
                    absl::Duration max = absl::Hours(24));
  // 2026-11-01T06:00:00Z.
  bool ReadTime(std::string_view name, absl::Time& value);
  // One of the given words.
  template <typename T>
  bool ReadWord(std::string_view name,
                const std::vector<std::pair<std::string, T>>& words, T& value) {
    std::vector<std::string> names;
    for (const auto& word : words) names.push_back(word.first);
    const int index = ReadWordIndex(name, names);
    if (index >= 0) value = words[static_cast<size_t>(index)].second;
    return index >= 0;
  }
  // A nested mapping; `read` must call Finish() on it.
  bool ReadSection(std::string_view name, Presence presence,
                   const std::function<void(YamlSection&)>& read);
  // A list of mappings.
  bool ReadSections(std::string_view name, Presence presence,
                    const std::function<void(YamlSection&)>& read);
  // A mapping whose keys are names of the user's choice.
  bool ReadNamedSections(
      std::string_view name, Presence presence,
      const std::function<void(const std::string&, YamlSection&)>& read);

  // The keys that are there, for sections whose keys the user chooses.
  std::vector<std::string> Names() const;

  void Report(std::string_view name, std::string message);
  void Finish();

 private:
  YAML::Node Take(std::string_view name, Presence presence);
  // Scalar text, or a report.
  bool TakeScalar(std::string_view name, Presence presence, std::string& text);
  int ReadWordIndex(std::string_view name,
                    const std::vector<std::string>& words);
  std::string KeyOf(std::string_view name) const;

  YamlContext& context_;
  YAML::Node node_;
  std::string key_;
  std::vector<std::string> asked_;
};

// Runs `read`, which must call Finish(), on the top mapping of the one document
// in the text. Problems are in the order of their lines. yaml-cpp throws;
// nothing leaves here.
void ReadYaml(YamlContext& context, std::string_view text,
              const std::function<void(YamlSection&)>& read);

// A file's text, as far as ReadYaml() would take it.
// Errors: NOT_FOUND REASON_FILE_NOT_FOUND and its like.
absl::StatusOr<std::string> ReadYamlText(const std::string& path);

// Where the relative paths in the file count from.
std::string FolderOf(const std::string& path);

// The word of `words` that was probably meant; empty when none is near.
std::string NearestWord(std::string_view word,
                        const std::vector<std::string>& words);

}  // namespace codeseal

#endif  // CODESEAL_SERVER_YAML_READER_H_
