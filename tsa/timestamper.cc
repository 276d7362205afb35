#include "tsa/timestamper.h"

#include <curl/curl.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <future>
#include <list>
#include <mutex>
#include <optional>
#include <random>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <utility>

#include "absl/time/clock.h"
#include "codesign/base/digest.h"
#include "codesign/base/error.h"
#include "tsa/breaker.h"

namespace codeseal {
namespace {

constexpr size_t kMaxResponseSize = size_t{256} << 10;
constexpr absl::Duration kFirstPause = absl::Milliseconds(250);
constexpr absl::Duration kLongestPause = absl::Seconds(2);
// How long the loop sleeps when it knows of nothing to do.
constexpr absl::Duration kIdle = absl::Seconds(10);

void InitializeCurl() {
  static std::once_flag once;
  std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
}

std::string Seconds(absl::Duration duration) {
  return std::to_string(absl::ToInt64Seconds(duration)) + " s";
}

}  // namespace

// Everything of the object; all but the incoming jobs belongs to the thread.
class Timestamper::Loop {
 public:
  Loop(TimestamperOptions options, const Clock& clock, OnEvent on_event)
      : options_(std::move(options)),
        clock_(clock),
        on_event_(std::move(on_event)),
        cache_(options_.cache_size) {
    InitializeCurl();
    multi_.reset(curl_multi_init());
    headers_.reset(curl_slist_append(
        nullptr, "Content-Type: application/timestamp-query"));
    headers_.reset(curl_slist_append(headers_.release(),
                                     "Accept: application/timestamp-reply"));
    // No waiting for "100 Continue".
    headers_.reset(curl_slist_append(headers_.release(), "Expect:"));
    const long concurrency = static_cast<long>(options_.concurrency);
    curl_multi_setopt(multi_.get(), CURLMOPT_MAX_TOTAL_CONNECTIONS,
                      concurrency);
    curl_multi_setopt(multi_.get(), CURLMOPT_MAXCONNECTS, concurrency);
    breakers_.resize(options_.urls.size());
    thread_ = std::thread([this] { Run(); });
  }

  ~Loop() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    curl_multi_wakeup(multi_.get());
    thread_.join();
  }

  const TimestamperOptions& options() const { return options_; }

  void Add(Bytes stamped, absl::Time deadline, Done done) {
    auto job = std::make_unique<Job>();
    job->imprint = ToString(ComputeDigest(DigestKind::kSha256, stamped));
    job->stamped = std::move(stamped);
    job->deadline = deadline;
    job->done = std::move(done);
    job->failed.resize(options_.urls.size());
    {
      const std::lock_guard lock(mutex_);
      incoming_.push_back(std::move(job));
    }
    curl_multi_wakeup(multi_.get());
  }

 private:
  template <auto kFree>
  struct CurlDeleter {
    template <typename T>
    void operator()(T* object) const {
      kFree(object);
    }
  };
  using EasyPtr = std::unique_ptr<CURL, CurlDeleter<curl_easy_cleanup>>;
  using MultiPtr = std::unique_ptr<CURLM, CurlDeleter<curl_multi_cleanup>>;
  using HeadersPtr =
      std::unique_ptr<curl_slist, CurlDeleter<curl_slist_free_all>>;

  // Verified tokens by imprint; the oldest go first. Not thread-safe.
  class TokenCache {
   public:
    explicit TokenCache(size_t max_size) : max_size_(max_size) {}

    const Stamp* Find(const std::string& imprint) const {
      const auto found = by_imprint_.find(imprint);
      return found == by_imprint_.end() ? nullptr : &found->second;
    }
    void Add(const std::string& imprint, Stamp stamp) {
      if (max_size_ == 0) return;
      stamp.cached = true;
      if (!by_imprint_.emplace(imprint, std::move(stamp)).second) return;
      order_.push_back(imprint);
      if (order_.size() <= max_size_) return;
      by_imprint_.erase(order_.front());
      order_.pop_front();
    }

   private:
    const size_t max_size_;
    std::unordered_map<std::string, Stamp> by_imprint_;
    std::list<std::string> order_;
  };

  struct Job {
    Bytes stamped;
    std::string imprint;
    absl::Time deadline;
    Done done;
    uint32_t attempt_count = 0;
    uint32_t round_count = 0;  // in which every server had failed
    absl::Time not_before = absl::InfinitePast();
    std::vector<bool> failed;  // servers, in this round
    std::string last_fault;
    bool clock_fault = false;
  };
  using JobPtr = std::unique_ptr<Job>;

  // One query on its way.
  struct Transfer {
    EasyPtr easy;
    JobPtr job;
    size_t server = 0;  // index of its URL
    TimestampQuery query;
    absl::Time sent_at;  // by the clock that tokens are held against
    Bytes response;
  };

  void Run() {
    for (;;) {
      if (TakeIncoming()) break;
      StartWaiting();
      int running = 0;
      curl_multi_perform(multi_.get(), &running);
      bool ended = false;
      int left = 0;
      while (const CURLMsg* message =
                 curl_multi_info_read(multi_.get(), &left)) {
        if (message->msg != CURLMSG_DONE) continue;
        End(message->easy_handle, message->data.result);
        ended = true;
      }
      if (ended) continue;  // there may be room, or a job to try again
      const absl::Duration sleep =
          std::max(absl::ZeroDuration(), NextAt() - absl::Now());
      curl_multi_poll(multi_.get(), nullptr, 0,
                      static_cast<int>(absl::ToInt64Milliseconds(sleep)) + 1,
                      nullptr);
    }
    for (JobPtr& job : waiting_) EndDraining(*job);
    for (auto& [easy, transfer] : transfers_) {
      curl_multi_remove_handle(multi_.get(), easy);
      EndDraining(*transfer->job);
    }
    transfers_.clear();
  }

  // Whether the loop has to end.
  bool TakeIncoming() {
    const std::lock_guard lock(mutex_);
    for (JobPtr& job : incoming_) waiting_.push_back(std::move(job));
    incoming_.clear();
    return stopping_;
  }

  // When there is something to do that no transfer will say.
  absl::Time NextAt() const {
    const absl::Time now = absl::Now();
    absl::Time next_at = now + kIdle;
    const bool full = transfers_.size() >= options_.concurrency;
    for (const JobPtr& job : waiting_) {
      next_at = std::min(
          next_at,
          full ? job->deadline
               : std::min(job->deadline, std::max(now, job->not_before)));
    }
    return next_at;
  }

  void StartWaiting() {
    const absl::Time now = absl::Now();
    std::deque<JobPtr> still_waiting;
    while (!waiting_.empty()) {
      JobPtr job = std::move(waiting_.front());
      waiting_.pop_front();
      if (const Stamp* const cached = cache_.Find(job->imprint)) {
        job->done(*cached);
      } else if (now >= job->deadline) {
        EndWithoutToken(*job);
      } else if (now < job->not_before ||
                 transfers_.size() >= options_.concurrency) {
        still_waiting.push_back(std::move(job));
      } else {
        Start(std::move(job), now);
      }
    }
    waiting_ = std::move(still_waiting);
  }

  // The first server that did not fail in this round and may be asked.
  std::optional<size_t> ChooseServer(const Job& job, absl::Time now) {
    for (size_t i = 0; i < breakers_.size(); ++i) {
      if (!job.failed[i] && breakers_[i].MayAsk(now)) return i;
    }
    return std::nullopt;
  }

  void Start(JobPtr job, absl::Time now) {
    const std::optional<size_t> server = ChooseServer(*job, now);
    if (!server.has_value()) {
      // Every server is left alone for a while: so is this job's caller.
      EndWithoutToken(*job);
      return;
    }
    absl::StatusOr<TimestampQuery> query =
        MakeTimestampQuery(job->stamped, options_.rules);
    EasyPtr easy(curl_easy_init());
    if (!query.ok() || easy == nullptr) {
      job->done(query.ok() ? absl::StatusOr<Stamp>(absl::InternalError("curl"))
                           : query.status());
      return;
    }
    auto transfer = std::make_unique<Transfer>();
    transfer->server = *server;
    transfer->query = *std::move(query);
    transfer->sent_at = clock_.Now();
    ++job->attempt_count;
    breakers_[*server].Asked();
    const absl::Duration timeout =
        std::min(options_.timeout, job->deadline - now);
    transfer->job = std::move(job);
    CURL* const handle = easy.get();
    const auto set = [handle](CURLoption option, auto value) {
      curl_easy_setopt(handle, option, value);
    };
    set(CURLOPT_URL, options_.urls[*server].c_str());
    // No file:, no redirect to a place that nobody configured.
    set(CURLOPT_PROTOCOLS_STR, "http,https");
    set(CURLOPT_FOLLOWLOCATION, 0L);
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_USERAGENT, "codeseal");
    set(CURLOPT_HTTPHEADER, headers_.get());
    set(CURLOPT_TIMEOUT_MS,
        std::max(1L, static_cast<long>(absl::ToInt64Milliseconds(timeout))));
    set(CURLOPT_POSTFIELDSIZE, static_cast<long>(transfer->query.der.size()));
    set(CURLOPT_POSTFIELDS,
        reinterpret_cast<const char*>(transfer->query.der.data()));
    set(CURLOPT_WRITEFUNCTION, &Loop::TakeBody);
    set(CURLOPT_WRITEDATA, transfer.get());
    transfer->easy = std::move(easy);
    curl_multi_add_handle(multi_.get(), handle);
    transfers_.emplace(handle, std::move(transfer));
  }

  static size_t TakeBody(const char* data, size_t /*always 1*/, size_t size,
                         void* transfer) {
    Bytes& response = static_cast<Transfer*>(transfer)->response;
    if (size > kMaxResponseSize - response.size()) return 0;  // ends it
    Append(response, AsBytes(std::string_view(data, size)));
    return size;
  }

  void End(CURL* easy, CURLcode code) {
    const auto found = transfers_.find(easy);
    std::unique_ptr<Transfer> transfer = std::move(found->second);
    transfers_.erase(found);
    curl_multi_remove_handle(multi_.get(), easy);
    const std::string& url = options_.urls[transfer->server];
    absl::StatusOr<Stamp> stamp = Judge(*transfer, code);
    Breaker& breaker = breakers_[transfer->server];
    switch (breaker.Answered(stamp.ok(), absl::Now())) {
      case Breaker::Change::kNone:
        break;
      case Breaker::Change::kOpened:
        Tell(TimestamperEvent::Kind::kBreakerOpened, url,
             "is left alone for " + Seconds(breaker.pause()));
        break;
      case Breaker::Change::kClosed:
        Tell(TimestamperEvent::Kind::kBreakerClosed, url, "answers again");
        break;
    }
    if (stamp.ok()) {
      cache_.Add(transfer->job->imprint, *stamp);
      transfer->job->done(std::move(stamp));
      return;
    }
    Tell(TimestamperEvent::Kind::kQueryFailed, url,
         std::string(Message(stamp.status())));
    TryAgain(std::move(transfer->job), transfer->server, stamp.status());
  }

  absl::StatusOr<Stamp> Judge(const Transfer& transfer, CURLcode code) {
    const auto fault = [](const std::string& message) {
      return MakeError(absl::StatusCode::kUnavailable, v1::STAGE_CMS,
                       v1::REASON_TSA_DOWN, message);
    };
    if (code == CURLE_WRITE_ERROR) return fault("the answer is too large");
    if (code != CURLE_OK) return fault(curl_easy_strerror(code));
    long http_status = 0;
    curl_easy_getinfo(transfer.easy.get(), CURLINFO_RESPONSE_CODE,
                      &http_status);
    if (http_status != 200) {
      return fault("HTTP status " + std::to_string(http_status));
    }
    ASSIGN_OR_RETURN(NewTimestamp stamp,
                     OpenTimestampResponse(transfer.response, transfer.query,
                                           options_.rules, last_chain_));
    last_chain_ = stamp.timestamp.chain;
    // The token was made between the query and now; its time may be cut to
    // whole seconds.
    const absl::Time time = stamp.timestamp.time;
    const absl::Duration apart = std::max(
        {absl::ZeroDuration(), transfer.sent_at - absl::Seconds(1) - time,
         time - clock_.Now()});
    const std::string message =
        "the timestamp authority's clock is " + Seconds(apart) +
        (time < transfer.sent_at ? " behind ours" : " ahead of ours");
    if (apart > options_.clock_limit) {
      return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_CMS,
                       v1::REASON_CLOCK, message);
    }
    const std::string& url = options_.urls[transfer.server];
    if (apart > options_.clock_alarm) {
      Tell(TimestamperEvent::Kind::kClockApart, url, message);
    }
    return Stamp{std::move(stamp.token), time, url, false};
  }

  void TryAgain(JobPtr job, size_t server, const absl::Status& fault) {
    job->last_fault =
        options_.urls[server] + ": " + std::string(Message(fault));
    job->clock_fault |= GetReason(fault) == v1::REASON_CLOCK;
    job->failed[server] = true;
    const absl::Time now = absl::Now();
    if (job->attempt_count >= options_.attempts) {
      EndWithoutToken(*job);
      return;
    }
    if (!ChooseServer(*job, now).has_value()) {
      // Clocks do not mend in a second.
      if (job->clock_fault) {
        EndWithoutToken(*job);
        return;
      }
      job->failed.assign(job->failed.size(), false);
      const absl::Duration pause =
          std::min(kLongestPause, kFirstPause * (1 << job->round_count));
      job->round_count = std::min(job->round_count + 1, uint32_t{8});
      // Jobs that failed together do not come back together.
      std::uniform_real_distribution<double> jitter(0.75, 1.25);
      job->not_before = now + pause * jitter(random_);
    }
    waiting_.push_back(std::move(job));
  }

  void EndWithoutToken(Job& job) {
    const bool asked = job.attempt_count > 0;
    std::string message = "timestamp authority " + options_.name;
    if (asked) {
      message +=
          " gave no good token in " + std::to_string(job.attempt_count) +
          (job.attempt_count == 1 ? " query; " : " queries; the last: ") +
          job.last_fault;
    } else if (absl::Now() >= job.deadline) {
      job.done(MakeError(absl::StatusCode::kDeadlineExceeded, v1::STAGE_CMS,
                         v1::REASON_DEADLINE_EXCEEDED,
                         message + " was not asked: the deadline passed"));
      return;
    } else {
      message += " failed too often and is left alone for a while";
    }
    job.done(MakeError(job.clock_fault ? absl::StatusCode::kFailedPrecondition
                                       : absl::StatusCode::kUnavailable,
                       v1::STAGE_CMS,
                       job.clock_fault ? v1::REASON_CLOCK : v1::REASON_TSA_DOWN,
                       message));
  }

  static void EndDraining(Job& job) {
    job.done(MakeError(absl::StatusCode::kUnavailable, v1::STAGE_TRANSPORT,
                       v1::REASON_DRAINING, "the server is stopping"));
  }

  void Tell(TimestamperEvent::Kind kind, const std::string& url,
            std::string message) {
    if (on_event_) on_event_({kind, options_.name, url, std::move(message)});
  }

  const TimestamperOptions options_;
  const Clock& clock_;
  const OnEvent on_event_;
  std::mutex mutex_;
  std::vector<JobPtr> incoming_;  // guarded by mutex_
  bool stopping_ = false;         // guarded by mutex_

  // The thread's.
  HeadersPtr headers_;
  MultiPtr multi_;
  std::deque<JobPtr> waiting_;
  std::unordered_map<CURL*, std::unique_ptr<Transfer>> transfers_;
  std::vector<Breaker> breakers_;  // one for each URL
  TokenCache cache_;
  std::vector<Certificate> last_chain_;  // of the last good token
  std::minstd_rand random_{std::random_device()()};
  std::thread thread_;
};

Timestamper::Timestamper(TimestamperOptions options, const Clock& clock,
                         OnEvent on_event)
    : loop_(std::make_unique<Loop>(std::move(options), clock,
                                   std::move(on_event))) {}

Timestamper::~Timestamper() = default;

const TimestamperOptions& Timestamper::options() const {
  return loop_->options();
}

void Timestamper::Get(Bytes stamped, absl::Time deadline, Done done) {
  loop_->Add(std::move(stamped), deadline, std::move(done));
}

absl::StatusOr<Stamp> Timestamper::GetAndWait(Bytes stamped,
                                              absl::Time deadline) {
  std::promise<absl::StatusOr<Stamp>> promise;
  Get(std::move(stamped), deadline, [&promise](absl::StatusOr<Stamp> stamp) {
    promise.set_value(std::move(stamp));
  });
  return promise.get_future().get();
}

bool IsTimestampUrl(const std::string& url) {
  InitializeCurl();
  const std::unique_ptr<CURLU, decltype(&curl_url_cleanup)> parsed(
      curl_url(), &curl_url_cleanup);
  if (parsed == nullptr ||
      curl_url_set(parsed.get(), CURLUPART_URL, url.c_str(), 0) != CURLUE_OK) {
    return false;
  }
  const auto part = [&parsed](CURLUPart which) {
    char* text = nullptr;
    if (curl_url_get(parsed.get(), which, &text, 0) != CURLUE_OK) {
      return std::string();
    }
    std::string copy = text;
    curl_free(text);
    return copy;
  };
  const std::string scheme = part(CURLUPART_SCHEME);
  return (scheme == "http" || scheme == "https") &&
         !part(CURLUPART_HOST).empty() && part(CURLUPART_USER).empty() &&
         part(CURLUPART_PASSWORD).empty() && part(CURLUPART_FRAGMENT).empty();
}

}  // namespace codeseal
