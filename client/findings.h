// Findings of assess, preflight and doctor, for people and for programs.

#ifndef CODESEAL_CLIENT_FINDINGS_H_
#define CODESEAL_CLIENT_FINDINGS_H_

#include <nlohmann/json.hpp>
#include <span>

#include "client/render.h"
#include "codesign/assess/finding.h"

namespace codeseal::client {

// In the shape of the notary's log {severity, code, path, message, docUrl,
// architecture}, with what we know beside it {rule, detail, fix, byte_offset}.
nlohmann::json FindingJson(const Finding& finding);
nlohmann::json FindingsJson(std::span<const Finding> findings);

// "error: PATH (arm64): message [rule]", then why and what to do. Notes need
// one -v; in Apple's style reasons do, too, and go to standard error.
void SayFindings(std::span<const Finding> findings, Reporter& reporter);

}  // namespace codeseal::client

#endif  // CODESEAL_CLIENT_FINDINGS_H_
