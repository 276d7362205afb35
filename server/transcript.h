// The record of a key ceremony, which outlives it.
//
//   step of a ceremony -> [Transcript] -> one line of JSON, durable

#ifndef CODESEAL_SERVER_TRANSCRIPT_H_
#define CODESEAL_SERVER_TRANSCRIPT_H_

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace codeseal {

// One thread at a time. Entries are JSON objects as text; they hold digests and
// names, never secrets.
class Transcript {
 public:
  virtual ~Transcript() = default;

  // Everything that was written, also by earlier runs, oldest first.
  virtual const std::vector<std::string>& entries() const = 0;

  // What is OK survives a power cut.
  virtual absl::Status Append(const std::string& entry) = 0;
};

// That each line is a JSON object and names the SHA-256 of the line before it
// ("previous"), so that a line that was changed or taken out shows.
// Errors: FAILED_PRECONDITION REASON_CEREMONY, with `name` and the line's
// number in the message.
absl::Status CheckTranscript(std::span<const std::string> lines,
                             const std::string& name);

// The lines of a transcript, as they are.
// Errors: those of CheckTranscript() and of files.
absl::StatusOr<std::vector<std::string>> ReadTranscript(
    const std::string& path);

// A file with one entry a line, as CheckTranscript() wants it. Made when it is
// not there; locked while the object lives.
// Errors: those of CheckTranscript(); UNAVAILABLE when another process has it;
// those of files.
absl::StatusOr<std::unique_ptr<Transcript>> OpenTranscriptFile(
    const std::string& path);

}  // namespace codeseal

#endif  // CODESEAL_SERVER_TRANSCRIPT_H_
