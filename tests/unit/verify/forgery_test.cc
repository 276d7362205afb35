// Everything a forger tries, one after another: each forgery is refused for its
// own reason and with Apple's code, and its honest twin, made by the same hands
// with the one change left out, is accepted.

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "codesign/bundle/resource_seal.h"
#include "codesign/requirement/compiler.h"
#include "codesign/requirement/requirement.h"
#include "codesign/verify/verifier.h"
#include "gmock/gmock.h"
#include "tests/support/disk_image_builder.h"
#include "tests/support/forged_cms.h"
#include "tests/support/signed_bundle.h"
#include "tests/support/status_matchers.h"
#include "tests/support/timestamp_authority.h"

namespace codeseal {
namespace {

namespace fs = std::filesystem;
using ::codeseal::testing::BuildSignedCode;
using ::codeseal::testing::BuildSignedFile;
using ::codeseal::testing::BuildUniversal;
using ::codeseal::testing::CertificateSpec;
using ::codeseal::testing::ChangeCms;
using ::codeseal::testing::CmsParts;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::kArm64;
using ::codeseal::testing::kX86_64;
using ::codeseal::testing::MadeTree;
using ::codeseal::testing::MakeCodeSigningChain;
using ::codeseal::testing::MakeSignedApp;
using ::codeseal::testing::SignAs;
using ::codeseal::testing::SignBundle;
using ::codeseal::testing::SignedCode;
using ::codeseal::testing::TestChain;
using ::codeseal::testing::TestIdentity;

using Blobs = std::map<uint32_t, Bytes>;

// The list of the requirements document, in its order and words. Each must
// have a forgery below.
constexpr const char* kKinds[] = {
    "swapped CMS",
    "second SignerInfo",
    "CMS over another CodeDirectory",
    "cdhashes attribute of another file",
    "alternate CodeDirectory with other pages",
    "truncated codeLimit",
    "nCodeSlots too small",
    "page size tricks",
    "overlapping slices",
    "hidden slice",
    "appended data",
    "unsealed executable",
    "symlink swap",
    "nested item replaced",
    "resource renamed by case or Unicode form",
    "path with ..",
    "revoked certificate",
    "expired certificate",
    "timestamp for another signature",
    "requirement with unknown opcode",
};

const TestChain& Chain() {
  static const TestChain chain = MakeCodeSigningChain();
  return chain;
}

const TestChain& StrangersChain() {
  static const TestChain chain = MakeCodeSigningChain();
  return chain;
}

const std::vector<TestIdentity>& StampAuthority() {
  static const std::vector<TestIdentity> authority =
      testing::MakeTimestampAuthority();
  return authority;
}

struct Workshop {
  MadeTree tree;
  VerifyOptions options = {.is_deep = true};

  std::string Write(ByteView file) {
    tree.File("code", AsText(file));
    return tree.Path("code");
  }
};

// Makes the code and returns its path; with the forgery or without.
using Maker = std::function<std::string(Workshop&, bool is_forged)>;

struct Forgery {
  const char* kind;
  const char* name;
  Maker make;
  Reason reason;
  // Nullopt: the file is no code at all any more and is not even opened.
  std::optional<AppleError> apple_error;
};

void PrintTo(const Forgery& forgery, std::ostream* out) {
  *out << forgery.kind << ": " << forgery.name;
}

// --- Makers -----------------------------------------------------------------

SignedCode GoodCode() {
  SignedCode code;
  code.chain = &Chain();
  return code;
}

Maker Code(std::function<void(SignedCode&)> forge) {
  return [forge = std::move(forge)](Workshop& workshop, bool is_forged) {
    SignedCode code = GoodCode();
    if (is_forged) forge(code);
    return workshop.Write(BuildSignedCode(code));
  };
}

Maker App(std::function<void(MadeTree&)> forge) {
  return [forge = std::move(forge)](Workshop& workshop, bool is_forged) {
    MakeSignedApp(workshop.tree, &Chain());
    if (is_forged) forge(workshop.tree);
    return workshop.tree.Path("Demo.app");
  };
}

std::string In(const std::string& path) { return "Demo.app/Contents/" + path; }

// The blob that `code` would have in `slot`.
Bytes TakeBlob(SignedCode code, uint32_t slot) {
  Bytes blob;
  code.change_blobs = [&blob, slot](Blobs& blobs) { blob = blobs.at(slot); };
  BuildSignedCode(code);
  return blob;
}

// The CMS of other code of the same signer.
Bytes OtherCms() {
  SignedCode other = GoodCode();
  other.fields.identifier = "com.example.other";
  Bytes cms;
  other.change_cms = [&cms](Bytes& made) { cms = made; };
  BuildSignedCode(other);
  return cms;
}

Bytes UniversalCode(bool hide_last = false,
                    const std::optional<Bytes>& last = std::nullopt) {
  SignedCode intel = GoodCode();
  intel.mach_o.architecture = kX86_64;
  return BuildUniversal(
      {.slices = {{kX86_64, BuildSignedCode(intel)},
                  {kArm64, last.value_or(BuildSignedCode(GoodCode()))}},
       .align_log2 = 14,
       .hide_last = hide_last});
}

std::string SignedImage() {
  const std::string image = testing::MakeDiskImage();
  const size_t limit = image.size() - testing::kKolySize;
  const std::string blinded =
      testing::WithKolyField(image, testing::kKolySignatureOffset, limit, 8)
          .substr(limit);
  return testing::WithSignatureInImage(
      image,
      AsText(BuildSuperBlob(
          kEmbeddedSignatureMagic,
          testing::SignWholeFile(AsBytes(image).first(limit),
                                 {{kRepSpecificSlot, ToBytes(blinded)}}))));
}

// Signs the app's seal again, with a change that its signer made.
void ChangeSeal(MadeTree& tree,
                const std::function<void(ResourceSeal&)>& change) {
  const absl::StatusOr<Bundle> bundle = Bundle::Open(tree.Path("Demo.app"));
  ASSERT_THAT(bundle, IsOk());
  absl::StatusOr<ResourceSeal> seal = LoadCodeResources(*bundle);
  ASSERT_THAT(seal, IsOk());
  change(*seal);
  const Bytes bytes = BuildCodeResources(*seal);
  tree.File(In("_CodeSignature/CodeResources"), AsText(bytes));
  const absl::StatusOr<MappedFile> info =
      MappedFile::Open(tree.Path(In("Info.plist")));
  ASSERT_THAT(info, IsOk());
  const Bytes file =
      BuildSignedFile({.chain = &Chain(), .change = [&](SignedCode& code) {
                         code.fields.special_slots[kCodeResourcesSlot] =
                             ComputeDigest(DigestKind::kSha256, bytes);
                         code.fields.special_slots[kInfoPlistSlot] =
                             ComputeDigest(DigestKind::kSha256, info->bytes());
                       }});
  tree.File(In("MacOS/Demo"), AsText(file));
}

// Its signer sealed a file at `path`; it need not be there.
Maker SealedPath(std::string path) {
  return [path](Workshop& workshop, bool is_forged) {
    MakeSignedApp(workshop.tree, &Chain());
    workshop.tree.File("outside.txt", "outside");
    ChangeSeal(workshop.tree, [&](ResourceSeal& seal) {
      if (!is_forged) return;
      (*seal.files2)[path] = {
          .what = SealedFile{{{DigestKind::kSha256,
                               ComputeDigest(DigestKind::kSha256,
                                             AsBytes("outside"))}}},
          .optional = true};
    });
    return workshop.tree.Path("Demo.app");
  };
}

void Overwrite(MadeTree& tree, const std::string& path, const SignAs& how) {
  const Bytes file = BuildSignedFile(how);
  tree.File(path, AsText(file));
}

// The folder or file is moved out of the app and a link takes its place.
void BecomeLink(MadeTree& tree, const std::string& path) {
  fs::rename(tree.Path(path), tree.Path("moved"));
  fs::create_symlink(tree.Path("moved"), tree.Path(path));
}

// --- Certificates and times -------------------------------------------------

// Lists of both issuers, so that every certificate has an answer.
void AskLists(Workshop& workshop, std::vector<Certificate> revoked_leaves,
              std::vector<Certificate> revoked_authorities) {
  workshop.options.revocation = std::make_shared<RevocationChecker>();
  testing::RevocationListSpec spec;
  spec.revoked = std::move(revoked_leaves);
  ASSERT_THAT(workshop.options.revocation->AddLists(
                  MakeRevocationList(Chain().intermediate, spec)),
              IsOk());
  spec.revoked = std::move(revoked_authorities);
  ASSERT_THAT(workshop.options.revocation->AddLists(
                  MakeRevocationList(Chain().root, spec)),
              IsOk());
}

Bytes LeafAnswer(bool is_revoked) {
  return MakeOcspResponse(Chain().leaf.certificate(),
                          Chain().intermediate.certificate(),
                          Chain().intermediate, {.is_revoked = is_revoked});
}

// A leaf that was valid for ten minutes, twenty minutes ago.
const TestChain& ShortChain() {
  static const TestChain chain = [] {
    TestChain made = MakeCodeSigningChain();
    CertificateSpec spec;
    spec.common_name = "short";
    spec.extended_key_usage = {testing::kCodeSigning};
    spec.not_before = absl::Now() - absl::Minutes(30);
    spec.not_after = absl::Now() - absl::Minutes(20);
    made.leaf = testing::Issue(spec, made.intermediate);
    return made;
  }();
  return chain;
}

std::string StampedCode(Workshop& workshop, const TestChain& chain,
                        absl::Time at) {
  SignedCode code = GoodCode();
  code.chain = &chain;
  code.change_cms = [at](Bytes& cms) {
    cms = testing::StampCms(cms, StampAuthority(), at);
  };
  return workshop.Write(BuildSignedCode(code));
}

// --- Requirements -----------------------------------------------------------

// A requirement of one opcode; flagged ones have data, which is empty here.
Bytes OpcodeRequirement(uint32_t opcode, bool has_data) {
  BigEndianWriter out;
  out.U32(1);  // an expression
  out.U32(opcode);
  if (has_data) out.U32(0);
  return WrapBlob(kRequirementMagic, std::move(out).Take());
}

Maker Designated(uint32_t opcode, bool has_data) {
  return [=](Workshop& workshop, bool is_forged) {
    SignedCode code = GoodCode();
    code.blobs[kRequirementsSlot] = BuildRequirementSet(
        {{kDesignatedRequirement,
          is_forged ? OpcodeRequirement(opcode, has_data)
                    : OpcodeRequirement(1 /* always */, false)}});
    return workshop.Write(BuildSignedCode(code));
  };
}

// --- The forgeries ----------------------------------------------------------

std::vector<Forgery> Forgeries() {
  const Reason kBadCmsSignature = v1::REASON_CMS_SIGNATURE_INVALID;
  return {
      {"swapped CMS", "OfOtherCodeOfTheSameSigner", Code([](SignedCode& code) {
         code.change_cms = [](Bytes& cms) { cms = OtherCms(); };
       }),
       kBadCmsSignature, kErrSignatureFailed},
      {"swapped CMS", "OfAStranger", Code([](SignedCode& code) {
         code.change_cms = [](Bytes& cms) {
           SignedCode other = GoodCode();
           other.chain = &StrangersChain();
           other.fields.identifier = "com.example.other";
           other.change_cms = [&cms](Bytes& made) { cms = made; };
           BuildSignedCode(other);
         };
       }),
       kBadCmsSignature, kErrSignatureFailed},
      {"swapped CMS", "SignatureValueOfOtherCode", Code([](SignedCode& code) {
         code.change_cms = [](Bytes& cms) {
           // Everything but the last field of the SignerInfo stays.
           const Bytes other = OtherCms();
           const size_t from = cms.size() - 40;
           std::copy(other.end() - 40, other.end(),
                     cms.begin() + static_cast<ptrdiff_t>(from));
         };
       }),
       kBadCmsSignature, kErrSignatureFailed},

      {"swapped CMS", "DisownedByTheAdHocFlag", Code([](SignedCode& code) {
         code.change_blobs = [](Blobs& blobs) {
           blobs.at(kCodeDirectorySlot)[15] |= kAdHocFlag;
         };
       }),
       kBadCmsSignature, kErrSignatureFailed},

      {"second SignerInfo", "OfOtherCodeBehind", Code([](SignedCode& code) {
         code.change_cms = [](Bytes& cms) {
           cms = ChangeCms(cms, [](CmsParts& parts) {
             parts.signer_infos.push_back(
                 testing::TakeApart(OtherCms()).signer_infos[0]);
           });
         };
       }),
       kBadCmsSignature, kErrSignatureFailed},
      {"second SignerInfo", "OfOtherCodeInFront", Code([](SignedCode& code) {
         code.change_cms = [](Bytes& cms) {
           cms = ChangeCms(cms, [](CmsParts& parts) {
             parts.signer_infos.insert(
                 parts.signer_infos.begin(),
                 testing::TakeApart(OtherCms()).signer_infos[0]);
           });
         };
       }),
       kBadCmsSignature, kErrSignatureFailed},
      {"second SignerInfo", "Nonsense", Code([](SignedCode& code) {
         code.change_cms = [](Bytes& cms) {
           cms = ChangeCms(cms, [](CmsParts& parts) {
             parts.signer_infos.push_back({0x30, 0});
           });
         };
       }),
       v1::REASON_BAD_CMS, kErrUnknownFormat},

      {"CMS over another CodeDirectory", "MessageDigest",
       Code([](SignedCode& code) {
         code.change_content = [](CmsContent& content) {
           content.message_digest[0] ^= 1;
         };
       }),
       kBadCmsSignature, kErrSignatureFailed},
      {"CMS over another CodeDirectory", "IdentifierChangedAfterwards",
       Code([](SignedCode& code) {
         code.change_blobs = [](Blobs& blobs) {
           Bytes& directory = blobs.at(kCodeDirectorySlot);
           directory[AsText(directory).find("com.example")] ^= 2;
         };
       }),
       kBadCmsSignature, kErrSignatureFailed},

      {"cdhashes attribute of another file", "BothAttributes",
       Code([](SignedCode& code) {
         code.change_content = [](CmsContent& content) {
           content.code_directories[0].digest[3] ^= 1;
         };
       }),
       kBadCmsSignature, kErrSignatureFailed},
      {"cdhashes attribute of another file", "OneTooMany",
       Code([](SignedCode& code) {
         code.change_content = [](CmsContent& content) {
           content.code_directories.push_back(
               {DigestKind::kSha384, Bytes(48, 7)});
         };
       }),
       kBadCmsSignature, kErrSignatureFailed},

      // SHA-384 would be the best digest: the code would be judged by a
      // CodeDirectory that nobody signed.
      {"alternate CodeDirectory with other pages", "Added",
       Code([](SignedCode& code) {
         code.change_blobs = [](Blobs& blobs) {
           SignedCode other = GoodCode();
           other.digests = {DigestKind::kSha384};
           blobs[kAlternateCodeDirectorySlot] =
               TakeBlob(other, kCodeDirectorySlot);
         };
       }),
       kBadCmsSignature, kErrSignatureFailed},
      // As signed before 2016: nothing in the CMS tells of other
      // CodeDirectories. The same pages, but another name and no flags.
      {"alternate CodeDirectory with other pages", "BesideAnOldCms",
       [](Workshop& workshop, bool is_forged) {
         SignedCode code = GoodCode();
         code.digests = {DigestKind::kSha1};
         code.change_content = [](CmsContent& content) {
           content.is_code = false;
           content.code_directories.clear();
         };
         if (is_forged) {
           code.change_blobs = [](Blobs& blobs) {
             SignedCode other = GoodCode();
             other.fields.identifier = "com.example.victim";
             blobs[kAlternateCodeDirectorySlot] =
                 TakeBlob(other, kCodeDirectorySlot);
           };
         }
         return workshop.Write(BuildSignedCode(code));
       },
       kBadCmsSignature, kErrSignatureFailed},
      {"alternate CodeDirectory with other pages", "SignedWithThem",
       [](Workshop& workshop, bool is_forged) {
         SignedCode code = GoodCode();
         code.digests = {DigestKind::kSha1, DigestKind::kSha256};
         int count = 0;
         code.change_directory = [&](Bytes& directory) {
           if (is_forged && ++count == 2) directory.back() ^= 1;
         };
         return workshop.Write(BuildSignedCode(code));
       },
       v1::REASON_CODE_MODIFIED, kErrSignatureFailed},

      {"truncated codeLimit", "ByAPage", Code([](SignedCode& code) {
         code.change_fields = [](CodeDirectoryFields& fields) {
           fields.code_limit -= 4096;
         };
       }),
       v1::REASON_CODE_LIMIT_MISMATCH, kErrSignatureInvalid},
      {"truncated codeLimit", "WithinTheLastPage", Code([](SignedCode& code) {
         code.change_fields = [](CodeDirectoryFields& fields) {
           fields.code_limit -= 1;
         };
       }),
       v1::REASON_CODE_LIMIT_MISMATCH, kErrSignatureInvalid},

      {"nCodeSlots too small", "ByOne", Code([](SignedCode& code) {
         code.change_directory = [](Bytes& directory) { directory[31] -= 1; };
       }),
       v1::REASON_CODE_LIMIT_MISMATCH, kErrSignatureFailed},
      {"nCodeSlots too small", "None", Code([](SignedCode& code) {
         code.change_directory = [](Bytes& directory) {
           StoreU32(directory, 28, 0, ByteOrder::kBig);
         };
       }),
       v1::REASON_CODE_LIMIT_MISMATCH, kErrSignatureFailed},

      {"page size tricks", "PagesThatNobodyHas", Code([](SignedCode& code) {
         code.change_directory = [](Bytes& directory) { directory[39] = 31; };
       }),
       v1::REASON_UNSUPPORTED_PAGE_SIZE, kErrSignatureUnsupported},
      {"page size tricks", "ShiftOfMoreBitsThanThereAre",
       Code([](SignedCode& code) {
         code.change_directory = [](Bytes& directory) { directory[39] = 255; };
       }),
       v1::REASON_UNSUPPORTED_PAGE_SIZE, kErrSignatureUnsupported},
      {"page size tricks", "LargerThanTheSlots", Code([](SignedCode& code) {
         code.change_directory = [](Bytes& directory) { directory[39] = 14; };
       }),
       v1::REASON_CODE_LIMIT_MISMATCH, kErrSignatureFailed},
      {"page size tricks", "OneInfinitePage", Code([](SignedCode& code) {
         code.change_directory = [](Bytes& directory) { directory[39] = 0; };
       }),
       v1::REASON_CODE_LIMIT_MISMATCH, kErrSignatureFailed},
      // As many slots as pages of 16 KiB: the first page's digest is of 4 KiB.
      {"page size tricks", "SlotsOfSmallerPages", Code([](SignedCode& code) {
         code.change_directory = [](Bytes& directory) {
           const uint64_t limit = CodeDirectory::Parse(directory)->code_limit();
           directory[39] = 14;
           StoreU32(directory, 28,
                    static_cast<uint32_t>((limit - 1) / 16384 + 1),
                    ByteOrder::kBig);
         };
       }),
       v1::REASON_CODE_MODIFIED, kErrSignatureFailed},

      {"overlapping slices", "OneInTheOther",
       [](Workshop& workshop, bool is_forged) {
         Bytes file = UniversalCode();
         const uint32_t first =
             BigEndianReader(ByteView(file).subspan(16)).U32();
         if (is_forged) StoreU32(file, 36, first + 4096, ByteOrder::kBig);
         return workshop.Write(file);
       },
       v1::REASON_OVERLAPPING_RANGES, std::nullopt},
      {"overlapping slices", "BothAtOnePlace",
       [](Workshop& workshop, bool is_forged) {
         Bytes file = UniversalCode();
         const uint32_t first =
             BigEndianReader(ByteView(file).subspan(16)).U32();
         if (is_forged) StoreU32(file, 36, first, ByteOrder::kBig);
         return workshop.Write(file);
       },
       v1::REASON_OVERLAPPING_RANGES, std::nullopt},

      {"hidden slice", "NotSigned",
       [](Workshop& workshop, bool is_forged) {
         return workshop.Write(UniversalCode(
             /*hide_last=*/true,
             is_forged ? std::optional(testing::BuildMachO()) : std::nullopt));
       },
       v1::REASON_NOT_SIGNED, kErrUnsigned},
      {"hidden slice", "SignedByNobody",
       [](Workshop& workshop, bool is_forged) {
         SignedCode code = GoodCode();
         code.fields.team_identifier = is_forged ? "OTHERTEAM1" : "";
         return workshop.Write(
             UniversalCode(/*hide_last=*/true, BuildSignedCode(code)));
       },
       v1::REASON_TEAM_IDENTIFIER_MISMATCH, kErrBadTeamIdentifier},
      // Counted, with an entry that no header counts: macOS does not see it.
      {"hidden slice", "BehindTheLast",
       [](Workshop& workshop, bool is_forged) {
         Bytes file = UniversalCode();
         if (is_forged) {
           file.resize((file.size() + 16383) / 16384 * 16384);
           Append(file, testing::BuildMachO());
         }
         return workshop.Write(file);
       },
       v1::REASON_UNEXPECTED_DATA, kErrBadMainExecutable},

      {"appended data", "BehindAThinFile",
       Code([](SignedCode& code) { code.mach_o.trailing_size = 16; }),
       v1::REASON_UNEXPECTED_DATA, kErrBadMainExecutable},
      {"appended data", "BehindTheLastSlice",
       [](Workshop& workshop, bool is_forged) {
         Bytes file = UniversalCode();
         if (is_forged) Append(file, AsBytes("data"));
         return workshop.Write(file);
       },
       v1::REASON_UNEXPECTED_DATA, kErrBadMainExecutable},
      {"appended data", "BetweenSlices",
       [](Workshop& workshop, bool is_forged) {
         Bytes file = UniversalCode();
         const uint32_t second =
             BigEndianReader(ByteView(file).subspan(36)).U32();
         if (is_forged) file[second - 1] = 1;
         return workshop.Write(file);
       },
       v1::REASON_UNEXPECTED_DATA, kErrBadMainExecutable},
      {"appended data", "BehindADiskImage",
       [](Workshop& workshop, bool is_forged) {
         return workshop.Write(
             AsBytes(SignedImage() + (is_forged ? "data" : "")));
       },
       v1::REASON_NOT_SIGNED, kErrUnsigned},
      {"appended data", "BetweenSignatureAndTrailer",
       [](Workshop& workshop, bool is_forged) {
         std::string image = SignedImage();
         if (is_forged) image.insert(image.size() - testing::kKolySize, "data");
         return workshop.Write(AsBytes(image));
       },
       v1::REASON_BAD_DISK_IMAGE, kErrBadDiskImageFormat},
      {"appended data", "BehindADiskImagesSignature",
       [](Workshop& workshop, bool is_forged) {
         std::string image = SignedImage();
         if (is_forged) {
           const size_t trailer = image.size() - testing::kKolySize;
           const uint64_t size =
               BigEndianReader(AsBytes(image).subspan(
                                   trailer + testing::kKolySignatureSize))
                   .U64();
           image.insert(trailer, "data");
           image = testing::WithKolyField(image, testing::kKolySignatureSize,
                                          size + 5, 8);
         }
         return workshop.Write(AsBytes(image));
       },
       v1::REASON_BAD_DISK_IMAGE, std::nullopt},

      {"unsealed executable", "BesideTheMainOne", App([](MadeTree& tree) {
         Overwrite(tree, In("MacOS/other"), {.chain = &Chain()});
       }),
       v1::REASON_SEALED_RESOURCE_CHANGED, kErrBadResource},
      {"unsealed executable", "InResources", App([](MadeTree& tree) {
         tree.Executable(In("Resources/run.sh"), "#!/bin/sh\n");
       }),
       v1::REASON_SEALED_RESOURCE_CHANGED, kErrBadResource},
      {"unsealed executable", "InANestedBundle", App([](MadeTree& tree) {
         tree.Executable(In("PlugIns/Plug.bundle/Contents/MacOS/run.sh"), "#!");
       }),
       v1::REASON_SEALED_RESOURCE_CHANGED, kErrBadResource},
      {"unsealed executable", "BesideContents", App([](MadeTree& tree) {
         tree.Executable("Demo.app/run.sh", "#!/bin/sh\n");
       }),
       v1::REASON_UNSEALED_APP_ROOT, kErrUnsealedAppRoot},
      {"unsealed executable", "InTheSignatureFolder", App([](MadeTree& tree) {
         tree.Executable(In("_CodeSignature/run.sh"), "#!/bin/sh\n");
       }),
       v1::REASON_UNSEALED_APP_ROOT, kErrUnsealedAppRoot},
      {"unsealed executable", "OfALinkerInASignedApp", App([](MadeTree& tree) {
         Overwrite(tree, In("MacOS/Demo"), {.change = [](SignedCode& code) {
                     code.fields.flags |= kLinkerSignedFlag;
                   }});
       }),
       v1::REASON_RESOURCES_NOT_FOUND, kErrResourcesNotFound},

      {"symlink swap", "FileForLink", App([](MadeTree& tree) {
         tree.Remove(In("Resources/data.txt"));
         tree.Link(In("Resources/data.txt"), "en.lproj/words.strings");
       }),
       v1::REASON_SEALED_RESOURCE_CHANGED, kErrBadResource},
      // It still leads to the very bytes that were sealed.
      {"symlink swap", "FileForLinkToItself",
       App([](MadeTree& tree) { BecomeLink(tree, In("Resources/data.txt")); }),
       v1::REASON_SEALED_RESOURCE_CHANGED, kErrBadResource},
      {"symlink swap", "OtherTarget", App([](MadeTree& tree) {
         tree.Remove(In("Resources/link"));
         tree.Link(In("Resources/link"), "en.lproj/words.strings");
       }),
       v1::REASON_SEALED_RESOURCE_CHANGED, kErrBadResource},
      {"symlink swap", "FolderOfExecutables",
       App([](MadeTree& tree) { BecomeLink(tree, In("MacOS")); }),
       v1::REASON_SEALED_RESOURCE_CHANGED, kErrBadResource},
      {"symlink swap", "MainExecutable",
       App([](MadeTree& tree) { BecomeLink(tree, In("MacOS/Demo")); }),
       v1::REASON_NOT_REGULAR_FILE, kErrRegularFile},
      {"symlink swap", "InfoPlist",
       App([](MadeTree& tree) { BecomeLink(tree, In("Info.plist")); }),
       v1::REASON_NOT_REGULAR_FILE, kErrRegularFile},
      {"symlink swap", "Contents",
       App([](MadeTree& tree) { BecomeLink(tree, "Demo.app/Contents"); }),
       v1::REASON_UNSEALED_APP_ROOT, kErrUnsealedAppRoot},
      {"symlink swap", "NestedBundle",
       App([](MadeTree& tree) { BecomeLink(tree, In("PlugIns/Plug.bundle")); }),
       v1::REASON_SEALED_RESOURCE_CHANGED, kErrBadResource},
      {"symlink swap", "VersionOfAFramework", App([](MadeTree& tree) {
         BecomeLink(tree, In("Frameworks/Kit.framework/Versions/A"));
       }),
       v1::REASON_UNSEALED_FRAMEWORK_ROOT, kErrUnsealedFrameworkRoot},
      {"symlink swap", "CurrentOutOfTheFramework", App([](MadeTree& tree) {
         const std::string current =
             In("Frameworks/Kit.framework/Versions/Current");
         tree.Remove(current);
         fs::copy(
             tree.Path(In("Frameworks/Kit.framework/Versions/A")),
             tree.Path("moved"),
             fs::copy_options::recursive | fs::copy_options::copy_symlinks);
         fs::create_symlink(tree.Path("moved"), tree.Path(current));
       }),
       v1::REASON_UNSEALED_FRAMEWORK_ROOT, kErrUnsealedFrameworkRoot},

      {"nested item replaced", "BySameNameOfOtherSigner",
       App([](MadeTree& tree) {
         Overwrite(
             tree, In("MacOS/tool"),
             {.identifier = "com.example.tool", .chain = &StrangersChain()});
       }),
       v1::REASON_BAD_NESTED_CODE, kErrBadNestedCode},
      {"nested item replaced", "ByAdHocCode", App([](MadeTree& tree) {
         Overwrite(tree, In("MacOS/tool"), {.identifier = "com.example.tool"});
       }),
       v1::REASON_BAD_NESTED_CODE, kErrBadNestedCode},
      {"nested item replaced", "ByOtherCodeOfTheSigner",
       App([](MadeTree& tree) {
         Overwrite(tree, In("MacOS/tool"),
                   {.identifier = "com.example.other", .chain = &Chain()});
       }),
       v1::REASON_BAD_NESTED_CODE, kErrBadNestedCode},
      {"nested item replaced", "ByUnsignedCode", App([](MadeTree& tree) {
         tree.File(In("MacOS/tool"), AsText(testing::BuildMachO()));
       }),
       v1::REASON_NOT_SIGNED, kErrUnsigned},
      {"nested item replaced", "BundleOfOtherSigner", App([](MadeTree& tree) {
         SignBundle(
             tree.Path(In("PlugIns/Plug.bundle")),
             {.identifier = "com.example.plug", .chain = &StrangersChain()});
       }),
       v1::REASON_BAD_NESTED_CODE, kErrBadNestedCode},
      {"nested item replaced", "ByAFileThatIsNoCode",
       App([](MadeTree& tree) { tree.File(In("MacOS/tool"), "text"); }),
       v1::REASON_NOT_SIGNED, kErrUnsigned},

      {"resource renamed by case or Unicode form", "Case",
       App([](MadeTree& tree) {
         fs::rename(tree.Path(In("Resources/data.txt")),
                    tree.Path(In("Resources/Data.txt")));
       }),
       v1::REASON_SEALED_RESOURCE_CHANGED, kErrBadResource},
      {"resource renamed by case or Unicode form", "NormalForm",
       [](Workshop& workshop, bool is_forged) {
         MadeTree& tree = workshop.tree;
         MakeSignedApp(tree, &Chain());
         tree.File(In("Resources/caf\u00e9.txt"), "data");
         SignBundle(tree.Path("Demo.app"), {.chain = &Chain()});
         if (is_forged) {
           fs::rename(tree.Path(In("Resources/caf\u00e9.txt")),
                      tree.Path(In("Resources/cafe\u0301.txt")));
         }
         return tree.Path("Demo.app");
       },
       v1::REASON_SEALED_RESOURCE_CHANGED, kErrBadResource},
      {"resource renamed by case or Unicode form", "CaseOfNestedCode",
       App([](MadeTree& tree) {
         fs::rename(tree.Path(In("MacOS/tool")), tree.Path(In("MacOS/Tool")));
       }),
       v1::REASON_SEALED_RESOURCE_CHANGED, kErrBadResource},

      {"path with ..", "OutOfTheApp", SealedPath("../../outside.txt"),
       v1::REASON_RESOURCE_SEAL_INVALID, kErrResourcesInvalid},
      {"path with ..", "InTheMiddle",
       SealedPath("Resources/../../../outside.txt"),
       v1::REASON_RESOURCE_SEAL_INVALID, kErrResourcesInvalid},
      {"path with ..", "Absolute", SealedPath("/etc/passwd"),
       v1::REASON_RESOURCE_SEAL_INVALID, kErrResourcesInvalid},
      {"path with ..", "NameOfTheExecutable", App([](MadeTree& tree) {
         Overwrite(tree, "outside", {.chain = &Chain()});
         tree.Plist(In("Info.plist"),
                    {{"CFBundleExecutable", "../../../outside"},
                     {"CFBundlePackageType", "APPL"}});
       }),
       v1::REASON_NOT_SIGNED, kErrUnsigned},

      {"revoked certificate", "Signer",
       [](Workshop& workshop, bool is_forged) {
         AskLists(workshop, {}, {});
         if (is_forged) AskLists(workshop, {Chain().leaf.certificate()}, {});
         return workshop.Write(BuildSignedCode(GoodCode()));
       },
       v1::REASON_CERTIFICATE_REVOKED, kErrCertificateRevoked},
      {"revoked certificate", "Intermediate",
       [](Workshop& workshop, bool is_forged) {
         AskLists(workshop, {}, {});
         if (is_forged) {
           AskLists(workshop, {}, {Chain().intermediate.certificate()});
         }
         return workshop.Write(BuildSignedCode(GoodCode()));
       },
       v1::REASON_CERTIFICATE_REVOKED, kErrCertificateRevoked},
      {"revoked certificate", "AnswerInTheCms",
       [](Workshop& workshop, bool is_forged) {
         AskLists(workshop, {}, {});
         SignedCode code = GoodCode();
         code.change_cms = [is_forged](Bytes& cms) {
           cms = ChangeCms(cms, [is_forged](CmsParts& parts) {
             parts.crls.push_back(
                 testing::OcspAsRevocationInfo(LeafAnswer(is_forged)));
           });
         };
         return workshop.Write(BuildSignedCode(code));
       },
       v1::REASON_CERTIFICATE_REVOKED, kErrCertificateRevoked},
      // The authority that stamped it is nobody's: its word on the time does
      // not make the signature older than the revocation.
      {"revoked certificate", "WithAStrangersTimestamp",
       [](Workshop& workshop, bool is_forged) {
         AskLists(workshop, {Chain().leaf.certificate()}, {});
         if (!is_forged) {
           workshop.options.anchors = {StampAuthority().back().certificate()};
         }
         return StampedCode(workshop, Chain(), absl::Now() - absl::Minutes(20));
       },
       v1::REASON_CERTIFICATE_REVOKED, kErrCertificateRevoked},

      {"expired certificate", "WhenItWasStamped",
       [](Workshop& workshop, bool is_forged) {
         return StampedCode(workshop, ShortChain(),
                            absl::Now() - absl::Minutes(is_forged ? 10 : 25));
       },
       v1::REASON_CERTIFICATE_EXPIRED, kErrCertificateExpired},
      {"expired certificate", "BeforeItWasValid",
       [](Workshop& workshop, bool is_forged) {
         return StampedCode(workshop, ShortChain(),
                            absl::Now() - absl::Minutes(is_forged ? 50 : 25));
       },
       v1::REASON_CERTIFICATE_EXPIRED, kErrCertificateExpired},
      {"expired certificate", "AndExpirationIsToBeChecked",
       [](Workshop& workshop, bool is_forged) {
         workshop.options.check_expiration = is_forged;
         SignedCode code = GoodCode();
         code.chain = &ShortChain();
         code.signing_time = absl::Now() - absl::Minutes(10);
         return workshop.Write(BuildSignedCode(code));
       },
       v1::REASON_CERTIFICATE_EXPIRED, kErrCertificateExpired},

      {"timestamp for another signature", "TokenOfOtherCode",
       [](Workshop& workshop, bool is_forged) {
         SignedCode code = GoodCode();
         code.change_cms = [is_forged](Bytes& cms) {
           const Bytes stamped =
               ParseAppleCms(is_forged ? OtherCms() : cms)->signature_value;
           const Bytes token = testing::MakeTimestampToken(
               stamped, StampAuthority(), absl::Now());
           cms = ChangeCms(cms, [&token](CmsParts& parts) {
             parts.signer_infos[0] =
                 testing::WithTimestamp(parts.signer_infos[0], token);
           });
         };
         return workshop.Write(BuildSignedCode(code));
       },
       v1::REASON_BAD_TIMESTAMP, kErrTimestampInvalid},
      {"timestamp for another signature", "TwoTokens",
       [](Workshop& workshop, bool is_forged) {
         SignedCode code = GoodCode();
         code.change_cms = [is_forged](Bytes& cms) {
           cms = testing::StampCms(cms, StampAuthority(), absl::Now());
           if (!is_forged) return;
           const Bytes token = testing::MakeTimestampToken(
               Bytes(64, 1), StampAuthority(), absl::Now());
           cms = ChangeCms(cms, [&token](CmsParts& parts) {
             parts.signer_infos[0] =
                 testing::WithTimestamp(parts.signer_infos[0], token);
           });
         };
         return workshop.Write(BuildSignedCode(code));
       },
       v1::REASON_BAD_CMS, kErrUnknownFormat},

      {"requirement with unknown opcode", "Designated",
       Designated(0x77, /*has_data=*/false), v1::REASON_BAD_REQUIREMENT,
       kErrReqUnsupported},
      {"requirement with unknown opcode", "DesignatedFalseIfUnknown",
       Designated(0x80000077, /*has_data=*/true),
       v1::REASON_REQUIREMENT_NOT_SATISFIED, kErrReqFailed},
      {"requirement with unknown opcode", "Asked",
       [](Workshop& workshop, bool is_forged) {
         workshop.options.requirement =
             is_forged ? OpcodeRequirement(0x77, false)
                       : OpcodeRequirement(1 /* always */, false);
         return workshop.Write(BuildSignedCode(GoodCode()));
       },
       v1::REASON_BAD_REQUIREMENT, kErrReqUnsupported},
  };
}

// --- The verdicts -----------------------------------------------------------

struct Verdict {
  absl::Status status;
  std::optional<AppleError> apple_error;
};

const Check* FailedCheck(const VerificationReport& report,
                         std::string_view name) {
  for (const SliceReport& slice : report.slices) {
    for (const Check& check : slice.checks) {
      if (check.name == name && !check.status.ok()) return &check;
    }
  }
  return nullptr;
}

// What `codeseal verify` would say: validity, then requirements.
Verdict Judge(const Maker& make, bool is_forged) {
  Workshop workshop;
  const std::string path = make(workshop, is_forged);
  const absl::StatusOr<StoredCode> code = StoredCode::Open(path);
  if (!code.ok()) return {code.status(), std::nullopt};
  const VerificationReport report = Verify(*code, workshop.options);
  if (const Check* check = report.FirstFailure()) {
    return {check->status, check->apple_error};
  }
  for (const char* name :
       {kCheckExplicitRequirement, kCheckDesignatedRequirement}) {
    if (const Check* check = FailedCheck(report, name)) {
      return {check->status, check->apple_error};
    }
  }
  return {};
}

class NamedForgeryTest : public ::testing::TestWithParam<Forgery> {};

TEST_P(NamedForgeryTest, IsRefusedAndItsHonestTwinIsNot) {
  const Forgery& forgery = GetParam();
  EXPECT_THAT(Judge(forgery.make, /*is_forged=*/false).status, IsOk());
  const Verdict verdict = Judge(forgery.make, /*is_forged=*/true);
  std::printf("  %-41s %-28s %s\n", forgery.kind, forgery.name,
              std::string(Message(verdict.status)).c_str());
  EXPECT_EQ(v1::Reason_Name(GetReason(verdict.status)),
            v1::Reason_Name(forgery.reason))
      << verdict.status;
  ASSERT_EQ(verdict.apple_error.has_value(), forgery.apple_error.has_value());
  if (forgery.apple_error.has_value()) {
    EXPECT_EQ(verdict.apple_error->name, forgery.apple_error->name);
  }
}

std::string ForgeryName(const ::testing::TestParamInfo<Forgery>& each) {
  std::string name;
  for (const char c : std::string(each.param.kind)) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0) name += c;
  }
  return name + "_" + each.param.name;
}

INSTANTIATE_TEST_SUITE_P(Verifier, NamedForgeryTest,
                         ::testing::ValuesIn(Forgeries()), ForgeryName);

TEST(ForgeryListTest, EveryKindHasAForgery) {
  std::set<std::string> made;
  for (const Forgery& forgery : Forgeries()) made.insert(forgery.kind);
  for (const char* kind : kKinds) EXPECT_TRUE(made.contains(kind)) << kind;
  EXPECT_EQ(made.size(), std::size(kKinds));
}

// A second signature of the same code is honest; Apple's code looks at the
// first only, and so do we, and say so.
TEST(SecondSignerTest, OfTheSameCodeIsReportedAndDoesNotCount) {
  SignedCode code = GoodCode();
  Bytes strangers;
  code.chain = &StrangersChain();
  code.change_cms = [&strangers](Bytes& cms) { strangers = cms; };
  BuildSignedCode(code);
  code.chain = &Chain();
  code.change_cms = [&strangers](Bytes& cms) {
    cms = ChangeCms(cms, [&strangers](CmsParts& parts) {
      const CmsParts other = testing::TakeApart(strangers);
      parts.signer_infos.push_back(other.signer_infos[0]);
      for (const Bytes& each : other.certificates) {
        parts.certificates.push_back(each);
      }
    });
  };
  Workshop workshop;
  const absl::StatusOr<StoredCode> stored =
      StoredCode::Open(workshop.Write(BuildSignedCode(code)));
  ASSERT_THAT(stored, IsOk());
  const VerificationReport report = Verify(*stored, {});
  EXPECT_THAT(report.Validity(), IsOk());
  const SliceReport& slice = report.slices.front();
  EXPECT_EQ(slice.authorities, Chain().certificates());
  const auto check = std::find_if(
      slice.checks.begin(), slice.checks.end(),
      [](const Check& each) { return each.name == kCheckCmsSignature; });
  ASSERT_NE(check, slice.checks.end());
  EXPECT_THAT(check->note, ::testing::HasSubstr("also signed"));
}

}  // namespace
}  // namespace codeseal
