#include "tests/support/signed_bundle.h"

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <utility>

#include "codesign/base/error.h"
#include "codesign/base/mapped_file.h"
#include "codesign/bundle/bundle.h"
#include "codesign/bundle/resource_seal.h"
#include "codesign/cms/apple_cms.h"
#include "codesign/embedded_signature.h"
#include "codesign/macho/universal_file.h"
#include "codesign/requirement/default_designated.h"
#include "codesign/requirement/requirement.h"

namespace codeseal::testing {
namespace {

namespace fs = std::filesystem;

template <typename T>
T Require(absl::StatusOr<T> result) {
  if (!result.ok()) {
    std::fprintf(stderr, "signed_bundle: %s\n",
                 result.status().ToString().c_str());
    std::abort();
  }
  return *std::move(result);
}

void WriteFile(const std::string& path, ByteView bytes) {
  fs::create_directories(fs::path(path).parent_path());
  std::ofstream(path, std::ios::binary) << AsText(bytes);
}

Bytes ReadFile(const std::string& path) {
  return ToBytes(Require(MappedFile::Open(path)).bytes());
}

// What the seal of the bundle around it says of signed code.
absl::StatusOr<NestedCode> FindNestedCode(const std::string&,
                                          const std::string& path) {
  const std::string file =
      fs::is_directory(path) ? Require(Bundle::Open(path)).main_file() : path;
  const Bytes bytes = ReadFile(file);
  const UniversalFile universal = Require(UniversalFile::Parse(bytes));
  const MachO& native = universal.NativeSlice(CpuType::kArm64).mach_o;
  const EmbeddedSignature signature =
      Require(EmbeddedSignature::Parse(native.Signature()));
  NestedCode code = {.cdhash = signature.best().cdhash(), .requirement = ""};
  if (signature.cms().empty()) {
    std::vector<CdHash> cdhashes;
    for (const UniversalFile::Slice& slice : universal.slices()) {
      cdhashes.push_back(
          Require(EmbeddedSignature::Parse(slice.mach_o.Signature()))
              .best()
              .cdhash());
    }
    code.requirement = DumpRequirement(*BuildImplicitDesignated(cdhashes));
  } else {
    const CmsSignature cms = Require(ParseAppleCms(signature.cms()));
    code.requirement = DumpRequirement(*BuildDefaultDesignated(
        signature.best().identifier(),
        Require(BuildChain(cms.signer, cms.certificates))));
  }
  return code;
}

// The bytes of CodeResources for the bundle as it stands.
Bytes Seal(const Bundle& bundle, ResourceRuleSet set) {
  SealOptions options;
  options.writes_version2 = set != ResourceRuleSet::kLegacy;
  return BuildCodeResources(
      Require(SealResources(bundle, Require(bundle.LoadResourceRules(set)),
                            options, FindNestedCode)));
}

Bytes Sha256(ByteView bytes) {
  return ComputeDigest(DigestKind::kSha256, bytes);
}

}  // namespace

Bytes BuildSignedFile(const SignAs& how) {
  UniversalDescription file;
  for (const Architecture& architecture : how.slices) {
    SignedCode code;
    code.mach_o.architecture = architecture;
    code.mach_o.code_size = how.code_size;
    code.fields.identifier = how.identifier;
    code.chain = how.chain;
    if (how.change) how.change(code);
    file.slices.push_back({architecture, BuildSignedCode(code)});
  }
  return file.slices.size() == 1 ? file.slices[0].bytes : BuildUniversal(file);
}

void SignBundle(const std::string& path, const SignAs& how,
                const std::string& version) {
  const Bundle bundle = Require(Bundle::Open(path, version));
  const Bytes seal = Seal(bundle, how.rules);
  WriteFile(bundle.CodeResourcesPath(), seal);
  SignAs with_bundle = how;
  with_bundle.change = [&](SignedCode& code) {
    code.fields.special_slots[kCodeResourcesSlot] = Sha256(seal);
    if (bundle.info_plist_path().has_value()) {
      code.fields.special_slots[kInfoPlistSlot] =
          Sha256(ReadFile(*bundle.info_plist_path()));
    }
    if (how.change) how.change(code);
  };
  WriteFile(bundle.main_file(), BuildSignedFile(with_bundle));
}

std::map<uint32_t, Bytes> SignWholeFile(ByteView code,
                                        const std::map<uint32_t, Bytes>& sealed,
                                        const TestChain* chain) {
  std::map<uint32_t, Bytes> blobs;
  blobs[kRequirementsSlot] = BuildSuperBlob(kRequirementSetMagic, {});
  CodeDirectoryFields fields;
  fields.identifier = "com.example.plain";
  if (chain == nullptr) fields.flags = kAdHocFlag;
  fields.code_limit = code.size();
  fields.special_slots[kRequirementsSlot] = Sha256(blobs[kRequirementsSlot]);
  for (const auto& [slot, content] : sealed) {
    fields.special_slots[slot] = Sha256(content);
  }
  auto builder = Require(CodeDirectoryBuilder::Create(fields));
  const Bytes digest = Sha256(code);
  std::copy(digest.begin(), digest.end(), builder.code_slots().begin());
  const Bytes directory = std::move(builder).Build();
  blobs[kCodeDirectorySlot] = directory;
  if (chain != nullptr) {
    const CodeDirectoryBlob blob = {DigestKind::kSha256, directory};
    const std::vector<Certificate> certificates = chain->certificates();
    blobs[kCmsSlot] = WrapBlob(
        kBlobWrapperMagic,
        Require(BuildAppleCms({chain->leaf.key(), nullptr, certificates},
                              DescribeContent({&blob, 1}), absl::Now())));
  }
  return blobs;
}

void SignPlainBundle(const std::string& path, const TestChain* chain) {
  const Bundle bundle = Require(Bundle::Open(path));
  const Bytes seal = Seal(bundle, ResourceRuleSet::kDefault);
  const auto blobs =
      SignWholeFile(ReadFile(bundle.main_file()),
                    {{kInfoPlistSlot, ReadFile(*bundle.info_plist_path())},
                     {kCodeResourcesSlot, seal}},
                    chain);
  const std::string folder = bundle.SignatureFolder() + "/";
  WriteFile(folder + "CodeResources", seal);
  WriteFile(folder + "CodeDirectory", blobs.at(kCodeDirectorySlot));
  WriteFile(folder + "CodeRequirements", blobs.at(kRequirementsSlot));
  WriteFile(folder + "CodeSignature",
            chain == nullptr
                ? ByteView()
                : ByteView(blobs.at(kCmsSlot)).subspan(kBlobHeaderSize));
}

void MakeSignedApp(MadeTree& tree, const TestChain* chain) {
  const std::string contents = "Demo.app/Contents/";
  tree.Plist(contents + "Info.plist",
             {{"CFBundleExecutable", "Demo"}, {"CFBundlePackageType", "APPL"}});
  tree.Executable(contents + "MacOS/Demo", "unsigned");
  WriteFile(tree.Path(contents + "MacOS/tool"),
            BuildSignedFile({.identifier = "com.example.tool",
                             .chain = chain,
                             .slices = {kX86_64, kArm64}}));
  tree.File(contents + "Resources/data.txt", "data");
  tree.File(contents + "Resources/en.lproj/words.strings", "words");
  tree.Link(contents + "Resources/link", "data.txt");

  const std::string kit = contents + "Frameworks/Kit.framework/";
  std::vector<std::string> versions = {"A"};
  if (chain != nullptr) versions.push_back("B");
  for (const std::string& version : versions) {
    const std::string folder = kit + "Versions/" + version + "/";
    tree.Plist(folder + "Resources/Info.plist",
               {{"CFBundleExecutable", "Kit"}, {"version", version}});
    tree.Executable(folder + "Kit", "unsigned");
  }
  tree.Link(kit + "Versions/Current", "A");
  tree.Link(kit + "Kit", "Versions/Current/Kit");
  tree.Link(kit + "Resources", "Versions/Current/Resources");
  for (const std::string& version : versions) {
    SignBundle(tree.Path(contents + "Frameworks/Kit.framework"),
               {.identifier = "com.example.kit", .chain = chain}, version);
  }

  const std::string plug = contents + "PlugIns/Plug.bundle";
  tree.Plist(plug + "/Contents/Info.plist", {{"CFBundleExecutable", "Plug"}});
  tree.Executable(plug + "/Contents/MacOS/Plug", "unsigned");
  tree.File(plug + "/Contents/Resources/plug.txt", "plug");
  SignBundle(tree.Path(plug),
             {.identifier = "com.example.plug", .chain = chain});

  SignBundle(tree.Path("Demo.app"), {.chain = chain});
}

}  // namespace codeseal::testing
