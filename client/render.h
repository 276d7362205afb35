// How results reach people and programs: text on stdout, faults in a fixed
// four-line shape on stderr, or one JSON document on stdout.
//
//   codeseal: cannot sign Demo.app/Contents/MacOS/Demo (arm64)
//     why    entitlement com.apple.security.get-task-allow is denied by rule
//     ... fix    remove it, or sign with an identity whose rules allow it id
//     7f3a91 (quote this to the signing team)

#ifndef CODESEAL_CLIENT_RENDER_H_
#define CODESEAL_CLIENT_RENDER_H_

#include <iosfwd>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/exit_code.h"

namespace codeseal::client {

enum class OutputStyle {
  kCodeseal,
  // Invoked by the name of one of Apple's tools: their words, on standard
  // error, and their exit codes.
  kApple,
};

struct OutputOptions {
  OutputStyle style = OutputStyle::kCodeseal;
  bool json = false;
  int verbosity = 0;  // number of -v minus number of -q
};

// Text that came from a file, a certificate or a server, made safe for a
// terminal: control characters but tabs become \xNN.
std::string Printable(std::string_view text);

// "2026-01-31T12:00:00Z".
std::string FormatUtc(absl::Time time);

// The shape above, with a final newline. `action` is a verb ("sign"), `object`
// what it was done to; when the fault knows a more precise place in the
// object, such as its architecture, that is named instead.
std::string RenderError(std::string_view action, std::string_view object,
                        const absl::Status& status);

// As codesign/verify/report_output.h has it, and as "fix" the advice of
// client/fix_hints.h.
nlohmann::json ErrorJson(const absl::Status& status);

// Collects what one command has to say. Thread-compatible; borrows the
// streams.
class Reporter {
 public:
  // `terminal`: whether `err` is one, so that progress may be drawn on it.
  Reporter(std::string command, OutputOptions options, std::ostream& out,
           std::ostream& err, bool terminal);
  ~Reporter();  // clears the progress line
  Reporter(const Reporter&) = delete;
  Reporter& operator=(const Reporter&) = delete;

  // A line for people, shown from that verbosity on (0: unless -q). Nothing
  // with --json.
  void Say(int verbosity, std::string_view line);

  // The same for a line that Apple's tools do not print.
  void SayMore(int verbosity, std::string_view line);

  // The same on stderr, and with --json too: a fault's own words.
  void Complain(std::string_view line);

  // Bytes as they are (PEM, DER): for output that is a file in itself.
  void Raw(std::string_view bytes);

  // A result for programs. `result` needs "path" or "name"; "ok" is added.
  void Succeed(nlohmann::json result);

  // The same for a fault, which is also shown to people. `result` may carry
  // what is known all the same.
  void Fail(std::string_view action, std::string_view object,
            const absl::Status& status,
            nlohmann::json result = nlohmann::json::object());

  // One fault that concerns every path: told once, counted for each.
  void FailAll(std::string_view action, const std::vector<std::string>& paths,
               const absl::Status& status);

  // Like Fail, for a verdict that has its own words for people.
  void Judge(const absl::Status& status, nlohmann::json result);

  // What is going on, overwritten by the next call. Only on a terminal, and
  // not with -q.
  void Progress(std::string_view what);
  bool shows_progress() const {
    return terminal_ && options_.verbosity >= 0 && !is_apple();
  }

  // Writes the JSON document when asked for. The worst code of all faults; in
  // Apple's style the first, as 1, 2 or 3.
  ExitCode Finish();

  const OutputOptions& options() const { return options_; }
  bool is_apple() const { return options_.style == OutputStyle::kApple; }

 private:
  void ClearProgress();

  const std::string command_;
  const OutputOptions options_;
  std::ostream& out_;
  std::ostream& err_;
  const bool terminal_;
  bool progress_shown_ = false;
  ExitCode exit_code_ = ExitCode::kDone;
  nlohmann::json results_ = nlohmann::json::array();
};

}  // namespace codeseal::client

#endif  // CODESEAL_CLIENT_RENDER_H_
