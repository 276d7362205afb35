// One thing that is wrong, or worth knowing, with what to do about it. All
// judgements beyond "the signature is valid" are lists of findings.
//
//   Assess, Preflight, ExamineIdentities -> [Finding] -> text, JSON

#ifndef CODESEAL_CODESIGN_ASSESS_FINDING_H_
#define CODESEAL_CODESIGN_ASSESS_FINDING_H_

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace codeseal {

enum class Severity {
  kError,    // the answer is no because of it
  kWarning,  // works now, or there, and will not later or elsewhere
  kNote,     // good to know
};

struct Finding {
  std::string rule;  // stable: "hardened-runtime"
  Severity severity = Severity::kError;
  std::string path = {};          // of the file, or the identity's name
  std::string architecture = {};  // empty when it concerns all of them
  std::string message = {};       // the tool's words where Apple has some
  std::string detail = {};        // what was found here
  std::string fix = {};           // what to do, in the imperative
  std::string doc_url = {};       // empty: none
  std::optional<uint64_t> byte_offset = std::nullopt;  // from the file's start

  bool operator==(const Finding&) const = default;
};

inline std::string_view SeverityName(Severity severity) {
  switch (severity) {
    case Severity::kError:
      return "error";
    case Severity::kWarning:
      return "warning";
    case Severity::kNote:
      return "note";
  }
  return "unknown";
}

inline bool HasErrors(std::span<const Finding> findings) {
  return std::any_of(findings.begin(), findings.end(),
                     [](const Finding& finding) {
                       return finding.severity == Severity::kError;
                     });
}

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_ASSESS_FINDING_H_
