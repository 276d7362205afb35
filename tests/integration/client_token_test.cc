// codeseal with a token on the same machine: real SoftHSM, real worker process.

#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "hsm/token.h"
#include "tests/integration/client_fixture.h"
#include "tests/support/fault_shim.h"
#include "tests/support/softhsm.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_pki.h"

namespace codeseal::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kWrongPin[] = "11119999";

class ClientTokenTest : public ClientTest {
 protected:
  ClientTokenTest() {
    hsm_.AddToken("release");
    root_path_ = folder_.Write("root.pem", root_.pem());
    tool_ = Write("tool", original_);
  }

  // A key made inside the token and, beside it, a certificate for it.
  Certificate AddIdentity(uint8_t id, const std::string& common_name,
                          KeyAlgorithm algorithm = KeyAlgorithm::kP256) {
    TokenConfig config = hsm_.Config("release");
    const auto token = *Token::Create(config);
    const KeyReference key = {.id = {id}, .label = "key " + std::to_string(id)};
    const absl::Time deadline = absl::Now() + absl::Seconds(60);
    const absl::StatusOr<Bytes> public_key =
        token->GenerateKey(key, algorithm, deadline);
    EXPECT_THAT(public_key, IsOk());
    CertificateSpec spec;
    spec.common_name = common_name;
    spec.extended_key_usage = {kCodeSigning};
    Certificate leaf = IssueForKey(*public_key, spec, root_);
    EXPECT_THAT(token->ImportCertificate(key, leaf.der(), deadline), IsOk());
    return leaf;
  }

  std::string Uri(const std::string& pin_file) const {
    return std::string("pkcs11:token=release?module-path=") + kSoftHsmModule +
           "&pin-source=file:" + pin_file;
  }
  std::string Uri() const { return Uri(hsm_.pin_file()); }

  SubprocessResult Sign(std::vector<std::string> more) const {
    std::vector<std::string> arguments = {"sign", "-s", "Release", "--chain",
                                          root_path_};
    arguments.insert(arguments.end(), more.begin(), more.end());
    arguments.push_back(tool_);
    return Codeseal(arguments);
  }

  void ExpectSigned() const {
    const SubprocessResult verify =
        Codeseal({"verify", "--anchors", root_path_, tool_});
    EXPECT_EQ(verify.exit_code, 0) << verify.err;
    EXPECT_THAT(verify.out, HasSubstr(tool_ + ": valid on disk\n"));
    EXPECT_THAT(verify.out,
                HasSubstr(tool_ + ": satisfies its Designated Requirement\n"));
  }

  SoftHsm hsm_;
  const TestIdentity root_ = MakeRoot(CertificateSpec());
  const Bytes original_ = UnsignedUniversal();
  std::string root_path_;
  std::string tool_;
};

TEST_F(ClientTokenTest, SignsWithKeysOfBothKinds) {
  AddIdentity(1, "Release", KeyAlgorithm::kRsa2048);
  AddIdentity(2, "Other", KeyAlgorithm::kP256);
  SubprocessResult sign = Sign({"-v", "--token", Uri()});
  EXPECT_EQ(sign.exit_code, 0) << sign.err;
  EXPECT_THAT(sign.out, HasSubstr("signed Mach-O universal (x86_64 arm64)"));
  ExpectSigned();
  sign = Codeseal({"sign", "-f", "-s", "Other", "--chain", root_path_,
                   "--token", Uri(), tool_});
  EXPECT_EQ(sign.exit_code, 0) << sign.err;
  ExpectSigned();
  EXPECT_THAT(Codeseal({"show", "-vv", tool_}).out,
              HasSubstr("Authority=Other\nAuthority=codeseal test\n"));
}

TEST_F(ClientTokenTest, ListsWhatItCanSignWith) {
  const Certificate leaf = AddIdentity(1, "Release");
  const SubprocessResult list =
      Codeseal({"identities", "list", "--chain", root_path_, "--token", Uri()});
  EXPECT_EQ(list.exit_code, 0) << list.err;
  EXPECT_THAT(list.out, HasSubstr(HexEncode(leaf.Sha1()) + " \"Release\""));
  const SubprocessResult pem =
      Codeseal({"identities", "show", "Release", "--pem", "--chain", root_path_,
                "--token", Uri()});
  EXPECT_EQ(pem.exit_code, 0) << pem.err;
  EXPECT_EQ(pem.out, leaf.Pem() + root_.pem());
  // Not Apple's: it has no team.
  const SubprocessResult both =
      Codeseal({"identities", "show", HexEncode(leaf.Sha1()), "--team", "--pem",
                "--chain", root_path_, "--token", Uri()});
  EXPECT_EQ(both.out, "\n" + pem.out);
}

// The token's troubles by rule; --json has no more and no less.
TEST_F(ClientTokenTest, DoctorNamesWhatIsWrongAndWhatToDo) {
  AddIdentity(1, "Release");  // for a day
  const auto token = *Token::Create(hsm_.Config("release"));
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  EXPECT_THAT(token->GenerateKey({.id = {2}, .label = "spare"},
                                 KeyAlgorithm::kP256, deadline),
              IsOk());
  const SubprocessResult doctor =
      Codeseal({"identities", "doctor", "--token", Uri()});
  EXPECT_EQ(doctor.exit_code, 1) << doctor.err;
  for (const char* trouble :
       {"warning: Release: The certificate expires soon. [expires-soon]\n",
        "error: Release: The certificate's chain has a gap. "
        "[missing-intermediate]\n",
        "error: key spare: There is no certificate for this key. "
        "[key-without-certificate]\n",
        "  fix    ", "token release: 1 certificates, 2 keys, "}) {
    EXPECT_THAT(doctor.out, HasSubstr(trouble));
  }
  const SubprocessResult json =
      Codeseal({"identities", "doctor", "--json", "--chain", root_path_,
                "--soon", "0", "--token", Uri()});
  EXPECT_EQ(json.exit_code, 1);
  EXPECT_THAT(json.out, HasSubstr("\"key-without-certificate\""));
  EXPECT_THAT(json.out, Not(HasSubstr("missing-intermediate")));
  EXPECT_THAT(json.out, Not(HasSubstr("expires-soon")));
}

// Which chain, and why not, is what one asks of an identity that is over.
TEST_F(ClientTokenTest, ShowsIdentitiesThatCannotSignAnyMore) {
  const auto token = *Token::Create(hsm_.Config("release"));
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  const KeyReference key = {.id = {1}, .label = "Old"};
  const absl::StatusOr<Bytes> public_key =
      token->GenerateKey(key, KeyAlgorithm::kP256, deadline);
  ASSERT_THAT(public_key, IsOk());
  CertificateSpec spec;
  spec.common_name = "Old";
  spec.extended_key_usage = {kCodeSigning};
  spec.not_before = absl::Now() - absl::Hours(48);
  spec.not_after = absl::Now() - absl::Hours(24);
  const Certificate leaf = IssueForKey(*public_key, spec, root_);
  ASSERT_THAT(token->ImportCertificate(key, leaf.der(), deadline), IsOk());
  for (const std::string& name : {std::string("Old"), HexEncode(leaf.Sha1())}) {
    const SubprocessResult show = Codeseal(
        {"identities", "show", name, "--chain", root_path_, "--token", Uri()});
    EXPECT_EQ(show.exit_code, 0) << show.err;
    EXPECT_THAT(show.out, HasSubstr("Unavailable=the certificate expired"));
  }
}

TEST_F(ClientTokenTest, UnknownIdentity) {
  AddIdentity(1, "Other");
  const SubprocessResult sign = Sign({"--token", Uri()});
  EXPECT_EQ(sign.exit_code, 1);
  EXPECT_THAT(sign.err, Explains(tool_, "identity Release", "identities list"));
  EXPECT_EQ(Read("tool"), original_);
}

// Longer than a server would wait; the user is told what to do meanwhile.
TEST_F(ClientTokenTest, AFingerMayTakeItsTime) {
  AddIdentity(1, "Release");
  FaultShim shim;
  const std::string uri =
      "pkcs11:token=release?module-path=" + FaultShim::Module() +
      "&pin-source=file:" + hsm_.pin_file();
  shim.Play("C_Sign count=1 delay=6s\n");
  const SubprocessResult sign = Sign({"--token", uri});
  EXPECT_EQ(sign.exit_code, 0) << sign.err;
  EXPECT_THAT(sign.err, HasSubstr("codeseal: the token release waits to "));
  EXPECT_THAT(sign.err, HasSubstr(": touch it if it blinks\n"));
  // One worker lists what is there, one signs; none was replaced.
  EXPECT_EQ(shim.Processes().size(), 2u);
  ExpectSigned();
}

TEST_F(ClientTokenTest, ChosenBySha1) {
  const Certificate first = AddIdentity(1, "Release");
  const Certificate second = AddIdentity(2, "Release");
  SubprocessResult sign = Sign({"--token", Uri()});
  EXPECT_EQ(sign.exit_code, 1);
  EXPECT_THAT(sign.err, HasSubstr(HexEncode(second.Sha1())));
  sign = Codeseal({"sign", "-s", HexEncode(second.Sha1()), "--chain",
                   root_path_, "--token", Uri(), tool_});
  EXPECT_EQ(sign.exit_code, 0) << sign.err;
  ExpectSigned();
  EXPECT_EQ(
      Codeseal({"verify", "--anchors", root_path_, "-R",
                "=certificate leaf = H\"" + HexEncode(second.Sha1()) + "\"",
                tool_})
          .exit_code,
      0);
  const SubprocessResult other = Codeseal(
      {"verify", "--anchors", root_path_, "-R",
       "=certificate leaf = H\"" + HexEncode(first.Sha1()) + "\"", tool_});
  EXPECT_EQ(other.exit_code, 3);
  // The clause that fails, and what is there instead.
  EXPECT_THAT(other.err,
              HasSubstr("certificate leaf = H\"" + HexEncode(first.Sha1()) +
                        "\" (it is "
                        "\"Release\", H\"" +
                        HexEncode(second.Sha1()) + "\")"));
}

TEST_F(ClientTokenTest, WrongPinIsSaidNotShown) {
  AddIdentity(1, "Release");
  const std::string pin = folder_.Write("wrong", kWrongPin);
  const SubprocessResult sign = Sign({"-vv", "--token", Uri(pin)});
  EXPECT_EQ(sign.exit_code, 1);
  EXPECT_THAT(sign.err, Explains(tool_, "PIN", "correct the PIN"));
  EXPECT_THAT(sign.out + sign.err, Not(HasSubstr(kWrongPin)));
  EXPECT_EQ(Read("tool"), original_);
}

TEST_F(ClientTokenTest, PinInTheUriIsRefusedAndNotRepeated) {
  const SubprocessResult sign =
      Sign({"--token", std::string("pkcs11:token=release?module-path=") +
                           kSoftHsmModule + "&pin-value=" + kWrongPin});
  EXPECT_EQ(sign.exit_code, 2);
  EXPECT_THAT(sign.err, Explains(tool_, "pin-value", "pin-source"));
  EXPECT_THAT(sign.out + sign.err, Not(HasSubstr(kWrongPin)));
}

TEST_F(ClientTokenTest, ImportedKeyIsRefusedUnlessAllowed) {
  CertificateSpec spec;
  spec.common_name = "Release";
  spec.extended_key_usage = {kCodeSigning};
  const TestIdentity leaf = Issue(spec, root_);
  hsm_.ImportKey("release", "Release", {7}, leaf.key_pem());
  const std::string chain =
      folder_.Write("chain.pem", leaf.pem() + root_.pem());
  const std::vector<std::string> arguments = {
      "sign", "-s", "Release", "--chain", chain, "--token", Uri(), tool_};
  const SubprocessResult refused = Codeseal(arguments);
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.err, Explains(tool_, "", "generate the key inside"));
  EXPECT_EQ(Read("tool"), original_);
  std::vector<std::string> allowed = arguments;
  allowed.insert(allowed.begin() + 1, "--allow-imported-key");
  const SubprocessResult signed_result = Codeseal(allowed);
  EXPECT_EQ(signed_result.exit_code, 0) << signed_result.err;
  ExpectSigned();
}

TEST_F(ClientTokenTest, TokenThatIsNotThere) {
  const SubprocessResult sign =
      Sign({"--timeout", "10", "--token",
            std::string("pkcs11:token=elsewhere?module-path=") +
                kSoftHsmModule + "&pin-source=file:" + hsm_.pin_file()});
  EXPECT_NE(sign.exit_code, 0);
  EXPECT_NE(sign.exit_code, 5) << sign.err;
  EXPECT_THAT(sign.err, Explains(tool_, "elsewhere", ""));
  EXPECT_EQ(Read("tool"), original_);
}

TEST_F(ClientTokenTest, WithoutSourceAndTerminalThePinIsNotGuessed) {
  const std::string uri =
      std::string("pkcs11:token=release?module-path=") + kSoftHsmModule;
  // A session of its own has no terminal.
  const SubprocessResult sign =
      RunProgram({"setsid", "--wait", CODESEAL_CLIENT, "sign", "-s", "Release",
                  "--token", uri, tool_},
                 environment_);
  EXPECT_EQ(sign.exit_code, 1);
  EXPECT_THAT(sign.err, Explains(tool_, "no terminal", "pin-source"));
}

TEST_F(ClientTokenTest, TypedPinSignsAndIsNotEchoed) {
  AddIdentity(1, "Release");
  const std::string uri =
      std::string("pkcs11:token=release?module-path=") + kSoftHsmModule;
  int terminal = -1;
  const pid_t pid = forkpty(&terminal, nullptr, nullptr, nullptr);
  ASSERT_GE(pid, 0);
  if (pid == 0) {
    execl(CODESEAL_CLIENT, "codeseal", "sign", "-s", "Release", "--chain",
          root_path_.c_str(), "--token", uri.c_str(), tool_.c_str(), nullptr);
    _exit(127);
  }
  // What the user sees: the question, then, after typing, no PIN.
  std::string seen;
  bool typed = false;
  std::array<char, 1024> buffer{};
  for (;;) {
    const ssize_t size = read(terminal, buffer.data(), buffer.size());
    if (size <= 0) break;  // the other end is closed
    seen.append(buffer.data(), static_cast<size_t>(size));
    if (!typed && seen.find("PIN of token release: ") != std::string::npos) {
      const std::string line = std::string(SoftHsm::kPin) + "\n";
      ASSERT_EQ(write(terminal, line.data(), line.size()),
                static_cast<ssize_t>(line.size()));
      typed = true;
    }
  }
  close(terminal);
  int status = -1;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(typed);
  EXPECT_EQ(WEXITSTATUS(status), 0) << seen;
  EXPECT_THAT(seen, Not(HasSubstr(SoftHsm::kPin)));
  ExpectSigned();
}

}  // namespace
}  // namespace codeseal::testing
