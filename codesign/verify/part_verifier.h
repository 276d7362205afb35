// Judges one part of code: a slice of a Mach-O, or the whole of another file.

#ifndef CODESEAL_CODESIGN_VERIFY_PART_VERIFIER_H_
#define CODESEAL_CODESIGN_VERIFY_PART_VERIFIER_H_

#include "codesign/verify/stored_code.h"
#include "codesign/verify/verifier.h"

namespace codeseal {

// How much is looked at.
struct VerifyScope {
  bool is_nested = false;   // in a bundle: need not satisfy itself
  bool is_shallow = false;  // nested, without --deep: neither pages nor
                            // resources
};

// Slot 3, the resource seal, is left to the bundle.
void VerifyPart(const StoredCode& code, const CodePart& part,
                const VerifyOptions& options, const VerifyScope& scope,
                SliceReport& report);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_VERIFY_PART_VERIFIER_H_
