// Everything that can be told of a folder: names, types, modes, contents. Long
// contents are hashed, so that a difference can be printed.

#ifndef CODESEAL_TESTS_SUPPORT_TREE_SNAPSHOT_H_
#define CODESEAL_TESTS_SUPPORT_TREE_SNAPSHOT_H_

#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <string>

namespace codeseal::testing {

// Relative path to type, mode and content (the target of a link).
using TreeSnapshot = std::map<std::string, std::string>;

inline TreeSnapshot TakeSnapshot(const std::filesystem::path& root) {
  namespace fs = std::filesystem;
  TreeSnapshot snapshot;
  if (!fs::exists(fs::symlink_status(root))) return snapshot;
  const auto add = [&](const fs::path& path) {
    const fs::file_status status = fs::symlink_status(path);
    std::string text =
        std::to_string(static_cast<int>(status.type())) + " " +
        std::to_string(static_cast<unsigned>(status.permissions())) + " ";
    if (status.type() == fs::file_type::symlink) {
      text += fs::read_symlink(path).string();
    } else if (status.type() == fs::file_type::regular) {
      std::ifstream file(path, std::ios::binary);
      const std::string content(std::istreambuf_iterator<char>(file), {});
      text += content.size() <= 100
                  ? content
                  : std::to_string(content.size()) + " bytes, hash " +
                        std::to_string(std::hash<std::string>()(content));
    }
    snapshot[path.lexically_relative(root).string()] = std::move(text);
  };
  add(root);
  if (!fs::is_directory(fs::symlink_status(root))) return snapshot;
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    add(entry.path());
  }
  return snapshot;
}

}  // namespace codeseal::testing

#endif  // CODESEAL_TESTS_SUPPORT_TREE_SNAPSHOT_H_
