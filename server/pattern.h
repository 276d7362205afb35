// Patterns of the configuration: which identifiers an identity signs, which
// peers may use it.

#ifndef CODESEAL_SERVER_PATTERN_H_
#define CODESEAL_SERVER_PATTERN_H_

#include <string_view>

namespace codeseal {

// Whether all of `text` fits `pattern`. '*' stands for one or more characters
// other than `separator`, "**" for one or more of any; everything else stands
// for itself, and case matters. Without a separator ('\0') both stars are the
// same.
bool MatchesPattern(std::string_view pattern, std::string_view text,
                    char separator = '\0');

}  // namespace codeseal

#endif  // CODESEAL_SERVER_PATTERN_H_
