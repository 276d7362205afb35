// What operators see of the server in numbers, for Prometheus.
//
//   request ends -> [Metrics] -> /metrics
//
// Labels are words of the configuration or of our own enumerations, never what
// a caller sent: so their number is bounded, and nothing private shows.

#ifndef CODESEAL_SERVER_METRICS_H_
#define CODESEAL_SERVER_METRICS_H_

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "codeseal/v1/signing.pb.h"

namespace codeseal {

// Thread-safe once every gauge is added.
class Metrics {
 public:
  using Labels = std::vector<std::pair<std::string, std::string>>;
  using Done = std::function<void(absl::StatusOr<v1::SignResponse>)>;

  // `identities`: what callers may write, and the identity's name in the
  // configuration. Everything else is counted as the identity "other".
  explicit Metrics(std::unordered_map<std::string, std::string> identities);
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  // Counts the request, and how long it took, when the result is called.
  Done CountWhenDone(const std::string& identity, Done done);

  // `read` is called whenever somebody asks; it must not wait.
  void AddGauge(const std::string& name, const std::string& help,
                const Labels& labels, std::function<double()> read);
  // The same for what only grows; the name ends in _total.
  void AddCounter(const std::string& name, const std::string& help,
                  const Labels& labels, std::function<double()> read);

  // Everything in the text format of Prometheus.
  std::string Text() const;

 private:
  struct Impl;
  const std::unique_ptr<Impl> impl_;
};

}  // namespace codeseal

#endif  // CODESEAL_SERVER_METRICS_H_
