#include "codesign/signature_archive.h"

#include <filesystem>
#include <optional>
#include <string>
#include <utility>

#include "codesign/base/mapped_file.h"
#include "codesign/signing_plan.h"
#include "tests/support/mach_o_builder.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"

namespace codeseal {
namespace {

namespace fs = std::filesystem;
using ::codeseal::testing::BuildMachO;
using ::codeseal::testing::BuildUniversal;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::kArm64;
using ::codeseal::testing::kX86_64;
using ::codeseal::testing::MachODescription;
using ::codeseal::testing::TempFolder;
using ::testing::HasSubstr;

Bytes Tool(uint8_t uuid = 0xab) {
  MachODescription arm64;
  arm64.code_size = 20000;
  arm64.uuid.emplace();
  arm64.uuid->fill(uuid);
  MachODescription x86_64 = arm64;
  x86_64.architecture = kX86_64;
  return BuildUniversal(
      {.slices = {{kX86_64, BuildMachO(x86_64)}, {kArm64, BuildMachO(arm64)}}});
}

class SignatureArchiveTest : public ::testing::Test {
 protected:
  static void Sign(const std::string& path,
                   std::optional<Bytes> entitlements = std::nullopt) {
    auto file = MappedFile::Open(path);
    ASSERT_THAT(file, IsOk());
    SigningOptions options;
    options.force = true;
    options.entitlements = std::move(entitlements);
    const auto plan = SigningPlan::Create(*std::move(file), options, {});
    ASSERT_THAT(plan, IsOk());
    ASSERT_THAT(plan->WriteSigned(path, {}), IsOk());
  }
  std::string Write(const std::string& name, const Bytes& bytes) const {
    fs::create_directories(fs::path(folder_.Path(name)).parent_path());
    return folder_.Write(name, AsText(bytes));
  }
  static absl::Status Attach(const std::string& archive,
                             const std::string& path) {
    return AttachSignatures(AsBytes(archive), path).status();
  }
  // The archive of a signed file, with one text in it replaced.
  std::string Changed(const std::string& from, const std::string& to) const {
    std::string archive = *DetachSignatures(folder_.Path("signed"));
    EXPECT_THAT(archive, HasSubstr(from));
    return archive.replace(archive.find(from), from.size(), to);
  }

  TempFolder folder_;
};

TEST_F(SignatureArchiveTest, SameBytesAsSigning) {
  const Bytes original = Tool();
  const std::string signed_path = Write("signed", original);
  Sign(signed_path);
  const auto archive = DetachSignatures(signed_path);
  ASSERT_THAT(archive, IsOk());
  EXPECT_THAT(*archive, HasSubstr("<string>codeseal signatures</string>"));

  const std::string rebuilt = Write("rebuilt", original);
  const auto count = AttachSignatures(AsBytes(*archive), rebuilt);
  ASSERT_THAT(count, IsOk());
  EXPECT_EQ(*count, 1u);
  EXPECT_EQ(folder_.Read("rebuilt"), folder_.Read("signed"));
  // And once more over the same signature.
  EXPECT_THAT(Attach(*archive, rebuilt), IsOk());
  EXPECT_EQ(folder_.Read("rebuilt"), folder_.Read("signed"));
  EXPECT_EQ(*DetachSignatures(rebuilt), *archive);
}

// Of a longer one nothing stays behind the shorter, as it would when signing.
TEST_F(SignatureArchiveTest, ReplacesAnotherSignature) {
  const std::string signed_path = Write("signed", Tool());
  Sign(signed_path);
  const std::string other = Write("other", Tool());
  Sign(other,
       ToBytes("<plist version=\"1.0\"><dict><key>" + std::string(15000, 'k') +
               "</key><true/></dict></plist>"));
  EXPECT_NE(folder_.Read("other"), folder_.Read("signed"));
  const auto archive = DetachSignatures(signed_path);
  EXPECT_THAT(Attach(*archive, other), IsOk());
  EXPECT_EQ(folder_.Read("other"), folder_.Read("signed"));
}

TEST_F(SignatureArchiveTest, ChangedOrOtherCodeIsRefusedAndLeftAlone) {
  const std::string signed_path = Write("signed", Tool());
  Sign(signed_path);
  const auto archive = DetachSignatures(signed_path);
  Bytes changed = Tool();
  changed[0x4000 + 9000] ^= 1;
  MachODescription thin;
  thin.code_size = 20000;
  for (const Bytes& code : {changed, Tool(0xcd), BuildMachO(thin)}) {
    const std::string path = Write("code", code);
    EXPECT_THAT(Attach(*archive, path), HasReason(v1::REASON_CODE_MODIFIED));
    EXPECT_EQ(folder_.Read("code"), AsText(code));
  }
  EXPECT_THAT(Attach(*archive, Write("text", ToBytes("hello"))),
              HasReason(v1::REASON_NOT_MACH_O));
  EXPECT_THAT(Attach(*archive, folder_.path()),
              HasReason(v1::REASON_CODE_MODIFIED));
  // Nothing staged is left behind.
  for (const auto& entry : fs::directory_iterator(folder_.path())) {
    EXPECT_FALSE(entry.path().filename().string().starts_with("."));
  }
}

TEST_F(SignatureArchiveTest, UnsignedCodeHasNothingToDetach) {
  EXPECT_THAT(DetachSignatures(Write("code", Tool())),
              HasReason(v1::REASON_NOT_SIGNED));
  EXPECT_THAT(DetachSignatures(folder_.path()),
              HasReason(v1::REASON_NOT_SIGNED));
}

TEST_F(SignatureArchiveTest, EverythingInAFolder) {
  const auto fill = [&](const std::string& app) {
    Write(app + "/Contents/MacOS/App", Tool(1));
    Write(app + "/Contents/Frameworks/libx.dylib", Tool(2));
    Write(app + "/Contents/Resources/text", ToBytes("text"));
    fs::create_directory_symlink("Contents", folder_.Path(app + "/Link"));
  };
  fill("A.app");
  Sign(folder_.Path("A.app/Contents/MacOS/App"));
  Sign(folder_.Path("A.app/Contents/Frameworks/libx.dylib"));
  Write("A.app/Contents/_CodeSignature/CodeResources", ToBytes("seal"));
  const auto archive = DetachSignatures(folder_.Path("A.app"));
  ASSERT_THAT(archive, IsOk());

  fill("B.app");
  const auto count = AttachSignatures(AsBytes(*archive), folder_.Path("B.app"));
  ASSERT_THAT(count, IsOk());
  EXPECT_EQ(*count, 3u);
  for (const char* name :
       {"/Contents/MacOS/App", "/Contents/Frameworks/libx.dylib",
        "/Contents/_CodeSignature/CodeResources"}) {
    EXPECT_EQ(folder_.Read(std::string("A.app") + name),
              folder_.Read(std::string("B.app") + name));
  }

  // One changed library, and the app stays as it is.
  fill("C.app");
  std::string other_seal = *archive;
  constexpr char kSeal[] = "c2VhbA==";  // "seal"
  ASSERT_THAT(other_seal, HasSubstr(kSeal));
  other_seal.replace(other_seal.find(kSeal), sizeof kSeal - 1, "c2VhbQ==");
  const absl::Status refused = Attach(other_seal, folder_.Path("C.app"));
  ASSERT_THAT(refused, HasReason(v1::REASON_BAD_DETACHED_SIGNATURE));
  EXPECT_EQ(GetErrorDetail(refused)->rule(), "SA-7");
  Write("C.app/Contents/Frameworks/libx.dylib", Tool(3));
  EXPECT_THAT(Attach(*archive, folder_.Path("C.app")),
              HasReason(v1::REASON_CODE_MODIFIED));
  EXPECT_EQ(folder_.Read("C.app/Contents/MacOS/App"), AsText(Tool(1)));
  EXPECT_FALSE(fs::exists(folder_.Path("C.app/Contents/_CodeSignature")));
}

TEST_F(SignatureArchiveTest, NameThatNoArchiveCanHold) {
  Write("folder/good", Tool());
  Sign(folder_.Path("folder/good"));
  Write(
      "folder/b\xff"
      "d",
      Tool());
  EXPECT_THAT(DetachSignatures(folder_.Path("folder")), IsOk())
      << "it has no signature";
  Sign(
      folder_.Path("folder/b\xff"
                   "d"));
  EXPECT_THAT(DetachSignatures(folder_.Path("folder")),
              HasReason(v1::REASON_RESOURCE_NAME_NOT_UTF8));
}

TEST_F(SignatureArchiveTest, LinkThatLeadsOutOfTheFolderIsNotFollowed) {
  Write("A/lib/tool", Tool());
  Sign(folder_.Path("A/lib/tool"));
  const auto archive = DetachSignatures(folder_.Path("A"));
  ASSERT_THAT(archive, IsOk());
  Write("elsewhere/tool", Tool());
  fs::create_directory(folder_.Path("B"));
  fs::create_directory_symlink("../elsewhere", folder_.Path("B/lib"));
  const absl::Status status = Attach(*archive, folder_.Path("B"));
  ASSERT_THAT(status, HasReason(v1::REASON_CODE_MODIFIED));
  EXPECT_EQ(GetErrorDetail(status)->rule(), "SA-6");
  EXPECT_EQ(folder_.Read("elsewhere/tool"), AsText(Tool()));
}

TEST_F(SignatureArchiveTest, HostileArchives) {
  const std::string signed_path = Write("signed", Tool());
  Sign(signed_path);
  const std::string code = Write("code", Tool());
  const auto rule = [&](const std::string& archive) {
    const absl::Status status = Attach(archive, code);
    EXPECT_THAT(status, HasReason(v1::REASON_BAD_DETACHED_SIGNATURE));
    const auto detail = GetErrorDetail(status);
    return detail.has_value() ? detail->rule() : "";
  };
  EXPECT_EQ(rule("hello"), "SA-1");
  EXPECT_EQ(rule("<plist><dict/></plist>"), "SA-1");
  EXPECT_EQ(rule(Changed("<integer>1</integer>", "<integer>2</integer>")),
            "SA-1");
  EXPECT_EQ(rule(Changed("<key>sha256</key>", "<key>sha257</key>")), "SA-2");
  EXPECT_EQ(rule(Changed("<key>slices</key>", "<key>other</key>")), "SA-2");
  EXPECT_EQ(rule(Changed("<key>architecture</key>", "<key>arch</key>")),
            "SA-2");
  for (const char* path : {"../x", "/etc/x", "a/../../x", "a//b", "./a"}) {
    EXPECT_EQ(rule(Changed("<string></string>",
                           "<string>" + std::string(path) + "</string>")),
              "SA-3")
        << path;
  }
  EXPECT_EQ(rule(Changed("<key>slices</key>",
                         "<key>content</key>\n<data>AA==</data>\n"
                         "<key>ignored</key>")),
            "SA-5");
  std::string negative = *DetachSignatures(signed_path);
  const size_t size = negative.find("<integer>", negative.find(">size<"));
  EXPECT_EQ(rule(negative.insert(size + sizeof "<integer>" - 1, "-")), "SA-4");
  EXPECT_EQ(folder_.Read("code"), AsText(Tool()));
}

}  // namespace
}  // namespace codeseal
