#include "codesign/signing_plan.h"

#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>

#include "codesign/code_directory.h"
#include "codesign/embedded_signature.h"
#include "codesign/macho/universal_file.h"
#include "codesign/requirement/requirement.h"
#include "tests/support/mach_o_builder.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_pki.h"

namespace codeseal {
namespace {

namespace fs = std::filesystem;
using ::codeseal::testing::BuildMachO;
using ::codeseal::testing::BuildUniversal;
using ::codeseal::testing::HasCode;
using ::codeseal::testing::HasMessage;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::kArm64;
using ::codeseal::testing::kI386;
using ::codeseal::testing::kX86_64;
using ::codeseal::testing::MachODescription;
using ::testing::ElementsAre;

constexpr char kEntitlementsPlist[] =
    R"(<?xml version="1.0" encoding="UTF-8"?>
<plist version="1.0"><dict>
<key>get-task-allow</key><true/>
<key>com.example.level</key><integer>3</integer>
</dict></plist>
)";

// The builder's default slice, with a UUID and more than one page.
MachODescription Tool() {
  MachODescription description;
  description.code_size = 20000;
  description.uuid.emplace();
  description.uuid->fill(0xab);
  return description;
}

Bytes UniversalTool() {
  MachODescription x86_64 = Tool();
  x86_64.architecture = kX86_64;
  return BuildUniversal({.slices = {{kX86_64, BuildMachO(x86_64)},
                                    {kArm64, BuildMachO(Tool())}}});
}

class SigningPlanTest : public ::testing::Test {
 protected:
  SigningPlanTest() {
    std::string name = (fs::temp_directory_path() / "codeseal-XXXXXX").string();
    folder_ = mkdtemp(name.data());
  }
  ~SigningPlanTest() override { fs::remove_all(folder_); }

  std::string Path(const std::string& name) const {
    return (folder_ / name).string();
  }
  std::string Write(const std::string& name, const Bytes& bytes) const {
    const std::string path = Path(name);
    std::ofstream(path, std::ios::binary) << AsText(bytes);
    return path;
  }
  static Bytes Read(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return ToBytes(std::string(std::istreambuf_iterator<char>(file), {}));
  }
  size_t FileCount() const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(folder_),
                                             fs::directory_iterator()));
  }

  static absl::StatusOr<SigningPlan> Plan(
      const std::string& path, const SigningOptions& options = {},
      std::span<const Certificate> chain = {}) {
    ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
    return SigningPlan::Create(std::move(file), options, chain);
  }
  static absl::Status Sign(const std::string& path,
                           const SigningOptions& options = {}) {
    ASSIGN_OR_RETURN(const SigningPlan plan, Plan(path, options));
    return plan.WriteSigned(path, {});
  }

  fs::path folder_;
};

// What Apple's verifier would look at, from the bytes on disk alone.
void ExpectSoundSignature(const Bytes& file) {
  const auto universal = UniversalFile::Parse(file);
  ASSERT_THAT(universal, IsOk());
  EXPECT_THAT(universal->CheckStrictStructure(), IsOk());
  for (const UniversalFile::Slice& slice : universal->slices()) {
    const auto signature = EmbeddedSignature::Parse(slice.mach_o.Signature());
    ASSERT_THAT(signature, IsOk());
    EXPECT_THAT(signature->super_blob().CheckPacked(), IsOk());
    for (const CodeDirectory& directory : signature->code_directories()) {
      EXPECT_EQ(directory.code_limit(), slice.mach_o.SigningLimit());
      for (uint32_t i = 0; i < directory.code_slot_count(); ++i) {
        const size_t at = size_t{i} * directory.page_size();
        const size_t size = std::min<size_t>(directory.page_size(),
                                             slice.mach_o.SigningLimit() - at);
        EXPECT_TRUE(Equal(*directory.CodeSlotDigest(i),
                          ComputeDigest(directory.digest_kind(),
                                        slice.mach_o.raw().subspan(at, size))))
            << i;
      }
      for (const uint32_t slot :
           {kRequirementsSlot, kEntitlementsSlot, kEntitlementsDerSlot}) {
        EXPECT_THAT(CheckSpecialSlot(directory, slot, signature->Find(slot)),
                    IsOk());
      }
    }
  }
}

EmbeddedSignature SignatureOf(const Bytes& file, size_t slice = 0) {
  const auto universal = UniversalFile::Parse(file);
  return *EmbeddedSignature::Parse(
      universal->slices()[slice].mach_o.Signature());
}

TEST_F(SigningPlanTest, SignsThinFileAdHoc) {
  const std::string path = Write("tool", BuildMachO(Tool()));
  fs::permissions(path, fs::perms(0751));
  const auto plan = Plan(path);
  ASSERT_THAT(plan, IsOk());
  EXPECT_EQ(plan->Format(), "Mach-O thin (arm64)");
  EXPECT_EQ(plan->identifier(),
            "tool-55554944abababababababababababababababab");
  EXPECT_FALSE(plan->replaces_signature());
  ASSERT_EQ(plan->slices().size(), 1u);
  EXPECT_EQ(plan->slices()[0].architecture, "arm64");
  EXPECT_THAT(plan->slices()[0].digests, ElementsAre(DigestKind::kSha256));
  ASSERT_THAT(plan->WriteSigned(path, {}), IsOk());

  const Bytes file = Read(path);
  ExpectSoundSignature(file);
  const EmbeddedSignature signature = SignatureOf(file);
  EXPECT_EQ(signature.primary().identifier(), plan->identifier());
  EXPECT_EQ(signature.primary().flags(), uint32_t{kAdHocFlag});
  EXPECT_EQ(signature.primary().page_size(), 16384u);
  EXPECT_EQ(signature.primary().version(), 0x20400u);
  EXPECT_EQ(signature.primary().cdhash(), plan->slices()[0].cdhashes[0]);
  EXPECT_EQ(HexEncode(*signature.Find(kCmsSlot)), "fade0b0100000008");
  EXPECT_EQ(HexEncode(*signature.Find(kRequirementsSlot)),
            "fade0c010000000c00000000");
  EXPECT_EQ(fs::status(path).permissions(), fs::perms(0751));
  EXPECT_EQ(FileCount(), 1u);
}

TEST_F(SigningPlanTest, SignsEverySliceOfUniversalFile) {
  const std::string path = Write("tool", UniversalTool());
  ASSERT_THAT(Sign(path), IsOk());
  const Bytes file = Read(path);
  ExpectSoundSignature(file);
  EXPECT_EQ(SignatureOf(file, 0).primary().page_size(), 4096u);
  EXPECT_EQ(SignatureOf(file, 1).primary().page_size(), 16384u);
  EXPECT_EQ(UniversalFile::Parse(file)->slices()[0].offset, 0x4000u);
}

// The formula of the reservation, restated: 12-byte header, 8 bytes for each
// of two blobs, one CodeDirectory and the CMS, requirements 12, CodeDirectory
// with a header of 96, identifier and NUL, 2 special and 2 code slots, 18000.
TEST_F(SigningPlanTest, ReservesAsMuchAsApple) {
  SigningOptions options;
  options.identifier = "com.example.tool";
  const std::string path = Write("tool", BuildMachO(Tool()));
  const auto plan = Plan(path, options);
  ASSERT_THAT(plan, IsOk());
  const uint64_t expected = 12 + 8 * 3 + 12 + (96 + 17 + (2 + 2) * 32) + 18000;
  EXPECT_EQ(plan->reserved_size(0), (expected + 15) / 16 * 16);
}

TEST_F(SigningPlanTest, SignedFileNeedsForce) {
  const std::string path = Write("tool", UniversalTool());
  ASSERT_THAT(Sign(path), IsOk());
  const Bytes first = Read(path);
  EXPECT_THAT(Sign(path), HasReason(v1::REASON_ALREADY_SIGNED));
  EXPECT_EQ(Read(path), first);

  SigningOptions options;
  options.force = true;
  const auto plan = Plan(path, options);
  ASSERT_THAT(plan, IsOk());
  EXPECT_TRUE(plan->replaces_signature());
  ASSERT_THAT(plan->WriteSigned(path, {}), IsOk());
  EXPECT_EQ(Read(path), first);  // Signing twice gives the same bytes.
}

TEST_F(SigningPlanTest, UnreadableSignatureNeedsForceToo) {
  MachODescription description = Tool();
  description.signature = Bytes(64, 0xcd);
  const std::string path = Write("tool", BuildMachO(description));
  EXPECT_THAT(Sign(path), HasReason(v1::REASON_ALREADY_SIGNED));
  SigningOptions options;
  options.force = true;
  ASSERT_THAT(Sign(path, options), IsOk());
  ExpectSoundSignature(Read(path));
}

TEST_F(SigningPlanTest, LinkerSignatureIsReplacedWithoutForce) {
  const std::string path = Write("tool", BuildMachO(Tool()));
  SigningOptions linker;
  linker.flags = kLinkerSignedFlag;
  linker.identifier = "by.the.linker";
  ASSERT_THAT(Sign(path, linker), IsOk());
  ASSERT_TRUE(SignatureOf(Read(path)).is_linker_signed());

  SigningOptions options;
  options.preserve_metadata = kPreserveIdentifier | kPreserveFlags;
  const auto plan = Plan(path, options);
  ASSERT_THAT(plan, IsOk());
  EXPECT_FALSE(plan->replaces_signature());
  EXPECT_EQ(plan->identifier(),
            "tool-55554944abababababababababababababababab");
  ASSERT_THAT(plan->WriteSigned(path, {}), IsOk());
  EXPECT_FALSE(SignatureOf(Read(path)).is_linker_signed());
}

TEST_F(SigningPlanTest, LongerSignatureLeavesItsBytesBehind) {
  const std::string path = Write("tool", BuildMachO(Tool()));
  SigningOptions options;
  options.identifier = std::string(3000, 'x');
  ASSERT_THAT(Sign(path, options), IsOk());
  const Bytes first = Read(path);
  options.identifier = "short";
  options.force = true;
  ASSERT_THAT(Sign(path, options), IsOk());
  const Bytes second = Read(path);
  ExpectSoundSignature(second);

  const auto mach_o = MachO::Parse(second);
  const auto start = static_cast<size_t>(mach_o->SigningLimit());
  const size_t end = start + SignatureOf(second).super_blob().raw().size();
  const ByteView left = ByteView(second).subspan(end);
  EXPECT_TRUE(Equal(left, ByteView(first).subspan(end, left.size())));
  EXPECT_THAT(left.first(1000), ::testing::Each('x'));
}

TEST_F(SigningPlanTest, IdentityGivesDefaultRequirement) {
  const auto chain = testing::MakeCodeSigningChain();
  const auto certificates = chain.certificates();
  const std::string path = Write("tool", BuildMachO(Tool()));
  const auto plan = Plan(path, {}, certificates);
  ASSERT_THAT(plan, IsOk());
  EXPECT_EQ(plan->identifier(), "tool");  // No suffix: not ad-hoc.
  const auto text =
      DumpRequirementBlob(plan->slices()[0].blobs.at(kRequirementsSlot));
  ASSERT_THAT(text, IsOk());
  EXPECT_THAT(*text, ::testing::StartsWith("designated => identifier tool"));
  EXPECT_THAT(*text, ::testing::HasSubstr("certificate"));

  const std::vector<Bytes> cms = {Bytes(500, 0xc5)};
  ASSERT_THAT(plan->WriteSigned(path, cms), IsOk());
  ExpectSoundSignature(Read(path));
  EXPECT_TRUE(Equal(SignatureOf(Read(path)).cms(), cms[0]));
}

TEST_F(SigningPlanTest, GivenDesignatedRequirementIsKept) {
  const auto chain = testing::MakeCodeSigningChain();
  const Bytes always = {0xfa, 0xde, 0x0c, 0, 0, 0, 0, 16,
                        0,    0,    0,    1, 0, 0, 0, 1};
  SigningOptions options;
  options.requirements =
      BuildRequirementSet({{kDesignatedRequirement, always}});
  const auto plan =
      Plan(Write("tool", BuildMachO(Tool())), options, chain.certificates());
  ASSERT_THAT(plan, IsOk());
  EXPECT_EQ(plan->slices()[0].blobs.at(kRequirementsSlot),
            *options.requirements);
}

TEST_F(SigningPlanTest, EntitlementsGoIntoExecutablesOnly) {
  SigningOptions options;
  options.entitlements = ToBytes(kEntitlementsPlist);
  const auto tool = Plan(Write("tool", BuildMachO(Tool())), options);
  ASSERT_THAT(tool, IsOk());
  const SlicePlan& slice = tool->slices()[0];
  EXPECT_EQ(slice.blobs.count(kEntitlementsSlot), 1u);
  EXPECT_EQ(slice.blobs.count(kEntitlementsDerSlot), 1u);
  const auto directory = CodeDirectory::Parse(slice.code_directories[0]);
  EXPECT_EQ(directory->exec_segment().flags, 0x11u);  // get-task-allow

  MachODescription library = Tool();
  library.file_type = MachOFileType::kDylib;
  const std::string path = Write("library", BuildMachO(library));
  const auto without = Plan(path, options);
  ASSERT_THAT(without, IsOk());
  EXPECT_EQ(without->slices()[0].blobs.count(kEntitlementsSlot), 0u);
  EXPECT_EQ(CodeDirectory::Parse(without->slices()[0].code_directories[0])
                ->exec_segment()
                .flags,
            0u);
  options.force_library_entitlements = true;
  const auto with = Plan(path, options);
  EXPECT_EQ(with->slices()[0].blobs.count(kEntitlementsSlot), 1u);
}

TEST_F(SigningPlanTest, OldGenerationsWriteWhatTheyWrote) {
  SigningOptions options;
  options.entitlements = ToBytes(kEntitlementsPlist);
  options.generation = CodesignGeneration::kMacOs12;
  const std::string path = Write("tool", UniversalTool());
  const auto plan = Plan(path, options);
  ASSERT_THAT(plan, IsOk());
  const auto directory =
      CodeDirectory::Parse(plan->slices()[1].code_directories[0]);
  EXPECT_EQ(directory->page_size(), 4096u);
  EXPECT_GT(directory->exec_segment().size, 0u);
  EXPECT_EQ(plan->slices()[1].blobs.count(kEntitlementsDerSlot), 1u);

  options.generation = CodesignGeneration::kBeforeMacOs12;
  ASSERT_THAT(Sign(path, options), IsOk());
  const Bytes file = Read(path);
  ExpectSoundSignature(file);
  EXPECT_EQ(SignatureOf(file, 1).primary().exec_segment().size, 0u);
  EXPECT_FALSE(SignatureOf(file, 1).Find(kEntitlementsDerSlot).has_value());
  EXPECT_EQ(UniversalFile::Parse(file)->slices()[0].offset, 0x1000u);
}

TEST_F(SigningPlanTest, OldSystemsGetBothDigests) {
  struct Case {
    Platform platform;
    uint32_t minimum_os;
    size_t digest_count;
  };
  for (const Case& each :
       {Case{Platform::kMacOs, 0x0a0b03, 2},
        Case{Platform::kMacOs, 0x0a0b04, 1}, Case{Platform::kIos, 0x0a0300, 2},
        Case{Platform::kIos, 0x0b0000, 1}, Case{Platform::kTvOs, 0x0a0000, 2},
        Case{Platform::kWatchOs, 0x0bffff, 2},
        Case{Platform::kWatchOs, 0x0c0000, 1},
        Case{Platform{6}, 0x010000, 1}}) {
    MachODescription description = Tool();
    description.build_version->platform = each.platform;
    description.build_version->minimum_os = each.minimum_os;
    const auto plan = Plan(Write("tool", BuildMachO(description)));
    ASSERT_THAT(plan, IsOk());
    EXPECT_EQ(plan->slices()[0].digests.size(), each.digest_count)
        << static_cast<int>(each.platform) << " " << each.minimum_os;
  }
  // Code of unknown platform: a matter of generation.
  MachODescription unknown = Tool();
  unknown.build_version.reset();
  SigningOptions options;
  const std::string unknown_path = Write("tool", BuildMachO(unknown));
  EXPECT_EQ(Plan(unknown_path, options)->slices()[0].digests.size(), 1u);
  options.generation = CodesignGeneration::kMacOs12;
  EXPECT_EQ(Plan(unknown_path, options)->slices()[0].digests.size(), 2u);
  // One old slice is enough for all.
  MachODescription old = Tool();
  old.architecture = kX86_64;
  old.build_version->minimum_os = 0x0a0900;
  const std::string path =
      Write("both", BuildUniversal({.slices = {{kX86_64, BuildMachO(old)},
                                               {kArm64, BuildMachO(Tool())}}}));
  const auto plan = Plan(path);
  ASSERT_THAT(plan, IsOk());
  EXPECT_EQ(Plan(path, options)->slices()[1].digests.size(), 1u);
  EXPECT_THAT(plan->slices()[1].digests,
              ElementsAre(DigestKind::kSha1, DigestKind::kSha256));
  ASSERT_THAT(plan->WriteSigned(path, {}), IsOk());
  const Bytes file = Read(path);
  ExpectSoundSignature(file);
  ASSERT_EQ(SignatureOf(file, 1).super_blob().entries().size(), 4u);
  EXPECT_EQ(SignatureOf(file, 1).super_blob().entries()[2].slot,
            uint32_t{kAlternateCodeDirectorySlot});
}

TEST_F(SigningPlanTest, RuntimeVersionIsTheSdks) {
  SigningOptions options;
  options.flags = kRuntimeFlag;
  const std::string path = Write("tool", BuildMachO(Tool()));
  const auto runtime = [&] {
    const auto plan = Plan(path, options);
    return CodeDirectory::Parse(plan->slices()[0].code_directories[0])
        ->runtime_version();
  };
  EXPECT_EQ(runtime(), 0x0e0000u);
  options.runtime_version = 0x0d0102;
  EXPECT_EQ(runtime(), 0x0d0102u);
  options.flags = 0;
  EXPECT_EQ(runtime(), 0u);
}

TEST_F(SigningPlanTest, OwnInfoPlistNamesAndIsSealed) {
  MachODescription description = Tool();
  description.info_plist =
      R"(<plist version="1.0"><dict><key>CFBundleIdentifier</key>)"
      R"(<string>com.example.own</string><key>CSFlags</key>)"
      R"(<string>kill,runtime</string></dict></plist>)";
  const std::string path = Write("tool", BuildMachO(description));
  const auto plan = Plan(path);
  ASSERT_THAT(plan, IsOk());
  EXPECT_EQ(plan->identifier(), "com.example.own");
  const auto directory =
      CodeDirectory::Parse(plan->slices()[0].code_directories[0]);
  EXPECT_EQ(directory->flags(), 0x10202u);
  EXPECT_TRUE(Equal(
      *directory->SpecialSlotDigest(kInfoPlistSlot),
      ComputeDigest(DigestKind::kSha256, AsBytes(description.info_plist))));

  description.info_plist = "no property list";
  EXPECT_THAT(Plan(Write("tool", BuildMachO(description))),
              HasReason(v1::REASON_BAD_PLIST));
}

TEST_F(SigningPlanTest, FilesOfBundleAreSealedNotStored) {
  SigningOptions options;
  options.info_plist =
      ToBytes(R"(<plist version="1.0"><dict><key>CFBundleIdentifier</key>)"
              R"(<string>com.example.app</string></dict></plist>)");
  options.code_resources = ToBytes("sealed");
  const auto plan = Plan(Write("tool", BuildMachO(Tool())), options);
  ASSERT_THAT(plan, IsOk());
  EXPECT_EQ(plan->identifier(), "com.example.app");
  const auto directory =
      CodeDirectory::Parse(plan->slices()[0].code_directories[0]);
  EXPECT_THAT(CheckSpecialSlot(*directory, kInfoPlistSlot, *options.info_plist),
              IsOk());
  EXPECT_THAT(
      CheckSpecialSlot(*directory, kCodeResourcesSlot, *options.code_resources),
      IsOk());
  EXPECT_TRUE(directory->SealsSpecialSlot(kCodeResourcesSlot));
  EXPECT_EQ(plan->slices()[0].blobs.size(), 1u);
}

TEST_F(SigningPlanTest, PrefixAndSuffixCompleteNamesWithoutDot) {
  SigningOptions options;
  options.identifier_prefix = "com.example.";
  const std::string path = Write("tool", BuildMachO(Tool()));
  EXPECT_EQ(Plan(path, options)->identifier(), "com.example.tool");
  options.identifier = "mine";
  EXPECT_EQ(Plan(path, options)->identifier(), "mine");
  const std::string dotted = Write("libx.1.dylib", BuildMachO(Tool()));
  EXPECT_EQ(Plan(dotted)->identifier(), "libx.1");
}

TEST_F(SigningPlanTest, SuffixIsTheNativeSlices) {
  MachODescription x86_64 = Tool();
  x86_64.architecture = kX86_64;
  x86_64.uuid->fill(0x11);
  const std::string path =
      Write("tool", BuildUniversal({.slices = {{kX86_64, BuildMachO(x86_64)},
                                               {kArm64, BuildMachO(Tool())}}}));
  EXPECT_THAT(Plan(path)->identifier(), ::testing::HasSubstr("abababab"));
  SigningOptions options;
  options.host_cpu = CpuType::kX86_64;
  EXPECT_THAT(Plan(path, options)->identifier(),
              ::testing::HasSubstr("11111111"));
}

TEST_F(SigningPlanTest, PreservesWhatIsAskedFor) {
  const std::string path = Write("tool", BuildMachO(Tool()));
  SigningOptions first;
  first.identifier = "first.name";
  first.team_identifier = "TEAM123456";
  first.flags = kRuntimeFlag;
  first.runtime_version = 0x0c0000;
  first.entitlements = ToBytes(kEntitlementsPlist);
  first.digests = {DigestKind::kSha256, DigestKind::kSha1};
  first.pre_encrypt_hashes = true;
  ASSERT_THAT(Sign(path, first), IsOk());
  const Bytes signed_first = Read(path);

  SigningOptions again;
  again.force = true;
  again.preserve_metadata = kPreserveIdentifier | kPreserveTeamIdentifier |
                            kPreserveFlags | kPreserveRuntime |
                            kPreserveEntitlements | kPreserveDigestAlgorithm |
                            kPreservePreEncryptHashes | kPreserveRequirements;
  ASSERT_THAT(Sign(path, again), IsOk());
  EXPECT_EQ(Read(path), signed_first);

  again.preserve_metadata = 0;
  ASSERT_THAT(Sign(path, again), IsOk());
  const Bytes plain = Read(path);
  const EmbeddedSignature signature = SignatureOf(plain);
  EXPECT_EQ(signature.primary().team_identifier(), "");
  EXPECT_EQ(signature.primary().flags(), uint32_t{kAdHocFlag});
  EXPECT_FALSE(signature.Find(kEntitlementsSlot).has_value());
  EXPECT_EQ(signature.code_directories().size(), 1u);
}

TEST_F(SigningPlanTest, RefusesOptionsThatCannotBe) {
  const std::string path = Write("tool", BuildMachO(Tool()));
  const auto refuse = [&](const std::function<void(SigningOptions&)>& change,
                          Reason reason) {
    SigningOptions options;
    change(options);
    EXPECT_THAT(Plan(path, options), HasReason(reason));
  };
  refuse([](auto& o) { o.identifier = ""; }, v1::REASON_BAD_IDENTIFIER);
  refuse([](auto& o) { o.identifier = std::string("a\0b", 3); },
         v1::REASON_BAD_IDENTIFIER);
  refuse([](auto& o) { o.team_identifier = "not a team"; },
         v1::REASON_BAD_TEAM_IDENTIFIER);
  refuse([](auto& o) { o.digests = {DigestKind{9}}; },
         v1::REASON_UNSUPPORTED_DIGEST);
  refuse([](auto& o) { o.page_size = 8192; }, v1::REASON_UNSUPPORTED_PAGE_SIZE);
  refuse([](auto& o) { o.entitlements = ToBytes("no plist"); },
         v1::REASON_BAD_ENTITLEMENTS);
  refuse([](auto& o) { o.requirements = ToBytes("no set"); },
         v1::REASON_TRUNCATED);
  refuse([](auto& o) { o.constraints[kRequirementsSlot] = Bytes(8); },
         v1::REASON_BAD_OPTION);
  refuse([](auto& o) { o.reserved_cms_size = UINT32_MAX; },
         v1::REASON_FILE_TOO_BIG);
  const auto chain = testing::MakeCodeSigningChain();
  SigningOptions options;
  options.flags = kAdHocFlag;
  EXPECT_THAT(Plan(path, options, chain.certificates()),
              HasReason(v1::REASON_BAD_OPTION));
}

TEST_F(SigningPlanTest, LibraryValidationIsNotForI386) {
  const std::string path =
      Write("tool", BuildMachO({.architecture = kI386, .is_64_bit = false}));
  SigningOptions options;
  EXPECT_THAT(Plan(path, options), IsOk());
  options.flags = kLibraryValidationFlag;
  const auto plan = Plan(path, options);
  ASSERT_THAT(plan, HasReason(v1::REASON_LIBRARY_VALIDATION_I386));
  EXPECT_EQ(GetErrorDetail(plan.status())->subject(), path + " (i386)");
}

// --- Inputs that cannot be signed: the reason, and nothing touched -----------

class BadInputTest : public SigningPlanTest {
 protected:
  void ExpectRefused(const Bytes& bytes, Reason reason) {
    const std::string path = Write("input", bytes);
    const absl::Status status = Sign(path);
    EXPECT_THAT(status, HasReason(reason));
    EXPECT_THAT(GetErrorDetail(status)->subject(), ::testing::StartsWith(path));
    EXPECT_EQ(Read(path), bytes);
    EXPECT_EQ(FileCount(), 1u);
  }
};

TEST_F(BadInputTest, WhatIsNoMachO) {
  ExpectRefused(ToBytes("#!/bin/sh\n"), v1::REASON_NOT_MACH_O);
  ExpectRefused({}, v1::REASON_NOT_MACH_O);
  ExpectRefused(Bytes(5000), v1::REASON_NOT_MACH_O);
  ExpectRefused(ToBytes("!<arch>\nlibrary"), v1::REASON_NOT_MACH_O);
}

TEST_F(BadInputTest, ObjectFile) {
  MachODescription description = Tool();
  description.file_type = MachOFileType::kObject;
  ExpectRefused(BuildMachO(description), v1::REASON_UNSUPPORTED_FILE_TYPE);
}

TEST_F(BadInputTest, NoRoomForLoadCommand) {
  MachODescription description = Tool();
  description.header_room = 15;
  ExpectRefused(BuildMachO(description), v1::REASON_NO_HEADER_ROOM);
}

TEST_F(BadInputTest, BytesBehindTheCode) {
  MachODescription description = Tool();
  description.trailing_size = 100;
  const Bytes trailing = BuildMachO(description);
  ExpectRefused(trailing, v1::REASON_UNEXPECTED_DATA);
  SigningOptions lax;
  lax.strict = false;
  EXPECT_THAT(Sign(Write("input", trailing), lax), IsOk());
}

TEST_F(BadInputTest, CutAtEveryPageAndEveryByteOfTheHeader) {
  MachODescription large = Tool();
  large.code_size = 40000;
  const Bytes tool = BuildMachO(large);
  const Bytes universal = BuildUniversal(
      {.slices = {{kX86_64, BuildMachO({.architecture = kX86_64})},
                  {kArm64, tool}}});
  for (const Bytes& whole : {tool, universal}) {
    std::vector<size_t> sizes;
    for (size_t size = 0; size < 450; ++size) sizes.push_back(size);
    for (size_t size = 4096; size < whole.size(); size += 4096) {
      sizes.push_back(size);
    }
    for (const size_t size : sizes) {
      const Bytes cut(whole.begin(),
                      whole.begin() + static_cast<ptrdiff_t>(size));
      const std::string path = Write("input", cut);
      const absl::Status status = Sign(path);
      ASSERT_THAT(status, HasCode(absl::StatusCode::kInvalidArgument)) << size;
      ASSERT_NE(GetReason(status), v1::REASON_UNSPECIFIED) << size;
      ASSERT_EQ(Read(path), cut) << size;
      ASSERT_EQ(FileCount(), 1u) << size;
    }
  }
}

TEST_F(BadInputTest, LargestNumberInEveryHeaderField) {
  MachODescription description = Tool();
  description.signature = Bytes(64);
  const Bytes whole = BuildMachO(description);
  const size_t end = MachO::Parse(whole)->load_commands_end();
  SigningOptions options;
  options.force = true;
  for (size_t at = 0; at + 4 <= end; at += 4) {
    Bytes bad = whole;
    StoreU32(bad, at, UINT32_MAX, ByteOrder::kLittle);
    const std::string path = Write("input", bad);
    const auto plan = Plan(path, options);
    if (plan.ok()) continue;  // A field that signing doesn't look at.
    ASSERT_NE(GetReason(plan.status()), v1::REASON_UNSPECIFIED) << at;
    ASSERT_EQ(Read(path), bad) << at;
  }
}

TEST_F(BadInputTest, SignatureThatDoesNotFit) {
  const auto chain = testing::MakeCodeSigningChain();
  const Bytes original = BuildMachO(Tool());
  const std::string path = Write("input", original);
  SigningOptions options;
  options.reserved_cms_size = 100;
  const auto plan = Plan(path, options, chain.certificates());
  ASSERT_THAT(plan, IsOk());
  const std::vector<Bytes> cms = {Bytes(200, 0xc5)};
  EXPECT_THAT(plan->WriteSigned(path, cms),
              HasReason(v1::REASON_SIGNATURE_TOO_LARGE));
  EXPECT_EQ(Read(path), original);
  EXPECT_EQ(FileCount(), 1u);
  // A CMS too few or none at all is the caller's fault and is not written.
  EXPECT_THAT(plan->WriteSigned(path, {}), HasReason(v1::REASON_INTERNAL));
  EXPECT_EQ(Read(path), original);
}

TEST_F(BadInputTest, FileThatChangesMeanwhile) {
  const std::string path = Write("input", BuildMachO(Tool()));
  const auto plan = Plan(path);
  ASSERT_THAT(plan, IsOk());
  fs::last_write_time(path, fs::last_write_time(path) + std::chrono::hours(1));
  const Bytes changed = Read(path);
  EXPECT_THAT(plan->WriteSigned(path, {}), HasReason(v1::REASON_FILE_CHANGED));
  EXPECT_EQ(Read(path), changed);
  EXPECT_EQ(FileCount(), 1u);
}

TEST_F(BadInputTest, ReadOnlyFolder) {
  const Bytes original = BuildMachO(Tool());
  const std::string path = Write("input", original);
  fs::permissions(path, fs::perms(0644));
  fs::permissions(folder_, fs::perms(0555));
  // Root may write everywhere: be someone else for a moment.
  const bool is_root = geteuid() == 0;
  if (is_root) {
    ASSERT_EQ(seteuid(65534), 0);
  }
  const absl::Status status = Sign(path);
  if (is_root) {
    ASSERT_EQ(seteuid(0), 0);
  }
  fs::permissions(folder_, fs::perms(0755));
  EXPECT_THAT(status, HasReason(v1::REASON_FILE_NOT_WRITABLE));
  EXPECT_EQ(Read(path), original);
  EXPECT_EQ(FileCount(), 1u);
}

TEST_F(BadInputTest, FullDisk) {
  const std::string disk = Path("disk");
  fs::create_directory(disk);
  if (mount("none", disk.c_str(), "tmpfs", 0, "size=96k") != 0) {
    GTEST_SKIP() << "a small file system cannot be mounted here";
  }
  const Bytes original = BuildMachO({.code_size = 60000});
  const std::string path = Write("disk/input", original);
  const absl::Status status = Sign(path);
  const bool untouched = Read(path) == original;
  const auto file_count =
      std::distance(fs::directory_iterator(disk), fs::directory_iterator());
  umount(disk.c_str());
  EXPECT_THAT(status, HasReason(v1::REASON_DISK_FULL));
  EXPECT_TRUE(untouched);
  EXPECT_EQ(file_count, 1);
}

// --- Stripping ---------------------------------------------------------------

TEST_F(SigningPlanTest, StrippingGivesBackAnUnsignedFile) {
  const std::string path = Write("tool", UniversalTool());
  ASSERT_THAT(Sign(path), IsOk());
  const Bytes signed_once = Read(path);
  ASSERT_THAT(StripSignature(path), IsOk());
  const Bytes stripped = Read(path);
  const auto universal = UniversalFile::Parse(stripped);
  ASSERT_THAT(universal, IsOk());
  EXPECT_THAT(universal->CheckStrictStructure(), IsOk());
  for (const UniversalFile::Slice& slice : universal->slices()) {
    EXPECT_FALSE(slice.mach_o.signature_command().has_value());
  }
  EXPECT_THAT(StripSignature(path), HasReason(v1::REASON_NOT_SIGNED));
  EXPECT_EQ(Read(path), stripped);
  ASSERT_THAT(Sign(path), IsOk());
  EXPECT_EQ(Read(path), signed_once);
}

TEST_F(SigningPlanTest, StrippingTakesTheSlicesThatAreSigned) {
  MachODescription with = Tool();
  with.signature = Bytes(64, 0xcd);
  const std::string path = Write(
      "tool", BuildUniversal(
                  {.slices = {{kX86_64, BuildMachO({.architecture = kX86_64})},
                              {kArm64, BuildMachO(with)}}}));
  ASSERT_THAT(StripSignature(path), IsOk());
  const Bytes stripped = Read(path);
  const auto universal = UniversalFile::Parse(stripped);
  ASSERT_THAT(universal, IsOk());
  EXPECT_TRUE(Equal(universal->slices()[0].mach_o.raw(),
                    BuildMachO({.architecture = kX86_64})));
  EXPECT_FALSE(universal->slices()[1].mach_o.signature_command().has_value());
}

TEST(CanonicalIdentifierTest, FollowsApplesExamples) {
  EXPECT_EQ(CanonicalIdentifier("/usr/lib/libfrotz7.3.5.dylib"), "libfrotz7");
  EXPECT_EQ(CanonicalIdentifier("mumble.77.plugin"), "mumble.77");
  EXPECT_EQ(CanonicalIdentifier("rumble.rb"), "rumble");
  EXPECT_EQ(CanonicalIdentifier("foo.2.3.4"), "foo.2");
  EXPECT_EQ(CanonicalIdentifier("foo2.3"), "foo2");
  EXPECT_EQ(CanonicalIdentifier("foo.9"), "foo.9");
  EXPECT_EQ(CanonicalIdentifier("foo"), "foo");
  EXPECT_EQ(CanonicalIdentifier("libx.1.dylib"), "libx.1");
  EXPECT_EQ(CanonicalIdentifier("name."), "name.");
  EXPECT_EQ(CanonicalIdentifier("7za"), "7za");
  EXPECT_EQ(CanonicalIdentifier(".hidden"), "");
  EXPECT_EQ(CanonicalIdentifier("com.example.app"), "com.example");
}

}  // namespace
}  // namespace codeseal
