#include "codesign/cms/openssl.h"

#include <openssl/err.h>

namespace codeseal {

std::string DrainOpenSslErrors(std::string_view message) {
  std::string text(message);
  const char* separator = ": ";
  while (const unsigned long code = ERR_get_error()) {
    const char* reason = ERR_reason_error_string(code);
    text.append(separator).append(reason != nullptr ? reason : "unnamed error");
    separator = ", ";
  }
  return text;
}

}  // namespace codeseal
