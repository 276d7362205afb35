// A PKCS#11 module that forwards to another one and plays a script of faults:
// what tokens do in the field and SoftHSM never does. faults.md describes it.
//
// It is loaded into worker processes, so it uses nothing of codeseal.

#include <dlfcn.h>
#include <fcntl.h>
#include <p11-kit/pkcs11.h>
#include <pthread.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

struct Name {
  const char* text;
  CK_ULONG value;
};

#define NAME(symbol) {#symbol, symbol}
constexpr Name kReturnValues[] = {
    NAME(CKR_OK),
    NAME(CKR_HOST_MEMORY),
    NAME(CKR_GENERAL_ERROR),
    NAME(CKR_FUNCTION_FAILED),
    NAME(CKR_ARGUMENTS_BAD),
    NAME(CKR_CANT_LOCK),
    NAME(CKR_CRYPTOKI_NOT_INITIALIZED),
    NAME(CKR_DATA_LEN_RANGE),
    NAME(CKR_DEVICE_ERROR),
    NAME(CKR_DEVICE_MEMORY),
    NAME(CKR_DEVICE_REMOVED),
    NAME(CKR_KEY_HANDLE_INVALID),
    NAME(CKR_KEY_TYPE_INCONSISTENT),
    NAME(CKR_KEY_FUNCTION_NOT_PERMITTED),
    NAME(CKR_MECHANISM_INVALID),
    NAME(CKR_OBJECT_HANDLE_INVALID),
    NAME(CKR_OPERATION_ACTIVE),
    NAME(CKR_OPERATION_NOT_INITIALIZED),
    NAME(CKR_PIN_INCORRECT),
    NAME(CKR_PIN_EXPIRED),
    NAME(CKR_PIN_LOCKED),
    NAME(CKR_SESSION_CLOSED),
    NAME(CKR_SESSION_COUNT),
    NAME(CKR_SESSION_HANDLE_INVALID),
    NAME(CKR_TOKEN_NOT_PRESENT),
    NAME(CKR_TOKEN_NOT_RECOGNIZED),
    NAME(CKR_USER_NOT_LOGGED_IN),
};
constexpr Name kTokenFlags[] = {
    NAME(CKF_USER_PIN_COUNT_LOW), NAME(CKF_USER_PIN_FINAL_TRY),
    NAME(CKF_USER_PIN_LOCKED),    NAME(CKF_USER_PIN_TO_BE_CHANGED),
    NAME(CKF_LOGIN_REQUIRED),
};
#undef NAME

// A script with a mistake would test nothing: no call is answered then.
[[noreturn]] void Fail(const std::string& message) {
  std::fprintf(stderr, "fault_p11: %s\n", message.c_str());
  std::_Exit(70);
}

template <size_t kSize>
CK_ULONG ParseName(const Name (&names)[kSize], std::string_view text) {
  for (const Name& name : names) {
    if (text == name.text) return name.value;
  }
  if (!text.starts_with("0x")) Fail("unknown name " + std::string(text));
  return std::strtoul(std::string(text).c_str(), nullptr, 16);
}

uint64_t ParseCount(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    Fail("not a number: " + std::string(text));
  }
  return value;
}

std::chrono::milliseconds ParseDelay(std::string_view text) {
  if (text.ends_with("ms")) {
    return std::chrono::milliseconds(
        ParseCount(text.substr(0, text.size() - 2)));
  }
  if (text.ends_with("s")) {
    return std::chrono::seconds(ParseCount(text.substr(0, text.size() - 1)));
  }
  Fail("a delay ends in ms or s: " + std::string(text));
}

// One line of the script.
struct Rule {
  std::string function;
  uint64_t skip = 0;
  uint64_t count = ~uint64_t{0};
  std::optional<CK_RV> rv;
  std::chrono::milliseconds delay{0};
  bool hang = false;
  bool crash = false;
  bool forward = false;  // call the real function, then return `rv`
  bool flip = false;
  bool swap = false;
  bool kill_parent = false;
  std::string sticky_until;  // a function
  CK_FLAGS token_flags = 0;
  std::optional<uint64_t> max_sessions;
  std::optional<std::chrono::milliseconds> idle_time;
  uint64_t every = 1;
  std::vector<std::string> any;  // words, one of them at each turn
};

std::vector<std::string> Split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  std::string part;
  while (std::getline(stream, part, separator)) parts.push_back(part);
  return parts;
}

void ParseWord(const std::string& word, Rule& rule) {
  const size_t equals = word.find('=');
  const std::string name = word.substr(0, equals);
  const std::string value =
      equals == std::string::npos ? "" : word.substr(equals + 1);
  if (name == "skip") {
    rule.skip = ParseCount(value);
  } else if (name == "count") {
    rule.count = ParseCount(value);
  } else if (name == "every") {
    rule.every = ParseCount(value);
    if (rule.every == 0) Fail("every=0");
  } else if (name == "any") {
    rule.any = Split(value, '|');
    Rule each;
    for (const std::string& choice : rule.any) ParseWord(choice, each);
  } else if (name == "rv") {
    rule.rv = ParseName(kReturnValues, value);
  } else if (name == "delay") {
    rule.delay = ParseDelay(value);
  } else if (name == "max") {
    rule.max_sessions = ParseCount(value);
  } else if (name == "idle") {
    rule.idle_time = ParseDelay(value);
  } else if (name == "flags") {
    rule.token_flags |= ParseName(kTokenFlags, "CKF_" + value);
  } else if (name == "until") {
    rule.sticky_until = value;
  } else if (word == "hang") {
    rule.hang = true;
  } else if (word == "crash") {
    rule.crash = true;
  } else if (word == "forward") {
    rule.forward = true;
  } else if (word == "flip") {
    rule.flip = true;
  } else if (word == "kill-parent") {
    rule.kill_parent = true;
  } else if (word == "swap") {
    rule.swap = true;
  } else {
    Fail("unknown word " + word);
  }
}

Rule ParseRule(const std::string& line) {
  std::istringstream words(line);
  Rule rule;
  words >> rule.function;
  std::string word;
  while (words >> word) ParseWord(word, rule);
  return rule;
}

// How often each rule was reached, shared by every process that plays the
// script, so that "the third C_Sign" is the third of all workers together.
struct Counters {
  std::atomic<uint64_t> script_identity;
  std::array<std::atomic<uint64_t>, 64> reached;
};
static_assert(std::atomic<uint64_t>::is_always_lock_free);

class Script {
 public:
  // The rules as the file has them now.
  std::shared_ptr<const std::vector<Rule>> Rules() {
    const char* path = std::getenv("CODESEAL_SHIM_SCRIPT");
    struct stat now{};
    if (path == nullptr || stat(path, &now) != 0) return none_;
    const uint64_t identity = Identity(now);
    const std::lock_guard<std::mutex> lock(mutex_);
    if (identity != identity_ || rules_ == nullptr) Load(path, identity);
    return rules_;
  }

  // Counts that rule `index` was reached; when it is its turn, how often it was
  // reached before.
  std::optional<uint64_t> Fires(const Rule& rule, size_t index) {
    const uint64_t before = counters_->reached.at(index).fetch_add(1);
    if (before < rule.skip) return std::nullopt;
    const uint64_t turn = before - rule.skip;
    if (turn % rule.every != 0 || turn / rule.every >= rule.count) {
      return std::nullopt;
    }
    return turn;
  }

 private:
  static uint64_t Identity(const struct stat& file) {
    return (static_cast<uint64_t>(file.st_ino) << 40) ^
           (static_cast<uint64_t>(file.st_mtim.tv_sec) << 30) ^
           static_cast<uint64_t>(file.st_mtim.tv_nsec) ^
           static_cast<uint64_t>(file.st_size) ^ 1;
  }

  void Load(const char* path, uint64_t identity) {
    auto rules = std::make_shared<std::vector<Rule>>();
    std::ifstream file(path);
    std::string line;
    while (std::getline(file, line)) {
      line.erase(std::min(line.find('#'), line.size()));
      if (line.find_first_not_of(" \t") == std::string::npos) continue;
      rules->push_back(ParseRule(line));
    }
    if (counters_ == nullptr) MapCounters(std::string(path) + ".counters");
    if (rules->size() > counters_->reached.size()) Fail("too many rules");
    flock(counters_fd_, LOCK_EX);
    if (counters_->script_identity != identity) {
      for (auto& each : counters_->reached) each = 0;
      counters_->script_identity = identity;
    }
    flock(counters_fd_, LOCK_UN);
    identity_ = identity;
    rules_ = std::move(rules);
  }

  void MapCounters(const std::string& path) {
    counters_fd_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (counters_fd_ < 0 ||
        ftruncate(counters_fd_, static_cast<off_t>(sizeof(Counters))) != 0) {
      Fail("cannot make " + path);
    }
    void* page = mmap(nullptr, sizeof(Counters), PROT_READ | PROT_WRITE,
                      MAP_SHARED, counters_fd_, 0);
    if (page == MAP_FAILED) Fail("cannot map " + path);
    counters_ = static_cast<Counters*>(page);
  }

  std::mutex mutex_;
  uint64_t identity_ = 0;
  std::shared_ptr<const std::vector<Rule>> rules_;
  const std::shared_ptr<const std::vector<Rule>> none_ =
      std::make_shared<std::vector<Rule>>();
  int counters_fd_ = -1;
  Counters* counters_ = nullptr;
};

Script& TheScript() {
  static Script* const script = new Script;
  return *script;
}

// What every call returns until one function is called.
std::mutex sticky_mutex;
std::atomic<CK_RV> sticky_rv = CKR_OK;
std::string sticky_until;

std::atomic<uint64_t> session_count = 0;

void WriteJournal(const char* function, CK_RV rv) {
  const char* path = std::getenv("CODESEAL_SHIM_JOURNAL");
  if (path == nullptr) return;
  const int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) Fail("cannot write the journal");
  char line[128];
  const int size = std::snprintf(line, sizeof(line), "%d %s %#lx %d\n",
                                 static_cast<int>(getpid()), function, rv,
                                 static_cast<int>(gettid()));
  if (write(fd, line, static_cast<size_t>(size)) != size) {
    Fail("cannot write the journal");
  }
  close(fd);
}

void WriteSignature(const CK_BYTE* signature, CK_ULONG size) {
  const char* path = std::getenv("CODESEAL_SHIM_JOURNAL");
  if (path == nullptr || signature == nullptr) return;
  std::string line;
  for (CK_ULONG i = 0; i < size; ++i) {
    constexpr char kDigits[] = "0123456789abcdef";
    line += kDigits[signature[i] >> 4];
    line += kDigits[signature[i] & 15];
  }
  line += '\n';
  const int fd = open((std::string(path) + ".signatures").c_str(),
                      O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0 || write(fd, line.data(), line.size()) !=
                    static_cast<ssize_t>(line.size())) {
    Fail("cannot write the journal");
  }
  close(fd);
}

std::optional<Rule> FindRule(std::string_view function) {
  const auto rules = TheScript().Rules();
  for (size_t i = 0; i < rules->size(); ++i) {
    const Rule& rule = (*rules)[i];
    if (rule.function != function && rule.function != "*") continue;
    const std::optional<uint64_t> turn = TheScript().Fires(rule, i);
    if (!turn.has_value()) continue;
    if (rule.any.empty()) return rule;
    // Any order will do, if only each run has the same.
    Rule chosen = rule;
    const uint64_t mixed = (*turn + 1) * 0x9e3779b97f4a7c15;
    ParseWord(rule.any[(mixed >> 32) % rule.any.size()], chosen);
    return chosen;
  }
  return std::nullopt;
}

// Until the script no longer says so.
void Hang(std::string_view function) {
  while (true) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    bool hangs = false;
    for (const Rule& rule : *TheScript().Rules()) {
      hangs = hangs || (rule.hang &&
                        (rule.function == function || rule.function == "*"));
    }
    if (!hangs) return;
  }
}

// Answers a call by the script, or by the real function. `rule` is for hooks
// that do more with it.
template <typename Forward>
CK_RV Play(const char* function, const Forward& forward,
           std::optional<Rule>* played = nullptr) {
  const auto answer = [&]() -> CK_RV {
    if (sticky_rv != CKR_OK) {
      const std::lock_guard<std::mutex> lock(sticky_mutex);
      if (sticky_until == function) sticky_rv = CKR_OK;
      if (const CK_RV rv = sticky_rv; rv != CKR_OK) return rv;
    }
    const std::optional<Rule> rule = FindRule(function);
    if (played != nullptr) *played = rule;
    if (!rule.has_value()) return forward();
    if (rule->crash) {
      WriteJournal(function, CKR_VENDOR_DEFINED);
      std::abort();
    }
    if (rule->hang) Hang(function);
    std::this_thread::sleep_for(rule->delay);
    if (rule->kill_parent && !rule->forward) kill(getppid(), SIGKILL);
    if (!rule->rv.has_value()) {
      const CK_RV rv = forward();
      if (rule->kill_parent && rule->forward) kill(getppid(), SIGKILL);
      return rv;
    }
    if (!rule->sticky_until.empty()) {
      const std::lock_guard<std::mutex> lock(sticky_mutex);
      sticky_until = rule->sticky_until;
      sticky_rv = *rule->rv;
    }
    if (rule->forward) forward();
    return *rule->rv;
  };
  const CK_RV rv = answer();
  WriteJournal(function, rv);
  return rv;
}

CK_FUNCTION_LIST* Real() {
  static CK_FUNCTION_LIST* const functions = [] {
    const char* path = std::getenv("CODESEAL_SHIM_MODULE");
    if (path == nullptr) path = "/usr/lib/softhsm/libsofthsm2.so";
    void* object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (object == nullptr) Fail(dlerror());
    const auto get = reinterpret_cast<CK_C_GetFunctionList>(
        dlsym(object, "C_GetFunctionList"));
    CK_FUNCTION_LIST* list = nullptr;
    if (get == nullptr || get(&list) != CKR_OK) Fail("no function list");
    return list;
  }();
  return functions;
}

// When each session was last used, for `sessions idle=`.
std::mutex idle_mutex;
std::map<CK_SESSION_HANDLE, std::chrono::steady_clock::time_point> last_use;

// Notes that the session is used now; closes it when it was idle for too long.
bool HasExpired(CK_SESSION_HANDLE session) {
  for (const Rule& rule : *TheScript().Rules()) {
    if (rule.function != "sessions" || !rule.idle_time.has_value()) continue;
    const auto now = std::chrono::steady_clock::now();
    const std::lock_guard<std::mutex> lock(idle_mutex);
    const auto known = last_use.find(session);
    if (known != last_use.end() && now - known->second > *rule.idle_time) {
      last_use.erase(known);
      Real()->C_CloseSession(session);
      --session_count;
      return true;
    }
    last_use[session] = now;
  }
  return false;
}

#define HOOK(name, parameters, arguments)                       \
  CK_RV Hook##name parameters {                                 \
    return Play(#name, [&] { return Real()->name arguments; }); \
  }

// As HOOK, for functions whose first argument is a session.
#define SESSION_HOOK(name, parameters, arguments)               \
  CK_RV Hook##name parameters {                                 \
    if (HasExpired(session)) {                                  \
      WriteJournal(#name, CKR_SESSION_HANDLE_INVALID);          \
      return CKR_SESSION_HANDLE_INVALID;                        \
    }                                                           \
    return Play(#name, [&] { return Real()->name arguments; }); \
  }

HOOK(C_Initialize, (void* args), (args))
HOOK(C_GetSlotList, (CK_BBOOL present, CK_SLOT_ID* list, CK_ULONG* count),
     (present, list, count))
SESSION_HOOK(C_GetSessionInfo,
             (CK_SESSION_HANDLE session, CK_SESSION_INFO* out), (session, out))
SESSION_HOOK(C_Login,
             (CK_SESSION_HANDLE session, CK_USER_TYPE user, CK_UTF8CHAR* pin,
              CK_ULONG size),
             (session, user, pin, size))
SESSION_HOOK(C_Logout, (CK_SESSION_HANDLE session), (session))
SESSION_HOOK(C_FindObjectsInit,
             (CK_SESSION_HANDLE session, CK_ATTRIBUTE* search, CK_ULONG count),
             (session, search, count))
HOOK(C_FindObjects,
     (CK_SESSION_HANDLE session, CK_OBJECT_HANDLE* out, CK_ULONG most,
      CK_ULONG* count),
     (session, out, most, count))
SESSION_HOOK(C_GetAttributeValue,
             (CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object,
              CK_ATTRIBUTE* out, CK_ULONG count),
             (session, object, out, count))
HOOK(C_CreateObject,
     (CK_SESSION_HANDLE session, CK_ATTRIBUTE* attributes, CK_ULONG count,
      CK_OBJECT_HANDLE* object),
     (session, attributes, count, object))
HOOK(C_GenerateKeyPair,
     (CK_SESSION_HANDLE session, CK_MECHANISM* mechanism,
      CK_ATTRIBUTE* public_template, CK_ULONG public_count,
      CK_ATTRIBUTE* private_template, CK_ULONG private_count,
      CK_OBJECT_HANDLE* public_key, CK_OBJECT_HANDLE* private_key),
     (session, mechanism, public_template, public_count, private_template,
      private_count, public_key, private_key))
#undef HOOK
#undef SESSION_HOOK

CK_RV HookC_Finalize(void* reserved) {
  session_count = 0;
  return Play("C_Finalize", [&] { return Real()->C_Finalize(reserved); });
}

CK_RV HookC_GetTokenInfo(CK_SLOT_ID slot, CK_TOKEN_INFO* out) {
  std::optional<Rule> rule;
  const CK_RV rv = Play(
      "C_GetTokenInfo", [&] { return Real()->C_GetTokenInfo(slot, out); },
      &rule);
  if (rv == CKR_OK && rule.has_value()) out->flags |= rule->token_flags;
  return rv;
}

CK_RV HookC_OpenSession(CK_SLOT_ID slot, CK_FLAGS flags, void* application,
                        CK_NOTIFY notify, CK_SESSION_HANDLE* session) {
  for (const Rule& rule : *TheScript().Rules()) {
    if (rule.function == "sessions" && rule.max_sessions.has_value() &&
        session_count >= *rule.max_sessions) {
      WriteJournal("C_OpenSession", CKR_SESSION_COUNT);
      return CKR_SESSION_COUNT;
    }
  }
  const CK_RV rv = Play("C_OpenSession", [&] {
    return Real()->C_OpenSession(slot, flags, application, notify, session);
  });
  if (rv == CKR_OK) {
    ++session_count;
    const std::lock_guard<std::mutex> lock(idle_mutex);
    last_use[*session] = std::chrono::steady_clock::now();
  }
  return rv;
}

CK_RV HookC_CloseSession(CK_SESSION_HANDLE session) {
  const CK_RV rv =
      Play("C_CloseSession", [&] { return Real()->C_CloseSession(session); });
  if (rv == CKR_OK && session_count > 0) --session_count;
  return rv;
}

CK_RV HookC_CloseAllSessions(CK_SLOT_ID slot) {
  const CK_RV rv = Play("C_CloseAllSessions",
                        [&] { return Real()->C_CloseAllSessions(slot); });
  if (rv == CKR_OK) session_count = 0;
  return rv;
}

// Another private key of the same type than `key`; `key` when there is none.
CK_OBJECT_HANDLE OtherPrivateKey(CK_SESSION_HANDLE session,
                                 CK_OBJECT_HANDLE key) {
  CK_OBJECT_CLASS object_class = CKO_PRIVATE_KEY;
  CK_KEY_TYPE type = 0;
  CK_ATTRIBUTE search[] = {{CKA_CLASS, &object_class, sizeof(object_class)},
                           {CKA_KEY_TYPE, &type, sizeof(type)}};
  Real()->C_GetAttributeValue(session, key, &search[1], 1);
  std::array<CK_OBJECT_HANDLE, 16> found{};
  CK_ULONG count = 0;
  Real()->C_FindObjectsInit(session, search, 2);
  Real()->C_FindObjects(session, found.data(), found.size(), &count);
  Real()->C_FindObjectsFinal(session);
  for (CK_ULONG i = 0; i < count && i < found.size(); ++i) {
    if (found[i] != key) return found[i];
  }
  return key;
}

CK_RV HookC_SignInit(CK_SESSION_HANDLE session, CK_MECHANISM* mechanism,
                     CK_OBJECT_HANDLE key) {
  if (HasExpired(session)) {
    WriteJournal("C_SignInit", CKR_SESSION_HANDLE_INVALID);
    return CKR_SESSION_HANDLE_INVALID;
  }
  std::optional<Rule> rule;
  return Play(
      "C_SignInit",
      [&] {
        if (rule.has_value() && rule->swap) {
          key = OtherPrivateKey(session, key);
        }
        return Real()->C_SignInit(session, mechanism, key);
      },
      &rule);
}

CK_RV HookC_Sign(CK_SESSION_HANDLE session, CK_BYTE* input, CK_ULONG input_size,
                 CK_BYTE* signature, CK_ULONG* signature_size) {
  std::optional<Rule> rule;
  const CK_RV rv = Play(
      "C_Sign",
      [&] {
        const CK_RV made = Real()->C_Sign(session, input, input_size, signature,
                                          signature_size);
        if (made == CKR_OK) WriteSignature(signature, *signature_size);
        return made;
      },
      &rule);
  if (rv == CKR_OK && rule.has_value() && rule->flip && signature != nullptr &&
      *signature_size > 8) {
    signature[8] ^= 1;
  }
  return rv;
}

// PKCS#11 must not be used after a fork: the journal shows each. Also in
// processes that the shim is preloaded into.
__attribute__((constructor)) void WatchForks() {
  pthread_atfork(nullptr, nullptr, [] { WriteJournal("fork", CKR_OK); });
}

}  // namespace

extern "C" __attribute__((visibility("default"))) CK_RV
C_GetFunctionList(CK_FUNCTION_LIST** list) {
  // What is not hooked goes straight to the real module.
  static CK_FUNCTION_LIST functions = [] {
    CK_FUNCTION_LIST copy = *Real();
#define SET(name) copy.name = Hook##name
    SET(C_Initialize);
    SET(C_Finalize);
    SET(C_GetSlotList);
    SET(C_GetTokenInfo);
    SET(C_OpenSession);
    SET(C_CloseSession);
    SET(C_CloseAllSessions);
    SET(C_GetSessionInfo);
    SET(C_Login);
    SET(C_Logout);
    SET(C_CreateObject);
    SET(C_FindObjectsInit);
    SET(C_FindObjects);
    SET(C_GetAttributeValue);
    SET(C_SignInit);
    SET(C_Sign);
    SET(C_GenerateKeyPair);
#undef SET
    copy.C_GetFunctionList = C_GetFunctionList;
    return copy;
  }();
  *list = &functions;
  return CKR_OK;
}
