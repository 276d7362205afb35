#include "client/security_options.h"

#include <getopt.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

namespace codeseal::client {
namespace {

constexpr char kSecurityUsage[] =
    "Usage: security find-identity [-v] [-p policy] [-s string] [keychain...]\n"
    "       security cms -D [-i infile] [-o outfile]\n"
    "Keys are not in keychains here but on the server's token: commands that\n"
    "prepare a keychain succeed and do nothing.\n";

// A script may ignore these: whether they did something shows when it signs.
constexpr std::array<std::string_view, 15> kWithoutEffect = {
    "create-keychain",
    "default-keychain",
    "delete-certificate",
    "delete-identity",
    "delete-keychain",
    "list-keychains",
    "lock-keychain",
    "login-keychain",
    "set-identity-preference",
    "set-key-partition-list",
    "set-keychain-password",
    "set-keychain-settings",
    "show-keychain-info",
    "unlock-keychain",
    "user-trust-settings-enable"};

struct Advice {
  std::string_view command;
  std::string_view instead;
};
constexpr std::array kAdvice = {
    Advice{"find-certificate",
           "`codeseal identities show NAME --pem` prints a "
           "certificate with its chain"},
    Advice{"export",
           "private keys never leave the token; `codeseal identities "
           "show NAME --pem` prints the certificates"},
    Advice{"verify-cert", "`openssl verify` checks a certificate"},
    Advice{"dump-keychain", "`codeseal identities list` shows what there is"},
    Advice{"find-generic-password",
           "passwords belong into the secrets of the "
           "build system"},
    Advice{"find-internet-password",
           "passwords belong into the secrets of the "
           "build system"},
};

PrintedText SecurityFault() { return {"", kSecurityUsage, ExitCode::kUsage}; }

class Words {
 public:
  Words(std::string_view command, std::vector<std::string> arguments)
      : words_(std::move(arguments)) {
    words_.insert(words_.begin(), std::string(command));
    for (std::string& word : words_) argv_.push_back(word.data());
    argv_.push_back(nullptr);
    optind = 0;  // getopt(3) starts anew
    opterr = 0;
  }
  int Next(const char* letters) {
    return getopt(static_cast<int>(words_.size()), argv_.data(), letters);
  }

 private:
  std::vector<std::string> words_;
  std::vector<char*> argv_;
};

Command FindIdentity(const std::vector<std::string>& arguments) {
  SecurityFindIdentityCommand command;
  Words words("find-identity", arguments);
  for (int letter = 0; (letter = words.Next("p:s:v")) != -1;) {
    switch (letter) {
      case 'p':
        command.policy = optarg;
        break;
      case 's':
        command.subject = optarg;
        break;
      case 'v':
        command.valid_only = true;
        break;
      default:
        return SecurityFault();
    }
  }
  return command;  // what follows are keychains
}

Command DecodeCms(const std::vector<std::string>& arguments) {
  SecurityDecodeCmsCommand command;
  command.input_path = "-";
  command.output_path = "-";
  bool decode = false;
  Words words("cms", arguments);
  for (int letter = 0;
       (letter = words.Next("CDESc:d:h:i:k:no:p:r:u:")) != -1;) {
    switch (letter) {
      case 'D':
        decode = true;
        break;
      case 'i':
        command.input_path = optarg;
        break;
      case 'o':
        command.output_path = optarg;
        break;
      case 'h':  // what to print of the headers
      case 'k':  // keychain
      case 'n':  // no content
      case 'u':  // certificate usage
        break;
      case '?':
        return SecurityFault();
      default:
        return PrintedText{
            "",
            "security: cms: only -D is possible here; `openssl cms` makes "
            "messages\n",
            ExitCode::kNo};
    }
  }
  if (!decode) return SecurityFault();
  return command;
}

}  // namespace

Invocation ParseSecurity(const std::vector<std::string>& arguments) {
  Invocation invocation;
  invocation.output.style = OutputStyle::kApple;
  // Options of security itself: quiet, verbose, leaks. -i and -p want a
  // terminal.
  auto first = std::find_if(
      arguments.begin(), arguments.end(),
      [](const std::string& word) { return !word.starts_with('-'); });
  if (first == arguments.end()) {
    invocation.command = SecurityFault();
    return invocation;
  }
  const std::string& command = *first;
  const std::vector<std::string> rest(first + 1, arguments.end());
  invocation.name = "security " + command;
  if (command == "find-identity") {
    invocation.command = FindIdentity(rest);
  } else if (command == "cms") {
    invocation.command = DecodeCms(rest);
  } else if (command == "help") {
    invocation.command = PrintedText{kSecurityUsage, "", ExitCode::kDone};
  } else if (command == "import") {
    // No argument is repeated: among them is a password.
    invocation.command = PrintedText{
        "",
        "security: import does nothing here: codeseal signs with the keys of "
        "its server, see `security find-identity -v -p codesigning`\n",
        ExitCode::kDone};
  } else if (std::ranges::find(kWithoutEffect, command) !=
             kWithoutEffect.end()) {
    invocation.command = PrintedText{
        "",
        "security: " + command +
            " does nothing here: keys are on the server's token, not in a "
            "keychain\n",
        ExitCode::kDone};
  } else {
    std::string text =
        "security: " + Printable(command) + " is not possible here";
    for (const Advice& advice : kAdvice) {
      if (advice.command == command) text += ": " + std::string(advice.instead);
    }
    invocation.command = PrintedText{"", text + "\n", ExitCode::kNo};
  }
  return invocation;
}

}  // namespace codeseal::client
