// A PKCS#11 module in another process, reached through p11-kit: a network HSM
// whose far end can be killed and started again.
//
//   p11-kit-client.so -- socket --> [P11KitServer] --> SoftHSM

#ifndef CODESEAL_TESTS_SUPPORT_P11_KIT_SERVER_H_
#define CODESEAL_TESTS_SUPPORT_P11_KIT_SERVER_H_

#include <sys/types.h>

#include <string>

#include "tests/support/temp_folder.h"

namespace codeseal::testing {

// Sets P11_KIT_SERVER_ADDRESS of this process: one object at a time.
class P11KitServer {
 public:
  // Serves the SoftHSM token `label` of the store that SOFTHSM2_CONF names.
  explicit P11KitServer(const std::string& label);
  ~P11KitServer();
  P11KitServer(const P11KitServer&) = delete;
  P11KitServer& operator=(const P11KitServer&) = delete;

  // Why this machine can't run it; empty when it can.
  static std::string MissingBecause();
  // For TokenConfig::module.
  static std::string Module();

  // Returns when it accepts connections; aborts the test program when it never
  // does.
  void Start();
  // kill -9, with the processes that serve single connections.
  void Kill();

 private:
  const std::string label_;
  TempFolder folder_;
  pid_t pid_ = -1;  // leads a process group
};

}  // namespace codeseal::testing

#endif  // CODESEAL_TESTS_SUPPORT_P11_KIT_SERVER_H_
