// A whole verification of a file: whatever is called valid passes a second,
// simpler look at the same bytes.

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "codesign/embedded_signature.h"
#include "codesign/verify/description.h"
#include "codesign/verify/verifier.h"
#include "tests/fuzz/require.h"

namespace codeseal {
namespace {

constexpr size_t kMaxSize = size_t{1} << 20;  // bytes; hashing takes time

// Every page, straightforwardly, and nothing else of the verifier's.
void LookAgain(const CodePart& part) {
  const auto signature = EmbeddedSignature::Parse(part.signature);
  Require(signature.ok());
  for (const CodeDirectory& directory : signature->code_directories()) {
    Require(directory.code_limit() == part.code.size());
    const size_t page_size =
        directory.page_size() == 0 ? part.code.size() : directory.page_size();
    size_t covered = 0;
    for (uint32_t page = 0; page < directory.code_slot_count(); ++page) {
      const size_t size = std::min(page_size, part.code.size() - covered);
      Require(Equal(ComputeDigest(directory.digest_kind(),
                                  part.code.subspan(covered, size)),
                    *directory.CodeSlotDigest(page)));
      covered += size;
    }
    Require(covered == part.code.size());
    const auto requirements = signature->Find(kRequirementsSlot);
    if (directory.SealsSpecialSlot(kRequirementsSlot)) {
      Require(requirements.has_value() &&
              Equal(ComputeDigest(directory.digest_kind(), *requirements),
                    *directory.SpecialSlotDigest(kRequirementsSlot)));
    }
  }
  Require(signature->best().HasFlag(kAdHocFlag) || !signature->cms().empty());
}

int VerifyAt(const std::string& path) {
  const absl::StatusOr<StoredCode> code = StoredCode::Open(path);
  if (!code.ok()) return -1;
  VerifyOptions options;
  options.now = absl::FromUnixSeconds(1'800'000'000);
  const VerificationReport report = Verify(*code, options);
  Require(report.slices.size() == code->parts().size());
  for (const SliceReport& slice : report.slices) Require(!slice.trusted);
  const CodeDescription description = Describe(*code);
  for (const SliceDescription& slice : description.slices) {
    if (slice.status.ok()) (void)FormatDescription(description, slice, 6);
  }
  if (!report.Validity().ok()) return -1;
  for (const CodePart& part : code->parts()) LookAgain(part);
  return 0;
}

}  // namespace
}  // namespace codeseal

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > codeseal::kMaxSize) return -1;
  const int file = memfd_create("code", MFD_CLOEXEC);
  codeseal::Require(file >= 0 &&
                    write(file, data, size) == static_cast<ssize_t>(size));
  const int result =
      codeseal::VerifyAt("/proc/self/fd/" + std::to_string(file));
  close(file);
  return result;
}
