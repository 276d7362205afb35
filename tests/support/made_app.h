// An app with everything that sealing treats differently: libraries, versioned
// frameworks, helpers, an XPC service, a plug-in whose executable is a script,
// scripts, localisations, symbolic links.

#ifndef CODESEAL_TESTS_SUPPORT_MADE_APP_H_
#define CODESEAL_TESTS_SUPPORT_MADE_APP_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "tests/support/mach_o_builder.h"
#include "tests/support/made_tree.h"

namespace codeseal::testing {

// Every Mach-O differs: `number` goes into its UUID.
inline Bytes MadeCode(uint32_t number, MachOFileType type,
                      size_t code_size = 5000) {
  UniversalDescription universal;
  for (const Architecture& architecture : {kX86_64, kArm64}) {
    MachODescription slice;
    slice.architecture = architecture;
    slice.file_type = type;
    slice.code_size = code_size;
    slice.header_room = 256;
    slice.uuid.emplace();
    for (size_t i = 0; i < 4; ++i) {
      (*slice.uuid)[i] = static_cast<uint8_t>(number >> (8 * i));
    }
    universal.slices.push_back({architecture, BuildMachO(slice)});
  }
  universal.align_log2 = 14;
  return BuildUniversal(universal);
}

class MadeApp {
 public:
  // Makes `name` (".app") in the tree, with `library_count` libraries beside
  // the 12 pieces of code that are always there.
  MadeApp(MadeTree& tree, const std::string& name, uint32_t library_count)
      : tree_(tree), root_(name + "/Contents") {
    Info(root_, "Demo", "APPL");
    Program(root_ + "/MacOS/Demo");
    Program(root_ + "/MacOS/demo-tool");
    tree.File(root_ + "/PkgInfo", "APPL????");
    for (uint32_t i = 0; i < library_count; ++i) {
      Library(root_ + "/Frameworks/lib" + std::to_string(i) + ".dylib");
    }
    Framework(root_ + "/Frameworks/Core.framework", {"A", "B"});
    Framework(root_ + "/Frameworks/Updater.framework", {"A"});
    Bundle(root_ +
               "/Frameworks/Updater.framework/Versions/A/XPCServices/"
               "Install.xpc",
           "Install", "XPC!");
    Program(root_ + "/Helpers/crash-reporter");
    Bundle(root_ + "/Helpers/Demo Helper.app", "Demo Helper", "APPL");
    Bundle(root_ + "/XPCServices/Service.xpc", "Service", "XPC!");
    Bundle(root_ + "/PlugIns/Share.appex", "Share", "XPC!");
    Bundle(root_ + "/Library/LoginItems/Login.app", "Login", "APPL");
    // No Mach-O: its signature is files in _CodeSignature.
    Info(root_ + "/PlugIns/Script.bundle/Contents", "run.sh", "BNDL");
    tree.Executable(root_ + "/PlugIns/Script.bundle/Contents/MacOS/run.sh",
                    "#!/bin/sh\nexit 0\n");
    tree.Executable(root_ + "/Resources/setup.sh", "#!/bin/sh\necho setup\n");
    tree.File(root_ + "/Resources/data & <more>.txt", "data");
    tree.File(root_ + "/Resources/Grüße.txt", "text");
    tree.File(root_ + "/Resources/.DS_Store", "not sealed");
    tree.File(root_ + "/Resources/Base.lproj/Main.strings", "base");
    for (const char* language : {"en", "de", "fr"}) {
      tree.File(root_ + "/Resources/" + language + ".lproj/Main.strings",
                language);
      tree.File(root_ + "/Resources/" + language + ".lproj/locversion.plist",
                "not sealed");
    }
    tree.Link(root_ + "/Resources/link.txt", "data & <more>.txt");
    tree.Link(root_ + "/MacOS/Demo-link", "Demo");
  }

  uint32_t code_count() const { return number_; }  // Mach-O files

 private:
  void Info(const std::string& folder, const std::string& executable,
            const std::string& type) {
    tree_.Plist(folder + "/Info.plist",
                {{"CFBundleExecutable", executable},
                 {"CFBundleIdentifier", "com.example." + executable},
                 {"CFBundlePackageType", type}});
  }
  void Program(const std::string& path) {
    tree_.Executable(path,
                     AsText(MadeCode(++number_, MachOFileType::kExecute)));
  }
  void Library(const std::string& path) {
    tree_.Executable(path, AsText(MadeCode(++number_, MachOFileType::kBundle)));
  }
  void Bundle(const std::string& path, const std::string& name,
              const std::string& type) {
    Info(path + "/Contents", name, type);
    Program(path + "/Contents/MacOS/" + name);
    tree_.File(path + "/Contents/Resources/en.lproj/a.strings", name);
  }
  void Framework(const std::string& path,
                 const std::vector<std::string>& versions) {
    const std::string file = path.substr(path.rfind('/') + 1);
    const std::string name = file.substr(0, file.rfind('.'));
    for (const std::string& version : versions) {
      const std::string folder = path + "/Versions/" + version;
      Info(folder + "/Resources", name, "FMWK");
      Library(folder + "/" + name);
      tree_.File(folder + "/Headers/" + name + ".h", version);
    }
    tree_.Link(path + "/Versions/Current", versions.back());
    for (const std::string& link :
         {name, std::string("Resources"), std::string("Headers")}) {
      tree_.Link(path + "/" + link, "Versions/Current/" + link);
    }
  }

  MadeTree& tree_;
  const std::string root_;
  uint32_t number_ = 0;
};

}  // namespace codeseal::testing

#endif  // CODESEAL_TESTS_SUPPORT_MADE_APP_H_
