#include "tests/support/pkcs11_modules.h"

#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <thread>
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
constexpr char kTpmModule[] = "/usr/lib/x86_64-linux-gnu/libtpm2_pkcs11.so.1";

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

// Asks until it is true; aborts when it never is.
void WaitUntil(const std::function<bool()>& ready, const char* what) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!ready()) {
    if (std::chrono::steady_clock::now() > end) {
      Abort(std::string(what) + " does not start");
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
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

// A port that is free, and so is the next.
int FreePorts() {
  for (int port = 20000 + getpid() % 20000; port < 60000; port += 2) {
    bool all_free = true;
    for (const int each : {port, port + 1}) {
      const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      sockaddr_in address{};
      address.sin_family = AF_INET;
      address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      address.sin_port = htons(static_cast<uint16_t>(each));
      all_free = all_free && bind(fd, reinterpret_cast<sockaddr*>(&address),
                                  sizeof(address)) == 0;
      close(fd);
    }
    if (all_free) return port;
  }
  Abort("no free ports");
}

bool Accepts(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  const bool accepted =
      connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  close(fd);
  return accepted;
}

class TpmToken : public ModuleToken {
 public:
  TpmToken() : port_(FreePorts()), bus_("unix:path=" + folder_.Path("bus")) {
    pin_file_ = WritePin(folder_);
    for (const char* each : {"state", "store"}) {
      std::filesystem::create_directory(folder_.Path(each));
    }
    Set("DBUS_SESSION_BUS_ADDRESS", bus_);
    Set("TPM2TOOLS_TCTI", "tabrmd:bus_type=session");
    Set("TPM2_PKCS11_TCTI", "tabrmd:bus_type=session");
    Set("TPM2_PKCS11_STORE", folder_.Path("store"));
    Set("TSS2_LOG", "all+none");
    bus_pid_ = StartProgram({"dbus-daemon", "--session", "--nofork",
                             "--nopidfile", "--address=" + bus_});
    WaitUntil([&] { return access(folder_.Path("bus").c_str(), W_OK) == 0; },
              "dbus-daemon");
    StartTpm();
    const std::string store = "--path=" + folder_.Path("store");
    Run({"tpm2_ptool", "init", store});
    Run({"tpm2_ptool", "addtoken", "--pid=1", "--sopin=19283746",
         std::string("--userpin=") + kPin, "--label=tpm", store});
    Run({"tpm2_ptool", "addkey", "--algorithm=rsa2048", "--label=tpm",
         std::string("--userpin=") + kPin, "--key-label=rsa", store});
  }
  ~TpmToken() override {
    StopTpm();
    Stop(bus_pid_);
    for (const std::string& name : set_) unsetenv(name.c_str());
  }

  TokenConfig config() const override {
    TokenConfig config;
    config.module = kTpmModule;
    config.label = "tpm";
    config.pin_source = "file:" + pin_file_;
    config.serialize = true;  // not thread-safe, even with a session for each
    config.worker_path = TokenWorkerProgram();
    return config;
  }

  // The module pads by itself and then wants a raw RSA operation, for which the
  // TPM demands a key that may decrypt. Ours may not.
  std::optional<KeyReference> RsaKey() const override {
    return KeyReference{{}, "rsa"};
  }

  bool Restart() override {
    StopTpm();
    StartTpm();
    return true;
  }

 private:
  void Set(const std::string& name, const std::string& value) {
    setenv(name.c_str(), value.c_str(), 1);
    set_.push_back(name);
  }

  static void Stop(pid_t& pid) {
    if (pid <= 0) return;
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
    pid = -1;
  }

  void StartTpm() {
    const std::string port = std::to_string(port_);
    const std::string control = std::to_string(port_ + 1);
    tpm_pid_ =
        StartProgram({"swtpm", "socket", "--tpm2", "--tpmstate",
                      "dir=" + folder_.Path("state"), "--server",
                      "type=tcp,port=" + port + ",bindaddr=127.0.0.1", "--ctrl",
                      "type=tcp,port=" + control + ",bindaddr=127.0.0.1",
                      "--flags", "not-need-init,startup-clear"});
    // Only the control port: the other one takes a single connection.
    WaitUntil([&] { return Accepts(port_ + 1); }, "swtpm");
    manager_pid_ =
        StartProgram({"tpm2-abrmd", "--session", "--allow-root", "--flush-all",
                      "--tcti=swtpm:host=127.0.0.1,port=" + port});
    WaitUntil(
        [&] {
          return RunProgram({"dbus-send", "--bus=" + bus_, "--print-reply",
                             "--dest=org.freedesktop.DBus",
                             "/org/freedesktop/DBus",
                             "org.freedesktop.DBus.GetNameOwner",
                             "string:com.intel.tss2.Tabrmd"})
                     .exit_code == 0;
        },
        "tpm2-abrmd");
  }
  void StopTpm() {
    Stop(manager_pid_);
    Stop(tpm_pid_);
  }

  TempFolder folder_;
  const int port_;
  const std::string bus_;
  std::string pin_file_;
  std::vector<std::string> set_;
  pid_t bus_pid_ = -1;
  pid_t tpm_pid_ = -1;
  pid_t manager_pid_ = -1;
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
    {"Tpm2Pkcs11",
     [] {
       return FirstMissing({{kTpmModule, "libtpm2-pkcs11-1"},
                            {"/usr/bin/tpm2_ptool", "libtpm2-pkcs11-tools"},
                            {"/usr/bin/swtpm", "swtpm"},
                            {"/usr/sbin/tpm2-abrmd", "tpm2-abrmd"},
                            {"/usr/bin/dbus-daemon", "dbus-daemon"},
                            {"/usr/bin/dbus-send", "dbus-bin"}});
     },
     Make<TpmToken>},
    {"P11KitRemote", P11KitServer::MissingBecause, Make<RemoteToken>},
};

}  // namespace codeseal::testing
