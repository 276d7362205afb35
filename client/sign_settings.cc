#include "client/sign_settings.h"

#include <fnmatch.h>
#include <yaml-cpp/yaml.h>

#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/sign_options.h"
#include "client/small_file.h"
#include "codesign/base/error.h"
#include "codesign/code_directory.h"

namespace codeseal::client {
namespace {

constexpr char kNone[] = "none";

bool Matches(const std::string& pattern, const std::string& path) {
  if (path.empty() || pattern == ".") return path.empty() && pattern == ".";
  const bool crosses_folders = pattern.find("**") != std::string::npos;
  return fnmatch(pattern.c_str(), path.c_str(),
                 crosses_folders ? 0 : FNM_PATHNAME) == 0;
}

}  // namespace

class SignSettings::Reader {
 public:
  explicit Reader(SignSettings& settings)
      : settings_(settings),
        folder_(
            std::filesystem::path(settings.file_path_).parent_path().string()) {
  }

  absl::Status Read() {
    try {
      const YAML::Node root = YAML::LoadFile(settings_.file_path_);
      if (root.IsNull()) return absl::OkStatus();
      if (!root.IsMap()) {
        return Fault(root.Mark(), "want `path: settings` entries");
      }
      for (const auto& entry : root) {
        RETURN_IF_ERROR(ReadEntry(entry.first, entry.second));
      }
    } catch (const YAML::BadFile&) {
      return Fault(YAML::Mark::null_mark(), "cannot be read");
    } catch (const YAML::Exception& fault) {
      return Fault(fault.mark, fault.msg);
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Fault(const YAML::Mark& mark, std::string_view message) const {
    const std::string& path = settings_.file_path_;
    std::string text =
        mark.is_null() ? path : absl::StrCat(path, ":", mark.line + 1);
    text.append(": ").append(message);
    return WithSubject(MakeError(absl::StatusCode::kInvalidArgument,
                                 v1::STAGE_USAGE, v1::REASON_BAD_CONFIG, text),
                       path);
  }

  absl::Status ReadEntry(const YAML::Node& key, const YAML::Node& value) {
    Entry entry = {.pattern = key.as<std::string>(),
                   .line = key.Mark().line + 1};
    for (const Entry& other : settings_.entries_) {
      if (other.pattern == entry.pattern) {
        return Fault(key.Mark(), entry.pattern + " is given twice");
      }
    }
    if (!value.IsMap()) {
      return Fault(value.Mark(), "want `key: value` lines");
    }
    for (const auto& setting : value) {
      const auto name = setting.first.as<std::string>();
      if (!setting.second.IsScalar()) {
        return Fault(setting.second.Mark(), name + " wants one text");
      }
      RETURN_IF_ERROR(ReadSetting(setting.first.Mark(), name,
                                  setting.second.Scalar(), entry));
    }
    settings_.entries_.push_back(std::move(entry));
    return absl::OkStatus();
  }

  absl::Status ReadSetting(const YAML::Mark& mark, const std::string& name,
                           const std::string& value, Entry& entry) const {
    if (name == "entitlements") {
      entry.has_no_entitlements = value == kNone;
      if (entry.has_no_entitlements) return absl::OkStatus();
      absl::StatusOr<Bytes> content =
          LoadEntitlements((std::filesystem::path(folder_) / value).string());
      if (!content.ok()) return Fault(mark, Message(content.status()));
      entry.entitlements = *std::move(content);
    } else if (name == "options") {
      const absl::StatusOr<uint32_t> flags = ParseCodeDirectoryFlags(value);
      if (!flags.ok()) return Fault(mark, Message(flags.status()));
      entry.flags = *flags;
    } else if (name == "identifier") {
      if (value.empty()) return Fault(mark, "the identifier is empty");
      entry.identifier = value;
    } else if (name == "requirements") {
      entry.requirements =
          value.starts_with("=")
              ? value
              : (std::filesystem::path(folder_) / value).string();
    } else {
      return Fault(mark, "unknown key " + name +
                             "; the keys are entitlements, options, "
                             "identifier and requirements");
    }
    return absl::OkStatus();
  }

  SignSettings& settings_;
  const std::string folder_;
};

absl::StatusOr<SignSettings> SignSettings::Load(const std::string& path) {
  SignSettings settings;
  settings.file_path_ = path;
  RETURN_IF_ERROR(Reader(settings).Read());
  return settings;
}

absl::Status SignSettings::Apply(const std::string& path,
                                 SigningOptions& options) {
  std::optional<std::string> requirements;
  for (Entry& entry : entries_) {
    if (!Matches(entry.pattern, path)) continue;
    entry.is_used = true;
    if (entry.entitlements.has_value()) {
      options.entitlements = entry.entitlements;
    } else if (entry.has_no_entitlements) {
      options.entitlements.reset();
    }
    if (entry.flags.has_value()) options.flags = entry.flags;
    if (entry.identifier.has_value()) options.identifier = entry.identifier;
    if (entry.requirements.has_value()) requirements = entry.requirements;
  }
  if (requirements.has_value()) {
    RETURN_IF_ERROR(SetRequirements(*requirements, options));
  }
  return absl::OkStatus();
}

absl::Status SignSettings::CheckAllUsed() const {
  for (const Entry& entry : entries_) {
    if (entry.is_used) continue;
    return WithSubject(
        MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_USAGE,
                  v1::REASON_BAD_CONFIG,
                  absl::StrCat(file_path_, ":", entry.line, ": ", entry.pattern,
                               " fits no code that is to be signed")),
        file_path_);
  }
  return absl::OkStatus();
}

}  // namespace codeseal::client
