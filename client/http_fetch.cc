#include "client/http_fetch.h"

#include <curl/curl.h>

#include <array>
#include <memory>
#include <utility>

#include "codesign/base/error.h"

namespace codeseal::client {
namespace {

struct CurlDeleter {
  void operator()(CURL* curl) const { curl_easy_cleanup(curl); }
};
struct ListDeleter {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};

absl::Status Unreachable(const std::string& why) {
  return MakeError(absl::StatusCode::kUnavailable, v1::STAGE_TRANSPORT,
                   v1::REASON_SERVER_UNREACHABLE, why);
}

struct Answer {
  Bytes bytes;
  size_t max_size = 0;
};

// Anything but `size` ends the transfer. The headers' size libcurl limits.
size_t Receive(char* data, size_t /*always_one*/, size_t size, void* to) {
  auto& answer = *static_cast<Answer*>(to);
  if (size > answer.max_size - answer.bytes.size()) return 0;
  answer.bytes.insert(answer.bytes.end(), data, data + size);
  return size;
}

}  // namespace

absl::StatusOr<Bytes> FetchOverHttp(const std::string& url, const Bytes& body,
                                    const FetchLimits& limits) {
  static const CURLcode initialised = curl_global_init(CURL_GLOBAL_DEFAULT);
  const std::unique_ptr<CURL, CurlDeleter> curl(curl_easy_init());
  if (initialised != CURLE_OK || curl == nullptr) {
    return Unreachable("libcurl does not start");
  }
  Answer answer;
  answer.max_size = limits.max_answer_size;
  std::array<char, CURL_ERROR_SIZE> why = {};
  CURL* const handle = curl.get();
  curl_easy_setopt(handle, CURLOPT_URL, url.c_str());
  // Redirections may not go beyond these, either.
  curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(handle, CURLOPT_FOLLOWLOCATION, 1L);
  curl_easy_setopt(handle, CURLOPT_MAXREDIRS,
                   static_cast<long>(limits.max_redirections));
  curl_easy_setopt(
      handle, CURLOPT_CONNECTTIMEOUT_MS,
      static_cast<long>(absl::ToInt64Milliseconds(limits.connect_timeout)));
  curl_easy_setopt(
      handle, CURLOPT_TIMEOUT_MS,
      static_cast<long>(absl::ToInt64Milliseconds(limits.timeout)));
  curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);  // threads
  curl_easy_setopt(handle, CURLOPT_USERAGENT, "codeseal");
  curl_easy_setopt(handle, CURLOPT_ERRORBUFFER, why.data());
  curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, &Receive);
  curl_easy_setopt(handle, CURLOPT_WRITEDATA, &answer);
  std::unique_ptr<curl_slist, ListDeleter> headers;
  if (!body.empty()) {
    headers.reset(
        curl_slist_append(nullptr, "Content-Type: application/ocsp-request"));
    curl_easy_setopt(handle, CURLOPT_HTTPHEADER, headers.get());
    curl_easy_setopt(handle, CURLOPT_POSTFIELDSIZE_LARGE,
                     static_cast<curl_off_t>(body.size()));
    curl_easy_setopt(handle, CURLOPT_POSTFIELDS, body.data());
  }
  const CURLcode code = curl_easy_perform(handle);
  if (code != CURLE_OK) {
    return Unreachable(why[0] != '\0' ? why.data() : curl_easy_strerror(code));
  }
  long status = 0;
  curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &status);
  if (status != 200) {
    return Unreachable("HTTP status " + std::to_string(status));
  }
  return std::move(answer.bytes);
}

}  // namespace codeseal::client
