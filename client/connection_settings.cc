#include "client/connection_settings.h"

#include <yaml-cpp/yaml.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "codesign/base/error.h"

namespace codeseal::client {
namespace {

struct Setting {
  const char* name;  // of the option and of the key in the file
  const char* variable;
  std::string ConnectionSettings::* field;
  bool is_path;
};

constexpr std::array kSettings = {
    Setting{"server", "CODESEAL_SERVER", &ConnectionSettings::server, false},
    Setting{"ca", "CODESEAL_CA", &ConnectionSettings::ca, true},
    Setting{"cert", "CODESEAL_CERT", &ConnectionSettings::cert, true},
    Setting{"key", "CODESEAL_KEY", &ConnectionSettings::key, true},
};

absl::Status SettingsError(Reason reason, std::string_view message) {
  return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_USAGE, reason,
                   message);
}

absl::Status FileFault(const std::string& path, const YAML::Mark& mark,
                       const std::string& message) {
  const std::string place =
      mark.is_null() ? path : absl::StrCat(path, ":", mark.line + 1);
  return WithSubject(
      SettingsError(v1::REASON_BAD_CONFIG, absl::StrCat(place, ": ", message)),
      path);
}

absl::StatusOr<ConnectionSettings> LoadSettings(const std::string& path) {
  ConnectionSettings settings;
  std::error_code error;
  if (path.empty() || !std::filesystem::exists(path, error)) return settings;
  try {
    const YAML::Node root = YAML::LoadFile(path);
    if (root.IsNull()) return settings;
    if (!root.IsMap()) {
      return FileFault(path, root.Mark(), "want `key: value` lines");
    }
    for (const auto& entry : root) {
      const auto key = entry.first.as<std::string>();
      const Setting* setting = nullptr;
      for (const Setting& each : kSettings) {
        if (key == each.name) setting = &each;
      }
      if (setting == nullptr) {
        return FileFault(
            path, entry.first.Mark(),
            "unknown key " + key + "; the keys are server, ca, cert and key");
      }
      if (!entry.second.IsScalar()) {
        return FileFault(path, entry.second.Mark(), key + " wants one text");
      }
      if (!(settings.*(setting->field)).empty()) {
        return FileFault(path, entry.first.Mark(), key + " is given twice");
      }
      std::string value = entry.second.Scalar();
      if (setting->is_path && !value.empty()) {
        value = (std::filesystem::path(path).parent_path() / value).string();
      }
      settings.*(setting->field) = std::move(value);
    }
  } catch (const YAML::BadFile&) {
    return FileFault(path, YAML::Mark::null_mark(), "cannot be read");
  } catch (const YAML::Exception& fault) {
    return FileFault(path, fault.mark, fault.msg);
  }
  return settings;
}

}  // namespace

Environment ProcessEnvironment() {
  return [](const std::string& name) -> std::optional<std::string> {
    const char* value = std::getenv(name.c_str());
    if (value == nullptr) return std::nullopt;
    return value;
  };
}

std::string DefaultSettingsPath(const Environment& environment) {
  std::string folder = environment("XDG_CONFIG_HOME").value_or("");
  if (folder.empty()) {
    folder = environment("HOME").value_or("");
    if (folder.empty()) return "";
    folder += "/.config";
  }
  return folder + "/codeseal/client.yaml";
}

absl::StatusOr<ConnectionSettings> ResolveConnection(
    const ConnectionFlags& flags, const Environment& environment,
    const std::string& settings_path) {
  ConnectionSettings settings;
  bool complete = true;
  for (const Setting& each : kSettings) {
    std::string& value = settings.*(each.field);
    value = flags.*(each.field);
    if (value.empty()) value = environment(each.variable).value_or("");
    complete = complete && !value.empty();
  }
  // A broken file does not matter to who does not need it.
  if (complete) return settings;

  ASSIGN_OR_RETURN(const ConnectionSettings stored,
                   LoadSettings(settings_path));
  std::string missing;
  for (const Setting& each : kSettings) {
    std::string& value = settings.*(each.field);
    if (value.empty()) value = stored.*(each.field);
    if (value.empty()) {
      absl::StrAppend(&missing, missing.empty() ? "" : ", ", "--", each.name,
                      " (or ", each.variable, ")");
    }
  }
  if (!missing.empty()) {
    return SettingsError(
        v1::REASON_USAGE,
        absl::StrCat("to reach a server this is missing: ", missing,
                     settings_path.empty()
                         ? ""
                         : absl::StrCat("; or write it to ", settings_path),
                     "; a token on this machine needs --token URI instead"));
  }
  return settings;
}

}  // namespace codeseal::client
