// Gatekeeper's rule of OS X 10.10.4: nothing in a bundle may load a dynamic
// library from outside it, unless it is the system's. Neither codesign nor
// spctl says which command of which file breaks it; this does.
//
//   bundle -> its Mach-O files -> [CheckLibraryPaths] -> findings
//
// Spec: Apple TN2206, "Gatekeeper Changes in OS X v10.10.4 and Later"; dyld's
//       meaning of @executable_path, @loader_path and @rpath.

#ifndef CODESEAL_CODESIGN_ASSESS_LIBRARY_RULE_H_
#define CODESEAL_CODESIGN_ASSESS_LIBRARY_RULE_H_

#include <span>
#include <string>
#include <vector>

#include "codesign/assess/code_files.h"
#include "codesign/assess/finding.h"

namespace codeseal {

// One finding, rule "library-path", for each library of each slice that is, or
// may be, taken from outside `bundle`: the load command, its path, the place
// that it leads to, and for @rpath the LC_RPATH to blame. System libraries
// (/usr/lib, /System) may be anywhere. Paths are followed without a Mac's file
// system: a library that only a Mac has does not exist here.
//
// `files` are those of FindFiles(bundle); files that cannot be parsed are left
// to verification.
std::vector<Finding> CheckLibraryPaths(const std::string& bundle,
                                       std::span<const FoundFile> files);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_ASSESS_LIBRARY_RULE_H_
