#include <string>

#include "client/commands.h"
#include "client/small_file.h"
#include "codesign/base/error.h"
#include "codesign/launch_constraint.h"

namespace codeseal::client {

void RunCheckConstraint(const CheckConstraintCommand& command,
                        Reporter& reporter) {
  for (const std::string& path : command.paths) {
    const absl::StatusOr<Bytes> plist = ReadSmallFile(path);
    const absl::Status status =
        plist.ok() ? BuildLaunchConstraint(*plist).status() : plist.status();
    if (status.ok()) {
      reporter.Say(0, path + ": valid constraint");
      reporter.Succeed({{"path", path}});
    } else {
      reporter.Fail("accept the constraint", path, status);
    }
  }
}

}  // namespace codeseal::client
