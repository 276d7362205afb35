// What a script demands of the program that runs it.
//
//   "#!/bin/sh" -> [HostRequirement] -> requirement set, "host => ..."
//
// Spec: Security, singlediskrep.cpp and filediskrep.cpp, defaultRequirements:
//       the designated requirement of the interpreter.

#ifndef CODESEAL_CODESIGN_HOST_REQUIREMENT_H_
#define CODESEAL_CODESIGN_HOST_REQUIREMENT_H_

#include "codesign/base/bytes.h"
#include "codesign/requirement/requirement.h"

namespace codeseal {

// A Mac takes the requirement from the interpreter's own signature. Those of
// macOS are not here, but they are all of one form, "identifier
// com.apple.NAME and anchor apple"; for any other interpreter there is no
// requirement. `file` is the whole script or its beginning.
RequirementSet HostRequirement(ByteView file);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_HOST_REQUIREMENT_H_
