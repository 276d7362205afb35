#include "tests/support/p11_kit_server.h"

#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <thread>
#include <vector>

#include "tests/support/softhsm.h"

extern char** environ;

namespace codeseal::testing {
namespace {

bool Accepts(const std::string& path) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  const bool accepted = connect(fd, reinterpret_cast<const sockaddr*>(&address),
                                sizeof(address)) == 0;
  close(fd);
  return accepted;
}

}  // namespace

std::string P11KitServer::Module() {
  return "/usr/lib/x86_64-linux-gnu/pkcs11/p11-kit-client.so";
}

std::string P11KitServer::MissingBecause() {
  if (access("/usr/bin/p11-kit", X_OK) != 0) {
    return "the package p11-kit is not installed";
  }
  if (access(Module().c_str(), R_OK) != 0) {
    return "the package p11-kit-modules is not installed";
  }
  return "";
}

P11KitServer::P11KitServer(const std::string& label) : label_(label) {
  setenv("P11_KIT_SERVER_ADDRESS",
         ("unix:path=" + folder_.Path("socket")).c_str(), 1);
  Start();
}

P11KitServer::~P11KitServer() {
  if (pid_ > 0) Kill();
  unsetenv("P11_KIT_SERVER_ADDRESS");
}

void P11KitServer::Start() {
  const std::string socket_path = folder_.Path("socket");
  std::filesystem::remove(socket_path);
  std::vector<std::string> words = {
      "p11-kit",   "server",     "--foreground", "-n",
      socket_path, "--provider", kSoftHsmModule, "pkcs11:token=" + label_};
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", 0, 0);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", 1, 0);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  const int spawned =
      posix_spawnp(&pid_, argv[0], &actions, &attributes, argv.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (spawned == 0 && !Accepts(socket_path)) {
    if (std::chrono::steady_clock::now() > end) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  if (spawned != 0 || !Accepts(socket_path)) {
    std::fprintf(stderr, "p11-kit server does not start\n");
    std::abort();
  }
}

void P11KitServer::Kill() {
  kill(-pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

}  // namespace codeseal::testing
