#include "codesign/host_requirement.h"

#include <algorithm>
#include <string>
#include <string_view>

#include "codesign/requirement/compiler.h"
#include "codesign/requirement/expression.h"

namespace codeseal {
namespace {

// Interpreters that come with macOS as programs of their own.
constexpr std::string_view kInterpreters[] = {
    "/bin/bash",          "/bin/csh",      "/bin/ksh",      "/bin/sh",
    "/bin/tcsh",          "/bin/zsh",      "/usr/bin/env",  "/usr/bin/expect",
    "/usr/bin/osascript", "/usr/bin/perl", "/usr/bin/ruby", "/usr/bin/tclsh"};

// "/bin/sh" of "#! /bin/sh -e"; empty for what is no script.
std::string_view Interpreter(std::string_view text) {
  constexpr std::string_view kSpace = " \t";
  constexpr std::string_view kEnd = " \t\r\n";
  if (!text.starts_with("#!")) return {};
  text = text.substr(2, 1024);
  text.remove_prefix(std::min(text.find_first_not_of(kSpace), text.size()));
  return text.substr(0, text.find_first_of(kEnd));
}

}  // namespace

RequirementSet HostRequirement(ByteView file) {
  const std::string_view path = Interpreter(AsText(file));
  if (std::find(std::begin(kInterpreters), std::end(kInterpreters), path) ==
      std::end(kInterpreters)) {
    return {};
  }
  const std::string name(path.substr(path.rfind('/') + 1));
  const auto expression = CompileRequirement("identifier \"com.apple." + name +
                                             "\" and anchor apple");
  if (!expression.ok()) return {};
  return {{kHostRequirement, BuildRequirement(*expression)}};
}

}  // namespace codeseal
