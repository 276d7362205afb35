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
  int count = 0;
  for (const Call& call : Journal()) {
    if (call.function == function && (rv.empty() || call.rv == rv)) ++count;
  }
  return count;
}

std::vector<std::string> FaultShim::Signatures() const {
  std::istringstream journal(folder_.Read("journal.signatures"));
  std::vector<std::string> signatures;
  for (std::string hex; journal >> hex;) {
    std::string& bytes = signatures.emplace_back();
    for (size_t i = 0; i + 1 < hex.size(); i += 2) {
      bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
    }
  }
  return signatures;
}

std::set<int> FaultShim::Processes() const {
  std::set<int> processes;
  for (const Call& call : Journal()) processes.insert(call.process);
  return processes;
}

std::set<int> FaultShim::Threads() const {
  std::set<int> threads;
  for (const Call& call : Journal()) threads.insert(call.thread);
  return threads;
}

std::vector<FaultShim::Call> FaultShim::Journal() const {
  std::istringstream journal(folder_.Read("journal"));
  std::vector<Call> calls;
  Call call;
  while (journal >> call.process >> call.function >> call.rv >> call.thread) {
    calls.push_back(call);
  }
  return calls;
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
