#include "client/sign_options.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "client/small_file.h"
#include "codesign/base/endian.h"
#include "codesign/base/error.h"
#include "codesign/cms/certificate.h"
#include "codesign/code_directory.h"
#include "codesign/entitlements.h"
#include "codesign/launch_constraint.h"
#include "codesign/requirement/compiler.h"
#include "codesign/requirement/requirement.h"
#include "codesign/super_blob.h"
#include "tsa/timestamper.h"

namespace codeseal::client {
namespace {

constexpr char kSelfIdentifier[] = "$self.identifier";

absl::Status BadOption(std::string_view option, const std::string& message) {
  return WithSubject(MakeError(absl::StatusCode::kInvalidArgument,
                               v1::STAGE_USAGE, v1::REASON_BAD_OPTION, message),
                     option);
}

struct Word {
  std::string_view name;
  uint32_t value;
};

// Words of --preserve-metadata.
constexpr std::array kPreserveWords = {
    Word{"identifier", kPreserveIdentifier},
    Word{"requirements", kPreserveRequirements},
    Word{"entitlements", kPreserveEntitlements},
    Word{"resource-rules", kPreserveResourceRules},
    Word{"flags", kPreserveFlags},
    Word{"team-identifier", kPreserveTeamIdentifier},
    Word{"digest-algorithm", kPreserveDigestAlgorithm},
    Word{"pre-encrypt-hashes", kPreservePreEncryptHashes},
    Word{"runtime", kPreserveRuntime},
    Word{"launch-constraints", kPreserveLaunchConstraints},
    Word{"library-constraints", kPreserveLibraryConstraints},
};

constexpr std::array kDigestWords = {
    Word{"sha1", static_cast<uint32_t>(DigestKind::kSha1)},
    Word{"sha256", static_cast<uint32_t>(DigestKind::kSha256)},
    Word{"sha384", static_cast<uint32_t>(DigestKind::kSha384)},
};

// The values of a comma list. Like codesign, a word may be cut short while it
// fits one name only.
absl::StatusOr<std::vector<uint32_t>> ReadWords(std::string_view option,
                                                const std::string& list,
                                                std::span<const Word> words) {
  std::vector<uint32_t> values;
  for (const std::string& word :
       std::vector<std::string>(absl::StrSplit(list, ','))) {
    std::vector<Word> fitting;
    for (const Word& each : words) {
      if (each.name == word) fitting = {each};
      if (each.name == word) break;
      if (!word.empty() && each.name.starts_with(word)) fitting.push_back(each);
    }
    if (fitting.size() != 1) {
      std::string names;
      for (const Word& each : fitting.empty() ? words : std::span(fitting)) {
        names.append(names.empty() ? "" : ", ").append(each.name);
      }
      return BadOption(option,
                       (fitting.empty() ? "unknown word '" + word + "'; want "
                                        : "'" + word + "' could be ") +
                           names);
    }
    values.push_back(fitting.front().value);
  }
  return values;
}

absl::StatusOr<uint32_t> ReadPageSize(const std::string& text) {
  if (text == "none") return 0;
  uint32_t size = 0;
  if (!absl::SimpleAtoi(text, &size) || !std::has_single_bit(size)) {
    return BadOption("--page-size",
                     "'" + text + "' is neither a power of two nor none");
  }
  return size;
}

// "13.3.1" -> 0x000d0301.
absl::StatusOr<uint32_t> ReadRuntimeVersion(const std::string& text) {
  const std::vector<std::string> parts = absl::StrSplit(text, '.');
  constexpr std::array kLargest = {0xffffu, 0xffu, 0xffu};
  uint32_t version = 0;
  bool valid = parts.size() <= kLargest.size();
  for (size_t i = 0; valid && i < kLargest.size(); ++i) {
    uint32_t number = 0;
    valid = i >= parts.size() ||
            (absl::SimpleAtoi(parts[i], &number) && number <= kLargest[i]);
    version = (version << (i == 0 ? 0 : 8)) | number;
  }
  if (!valid) {
    return BadOption("--runtime-version",
                     "'" + text + "' is not a version such as 13.3.1");
  }
  return version;
}

absl::StatusOr<Bytes> LoadCertificate(const std::string& path) {
  ASSIGN_OR_RETURN(const Bytes content, ReadSmallFile(path));
  if (AsText(content).find("-----BEGIN") == std::string_view::npos) {
    return content;
  }
  ASSIGN_OR_RETURN(const std::vector<Certificate> certificates,
                   Certificate::ParsePem(AsText(content)));
  return ToBytes(certificates.front().der());
}

// The constraints that the command names, by the slot that seals them.
absl::StatusOr<std::map<uint32_t, Bytes>> ReadConstraints(
    const SignCommand& command) {
  std::map<uint32_t, Bytes> constraints;
  for (const auto& [slot, path] :
       {std::pair(uint32_t{kLaunchConstraintSelfSlot},
                  command.launch_constraint_self),
        std::pair(uint32_t{kLaunchConstraintParentSlot},
                  command.launch_constraint_parent),
        std::pair(uint32_t{kLaunchConstraintResponsibleSlot},
                  command.launch_constraint_responsible),
        std::pair(uint32_t{kLibraryConstraintSlot},
                  command.library_constraint)}) {
    if (path.empty()) continue;
    ASSIGN_OR_RETURN(const Bytes plist, ReadSmallFile(path));
    absl::StatusOr<Bytes> blob = BuildLaunchConstraint(plist);
    if (!blob.ok()) {
      // The key is part of what is wrong, the file is where.
      const ErrorDetail detail =
          GetErrorDetail(blob.status()).value_or(ErrorDetail());
      return WithRule(
          BadOption(path,
                    (detail.subject().empty() ? "" : detail.subject() + ": ") +
                        std::string(Message(blob.status()))),
          detail.rule());
    }
    constraints[slot] = *std::move(blob);
  }
  return constraints;
}

uint32_t Magic(ByteView blob) {
  return blob.size() < kBlobHeaderSize ? 0 : BigEndianReader(blob).U32();
}

// What an option or a file gave: text, or what was compiled already.
struct RequirementSource {
  std::string argument;
  std::string text;
  Bytes blob;  // empty for text

  bool NamesSelf() const {
    return text.find(kSelfIdentifier) != std::string::npos;
  }

  absl::StatusOr<Bytes> Compile(const std::string& identifier) const {
    if (!blob.empty()) return blob;
    if (NamesSelf() && identifier.empty()) {
      return BadOption("-r", "$self.identifier needs an identifier: give -i");
    }
    absl::StatusOr<Bytes> compiled = CompileRequirementBlob(
        SubstituteSelf(text, identifier), LoadCertificate);
    if (!compiled.ok()) return WithSubject(compiled.status(), argument);
    return compiled;
  }

  absl::StatusOr<Bytes> CompileSet(const std::string& identifier) const {
    ASSIGN_OR_RETURN(Bytes compiled, Compile(identifier));
    if (Magic(compiled) == kRequirementSetMagic) return compiled;
    return BuildRequirementSet({{kDesignatedRequirement, std::move(compiled)}});
  }
};

absl::StatusOr<RequirementSource> LoadRequirement(const std::string& argument) {
  RequirementSource source;
  source.argument = argument;
  if (argument.starts_with("=")) {
    source.text = argument.substr(1);
    return source;
  }
  std::error_code error;
  if (argument != "-" && !std::filesystem::exists(argument, error)) {
    return WithSubject(
        MakeError(absl::StatusCode::kNotFound, v1::STAGE_USAGE,
                  v1::REASON_FILE_NOT_FOUND,
                  "there is no such file; requirement text begins with ="),
        argument);
  }
  ASSIGN_OR_RETURN(Bytes content, ReadInput(argument));
  const uint32_t magic = Magic(content);
  if (magic != kRequirementSetMagic && magic != kRequirementMagic) {
    source.text = ToString(content);
    return source;
  }
  RETURN_IF_ERROR(WithSubject(DumpRequirementBlob(content).status(), argument));
  source.blob = std::move(content);
  return source;
}

}  // namespace

absl::StatusOr<Bytes> LoadEntitlements(const std::string& path) {
  ASSIGN_OR_RETURN(Bytes content, ReadSmallFile(path));
  const absl::Status fault = BuildEntitlements(content).status();
  if (!fault.ok()) return WithSubject(fault, path);
  return content;
}

absl::StatusOr<SigningOptions> ReadSigningOptions(const SignCommand& command) {
  SigningOptions options;
  if (!command.identifier.empty()) options.identifier = command.identifier;
  options.identifier_prefix = command.identifier_prefix;
  options.force = command.force;
  options.force_library_entitlements = command.force_library_entitlements;
  options.strict = command.strict;
  if (command.host_architecture == "x86_64") {
    options.host_cpu = CpuType::kX86_64;
  }
  if (!command.resource_rules.empty()) {
    return BadOption("--resource-rules",
                     "--resource-rules has been deprecated in Mac OS X >= "
                     "10.10");
  }
  if (command.signature_size.has_value()) {
    options.reserved_cms_size = *command.signature_size;
  }
  if (command.flags.has_value()) {
    const absl::StatusOr<uint32_t> flags =
        ParseCodeDirectoryFlags(*command.flags);
    if (!flags.ok()) {
      return BadOption("--options", std::string(Message(flags.status())));
    }
    options.flags = *flags;
  }
  if (!command.entitlements_path.empty()) {
    ASSIGN_OR_RETURN(options.entitlements,
                     LoadEntitlements(command.entitlements_path));
  }
  if (!command.requirement.empty()) {
    RETURN_IF_ERROR(SetRequirements(command.requirement, options));
  }
  ASSIGN_OR_RETURN(options.constraints, ReadConstraints(command));
  if (!command.preserve_metadata.empty()) {
    ASSIGN_OR_RETURN(const std::vector<uint32_t> bits,
                     ReadWords("--preserve-metadata", command.preserve_metadata,
                               kPreserveWords));
    for (const uint32_t bit : bits) options.preserve_metadata |= bit;
  }
  if (!command.digest_algorithms.empty()) {
    ASSIGN_OR_RETURN(const std::vector<uint32_t> kinds,
                     ReadWords("--digest-algorithm", command.digest_algorithms,
                               kDigestWords));
    for (const uint32_t kind : kinds) {
      options.digests.push_back(static_cast<DigestKind>(kind));
    }
  }
  if (!command.page_size.empty()) {
    ASSIGN_OR_RETURN(options.page_size, ReadPageSize(command.page_size));
  }
  if (!command.runtime_version.empty()) {
    ASSIGN_OR_RETURN(options.runtime_version,
                     ReadRuntimeVersion(command.runtime_version));
  }
  return options;
}

absl::StatusOr<TimestampWish> ReadTimestampWish(const std::string& text) {
  if (text.empty()) return TimestampWish();
  if (text == "none") return TimestampWish{v1::TIMESTAMP_MODE_NONE, ""};
  if (text == "default") return TimestampWish{v1::TIMESTAMP_MODE_REQUIRED, ""};
  if (IsTimestampUrl(text)) {
    return TimestampWish{v1::TIMESTAMP_MODE_REQUIRED, text};
  }
  return BadOption("--timestamp",
                   "want none, or the URL of a timestamp server: "
                   "--timestamp=http://HOST/PATH");
}

absl::StatusOr<Bytes> ReadRequirementBlob(const std::string& argument,
                                          const std::string& identifier) {
  ASSIGN_OR_RETURN(const RequirementSource source, LoadRequirement(argument));
  return source.Compile(identifier);
}

absl::StatusOr<Bytes> ReadRequirementSet(const std::string& argument,
                                         const std::string& identifier) {
  ASSIGN_OR_RETURN(const RequirementSource source, LoadRequirement(argument));
  return source.CompileSet(identifier);
}

absl::Status SetRequirements(const std::string& argument,
                             SigningOptions& options) {
  ASSIGN_OR_RETURN(const RequirementSource source, LoadRequirement(argument));
  // What is wrong with the text is said before any code is read.
  ASSIGN_OR_RETURN(Bytes set, source.CompileSet("identifier"));
  options.requirements.reset();
  options.requirements_for = nullptr;
  if (source.NamesSelf()) {
    options.requirements_for = [source](const std::string& identifier) {
      return source.CompileSet(identifier);
    };
  } else {
    options.requirements = std::move(set);
  }
  return absl::OkStatus();
}

absl::StatusOr<Bytes> ReadRequirement(const std::string& argument) {
  ASSIGN_OR_RETURN(Bytes blob, ReadRequirementBlob(argument, ""));
  if (Magic(blob) == kRequirementMagic) return blob;
  return BadOption("-R", "one requirement is wanted, not a set with =>");
}

}  // namespace codeseal::client
