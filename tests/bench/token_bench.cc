// How many sessions a token is worth: signatures a second through the worker
// process, by session count, over C_SignInit + C_Sign on as many sessions and
// threads. Both sides are measured in turn, because this machine's speed
// changes by the minute.
//
//   token_bench [--json] [--rounds N] [--seconds S] [--only WORD]
//
// Exit code: 0; 1 something did not work.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "codesign/base/error.h"
#include "hsm/token.h"
#include "nlohmann/json.hpp"
#include "tests/bench/raw_token.h"
#include "tests/support/fault_shim.h"
#include "tests/support/softhsm.h"

namespace codeseal::bench {
namespace {

using ::codeseal::testing::FaultShim;
using ::codeseal::testing::kSoftHsmModule;
using ::codeseal::testing::SoftHsm;
using SteadyClock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;
using Json = nlohmann::json;

constexpr size_t kSessionCounts[] = {1, 2, 4, 8, 16};

struct Options {
  bool json = false;
  int round_count = 3;
  double seconds = 1.0;  // of each side in each round
  std::string only;
};

struct BenchKey {
  const char* name;
  KeyAlgorithm algorithm;
  uint8_t id;
};
constexpr BenchKey kKeys[] = {{"rsa2048", KeyAlgorithm::kRsa2048, 1},
                              {"rsa4096", KeyAlgorithm::kRsa4096, 2},
                              {"p256", KeyAlgorithm::kP256, 3}};

// Caught by main(), so that files are removed.
template <typename T>
T Must(absl::StatusOr<T> value) {
  if (!value.ok()) throw std::runtime_error(value.status().ToString());
  return *std::move(value);
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Calls `sign(thread)` on `thread_count` threads; how often a second.
double Rate(size_t thread_count, double seconds,
            const std::function<void(size_t)>& sign) {
  const auto from = SteadyClock::now() + std::chrono::milliseconds(100);
  const auto to = from + std::chrono::duration_cast<SteadyClock::duration>(
                             Seconds(seconds));
  std::atomic<uint64_t> count = 0;
  std::vector<std::thread> threads;
  for (size_t thread = 0; thread < thread_count; ++thread) {
    threads.emplace_back([&, thread] {
      while (SteadyClock::now() < to) {
        sign(thread);
        const auto now = SteadyClock::now();
        if (now >= from && now < to) ++count;
      }
    });
  }
  for (std::thread& each : threads) each.join();
  return static_cast<double>(count) / seconds;
}

// One key on one token with one session count.
Json Measure(const SoftHsm& softhsm, const std::string& module,
             const BenchKey& key, size_t session_count,
             const Options& options) {
  TokenConfig config = softhsm.Config("bench");
  config.module = module;
  config.session_count = static_cast<uint32_t>(session_count);
  const auto token = Must(Token::Create(config));
  const auto backend = Must(token->LoadKey(
      {{key.id}, ""}, KeyPolicy::kStrict, {}, absl::Now() + absl::Seconds(60)));
  const bool rsa = key.algorithm != KeyAlgorithm::kP256;
  std::atomic<bool> failed = false;
  const Bytes digest(32, 0x5a);
  const auto sign = [&](size_t) {
    failed = failed ||
             !backend
                  ->Sign(rsa ? SignMechanism::kRsaPkcs1 : SignMechanism::kEcdsa,
                         SignDigest::kSha256, digest,
                         absl::Now() + absl::Seconds(60))
                  .ok();
  };
  RawToken raw(
      {.module = module,
       .token_label = "bench",
       .pin = SoftHsm::kPin,
       .key_id = {key.id},
       .mechanism = rsa ? RawMechanism::kRsaPkcs1 : RawMechanism::kEcdsa,
       .session_count = session_count});
  std::vector<double> raw_rates;
  std::vector<double> token_rates;
  std::vector<double> ratios;
  for (int round = 0; round < options.round_count; ++round) {
    raw_rates.push_back(Rate(session_count, options.seconds,
                             [&](size_t session) { raw.Sign(session); }));
    // More callers than sessions, as a server has: the next request is in the
    // worker when a session comes free.
    token_rates.push_back(
        Rate(session_count + session_count / 2 + 2, options.seconds, sign));
    ratios.push_back(token_rates.back() / raw_rates.back());
  }
  if (failed) throw std::runtime_error("a signature failed");
  return {{"sessions", session_count},
          {"raw_per_second", Median(raw_rates)},
          {"token_per_second", Median(token_rates)},
          {"ratio", Median(ratios)}};
}

Options ParseOptions(const std::vector<std::string>& words) {
  Options options;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    const std::string value = i + 1 < words.size() ? words[i + 1] : "";
    if (word == "--json") {
      options.json = true;
      continue;
    }
    ++i;
    if (word == "--rounds") {
      options.round_count = std::max(1, std::atoi(value.c_str()));
    } else if (word == "--seconds") {
      options.seconds = std::max(0.05, std::atof(value.c_str()));
    } else if (word == "--only") {
      options.only = value;
    } else {
      throw std::runtime_error(
          "token_bench [--json] [--rounds N] [--seconds S] [--only WORD]");
    }
  }
  return options;
}

void Run(const Options& options) {
  SoftHsm softhsm;
  softhsm.AddToken("bench");
  {
    const auto token = Must(Token::Create(softhsm.Config("bench")));
    for (const BenchKey& key : kKeys) {
      Must(token->GenerateKey({{key.id}, key.name}, key.algorithm,
                              absl::Now() + absl::Minutes(2)));
    }
  }
  Json results = Json::array();
  for (const bool slow : {false, true}) {
    std::optional<FaultShim> shim;
    if (slow) {
      shim.emplace();
      shim->Play("C_Sign delay=20ms\n");
      unsetenv("CODESEAL_SHIM_JOURNAL");  // it would cost more than signing
    }
    for (const BenchKey& key : kKeys) {
      const std::string name =
          std::string(slow ? "20ms-token " : "softhsm ") + key.name;
      if (name.find(options.only) == std::string::npos) continue;
      if (!options.json) {
        std::printf("%s\n  sessions  raw/s     token/s   token/raw  of best\n",
                    name.c_str());
      }
      std::vector<Json> rows;
      double best = 0;
      for (const size_t session_count : kSessionCounts) {
        rows.push_back(Measure(softhsm,
                               slow ? FaultShim::Module() : kSoftHsmModule, key,
                               session_count, options));
        best = std::max(best, rows.back()["token_per_second"].get<double>());
      }
      for (Json& row : rows) {
        row["name"] = name;
        row["of_best"] = row["token_per_second"].get<double>() / best;
        if (!options.json) {
          std::printf("  %8zu  %8.0f  %8.0f  %9.2f  %7.2f\n",
                      row["sessions"].get<size_t>(),
                      row["raw_per_second"].get<double>(),
                      row["token_per_second"].get<double>(),
                      row["ratio"].get<double>(), row["of_best"].get<double>());
        }
        results.push_back(row);
      }
    }
  }
  if (options.json) std::printf("%s\n", results.dump(2).c_str());
}

}  // namespace
}  // namespace codeseal::bench

int main(int argc, char** argv) {
  try {
    codeseal::bench::Run(codeseal::bench::ParseOptions(
        std::vector<std::string>(argv + 1, argv + argc)));
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "token_bench: %s\n", error.what());
    return 1;
  }
}
