// The bundle of a corpus item as its maker shipped it. npm leaves out symbolic
// links: a versioned framework is a copy in which they are restored.

#ifndef CODESEAL_TESTS_SUPPORT_CORPUS_BUNDLE_H_
#define CODESEAL_TESTS_SUPPORT_CORPUS_BUNDLE_H_

#include <filesystem>
#include <string>

#include "tests/support/corpus.h"
#include "tests/support/temp_folder.h"

namespace codeseal::testing {

class CorpusBundle {
 public:
  // Of items that are no bundle, the path is the item's own.
  explicit CorpusBundle(const CorpusItem& item) : path_(item.path) {
    namespace fs = std::filesystem;
    const fs::path framework = item.path;
    if (!fs::exists(framework / "Versions/A") ||
        fs::exists(framework / "Versions/Current")) {
      return;
    }
    path_ = folder_.Path(framework.filename().string());
    fs::copy(framework, path_, fs::copy_options::recursive);
    fs::create_directory_symlink("A", path_ / "Versions/Current");
    for (const auto& entry : fs::directory_iterator(path_ / "Versions/A")) {
      const fs::path name = entry.path().filename();
      if (name != "_CodeSignature") {
        fs::create_symlink("Versions/Current" / name, path_ / name);
      }
    }
  }
  std::string path() const { return path_.string(); }

 private:
  TempFolder folder_;
  std::filesystem::path path_;
};

}  // namespace codeseal::testing

#endif  // CODESEAL_TESTS_SUPPORT_CORPUS_BUNDLE_H_
