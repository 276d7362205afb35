// Changes one byte after another of signed code: every change is refused, but
// for the bytes that no signature covers by design. Those are found by the
// rules below, never listed by offset.
//
// The short form takes a sample. With CODESEAL_EVERY_BYTE=1 (label stress) it
// is every byte of headers, signatures and property lists, and some of each
// page of code.

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "codesign/cms/asn1.h"
#include "codesign/entitlements.h"
#include "codesign/macho/universal_file.h"
#include "codesign/requirement/compiler.h"
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
using ::codeseal::testing::BuildUniversal;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::kArm64;
using ::codeseal::testing::kX86_64;
using ::codeseal::testing::MadeTree;
using ::codeseal::testing::MakeCodeSigningChain;
using ::codeseal::testing::SignBundle;
using ::codeseal::testing::SignedCode;
using ::codeseal::testing::TestChain;

bool IsEveryByteWanted() {
  const char* const wanted = std::getenv("CODESEAL_EVERY_BYTE");
  return wanted != nullptr && std::string_view(wanted) == "1";
}

// --- What no signature covers -----------------------------------------------

// Bytes [begin, end) of a file, and the rule why they may change.
struct Unprotected {
  size_t begin = 0;
  size_t end = 0;
  const char* rule = "";
};

constexpr char kVersions[] = "CMS: version numbers";
constexpr char kDigestList[] = "CMS: the list of digests of all signers";
constexpr char kParameters[] = "CMS: parameters of algorithms";
constexpr char kTokenAlgorithm[] = "timestamp: name of the signature algorithm";
constexpr char kUnsignedAttributes[] = "CMS: attributes that are not signed";
constexpr char kAttributeName[] =
    "CMS: names of such attributes; the timestamp may go";
constexpr char kAlternateSlot[] = "index: which alternate CodeDirectory it is";
constexpr char kRevocationValues[] = "CMS: revocation values";
constexpr char kPadding[] = "room behind the SuperBlob";
constexpr char kLength[] = "length of the SuperBlob, into that room";
constexpr char kFatHeader[] = "fat header: alignment, CPU subtype";

class RuleFinder {
 public:
  explicit RuleFinder(ByteView file) : file_(file) {}

  // Of a SignedData with Apple's or a timestamp authority's signature.
  void LookAtCms(ByteView cms, bool is_token = false) {
    asn1::Reader outer(cms);
    asn1::Reader info(*outer.Take(asn1::kSequence, ""));
    (void)info.Take(asn1::kObjectIdentifier, "");
    asn1::Reader content(*info.Take(asn1::kContext0, ""));
    asn1::Reader fields(*content.Take(asn1::kSequence, ""));
    Add(fields.Take(asn1::kInteger, "")->content, kVersions);
    Add(fields.Take(asn1::kSet, "")->content, kDigestList);
    (void)fields.Take(asn1::kSequence, "");
    if (fields.next_tag() == asn1::kContext0) {
      (void)fields.Take(asn1::kContext0, "");
    }
    if (fields.next_tag() == asn1::kContext1) {
      Add(fields.Take(asn1::kContext1, "")->content, kRevocationValues);
    }
    asn1::Reader signers(*fields.Take(asn1::kSet, ""));
    while (!signers.at_end()) {
      LookAtSigner(*signers.Take(asn1::kSequence, ""), is_token);
    }
  }

  void LookAtSuperBlob(ByteView place) {
    const absl::StatusOr<SuperBlob> blob =
        SuperBlob::Parse(place, kEmbeddedSignatureMagic);
    ASSERT_THAT(blob, IsOk());
    const ByteView behind = place.subspan(blob->raw().size());
    Add(behind, kPadding);
    // A disk image has no such room: there the length is checked.
    if (!behind.empty()) Add(place.subspan(4, 4), kLength);
    for (size_t i = 0; i < blob->entries().size(); ++i) {
      const uint32_t slot = blob->entries()[i].slot;
      if (slot < kAlternateCodeDirectorySlot ||
          slot >= kAlternateCodeDirectoryEndSlot) {
        continue;
      }
      Add(place.subspan(12 + i * 8, 4), kAlternateSlot);
    }
    if (const auto cms = blob->Find(kCmsSlot)) {
      LookAtCms(cms->subspan(kBlobHeaderSize));
    }
  }

  void LookAtMachO() {
    const absl::StatusOr<UniversalFile> universal = UniversalFile::Parse(file_);
    ASSERT_THAT(universal, IsOk());
    for (size_t i = 0; i < universal->slices().size(); ++i) {
      LookAtSuperBlob(universal->slices()[i].mach_o.Signature());
      if (universal->slices()[0].offset == 0) continue;
      // fat_arch: cputype, cpusubtype, offset, size, align. Which slice a Mac
      // runs is not signed; every slice is verified.
      Add(file_.subspan(8 + i * 20 + 4, 4), kFatHeader);
      Add(file_.subspan(8 + i * 20 + 16, 4), kFatHeader);
    }
  }

  std::vector<Unprotected> Take() && { return std::move(found_); }

 private:
  void LookAtSigner(const asn1::Element& signer, bool is_token) {
    asn1::Reader fields(signer);
    Add(fields.Take(asn1::kInteger, "")->content, kVersions);
    (void)fields.Next("");
    LookAtAlgorithm(*fields.Take(asn1::kSequence, ""));
    (void)fields.Take(asn1::kContext0, "");
    const asn1::Element algorithm = *fields.Take(asn1::kSequence, "");
    if (is_token) {
      // The key says how to verify.
      Add(algorithm.content, kTokenAlgorithm);
    } else {
      LookAtAlgorithm(algorithm);
    }
    (void)fields.Take(asn1::kOctetString, "");
    if (fields.at_end()) return;
    asn1::Reader attributes(*fields.Take(asn1::kContext1, ""));
    while (!attributes.at_end()) {
      asn1::Reader attribute(*attributes.Take(asn1::kSequence, ""));
      const asn1::Element oid = *attribute.Take(asn1::kObjectIdentifier, "");
      Add(oid.content, kAttributeName);
      asn1::Reader values(*attribute.Take(asn1::kSet, ""));
      const asn1::Element value = *values.Next("");
      if (value.tag == asn1::kSequence && oid.content.size() == 11) {
        LookAtCms(value.raw, /*is_token=*/true);
      } else {
        Add(value.raw, kUnsignedAttributes);
      }
    }
  }

  void LookAtAlgorithm(const asn1::Element& algorithm) {
    asn1::Reader fields(algorithm);
    (void)fields.Take(asn1::kObjectIdentifier, "");
    if (!fields.at_end()) Add(fields.Next("")->raw, kParameters);
  }

  void Add(ByteView bytes, const char* rule) {
    if (bytes.empty()) return;
    const auto begin = static_cast<size_t>(bytes.data() - file_.data());
    found_.push_back({begin, begin + bytes.size(), rule});
  }

  const ByteView file_;
  std::vector<Unprotected> found_;
};

// --- Targets ----------------------------------------------------------------

// One file of the code and the bytes of it that are changed.
struct Field {
  std::string file;                  // below the tree
  std::vector<size_t> offsets = {};  // empty: all
  std::vector<Unprotected> unprotected = {};
};

struct Target {
  const char* name;
  std::function<void(MadeTree&)> make;
  const char* code;  // what is verified
  std::function<std::vector<Field>(const MadeTree&)> fields;
};

void PrintTo(const Target& target, std::ostream* out) { *out << target.name; }

const TestChain& Chain() {
  static const TestChain chain = MakeCodeSigningChain();
  return chain;
}

// Everything that code can have: two digests, requirement, both forms of
// entitlements, a timestamp.
SignedCode RichCode() {
  SignedCode code;
  code.chain = &Chain();
  code.digests = {DigestKind::kSha1, DigestKind::kSha256};
  code.fields.team_identifier = "TESTTEAM01";
  const Bytes xml = WrapBlob(
      kEntitlementsMagic,
      AsBytes(
          "<plist version=\"1.0\"><dict><key>com.apple.security.cs.allow-jit"
          "</key><true/></dict></plist>"));
  code.blobs[kEntitlementsSlot] = xml;
  code.blobs[kEntitlementsDerSlot] =
      *BuildEntitlementsDer(*ParseEntitlements(xml));
  code.blobs[kRequirementsSlot] = *CompileRequirementBlob(
      "designated => identifier \"com.example.tool\" and certificate "
      "leaf[subject.CN] exists");
  code.mach_o.info_plist = "<plist version=\"1.0\"><dict/></plist>";
  static const std::vector<testing::TestIdentity> authority =
      testing::MakeTimestampAuthority();
  code.change_cms = [](Bytes& cms) {
    cms = testing::StampCms(cms, authority, absl::Now());
  };
  return code;
}

Bytes ReadFile(const std::string& path) {
  const absl::StatusOr<MappedFile> file = MappedFile::Open(path);
  EXPECT_THAT(file, IsOk());
  return file.ok() ? ToBytes(file->bytes()) : Bytes();
}

// Headers and signatures whole, of pages of code the first and the last byte
// and one in the middle.
std::vector<size_t> OffsetsOfMachO(ByteView file) {
  const absl::StatusOr<UniversalFile> universal = UniversalFile::Parse(file);
  EXPECT_THAT(universal, IsOk());
  std::vector<bool> wanted(file.size());
  const auto want = [&wanted](size_t begin, size_t end) {
    std::fill(wanted.begin() + static_cast<ptrdiff_t>(begin),
              wanted.begin() + static_cast<ptrdiff_t>(end), true);
  };
  size_t gap = 0;
  for (const UniversalFile::Slice& slice : universal->slices()) {
    const auto start = static_cast<size_t>(slice.offset);
    if (start > 0) want(gap, std::min(start, gap + 64));  // fat header
    if (start > 0) want(start - 1, start);                // gap
    want(start, start + slice.mach_o.load_commands_end());
    const size_t limit =
        start + static_cast<size_t>(slice.mach_o.SigningLimit());
    for (size_t page = start; page < limit; page += 4096) {
      const size_t last = std::min(page + 4096, limit) - 1;
      for (const size_t at : {page, page + (last - page) / 2, last}) {
        want(at, at + 1);
      }
    }
    const absl::StatusOr<SuperBlob> blob =
        SuperBlob::Parse(slice.mach_o.Signature(), kEmbeddedSignatureMagic);
    EXPECT_THAT(blob, IsOk());
    // Of the room behind it, a little.
    want(limit, std::min(limit + blob->raw().size() + 16, file.size()));
    gap = start + slice.mach_o.raw().size();
  }
  std::vector<size_t> offsets;
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (wanted[i]) offsets.push_back(i);
  }
  return offsets;
}

Field MachOField(const MadeTree& tree, const std::string& path) {
  const Bytes file = ReadFile(tree.Path(path));
  RuleFinder finder(file);
  finder.LookAtMachO();
  return {path, OffsetsOfMachO(file), std::move(finder).Take()};
}

std::string SignedImage() {
  const std::string image = testing::MakeDiskImage();
  const size_t limit = image.size() - testing::kKolySize;
  const std::string blinded =
      testing::WithKolyField(image, testing::kKolySignatureOffset, limit, 8)
          .substr(limit);
  return testing::WithSignatureInImage(
      image, AsText(BuildSuperBlob(
                 kEmbeddedSignatureMagic,
                 testing::SignWholeFile(AsBytes(image).first(limit),
                                        {{kRepSpecificSlot, ToBytes(blinded)}},
                                        &Chain()))));
}

std::vector<Target> Targets() {
  return {
      {"thin",
       [](MadeTree& tree) {
         tree.File("code", AsText(BuildSignedCode(RichCode())));
       },
       "code",
       [](const MadeTree& tree) -> std::vector<Field> {
         return {MachOField(tree, "code")};
       }},
      {"fat",
       [](MadeTree& tree) {
         SignedCode intel = RichCode();
         intel.mach_o.architecture = kX86_64;
         tree.File("code",
                   AsText(BuildUniversal(
                       {.slices = {{kX86_64, BuildSignedCode(intel)},
                                   {kArm64, BuildSignedCode(RichCode())}},
                        .align_log2 = 14})));
       },
       "code",
       [](const MadeTree& tree) -> std::vector<Field> {
         return {MachOField(tree, "code")};
       }},
      {"bundle",
       [](MadeTree& tree) {
         tree.Plist(
             "Mini.app/Contents/Info.plist",
             {{"CFBundleExecutable", "Mini"}, {"CFBundlePackageType", "APPL"}});
         tree.Executable("Mini.app/Contents/MacOS/Mini", "unsigned");
         tree.File("Mini.app/Contents/MacOS/tool",
                   AsText(testing::BuildSignedFile(
                       {.identifier = "com.example.tool", .chain = &Chain()})));
         tree.File("Mini.app/Contents/Resources/data.txt", "some data");
         SignBundle(tree.Path("Mini.app"), {.chain = &Chain()});
       },
       "Mini.app",
       [](const MadeTree& tree) -> std::vector<Field> {
         const std::string contents = "Mini.app/Contents/";
         return {MachOField(tree, contents + "MacOS/Mini"),
                 MachOField(tree, contents + "MacOS/tool"),
                 {contents + "Info.plist"},
                 {contents + "Resources/data.txt"},
                 {contents + "_CodeSignature/CodeResources"}};
       }},
      {"detached",
       [](MadeTree& tree) {
         tree.Plist("Plain.bundle/Contents/Info.plist",
                    {{"CFBundleExecutable", "run.sh"}});
         tree.Executable("Plain.bundle/Contents/MacOS/run.sh", "#!/bin/sh\n");
         tree.File("Plain.bundle/Contents/Resources/data.txt", "some data");
         testing::SignPlainBundle(tree.Path("Plain.bundle"), &Chain());
       },
       "Plain.bundle",
       [](const MadeTree& tree) -> std::vector<Field> {
         const std::string contents = "Plain.bundle/Contents/";
         Field cms = {contents + "_CodeSignature/CodeSignature"};
         const Bytes bytes = ReadFile(tree.Path(cms.file));
         RuleFinder finder(bytes);
         finder.LookAtCms(bytes);
         cms.unprotected = std::move(finder).Take();
         return {cms,
                 {contents + "_CodeSignature/CodeDirectory"},
                 {contents + "_CodeSignature/CodeRequirements"},
                 {contents + "_CodeSignature/CodeResources"},
                 {contents + "Info.plist"},
                 {contents + "MacOS/run.sh"},
                 {contents + "Resources/data.txt"}};
       }},
      {"disk image", [](MadeTree& tree) { tree.File("code", SignedImage()); },
       "code",
       [](const MadeTree& tree) -> std::vector<Field> {
         Field field = {"code"};
         const Bytes file = ReadFile(tree.Path("code"));
         const absl::StatusOr<DiskImage> image = DiskImage::Parse(file);
         EXPECT_THAT(image, IsOk());
         RuleFinder finder(file);
         finder.LookAtSuperBlob(image->signature());
         field.unprotected = std::move(finder).Take();
         const auto limit = static_cast<size_t>(image->signing_limit());
         for (size_t i = 0; i < limit; i += 500) field.offsets.push_back(i);
         for (size_t i = limit - 1; i < file.size(); ++i) {
           field.offsets.push_back(i);
         }
         return {field};
       }},
  };
}

// --- Changing bytes ---------------------------------------------------------

constexpr uint8_t kMasks[] = {0x01, 0xff};

// What a report says that matters.
struct Essence {
  std::string signer;      // and what was signed
  std::string timestamps;  // of each slice; a space for none
  bool operator==(const Essence&) const = default;
};

Essence EssenceOf(const VerificationReport& report) {
  Essence essence;
  for (const SliceReport& slice : report.slices) {
    essence.signer += slice.identifier + " " + slice.team_identifier + " " +
                      HexEncode(slice.cdhash) +
                      (slice.ad_hoc ? " ad-hoc" : " signed");
    for (const Certificate& each : slice.authorities) {
      essence.signer += " " + HexEncode(each.Sha1());
    }
    essence.signer += "\n";
    essence.timestamps +=
        slice.timestamp.has_value() ? absl::FormatTime(*slice.timestamp) : " ";
  }
  return essence;
}

// Nullopt when it is refused, else what is accepted.
std::optional<Essence> Accepted(const std::string& path) {
  const absl::StatusOr<StoredCode> code = StoredCode::Open(path);
  if (!code.ok()) return std::nullopt;
  const VerificationReport report = Verify(*code, {.is_deep = true});
  if (!report.Validity().ok()) return std::nullopt;
  return EssenceOf(report);
}

// Whether a change by `rule` left what matters.
bool IsHarmless(const Essence& before, const Essence& after,
                std::string_view rule) {
  if (before == after) return true;
  // Without its timestamp it is code that was never stamped.
  return rule == kAttributeName && before.signer == after.signer &&
         after.timestamps.find(' ') != std::string::npos;
}

struct Change {
  const Field* field;
  size_t offset;
};

// The bytes before and from `offset` on, for whoever looks for the rule.
std::string Around(const std::string& path, size_t offset) {
  const Bytes file = ReadFile(path);
  const ByteView bytes = file;
  const size_t begin = offset - std::min<size_t>(offset, 24);
  return HexEncode(bytes.subspan(begin, offset - begin)) + " | " +
         HexEncode(
             bytes.subspan(offset, std::min<size_t>(24, file.size() - offset)));
}

class MutationTest : public ::testing::TestWithParam<Target> {};

TEST_P(MutationTest, EveryChangeIsRefusedButByRule) {
  const Target& target = GetParam();
  MadeTree original;
  target.make(original);
  const std::optional<Essence> essence = Accepted(original.Path(target.code));
  ASSERT_TRUE(essence.has_value());
  const std::vector<Field> fields = target.fields(original);
  if (HasFailure()) return;

  // A prime, so that the sample has no rhythm of the formats.
  const size_t step = IsEveryByteWanted() ? 1 : 23;
  std::vector<Change> changes;
  for (const Field& field : fields) {
    const size_t size = fs::file_size(original.Path(field.file));
    const size_t count = field.offsets.empty() ? size : field.offsets.size();
    for (size_t i = 0; i < count; i += step) {
      changes.push_back({&field, field.offsets.empty() ? i : field.offsets[i]});
    }
  }

  std::mutex mutex;
  std::map<std::string, std::pair<size_t, size_t>> by_rule;  // taken, all
  std::vector<std::string> faults;                           // of both kinds
  std::atomic<size_t> next = 0;
  const auto work = [&] {
    MadeTree copy;
    fs::copy(original.Path(), copy.Path(),
             fs::copy_options::recursive | fs::copy_options::copy_symlinks |
                 fs::copy_options::overwrite_existing);
    for (size_t i = next++; i < changes.size(); i = next++) {
      const auto& [field, offset] = changes[i];
      const auto found =
          std::find_if(field->unprotected.begin(), field->unprotected.end(),
                       [at = offset](const Unprotected& each) {
                         return at >= each.begin && at < each.end;
                       });
      const bool is_protected = found == field->unprotected.end();
      const int file = open(copy.Path(field->file).c_str(), O_RDWR | O_CLOEXEC);
      const auto at = static_cast<off_t>(offset);
      for (const uint8_t mask : kMasks) {
        uint8_t byte = 0;
        (void)!pread(file, &byte, 1, at);
        const uint8_t changed = byte ^ mask;
        (void)!pwrite(file, &changed, 1, at);
        const std::optional<Essence> accepted =
            Accepted(copy.Path(target.code));
        (void)!pwrite(file, &byte, 1, at);
        const std::lock_guard lock(mutex);
        auto& [taken, all] = by_rule[is_protected ? "protected" : found->rule];
        ++all;
        if (!accepted.has_value()) continue;
        ++taken;
        if (is_protected) {
          faults.push_back(
              "byte " + std::to_string(offset) + " of " + field->file +
              " may change: " + Around(original.Path(field->file), offset));
        } else if (!IsHarmless(*essence, *accepted, found->rule)) {
          faults.push_back("byte " + std::to_string(offset) + " of " +
                           field->file + " changes what is verified");
        }
      }
      close(file);
    }
    // The changes were undone.
    EXPECT_EQ(Accepted(copy.Path(target.code)), essence);
  };
  std::vector<std::thread> threads;
  for (unsigned i = 1; i < std::max(2u, std::thread::hardware_concurrency());
       ++i) {
    threads.emplace_back(work);
  }
  work();
  for (std::thread& thread : threads) thread.join();

  std::printf("  %-11s %-42s %8s %8s\n", target.name, "", "changes", "taken");
  for (const auto& [rule, counts] : by_rule) {
    std::printf("  %-11s %-42s %8zu %8zu\n", "", rule.c_str(), counts.second,
                counts.first);
  }
  std::sort(faults.begin(), faults.end());
  for (const std::string& fault : faults) std::printf("  %s\n", fault.c_str());
  EXPECT_TRUE(faults.empty());
}

INSTANTIATE_TEST_SUITE_P(Targets, MutationTest, ::testing::ValuesIn(Targets()),
                         [](const auto& each) {
                           std::string name = each.param.name;
                           std::erase(name, ' ');
                           return name;
                         });

}  // namespace
}  // namespace codeseal
