// Runs a program to its end, as a shell would, without one.

#ifndef CODESEAL_TESTS_SUPPORT_SUBPROCESS_H_
#define CODESEAL_TESTS_SUPPORT_SUBPROCESS_H_

#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

namespace codeseal::testing {

struct SubprocessResult {
  int exit_code = -1;  // 128 + N when signal N ended it
  std::string out;
  std::string err;
  long peak_memory = 0;  // KiB, resident
};

// argv[0] is looked up in PATH. `environment` is added to this process's own;
// an empty value removes the variable. Standard input is empty. Aborts the test
// program when the program can't be started.
SubprocessResult RunProgram(
    const std::vector<std::string>& argv,
    const std::map<std::string, std::string>& environment = {});

// The same without waiting, output thrown away: the caller waits for the
// process id.
pid_t StartProgram(const std::vector<std::string>& argv,
                   const std::map<std::string, std::string>& environment = {});

}  // namespace codeseal::testing

#endif  // CODESEAL_TESTS_SUPPORT_SUBPROCESS_H_
