// Signs small Mach-O files in memory, and can sign them wrongly: a forger has
// no SigningPlan either. Every hook changes one thing at one moment.
//
//   SignedCode code;  code.chain = &chain;
//   code.change_blobs = [](auto& blobs) { blobs[kRequirementsSlot][20] ^= 1; };
//   const Bytes file = BuildSignedCode(code);

#ifndef CODESEAL_TESTS_SUPPORT_SIGNED_CODE_H_
#define CODESEAL_TESTS_SUPPORT_SIGNED_CODE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "absl/time/time.h"
#include "codesign/base/bytes.h"
#include "codesign/base/digest.h"
#include "codesign/cms/apple_cms.h"
#include "codesign/code_directory.h"
#include "codesign/super_blob.h"
#include "tests/support/mach_o_builder.h"
#include "tests/support/test_pki.h"

namespace codeseal::testing {

// Identifier com.example.tool, pages of 4096 bytes.
CodeDirectoryFields DefaultFields();

struct SignedCode {
  // `signature` is set by BuildSignedCode().
  MachODescription mach_o = {.code_size = 20'000};
  // Digest, code limit and the digests of `blobs` are filled in; what is in
  // `special_slots` already stays.
  CodeDirectoryFields fields = DefaultFields();
  std::vector<DigestKind> digests = {DigestKind::kSha256};
  // Stored and sealed, by slot. The empty requirement set is always there.
  std::map<uint32_t, Bytes> blobs = {};
  const TestChain* chain = nullptr;  // null: ad-hoc
  std::optional<absl::Time> signing_time = absl::Now();
  // Certificates of the CMS, leaf first, instead of the chain's.
  std::vector<Certificate> certificates = {};

  // Before the page digests are computed, for each digest.
  std::function<void(CodeDirectoryFields&)> change_fields = {};
  // A CodeDirectory before it is signed.
  std::function<void(Bytes&)> change_directory = {};
  // What the CMS will say that it signs.
  std::function<void(CmsContent&)> change_content = {};
  // The CMS itself.
  std::function<void(Bytes&)> change_cms = {};
  // All blobs, CodeDirectories and CMS included, before they are packed.
  std::function<void(std::map<uint32_t, Bytes>&)> change_blobs = {};
  // The SuperBlob before it is written.
  std::function<void(Bytes&)> change_super_blob = {};
};

// The signed thin file.
Bytes BuildSignedCode(const SignedCode& code);

}  // namespace codeseal::testing

#endif  // CODESEAL_TESTS_SUPPORT_SIGNED_CODE_H_
