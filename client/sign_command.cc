#include <algorithm>
#include <array>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "client/commands.h"
#include "client/find_identity.h"
#include "client/open_signer.h"
#include "client/package_file.h"
#include "client/sign_options.h"
#include "client/sign_settings.h"
#include "client/signer.h"
#include "client/stored_files.h"
#include "codesign/base/error.h"
#include "codesign/base/staged_file.h"
#include "codesign/code_directory.h"
#include "codesign/code_signing.h"
#include "codesign/signing_plan.h"

namespace codeseal::client {
namespace {

// One path on its way from what it is to signed code. Once `fault` is set,
// nothing more happens to it.
struct Job {
  std::string path;
  std::optional<CodeSigning> signing;
  std::span<const CodeToSign> stage;  // what is to be signed next
  // Of each slice of each planned item; empty for ad-hoc.
  std::vector<std::vector<SliceSignature>> signatures;
  absl::Status fault;

  bool has_work() const { return fault.ok() && !stage.empty(); }
};

// The slice as people name it: with its architecture if it has one.
std::string SliceName(const std::string& path, const SlicePlan& slice) {
  if (slice.architecture.empty()) return path;
  return absl::StrCat(path, " (", slice.architecture, ")");
}

// Signs the stages of all jobs in one stream, and appends to their signatures.
void SignStages(std::vector<Job>& jobs, const SigningIdentity& identity,
                bool check, Signer& signer, Reporter& reporter) {
  struct Place {
    Job* job;
    size_t item;
  };
  std::vector<SliceToSign> slices;
  std::vector<Place> places;
  for (Job& job : jobs) {
    if (!job.has_work()) continue;
    const size_t first = job.signatures.size();
    job.signatures.resize(first + job.stage.size());
    for (size_t i = 0; i < job.stage.size(); ++i) {
      for (const SlicePlan& slice : job.stage[i].plan->slices()) {
        slices.push_back({job.stage[i].path, &slice});
        places.push_back({&job, first + i});
      }
    }
  }
  std::vector<absl::StatusOr<SliceSignature>> results =
      signer.Sign(identity, slices, [&](size_t done_count, size_t total_count) {
        reporter.Progress(
            absl::StrCat("signed ", done_count, " of ", total_count));
      });
  for (size_t i = 0; i < slices.size(); ++i) {
    Job& job = *places[i].job;
    absl::Status status = results[i].status();
    if (status.ok() && check) {
      status = CheckSignature(*slices[i].plan, identity, results[i]->cms);
    }
    if (!status.ok()) {
      // The first slice's fault stands for the path.
      if (job.fault.ok()) {
        job.fault = WithSubject(std::move(status),
                                SliceName(slices[i].path, *slices[i].plan));
      }
      continue;
    }
    job.signatures[places[i].item].push_back(*std::move(results[i]));
  }
}

nlohmann::json DescribeSignedSlice(const SlicePlan& slice,
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
  if (!signature->receipt.empty()) json["receipt"] = signature->receipt;
  if (signature->signing_time.has_value()) {
    json["signing_time"] = FormatUtc(*signature->signing_time);
  }
  if (signature->timestamp.has_value()) {
    json["timestamp"] = FormatUtc(*signature->timestamp);
  }
  return json;
}

// The code is signed by now: a receipt that can't be kept is a remark, and the
// log has it still.
void KeepReceipt(const SliceSignature& signature, const std::string& folder,
                 Reporter& reporter) {
  if (folder.empty() || signature.receipt.empty()) return;
  const std::string path = folder + "/" + signature.request_id + ".tlog-proof";
  std::error_code ignored;  // what matters is whether the file can be made
  std::filesystem::create_directories(folder, ignored);
  const auto write = [&]() -> absl::Status {
    ASSIGN_OR_RETURN(StagedFile file, StagedFile::Create(path, 0644));
    RETURN_IF_ERROR(file.Write(AsBytes(signature.receipt), 0));
    return file.Commit();
  };
  if (const absl::Status written = write(); !written.ok()) {
    reporter.Complain("warning: the receipt was not kept: " +
                      std::string(Message(written)));
  }
}

// Tells people about one item, and returns what programs are told.
nlohmann::json ReportItem(const CodeToSign& item,
                          const std::vector<SliceSignature>* signatures,
                          const SignCommand& command, Reporter& reporter) {
  const SigningPlan& plan = *item.plan;
  nlohmann::json result = {{"path", item.path},
                           {"format", item.format},
                           {"identifier", plan.identifier()},
                           {"replaced_signature", plan.replaces_signature()},
                           {"slices", nlohmann::json::array()}};
  if (plan.replaces_signature()) {
    reporter.Say(0, item.path + ": replacing existing signature");
  }
  reporter.Say(1, item.path +
                      (command.dry_run ? ": would be signed " : ": signed ") +
                      item.format + " [" + plan.identifier() + "]");
  if (item.format == "generic" && command.detached_path.empty()) {
    reporter.Complain(item.path +
                      ": warning: the signature is in extended attributes; "
                      "archives and copies lose them unless told otherwise "
                      "(tar --xattrs, cp --preserve=xattr, rsync -X)");
  }
  for (size_t i = 0; i < plan.slices().size(); ++i) {
    const SlicePlan& slice = plan.slices()[i];
    if (signatures != nullptr) {
      KeepReceipt((*signatures)[i], command.receipts_path, reporter);
    }
    nlohmann::json described = DescribeSignedSlice(
        slice, signatures == nullptr ? nullptr : &(*signatures)[i]);
    const std::string& name =
        slice.architecture.empty() ? item.format : slice.architecture;
    reporter.SayMore(
        1, "  " + name + " cdhash=" + described["cdhash"].get<std::string>());
    result["slices"].push_back(std::move(described));
  }
  return result;
}

// The files that signing wrote.
std::vector<std::string> ChangedFiles(const Job& job,
                                      const SignCommand& command) {
  if (!command.detached_path.empty()) return {command.detached_path};
  std::vector<std::string> changed;
  for (const CodeToSign& item : job.signing->planned()) {
    const auto code = StoredCode::Open(
        item.path, item.path == job.path ? command.bundle_version : "");
    if (!code.ok()) continue;  // what was just written can be read
    for (std::string& path : code->ModifiedFiles()) {
      changed.push_back(std::move(path));
    }
  }
  return changed;
}

// Nested code first, as it was signed.
void ReportDone(const Job& job, const SignCommand& command,
                const SigningIdentity& identity, Reporter& reporter) {
  const std::span<const CodeToSign> items = job.signing->planned();
  nlohmann::json nested = nlohmann::json::array();
  for (size_t i = 0; i < items.size(); ++i) {
    nlohmann::json result = ReportItem(
        items[i], job.signatures.empty() ? nullptr : &job.signatures[i],
        command, reporter);
    if (i + 1 < items.size()) {
      nested.push_back(std::move(result));
      continue;
    }
    result["path"] = job.path;
    result["dry_run"] = command.dry_run;
    result["identity"] = {{"name", identity.name},
                          {"version", identity.version}};
    if (!nested.empty()) result["nested"] = std::move(nested);
    reporter.Succeed(std::move(result));
  }
}

absl::Status WriteStage(Job& job) {
  std::vector<std::vector<Bytes>> cms(job.stage.size());
  // The stage's items are the last ones.
  const size_t first =
      job.signatures.size() - std::min(job.signatures.size(), job.stage.size());
  for (size_t i = 0; i < cms.size() && !job.signatures.empty(); ++i) {
    for (const SliceSignature& each : job.signatures[first + i]) {
      cms[i].push_back(each.cms);
    }
  }
  return job.signing->WriteStage(cms);
}

// What is needed before any file is looked at.
struct Setup {
  SigningOptions options;
  SignSettings settings;
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
  if (!command.detached_path.empty() && command.paths.size() > 1) {
    return WithSubject(
        MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_USAGE,
                  v1::REASON_BAD_OPTION, "one signature is for one file"),
        "--detached");
  }
  ASSIGN_OR_RETURN(setup.options, ReadSigningOptions(command));
  if (!command.settings_path.empty()) {
    ASSIGN_OR_RETURN(setup.settings, SignSettings::Load(command.settings_path));
  }
  ASSIGN_OR_RETURN(const TimestampWish timestamp,
                   ReadTimestampWish(command.timestamp));
  setup.identity.name = command.identity;
  if (command.identity == "-") {
    if (timestamp.mode != v1::TIMESTAMP_MODE_REQUIRED) return setup;
    return WithSubject(
        MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_USAGE,
                  v1::REASON_BAD_OPTION,
                  "an ad-hoc signature has no room for a timestamp"),
        "--timestamp");
  }
  ASSIGN_OR_RETURN(setup.signer,
                   OpenSigner(command.signer, timestamp, command.dry_run));
  ASSIGN_OR_RETURN(setup.identity,
                   FindIdentity(*setup.signer, command.identity));
  if (!setup.identity.unavailable_because.empty()) {
    return WithSubject(MakeError(absl::StatusCode::kUnavailable,
                                 v1::STAGE_TOKEN, v1::REASON_TOKEN_DOWN,
                                 "the identity cannot sign now: " +
                                     setup.identity.unavailable_because),
                       "identity " + setup.identity.name);
  }
  return setup;
}

// "1.2 GB".
std::string FormatSize(uint64_t size) {
  if (size < 1'000'000) return absl::StrCat((size + 999) / 1000, " kB");
  const bool is_giga = size >= 1'000'000'000;
  return absl::StrFormat("%.1f %s",
                         static_cast<double>(size) / (is_giga ? 1e9 : 1e6),
                         is_giga ? "GB" : "MB");
}

// Shows how far hashing is, a few times a second.
std::function<void(const HashingProgress&)> ShowHashing(Reporter& reporter) {
  return [&reporter, shown_at = absl::InfinitePast()](
             const HashingProgress& progress) mutable {
    const absl::Time now = absl::Now();
    if (now - shown_at < absl::Milliseconds(100)) return;
    shown_at = now;
    std::string text = absl::StrCat("hashing ", progress.path, ": ",
                                    FormatSize(progress.size_done), " of ",
                                    FormatSize(progress.size));
    if (progress.item_count > 1) {
      absl::StrAppend(&text, ", ", progress.items_done, " of ",
                      progress.item_count, " signed parts");
    }
    reporter.Progress(text);
  };
}

absl::StatusOr<CodeSigning> OpenCodeSigning(const std::string& path,
                                            const SignCommand& command,
                                            Setup& setup, Reporter& reporter) {
  CodeSigningOptions options;
  options.plan.is_deep = command.deep;
  options.plan.signs_resources = command.sign_resources;
  options.plan.version = command.bundle_version;
  options.chain = setup.identity.chain;
  options.writes_version1_seal = command.legacy_signing;
  options.seals_root = command.seal_root;
  options.detached_path = command.detached_path;
  options.options_of =
      [&setup](const std::string& item) -> absl::StatusOr<SigningOptions> {
    SigningOptions item_options = setup.options;
    RETURN_IF_ERROR(setup.settings.Apply(item, item_options));
    return item_options;
  };
  if (reporter.shows_progress()) options.on_progress = ShowHashing(reporter);
  return CodeSigning::Create(path, std::move(options));
}

// Hashes, signs and writes stage after stage: nearly always there is one.
void RunStages(std::vector<Job>& jobs, const SignCommand& command,
               const Setup& setup, Reporter& reporter) {
  while (true) {
    bool has_work = false;
    for (Job& job : jobs) {
      job.stage = {};
      if (!job.fault.ok()) continue;
      const auto stage = job.signing->PlanStage();
      if (stage.ok()) {
        job.stage = *stage;
      } else {
        job.fault = stage.status();
      }
      has_work = has_work || job.has_work();
    }
    if (!has_work) return;
    if (setup.signer != nullptr) {
      SignStages(jobs, setup.identity, !command.dry_run, *setup.signer,
                 reporter);
    }
    for (Job& job : jobs) {
      if (!job.has_work() || command.dry_run) continue;
      reporter.Progress("writing " + job.path);
      job.fault = WriteStage(job);
    }
  }
}

// Whether a folder above the file has the name of a bundle.
bool IsInBundle(const std::string& path) {
  static constexpr std::array<std::string_view, 7> kExtensions = {
      ".app", ".appex", ".bundle", ".framework", ".kext", ".plugin", ".xpc"};
  std::error_code error;
  const auto folder = std::filesystem::absolute(path, error).parent_path();
  return !error && std::ranges::any_of(folder, [](const auto& part) {
    return std::ranges::find(kExtensions, part.extension().string()) !=
           kExtensions.end();
  });
}

// Signs paths none of which is inside another.
void SignTogether(std::span<const std::string> paths, bool is_last,
                  const SignCommand& command, Setup& setup,
                  Reporter& reporter) {
  std::vector<Job> jobs;
  for (const std::string& path : paths) {
    Job& job = jobs.emplace_back();
    job.path = path;
    absl::StatusOr<CodeSigning> signing =
        OpenCodeSigning(path, command, setup, reporter);
    if (signing.ok()) {
      job.signing = *std::move(signing);
    } else {
      job.fault = signing.status();
    }
  }
  if (is_last) {
    const absl::Status used = setup.settings.CheckAllUsed();
    for (Job& job : jobs) job.fault.Update(used);
  }
  RunStages(jobs, command, setup, reporter);
  for (Job& job : jobs) {
    if (job.fault.ok() && !command.dry_run) {
      job.fault = job.signing->Commit();
      if (job.fault.ok() && !command.file_list_path.empty()) {
        job.fault = AppendFileList(command.file_list_path,
                                   ChangedFiles(job, command), reporter);
      }
    }
    if (job.fault.ok()) {
      ReportDone(job, command, setup.identity, reporter);
    } else if (reporter.is_apple() && IsInBundle(job.path) &&
               GetReason(job.fault) == v1::REASON_NO_EXTENDED_ATTRIBUTES) {
      // Build tools for a Mac sign icons and archives, too, everything that is
      // not text. Sealed as a resource, such a file needs no signature; where
      // code must be, the bundle will refuse it.
      reporter.Complain(job.path + ": warning: not signed by itself (" +
                        std::string(Message(job.fault)) +
                        "); the seal of the bundle covers it");
      reporter.Succeed({{"path", job.path}, {"skipped", true}});
    } else {
      reporter.Fail("sign", job.path, job.fault);
    }
  }
}

// Whether one of the paths is, or is inside, the other.
bool Overlap(const std::string& a, const std::string& b) {
  std::error_code error;
  const std::string x = std::filesystem::weakly_canonical(a, error).string();
  const std::string y = std::filesystem::weakly_canonical(b, error).string();
  return x == y || x.starts_with(y + "/") || y.starts_with(x + "/");
}

}  // namespace

void RunSign(const SignCommand& command, Reporter& reporter) {
  reporter.Progress("looking up the identity");
  absl::StatusOr<Setup> setup = Prepare(command);
  if (!setup.ok()) {
    reporter.FailAll("sign", command.paths, setup.status());
    return;
  }

  // Packages have signatures of another kind.
  std::vector<std::string> code_paths;
  for (const std::string& path : command.paths) {
    if (IsPackagePath(path)) {
      if (!command.detached_path.empty()) {
        reporter.Fail("sign", path, NoDetachedPackage());
        continue;
      }
      SignPackageFile(path, setup->options, command.dry_run, setup->identity,
                      setup->signer.get(), reporter);
    } else {
      code_paths.push_back(path);
    }
  }

  // Every CodeDirectory of every path first: then one stream signs them all.
  // Only a bundle whose parts are named, too, has to wait for them.
  const std::span<const std::string> paths = code_paths;
  for (size_t begin = 0; begin < paths.size();) {
    size_t end = begin + 1;
    while (end < paths.size() &&
           std::none_of(
               paths.begin() + static_cast<std::ptrdiff_t>(begin),
               paths.begin() + static_cast<std::ptrdiff_t>(end),
               [&](const std::string& path) {
                 return Overlap(path, paths[end]);
               })) {
      ++end;
    }
    SignTogether(paths.subspan(begin, end - begin), end == paths.size(),
                 command, *setup, reporter);
    begin = end;
  }
}

}  // namespace codeseal::client
