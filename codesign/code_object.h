// A piece of code as signing sees it: what is hashed, what its present
// signature says, and where the new one goes. Each format is a subclass;
// everything else about signing is the same for all of them.
//
//   path -> [CodeObject] -> SigningPlan -> CodeDirectories, staged files
//
//   Mach-O          slices, hashed by page; signature in the file, or apart
//   disk image      hashed whole; signature in place of the trailer
//   any other file  hashed whole; signature in a SignatureStore
//
// Spec: Security, diskrep.h: DiskRep and its Writer.

#ifndef CODESEAL_CODESIGN_CODE_OBJECT_H_
#define CODESEAL_CODESIGN_CODE_OBJECT_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "codesign/base/bytes.h"
#include "codesign/base/mapped_file.h"
#include "codesign/base/staged_file.h"
#include "codesign/embedded_signature.h"
#include "codesign/macho/layout.h"
#include "codesign/macho/universal_file.h"
#include "codesign/requirement/requirement.h"
#include "codesign/signing_options.h"

namespace codeseal {

// One slice's signature, ready to be stored. Borrows.
struct SignatureParts {
  // By slot, headers included: the CodeDirectories, and what they bind and the
  // signature keeps.
  std::map<uint32_t, ByteView> blobs;
  ByteView cms;  // ContentInfo without wrapper; empty for ad-hoc

  // Bytes of the SuperBlob that holds it all.
  uint64_t SuperBlobSize() const;
};

// Writes the SuperBlob (fade0cc0) at `offset`, blob by blob: joining them first
// would copy CodeDirectories of many megabytes.
absl::Status WriteSuperBlob(const SignatureParts& parts, uint64_t offset,
                            StagedFile& file);

// Where the file that belongs at a path is to be written: the path itself, or
// one in a copy that will take its place.
using TargetPath = std::function<std::string(const std::string& path)>;

// Thread-compatible; not copyable.
class CodeObject {
 public:
  CodeObject() = default;
  CodeObject(const CodeObject&) = delete;
  CodeObject& operator=(const CodeObject&) = delete;
  virtual ~CodeObject() = default;

  // The file whose bytes are signed: of a bundle, its main executable.
  virtual const MappedFile& file() const = 0;
  const std::string& path() const { return file().path(); }

  // The slices of a Mach-O; nullptr for everything else, which counts as one
  // slice, is hashed whole and with SHA-256.
  virtual const UniversalFile* universal() const { return nullptr; }
  size_t slice_count() const;

  // Apple's words: "Mach-O thin (arm64)", "generic", "disk image".
  virtual std::string Format() const = 0;
  // What tells builds of the same name apart: 20 bytes, for a Mach-O those of
  // the slice for `host_cpu`. SHA-1 of the file unless the format knows better.
  virtual Bytes Identification(CpuType host_cpu) const;
  // Requirements that the format itself makes, other than "designated".
  virtual RequirementSet DefaultRequirements() const { return {}; }
  // What special slots seal beyond what SigningOptions has and the signature
  // stores: the trailer of a disk image. Asked for after Reserve().
  virtual std::map<uint32_t, Bytes> SealedContent() const { return {}; }
  // Errors: FAILED_PRECONDITION, what Apple's strict validation refuses.
  virtual absl::Status CheckStrictStructure() const { return absl::OkStatus(); }

  // Whether the signature keeps a bundle's seal (slot 3), which else is a file
  // in the bundle.
  virtual bool KeepsSeal() const { return false; }
  // Whether a slice has a signature, or at least a place for one.
  virtual bool HasSignature(size_t slice) const {
    return !StoredSignature(slice).empty();
  }
  // The present signature of a slice as a SuperBlob (fade0cc0), the CMS in its
  // wrapper, perhaps with padding behind it; broken ones, too. Empty for none.
  virtual ByteView StoredSignature(size_t slice) const = 0;

  // Makes room for signatures of these sizes, one for each slice. Writes
  // nothing; called once.
  // Errors: FAILED_PRECONDITION, with path and architecture as subject.
  virtual absl::Status Reserve(std::span<const uint64_t> sizes,
                               const SigningOptions& options) = 0;
  // After Reserve(): the bytes that are hashed, and how much room there is.
  virtual const SliceLayout& Layout(size_t slice) const = 0;

  // Appends to `staged` every file that changes. `signatures` has one for each
  // slice. Called after Reserve().
  // Errors: FAILED_PRECONDITION REASON_SIGNATURE_TOO_LARGE; the file faults of
  // StagedFile.
  virtual absl::Status Stage(std::span<const SignatureParts> signatures,
                             const TargetPath& target_path,
                             std::vector<StagedFile>& staged) const = 0;
};

// A Mach-O with its signature inside.
// Errors: those of UniversalFile::Parse(), with the path as subject.
absl::StatusOr<std::unique_ptr<CodeObject>> OpenMachO(MappedFile file);

// Where the signature of a file goes that has no room for one: files beside it,
// extended attributes.
class SignatureStore {
 public:
  virtual ~SignatureStore() = default;

  // As CodeObject::KeepsSeal().
  virtual bool KeepsSeal() const { return false; }
  // As CodeObject::StoredSignature().
  virtual ByteView Stored() const = 0;
  virtual absl::Status Stage(const SignatureParts& signature,
                             const TargetPath& target_path,
                             std::vector<StagedFile>& staged) const = 0;
};

// Any other file. Apple's format "generic".
std::unique_ptr<CodeObject> MakePlainCode(
    MappedFile file, std::unique_ptr<SignatureStore> store);

// The signature of a slice that is to be replaced; nullopt when there is none,
// when nothing can be read from it, and when the linker made it. Borrows.
std::optional<EmbeddedSignature> ReadOldSignature(const CodeObject& code,
                                                  size_t slice);

// Whether it takes -f to sign: there is a signature, also a broken one, that is
// not the linker's.
bool IsSigned(const CodeObject& code);

// The slice that the machine of `host_cpu` would run.
size_t NativeSliceIndex(const CodeObject& code, CpuType host_cpu);

// "x86_64"; empty for what is no Mach-O.
std::string ArchitectureName(const CodeObject& code, size_t slice);

// What the seal of a bundle stores of code nested in it.
struct CodeIdentity {
  CdHash cdhash{};  // of the best digest of the native slice
  // As text. Ad-hoc code, which has none, requires one of its cdhashes: those
  // of the native slice, then those of the others.
  std::string designated_requirement;
};

// `designated`: the requirement blob, if there is one. `cdhashes`: as above.
std::string DesignatedRequirementText(const std::optional<Bytes>& designated,
                                      std::span<const CdHash> cdhashes);

// Of code that is signed already, also by a linker.
// Errors: FAILED_PRECONDITION REASON_NOT_SIGNED; INVALID_ARGUMENT for
// signatures that cannot be read.
absl::StatusOr<CodeIdentity> ReadIdentity(const CodeObject& code,
                                          CpuType host_cpu);

// The path, and the architecture of the slice if it has one, as people read
// it: "Demo (arm64)".
std::string SliceSubject(const CodeObject& code, size_t slice);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_CODE_OBJECT_H_
