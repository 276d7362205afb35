#include "client/render.h"

#include <optional>
#include <ostream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/apple_words.h"
#include "client/fix_hints.h"
#include "codesign/base/error.h"
#include "codesign/verify/report_output.h"

namespace codeseal::client {
namespace {

bool HasPart(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

}  // namespace

std::string Printable(std::string_view text) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string result;
  result.reserve(text.size());
  for (const char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    if ((byte < 0x20 && c != '\t') || byte == 0x7f) {
      result += "\\x";
      result += kHex[byte >> 4];
      result += kHex[byte & 15];
    } else {
      result += c;
    }
  }
  return result;
}

std::string FormatUtc(absl::Time time) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", time, absl::UTCTimeZone());
}

std::string RenderError(std::string_view action, std::string_view object,
                        const absl::Status& status) {
  const ErrorDetail detail = GetErrorDetail(status).value_or(ErrorDetail());
  std::string place(object);
  std::string why(Message(status));
  if (object.empty() || detail.subject().starts_with(object)) {
    if (!detail.subject().empty()) place = detail.subject();
  } else if (!detail.subject().empty() && !HasPart(why, detail.subject())) {
    why = detail.subject() + ": " + why;
  }
  if (why.empty()) why = ReasonName(detail.reason());
  if (!detail.rule().empty() && !HasPart(why, detail.rule())) {
    why += " (rule " + detail.rule() + ")";
  }
  if (detail.has_byte_offset()) {
    why += absl::StrCat(" (at byte ", detail.byte_offset(), ")");
  }

  std::string text = "codeseal: cannot ";
  text.append(action);
  if (!place.empty()) text += " " + Printable(place);
  text += "\n  why    " + Printable(why) + "\n  fix    ";
  text.append(FixHint(detail.reason()));
  text += "\n";
  if (!detail.request_id().empty()) {
    text += "  id     " + Printable(detail.request_id()) +
            " (quote this to the signing team)\n";
  }
  return text;
}

nlohmann::json ErrorJson(const absl::Status& status) {
  return codeseal::ErrorJson(status, FixHint);
}

Reporter::Reporter(std::string command, OutputOptions options,
                   std::ostream& out, std::ostream& err, bool terminal)
    : command_(std::move(command)),
      options_(options),
      out_(out),
      err_(err),
      terminal_(terminal) {}

Reporter::~Reporter() { ClearProgress(); }

void Reporter::Say(int verbosity, std::string_view line) {
  if (options_.json || options_.verbosity < verbosity) return;
  ClearProgress();
  (is_apple() ? err_ : out_) << Printable(line) << "\n" << std::flush;
}

void Reporter::SayMore(int verbosity, std::string_view line) {
  if (!is_apple()) Say(verbosity, line);
}

void Reporter::Complain(std::string_view line) {
  ClearProgress();
  err_ << Printable(line) << "\n" << std::flush;
}

void Reporter::Raw(std::string_view bytes) {
  if (options_.json) return;
  ClearProgress();
  out_ << bytes << std::flush;
}

void Reporter::Succeed(nlohmann::json result) {
  result["ok"] = true;
  results_.push_back(std::move(result));
}

void Reporter::Fail(std::string_view action, std::string_view object,
                    const absl::Status& status, nlohmann::json result) {
  ClearProgress();
  err_ << (is_apple() ? RenderAppleError(object, status)
                      : RenderError(action, object, status))
       << std::flush;
  if (!object.empty() && !result.contains("path") && !result.contains("name")) {
    result["path"] = std::string(object);
  }
  Judge(status, std::move(result));
}

void Reporter::FailAll(std::string_view action,
                       const std::vector<std::string>& paths,
                       const absl::Status& status) {
  if (paths.size() == 1) return Fail(action, paths[0], status);
  if (is_apple()) return Fail(action, paths.empty() ? "" : paths[0], status);
  ClearProgress();
  err_ << RenderError(action, absl::StrCat("any of ", paths.size(), " files"),
                      status)
       << std::flush;
  for (const std::string& path : paths) Judge(status, {{"path", path}});
}

void Reporter::Judge(const absl::Status& status, nlohmann::json result) {
  result["ok"] = status.ok();
  if (!status.ok()) result["error"] = ErrorJson(status);
  const ExitCode code = ExitCodeFor(status);
  if (!is_apple()) {
    exit_code_ = Worse(exit_code_, code);
  } else if (exit_code_ == ExitCode::kDone) {
    exit_code_ = AppleExitCode(code);
  }
  results_.push_back(std::move(result));
}

void Reporter::Progress(std::string_view what) {
  if (!shows_progress()) return;
  err_ << "\r\x1b[K" << Printable(what) << std::flush;
  progress_shown_ = true;
}

void Reporter::ClearProgress() {
  if (!progress_shown_) return;
  err_ << "\r\x1b[K" << std::flush;
  progress_shown_ = false;
}

ExitCode Reporter::Finish() {
  ClearProgress();
  if (options_.json) {
    const nlohmann::json document = {
        {"command", command_},
        {"exit_code", static_cast<int>(exit_code_)},
        {"results", results_},
    };
    // Paths and certificates need not be UTF-8; JSON must.
    out_ << document.dump(2, ' ', false,
                          nlohmann::json::error_handler_t::replace)
         << "\n"
         << std::flush;
  }
  return exit_code_;
}

}  // namespace codeseal::client
