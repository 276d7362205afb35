#include "codesign/assess/library_rule.h"

#include <filesystem>
#include <map>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "codesign/base/error.h"
#include "codesign/base/mapped_file.h"
#include "codesign/bundle/bundle.h"
#include "codesign/macho/library_paths.h"
#include "codesign/macho/universal_file.h"

namespace codeseal {
namespace {

namespace fs = std::filesystem;

// Where a path of a load command leads.
struct Place {
  fs::path path;
  bool counts_from_code = false;  // by @executable_path or @loader_path
};

// The program in whose process a file's code runs: it decides what
// @executable_path is, and its LC_RPATHs hold for all libraries.
struct Program {
  fs::path folder;
  // By architecture, in the order of the search, expanded.
  std::map<std::string, std::vector<Place>> search_paths;
};

bool Exists(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

// Links are followed as far as the path exists.
fs::path Resolved(const fs::path& path) {
  std::error_code error;
  const fs::path resolved = fs::weakly_canonical(path, error);
  return error ? path.lexically_normal() : resolved;
}

bool IsBelow(const fs::path& path, const fs::path& folder) {
  const std::string relative = path.lexically_relative(folder).string();
  return !relative.empty() && relative != ".." && !relative.starts_with("../");
}

bool IsSystemPath(const fs::path& path) {
  const fs::path normal = path.lexically_normal();
  return IsBelow(normal, "/usr/lib") || IsBelow(normal, "/System") ||
         normal == "/usr/lib" || normal == "/System";
}

// The rest of `path` behind `word` and a slash.
std::optional<std::string_view> Behind(std::string_view path,
                                       std::string_view word) {
  if (path == word) return "";
  if (!path.starts_with(word) || path[word.size()] != '/') return std::nullopt;
  return path.substr(word.size() + 1);
}

// As the dynamic linker does it: by joining texts, whatever `rest` begins with.
fs::path Below(const fs::path& folder, std::string_view rest) {
  return fs::path(folder.string() + "/" + std::string(rest));
}

class LibraryRule {
 public:
  LibraryRule(const std::string& bundle, std::span<const FoundFile> files)
      : given_(fs::absolute(bundle).lexically_normal()),
        root_(Resolved(given_)),
        files_(files) {}

  std::vector<Finding> Run() {
    for (const FoundFile& file : files_) {
      if (file.is_mach_o) CheckFile(file);
    }
    return std::move(findings_);
  }

 private:
  // Nullopt: it begins with @rpath.
  static std::optional<Place> Expand(std::string_view path,
                                     const fs::path& loader,
                                     const fs::path& program) {
    if (const auto rest = Behind(path, "@executable_path")) {
      return Place{Below(program, *rest), true};
    }
    if (const auto rest = Behind(path, "@loader_path")) {
      return Place{Below(loader, *rest), true};
    }
    if (Behind(path, "@rpath").has_value()) return std::nullopt;
    return Place{fs::path(path), false};
  }

  // A place that does not count from the code is not in the bundle once the
  // bundle is elsewhere, even if it is now.
  bool IsAllowed(const Place& place) const {
    return IsSystemPath(place.path) ||
           (place.counts_from_code && IsBelow(Resolved(place.path), root_));
  }

  static std::vector<Place> Expand(const LibraryPaths& paths,
                                   const fs::path& loader,
                                   const fs::path& program) {
    std::vector<Place> expanded;
    for (const LibraryPaths::Entry& each : paths.search_paths) {
      if (const auto place = Expand(each.path, loader, program)) {
        expanded.push_back(*place);
      }
    }
    return expanded;
  }

  // The bundle nearest around the file that has a program of its own.
  const Program& ProgramOf(const fs::path& file) {
    fs::path folder = file.parent_path();
    while (IsBelow(folder, given_) && folder != given_ &&
           !Exists(folder / "Contents" / "MacOS")) {
      folder = folder.parent_path();
    }
    if (folder != given_ && !IsBelow(folder, given_)) folder = given_;
    const auto [entry, is_new] = programs_.try_emplace(folder.string());
    if (is_new) entry->second = ReadProgram(folder);
    return entry->second;
  }

  Program ReadProgram(const fs::path& folder) const {
    Program program;
    program.folder = folder;
    const absl::StatusOr<Bundle> bundle = Bundle::Open(folder.string());
    if (!bundle.ok()) return program;
    program.folder = fs::absolute(bundle->main_file()).parent_path();
    const absl::StatusOr<MappedFile> file =
        MappedFile::Open(bundle->main_file());
    if (!file.ok()) return program;
    const absl::StatusOr<UniversalFile> code =
        UniversalFile::Parse(file->bytes());
    if (!code.ok()) return program;
    for (const UniversalFile::Slice& slice : code->slices()) {
      const absl::StatusOr<LibraryPaths> paths = ReadLibraryPaths(slice.mach_o);
      if (!paths.ok()) continue;
      program.search_paths[slice.mach_o.architecture().Name()] =
          Expand(*paths, program.folder, program.folder);
    }
    return program;
  }

  void CheckFile(const FoundFile& file) {
    const absl::StatusOr<MappedFile> mapped = MappedFile::Open(file.path);
    if (!mapped.ok()) return;
    const absl::StatusOr<UniversalFile> code =
        UniversalFile::Parse(mapped->bytes());
    if (!code.ok()) return;
    for (const UniversalFile::Slice& slice : code->slices()) {
      const absl::StatusOr<LibraryPaths> paths = ReadLibraryPaths(slice.mach_o);
      if (!paths.ok()) continue;
      for (const LibraryPaths::Entry& each : paths->libraries) {
        CheckLibrary(file, slice, *paths, each);
      }
    }
  }

  void CheckLibrary(const FoundFile& file, const UniversalFile::Slice& slice,
                    const LibraryPaths& paths,
                    const LibraryPaths::Entry& library) {
    const fs::path location = fs::absolute(file.path).lexically_normal();
    const fs::path loader = location.parent_path();
    const Program& owner = ProgramOf(location);
    // A helper beside the main program is a process of its own.
    const fs::path program =
        slice.mach_o.is_main_executable() ? loader : owner.folder;
    if (const auto place = Expand(library.path, loader, program)) {
      if (IsAllowed(*place)) return;
      Report(
          file, slice, library, place->path.lexically_normal(),
          "it is not in the bundle and not the system's",
          "copy the library into Contents/Frameworks, and change the path "
          "with llvm-install-name-tool (install_name_tool on a Mac) -change " +
              std::string(library.path) + " @rpath/" +
              place->path.filename().string());
      return;
    }
    const std::string_view rest = *Behind(library.path, "@rpath");
    std::vector<Place> search = Expand(paths, loader, program);
    if (!slice.mach_o.is_main_executable()) {
      const auto inherited =
          owner.search_paths.find(slice.mach_o.architecture().Name());
      if (inherited != owner.search_paths.end()) {
        search.insert(search.end(), inherited->second.begin(),
                      inherited->second.end());
      }
    }
    for (const Place& folder : search) {
      const Place candidate = {Below(folder.path, rest),
                               folder.counts_from_code};
      if (!IsAllowed(candidate)) {
        Report(file, slice, library, candidate.path.lexically_normal(),
               absl::StrCat("LC_RPATH ", folder.path.string(),
                            " is searched for it and lies outside the bundle"),
               "remove it with llvm-install-name-tool (install_name_tool on a "
               "Mac) -delete_rpath, and put the library where an LC_RPATH of "
               "the bundle leads");
        return;
      }
      if (Exists(candidate.path) || IsSystemPath(candidate.path)) return;
    }
    // Not found: the program will not start, or does without a weak library.
    // Nothing from outside is loaded.
  }

  void Report(const FoundFile& file, const UniversalFile::Slice& slice,
              const LibraryPaths::Entry& library, const fs::path& place,
              const std::string& why, std::string fix) {
    findings_.push_back(
        {.rule = "library-path",
         .severity = Severity::kError,
         .path = file.path,
         .architecture = slice.mach_o.architecture().Name(),
         .message = "The code loads a library from outside its bundle.",
         .detail = absl::StrCat(std::string(library.command), " ",
                                std::string(library.path), " leads to ",
                                place.string(), ": ", why),
         .fix = std::move(fix) + "; then sign again",
         .byte_offset = slice.offset + library.offset});
  }

  const fs::path given_;
  const fs::path root_;
  const std::span<const FoundFile> files_;
  std::map<std::string, Program> programs_;
  std::vector<Finding> findings_;
};

}  // namespace

std::vector<Finding> CheckLibraryPaths(const std::string& bundle,
                                       std::span<const FoundFile> files) {
  return LibraryRule(bundle, files).Run();
}

}  // namespace codeseal
