// Code on disk together with whatever holds its signature: a Mach-O file, a
// bundle, a disk image, or any other file. Verification and display start from
// it.
//
//   path -> [StoredCode] -> parts, each with a SuperBlob -> Verify, Describe
//
// Spec: Security, diskrep.cpp, bundlediskrep.cpp (component), filediskrep.cpp.

#ifndef CODESEAL_CODESIGN_VERIFY_STORED_CODE_H_
#define CODESEAL_CODESIGN_VERIFY_STORED_CODE_H_

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "codesign/base/bytes.h"
#include "codesign/base/mapped_file.h"
#include "codesign/bundle/bundle.h"
#include "codesign/image/disk_image.h"
#include "codesign/macho/universal_file.h"

namespace codeseal {

// What one signature covers: a slice of a Mach-O, or all of any other file.
// Borrows from its StoredCode.
struct CodePart {
  std::string architecture;       // "arm64"; empty for what is no Mach-O
  uint64_t offset = 0;            // in the main file, bytes
  ByteView code;                  // what the code slots cover
  ByteView signature;             // a SuperBlob; empty: not signed
  const MachO* mach_o = nullptr;  // null for what is no Mach-O
  // Why the stored files cannot be a signature; OK when there is none.
  absl::Status signature_status;
};

// Movable; thread-compatible. Maps the files that it tells about; paths are
// absolute or relative as the one given to Open() was.
class StoredCode {
 public:
  // Opens a bundle or a file; naming the main executable of a bundle means the
  // bundle. Of a versioned framework the current version is taken, or
  // `version`. The signature of what is no Mach-O is read from the bundle's
  // _CodeSignature folder, of a loose file from its extended attributes.
  //
  // Errors: those of Bundle::Open() and MappedFile::Open(); those of
  // UniversalFile::Parse() and DiskImage::Parse() for files that are broken.
  static absl::StatusOr<StoredCode> Open(const std::string& path,
                                         std::string_view version = "");

  // Takes this signature, made by sign --detached, in place of the stored one.
  // Errors: those of CheckDetached() and FindDetached(), after which the code
  // must not be judged.
  absl::Status UseDetached(ByteView signature);

  // Apple's words: "explicit detached" after UseDetached(), else "embedded".
  std::string_view SignatureSource() const {
    return is_detached_ ? "explicit detached" : "embedded";
  }

  const std::string& path() const { return path_; }  // as given
  const Bundle* bundle() const { return bundle_ ? &*bundle_ : nullptr; }
  const MappedFile& main_file() const { return main_file_; }
  // Null for what is no Mach-O.
  const UniversalFile* mach_o() const {
    return universal_ ? &*universal_ : nullptr;
  }
  // In Apple's order; at least one.
  std::span<const CodePart> parts() const { return parts_; }
  // The part that macOS on Apple silicon would run, else the first.
  const CodePart& NativePart() const;

  // Apple's words: "app bundle with Mach-O universal (x86_64 arm64)",
  // "disk image", "generic".
  std::string Format() const;

  // What special slot `slot` of `part` seals, if the SuperBlob has it not: the
  // Info.plist, the CodeResources, a disk image's trailer. Nullopt when there
  // is none.
  std::optional<ByteView> SideFile(const CodePart& part, uint32_t slot) const;

  // Absolute paths of the files that signing wrote or would write again: the
  // main file, and what the _CodeSignature folder holds of the signature.
  // Spec: Security, bundlediskrep.cpp, modifiedFiles().
  std::vector<std::string> ModifiedFiles() const;

  // Names of the files in _CodeSignature that the signature is made of.
  std::span<const std::string> signature_files() const {
    return signature_files_;
  }

  // What faults of `part` are about: "Demo.app/Contents/MacOS/Demo (arm64)".
  std::string Subject(const CodePart& part) const;

  // Whether a notarization ticket is stapled to it, whatever the ticket says.
  bool HasTicket() const;

  // Apple's strict rules about the main file itself.
  // Errors: FAILED_PRECONDITION or INVALID_ARGUMENT with the rule broken.
  absl::Status CheckStrictStructure() const;

  // Where `bytes` are in the main file; nullopt when they are not in it.
  std::optional<uint64_t> FileOffset(ByteView bytes) const;

 private:
  StoredCode(std::string path, MappedFile main_file)
      : path_(std::move(path)), main_file_(std::move(main_file)) {}

  absl::Status ReadMainFile();
  absl::Status ReadDiskImage();
  absl::Status ReadSideFiles();
  void ReadSignatureFolder(CodePart& part);

  std::string path_;
  std::optional<Bundle> bundle_;
  MappedFile main_file_;
  std::optional<UniversalFile> universal_;
  std::vector<CodePart> parts_;
  std::map<uint32_t, MappedFile> side_files_;  // by slot
  std::optional<DiskImage> disk_image_;
  Bytes disk_image_trailer_;   // as slot 6 seals it
  Bytes assembled_signature_;  // of _CodeSignature's files, or detached
  bool is_detached_ = false;
  std::optional<ByteView> detached_seal_;  // in `assembled_signature_`
  std::vector<std::string> signature_files_;
};

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_VERIFY_STORED_CODE_H_
