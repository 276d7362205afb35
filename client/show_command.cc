#include <algorithm>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/commands.h"
#include "client/package_file.h"
#include "client/small_file.h"
#include "client/stored_files.h"
#include "codesign/base/error.h"
#include "codesign/embedded_signature.h"
#include "codesign/verify/description.h"

namespace codeseal::client {
namespace {

// What goes to -r FILE and --entitlements FILE, of all paths.
struct Collected {
  std::string requirements;
  std::string entitlements;
};

nlohmann::json ToJson(const PlistValue& value) {
  return std::visit(
      [](const auto& held) -> nlohmann::json {
        using T = std::decay_t<decltype(held)>;
        if constexpr (std::is_same_v<T, Bytes>) {
          return HexEncode(held);
        } else if constexpr (std::is_same_v<T, absl::Time>) {
          return FormatUtc(held);
        } else if constexpr (std::is_same_v<T, PlistArray>) {
          nlohmann::json array = nlohmann::json::array();
          for (const PlistValue& each : held) array.push_back(ToJson(each));
          return array;
        } else if constexpr (std::is_same_v<T, PlistDict>) {
          nlohmann::json object = nlohmann::json::object();
          for (const auto& [key, each] : held) object[key] = ToJson(each);
          return object;
        } else {
          return held;
        }
      },
      value.value);
}

nlohmann::json DescribeSlice(const SliceDescription& slice) {
  nlohmann::json json = {{"architecture", slice.architecture}};
  if (!slice.status.ok()) {
    json["error"] = ErrorJson(slice.status);
    return json;
  }
  json.update({{"identifier", slice.identifier},
               {"team_identifier", slice.team_identifier},
               {"version", slice.version},
               {"flags", slice.flags},
               {"flag_names", FormatCodeDirectoryFlags(slice.flags)},
               {"code_slots", slice.code_slot_count},
               {"special_slots", slice.special_slot_count},
               {"page_size", slice.page_size},
               {"runtime_version", slice.runtime_version},
               {"cdhash", HexEncode(slice.cdhash)},
               {"ad_hoc", slice.ad_hoc},
               {"cms_size", slice.cms_size},
               {"requirements", slice.requirements}});
  nlohmann::json cdhashes = nlohmann::json::object();
  for (const CodeDirectoryDescription& each : slice.code_directories) {
    cdhashes[std::string(DigestName(each.digest_kind))] =
        HexEncode(each.cdhash);
  }
  json["cdhashes"] = std::move(cdhashes);
  json["authorities"] = nlohmann::json::array();
  for (const Certificate& certificate : slice.authorities) {
    json["authorities"].push_back(certificate.CommonName());
  }
  if (slice.signing_time.has_value()) {
    json["signing_time"] = FormatUtc(*slice.signing_time);
  }
  if (slice.timestamp.has_value()) {
    json["timestamp"] = FormatUtc(*slice.timestamp);
  }
  if (slice.entitlements.has_value()) {
    json["entitlements"] = ToJson(PlistValue{*slice.entitlements});
  }
  for (const auto& [slot, facts] : slice.constraints) {
    json["constraints"][std::string(ConstraintName(slot))] =
        ToJson(PlistValue{facts});
  }
  return json;
}

// The slices that were asked for. Without a wish it is one, as with codesign:
// what a Mac would run.
absl::StatusOr<std::vector<const SliceDescription*>> ChooseSlices(
    const CodeDescription& description, const std::string& wanted) {
  std::vector<const SliceDescription*> chosen;
  for (const SliceDescription& slice : description.slices) {
    if (wanted.empty() ? slice.is_native
                       : wanted == "all" || wanted == slice.architecture) {
      chosen.push_back(&slice);
    }
  }
  if (chosen.empty()) {
    return WithSubject(
        MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_USAGE,
                  v1::REASON_BAD_OPTION,
                  "no slice " + wanted + " in " + description.format),
        "--architecture");
  }
  return chosen;
}

absl::Status ExtractCertificates(const SliceDescription& slice,
                                 const std::string& prefix) {
  for (size_t i = 0; i < slice.authorities.size(); ++i) {
    RETURN_IF_ERROR(
        WriteWholeFile(absl::StrCat(prefix, i), slice.authorities[i].der()));
  }
  return absl::OkStatus();
}

// The CMS of each chosen slice beside the CodeDirectory that it signs, for
// other tools to check.
absl::Status ExtractSignatures(
    const StoredCode& code, const std::vector<const SliceDescription*>& slices,
    const std::string& prefix) {
  for (const SliceDescription* wanted : slices) {
    for (const CodePart& part : code.parts()) {
      if (part.offset != wanted->offset) continue;
      ASSIGN_OR_RETURN(const EmbeddedSignature signature,
                       EmbeddedSignature::Parse(part.signature));
      const std::string stem =
          part.architecture.empty() ? prefix : prefix + "." + part.architecture;
      RETURN_IF_ERROR(
          WriteWholeFile(stem + ".codedirectory", signature.primary().raw()));
      RETURN_IF_ERROR(WriteWholeFile(stem + ".cms", signature.cms()));
    }
  }
  return absl::OkStatus();
}

void Print(const CodeDescription& description, const SliceDescription& slice,
           Reporter& reporter) {
  const int verbosity = reporter.is_apple()
                            ? reporter.options().verbosity
                            : std::max(1, reporter.options().verbosity);
  std::string text = FormatDescription(description, slice, verbosity);
  if (text.ends_with('\n')) text.pop_back();
  for (const std::string& line :
       std::vector<std::string>(absl::StrSplit(text, '\n'))) {
    reporter.Say(0, line);
  }
  for (const auto& [slot, facts] : slice.constraints) {
    reporter.SayMore(0, std::string(ConstraintName(slot)) + " Constraints:");
    for (const std::string& line : std::vector<std::string>(
             absl::StrSplit(FormatEntitlements(facts), '\n'))) {
      if (!line.empty()) reporter.SayMore(0, "\t" + line);
    }
  }
}

absl::Status ShowPath(const std::string& path, const ShowCommand& command,
                      Collected& collected, Reporter& reporter) {
  ASSIGN_OR_RETURN(
      const StoredCode code,
      OpenStoredCode(path, command.bundle_version, command.detached_path));
  const CodeDescription description = Describe(code);
  ASSIGN_OR_RETURN(const std::vector<const SliceDescription*> slices,
                   ChooseSlices(description, command.architecture));
  for (const SliceDescription* slice : slices) {
    RETURN_IF_ERROR(slice->status);
  }

  nlohmann::json result = {{"path", path},
                           {"executable", description.path},
                           {"format", description.format},
                           {"slices", nlohmann::json::array()}};
  if (description.seal.has_value()) {
    result["sealed_resources"] = {{"version", description.seal->version},
                                  {"rules", description.seal->rule_count},
                                  {"files", description.seal->file_count}};
  }
  // Who asks for one thing gets that alone, fit for a pipe.
  const bool describe =
      reporter.is_apple() ||
      (command.requirements_path.empty() && command.entitlements_path.empty());
  for (const SliceDescription* slice : slices) {
    if (describe) {
      if (slices.size() > 1) {
        reporter.Say(0, "Architecture=" + slice->architecture);
      }
      Print(description, *slice, reporter);
    }
    collected.requirements += slice->requirements;
    if (slice->entitlements.has_value()) {
      collected.entitlements +=
          command.xml ? FormatEntitlementsXml(*slice->entitlements)
                      : FormatEntitlements(*slice->entitlements);
    }
    result["slices"].push_back(DescribeSlice(*slice));
  }
  if (!command.certificates_prefix.empty()) {
    RETURN_IF_ERROR(
        ExtractCertificates(*slices.front(), command.certificates_prefix));
  }
  RETURN_IF_ERROR(
      AppendFileList(command.file_list_path, code.ModifiedFiles(), reporter));
  if (!command.signature_prefix.empty()) {
    RETURN_IF_ERROR(ExtractSignatures(code, slices, command.signature_prefix));
  }
  reporter.Succeed(std::move(result));
  return absl::OkStatus();
}

void Deliver(const std::string& path, const std::string& text,
             Reporter& reporter) {
  if (path == "-") {
    reporter.Raw(text);
  } else if (!path.empty()) {
    if (const absl::Status status = WriteWholeFile(path, AsBytes(text));
        !status.ok()) {
      reporter.Fail("write", path, status);
    }
  }
}

}  // namespace

void RunShow(const ShowCommand& command, Reporter& reporter) {
  Collected collected;
  for (const std::string& path : command.paths) {
    if (IsPackagePath(path)) {
      ShowPackageFile(path, command.certificates_prefix,
                      command.signature_prefix, reporter);
      continue;
    }
    if (const absl::Status status =
            ShowPath(path, command, collected, reporter);
        !status.ok()) {
      reporter.Fail("show", path, status);
    }
  }
  Deliver(command.requirements_path, collected.requirements, reporter);
  Deliver(command.entitlements_path, collected.entitlements, reporter);
}

}  // namespace codeseal::client
