#include "tests/support/pkcs11_modules.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <initializer_list>
#include <utility>
#include <vector>

#include "tests/support/p11_kit_server.h"
#include "tests/support/softhsm.h"
#include "tests/support/subprocess.h"
#include "tests/support/temp_folder.h"

namespace codeseal::testing {
namespace {

constexpr char kPin[] = "74829163";
constexpr char kNssModule[] = "/usr/lib/x86_64-linux-gnu/libsoftokn3.so";

[[noreturn]] void Abort(const std::string& why) {
  std::fprintf(stderr, "%s\n", why.c_str());
  std::abort();
}

void Run(const std::vector<std::string>& arguments) {
  const SubprocessResult result = RunProgram(arguments);
  if (result.exit_code != 0) {
    Abort(arguments.front() + ": " + result.out + result.err);
  }
}

// The first file that is not there, as "the package P is not installed".
std::string FirstMissing(
    std::initializer_list<std::pair<const char*, const char*>>
        package_by_file) {
  for (const auto& [file, package] : package_by_file) {
    if (access(file, R_OK) != 0) {
      return std::string("the package ") + package + " is not installed";
    }
  }
  return "";
}

std::string WritePin(const TempFolder& folder) {
  const std::string path = folder.Write("pin", std::string(kPin) + "\n");
  chmod(path.c_str(), 0600);
  return path;
}

class SoftHsmToken : public ModuleToken {
 public:
  SoftHsmToken() { softhsm_.AddToken("modules"); }
  TokenConfig config() const override { return softhsm_.Config("modules"); }

 protected:
  SoftHsm softhsm_;
};

class RemoteToken : public SoftHsmToken {
 public:
  TokenConfig config() const override {
    TokenConfig config = SoftHsmToken::config();
    config.module = P11KitServer::Module();
    return config;
  }
  bool Restart() override {
    server_.Kill();
    server_.Start();
    return true;
  }

 private:
  P11KitServer server_{"modules"};
};

class NssToken : public ModuleToken {
 public:
  NssToken() {
    pin_file_ = WritePin(folder_);
    std::filesystem::create_directory(folder_.Path("db"));
    // As many rounds of PBKDF2 as NSS likes cost 40 ms a signature.
    setenv("NSS_MAX_MP_PBE_ITERATION_COUNT", "1", 1);
    setenv("NSS_MIN_MP_PBE_ITERATION_COUNT", "1", 1);
    Run({"certutil", "-N", "-d", "sql:" + folder_.Path("db"), "-f", pin_file_});
  }
  ~NssToken() override {
    unsetenv("NSS_MAX_MP_PBE_ITERATION_COUNT");
    unsetenv("NSS_MIN_MP_PBE_ITERATION_COUNT");
  }
  TokenConfig config() const override {
    TokenConfig config;
    config.module = kNssModule;
    config.label = "NSS Certificate DB";
    config.pin_source = "file:" + pin_file_;
    config.init_args = "configdir='sql:" + folder_.Path("db") +
                       "' certPrefix='' keyPrefix='' secmod='secmod.db' flags=";
    config.worker_path = TokenWorkerProgram();
    return config;
  }

 private:
  TempFolder folder_;
  std::string pin_file_;
};

template <typename Token>
std::unique_ptr<ModuleToken> Make() {
  return std::make_unique<Token>();
}

}  // namespace

const ModuleKind kModuleKinds[kModuleKindCount] = {
    {"SoftHsm2", [] { return FirstMissing({{kSoftHsmModule, "softhsm2"}}); },
     Make<SoftHsmToken>},
    {"NssSoftokn",
     [] {
       return FirstMissing(
           {{kNssModule, "libnss3"}, {"/usr/bin/certutil", "libnss3-tools"}});
     },
     Make<NssToken>},
    {"P11KitRemote", P11KitServer::MissingBecause, Make<RemoteToken>},
};

}  // namespace codeseal::testing
