// codeseal under Apple's names with a real server behind it, first in PATH as
// in a build that was made for a Mac.

#ifndef CODESEAL_TESTS_INTEGRATION_APPLE_NAMES_FIXTURE_H_
#define CODESEAL_TESTS_INTEGRATION_APPLE_NAMES_FIXTURE_H_

#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "codesign/cms/certificate.h"
#include "tests/integration/client_fixture.h"
#include "tests/support/server_process.h"

namespace codeseal::testing {

inline constexpr char kEntitlements[] =
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
    "<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" "
    "\"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n"
    "<plist version=\"1.0\">\n<dict>\n"
    "\t<key>com.apple.security.cs.allow-jit</key>\n\t<true/>\n"
    "</dict>\n</plist>\n";

class AppleNamesTest : public ClientTest {
 protected:
  AppleNamesTest() : server_(world_.WriteConfig(world_.Config())) {
    const std::string& address = server_.address();
    environment_["CODESEAL_SERVER"] =
        "localhost" + address.substr(address.rfind(':'));
    environment_["CODESEAL_CA"] = world_.tls_ca();
    environment_["CODESEAL_CERT"] = world_.client().certificate;
    environment_["CODESEAL_KEY"] = world_.client().key;
    environment_["CODESEAL_TOKEN"] = "";
    // Apple's names come first, as in a build that was made for a Mac.
    environment_["PATH"] =
        std::string(CODESEAL_APPLE_NAMES) + ":" + std::getenv("PATH");
    tool_ = Write("tool", UnsignedUniversal());
  }

  SubprocessResult As(const std::string& name,
                      std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(),
                     std::string(CODESEAL_APPLE_NAMES) + "/" + name);
    return RunProgram(arguments, environment_);
  }
  SubprocessResult Codesign(std::vector<std::string> arguments) const {
    return As("codesign", std::move(arguments));
  }
  void Sign() const {
    const SubprocessResult sign = Codesign({"-s", "ec", tool_});
    ASSERT_EQ(sign.exit_code, 0) << sign.err;
  }
  // The first certificate of an identity of the server.
  Certificate Leaf(const std::string& identity) const {
    return Certificate::ParsePem(
               Codeseal({"identities", "show", identity, "--pem"}).out)
        ->front();
  }

  ServerWorld world_;
  ServerProcess server_;
  std::string tool_;
};

}  // namespace codeseal::testing

#endif  // CODESEAL_TESTS_INTEGRATION_APPLE_NAMES_FIXTURE_H_
