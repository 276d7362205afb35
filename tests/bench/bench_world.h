// All that a benchmark of signing needs, made afresh: a SoftHSM token with a
// key generated inside it, certificates, and a codeseald process.
//
//   [BenchWorld] -> channel with mutual TLS; the same token for RawToken

#ifndef CODESEAL_TESTS_BENCH_BENCH_WORLD_H_
#define CODESEAL_TESTS_BENCH_BENCH_WORLD_H_

#include <cstddef>
#include <memory>
#include <string>

#include "grpcpp/channel.h"
#include "tests/bench/raw_token.h"

namespace codeseal::bench {

enum class BenchKey { kRsa2048, kP256 };

// What a server does besides signing.
struct BenchParts {
  bool policy = false;  // identifiers, flags, entitlements with rules
  bool ledger = false;  // it keeps what it signs
  bool audit = false;   // it keeps its log; the log's key is on a token as slow
  // From an authority in this process that answers at once.
  bool timestamps = false;
};

struct BenchWorldOptions {
  BenchKey key = BenchKey::kRsa2048;
  size_t session_count = 4;
  bool slow_token = false;  // each C_Sign takes 20 ms more, for both sides
  BenchParts parts;
};

// One object at a time: the token is chosen by the environment of this process.
// Ends the process with a message when something fails; stops the server and
// removes all files when it is destroyed.
class BenchWorld {
 public:
  using Options = BenchWorldOptions;
  explicit BenchWorld(const Options& options);
  ~BenchWorld();
  BenchWorld(const BenchWorld&) = delete;
  BenchWorld& operator=(const BenchWorld&) = delete;

  // A new connection to the server.
  std::shared_ptr<grpc::Channel> channel() const;
  const std::string& identity() const;
  // The server's token, to be used directly by this process.
  const RawToken::Options& raw_options() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace codeseal::bench

#endif  // CODESEAL_TESTS_BENCH_BENCH_WORLD_H_
