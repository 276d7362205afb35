#include "tests/support/fault_shim.h"

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <thread>

namespace codeseal::testing {

FaultShim::FaultShim() {
  setenv("CODESEAL_SHIM_SCRIPT", folder_.Path("script").c_str(), 1);
  setenv("CODESEAL_SHIM_JOURNAL", folder_.Path("journal").c_str(), 1);
}

FaultShim::~FaultShim() {
  unsetenv("CODESEAL_SHIM_SCRIPT");
  unsetenv("CODESEAL_SHIM_JOURNAL");
}

std::string FaultShim::Module() { return CODESEAL_FAULT_P11; }

void FaultShim::Play(std::string_view script) {
  std::filesystem::rename(folder_.Write("script.new", script),
                          folder_.Path("script"));
}

int FaultShim::CallCount(std::string_view function) const {
  return CallCount(function, "");
}

int FaultShim::CallCount(std::string_view function, std::string_view rv) const {
  std::istringstream journal(folder_.Read("journal"));
  int count = 0;
  int pid = 0;
  std::string called;
  std::string returned;
  while (journal >> pid >> called >> returned) {
    if (called == function && (rv.empty() || returned == rv)) ++count;
  }
  return count;
}

std::set<int> FaultShim::Processes() const {
  std::istringstream journal(folder_.Read("journal"));
  std::set<int> processes;
  int pid = 0;
  std::string called;
  std::string returned;
  while (journal >> pid >> called >> returned) processes.insert(pid);
  return processes;
}

bool FaultShim::WaitForCalls(std::string_view function, int count) const {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (CallCount(function) <= count) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

}  // namespace codeseal::testing
