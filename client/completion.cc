#include "client/completion.h"

#include "absl/strings/str_cat.h"
#include "codesign/base/error.h"

namespace codeseal::client {
namespace {

// In single quotes, for bash, zsh and fish alike.
std::string Quote(std::string_view text) {
  std::string quoted = "'";
  for (const char c : text) {
    if (c == '\'') {
      quoted += "'\\''";
    } else {
      quoted += c;
    }
  }
  return quoted + "'";
}

// One line of bash's table for each command: "sign) words=...;;".
void AddBashCases(const CommandTree& tree, const std::string& path,
                  std::string& cases, std::string& commands) {
  std::string words;
  for (const CommandTree& command : tree.commands) {
    const std::string inner =
        path.empty() ? command.name : path + " " + command.name;
    absl::StrAppend(&words, words.empty() ? "" : " ", command.name);
    absl::StrAppend(&commands, commands.empty() ? "" : "|", Quote(inner));
    AddBashCases(command, inner, cases, commands);
  }
  for (const CommandTree::Option& option : tree.options) {
    for (const std::string& name : option.names) {
      absl::StrAppend(&words, words.empty() ? "" : " ", name);
    }
  }
  absl::StrAppend(&cases, "    ", Quote(path), ") words=", Quote(words),
                  " ;;\n");
}

std::string BashScript(const CommandTree& tree) {
  std::string cases;
  std::string commands;
  AddBashCases(tree, "", cases, commands);
  const std::string& name = tree.name;
  return absl::StrCat("_", name, "() {\n",
                      "  local path='' words='' word next\n"
                      "  for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
                      "    next=\"${path:+$path }$word\"\n"
                      "    case \"$next\" in\n      ",
                      commands,
                      ") path=\"$next\" ;;\n"
                      "    esac\n"
                      "  done\n"
                      "  case \"$path\" in\n",
                      cases,
                      "  esac\n"
                      "  COMPREPLY=($(compgen -W \"$words\" -- "
                      "\"${COMP_WORDS[COMP_CWORD]}\"))\n"
                      "}\n"
                      "complete -o default -F _",
                      name, " ", name, "\n");
}

std::string ZshScript(const CommandTree& tree) {
  return absl::StrCat("autoload -U +X bashcompinit && bashcompinit\n",
                      BashScript(tree));
}

void AddFishLines(const CommandTree& tree, const std::string& program,
                  const std::string& condition, std::string& script) {
  for (const CommandTree::Option& option : tree.options) {
    absl::StrAppend(&script, "complete -c ", program, " -n ", Quote(condition));
    for (const std::string& name : option.names) {
      const bool is_long = name.starts_with("--");
      absl::StrAppend(&script, is_long ? " -l " : " -s ",
                      name.substr(is_long ? 2 : 1));
    }
    if (option.takes_value) absl::StrAppend(&script, " -r");
    absl::StrAppend(&script, " -d ", Quote(option.description), "\n");
  }
  std::string siblings;
  for (const CommandTree& command : tree.commands) {
    absl::StrAppend(&siblings, " ", command.name);
  }
  for (const CommandTree& command : tree.commands) {
    absl::StrAppend(
        &script, "complete -c ", program, " -n ",
        Quote(absl::StrCat(condition, "; and not __fish_seen_subcommand_from",
                           siblings)),
        " -a ", command.name, " -d ", Quote(command.description), "\n");
    AddFishLines(command, program,
                 absl::StrCat(condition == "true" ? "" : condition + "; and ",
                              "__fish_seen_subcommand_from ", command.name),
                 script);
  }
}

}  // namespace

absl::StatusOr<std::string> CompletionScript(const CommandTree& tree,
                                             std::string_view shell) {
  if (shell == "bash") return BashScript(tree);
  if (shell == "zsh") return ZshScript(tree);
  if (shell == "fish") {
    std::string script;
    AddFishLines(tree, tree.name, "true", script);
    return script;
  }
  return MakeError(
      absl::StatusCode::kInvalidArgument, v1::STAGE_USAGE, v1::REASON_USAGE,
      "completion is for bash, zsh or fish, not for " + std::string(shell));
}

}  // namespace codeseal::client
