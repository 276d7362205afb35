#include "server/ceremony.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/time/clock.h"
#include "codeseal/v1/ops.grpc.pb.h"
#include "codesign/base/digest.h"
#include "codesign/base/error.h"
#include "codesign/base/mapped_file.h"
#include "codesign/base/staged_file.h"
#include "codesign/cms/certificate.h"
#include "hsm/attestation.h"
#include "hsm/certificate_issuer.h"
#include "hsm/certificate_request.h"
#include "nlohmann/json.hpp"
#include "server/token_commands.h"
#include "server/validity.h"
#include "server/yaml_reader.h"

namespace codeseal {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

// The words of `codeseald key ...`.
constexpr std::pair<const char*, CeremonyAction> kActions[] = {
    {"generate", CeremonyAction::kGenerate},
    {"csr", CeremonyAction::kRequest},
    {"self-sign", CeremonyAction::kSelfSign},
    {"import-certificate", CeremonyAction::kImportCertificate},
    {"attest", CeremonyAction::kAttest},
};

std::string WordFor(CeremonyAction action) {
  for (const auto& [word, each] : kActions) {
    if (each == action) return word;
  }
  return "";
}

std::string Sha256(ByteView bytes) {
  return HexEncode(ComputeDigest(DigestKind::kSha256, bytes));
}

// ---- The file ----

void ReadKeyReference(YamlSection& section, KeyReference& key) {
  std::string id;
  if (section.ReadString("id", kOptional, id)) {
    const bool hex =
        id.size() % 2 == 0 && !id.empty() &&
        id.find_first_not_of("0123456789abcdefABCDEF") == std::string::npos;
    if (hex) {
      key.id = ToBytes(absl::HexStringToBytes(id));
    } else {
      section.Report("id",
                     "want pairs of hexadecimal digits, such as 01; quote it "
                     "so that YAML keeps the zeros");
    }
  }
  section.ReadString("label", kOptional, key.label);
  if (key.id.empty() && key.label.empty()) {
    section.Report("id", "want the key's id, its label, or both");
  }
}

void ReadStepOf(CeremonyAction action, YamlContext& context,
                YamlSection& section, CeremonyStep& step) {
  step.action = action;
  ReadKeyReference(section, step.key);
  const auto read_path = [&](const char* name, Presence presence,
                             std::string& path) {
    // Not ReadPath(): the file may come later.
    if (section.ReadString(name, presence, path)) path = context.Path(path);
  };
  switch (action) {
    case CeremonyAction::kGenerate:
      if (section.ReadString("algorithm", kOptional, step.algorithm) &&
          !ParseKeyAlgorithm(step.algorithm).has_value()) {
        section.Report("algorithm",
                       "is rsa2048, rsa3072, rsa4096, p256 or p384");
      }
      break;
    case CeremonyAction::kSelfSign: {
      constexpr uint32_t kHundredYears = 36525;
      section.ReadCount("days", 1, kHundredYears, step.days);
      [[fallthrough]];
    }
    case CeremonyAction::kRequest:
      section.ReadString("subject", kRequired, step.subject);
      read_path("out", kRequired, step.out);
      break;
    case CeremonyAction::kImportCertificate:
      read_path("certificate", kRequired, step.certificate);
      break;
    case CeremonyAction::kAttest:
      section.ReadPath("vendor_root", kRequired, step.vendor_roots);
      read_path("attestation", kOptional, step.attestation);
      read_path("intermediate", kOptional, step.intermediates);
      read_path("out", kOptional, step.out);
      break;
  }
  section.Finish();
}

void ReadStep(YamlContext& context, YamlSection& section, Ceremony& ceremony) {
  CeremonyStep step;
  int count = 0;
  for (const auto& [word, action] : kActions) {
    if (section.ReadSection(word, kOptional, [&](YamlSection& what) {
          ReadStepOf(action, context, what, step);
        })) {
      ++count;
    }
  }
  section.Finish();
  if (count != 1) {
    section.Report("generate",
                   "a step is one of generate, csr, self-sign, "
                   "import-certificate, attest");
  }
  ceremony.steps.push_back(std::move(step));
}

void ReadTokenArguments(YamlSection& section, TokenArguments& token) {
  const bool uri = section.ReadString("uri", kOptional, token.uri);
  const bool config = section.ReadPath("config", kOptional, token.config);
  section.ReadString("name", kOptional, token.token);
  section.Finish();
  if (uri == config) {
    section.Report("uri",
                   "want uri: pkcs11:..., or config: FILE and name: TOKEN");
  }
}

void ReadCeremony(YamlContext& context, YamlSection& section,
                  Ceremony& ceremony) {
  std::string version;
  if (section.ReadString("version", kRequired, version) && version != "1") {
    section.Report("version", "this program reads version 1");
  }
  section.ReadString("ceremony", kRequired, ceremony.name);
  section.ReadStrings("operators", ceremony.operators);
  section.ReadSection("token", kRequired, [&](YamlSection& token) {
    ReadTokenArguments(token, ceremony.token);
  });
  if (section.ReadString("transcript", kRequired, ceremony.transcript)) {
    ceremony.transcript = context.Path(ceremony.transcript);
  }
  section.ReadSections("steps", kRequired, [&](YamlSection& step) {
    ReadStep(context, step, ceremony);
  });
  section.Finish();
  if (ceremony.steps.empty()) section.Report("steps", "want at least one step");
}

// ---- The steps ----

absl::Status RefuseStep(const std::string& message) {
  return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_TOKEN,
                   v1::REASON_CEREMONY, message);
}

std::string NameOf(const KeyReference& key) {
  std::string name;
  if (!key.id.empty()) name = "id=" + HexEncode(key.id);
  if (!key.label.empty()) {
    name += (name.empty() ? "'" : " '") + key.label + "'";
  }
  return name;
}

bool Exists(const std::string& path) {
  std::error_code error;
  return fs::exists(path, error);
}

absl::StatusOr<std::string> ReadText(const std::string& path) {
  ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  return ToString(file.bytes());
}

absl::Status WriteText(const std::string& path, const std::string& text) {
  ASSIGN_OR_RETURN(StagedFile file, StagedFile::Create(path, 0644));
  RETURN_IF_ERROR(file.Write(AsBytes(text), 0));
  return file.Commit();
}

// Whether a step did something or found it done.
enum class Outcome : uint8_t { kDone, kFound };

class CeremonyRun {
 public:
  CeremonyRun(const Ceremony& ceremony, Transcript& transcript,
              std::ostream& out)
      : ceremony_(ceremony), transcript_(transcript), out_(out) {}

  absl::Status Run() {
    ASSIGN_OR_RETURN(OpenedToken opened, OpenToken(ceremony_.token));
    token_ = std::move(opened.token);
    ASSIGN_OR_RETURN(const TokenListing listing, token_->List(TokenDeadline()));
    Json begin = NewEntry("begin");
    begin["operators"] = ceremony_.operators;
    begin["token"] = {{"label", listing.label},
                      {"serial", listing.serial},
                      {"manufacturer", listing.manufacturer},
                      {"model", listing.model}};
    RETURN_IF_ERROR(Append(begin));
    out_ << "ceremony '" << ceremony_.name << "' on token '" << listing.label
         << "', serial " << listing.serial << "\n";
    for (size_t i = 0; i < ceremony_.steps.size(); ++i) {
      RETURN_IF_ERROR(RunStep(i + 1, ceremony_.steps[i]));
    }
    RETURN_IF_ERROR(Append(NewEntry("end")));
    out_ << "complete\n";
    return absl::OkStatus();
  }

 private:
  Json NewEntry(const std::string& event) const {
    return {{"time", absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", absl::Now(),
                                      absl::UTCTimeZone())},
            {"ceremony", ceremony_.name},
            {"file_sha256", ceremony_.file_sha256},
            {"event", event}};
  }

  absl::Status Append(const Json& entry) {
    return transcript_.Append(
        entry.dump(-1, ' ', false, Json::error_handler_t::replace));
  }

  absl::Status RunStep(size_t number, const CeremonyStep& step) {
    const std::string action = WordFor(step.action);
    Json entry = NewEntry("step");
    entry["step"] = number;
    entry["action"] = action;
    entry["key"] = {{"id", HexEncode(step.key.id)}, {"label", step.key.label}};
    entry["result"] = "begun";
    RETURN_IF_ERROR(Append(entry));
    details_ = Json::object();
    const absl::StatusOr<Outcome> outcome = Do(step);
    entry = NewEntry("step");
    entry["step"] = number;
    entry["action"] = action;
    entry["key"] = {{"id", HexEncode(step.key.id)}, {"label", step.key.label}};
    if (outcome.ok()) {
      entry["result"] = *outcome == Outcome::kDone ? "done" : "found";
    } else {
      entry["result"] = "refused";
      entry["reason"] = v1::Reason_Name(GetReason(outcome.status()));
      entry["message"] = std::string(Message(outcome.status()));
    }
    entry.update(details_);
    RETURN_IF_ERROR(Append(entry));
    if (!outcome.ok()) {
      const std::string message =
          "step " + std::to_string(number) + " (" + action + " " +
          NameOf(step.key) + "): " + std::string(Message(outcome.status()));
      const auto detail =
          GetErrorDetail(outcome.status()).value_or(ErrorDetail());
      return WithErrorDetail(absl::Status(outcome.status().code(), message),
                             detail);
    }
    out_ << number << " " << action << " " << NameOf(step.key) << ": "
         << (*outcome == Outcome::kDone ? "done" : "found, done before");
    for (const auto& [name, value] : details_.items()) {
      out_ << "\n    " << name << " "
           << (value.is_string() ? value.get<std::string>() : value.dump());
    }
    out_ << "\n";
    return absl::OkStatus();
  }

  absl::StatusOr<Outcome> Do(const CeremonyStep& step) {
    switch (step.action) {
      case CeremonyAction::kGenerate:
        return Generate(step);
      case CeremonyAction::kRequest:
        return Request(step);
      case CeremonyAction::kSelfSign:
        return SelfSignKey(step);
      case CeremonyAction::kImportCertificate:
        return Import(step);
      case CeremonyAction::kAttest:
        return Attest(step);
    }
    return RefuseStep("unknown action");
  }

  // Ceremonies are for keys that were made inside the token.
  absl::StatusOr<std::shared_ptr<KeyBackend>> LoadKey(
      const CeremonyStep& step) {
    ASSIGN_OR_RETURN(
        std::shared_ptr<KeyBackend> key,
        token_->LoadKey(step.key, KeyPolicy::kStrict, {}, TokenDeadline()));
    details_["public_key_sha256"] = Sha256(key->public_key());
    return key;
  }

  // Whether an earlier run of this ceremony generated the key.
  bool Generated(const std::string& public_key_sha256) const {
    return std::any_of(
        transcript_.entries().begin(), transcript_.entries().end(),
        [&](const std::string& text) {
          const Json entry = Json::parse(text, nullptr, false);
          const auto value = [&](const char* name) {
            return entry.value(name, std::string());
          };
          return entry.is_object() && value("ceremony") == ceremony_.name &&
                 value("action") == "generate" && value("result") == "done" &&
                 value("public_key_sha256") == public_key_sha256;
        });
  }

  absl::StatusOr<Outcome> Generate(const CeremonyStep& step) {
    details_["algorithm"] = step.algorithm;
    ASSIGN_OR_RETURN(const TokenListing listing, token_->List(TokenDeadline()));
    const auto clash = std::find_if(
        listing.keys.begin(), listing.keys.end(), [&](const KeyListing& each) {
          return (!step.key.id.empty() && each.id == step.key.id) ||
                 (!step.key.label.empty() && each.label == step.key.label);
        });
    if (clash == listing.keys.end()) {
      ASSIGN_OR_RETURN(
          const Bytes public_key,
          token_->GenerateKey(step.key, *ParseKeyAlgorithm(step.algorithm),
                              TokenDeadline()));
      details_["public_key_sha256"] = Sha256(public_key);
      // Loaded once, so that its attributes are checked.
      RETURN_IF_ERROR(LoadKey(step).status());
      return Outcome::kDone;
    }
    if (clash->algorithm != step.algorithm) {
      return RefuseStep("the token has a key of this name already, and it is " +
                        clash->algorithm);
    }
    RETURN_IF_ERROR(LoadKey(step).status());
    if (!Generated(details_["public_key_sha256"].get<std::string>())) {
      return RefuseStep(
          "the token has a key of this name already, and by the transcript "
          "this ceremony did not make it");
    }
    return Outcome::kFound;
  }

  absl::StatusOr<Outcome> Request(const CeremonyStep& step) {
    ASSIGN_OR_RETURN(std::shared_ptr<KeyBackend> key, LoadKey(step));
    ASSIGN_OR_RETURN(const CertificateApplicant wanted,
                     DescribeApplicant(step.subject, key->public_key()));
    details_["subject"] = step.subject;
    details_["file"] = step.out;
    if (Exists(step.out)) {
      ASSIGN_OR_RETURN(const std::string text, ReadText(step.out));
      const absl::StatusOr<CertificateApplicant> there =
          ReadCertificateRequest(text);
      if (!there.ok() || there->public_key != wanted.public_key ||
          there->subject != wanted.subject) {
        return RefuseStep(step.out +
                          " is there already, and no request of this key and "
                          "subject");
      }
      details_["request_sha256"] = Sha256(AsBytes(text));
      return Outcome::kFound;
    }
    ASSIGN_OR_RETURN(
        const std::string pem,
        BuildCertificateRequest(std::move(key), step.subject, TokenDeadline()));
    RETURN_IF_ERROR(WriteText(step.out, pem));
    details_["request_sha256"] = Sha256(AsBytes(pem));
    return Outcome::kDone;
  }

  // A self-signed certificate of this applicant, from the token or the file.
  static bool IsWanted(const Certificate& certificate,
                       const CertificateApplicant& wanted) {
    return certificate.SubjectPublicKeyInfo() == wanted.public_key &&
           certificate.SubjectName() == wanted.subject &&
           certificate.IsSelfSigned();
  }

  absl::StatusOr<Outcome> SelfSignKey(const CeremonyStep& step) {
    ASSIGN_OR_RETURN(std::shared_ptr<KeyBackend> key, LoadKey(step));
    ASSIGN_OR_RETURN(const CertificateApplicant wanted,
                     DescribeApplicant(step.subject, key->public_key()));
    details_["subject"] = step.subject;
    details_["file"] = step.out;
    std::vector<Certificate> made;
    if (Exists(step.out)) {
      ASSIGN_OR_RETURN(made, ReadCertificates(step.out));
      if (!IsWanted(made.front(), wanted)) {
        return RefuseStep(
            step.out +
            " is there already, and no self-signed certificate of "
            "this key and subject");
      }
    }
    // Stored, but not written: an earlier run was interrupted in between.
    ASSIGN_OR_RETURN(const TokenListing listing, token_->List(TokenDeadline()));
    std::vector<Certificate> stored;
    for (const CertificateListing& each : listing.certificates) {
      absl::StatusOr<Certificate> certificate = Certificate::Parse(each.der);
      if (certificate.ok() && IsWanted(*certificate, wanted)) {
        stored.push_back(*std::move(certificate));
      }
    }
    const bool found = !made.empty() || !stored.empty();
    if (!found) {
      const ValidityPeriod validity = ValidityFromNow(step.days);
      ASSIGN_OR_RETURN(const std::string pem,
                       BuildSelfSignedCertificate(
                           std::move(key), step.subject, validity.not_before,
                           validity.not_after, TokenDeadline()));
      ASSIGN_OR_RETURN(made, Certificate::ParsePem(pem));
    }
    const Certificate certificate =
        made.empty() ? stored.front() : made.front();
    if (std::find(stored.begin(), stored.end(), certificate) == stored.end()) {
      RETURN_IF_ERROR(token_->ImportCertificate(step.key, certificate.der(),
                                                TokenDeadline()));
    }
    if (!Exists(step.out)) {
      RETURN_IF_ERROR(WriteText(step.out, certificate.Pem()));
    }
    details_["certificate_sha256"] = HexEncode(certificate.Sha256());
    return found ? Outcome::kFound : Outcome::kDone;
  }

  absl::StatusOr<Outcome> Import(const CeremonyStep& step) {
    details_["file"] = step.certificate;
    if (!Exists(step.certificate)) {
      return RefuseStep(
          "waits for " + step.certificate +
          ": put the authority's answer there and run the ceremony "
          "again");
    }
    ASSIGN_OR_RETURN(const std::shared_ptr<KeyBackend> key, LoadKey(step));
    ASSIGN_OR_RETURN(const std::vector<Certificate> certificates,
                     ReadCertificates(step.certificate));
    const Certificate& leaf = certificates.front();
    details_["common_name"] = leaf.CommonName();
    details_["certificate_sha256"] = HexEncode(leaf.Sha256());
    ASSIGN_OR_RETURN(const TokenListing listing, token_->List(TokenDeadline()));
    for (const CertificateListing& each : listing.certificates) {
      if (Equal(each.der, leaf.der())) return Outcome::kFound;
    }
    RETURN_IF_ERROR(
        token_->ImportCertificate(step.key, leaf.der(), TokenDeadline()));
    return Outcome::kDone;
  }

  absl::StatusOr<Outcome> Attest(const CeremonyStep& step) {
    ASSIGN_OR_RETURN(const std::shared_ptr<KeyBackend> key, LoadKey(step));
    ASSIGN_OR_RETURN(const KeyAttestation attestation,
                     AttestKey(*token_, key->public_key(), step.attestation,
                               step.intermediates, step.vendor_roots));
    std::string pem;
    Json digests = Json::array();
    for (const Certificate& each : attestation.chain) {
      pem += each.Pem();
      digests.push_back(HexEncode(each.Sha256()));
    }
    details_["attestation_chain_sha256"] = digests;
    details_["vendor"] = attestation.chain.back().CommonName();
    if (!attestation.serial.empty()) {
      details_["device_serial"] = attestation.serial;
      details_["device_firmware"] = attestation.firmware;
      details_["pin_policy"] = attestation.pin_policy;
      details_["touch_policy"] = attestation.touch_policy;
    }
    if (step.out.empty()) return Outcome::kDone;
    details_["file"] = step.out;
    if (Exists(step.out)) {
      ASSIGN_OR_RETURN(const std::string there, ReadText(step.out));
      if (there == pem) return Outcome::kFound;
      return RefuseStep(step.out +
                        " is there already, and another attestation");
    }
    RETURN_IF_ERROR(WriteText(step.out, pem));
    return Outcome::kDone;
  }

  const Ceremony& ceremony_;
  Transcript& transcript_;
  std::ostream& out_;
  std::shared_ptr<Token> token_;
  Json details_;  // of the step that runs
};

}  // namespace

ParsedCeremony ParseCeremony(std::string_view text, const std::string& folder) {
  YamlContext context{folder, {}};
  ParsedCeremony parsed;
  ReadYaml(context, text, [&](YamlSection& section) {
    ReadCeremony(context, section, parsed.ceremony);
  });
  parsed.ceremony.file_sha256 = Sha256(AsBytes(text));
  parsed.problems = std::move(context.problems);
  return parsed;
}

absl::StatusOr<Ceremony> LoadCeremony(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadYamlText(path));
  ParsedCeremony parsed = ParseCeremony(text, FolderOf(path));
  if (!parsed.problems.empty()) return ConfigError(path, parsed.problems);
  return std::move(parsed.ceremony);
}

absl::Status RunCeremony(const Ceremony& ceremony, Transcript& transcript,
                         std::ostream& out) {
  return CeremonyRun(ceremony, transcript, out).Run();
}

void DescribeCeremony(const Ceremony& ceremony, std::ostream& out) {
  out << "ceremony '" << ceremony.name << "', file sha256 "
      << ceremony.file_sha256 << "\n";
  for (size_t i = 0; i < ceremony.steps.size(); ++i) {
    const CeremonyStep& step = ceremony.steps[i];
    out << i + 1 << " " << WordFor(step.action) << " " << NameOf(step.key);
    if (step.action == CeremonyAction::kGenerate) out << " " << step.algorithm;
    if (!step.subject.empty()) out << " for '" << step.subject << "'";
    if (!step.certificate.empty()) out << " from " << step.certificate;
    if (!step.vendor_roots.empty()) {
      out << " against the root in " << step.vendor_roots;
    }
    if (!step.out.empty()) out << " into " << step.out;
    out << "\n";
  }
  out << "transcript " << ceremony.transcript << "\n";
}

absl::Status RecordCeremony(const AdminConnection& server,
                            const std::string& path, std::ostream& out) {
  ASSIGN_OR_RETURN(const std::vector<std::string> lines, ReadTranscript(path));
  ASSIGN_OR_RETURN(const std::shared_ptr<grpc::Channel> channel,
                   OpenAdminChannel(server));
  const auto stub = v1::OpsService::NewStub(channel);
  v1::RecordCeremonyRequest request;
  for (const std::string& line : lines) request.add_lines(line);
  grpc::ClientContext context;
  SetAdminDeadline(context);
  v1::RecordCeremonyResponse response;
  RETURN_IF_ERROR(
      StatusFromGrpc(stub->RecordCeremony(&context, request, &response)));
  out << path << ": " << lines.size() << " lines recorded, from entry "
      << response.first_index() << "\n";
  return absl::OkStatus();
}

}  // namespace codeseal
