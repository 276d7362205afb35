#include <sstream>

#include "client/commands.h"

namespace codeseal::client {

void RunAudit(const AuditCommand& command, Reporter& reporter) {
  std::ostringstream text;
  const absl::Status status = command.run(text);
  reporter.Raw(text.str());
  if (!status.ok()) reporter.Fail("audit", command.subject, status);
}

}  // namespace codeseal::client
