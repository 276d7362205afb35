#include "server/metrics.h"

#include <chrono>
#include <map>
#include <sstream>

#include "codesign/base/error.h"
#include "prometheus/counter.h"
#include "prometheus/gauge.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"
#include "prometheus/text_serializer.h"

namespace codeseal {
namespace {

using Steady = std::chrono::steady_clock;

constexpr char kOther[] = "other";

// Seconds. A software token answers in milliseconds, a network HSM behind a
// timestamp authority in seconds.
const prometheus::Histogram::BucketBoundaries& Buckets() {
  static const auto* const buckets =
      new prometheus::Histogram::BucketBoundaries{
          0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
          0.5,   1,     2.5,  5,     10,   30,  60};
  return *buckets;
}

prometheus::Labels ToMap(const Metrics::Labels& labels) {
  return {labels.begin(), labels.end()};
}

}  // namespace

struct Metrics::Impl {
  struct Read {
    prometheus::Gauge* gauge = nullptr;  // one of the two
    prometheus::Counter* counter = nullptr;
    std::function<double()> value;
  };

  std::unordered_map<std::string, std::string> identities;
  prometheus::Registry registry;
  prometheus::Family<prometheus::Counter>* requests = nullptr;
  std::map<std::string, prometheus::Histogram*> seconds;  // by identity
  std::vector<Read> reads;
};

Metrics::Metrics(std::unordered_map<std::string, std::string> identities)
    : impl_(std::make_unique<Impl>()) {
  impl_->identities = std::move(identities);
  impl_->requests = &prometheus::BuildCounter()
                         .Name("codeseal_requests_total")
                         .Help("Signing requests that were answered, by how.")
                         .Register(impl_->registry);
  auto& seconds = prometheus::BuildHistogram()
                      .Name("codeseal_request_duration_seconds")
                      .Help(
                          "From the arrival of a signing request to its "
                          "answer; only those that were signed.")
                      .Register(impl_->registry);
  for (const auto& [alias, name] : impl_->identities) {
    impl_->seconds[name] = &seconds.Add({{"identity", name}}, Buckets());
  }
}

Metrics::~Metrics() = default;

Metrics::Done Metrics::CountWhenDone(const std::string& identity, Done done) {
  const auto known = impl_->identities.find(identity);
  const std::string name =
      known == impl_->identities.end() ? kOther : known->second;
  return [this, name, begun = Steady::now(),
          done = std::move(done)](absl::StatusOr<v1::SignResponse> result) {
    const absl::Status& status = result.status();
    impl_->requests
        ->Add(
            {{"identity", name},
             {"code", absl::StatusCodeToString(status.code())},
             {"reason", status.ok() ? "" : v1::Reason_Name(GetReason(status))}})
        .Increment();
    if (const auto found = impl_->seconds.find(name);
        status.ok() && found != impl_->seconds.end()) {
      found->second->Observe(
          std::chrono::duration<double>(Steady::now() - begun).count());
    }
    done(std::move(result));
  };
}

void Metrics::AddGauge(const std::string& name, const std::string& help,
                       const Labels& labels, std::function<double()> read) {
  prometheus::Gauge& gauge = prometheus::BuildGauge()
                                 .Name(name)
                                 .Help(help)
                                 .Register(impl_->registry)
                                 .Add(ToMap(labels));
  impl_->reads.push_back({&gauge, nullptr, std::move(read)});
}

void Metrics::AddCounter(const std::string& name, const std::string& help,
                         const Labels& labels, std::function<double()> read) {
  prometheus::Counter& counter = prometheus::BuildCounter()
                                     .Name(name)
                                     .Help(help)
                                     .Register(impl_->registry)
                                     .Add(ToMap(labels));
  impl_->reads.push_back({nullptr, &counter, std::move(read)});
}

std::string Metrics::Text() const {
  for (const Impl::Read& each : impl_->reads) {
    if (each.gauge != nullptr) {
      each.gauge->Set(each.value());
    } else {
      // Two who ask at once may both add: it never falls, and is right again
      // at the next question.
      each.counter->Increment(each.value() - each.counter->Value());
    }
  }
  std::ostringstream text;
  prometheus::TextSerializer().Serialize(text, impl_->registry.Collect());
  return text.str();
}

}  // namespace codeseal
