#include "codesign/verify/verifier.h"

#include <algorithm>
#include <functional>
#include <map>
#include <string>

#include "codesign/entitlements.h"
#include "codesign/macho/universal_file.h"
#include "codesign/requirement/compiler.h"
#include "gmock/gmock.h"
#include "tests/support/disk_image_builder.h"
#include "tests/support/signed_bundle.h"
#include "tests/support/signed_code.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"

namespace codeseal {
namespace {

using ::codeseal::testing::BuildSignedCode;
using ::codeseal::testing::BuildUniversal;
using ::codeseal::testing::CertificateSpec;
using ::codeseal::testing::HasMessage;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::Issue;
using ::codeseal::testing::MakeCodeSigningChain;
using ::codeseal::testing::MakeRoot;
using ::codeseal::testing::SignedCode;
using ::codeseal::testing::TempFolder;
using ::codeseal::testing::TestChain;
using ::codeseal::testing::TestIdentity;
using ::testing::HasSubstr;

using Blobs = std::map<uint32_t, Bytes>;

const TestChain& Chain() {
  static const TestChain chain = MakeCodeSigningChain();
  return chain;
}

Bytes Entitlements(const std::string& jit) {
  const std::string plist =
      "<plist "
      "version=\"1.0\"><dict><key>com.apple.security.cs.allow-jit</key>" +
      jit + "</dict></plist>";
  return WrapBlob(kEntitlementsMagic, AsBytes(plist));
}

SignedCode CmsCode() {
  SignedCode code;
  code.chain = &Chain();
  code.blobs[kEntitlementsSlot] = Entitlements("<true/>");
  return code;
}

VerificationReport VerifyBytes(ByteView file,
                               const VerifyOptions& options = {}) {
  const TempFolder folder;
  const absl::StatusOr<StoredCode> code =
      StoredCode::Open(folder.Write("code", AsText(file)));
  EXPECT_THAT(code, IsOk());
  return code.ok() ? Verify(*code, options) : VerificationReport();
}

VerificationReport VerifyCode(const SignedCode& code,
                              const VerifyOptions& options = {}) {
  return VerifyBytes(BuildSignedCode(code), options);
}

// The check of that name in the first slice.
const Check& FindCheck(const VerificationReport& report,
                       std::string_view name) {
  static const Check kMissing;
  const std::vector<Check>& checks = report.slices.front().checks;
  const auto found =
      std::find_if(checks.begin(), checks.end(),
                   [name](const Check& check) { return check.name == name; });
  EXPECT_NE(found, checks.end()) << name;
  return found == checks.end() ? kMissing : *found;
}

// --- What is right ----------------------------------------------------------

TEST(VerifierTest, AdHocCodeIsValid) {
  const VerificationReport report = VerifyCode({});
  EXPECT_THAT(report.Validity(), IsOk());
  EXPECT_EQ(report.format, "Mach-O thin (arm64)");
  const SliceReport& slice = report.slices.front();
  EXPECT_EQ(slice.architecture, "arm64");
  EXPECT_EQ(slice.identifier, "com.example.tool");
  EXPECT_TRUE(slice.ad_hoc);
  EXPECT_TRUE(slice.authorities.empty());
  EXPECT_FALSE(slice.trusted);
}

TEST(VerifierTest, SignedCodeIsValidAndTellsWhoSigned) {
  SignedCode code = CmsCode();
  code.signing_time = absl::FromUnixSeconds(absl::ToUnixSeconds(absl::Now()));
  const VerificationReport report = VerifyCode(code);
  EXPECT_THAT(report.Validity(), IsOk());
  const SliceReport& slice = report.slices.front();
  EXPECT_FALSE(slice.ad_hoc);
  EXPECT_EQ(slice.authorities, Chain().certificates());
  EXPECT_EQ(slice.signing_time, code.signing_time);
  EXPECT_EQ(slice.timestamp, std::nullopt);
  EXPECT_FALSE(slice.trusted);  // nobody gave our root as an anchor
}

TEST(VerifierTest, EveryCheckIsInTheReport) {
  const VerificationReport report = VerifyCode(CmsCode());
  std::vector<std::string> names;
  for (const Check& check : report.slices.front().checks) {
    names.push_back(check.name);
  }
  EXPECT_THAT(
      names, ::testing::IsSupersetOf({kCheckSigned, kCheckSignatureLayout,
                                      kCheckCodeDirectories, kCheckCmsSignature,
                                      kCheckTimestamp, kCheckCertificateChain,
                                      kCheckCertificateDates, kCheckRevocation,
                                      kCheckTeamIdentifier, kCheckCodePages}));
  EXPECT_EQ(FindCheck(report, "special-slot-2").outcome, CheckOutcome::kPassed);
  EXPECT_EQ(FindCheck(report, "special-slot-5").outcome, CheckOutcome::kPassed);
  // Nobody looked, and the report says so.
  EXPECT_EQ(FindCheck(report, kCheckRevocation).outcome,
            CheckOutcome::kNotChecked);
}

TEST(VerifierTest, TwoDigestsAreBothChecked) {
  SignedCode code = CmsCode();
  code.digests = {DigestKind::kSha1, DigestKind::kSha256};
  const VerificationReport report = VerifyCode(code);
  EXPECT_THAT(report.Validity(), IsOk());
  const SliceReport& slice = report.slices.front();
  EXPECT_EQ(slice.digests, code.digests);
  EXPECT_EQ(slice.cdhash, slice.cdhashes[1]);
}

TEST(VerifierTest, EveryPageSizeIsRead) {
  for (const uint32_t page_size : {0u, 4096u, 16384u}) {
    SignedCode code;
    code.fields.page_size = page_size;
    EXPECT_THAT(VerifyCode(code).Validity(), IsOk()) << page_size;
  }
}

TEST(VerifierTest, InfoPlistSectionIsCompared) {
  SignedCode code;
  code.mach_o.info_plist = "<plist/>";
  EXPECT_THAT(VerifyCode(code).Validity(), IsOk());
  code.change_fields = [](CodeDirectoryFields& fields) {
    fields.special_slots[kInfoPlistSlot][0] ^= 1;
  };
  const VerificationReport report = VerifyCode(code);
  EXPECT_THAT(report.Validity(), HasReason(v1::REASON_SPECIAL_SLOT_MISMATCH));
  EXPECT_EQ(report.FirstFailure()->apple_error, kErrInfoPlistFailed);
}

TEST(VerifierTest, UnsealedBlobIsReportedAndIgnored) {
  SignedCode code;
  code.change_blobs = [](Blobs& blobs) {
    blobs[kEntitlementsSlot] = WrapBlob(kEntitlementsMagic, AsBytes("x"));
  };
  const VerificationReport report = VerifyCode(code);
  EXPECT_THAT(report.Validity(), IsOk());
  EXPECT_EQ(FindCheck(report, "special-slot-5").outcome,
            CheckOutcome::kNotChecked);
}

// --- Forgeries --------------------------------------------------------------

struct Forgery {
  const char* name;
  std::function<void(SignedCode&)> forge;
  Reason reason;
  AppleError apple_error;
};

void PrintTo(const Forgery& forgery, std::ostream* out) {
  *out << forgery.name;
}

class ForgeryTest : public ::testing::TestWithParam<Forgery> {};

TEST_P(ForgeryTest, IsRefusedForItsOwnReason) {
  SignedCode code = CmsCode();
  GetParam().forge(code);
  const VerificationReport report = VerifyCode(code);
  EXPECT_THAT(report.Validity(), HasReason(GetParam().reason));
  ASSERT_NE(report.FirstFailure(), nullptr);
  EXPECT_EQ(report.FirstFailure()->apple_error->name,
            GetParam().apple_error.name);
  EXPECT_THAT(report.Validity(),
              HasMessage(std::string(GetParam().apple_error.text)));
}

void ChangeBlob(SignedCode& code, uint32_t slot, size_t offset) {
  code.change_blobs = [=](Blobs& blobs) { blobs.at(slot).at(offset) ^= 1; };
}

// The blob that `code` would have in `slot`.
Bytes TakeBlob(SignedCode code, uint32_t slot) {
  Bytes blob;
  code.change_blobs = [&blob, slot](Blobs& blobs) { blob = blobs.at(slot); };
  BuildSignedCode(code);
  return blob;
}

INSTANTIATE_TEST_SUITE_P(
    Verifier, ForgeryTest,
    ::testing::Values(
        Forgery{"RequirementsChanged",
                [](SignedCode& code) {
                  code.change_blobs = [](Blobs& blobs) {
                    const Bytes always = WrapBlob(
                        kRequirementMagic, Bytes{0, 0, 0, 1, 0, 0, 0, 1});
                    blobs[kRequirementsSlot] =
                        BuildSuperBlob(kRequirementSetMagic, {{3, always}});
                  };
                },
                v1::REASON_SPECIAL_SLOT_MISMATCH, kErrSignatureFailed},
        Forgery{
            "EntitlementsByteFlipped",
            [](SignedCode& code) { ChangeBlob(code, kEntitlementsSlot, 12); },
            v1::REASON_SPECIAL_SLOT_MISMATCH, kErrSignatureFailed},
        Forgery{"EntitlementsRemoved",
                [](SignedCode& code) {
                  code.change_blobs = [](Blobs& blobs) {
                    blobs.erase(kEntitlementsSlot);
                  };
                },
                v1::REASON_SPECIAL_SLOT_MISMATCH, kErrSignatureFailed},
        Forgery{"IdentifierByteFlipped",
                [](SignedCode& code) {
                  code.change_blobs = [](Blobs& blobs) {
                    Bytes& directory = blobs.at(kCodeDirectorySlot);
                    directory[AsText(directory).find("com.example")] ^= 2;
                  };
                },
                v1::REASON_CMS_SIGNATURE_INVALID, kErrSignatureFailed},
        Forgery{"FlagsByteFlipped",
                [](SignedCode& code) {
                  ChangeBlob(code, kCodeDirectorySlot, 13);  // CS_RUNTIME
                },
                v1::REASON_CMS_SIGNATURE_INVALID, kErrSignatureFailed},
        Forgery{"SignatureByteFlipped",
                [](SignedCode& code) {
                  code.change_blobs = [](Blobs& blobs) {
                    Bytes& cms = blobs.at(kCmsSlot);
                    cms[cms.size() - 10] ^= 1;  // 6 bytes of ends follow
                  };
                },
                v1::REASON_CMS_SIGNATURE_INVALID, kErrSignatureFailed},
        Forgery{"CmsHeaderByteFlipped",
                [](SignedCode& code) { ChangeBlob(code, kCmsSlot, 8); },
                v1::REASON_BAD_CMS, kErrUnknownFormat},
        Forgery{"CmsEmpty",
                [](SignedCode& code) {
                  code.change_blobs = [](Blobs& blobs) {
                    blobs[kCmsSlot] = WrapBlob(kBlobWrapperMagic, {});
                  };
                },
                v1::REASON_BAD_CMS, kErrUnknownFormat},
        Forgery{"CmsMissing",
                [](SignedCode& code) {
                  code.change_blobs = [](Blobs& blobs) {
                    blobs.erase(kCmsSlot);
                  };
                },
                v1::REASON_NOT_SIGNED, kErrUnsigned},
        Forgery{"CmsOfOtherCode",
                [](SignedCode& code) {
                  code.change_blobs = [](Blobs& blobs) {
                    SignedCode other = CmsCode();
                    other.fields.identifier = "com.example.other";
                    blobs[kCmsSlot] = TakeBlob(other, kCmsSlot);
                  };
                },
                v1::REASON_CMS_SIGNATURE_INVALID, kErrSignatureFailed},
        Forgery{"CodeDirectoryMissing",
                [](SignedCode& code) {
                  code.change_blobs = [](Blobs& blobs) {
                    blobs.erase(kCodeDirectorySlot);
                  };
                },
                v1::REASON_NOT_SIGNED, kErrUnsigned},
        // SHA-384 would be the best digest: the code would be judged by a
        // CodeDirectory that nobody signed.
        Forgery{"AlternateAdded",
                [](SignedCode& code) {
                  code.change_blobs = [](Blobs& blobs) {
                    SignedCode other = CmsCode();
                    other.digests = {DigestKind::kSha384};
                    blobs[kAlternateCodeDirectorySlot] =
                        TakeBlob(other, kCodeDirectorySlot);
                  };
                },
                v1::REASON_CMS_SIGNATURE_INVALID, kErrSignatureFailed},
        Forgery{"CodeLimitCut",
                [](SignedCode& code) {
                  code.change_fields = [](CodeDirectoryFields& fields) {
                    fields.code_limit -= 4096;
                  };
                },
                v1::REASON_CODE_LIMIT_MISMATCH, kErrSignatureInvalid},
        Forgery{"TooFewCodeSlots",
                [](SignedCode& code) {
                  code.change_directory = [](Bytes& directory) {
                    directory[31] -= 1;  // nCodeSlots
                  };
                },
                v1::REASON_CODE_LIMIT_MISMATCH, kErrSignatureFailed},
        Forgery{"SameDigestTwice",
                [](SignedCode& code) {
                  code.digests = {DigestKind::kSha256, DigestKind::kSha256};
                },
                v1::REASON_MALFORMED_SIGNATURE, kErrSignatureInvalid},
        Forgery{"VersionTooNew",
                [](SignedCode& code) {
                  code.change_directory = [](Bytes& directory) {
                    directory[9] = 3;
                  };
                },
                v1::REASON_UNSUPPORTED_VERSION, kErrSignatureUnsupported},
        Forgery{
            "SpecialSlotBeyondAllMeaning",
            [](SignedCode& code) {
              code.change_directory = [](Bytes& directory) {
                // A long identifier makes room for 40 slots.
                CodeDirectoryFields fields = testing::DefaultFields();
                fields.identifier.assign(2000, 'x');
                fields.code_limit =
                    CodeDirectory::Parse(directory)->code_limit();
                Bytes other =
                    std::move(*CodeDirectoryBuilder::Create(fields)).Build();
                StoreU32(other, 24, 40, ByteOrder::kBig);
                directory = other;
              };
            },
            v1::REASON_SIGNATURE_UNSUPPORTED, kErrSignatureUnsupported},
        Forgery{"BlobsOverlap",
                [](SignedCode& code) {
                  code.change_super_blob = [](Bytes& super_blob) {
                    // The second blob (requirements) reaches into the third.
                    BigEndianReader in(super_blob);
                    in.Skip(12 + 8 + 4);
                    super_blob[in.U32() + 7] += 4;
                  };
                },
                v1::REASON_OVERLAPPING_RANGES, kErrSignatureInvalid},
        Forgery{"SuperBlobMagic",
                [](SignedCode& code) {
                  code.change_super_blob = [](Bytes& super_blob) {
                    super_blob[3] ^= 1;
                  };
                },
                v1::REASON_BAD_MAGIC, kErrSignatureInvalid},
        Forgery{"BytesBehindLinkedit",
                [](SignedCode& code) { code.mach_o.trailing_size = 16; },
                v1::REASON_UNEXPECTED_DATA, kErrBadMainExecutable},
        // The digest fits, but macOS reads the Info.plist elsewhere.
        Forgery{"InfoPlistInTheSignature",
                [](SignedCode& code) {
                  const Bytes plist =
                      WrapBlob(kBlobWrapperMagic, AsBytes("<plist/>"));
                  code.fields.special_slots[kInfoPlistSlot] =
                      ComputeDigest(DigestKind::kSha256, plist);
                  code.change_blobs = [plist](Blobs& blobs) {
                    blobs[kInfoPlistSlot] = plist;
                  };
                },
                v1::REASON_SPECIAL_SLOT_MISMATCH, kErrInfoPlistFailed},
        Forgery{"ExecutableWithoutItsBundle",
                [](SignedCode& code) {
                  code.fields.special_slots[kCodeResourcesSlot] = Bytes(32, 7);
                },
                v1::REASON_SPECIAL_SLOT_MISMATCH, kErrResourceDirectoryFailed}),
    [](const auto& each) { return std::string(each.param.name); });

// As linkers other than Apple's write it; macOS takes their code.
TEST(VerifierTest, GapInSuperBlobIsTolerated) {
  SignedCode code = CmsCode();
  code.change_super_blob = [](Bytes& super_blob) {
    super_blob.resize(super_blob.size() + 16);
    const auto size = static_cast<uint32_t>(super_blob.size());
    StoreU32(super_blob, 4, size, ByteOrder::kBig);
  };
  const VerificationReport report = VerifyCode(code);
  EXPECT_THAT(report.Validity(), IsOk());
  EXPECT_THAT(FindCheck(report, kCheckSignatureLayout).note,
              HasSubstr("tolerated"));
}

TEST(VerifierTest, FailureNamesPathAndArchitecture) {
  SignedCode code = CmsCode();
  ChangeBlob(code, kEntitlementsSlot, 12);
  const absl::Status validity = VerifyCode(code).Validity();
  EXPECT_THAT(GetErrorDetail(validity)->subject(), HasSubstr("code (arm64)"));
  EXPECT_EQ(GetErrorDetail(validity)->stage(), v1::STAGE_VERIFY);
}

TEST(VerifierTest, FlippedByteInAnyPageIsFound) {
  const Bytes file = BuildSignedCode(CmsCode());
  const auto limit = static_cast<size_t>(MachO::Parse(file)->SigningLimit());
  std::vector<size_t> offsets = {limit - 1};
  // The header is left alone: most of its bytes make it another file.
  for (size_t offset = 4096; offset < limit; offset += 1000) {
    offsets.push_back(offset);
  }
  for (const size_t offset : offsets) {
    Bytes changed = file;
    changed[offset] ^= 0x80;
    const absl::Status validity = VerifyBytes(changed).Validity();
    EXPECT_THAT(validity, HasReason(v1::REASON_CODE_MODIFIED));
    EXPECT_EQ(GetErrorDetail(validity)->byte_offset(), offset / 4096 * 4096);
  }
}

// Only one of two digests knows of the change: still a forgery.
TEST(VerifierTest, EveryDigestMustHold) {
  for (const DigestKind forged : {DigestKind::kSha1, DigestKind::kSha256}) {
    SignedCode code = CmsCode();
    code.digests = {DigestKind::kSha1, DigestKind::kSha256};
    DigestKind current{};
    code.change_fields = [&current](CodeDirectoryFields& fields) {
      current = fields.digest_kind;
    };
    code.change_directory = [&current, forged](Bytes& directory) {
      if (current == forged) directory.back() ^= 1;  // the last code slot
    };
    EXPECT_THAT(VerifyCode(code).Validity(),
                HasReason(v1::REASON_CODE_MODIFIED));
  }
}

TEST(VerifierTest, UnsignedCodeIsNotSignedAtAll) {
  const absl::Status validity = VerifyBytes(testing::BuildMachO()).Validity();
  EXPECT_THAT(validity, HasReason(v1::REASON_NOT_SIGNED));
  EXPECT_THAT(validity, HasMessage("code object is not signed at all"));
}

TEST(VerifierTest, FileThatIsNoMachOIsNotSignedAtAll) {
  const VerificationReport report = VerifyBytes(AsBytes("#!/bin/sh\nexit 0\n"));
  EXPECT_EQ(report.format, "generic");
  EXPECT_THAT(report.Validity(), HasReason(v1::REASON_NOT_SIGNED));
}

// --- Disk images ------------------------------------------------------------

// `more`: blobs that no CodeDirectory covers, by slot.
std::string SignedImage(const std::map<uint32_t, Bytes>& more = {}) {
  const std::string image = testing::MakeDiskImage();
  const size_t limit = image.size() - testing::kKolySize;
  const std::string blinded =
      testing::WithKolyField(image, testing::kKolySignatureOffset, limit, 8)
          .substr(limit);
  std::map<uint32_t, Bytes> blobs = testing::SignWholeFile(
      AsBytes(image).first(limit), {{kRepSpecificSlot, ToBytes(blinded)}});
  blobs.insert(more.begin(), more.end());
  return testing::WithSignatureInImage(
      image, AsText(BuildSuperBlob(kEmbeddedSignatureMagic, blobs)));
}

TEST(VerifierTest, DiskImageIsValidUntilAByteChanges) {
  const std::string image = SignedImage();
  const VerificationReport report = VerifyBytes(AsBytes(image));
  EXPECT_THAT(report.Validity(), IsOk());
  EXPECT_EQ(report.format, "disk image");
  std::string changed = image;
  changed[100] ^= 1;
  EXPECT_THAT(VerifyBytes(AsBytes(changed)).Validity(),
              HasReason(v1::REASON_CODE_MODIFIED));
  // The trailer is sealed by a slot of its own.
  changed = testing::WithKolyField(image, 488, 2, 4);
  const VerificationReport of_trailer = VerifyBytes(AsBytes(changed));
  EXPECT_THAT(of_trailer.Validity(),
              HasReason(v1::REASON_SPECIAL_SLOT_MISMATCH));
  EXPECT_EQ(of_trailer.FirstFailure()->apple_error, kErrSignatureFailed);
}

std::string NoteOfNotarization(const VerificationReport& report) {
  for (const Check& check : report.checks) {
    if (check.name != kCheckNotarization) continue;
    EXPECT_EQ(check.outcome, CheckOutcome::kNotChecked);
    return check.note;
  }
  return "no such check";
}

// Stapling adds a blob behind those that are signed; only Apple can read it.
TEST(VerifierTest, TicketOfADiskImageIsRecognisedNotChecked) {
  EXPECT_THAT(NoteOfNotarization(VerifyBytes(AsBytes(SignedImage()))),
              HasSubstr("no ticket is stapled"));
  const VerificationReport report = VerifyBytes(AsBytes(SignedImage(
      {{kTicketSlot, WrapBlob(kBlobWrapperMagic, AsBytes("s8ch and more"))}})));
  EXPECT_THAT(report.Validity(), IsOk());
  EXPECT_THAT(NoteOfNotarization(report), HasSubstr("a ticket is stapled"));
}

TEST(VerifierTest, DiskImageWithoutSignatureIsNotSignedAtAll) {
  EXPECT_THAT(VerifyBytes(AsBytes(testing::MakeDiskImage())).Validity(),
              HasReason(v1::REASON_NOT_SIGNED));
}

TEST(VerifierTest, BrokenMachOIsNoVerdict) {
  Bytes file = testing::BuildMachO();
  file.resize(100);
  const TempFolder folder;
  EXPECT_THAT(StoredCode::Open(folder.Write("code", AsText(file))),
              HasReason(v1::REASON_TRUNCATED));
}

// Old and new systems would grant different things.
TEST(VerifierTest, BothFormsOfEntitlementsMustAgree) {
  SignedCode code = CmsCode();
  const absl::StatusOr<PlistDict> granted =
      ParseEntitlements(Entitlements("<true/>"));
  ASSERT_THAT(granted, IsOk());
  code.blobs[kEntitlementsDerSlot] = *BuildEntitlementsDer(*granted);
  EXPECT_THAT(VerifyCode(code).Validity(), IsOk());
  code.blobs[kEntitlementsSlot] = Entitlements("<false/>");
  const VerificationReport report = VerifyCode(code);
  EXPECT_THAT(report.Validity(), HasReason(v1::REASON_BAD_ENTITLEMENTS));
  EXPECT_EQ(report.FirstFailure()->name, kCheckEntitlements);
}

// A chain whose leaf has the given particulars.
TestChain ChainWith(const CertificateSpec& leaf_spec) {
  CertificateSpec spec;
  spec.common_name = "other root";
  const TestIdentity root = MakeRoot(spec);
  spec.common_name = "other intermediate";
  spec.certificate_authority = true;
  const TestIdentity intermediate = Issue(spec, root);
  return {Issue(leaf_spec, intermediate), intermediate, root};
}

// --- Requirements -----------------------------------------------------------

Bytes RequirementBlob(std::string_view text) {
  const absl::StatusOr<Bytes> blob = CompileRequirementBlob(text);
  EXPECT_THAT(blob, IsOk());
  return blob.value_or(Bytes());
}

TEST(VerifierRequirementTest, ExplicitRequirementIsAVerdictOfItsOwn) {
  VerifyOptions options;
  options.requirement = RequirementBlob("identifier \"com.example.tool\"");
  EXPECT_THAT(VerifyCode(CmsCode(), options).ExplicitRequirement(), IsOk());
  options.requirement = RequirementBlob("identifier \"com.example.other\"");
  VerificationReport report = VerifyCode(CmsCode(), options);
  EXPECT_THAT(report.ExplicitRequirement(),
              HasReason(v1::REASON_REQUIREMENT_NOT_SATISFIED));
  EXPECT_THAT(report.Validity(), IsOk());
  options.requirement = Bytes{1, 2, 3};
  report = VerifyCode(CmsCode(), options);
  EXPECT_FALSE(report.ExplicitRequirement().ok());
  EXPECT_THAT(VerifyCode(CmsCode()).ExplicitRequirement(), IsOk());
}

TEST(VerifierRequirementTest, SealedPlistsCanBeAskedFor) {
  SignedCode code = CmsCode();
  code.mach_o.info_plist =
      "<plist version=\"1.0\"><dict><key>Color</key><string>red</string>"
      "</dict></plist>";
  VerifyOptions options;
  options.requirement = RequirementBlob(
      "info[Color] = red and "
      "entitlement[\"com.apple.security.cs.allow-jit\"] exists");
  EXPECT_THAT(VerifyCode(code, options).ExplicitRequirement(), IsOk());
  // What the signature does not vouch for satisfies nothing.
  ChangeBlob(code, kEntitlementsSlot, 12);
  EXPECT_THAT(VerifyCode(code, options).ExplicitRequirement(),
              HasReason(v1::REASON_REQUIREMENT_NOT_SATISFIED));
}

TEST(VerifierRequirementTest, ChainThatDoesNotHoldSatisfiesNothing) {
  const std::string root = HexEncode(Chain().root.certificate().Sha1());
  VerifyOptions options;
  options.requirement = RequirementBlob("certificate root = H\"" + root + "\"");
  SignedCode code = CmsCode();
  EXPECT_THAT(VerifyCode(code, options).ExplicitRequirement(), IsOk());
  ChangeBlob(code, kCodeDirectorySlot, 13);
  EXPECT_THAT(VerifyCode(code, options).ExplicitRequirement(),
              HasReason(v1::REASON_REQUIREMENT_NOT_SATISFIED));
}

TEST(VerifierRequirementTest, SignerOfAnotherTradeSatisfiesNothing) {
  CertificateSpec spec;
  spec.common_name = "web server";
  spec.extended_key_usage = {testing::kServerAuth};
  const TestChain chain = ChainWith(spec);
  SignedCode code = CmsCode();
  code.chain = &chain;
  VerifyOptions options;
  options.requirement =
      RequirementBlob("certificate leaf[subject.CN] = \"web server\"");
  EXPECT_THAT(VerifyCode(code, options).ExplicitRequirement(),
              HasReason(v1::REASON_REQUIREMENT_NOT_SATISFIED));
}

TEST(VerifierRequirementTest, DesignatedRequirementIsCheckedOnTheCodeItself) {
  SignedCode code = CmsCode();
  code.blobs[kRequirementsSlot] =
      RequirementBlob("designated => identifier \"com.example.tool\"");
  EXPECT_THAT(VerifyCode(code).DesignatedRequirement(), IsOk());
  code.blobs[kRequirementsSlot] =
      RequirementBlob("designated => identifier \"com.example.other\"");
  const VerificationReport report = VerifyCode(code);
  EXPECT_THAT(report.DesignatedRequirement(),
              HasReason(v1::REASON_REQUIREMENT_NOT_SATISFIED));
  EXPECT_THAT(report.Validity(), IsOk());
}

TEST(VerifierRequirementTest, ImplicitDesignatedRequirementHolds) {
  EXPECT_THAT(VerifyCode({}).DesignatedRequirement(), IsOk());
  EXPECT_THAT(VerifyCode(CmsCode()).DesignatedRequirement(), IsOk());
}

// --- Universal files --------------------------------------------------------

Bytes Universal(const SignedCode& intel, const SignedCode& arm) {
  SignedCode first = intel;
  first.mach_o.architecture = testing::kX86_64;
  return BuildUniversal({.slices = {{testing::kX86_64, BuildSignedCode(first)},
                                    {testing::kArm64, BuildSignedCode(arm)}},
                         .align_log2 = 14});
}

TEST(VerifierTest, EverySliceCounts) {
  EXPECT_THAT(VerifyBytes(Universal(CmsCode(), CmsCode())).Validity(), IsOk());
  SignedCode forged = CmsCode();
  ChangeBlob(forged, kEntitlementsSlot, 12);
  const VerificationReport report = VerifyBytes(Universal(CmsCode(), forged));
  EXPECT_THAT(report.Validity(), HasReason(v1::REASON_SPECIAL_SLOT_MISMATCH));
  EXPECT_THAT(GetErrorDetail(report.Validity())->subject(),
              HasSubstr("(arm64)"));
  EXPECT_EQ(report.slices.front().architecture, "x86_64");
}

TEST(VerifierTest, SlicesMustHaveOneTeam) {
  SignedCode other = CmsCode();
  other.fields.team_identifier = "OTHERTEAM1";
  EXPECT_THAT(VerifyBytes(Universal(CmsCode(), other)).Validity(),
              HasReason(v1::REASON_TEAM_IDENTIFIER_MISMATCH));
}

TEST(VerifierTest, PlacesAreCountedFromTheFilesStart) {
  Bytes file = Universal(CmsCode(), CmsCode());
  const uint64_t page = UniversalFile::Parse(file)->slices()[1].offset + 4096;
  file[page + 5] ^= 1;
  const absl::Status validity = VerifyBytes(file).Validity();
  EXPECT_THAT(validity, HasReason(v1::REASON_CODE_MODIFIED));
  EXPECT_EQ(GetErrorDetail(validity)->byte_offset(), page);
}

// --- Who signed -------------------------------------------------------------

TEST(VerifierTrustTest, AnchorsMakeItTrusted) {
  VerifyOptions options;
  options.require_trusted_anchor = true;
  VerificationReport report = VerifyCode(CmsCode(), options);
  EXPECT_THAT(report.Validity(), HasReason(v1::REASON_CHAIN_NOT_TRUSTED));
  EXPECT_EQ(report.FirstFailure()->apple_error, kErrSignatureUntrusted);
  options.anchors = {Chain().root.certificate()};
  report = VerifyCode(CmsCode(), options);
  EXPECT_THAT(report.Validity(), IsOk());
  EXPECT_TRUE(report.slices.front().trusted);
}

TEST(VerifierTrustTest, AdHocCodeHasNoAnchor) {
  VerifyOptions options;
  options.require_trusted_anchor = true;
  options.anchors = {Chain().root.certificate()};
  const VerificationReport report = VerifyCode({}, options);
  EXPECT_THAT(report.Validity(), HasReason(v1::REASON_CHAIN_NOT_TRUSTED));
  EXPECT_EQ(report.FirstFailure()->apple_error, kErrSignatureUntrusted);
}

TEST(VerifierTrustTest, AnchorCompletesTheChain) {
  SignedCode code = CmsCode();
  // A root that has nothing to do with it takes the place of the real one.
  code.certificates = {Chain().leaf.certificate(),
                       Chain().intermediate.certificate(),
                       MakeRoot({}).certificate()};
  EXPECT_THAT(VerifyCode(code).Validity(),
              HasReason(v1::REASON_INCOMPLETE_CHAIN));
  VerifyOptions options;
  options.anchors = {Chain().root.certificate()};
  EXPECT_THAT(VerifyCode(code, options).Validity(), IsOk());
}

TEST(VerifierTrustTest, CertificateMustBeForSigningCode) {
  CertificateSpec spec;
  spec.extended_key_usage = {testing::kServerAuth};
  const TestChain chain = ChainWith(spec);
  SignedCode code = CmsCode();
  code.chain = &chain;
  EXPECT_THAT(VerifyCode(code).Validity(),
              HasReason(v1::REASON_CHAIN_NOT_TRUSTED));
}

class ExpiredSignerTest : public ::testing::Test {
 protected:
  ExpiredSignerTest() : chain_(ChainWith(Spec())) { code_.chain = &chain_; }

  static CertificateSpec Spec() {
    CertificateSpec spec;
    spec.common_name = "expired";
    spec.extended_key_usage = {testing::kCodeSigning};
    spec.not_before = absl::Now() - absl::Minutes(30);
    spec.not_after = absl::Now() - absl::Minutes(20);
    return spec;
  }

  TestChain chain_;
  SignedCode code_;
};

TEST_F(ExpiredSignerTest, IsJudgedAtSigningTime) {
  code_.signing_time = absl::Now() - absl::Minutes(25);
  VerifyOptions options;
  options.check_expiration = true;
  EXPECT_THAT(VerifyCode(code_, options).Validity(), IsOk());
}

TEST_F(ExpiredSignerTest, CountsOnlyForThoseWhoAsk) {
  code_.signing_time = std::nullopt;
  const VerificationReport report = VerifyCode(code_);
  EXPECT_THAT(report.Validity(), IsOk());
  EXPECT_THAT(FindCheck(report, kCheckCertificateDates).note,
              HasSubstr("tolerated"));
  VerifyOptions options;
  options.check_expiration = true;
  EXPECT_THAT(VerifyCode(code_, options).Validity(),
              HasReason(v1::REASON_CERTIFICATE_EXPIRED));
  code_.fields.flags |= kExpiresFlag;
  EXPECT_THAT(VerifyCode(code_).Validity(),
              HasReason(v1::REASON_CERTIFICATE_EXPIRED));
  options.at = absl::Now() - absl::Minutes(25);
  EXPECT_THAT(VerifyCode(code_, options).Validity(), IsOk());
}

}  // namespace
}  // namespace codeseal
