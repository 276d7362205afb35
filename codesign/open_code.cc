#include "codesign/open_code.h"

#include <utility>

namespace codeseal {

absl::StatusOr<std::unique_ptr<CodeObject>> OpenCode(MappedFile file) {
  return OpenMachO(std::move(file));
}

}  // namespace codeseal
