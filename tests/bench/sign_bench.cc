// What codeseal costs over a token used directly, as ratios from one run: this
// machine's speed changes by the minute, so both sides are measured in turn.
//
//   sign_bench [--json] [--rounds N] [--seconds S] [--sessions N] [--only WORD]
//
//   throughput  signatures a second, through gRPC, mutual TLS and a codeseald
//               process, over C_SignInit + C_Sign with as many sessions
//   latency     of one signature at a time, minus that of C_SignInit + C_Sign
//   parts       what policy, ledger, audit log and timestamp add to a call
//
// The goals are printed beside the results and never decide the exit code: a
// busy machine is not a fault. Exit code: 0; 1 something did not work.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "codeseal/v1/signing.grpc.pb.h"
#include "nlohmann/json.hpp"
#include "tests/bench/bench_world.h"
#include "tests/bench/raw_token.h"
#include "tests/support/sign_request_builder.h"

namespace codeseal::bench {
namespace {

using SteadyClock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;
using Json = nlohmann::json;

constexpr char kEntitlements[] =
    R"(<plist version="1.0"><dict>
<key>com.apple.security.network.client</key><true/>
<key>com.apple.security.cs.allow-jit</key><true/>
</dict></plist>)";

// Caught by main(), so that the server is stopped and its files are removed.
[[noreturn]] void Fail(const std::string& message) {
  throw std::runtime_error(message);
}

struct Options {
  bool json = false;
  int round_count = 9;
  double seconds = 1.0;  // of each side in each round
  size_t session_count = 4;
  int latency_count = 400;
  std::string only;  // measures the scenarios whose names hold this
};

// What is measured: the same key and module on both sides.
struct Scenario {
  const char* name;
  BenchKey key;
  size_t session_count;
  bool slow_token;  // each C_Sign waits 20 ms, as a network HSM does
  BenchParts parts;
  double goal;  // of the ratio; 0: for information
};

// What one part adds to each signature, over a server that has none.
struct Part {
  const char* name;
  BenchKey key;
  BenchParts parts;
};

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 != 0 ? values[half]
                                : (values[half - 1] + values[half]) / 2;
}

double Quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  const auto index =
      static_cast<size_t>(q * static_cast<double>(values.size() - 1) + 0.5);
  return values[index];
}

double SecondsOf(const std::function<void()>& work) {
  const auto begun_at = SteadyClock::now();
  work();
  return Seconds(SteadyClock::now() - begun_at).count();
}

// Answers a second between the end of a short warm-up and the end.
class RateMeter {
 public:
  explicit RateMeter(double seconds)
      : from_(SteadyClock::now() + std::chrono::milliseconds(200)),
        to_(from_ + std::chrono::duration_cast<SteadyClock::duration>(
                        Seconds(seconds))) {}

  bool IsOver() const { return SteadyClock::now() >= to_; }
  void Count() {
    const auto now = SteadyClock::now();
    if (now >= from_ && now < to_) ++count_;
  }
  double Rate() const {
    return static_cast<double>(count_) / Seconds(to_ - from_).count();
  }

 private:
  const SteadyClock::time_point from_;
  const SteadyClock::time_point to_;
  std::atomic<uint64_t> count_ = 0;
};

double RawRate(RawToken& token, double seconds) {
  RateMeter meter(seconds);
  std::vector<std::thread> threads;
  for (size_t session = 0; session < token.session_count(); ++session) {
    threads.emplace_back([&, session] {
      while (!meter.IsOver()) {
        token.Sign(session);
        meter.Count();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return meter.Rate();
}

// Signs through the server.
class Remote {
 public:
  Remote(const BenchWorld& world, const BenchParts& parts)
      : stub_(v1::SigningService::NewStub(world.channel())),
        request_(MakeRequest(world.identity(), parts)) {}

  // One call, one signature.
  void Sign() {
    grpc::ClientContext context;
    v1::SignResponse response;
    const grpc::Status status = stub_->Sign(&context, NewRequest(), &response);
    if (!status.ok()) Fail("Sign: " + status.error_message());
    if (response.cms().empty()) Fail("Sign: an empty CMS");
  }

  // One stream, `in_flight` requests unanswered at any time.
  double StreamRate(size_t in_flight, double seconds) {
    grpc::ClientContext context;
    const auto stream = stub_->SignStream(&context);
    v1::SignStreamRequest open;
    open.mutable_open()->set_identity(request_.identity());
    if (!stream->Write(open)) Fail("the stream did not open");

    RateMeter meter(seconds);
    std::mutex mutex;
    std::condition_variable changed;
    uint64_t credit = 0;
    uint64_t unanswered = 0;
    bool ended = false;
    std::string fault;
    std::thread reader([&] {
      v1::SignStreamResponse response;
      while (stream->Read(&response)) {
        const std::lock_guard lock(mutex);
        if (response.has_credit()) credit += response.credit().items();
        if (response.has_result()) {
          if (!response.result().has_response()) {
            fault = response.result().error().ShortDebugString();
            break;
          }
          meter.Count();
          --unanswered;
        }
        changed.notify_one();
      }
      if (!fault.empty()) context.TryCancel();
      const std::lock_guard lock(mutex);
      ended = true;
      changed.notify_one();
    });
    while (!meter.IsOver()) {
      {
        std::unique_lock lock(mutex);
        changed.wait(lock, [&] {
          return ended || unanswered < std::min<uint64_t>(credit, in_flight);
        });
        if (ended) break;
        ++unanswered;
      }
      v1::SignStreamRequest message;
      *message.mutable_item() = NewRequest();
      if (!stream->Write(message)) break;
    }
    v1::SignStreamRequest close;
    close.mutable_close();
    stream->Write(close);
    stream->WritesDone();
    reader.join();
    const grpc::Status status = stream->Finish();
    if (!fault.empty()) Fail("SignStream: " + fault);
    if (!status.ok()) Fail("SignStream: " + status.error_message());
    return meter.Rate();
  }

 private:
  // The CodeDirectory of a small program. The signing time is always the same:
  // so is an RSA signature, and its timestamp comes from the cache.
  static v1::SignRequest MakeRequest(const std::string& identity,
                                     const BenchParts& parts) {
    testing::SignRequestSpec spec;
    spec.identity = identity;
    spec.identifier = "com.example.bench";
    spec.code_page_count = 25;
    if (parts.policy) {
      spec.entitlements = kEntitlements;
    }
    v1::SignRequest request = testing::BuildSignRequest(spec);
    request.mutable_signing_time()->set_seconds(std::time(nullptr));
    if (!parts.timestamps) request.set_timestamp(v1::TIMESTAMP_MODE_NONE);
    return request;
  }

  v1::SignRequest NewRequest() const {
    v1::SignRequest request = request_;
    request.set_request_id(testing::RandomUuid());
    return request;
  }

  const std::unique_ptr<v1::SigningService::Stub> stub_;
  const v1::SignRequest request_;
};

Json Measure(const Scenario& scenario, const Options& options) {
  const BenchWorld world({.key = scenario.key,
                          .session_count = scenario.session_count,
                          .slow_token = scenario.slow_token,
                          .parts = scenario.parts});
  RawToken raw(world.raw_options());
  Remote remote(world, scenario.parts);
  remote.Sign();  // The first signature starts the token's worker.

  std::vector<double> raw_rates;
  std::vector<double> remote_rates;
  std::vector<double> ratios;
  for (int round = 0; round < options.round_count; ++round) {
    raw_rates.push_back(RawRate(raw, options.seconds));
    remote_rates.push_back(
        remote.StreamRate(4 * scenario.session_count, options.seconds));
    ratios.push_back(remote_rates.back() / raw_rates.back());
  }

  std::vector<double> raw_latencies;
  std::vector<double> remote_latencies;
  const int latency_count =
      scenario.slow_token ? options.latency_count / 4 : options.latency_count;
  for (int i = 0; i < latency_count; ++i) {
    raw_latencies.push_back(SecondsOf([&] { raw.Sign(0); }));
    remote_latencies.push_back(SecondsOf([&] { remote.Sign(); }));
  }
  const auto added_ms = [&](double q) {
    return 1e3 * (Quantile(remote_latencies, q) - Quantile(raw_latencies, q));
  };
  return {
      {"name", scenario.name},
      {"sessions", scenario.session_count},
      {"ratio", Median(ratios)},
      {"goal", scenario.goal},
      {"raw_per_second", Median(raw_rates)},
      {"codeseal_per_second", Median(remote_rates)},
      {"raw_p50_ms", 1e3 * Quantile(raw_latencies, 0.5)},
      {"raw_p99_ms", 1e3 * Quantile(raw_latencies, 0.99)},
      {"added_p50_ms", added_ms(0.5)},
      {"added_p99_ms", added_ms(0.99)},
  };
}

void Print(const Json& result) {
  const double ratio = result["ratio"];
  const double goal = result["goal"];
  std::printf("%-30s %2d sessions  ratio %.2f",
              std::string(result["name"]).c_str(), int{result["sessions"]},
              ratio);
  if (goal > 0) {
    std::printf(" (goal %.2f: %s)", goal, ratio >= goal ? "met" : "not met");
  }
  std::printf("  %.0f/s over %.0f/s\n", double{result["codeseal_per_second"]},
              double{result["raw_per_second"]});
  std::printf(
      "%-30s added latency p50 %.2f ms, p99 %.2f ms, to %.2f and %.2f\n", "",
      double{result["added_p50_ms"]}, double{result["added_p99_ms"]},
      double{result["raw_p50_ms"]}, double{result["raw_p99_ms"]});
  std::fflush(stdout);
}

// Latencies of one call after the other, in ms.
std::vector<double> Latencies(const Part& part, const Options& options) {
  const BenchWorld world({.key = part.key, .parts = part.parts});
  Remote remote(world, part.parts);
  for (int i = 0; i < 20; ++i) remote.Sign();
  std::vector<double> latencies;
  for (int i = 0; i < options.latency_count; ++i) {
    latencies.push_back(1e3 * SecondsOf([&] { remote.Sign(); }));
  }
  return latencies;
}

// Each part in a server of its own, beside one without, since a machine's speed
// changes within minutes.
Json MeasurePart(const Part& part, const Options& options) {
  std::vector<double> p50;
  std::vector<double> p99;
  std::vector<double> alone;
  for (int round = 0; round < 3; ++round) {
    const std::vector<double> without =
        Latencies({"", part.key, BenchParts()}, options);
    const std::vector<double> with = Latencies(part, options);
    p50.push_back(Quantile(with, 0.5) - Quantile(without, 0.5));
    p99.push_back(Quantile(with, 0.99) - Quantile(without, 0.99));
    alone.push_back(Quantile(without, 0.5));
  }
  return {{"name", part.name},
          {"added_p50_ms", Median(p50)},
          {"added_p99_ms", Median(p99)},
          {"without_p50_ms", Median(alone)}};
}

void PrintPart(const Json& result) {
  std::printf("%-30s adds p50 %.2f ms, p99 %.2f ms, to %.2f ms a call\n",
              std::string(result["name"]).c_str(),
              double{result["added_p50_ms"]}, double{result["added_p99_ms"]},
              double{result["without_p50_ms"]});
  std::fflush(stdout);
}

Options ReadOptions(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--json") {
      options.json = true;
      continue;
    }
    if (word == "--only" && i + 1 < argc) {
      options.only = argv[++i];
      continue;
    }
    const double value = i + 1 < argc ? std::atof(argv[++i]) : 0;
    if (value <= 0) Fail("usage: see the head of sign_bench.cc");
    if (word == "--rounds") {
      options.round_count = static_cast<int>(value);
    } else if (word == "--seconds") {
      options.seconds = value;
    } else if (word == "--sessions") {
      options.session_count = static_cast<size_t>(value);
    } else {
      Fail("there is no option " + word);
    }
  }
  return options;
}

int Main(int argc, char** argv) {
  const Options options = ReadOptions(argc, argv);
  const BenchParts none;
  const BenchParts ledger = {.ledger = true};
  const BenchParts all = {
      .policy = true, .ledger = true, .audit = true, .timestamps = true};
  const std::vector<Scenario> scenarios = {
      {"RSA-2048", BenchKey::kRsa2048, options.session_count, false, none,
       0.70},
      {"RSA-2048, ledger", BenchKey::kRsa2048, options.session_count, false,
       ledger, 0},
      {"RSA-2048, 20 ms token", BenchKey::kRsa2048, 16, true, none, 0.90},
      {"RSA-2048, 20 ms token, all on", BenchKey::kRsa2048, 16, true, all,
       0.90},
      {"P-256", BenchKey::kP256, options.session_count, false, none, 0},
      // What SoftHSM itself computes after the 20 ms, a network HSM does not
      // take from this machine: with P-256 it is next to nothing.
      {"P-256, 20 ms token", BenchKey::kP256, 16, true, none, 0.90},
      {"P-256, 20 ms token, ledger", BenchKey::kP256, 16, true, ledger, 0.90},
      {"P-256, 20 ms token, audit too",
       BenchKey::kP256,
       16,
       true,
       {.policy = true, .ledger = true, .audit = true},
       0.90},
      // Every signature differs: the authority, on this machine, is asked.
      {"P-256, 20 ms token, all on", BenchKey::kP256, 16, true, all, 0.90},
  };
  const std::vector<Part> parts = {
      {"part: policy", BenchKey::kRsa2048, {.policy = true}},
      {"part: ledger", BenchKey::kRsa2048, ledger},
      {"part: ledger and audit log",
       BenchKey::kRsa2048,
       {.ledger = true, .audit = true}},
      {"part: timestamp, cached", BenchKey::kRsa2048, {.timestamps = true}},
      {"part: timestamp, asked for", BenchKey::kP256, {.timestamps = true}},
  };
  Json results = Json::array();
  for (const Scenario& scenario : scenarios) {
    if (std::string(scenario.name).find(options.only) == std::string::npos) {
      continue;
    }
    results.push_back(Measure(scenario, options));
    if (!options.json) Print(results.back());
  }
  for (const Part& part : parts) {
    if (std::string(part.name).find(options.only) == std::string::npos) {
      continue;
    }
    results.push_back(MeasurePart(part, options));
    if (!options.json) PrintPart(results.back());
  }
  if (options.json) std::printf("%s\n", results.dump(1).c_str());
  return 0;
}

}  // namespace
}  // namespace codeseal::bench

int main(int argc, char** argv) {
  try {
    return codeseal::bench::Main(argc, argv);
  } catch (const std::exception& fault) {
    std::fprintf(stderr, "sign_bench: %s\n", fault.what());
    return 1;
  }
}
