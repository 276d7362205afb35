// What the audit log costs, and what its proofs cost in a log of a million
// entries.
//
//   audit_bench [--json] [--entries N]
//
//   append   of one entry at a time, and of 16 callers at once: durable, and
//            with a receipt under a signed checkpoint (P-256 in software)
//   proof    of inclusion at random places: bytes and time, tiles from disk
//
// The goals are printed beside the results and never decide the exit code.
// Exit code: 0; 1 something did not work.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "audit/entry.h"
#include "audit/log.h"
#include "nlohmann/json.hpp"
#include "tests/support/software_key.h"
#include "tests/support/temp_folder.h"

namespace codeseal::bench {
namespace {

using SteadyClock = std::chrono::steady_clock;
using Json = nlohmann::json;

constexpr int kAppendCount = 400;
constexpr int kCallerCount = 16;
constexpr int kProofCount = 2000;
constexpr double kProofSizeGoal = 1024;
constexpr double kProofMsGoal = 1;

double MsOf(const std::function<void()>& work) {
  const auto begun_at = SteadyClock::now();
  work();
  return std::chrono::duration<double, std::milli>(SteadyClock::now() -
                                                   begun_at)
      .count();
}

double Quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(q * static_cast<double>(values.size() - 1) +
                                    0.5)];
}

// As a server writes it.
Bytes MakeEntry(uint64_t number) {
  audit::Entry entry;
  entry.kind = audit::EntryKind::kSigned;
  entry.time = absl::FromUnixSeconds(1'767'225'600);
  entry.policy = std::string(64, 'a');
  entry.request_id =
      "00000000-0000-4000-8000-" + std::to_string(100'000'000'000 + number);
  entry.client = "spiffe://corp/ci/runner";
  entry.client_certificate = std::string(64, 'b');
  entry.identity = "developer-id";
  entry.identity_version = "2026a";
  entry.certificate = std::string(64, 'c');
  entry.identifier = "com.example.bench";
  entry.cdhashes = {std::string(40, 'd')};
  entry.decision = "allowed";
  entry.intent = number;
  entry.cms_sha256 = std::string(64, 'e');
  return audit::EncodeEntry(entry);
}

void Check(const absl::Status& status) {
  if (!status.ok()) throw std::runtime_error(status.ToString());
}

Json Distribution(const std::vector<double>& ms) {
  return {{"p50_ms", Quantile(ms, 0.5)}, {"p99_ms", Quantile(ms, 0.99)}};
}

Json MeasureAppend(audit::Log& log, bool wants_receipt) {
  audit::AppendOptions options;
  options.wants_receipt = wants_receipt;
  std::vector<double> alone;
  for (int i = 0; i < kAppendCount; ++i) {
    alone.push_back(MsOf([&] {
      Check(log.Append(MakeEntry(static_cast<uint64_t>(i)), options).status());
    }));
  }
  std::vector<double> together;
  std::mutex mutex;
  const double total_ms = MsOf([&] {
    std::vector<std::thread> callers;
    for (int caller = 0; caller < kCallerCount; ++caller) {
      callers.emplace_back([&] {
        for (int i = 0; i < kAppendCount; ++i) {
          const double ms = MsOf([&] {
            log.Append(MakeEntry(static_cast<uint64_t>(i)), options)
                .status()
                .IgnoreError();
          });
          const std::lock_guard lock(mutex);
          together.push_back(ms);
        }
      });
    }
    for (std::thread& each : callers) each.join();
  });
  Check(log.fault());
  return {{"alone", Distribution(alone)},
          {"of_16", Distribution(together)},
          {"of_16_per_second", kCallerCount * kAppendCount * 1e3 / total_ms}};
}

// Appends without waiting for each, as fast as the log takes them.
void Fill(audit::Log& log, uint64_t size) {
  std::mutex mutex;
  std::condition_variable changed;
  uint64_t unanswered = 0;
  absl::Status fault;
  for (uint64_t i = log.size(); i < size; ++i) {
    {
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return unanswered < 1024; });
      ++unanswered;
    }
    log.Append(MakeEntry(i), audit::AppendOptions(),
               [&](const absl::StatusOr<audit::Receipt>& receipt) {
                 const std::lock_guard lock(mutex);
                 fault.Update(receipt.status());
                 --unanswered;
                 changed.notify_one();
               });
  }
  std::unique_lock lock(mutex);
  changed.wait(lock, [&] { return unanswered == 0; });
  Check(fault);
}

Json MeasureProofs(audit::Log& log) {
  audit::AppendOptions options;
  options.wants_receipt = true;
  const auto last = log.Append(MakeEntry(0), options);
  Check(last.status());
  const uint64_t size = log.size();
  std::mt19937_64 random(20260101);
  std::vector<double> inclusion_ms;
  std::vector<double> consistency_ms;
  double largest = 0;
  for (int i = 0; i < kProofCount; ++i) {
    const uint64_t index = random() % size;
    inclusion_ms.push_back(MsOf([&] {
      const auto proof = log.ProveInclusion(index, size);
      Check(proof.status());
      largest = std::max(
          largest, static_cast<double>(proof->size() * audit::kTreeHashSize));
    }));
    consistency_ms.push_back(
        MsOf([&] { Check(log.ProveConsistency(index, size).status()); }));
  }
  return {{"entries", size},
          {"largest_proof_bytes", largest},
          {"checkpoint_bytes", last->checkpoint.size()},
          {"receipt_bytes", audit::FormatReceipt(*last).size()},
          {"inclusion", Distribution(inclusion_ms)},
          {"consistency", Distribution(consistency_ms)}};
}

int Main(int argc, char** argv) {
  bool json = false;
  uint64_t size = 1'000'000;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--json") {
      json = true;
    } else if (word == "--entries" && i + 1 < argc) {
      size = static_cast<uint64_t>(std::atoll(argv[++i]));
    } else {
      throw std::runtime_error("usage: see the head of audit_bench.cc");
    }
  }
  const testing::TempFolder folder;
  const auto key = testing::SoftwareKey::Generate("p256");
  const auto note_key =
      audit::NoteKey::Create("log.example/bench", audit::NoteKey::Type::kEcdsa,
                             ToBytes(key->public_key()));
  Check(note_key.status());
  audit::LogOptions options;
  options.path = folder.Path("log");
  options.timeout = absl::Seconds(30);
  const auto log = audit::Log::Open(
      options, *note_key, [key](ByteView sha256, absl::Time deadline) {
        return key->Sign(SignMechanism::kEcdsa, SignDigest::kSha256, sha256,
                         deadline);
      });
  Check(log.status());
  Json result = {{"durable", MeasureAppend(**log, false)},
                 {"receipt", MeasureAppend(**log, true)}};
  result["fill_ms"] = MsOf([&] { Fill(**log, size); });
  result["proof"] = MeasureProofs(**log);
  if (json) {
    std::printf("%s\n", result.dump(1).c_str());
    return 0;
  }
  for (const char* what : {"durable", "receipt"}) {
    const Json& row = result[what];
    std::printf(
        "append, %-8s alone p50 %.2f ms, p99 %.2f ms; 16 callers p50 %.2f ms, "
        "p99 %.2f ms, %.0f/s\n",
        what, double{row["alone"]["p50_ms"]}, double{row["alone"]["p99_ms"]},
        double{row["of_16"]["p50_ms"]}, double{row["of_16"]["p99_ms"]},
        double{row["of_16_per_second"]});
  }
  const Json& proof = result["proof"];
  const double bytes = proof["largest_proof_bytes"];
  const double ms = proof["inclusion"]["p99_ms"];
  std::printf(
      "proof in %llu entries: at most %.0f bytes (goal %.0f: %s), p50 %.3f ms, "
      "p99 %.3f ms (goal %.0f: %s); consistency p99 %.3f ms; receipt %llu "
      "bytes\n",
      static_cast<unsigned long long>(proof["entries"].get<uint64_t>()), bytes,
      kProofSizeGoal, bytes <= kProofSizeGoal ? "met" : "not met",
      double{proof["inclusion"]["p50_ms"]}, ms, kProofMsGoal,
      ms <= kProofMsGoal ? "met" : "not met",
      double{proof["consistency"]["p99_ms"]},
      static_cast<unsigned long long>(proof["receipt_bytes"].get<uint64_t>()));
  return 0;
}

}  // namespace
}  // namespace codeseal::bench

int main(int argc, char** argv) {
  try {
    return codeseal::bench::Main(argc, argv);
  } catch (const std::exception& fault) {
    std::fprintf(stderr, "audit_bench: %s\n", fault.what());
    return 1;
  }
}
