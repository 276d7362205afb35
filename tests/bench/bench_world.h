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

struct BenchWorldOptions {
  BenchKey key = BenchKey::kRsa2048;
  size_t session_count = 4;
  bool slow_token = false;  // each C_Sign takes 20 ms more, for both sides
  bool ledger = false;      // the server keeps what it signs
  bool audit = false;  // the server keeps its log, the key on a token as slow
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
