#include "client/csreq_options.h"

#include <getopt.h>

namespace codeseal::client {
namespace {

constexpr char kCsreqUsage[] =
    "Usage: csreq [-v] -r requirement -t       # output requirement as text\n"
    "       csreq [-v] -r requirement -b file  # output requirement in "
    "binary\n";

constexpr option kCsreqOptions[] = {
    {"binary", required_argument, nullptr, 'b'},
    {"requirement", required_argument, nullptr, 'r'},
    {"requirements", required_argument, nullptr, 'r'},
    {"text", no_argument, nullptr, 't'},
    {"type", required_argument, nullptr, 'T'},
    {"verbose", optional_argument, nullptr, 'v'},
    {nullptr, 0, nullptr, 0},
};

}  // namespace

Invocation ParseCsreq(const std::vector<std::string>& arguments) {
  Invocation invocation;
  invocation.name = "requirement compile";
  invocation.output.style = OutputStyle::kApple;
  std::vector<std::string> words = {"csreq"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  RequirementCompileCommand compile;
  bool as_text = false;
  bool wrong = false;
  optind = 0;  // getopt(3) starts anew
  opterr = 0;
  const int argc = static_cast<int>(words.size());
  for (int letter = 0; (letter = getopt_long(argc, argv.data(), "b:r:tvT:",
                                             kCsreqOptions, nullptr)) != -1;) {
    switch (letter) {
      case 'b':
        compile.output_path = optarg;
        break;
      case 'r':
        compile.requirement = optarg;
        break;
      case 't':
        as_text = true;
        break;
      case 'v':
      case 'T':  // the type is told from the text
        break;
      default:
        wrong = true;
    }
  }
  if (wrong || optind != argc || compile.requirement.empty() ||
      as_text == !compile.output_path.empty()) {
    invocation.command = PrintedText{"", kCsreqUsage, ExitCode::kUsage};
  } else {
    invocation.command = std::move(compile);
  }
  return invocation;
}

}  // namespace codeseal::client
