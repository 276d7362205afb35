// SoftHSM tokens for one test: a configuration and a token store in a folder of
// their own, removed afterwards.

#ifndef CODESEAL_TESTS_SUPPORT_SOFTHSM_H_
#define CODESEAL_TESTS_SUPPORT_SOFTHSM_H_

#include <string>
#include <string_view>
#include <vector>

#include "hsm/token.h"
#include "tests/support/temp_folder.h"

namespace codeseal::testing {

inline constexpr char kSoftHsmModule[] = "/usr/lib/softhsm/libsofthsm2.so";

// For TokenConfig::worker_path.
std::string TokenWorkerProgram();

// Points SOFTHSM2_CONF of this process, and so of the programs that it starts,
// at the new store: one object at a time. Failures abort the test program.
class SoftHsm {
 public:
  SoftHsm();
  ~SoftHsm();
  SoftHsm(const SoftHsm&) = delete;
  SoftHsm& operator=(const SoftHsm&) = delete;

  // A new, empty token. Its PIN is in pin_file().
  void AddToken(const std::string& label);

  // Puts a private key (PEM, PKCS#8) made outside on the token, as
  // softhsm2-util does it: not local, not always sensitive.
  void ImportKey(const std::string& token, const std::string& label,
                 const Bytes& id, std::string_view pem);

  // A token of the store, through SoftHSM itself and the test's worker program.
  // Tests change what they need.
  TokenConfig Config(const std::string& label) const;

  // Runs a program with the store's environment; its output, standard error
  // included. Aborts the test program when it fails.
  std::string Run(const std::vector<std::string>& arguments) const;

  const TempFolder& folder() const { return folder_; }
  std::string token_folder() const { return folder_.Path("tokens"); }
  std::string config_file() const { return folder_.Path("softhsm2.conf"); }
  std::string pin_file() const { return folder_.Path("pin"); }
  static constexpr char kPin[] = "74829163";

 private:
  TempFolder folder_;
};

}  // namespace codeseal::testing

#endif  // CODESEAL_TESTS_SUPPORT_SOFTHSM_H_
