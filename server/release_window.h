// When an identity signs: weekdays and hours in a time zone.
//
//   release_windows of the configuration, the time -> [CheckReleaseWindow]

#ifndef CODESEAL_SERVER_RELEASE_WINDOW_H_
#define CODESEAL_SERVER_RELEASE_WINDOW_H_

#include <array>
#include <cstdint>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace codeseal {

struct ReleaseWindow {
  std::array<bool, 7> days = {};  // Monday first: the days on which it opens
  int from_minute = 0;            // of the day, wall-clock time of the zone
  // Not after from_minute: it closes on the next day.
  int to_minute = 24 * 60;
  absl::TimeZone zone;
};

// "09:30" as minutes; "24:00" is the end of the day. False for anything else.
bool ParseTimeOfDay(const std::string& text, int& minute);

// OK inside one of the windows, and when there are none.
// Errors: FAILED_PRECONDITION REASON_OUTSIDE_RELEASE_WINDOW, which says when
// the next one opens.
absl::Status CheckReleaseWindow(std::span<const ReleaseWindow> windows,
                                absl::Time now);

}  // namespace codeseal

#endif  // CODESEAL_SERVER_RELEASE_WINDOW_H_
