#include "server/release_window.h"

#include <algorithm>

#include "codesign/base/error.h"
#include "server/retry_delay.h"

namespace codeseal {
namespace {

constexpr int kMinutesPerDay = 24 * 60;

struct Opening {
  absl::Time from;
  absl::Time to;
};

// Clocks that are put forward or back change how long a window is open, not
// when its clock says so.
absl::Time AtMinute(absl::CivilDay day, int minute,
                    const absl::TimeZone& zone) {
  return absl::FromCivil(absl::CivilMinute(day) + minute, zone);
}

// The window's opening on that day of its zone; empty when it has none.
Opening OpeningOn(const ReleaseWindow& window, absl::CivilDay day) {
  const auto weekday = static_cast<size_t>(absl::GetWeekday(day));
  if (!window.days[weekday]) return {};
  const int to = window.to_minute > window.from_minute
                     ? window.to_minute
                     : window.to_minute + kMinutesPerDay;
  return {AtMinute(day, window.from_minute, window.zone),
          AtMinute(day, to, window.zone)};
}

}  // namespace

bool ParseTimeOfDay(const std::string& text, int& minute) {
  const auto digit = [&](size_t at) { return text[at] - '0'; };
  if (text.size() != 5 || text[2] != ':') return false;
  for (const size_t at : {0u, 1u, 3u, 4u}) {
    if (digit(at) < 0 || digit(at) > 9) return false;
  }
  const int hours = digit(0) * 10 + digit(1);
  const int minutes = digit(3) * 10 + digit(4);
  if (minutes > 59 || hours * 60 + minutes > kMinutesPerDay) return false;
  minute = hours * 60 + minutes;
  return true;
}

absl::Status CheckReleaseWindow(std::span<const ReleaseWindow> windows,
                                absl::Time now) {
  if (windows.empty()) return absl::OkStatus();
  absl::Time next = absl::InfiniteFuture();
  for (const ReleaseWindow& window : windows) {
    const absl::CivilDay today = absl::ToCivilDay(now, window.zone);
    // From the one that opened yesterday to that of this day next week.
    for (int offset = -1; offset <= 7; ++offset) {
      const Opening opening = OpeningOn(window, today + offset);
      if (opening.from == opening.to) continue;
      if (now >= opening.from && now < opening.to) return absl::OkStatus();
      if (opening.from > now) next = std::min(next, opening.from);
    }
  }
  return WithRetryDelay(
      MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_POLICY,
                v1::REASON_OUTSIDE_RELEASE_WINDOW,
                "the identity signs only in its release windows; the next one "
                "opens at " +
                    absl::FormatTime("%Y-%m-%d %H:%M UTC", next,
                                     absl::UTCTimeZone())),
      next - now);
}

}  // namespace codeseal
