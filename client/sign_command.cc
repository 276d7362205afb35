#include <algorithm>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/code_file.h"
#include "client/commands.h"
#include "client/open_signer.h"
#include "client/sign_options.h"
#include "client/signer.h"
#include "codesign/base/error.h"
#include "codesign/code_directory.h"
#include "codesign/signing_plan.h"

namespace codeseal::client {
namespace {

// One path on its way from file to signed file. Once `fault` is set, nothing
// more happens to it.
struct Job {
  std::string path;
  std::optional<SigningPlan> plan;
  std::vector<SliceSignature> signatures;  // of each slice
  absl::Status fault;
};

absl::StatusOr<SigningPlan> PlanFile(const std::string& path,
                                     const SigningOptions& options,
                                     std::span<const Certificate> chain) {
  ASSIGN_OR_RETURN(MappedFile file, OpenCodeFile(path));
  return SigningPlan::Create(std::move(file), options, chain);
}

// Fills the signatures of every job without a fault.
void SignJobs(std::vector<Job>& jobs, const SigningIdentity& identity,
              bool check, Signer& signer, Reporter& reporter) {
  std::vector<SliceToSign> slices;
  std::vector<Job*> owners;
  for (Job& job : jobs) {
    if (!job.fault.ok()) continue;
    for (const SlicePlan& slice : job.plan->slices()) {
      slices.push_back({job.path, &slice});
      owners.push_back(&job);
    }
  }
  std::vector<absl::StatusOr<SliceSignature>> results =
      signer.Sign(identity, slices, [&](size_t done_count, size_t total_count) {
        reporter.Progress(
            absl::StrCat("signed ", done_count, " of ", total_count));
      });
  for (size_t i = 0; i < slices.size(); ++i) {
    Job& job = *owners[i];
    absl::Status status = results[i].status();
    if (status.ok() && check) {
      status = CheckSignature(*slices[i].plan, identity, results[i]->cms);
    }
    if (!status.ok()) {
      const std::string& architecture = slices[i].plan->architecture;
      // The first slice's fault stands for the file.
      if (job.fault.ok()) {
        job.fault = WithSubject(
            std::move(status), absl::StrCat(job.path, " (", architecture, ")"));
      }
      continue;
    }
    job.signatures.push_back(*std::move(results[i]));
  }
}

nlohmann::json DescribeSlice(const SlicePlan& slice,
                             const SliceSignature* signature) {
  nlohmann::json cdhashes = nlohmann::json::object();
  std::string best;
  const DigestKind best_digest = BestDigest(slice.digests);
  for (size_t i = 0; i < slice.cdhashes.size(); ++i) {
    const std::string hex = HexEncode(slice.cdhashes[i]);
    cdhashes[std::string(DigestName(slice.digests[i]))] = hex;
    if (slice.digests[i] == best_digest) best = hex;
  }
  nlohmann::json json = {{"architecture", slice.architecture},
                         {"cdhash", best},
                         {"cdhashes", std::move(cdhashes)}};
  if (signature == nullptr) return json;
  json["cms_size"] = signature->cms.size();
  if (!signature->request_id.empty()) {
    json["request_id"] = signature->request_id;
    json["replayed"] = signature->replayed;
  }
  if (signature->signing_time.has_value()) {
    json["signing_time"] = FormatUtc(*signature->signing_time);
  }
  return json;
}

void ReportDone(const Job& job, const SignCommand& command,
                const SigningIdentity& identity, Reporter& reporter) {
  const SigningPlan& plan = *job.plan;
  nlohmann::json result = {
      {"path", job.path},
      {"format", plan.Format()},
      {"identifier", plan.identifier()},
      {"replaced_signature", plan.replaces_signature()},
      {"dry_run", command.dry_run},
      {"identity", {{"name", identity.name}, {"version", identity.version}}},
      {"slices", nlohmann::json::array()}};
  if (plan.replaces_signature()) {
    reporter.Say(0, job.path + ": replacing existing signature");
  }
  reporter.Say(1, job.path +
                      (command.dry_run ? ": would be signed " : ": signed ") +
                      plan.Format() + " [" + plan.identifier() + "]");
  for (size_t i = 0; i < plan.slices().size(); ++i) {
    const SlicePlan& slice = plan.slices()[i];
    nlohmann::json described = DescribeSlice(
        slice, job.signatures.empty() ? nullptr : &job.signatures[i]);
    reporter.Say(1, "  " + slice.architecture +
                        " cdhash=" + described["cdhash"].get<std::string>());
    result["slices"].push_back(std::move(described));
  }
  reporter.Succeed(std::move(result));
}

absl::Status Write(const Job& job) {
  std::vector<Bytes> cms;
  for (const SliceSignature& signature : job.signatures) {
    cms.push_back(signature.cms);
  }
  return job.plan->WriteSigned(job.path, cms);
}

// What is needed before any file is looked at.
struct Setup {
  SigningOptions options;
  std::unique_ptr<Signer> signer;  // none for ad-hoc
  SigningIdentity identity;        // without chain for ad-hoc
};

absl::StatusOr<Setup> Prepare(const SignCommand& command) {
  Setup setup;
  if (command.identity.empty()) {
    return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_USAGE,
                     v1::REASON_USAGE,
                     "no identity: give -s NAME, or -s - for an ad-hoc "
                     "signature, or set CODESEAL_IDENTITY");
  }
  ASSIGN_OR_RETURN(setup.options, ReadSigningOptions(command));
  ASSIGN_OR_RETURN(const v1::TimestampMode timestamp,
                   ReadTimestampMode(command.timestamp));
  setup.identity.name = command.identity;
  if (command.identity == "-") return setup;
  ASSIGN_OR_RETURN(setup.signer,
                   OpenSigner(command.signer, timestamp, command.dry_run));
  ASSIGN_OR_RETURN(setup.identity, setup.signer->GetIdentity(command.identity));
  if (!setup.identity.unavailable_because.empty()) {
    return WithSubject(MakeError(absl::StatusCode::kUnavailable,
                                 v1::STAGE_TOKEN, v1::REASON_TOKEN_DOWN,
                                 "the identity cannot sign now: " +
                                     setup.identity.unavailable_because),
                       "identity " + setup.identity.name);
  }
  return setup;
}

}  // namespace

void RunSign(const SignCommand& command, Reporter& reporter) {
  reporter.Progress("looking up the identity");
  absl::StatusOr<Setup> setup = Prepare(command);
  if (!setup.ok()) {
    reporter.FailAll("sign", command.paths, setup.status());
    return;
  }

  // Every CodeDirectory of every path first: then one stream signs them all.
  std::vector<Job> jobs;
  for (const std::string& path : command.paths) {
    reporter.Progress(absl::StrCat("hashing ", jobs.size() + 1, " of ",
                                   command.paths.size(), ": ", path));
    Job& job = jobs.emplace_back();
    job.path = path;
    absl::StatusOr<SigningPlan> plan =
        PlanFile(path, setup->options, setup->identity.chain);
    if (plan.ok()) {
      job.plan = *std::move(plan);
    } else {
      job.fault = plan.status();
    }
  }
  if (setup->signer != nullptr) {
    SignJobs(jobs, setup->identity, !command.dry_run, *setup->signer, reporter);
  }
  for (Job& job : jobs) {
    if (job.fault.ok() && !command.dry_run) {
      reporter.Progress("writing " + job.path);
      job.fault = Write(job);
    }
    if (job.fault.ok()) {
      ReportDone(job, command, setup->identity, reporter);
    } else {
      reporter.Fail("sign", job.path, job.fault);
    }
  }
}

}  // namespace codeseal::client
