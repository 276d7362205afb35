// Signs bundles of small Mach-O files, with parts of the engine alone, so that
// tests of verification do not wait for, or trust, what signs bundles for
// users.
//
//   MadeTree tree;  tree.Plist("Demo.app/Contents/Info.plist", ...);
//   SignBundle(tree.Path("Demo.app"), {.identifier = "com.example.demo"});

#ifndef CODESEAL_TESTS_SUPPORT_SIGNED_BUNDLE_H_
#define CODESEAL_TESTS_SUPPORT_SIGNED_BUNDLE_H_

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "codesign/base/bytes.h"
#include "codesign/bundle/resource_rules.h"
#include "codesign/macho/architecture.h"
#include "tests/support/made_tree.h"
#include "tests/support/signed_code.h"
#include "tests/support/test_pki.h"

namespace codeseal::testing {

struct SignAs {
  std::string identifier = "com.example.demo";
  const TestChain* chain = nullptr;  // null: ad-hoc
  std::vector<Architecture> slices = {kArm64};
  size_t code_size = 20'000;  // of each slice
  // Before each slice is signed; resources and Info.plist are bound already.
  std::function<void(SignedCode&)> change = {};
  // Which rules the seal has, and whether it has rules2 at all.
  ResourceRuleSet rules = ResourceRuleSet::kDefault;
};

// A signed file: universal when there are several slices.
Bytes BuildSignedFile(const SignAs& how);

// Seals what is in the bundle and replaces its main executable by a signed
// file. Nested code must be signed already. Of a framework the current version
// is taken, or `version`.
void SignBundle(const std::string& path, const SignAs& how,
                const std::string& version = "");

// The signature of what is no Mach-O, hashed whole: blobs by slot. Its
// CodeDirectory seals the requirements and `sealed`, content by slot. Without
// `chain` it is ad-hoc and has no CMS.
std::map<uint32_t, Bytes> SignWholeFile(ByteView code,
                                        const std::map<uint32_t, Bytes>& sealed,
                                        const TestChain* chain = nullptr);

// The same as SignBundle() for a bundle without Mach-O: files in
// _CodeSignature.
void SignPlainBundle(const std::string& path, const TestChain* chain = nullptr);

// A Demo.app with all kinds of contents, signed inside-out. Demo itself and the
// code in it:
//   MacOS/tool                 universal
//   Frameworks/Kit.framework   versions A (current) and B, links; ad-hoc only
//                              A: B would not be the code that the seal wants
//   PlugIns/Plug.bundle        with Resources/plug.txt
// and resources, one of them in en.lproj, one a link.
void MakeSignedApp(MadeTree& tree, const TestChain* chain);

}  // namespace codeseal::testing

#endif  // CODESEAL_TESTS_SUPPORT_SIGNED_BUNDLE_H_
