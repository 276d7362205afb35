#include "tests/support/softhsm.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "codesign/base/bytes.h"

extern char** environ;

namespace codeseal::testing {
namespace {

constexpr char kSecurityOfficerPin[] = "19283746";

}  // namespace

std::string TokenWorkerProgram() { return CODESEAL_TOKEN_WORKER; }

SoftHsm::SoftHsm() {
  std::filesystem::create_directory(token_folder());
  folder_.Write("softhsm2.conf", "directories.tokendir = " + token_folder() +
                                     "\nobjectstore.backend = file\n"
                                     "log.level = ERROR\n"
                                     "slots.removable = false\n");
  folder_.Write("pin", std::string(kPin) + "\n");
  chmod(pin_file().c_str(), 0600);
  setenv("SOFTHSM2_CONF", config_file().c_str(), 1);
}

SoftHsm::~SoftHsm() { unsetenv("SOFTHSM2_CONF"); }

std::string SoftHsm::Run(const std::vector<std::string>& arguments) const {
  const std::string output = folder_.Path("output");
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null",
                                   O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, output.c_str(),
                                   O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  std::vector<std::string> copies = arguments;
  std::vector<char*> argv;
  for (std::string& each : copies) argv.push_back(each.data());
  argv.push_back(nullptr);
  pid_t pid = -1;
  const int spawned =
      posix_spawnp(&pid, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  int status = -1;
  if (spawned == 0) waitpid(pid, &status, 0);
  std::ifstream file(output);
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  if (spawned != 0 || status != 0) {
    std::fprintf(stderr, "%s failed: %s\n", arguments.front().c_str(),
                 text.c_str());
    std::abort();
  }
  return text;
}

void SoftHsm::AddToken(const std::string& label) {
  Run({"softhsm2-util", "--init-token", "--free", "--label", label, "--pin",
       kPin, "--so-pin", kSecurityOfficerPin});
}

void SoftHsm::ImportKey(const std::string& token, const std::string& label,
                        const Bytes& id, std::string_view pem) {
  const std::string path = folder_.Write("imported.pem", pem);
  Run({"softhsm2-util", "--import", path, "--token", token, "--label", label,
       "--id", HexEncode(id), "--pin", kPin});
}

TokenConfig SoftHsm::Config(const std::string& label) const {
  TokenConfig config;
  config.name = label;
  config.module = kSoftHsmModule;
  config.label = label;
  config.pin_source = "file:" + pin_file();
  config.session_count = 4;
  config.worker_path = TokenWorkerProgram();
  return config;
}

}  // namespace codeseal::testing
