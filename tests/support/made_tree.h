// A folder of files, links and folders that a test makes; removed with it.

#ifndef CODESEAL_TESTS_SUPPORT_MADE_TREE_H_
#define CODESEAL_TESTS_SUPPORT_MADE_TREE_H_

#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/temp_folder.h"

namespace codeseal::testing {

// Paths are relative to the folder. What a call needs above a path is made.
class MadeTree {
 public:
  std::string Path(std::string_view path = "") const {
    return path.empty() ? folder_.path() : folder_.Path(path);
  }

  // A file with the mode 0644.
  void File(std::string_view path, std::string_view content = "") {
    MakeParent(path);
    folder_.Write(path, content);
    Mode(path, 0644);
  }
  void Executable(std::string_view path, std::string_view content) {
    File(path, content);
    Mode(path, 0755);
  }
  void Folder(std::string_view path) {
    std::filesystem::create_directories(Path(path));
  }
  void Link(std::string_view path, std::string_view target) {
    MakeParent(path);
    std::filesystem::create_symlink(target, Path(path));
  }
  void Mode(std::string_view path, unsigned mode) {
    std::filesystem::permissions(Path(path), std::filesystem::perms(mode));
  }
  void Remove(std::string_view path) {
    std::filesystem::remove_all(Path(path));
  }

  // An XML property list whose values are strings.
  void Plist(
      std::string_view path,
      const std::vector<std::pair<std::string, std::string>>& entries = {}) {
    std::string text = "<plist version=\"1.0\"><dict>";
    for (const auto& [key, value] : entries) {
      text += "<key>" + key + "</key><string>" + value + "</string>";
    }
    File(path, text + "</dict></plist>");
  }

 private:
  void MakeParent(std::string_view path) {
    std::filesystem::create_directories(
        std::filesystem::path(Path(path)).parent_path());
  }

  TempFolder folder_;
};

}  // namespace codeseal::testing

#endif  // CODESEAL_TESTS_SUPPORT_MADE_TREE_H_
