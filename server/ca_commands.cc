#include "server/ca_commands.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <sstream>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "codesign/base/error.h"
#include "codesign/base/mapped_file.h"
#include "codesign/base/staged_file.h"
#include "codesign/cms/certificate.h"
#include "hsm/certificate_issuer.h"
#include "hsm/token.h"
#include "nlohmann/json.hpp"
#include "server/token_commands.h"
#include "server/validity.h"

namespace codeseal {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

std::string RootPath(const std::string& folder) {
  return (fs::path(folder) / "root.pem").string();
}
std::string IssuedFolder(const std::string& folder) {
  return (fs::path(folder) / "issued").string();
}

absl::Status WriteFile(const std::string& path, const std::string& text) {
  ASSIGN_OR_RETURN(StagedFile file, StagedFile::Create(path, 0644));
  RETURN_IF_ERROR(file.Write(AsBytes(text), 0));
  return file.Commit();
}

absl::Status MakeFolder(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (!error) return absl::OkStatus();
  return FileError(error.value(), v1::STAGE_WRITE, "make", path);
}

bool NamesAKey(const TokenArguments& arguments) {
  return !arguments.uri.empty() || !arguments.id.empty() ||
         !arguments.label.empty();
}

// The leaf's key when it is on a token of ours; no token for a request.
struct Applicant {
  CertificateApplicant description;
  OpenedToken opened;
};

absl::StatusOr<Applicant> FindApplicant(const CaIssueArguments& arguments) {
  const bool has_key = NamesAKey(arguments.leaf);
  if (has_key == !arguments.request_path.empty()) {
    return UsageError(
        "say whom to certify: --csr FILE, or a key with --leaf-label, "
        "--leaf-id or --leaf-uri");
  }
  if (has_key == arguments.subject.empty()) {
    return UsageError(has_key ? "a key needs a --subject"
                              : "--subject is the request's: leave it out");
  }
  Applicant applicant;
  if (!has_key) {
    ASSIGN_OR_RETURN(const MappedFile file,
                     MappedFile::Open(arguments.request_path));
    absl::StatusOr<CertificateApplicant> description =
        ReadCertificateRequest(AsText(file.bytes()));
    if (!description.ok()) {
      return WithSubject(description.status(), arguments.request_path);
    }
    applicant.description = *std::move(description);
    return applicant;
  }
  TokenArguments leaf = arguments.leaf;
  if (leaf.uri.empty()) {
    // The authority's token, but not its key.
    leaf.config = arguments.key.config;
    leaf.token = arguments.key.token;
    leaf.uri = arguments.key.uri;
    ASSIGN_OR_RETURN(applicant.opened, OpenToken(leaf));
    if (leaf.id.empty()) applicant.opened.key.id.clear();
    if (leaf.label.empty()) applicant.opened.key.label.clear();
  } else {
    ASSIGN_OR_RETURN(applicant.opened, OpenKey(leaf));
  }
  // What a key must be like is for the identity's policy to say.
  ASSIGN_OR_RETURN(const std::shared_ptr<KeyBackend> key,
                   applicant.opened.token->LoadKey(applicant.opened.key,
                                                   KeyPolicy::kImportedAllowed,
                                                   {}, TokenDeadline()));
  ASSIGN_OR_RETURN(applicant.description,
                   DescribeApplicant(arguments.subject, key->public_key()));
  return applicant;
}

}  // namespace

absl::Status InitCa(const CaInitArguments& arguments, std::ostream& out) {
  const std::string path = RootPath(arguments.folder);
  std::error_code error;
  if (fs::exists(path, error)) {
    return UsageError(path +
                      " is there already: an authority has one root; give "
                      "another --dir");
  }
  if (!arguments.use_existing_key) {
    std::ostringstream unused;
    RETURN_IF_ERROR(GenerateKey(arguments.key, arguments.algorithm, unused));
  }
  ASSIGN_OR_RETURN(const OpenedToken opened, OpenKey(arguments.key));
  ASSIGN_OR_RETURN(std::shared_ptr<KeyBackend> key,
                   opened.token->LoadKey(opened.key, KeyPolicy::kStrict, {},
                                         TokenDeadline()));
  const ValidityPeriod validity = ValidityFromNow(arguments.days);
  ASSIGN_OR_RETURN(const std::string pem,
                   BuildRootCertificate(std::move(key), arguments.subject,
                                        validity.not_before, validity.not_after,
                                        TokenDeadline()));
  ASSIGN_OR_RETURN(const std::vector<Certificate> root,
                   Certificate::ParsePem(pem));
  RETURN_IF_ERROR(opened.token->ImportCertificate(
      opened.key, root.front().der(), TokenDeadline()));
  RETURN_IF_ERROR(MakeFolder(IssuedFolder(arguments.folder)));
  RETURN_IF_ERROR(WriteFile(path, pem));
  out << pem;
  return absl::OkStatus();
}

absl::Status IssueFromCa(const CaIssueArguments& arguments, std::ostream& out) {
  ASSIGN_OR_RETURN(const std::vector<Certificate> root,
                   ReadCertificates(RootPath(arguments.folder)));
  ASSIGN_OR_RETURN(const Applicant applicant, FindApplicant(arguments));
  ASSIGN_OR_RETURN(const OpenedToken authority, OpenKey(arguments.key));
  ASSIGN_OR_RETURN(
      std::shared_ptr<KeyBackend> key,
      authority.token->LoadKey(authority.key, KeyPolicy::kStrict,
                               root.front().der(), TokenDeadline()));
  const ValidityPeriod validity = ValidityFromNow(arguments.days);
  // A root of today is younger than the few minutes before now.
  const absl::Time not_before =
      std::max(validity.not_before, root.front().not_before());
  ASSIGN_OR_RETURN(
      const std::string pem,
      IssueCodeSigningCertificate(std::move(key), root.front().der(),
                                  applicant.description, not_before,
                                  validity.not_after, TokenDeadline()));
  ASSIGN_OR_RETURN(const std::vector<Certificate> leaf,
                   Certificate::ParsePem(pem));
  // Recorded before anybody can use it.
  RETURN_IF_ERROR(MakeFolder(IssuedFolder(arguments.folder)));
  RETURN_IF_ERROR(WriteFile(IssuedFolder(arguments.folder) + "/" +
                                HexEncode(leaf.front().SerialNumber()) + ".pem",
                            pem));
  if (applicant.opened.token != nullptr) {
    RETURN_IF_ERROR(applicant.opened.token->ImportCertificate(
        applicant.opened.key, leaf.front().der(), TokenDeadline()));
  }
  out << pem << root.front().Pem();
  return absl::OkStatus();
}

absl::Status ListCa(const std::string& folder, bool json, std::ostream& out) {
  RETURN_IF_ERROR(ReadCertificates(RootPath(folder)).status());
  std::vector<std::string> paths;
  std::error_code error;
  for (fs::directory_iterator entry(IssuedFolder(folder), error), end;
       !error && entry != end; entry.increment(error)) {
    if (entry->path().extension() == ".pem") {
      paths.push_back(entry->path().string());
    }
  }
  if (error) {
    return FileError(error.value(), v1::STAGE_USAGE, "read",
                     IssuedFolder(folder));
  }
  std::ranges::sort(paths);
  Json list = Json::array();
  std::ostringstream text;
  for (const std::string& path : paths) {
    ASSIGN_OR_RETURN(const std::vector<Certificate> certificates,
                     ReadCertificates(path));
    const Certificate& leaf = certificates.front();
    const bool expired = leaf.not_after() < absl::Now();
    const std::string end = absl::FormatTime(
        "%Y-%m-%dT%H:%M:%SZ", leaf.not_after(), absl::UTCTimeZone());
    list.push_back({{"serial", HexEncode(leaf.SerialNumber())},
                    {"sha1", HexEncode(leaf.Sha1())},
                    {"common_name", leaf.CommonName()},
                    {"not_after", end},
                    {"expired", expired},
                    {"path", path}});
    text << HexEncode(leaf.SerialNumber()) << "  " << HexEncode(leaf.Sha1())
         << "  " << end << (expired ? " (expired)  '" : "  '")
         << leaf.CommonName() << "'\n";
  }
  if (json) {
    out << list.dump(2, ' ', false, Json::error_handler_t::replace) << "\n";
  } else {
    out << text.str();
  }
  return absl::OkStatus();
}

}  // namespace codeseal
