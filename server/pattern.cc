#include "server/pattern.h"

#include <cstddef>
#include <vector>

namespace codeseal {

bool MatchesPattern(std::string_view pattern, std::string_view text,
                    char separator) {
  // reachable[i]: the pattern so far can end after i characters of the text.
  // One pass for each pattern element, so no pattern takes exponential time.
  std::vector<bool> reachable(text.size() + 1, false);
  reachable[0] = true;
  for (size_t at = 0; at < pattern.size(); ++at) {
    std::vector<bool> next(text.size() + 1, false);
    if (pattern[at] == '*') {
      const bool any = at + 1 < pattern.size() && pattern[at + 1] == '*';
      if (any) ++at;
      for (size_t i = 0; i < text.size(); ++i) {
        const bool fits = any || separator == '\0' || text[i] != separator;
        next[i + 1] = fits && (reachable[i] || next[i]);
      }
    } else {
      for (size_t i = 0; i < text.size(); ++i) {
        next[i + 1] = reachable[i] && text[i] == pattern[at];
      }
    }
    reachable = std::move(next);
  }
  return reachable[text.size()];
}

}  // namespace codeseal
