#include <string>

#include "absl/strings/str_cat.h"
#include "client/commands.h"
#include "client/small_file.h"
#include "codesign/base/error.h"
#include "codesign/signature_archive.h"

namespace codeseal::client {

void RunDetach(const DetachCommand& command, Reporter& reporter) {
  reporter.Progress("detaching " + command.path);
  const absl::StatusOr<std::string> archive = DetachSignatures(command.path);
  absl::Status status = archive.status();
  if (status.ok()) {
    status = WriteWholeFile(command.output_path, AsBytes(*archive));
  }
  if (!status.ok()) {
    reporter.Fail("detach the signature of", command.path, status);
    return;
  }
  reporter.Say(1,
               command.path + ": signatures written to " + command.output_path);
  reporter.Succeed(
      {{"path", command.path}, {"signatures", command.output_path}});
}

void RunAttach(const AttachCommand& command, Reporter& reporter) {
  reporter.Progress("attaching to " + command.path);
  const absl::StatusOr<Bytes> archive = ReadSmallFile(command.archive_path);
  const absl::StatusOr<size_t> count =
      archive.ok() ? AttachSignatures(*archive, command.path)
                   : absl::StatusOr<size_t>(archive.status());
  if (!count.ok()) {
    reporter.Fail("attach a signature to", command.path, count.status());
    return;
  }
  reporter.Say(1, absl::StrCat(command.path, ": signed, ", *count,
                               *count == 1 ? " file" : " files"));
  reporter.Succeed({{"path", command.path}, {"file_count", *count}});
}

}  // namespace codeseal::client
