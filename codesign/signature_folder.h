// What a bundle's _CodeSignature folder holds of its signature, when the main
// executable is no Mach-O and has no room for one: a file for each blob.
//
//   files -> [ReadSignatureFolder] -> SuperBlob -> signing, verification
//
// Spec: Security, bundlediskrep.cpp, BundleDiskRep::component.

#ifndef CODESEAL_CODESIGN_SIGNATURE_FOLDER_H_
#define CODESEAL_CODESIGN_SIGNATURE_FOLDER_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "codesign/base/bytes.h"
#include "codesign/base/mapped_file.h"

namespace codeseal {

// Slots of blobs that may be stored one by one, in files or in extended
// attributes; ascending. The seal (slot 3) is the bundle's own file.
std::vector<uint32_t> SeparateSlots();

struct SignatureFolder {
  // All blobs as one SuperBlob (fade0cc0), as if it were inside code, so that
  // there is one way to read signatures; empty without a CodeDirectory.
  Bytes signature;
  // What special slots seal and no signature has inside: the top directory, the
  // rep-specific file.
  std::map<uint32_t, MappedFile> side_files;
  std::vector<std::string> names;  // of all these files, in order of slots
  // Why the files are no signature: one that does not hold one whole blob, or
  // cannot be read. Then `signature` is empty.
  absl::Status status;
};

// A folder that is not there has no signature.
SignatureFolder ReadSignatureFolder(const std::string& folder);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_SIGNATURE_FOLDER_H_
