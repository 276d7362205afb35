#include "client/spctl_options.h"

#include <getopt.h>

#include <string_view>
#include <utility>

#include "absl/strings/numbers.h"

namespace codeseal::client {
namespace {

constexpr char kSpctlUsage[] =
    "Usage: spctl --assess [--type type] [-v] path ... # assessment\n"
    "       spctl --status # system policy configuration\n";

enum SpctlOption : int {
  kSpctlContext = 256,
  kSpctlContinue,
  kSpctlIgnored,
  kSpctlStatus,
  kSpctlRefused,
};

constexpr option kSpctlOptions[] = {
    {"add", no_argument, nullptr, kSpctlRefused},
    {"assess", no_argument, nullptr, 'a'},
    {"context", required_argument, nullptr, kSpctlContext},
    {"continue", no_argument, nullptr, kSpctlContinue},
    {"disable", no_argument, nullptr, kSpctlRefused},
    {"enable", no_argument, nullptr, kSpctlRefused},
    {"global-disable", no_argument, nullptr, kSpctlRefused},
    {"global-enable", no_argument, nullptr, kSpctlRefused},
    {"ignore-cache", no_argument, nullptr, kSpctlIgnored},
    {"list", no_argument, nullptr, kSpctlRefused},
    {"master-disable", no_argument, nullptr, kSpctlRefused},
    {"master-enable", no_argument, nullptr, kSpctlRefused},
    {"no-cache", no_argument, nullptr, kSpctlIgnored},
    {"raw", no_argument, nullptr, kSpctlRefused},
    {"remove", no_argument, nullptr, kSpctlRefused},
    {"status", no_argument, nullptr, kSpctlStatus},
    {"type", required_argument, nullptr, 't'},
    {"verbose", optional_argument, nullptr, 'v'},
    {nullptr, 0, nullptr, 0},
};

// Words may be cut short: "exec". Empty for none.
std::string WholeType(std::string_view word) {
  for (const std::string_view whole : {"execute", "install", "open"}) {
    if (!word.empty() && whole.starts_with(word)) return std::string(whole);
  }
  return "";
}

}  // namespace

Invocation ParseSpctl(const std::vector<std::string>& arguments) {
  Invocation invocation;
  invocation.name = "assess";
  invocation.output.style = OutputStyle::kApple;
  std::vector<std::string> words = {"spctl"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  AssessCommand assess;
  assess.stops_at_first_no = true;
  bool is_assessment = false;
  bool is_status = false;
  bool has_context = false;
  std::string complaint;
  bool wrong = false;
  optind = 0;  // getopt(3) starts anew
  opterr = 0;
  const int argc = static_cast<int>(words.size());
  for (int letter = 0; (letter = getopt_long(argc, argv.data(), "at:v",
                                             kSpctlOptions, nullptr)) != -1;) {
    switch (letter) {
      case 'a':
        is_assessment = true;
        break;
      case 't':
        assess.type = WholeType(optarg);
        if (assess.type.empty()) {
          complaint =
              "spctl: unknown type of assessment: " + Printable(optarg) + "\n";
        }
        break;
      case 'v':
        if (int level = 0; optarg == nullptr) {
          ++invocation.output.verbosity;
        } else if (absl::SimpleAtoi(optarg, &level)) {
          invocation.output.verbosity = level;
        } else {
          wrong = true;
        }
        break;
      case kSpctlContext:
        has_context |= std::string_view(optarg) == "context:primary-signature";
        break;
      case kSpctlContinue:
        assess.stops_at_first_no = false;
        break;
      case kSpctlIgnored:  // nothing is cached
        break;
      case kSpctlStatus:
        is_status = true;
        break;
      case kSpctlRefused:
        complaint =
            "spctl: codeseal has no database of rules and no raw output; see "
            "`codeseal assess --json`\n";
        break;
      default:
        wrong = true;
    }
  }
  assess.needs_context = assess.type == "open" && !has_context;
  assess.paths.assign(argv.begin() + optind, argv.begin() + argc);
  if (!complaint.empty()) {
    invocation.command = PrintedText{"", complaint, ExitCode::kUsage};
  } else if (is_status && !is_assessment && !wrong && assess.paths.empty()) {
    invocation.command =
        PrintedText{"assessments enabled\n", "", ExitCode::kDone};
  } else if (wrong || !is_assessment || assess.paths.empty()) {
    invocation.command = PrintedText{"", kSpctlUsage, ExitCode::kUsage};
  } else {
    invocation.command = std::move(assess);
  }
  return invocation;
}

}  // namespace codeseal::client
