#include "codesign/bundle/links.h"

#include <filesystem>
#include <system_error>

namespace codeseal {

namespace fs = std::filesystem;

std::optional<std::string> LinkTarget(const std::string& path) {
  std::error_code error;
  const fs::path target = fs::read_symlink(path, error);
  if (error) return std::nullopt;
  return target.string();
}

std::optional<std::string> RealPath(const std::string& path) {
  std::error_code error;
  const fs::path real = fs::canonical(path, error);
  if (error) return std::nullopt;
  return real.string();
}

}  // namespace codeseal
