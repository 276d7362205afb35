// Drives tests/shim/fault_p11.so from a test: writes its script, reads its
// journal.

#ifndef CODESEAL_TESTS_SUPPORT_FAULT_SHIM_H_
#define CODESEAL_TESTS_SUPPORT_FAULT_SHIM_H_

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/temp_folder.h"

namespace codeseal::testing {

// Sets the shim's environment for this process and the programs it starts: one
// object at a time.
class FaultShim {
 public:
  FaultShim();
  ~FaultShim();
  FaultShim(const FaultShim&) = delete;
  FaultShim& operator=(const FaultShim&) = delete;

  // Path of the module, for TokenConfig::module.
  static std::string Module();

  // Replaces the script, in the words of tests/shim/faults.md; "" forwards.
  void Play(std::string_view script);

  // Calls of a function in the journal so far.
  int CallCount(std::string_view function) const;
  // Calls of it that returned `rv`, as "0xa0".
  int CallCount(std::string_view function, std::string_view rv) const;
  // The bytes of every signature that was made so far.
  std::vector<std::string> Signatures() const;
  // Processes and threads that appear in the journal.
  std::set<int> Processes() const;
  std::set<int> Threads() const;
  // Waits until `function` was called more than `count` times: an event, where
  // a sleep would be a guess. False after 20 s.
  bool WaitForCalls(std::string_view function, int count) const;

 private:
  struct Call {
    int process = 0;
    std::string function;
    std::string rv;
    int thread = 0;
  };
  std::vector<Call> Journal() const;

  TempFolder folder_;
};

}  // namespace codeseal::testing

#endif  // CODESEAL_TESTS_SUPPORT_FAULT_SHIM_H_
