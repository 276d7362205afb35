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
#include "codesign/code_directory.h"
#include "codesign/embedded_signature.h"
#include "codesign/entitlements.h"
#include "codesign/super_blob.h"
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

std::string FormatVersion(uint32_t packed) {  // 0xXXXXYYZZ
  return absl::StrCat(packed >> 16, ".", packed >> 8 & 0xff, ".",
                      packed & 0xff);
}

// Digests one after another as text, the first of them number `first`.
nlohmann::json SlotsJson(ByteView digests, size_t digest_size, int64_t first) {
  nlohmann::json json = nlohmann::json::object();
  if (digest_size == 0) return json;
  for (size_t at = 0; at < digests.size(); at += digest_size) {
    json[std::to_string(first++)] = HexEncode(digests.subspan(at, digest_size));
  }
  return json;
}

nlohmann::json CertificateJson(const Certificate& certificate) {
  return {{"common_name", certificate.CommonName()},
          {"sha1", HexEncode(certificate.Sha1())},
          {"sha256", HexEncode(certificate.Sha256())},
          {"not_before", FormatUtc(certificate.not_before())},
          {"not_after", FormatUtc(certificate.not_after())},
          {"key_algorithm", certificate.KeyAlgorithm()},
          {"pem", certificate.Pem()}};
}

// What the text has at its highest verbosity, and what -r, --entitlements and
// --extract-certificates give.
void DescribeDetails(const SliceDescription& slice, nlohmann::json& json) {
  json["offset"] = slice.offset;
  json["is_native"] = slice.is_native;
  json["code_directory_size"] = slice.code_directory_size;
  json["platform"] = slice.platform;
  json["digest"] = std::string(DigestName(slice.digest_kind));
  json["code_directories"] = nlohmann::json::array();
  for (const CodeDirectoryDescription& each : slice.code_directories) {
    json["code_directories"].push_back(
        {{"digest", std::string(DigestName(each.digest_kind))},
         {"cdhash", HexEncode(each.cdhash)},
         {"full_digest", HexEncode(each.full_digest)}});
  }
  json["cms_digest"] = HexEncode(slice.cms_digest);
  if (slice.version >= kCodeDirectoryWithExecSegment) {
    json["exec_segment"] = {{"base", slice.exec_segment.offset},
                            {"limit", slice.exec_segment.size},
                            {"flags", slice.exec_segment.flags}};
  }
  if (slice.build_version.has_value()) {
    json["build_version"] = {
        {"platform", slice.build_version->platform},
        {"minimum_os", FormatVersion(slice.build_version->minimum_os)},
        {"sdk", FormatVersion(slice.build_version->sdk)}};
  }
  const size_t digest_size = DigestSize(slice.digest_kind);
  json["special_slot_digests"] =
      SlotsJson(slice.special_slots, digest_size,
                -static_cast<int64_t>(slice.special_slot_count));
  json["code_slot_digests"] = SlotsJson(slice.code_slots, digest_size, 0);
  json["certificates"] = nlohmann::json::array();
  for (const Certificate& certificate : slice.authorities) {
    json["certificates"].push_back(CertificateJson(certificate));
  }
  json["seals_resources"] = slice.seals_resources;
  if (slice.info_plist_entry_count.has_value()) {
    json["info_plist_entries"] = *slice.info_plist_entry_count;
  }
  if (slice.requirement_count.has_value()) {
    json["internal_requirements"] = {{"count", *slice.requirement_count},
                                     {"size", slice.requirements_size}};
  }
  if (slice.entitlements_xml.has_value()) {
    json["entitlements_xml"] = std::string(AsText(*slice.entitlements_xml));
  }
  if (slice.entitlements_der.has_value()) {
    json["entitlements_der"] = HexEncode(*slice.entitlements_der);
  }
}

nlohmann::json DescribeShownSlice(const SliceDescription& slice) {
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
  DescribeDetails(slice, json);
  return json;
}

// Listing, XML or DER. Code of before 2022 has no DER: it is made from the XML.
std::string EntitlementsOf(const SliceDescription& slice,
                           const ShowCommand& command) {
  if (!slice.entitlements.has_value()) return "";
  if (command.der) {
    if (slice.entitlements_der.has_value()) {
      return std::string(AsText(*slice.entitlements_der));
    }
    const absl::StatusOr<Bytes> blob =
        BuildEntitlementsDer(*slice.entitlements);
    return blob.ok() ? std::string(AsText(*blob).substr(kBlobHeaderSize)) : "";
  }
  return command.xml ? FormatEntitlementsXml(*slice.entitlements)
                     : FormatEntitlements(*slice.entitlements);
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
                           {"notarization_ticket", description.has_ticket},
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
    collected.entitlements += EntitlementsOf(*slice, command);
    result["slices"].push_back(DescribeShownSlice(*slice));
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
      if (!command.detached_path.empty()) {
        reporter.Fail("show", path, NoDetachedPackage());
        continue;
      }
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
