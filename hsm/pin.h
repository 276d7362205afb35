// A PIN in memory that is locked, left out of core dumps and wiped.

#ifndef CODESEAL_HSM_PIN_H_
#define CODESEAL_HSM_PIN_H_

#include <cstddef>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace codeseal {

// Movable; one thread at a time. Lives as briefly as possible: the source is
// read again for each login, so that the worker keeps no copy.
class Pin {
 public:
  // Reads "file:/path" or "credential:NAME" (a file under
  // $CREDENTIALS_DIRECTORY); one line end is cut off.
  // Errors: FAILED_PRECONDITION STAGE_TOKEN REASON_PIN_SOURCE. Messages never
  // hold the content.
  static absl::StatusOr<Pin> Read(std::string_view source);

  // The form of the source, without reading it.
  static absl::Status CheckSource(std::string_view source);

  Pin(Pin&& other) noexcept;
  Pin& operator=(Pin&& other) noexcept;
  ~Pin();

  unsigned char* data() const { return page_; }
  size_t size() const { return size_; }

 private:
  explicit Pin(unsigned char* page) : page_(page) {}

  unsigned char* page_;  // a mapping of its own
  size_t size_ = 0;
};

// Keeps the memory of this process, which secrets pass through, out of core
// dumps and away from other processes of the user.
void HideMemory();

}  // namespace codeseal

#endif  // CODESEAL_HSM_PIN_H_
