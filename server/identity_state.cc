#include "server/identity_state.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <mutex>
#include <system_error>
#include <utility>

#include "absl/strings/escaping.h"
#include "codesign/base/error.h"
#include "codesign/base/staged_file.h"
#include "nlohmann/json.hpp"

namespace codeseal {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr int kFormat = 1;

absl::Status StateError(absl::StatusCode code, const std::string& path,
                        const std::string& message) {
  return WithSubject(MakeError(code, v1::STAGE_USAGE, v1::REASON_STATE_STORE,
                               path + ": " + message),
                     path);
}

void PutTime(Json& json, const char* name, absl::Time time) {
  if (time == absl::InfinitePast() || time == absl::InfiniteFuture()) return;
  json[name] = absl::FormatTime(absl::RFC3339_full, time, absl::UTCTimeZone());
}

// Throws what nlohmann throws; `time` keeps its value when there is none.
void GetTime(const Json& json, const char* name, absl::Time& time) {
  if (!json.contains(name)) return;
  std::string error;
  if (!absl::ParseTime(absl::RFC3339_full, json.at(name).get<std::string>(),
                       &time, &error)) {
    throw std::invalid_argument(std::string(name) + ": " + error);
  }
}

v1::IdentityState GetState(const Json& json, const char* name) {
  v1::IdentityState state = v1::IDENTITY_STATE_UNSPECIFIED;
  const auto word = json.at(name).get<std::string>();
  if (!v1::IdentityState_Parse(word, &state)) {
    throw std::invalid_argument("unknown state " + word);
  }
  return state;
}

Json RecordToJson(const IdentityRecord& record) {
  const IdentityLifecycle& lifecycle = record.lifecycle;
  Json json = {{"identity", record.identity},
               {"version", record.version},
               {"state", v1::IdentityState_Name(lifecycle.state)},
               {"configured", v1::IdentityState_Name(record.configured)}};
  PutTime(json, "since", lifecycle.since);
  PutTime(json, "activate_at", lifecycle.activate_at);
  PutTime(json, "signs_until", lifecycle.signs_until);
  if (lifecycle.requirement_change_allowed) {
    json["requirement_change_allowed"] = true;
  }
  if (record.configured == v1::IDENTITY_STATE_UNSPECIFIED) {
    json["keys"] = Json::array();
    for (const KeyLocation& each : record.keys) {
      json["keys"].push_back({{"token", each.token},
                              {"id", HexEncode(each.key.id)},
                              {"label", each.key.label}});
    }
    json["chain_pem"] = record.chain_pem;
  }
  return json;
}

IdentityRecord FromJson(const Json& json) {
  IdentityRecord record;
  record.identity = json.at("identity").get<std::string>();
  record.version = json.at("version").get<std::string>();
  record.configured = GetState(json, "configured");
  IdentityLifecycle& lifecycle = record.lifecycle;
  lifecycle.state = GetState(json, "state");
  GetTime(json, "since", lifecycle.since);
  GetTime(json, "activate_at", lifecycle.activate_at);
  GetTime(json, "signs_until", lifecycle.signs_until);
  lifecycle.requirement_change_allowed =
      json.value("requirement_change_allowed", false);
  if (record.configured == v1::IDENTITY_STATE_UNSPECIFIED) {
    for (const Json& key : json.at("keys")) {
      const std::string id =
          absl::HexStringToBytes(key.at("id").get<std::string>());
      record.keys.push_back(
          {key.at("token").get<std::string>(),
           {ToBytes(id), key.at("label").get<std::string>()}});
    }
    record.chain_pem = json.at("chain_pem").get<std::string>();
  }
  return record;
}

class StateFile : public IdentityStateStore {
 public:
  StateFile(std::string path, int lock_fd)
      : path_(std::move(path)), lock_fd_(lock_fd) {}
  ~StateFile() override {
    if (lock_fd_ >= 0) close(lock_fd_);
  }
  StateFile(const StateFile&) = delete;
  StateFile& operator=(const StateFile&) = delete;

  absl::StatusOr<std::vector<IdentityRecord>> Load() override {
    const std::lock_guard lock(mutex_);
    return LoadLocked();
  }

  absl::Status Save(std::span<const IdentityRecord> records) override {
    const std::lock_guard lock(mutex_);
    if (lock_fd_ < 0) {
      return StateError(absl::StatusCode::kFailedPrecondition, path_,
                        "opened for reading only");
    }
    ASSIGN_OR_RETURN(std::vector<IdentityRecord> all, LoadLocked());
    for (const IdentityRecord& each : records) {
      const auto known = std::find_if(
          all.begin(), all.end(), [&](const IdentityRecord& other) {
            return other.identity == each.identity &&
                   other.version == each.version;
          });
      if (known == all.end()) {
        all.push_back(each);
      } else {
        *known = each;
      }
    }
    Json json = {{"format", kFormat}, {"versions", Json::array()}};
    for (const IdentityRecord& each : all) {
      json["versions"].push_back(RecordToJson(each));
    }
    const std::string text =
        json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
    ASSIGN_OR_RETURN(StagedFile file, StagedFile::Create(path_, 0600));
    RETURN_IF_ERROR(file.Write(AsBytes(text), 0));
    RETURN_IF_ERROR(file.Commit());
    records_ = std::move(all);
    return absl::OkStatus();
  }

 private:
  absl::StatusOr<std::vector<IdentityRecord>> LoadLocked() {
    // Whoever has the lock is the only one who writes.
    if (lock_fd_ >= 0 && records_.has_value()) return *records_;
    std::ifstream file(path_, std::ios::binary);
    if (!file.is_open()) {
      if (errno == ENOENT) return std::vector<IdentityRecord>();
      return FileError(errno, v1::STAGE_USAGE, "read", path_);
    }
    const std::string text(std::istreambuf_iterator<char>(file), {});
    std::vector<IdentityRecord> records;
    try {
      const Json json = Json::parse(text);
      if (json.at("format").get<int>() != kFormat) {
        return StateError(absl::StatusCode::kFailedPrecondition, path_,
                          "written by another version of codeseald");
      }
      for (const Json& each : json.at("versions")) {
        records.push_back(FromJson(each));
      }
    } catch (const std::exception& error) {
      // Never taken for empty: a disabled version would sign again.
      return StateError(
          absl::StatusCode::kFailedPrecondition, path_,
          std::string("damaged, restore it from a backup: ") + error.what());
    }
    if (lock_fd_ >= 0) records_ = records;
    return records;
  }

  const std::string path_;
  const int lock_fd_;
  std::mutex mutex_;
  std::optional<std::vector<IdentityRecord>> records_;
};

absl::StatusOr<int> LockFolder(const std::string& folder) {
  std::error_code error;
  if (fs::create_directories(folder, error)) {
    fs::permissions(folder, fs::perms::owner_all, error);
  }
  if (error) return FileError(error.value(), v1::STAGE_USAGE, "make", folder);
  const std::string path = (fs::path(folder) / "identities.lock").string();
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return FileError(errno, v1::STAGE_USAGE, "open", path);
  if (flock(fd, LOCK_EX | LOCK_NB) == 0) return fd;
  const int why = errno;
  close(fd);
  if (why != EWOULDBLOCK) {
    return FileError(why, v1::STAGE_USAGE, "lock", path);
  }
  return StateError(absl::StatusCode::kUnavailable, folder,
                    "another codeseald uses this state folder");
}

}  // namespace

absl::StatusOr<std::unique_ptr<IdentityStateStore>> OpenIdentityState(
    const std::string& folder, bool lock) {
  int fd = -1;
  if (lock) {
    ASSIGN_OR_RETURN(fd, LockFolder(folder));
  }
  return std::make_unique<StateFile>(
      (fs::path(folder) / "identities.json").string(), fd);
}

}  // namespace codeseal
