#include "client/spctl_options.h"

#include <string>
#include <variant>
#include <vector>

#include "gmock/gmock.h"

namespace codeseal::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(SpctlOptionsTest, AssessmentsAsPeopleTypeThem) {
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{
           {"--assess", "--type", "execute", "-vv", "Demo.app"},
           {"-a", "-t", "exec", "-v", "-v", "Demo.app"},
           {"-avvt", "execute", "Demo.app"},
           {"--assess", "--verbose=2", "Demo.app"},
           {"-a", "--verbose", "--verbose", "--ignore-cache", "Demo.app"}}) {
    const Invocation invocation = ParseSpctl(arguments);
    const auto* assess = std::get_if<AssessCommand>(&invocation.command);
    ASSERT_NE(assess, nullptr) << arguments[1];
    EXPECT_EQ(assess->type, "execute");
    EXPECT_THAT(assess->paths, ElementsAre("Demo.app"));
    EXPECT_TRUE(assess->stops_at_first_no);
    EXPECT_FALSE(assess->needs_context);
    EXPECT_EQ(invocation.output.verbosity, 2);
    EXPECT_EQ(invocation.output.style, OutputStyle::kApple);
  }
}

TEST(SpctlOptionsTest, DocumentsNeedTheirContext) {
  const Invocation bare = ParseSpctl({"-a", "-t", "open", "Demo.dmg"});
  EXPECT_TRUE(std::get<AssessCommand>(bare.command).needs_context);
  const Invocation with_context =
      ParseSpctl({"-a", "-t", "open", "--context", "context:primary-signature",
                  "--continue", "a.dmg", "b.dmg"});
  const auto& assess = std::get<AssessCommand>(with_context.command);
  EXPECT_FALSE(assess.needs_context);
  EXPECT_FALSE(assess.stops_at_first_no);
  EXPECT_EQ(assess.paths.size(), 2u);
}

TEST(SpctlOptionsTest, ByNameInAnyFolder) {
  const Invocation invocation = ParseByName(
      "/usr/sbin/spctl", {"--status"},
      [](const std::string&) -> std::optional<std::string> { return {}; });
  EXPECT_EQ(std::get<PrintedText>(invocation.command).out,
            "assessments enabled\n");
}

TEST(SpctlOptionsTest, WhatCannotBeIsAUsageError) {
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{},
                                             {"-a"},
                                             {"Demo.app"},
                                             {"-a", "-t", "run", "Demo.app"},
                                             {"-a", "--bogus", "Demo.app"},
                                             {"--add", "Demo.app"},
                                             {"--master-disable"}}) {
    const Invocation invocation = ParseSpctl(arguments);
    const auto* printed = std::get_if<PrintedText>(&invocation.command);
    ASSERT_NE(printed, nullptr);
    EXPECT_EQ(printed->exit_code, ExitCode::kUsage);
    EXPECT_THAT(printed->err, HasSubstr("spctl"));
  }
}

}  // namespace
}  // namespace codeseal::client
