// A Demo.app that Apple's notary would take, and every way to spoil it: a test
// changes one thing of the description, and has the app made by it.

#ifndef CODESEAL_TESTS_UNIT_ASSESS_DEMO_APP_H_
#define CODESEAL_TESTS_UNIT_ASSESS_DEMO_APP_H_

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "codesign/code_directory.h"
#include "codesign/entitlements.h"
#include "tests/support/apple_like.h"
#include "tests/support/made_tree.h"
#include "tests/support/signed_bundle.h"

namespace codeseal::testing {

// How one piece of code is built and signed.
struct CodeSpec {
  std::string identifier;
  const TestChain* chain = &DeveloperId();  // null: ad-hoc
  std::string team = kTeam;
  uint32_t flags = kRuntimeFlag;
  bool is_stamped = true;
  PlistDict entitlements = {};
  std::vector<DigestKind> digests = {DigestKind::kSha256};
  std::optional<MachO::Version> version = MachO::Version{
      .platform = Platform::kMacOs, .minimum_os = 0x0b0000, .sdk = 0x0e0000};
  std::vector<MachODescription::PathCommand> path_commands = {};
  MachOFileType file_type = MachOFileType::kExecute;
};

struct DemoApp {
  CodeSpec main = {.identifier = "com.example.demo"};
  CodeSpec library = {
      .identifier = "libdemo", .flags = 0, .file_type = MachOFileType::kDylib};
  std::string library_path = "Frameworks/libdemo.dylib";
  std::string bundle_identifier = "com.example.demo";
  std::map<std::string, std::string> files = {{"Resources/data.txt", "data"}};
  std::optional<Bytes> profile = std::nullopt;  // embedded
  ResourceRuleSet rules = ResourceRuleSet::kDefault;
  std::function<void(MadeTree&)> before_signing = {};
  std::function<void(MadeTree&)> after_signing = {};
};

inline constexpr char kDemoContents[] = "Demo.app/Contents/";

inline SignAs HowToSign(const CodeSpec& spec) {
  SignAs how;
  how.identifier = spec.identifier;
  how.chain = spec.chain;
  how.change = [spec](SignedCode& code) {
    code.mach_o.file_type = spec.file_type;
    code.mach_o.build_version = spec.version;
    code.mach_o.path_commands = spec.path_commands;
    code.fields.flags |= spec.flags;
    if (spec.chain != nullptr) code.fields.team_identifier = spec.team;
    code.digests = spec.digests;
    if (!spec.entitlements.empty()) {
      const std::string plist = BuildXmlPlist(spec.entitlements);
      code.blobs[kEntitlementsSlot] = *BuildEntitlements(AsBytes(plist));
      code.blobs[kEntitlementsDerSlot] =
          *BuildEntitlementsDer(spec.entitlements);
    }
    if (spec.is_stamped && spec.chain != nullptr) {
      code.change_blobs = [](std::map<uint32_t, Bytes>& blobs) {
        Bytes& cms = blobs[kCmsSlot];
        cms = WrapBlob(kBlobWrapperMagic,
                       AddTimestamp(*UnwrapBlob(kBlobWrapperMagic, cms)));
      };
    }
  };
  return how;
}

// The same code without a signature.
inline Bytes UnsignedCode(const CodeSpec& spec) {
  return BuildMachO({.file_type = spec.file_type,
                     .build_version = spec.version,
                     .path_commands = spec.path_commands});
}

inline void MakeDemoApp(MadeTree& tree, const DemoApp& app) {
  const std::string contents = kDemoContents;
  tree.Plist(contents + "Info.plist",
             {{"CFBundleExecutable", "Demo"},
              {"CFBundleIdentifier", app.bundle_identifier},
              {"CFBundlePackageType", "APPL"}});
  tree.Executable(contents + "MacOS/Demo", "to be signed");
  const Bytes library = BuildSignedFile(HowToSign(app.library));
  tree.Executable(contents + app.library_path, AsText(library));
  for (const auto& [path, content] : app.files) {
    tree.File(contents + path, content);
  }
  if (app.profile.has_value()) {
    tree.File(contents + "embedded.provisionprofile", AsText(*app.profile));
  }
  if (app.before_signing) app.before_signing(tree);
  SignAs how = HowToSign(app.main);
  how.rules = app.rules;
  SignBundle(tree.Path("Demo.app"), how);
  if (app.after_signing) app.after_signing(tree);
}

}  // namespace codeseal::testing

#endif  // CODESEAL_TESTS_UNIT_ASSESS_DEMO_APP_H_
