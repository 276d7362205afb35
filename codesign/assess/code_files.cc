#include "codesign/assess/code_files.h"

#include <algorithm>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>

#include "codesign/base/error.h"
#include "codesign/base/mapped_file.h"
#include "codesign/bundle/tree_walk.h"
#include "codesign/macho/universal_file.h"

namespace codeseal {
namespace {

bool LooksLikeArchive(ByteView bytes) {
  const std::string_view text = AsText(bytes);
  constexpr size_t kTarMagicOffset = 257;
  return text.starts_with("PK\x03\x04") || text.starts_with("\x1f\x8b") ||
         text.starts_with(
             "\xfd"
             "7zXZ") ||
         text.starts_with("!<arch>\n") ||
         (text.size() > kTarMagicOffset &&
          text.substr(kTarMagicOffset).starts_with("ustar"));
}

void Recognise(FoundFile& file) {
  const absl::StatusOr<MappedFile> mapped = MappedFile::Open(file.path);
  if (!mapped.ok()) return;  // verification says so
  const ByteView bytes = mapped->bytes();
  file.mode = mapped->mode();
  file.size = bytes.size();
  file.is_mach_o = LooksLikeMachO(bytes);
  file.is_archive = LooksLikeArchive(bytes);
  file.is_script = AsText(bytes).starts_with("#!");
}

}  // namespace

absl::StatusOr<std::vector<FoundFile>> FindFiles(const std::string& path) {
  std::vector<FoundFile> files;
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) {
    RETURN_IF_ERROR(MappedFile::Open(path).status());
    files.push_back({.path = path, .relative_path = ""});
    Recognise(files.back());
    return files;
  }
  RETURN_IF_ERROR(WalkTree(
      path, path, [&](const TreeNode& node) -> absl::StatusOr<WalkStep> {
        if (node.type == NodeType::kFile) {
          files.push_back({.path = node.absolute_path,
                           .relative_path = node.path,
                           .mode = node.mode,
                           .size = node.size});
          Recognise(files.back());
        }
        return WalkStep::kContinue;
      }));
  std::sort(files.begin(), files.end(),
            [](const FoundFile& a, const FoundFile& b) {
              return a.relative_path < b.relative_path;
            });
  return files;
}

}  // namespace codeseal
