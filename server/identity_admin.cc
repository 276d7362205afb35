#include "server/identity_admin.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "codesign/base/error.h"
#include "codesign/cms/apple_cms.h"
#include "hsm/provider.h"
#include "server/identity_wire.h"
#include "server/log.h"

namespace codeseal {
namespace {

constexpr absl::Duration kScheduleStep = absl::Seconds(1);
constexpr absl::Duration kLongestScheduleRetry = absl::Minutes(1);
constexpr absl::Duration kWarningInterval = absl::Hours(24);
// What a probe signs: no code, so the signature is good for nothing else.
constexpr std::string_view kProbe = "codeseal probe of an identity version";

absl::Status WrongState(const IdentityVersion& version,
                        const std::string& message) {
  return WithSubject(MakeError(absl::StatusCode::kFailedPrecondition,
                               v1::STAGE_POLICY, v1::REASON_IDENTITY_STATE,
                               "version " + version.id() + " is " +
                                   StateWord(version.state()) + ": " + message),
                     version.name());
}

absl::Status BadRequest(const std::string& message) {
  return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_USAGE,
                   v1::REASON_BAD_REQUEST, message);
}

bool IsVersionId(std::string_view id) {
  constexpr size_t kMaxSize = 64;
  return !id.empty() && id.size() <= kMaxSize &&
         id.find_first_not_of(
             "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
             "0123456789._-") == std::string_view::npos;
}

absl::Status CheckDates(const IdentityVersion& version, absl::Time now) {
  const Certificate& leaf = version.chain().front();
  if (now >= leaf.not_before() && now < leaf.not_after()) {
    return absl::OkStatus();
  }
  return WithSubject(
      MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_POLICY,
                v1::REASON_CERTIFICATE_EXPIRED,
                "the certificate is valid from " +
                    absl::FormatTime(leaf.not_before(), absl::UTCTimeZone()) +
                    " to " +
                    absl::FormatTime(leaf.not_after(), absl::UTCTimeZone())),
      version.name() + " " + version.id());
}

// A signature as code gets it, verified with the certificate.
absl::Status ProveVersion(IdentityVersion& version) {
  ASSIGN_OR_RETURN(const std::shared_ptr<evp_pkey_st> key, version.key());
  const CmsContent content = DescribeBytes(AsBytes(kProbe));
  const SignScope scope(absl::Now() +
                        version.token().token->config().operation_timeout);
  const absl::StatusOr<Bytes> cms =
      BuildAppleCms({key.get(), TokenLibraryContext(), version.chain()},
                    content, std::nullopt);
  version.SetFault(scope.token_status());
  RETURN_IF_ERROR(scope.token_status());
  if (!cms.ok()) return cms.status();
  const absl::StatusOr<CmsSignature> verified =
      VerifyAppleCms(*cms, content, version.chain());
  if (verified.ok() && verified->signer == version.chain().front()) {
    return absl::OkStatus();
  }
  absl::Status status = MakeError(
      absl::StatusCode::kDataLoss, v1::STAGE_CMS, v1::REASON_SELF_VERIFY_FAILED,
      "the probe's signature does not verify: " +
          std::string(verified.ok() ? "it names another signer"
                                    : Message(verified.status())));
  version.Distrust(status);
  return status;
}

IdentityVersionConfig ConfigOf(const v1::StageVersionRequest& request) {
  IdentityVersionConfig config;
  config.id = request.version();
  config.state = v1::IDENTITY_STATE_STAGED;
  for (const v1::KeyLocation& each : request.keys()) {
    config.keys.push_back({each.token(), {ToBytes(each.id()), each.label()}});
  }
  config.chain_pem = request.chain_pem();
  if (request.has_activate_at()) {
    config.activate_at = absl::FromUnixSeconds(request.activate_at().seconds());
  }
  config.requirement_change_allowed = request.allow_requirement_change();
  return config;
}

bool SameKeys(const IdentityVersion& a, const IdentityVersion& b) {
  const auto same = [](const KeyLocation& x, const KeyLocation& y) {
    return x.token == y.token && x.key.id == y.key.id &&
           x.key.label == y.key.label;
  };
  return a.leaf_sha1() == b.leaf_sha1() &&
         std::equal(a.config().keys.begin(), a.config().keys.end(),
                    b.config().keys.begin(), b.config().keys.end(), same);
}

void LogChange(const char* event, const IdentityVersion& version,
               const std::string& admin, const std::string& because) {
  Log(LogLevel::kInfo, event,
      {{"identity", version.name()},
       {"version", version.id()},
       {"leaf_sha1", HexEncode(version.leaf_sha1())},
       {"by", admin},
       {"because", because}});
}

}  // namespace

IdentityAdmin::~IdentityAdmin() {
  {
    const std::lock_guard lock(thread_mutex_);
    stopping_ = true;
  }
  stop_.notify_all();
  if (thread_.joinable()) thread_.join();
}

absl::StatusOr<IdentityVersion*> IdentityAdmin::Find(
    const std::string& identity, const std::string& version) const {
  const std::vector<IdentityVersion*> versions = store_.Versions(identity);
  for (IdentityVersion* const each : versions) {
    if (each->id() == version) return each;
  }
  return WithSubject(
      MakeError(absl::StatusCode::kNotFound, v1::STAGE_POLICY,
                v1::REASON_IDENTITY_NOT_FOUND,
                versions.empty() ? "there is no such identity"
                                 : "the identity has no version " + version),
      identity);
}

v1::Identity IdentityAdmin::Describe(const IdentityVersion& version) const {
  v1::Identity identity = DescribeVersion(version, clock_.Now());
  identity.set_designated_requirement(store_.Requirement(version));
  return identity;
}

absl::Status IdentityAdmin::CheckRemembers() const {
  if (store_.remembers()) return absl::OkStatus();
  return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_POLICY,
                   v1::REASON_STATE_STORE,
                   "the server's configuration has no state folder, so a "
                   "restart would undo this");
}

absl::Status IdentityAdmin::Record(
    const char* event, const IdentityVersion& version, const std::string& admin,
    const std::string& because,
    const std::function<absl::Status()>& change) const {
  audit::Entry entry;
  entry.event = event;
  entry.client = admin;
  entry.identity = version.name();
  entry.identity_version = version.id();
  entry.certificate = HexEncode(version.chain().front().Sha256());
  entry.detail = because;
  if (audit_ != nullptr) {
    RETURN_IF_ERROR(audit_->AppendEvent(entry, absl::InfiniteFuture()));
  }
  const absl::Status status = change();
  if (status.ok()) {
    LogChange(event, version, admin, because);
  } else if (audit_ != nullptr) {
    entry.reason = v1::Reason_Name(GetReason(status));
    audit_->NoteEvent(std::move(entry));
  }
  return status;
}

absl::StatusOr<v1::Identity> IdentityAdmin::Stage(
    const v1::StageVersionRequest& request, const std::string& admin) {
  const std::lock_guard lock(changes_mutex_);
  RETURN_IF_ERROR(CheckRemembers());
  if (!IsVersionId(request.version())) {
    return BadRequest(
        "a version's name is at most 64 letters, digits, dots, dashes and "
        "underscores");
  }
  ASSIGN_OR_RETURN(std::unique_ptr<IdentityVersion> version,
                   store_.MakeVersion(request.name(), ConfigOf(request)));
  if (const auto known = Find(request.name(), request.version()); known.ok()) {
    if ((*known)->state() == v1::IDENTITY_STATE_STAGED &&
        SameKeys(**known, *version)) {
      return Describe(**known);
    }
    return WrongState(**known, "a name is used once, choose another");
  }
  const absl::Time now = clock_.Now();
  RETURN_IF_ERROR(CheckDates(*version, now));
  const IdentityVersion* const before = store_.Predecessor(*version);
  if (before != nullptr && !request.allow_requirement_change()) {
    RETURN_IF_ERROR(store_.CheckSuccession(*before, *version));
  }
  RETURN_IF_ERROR(store_.LoadVersionKeys(*version));
  if (request.validate_only()) return Describe(*version);
  IdentityLifecycle lifecycle = version->lifecycle();
  lifecycle.since = now;
  version->SetLifecycle(lifecycle);
  const IdentityVersion& staged = *version;
  RETURN_IF_ERROR(
      Record("identity_staged", staged, admin,
             request.allow_requirement_change()
                 ? "a change of the designated requirement is allowed"
                 : "",
             [&] { return store_.Add(std::move(version)).status(); }));
  return Describe(staged);
}

absl::StatusOr<v1::Identity> IdentityAdmin::Probe(
    const v1::ProbeVersionRequest& request, const std::string& admin) {
  const std::lock_guard lock(changes_mutex_);
  ASSIGN_OR_RETURN(IdentityVersion* const version,
                   Find(request.name(), request.version()));
  if (!version->key().ok()) RETURN_IF_ERROR(store_.LoadVersionKeys(*version));
  RETURN_IF_ERROR(Record("identity_probed", *version, admin, "",
                         [&] { return ProveVersion(*version); }));
  return Describe(*version);
}

absl::StatusOr<v1::Identity> IdentityAdmin::Activate(
    const v1::ActivateVersionRequest& request, const std::string& admin) {
  const std::lock_guard lock(changes_mutex_);
  RETURN_IF_ERROR(CheckRemembers());
  ASSIGN_OR_RETURN(IdentityVersion* const version,
                   Find(request.name(), request.version()));
  if (!request.has_activate_at()) {
    RETURN_IF_ERROR(
        ActivateNow(*version, request.allow_requirement_change(), admin));
    return Describe(*version);
  }
  IdentityLifecycle lifecycle = version->lifecycle();
  if (lifecycle.state != v1::IDENTITY_STATE_STAGED) {
    return WrongState(*version, "only a staged version is activated later");
  }
  lifecycle.activate_at =
      absl::FromUnixSeconds(request.activate_at().seconds());
  lifecycle.requirement_change_allowed |= request.allow_requirement_change();
  const IdentityStore::Change change{version, lifecycle};
  RETURN_IF_ERROR(
      Record("identity_scheduled", *version, admin,
             absl::FormatTime(lifecycle.activate_at, absl::UTCTimeZone()),
             [&] { return store_.Apply({&change, 1}); }));
  return Describe(*version);
}

absl::Status IdentityAdmin::ActivateNow(IdentityVersion& version,
                                        bool allow_requirement_change,
                                        const std::string& admin) {
  IdentityLifecycle lifecycle = version.lifecycle();
  if (lifecycle.state == v1::IDENTITY_STATE_ACTIVE) return absl::OkStatus();
  if (lifecycle.state == v1::IDENTITY_STATE_DISABLED) {
    return WrongState(version,
                      "it signs nothing any more; stage its key under another "
                      "version");
  }
  RETURN_IF_ERROR(CheckDates(version, clock_.Now()));
  const IdentityVersion* const before = store_.Predecessor(version);
  if (before != nullptr && !allow_requirement_change &&
      !lifecycle.requirement_change_allowed) {
    RETURN_IF_ERROR(store_.CheckSuccession(*before, version));
  }
  if (!version.key().ok()) RETURN_IF_ERROR(store_.LoadVersionKeys(version));
  RETURN_IF_ERROR(ProveVersion(version));

  const absl::Time now = clock_.Now();
  std::vector<IdentityStore::Change> changes;
  for (IdentityVersion* const each : store_.Versions(version.name())) {
    IdentityLifecycle other = each->lifecycle();
    if (other.state != v1::IDENTITY_STATE_ACTIVE) continue;
    other.state = v1::IDENTITY_STATE_RETIRED;
    other.since = now;
    other.signs_until = now + version.identity().overlap;
    changes.push_back({each, other});
  }
  lifecycle.state = v1::IDENTITY_STATE_ACTIVE;
  lifecycle.since = now;
  lifecycle.activate_at = absl::InfiniteFuture();
  lifecycle.signs_until = absl::InfinitePast();
  lifecycle.requirement_change_allowed |= allow_requirement_change;
  changes.push_back({&version, lifecycle});
  return Record("identity_activated", version, admin, "",
                [&] { return store_.Apply(changes); });
}

absl::StatusOr<v1::Identity> IdentityAdmin::Retire(
    const v1::RetireVersionRequest& request, const std::string& admin) {
  const std::lock_guard lock(changes_mutex_);
  RETURN_IF_ERROR(CheckRemembers());
  ASSIGN_OR_RETURN(IdentityVersion* const version,
                   Find(request.name(), request.version()));
  IdentityLifecycle lifecycle = version->lifecycle();
  if (lifecycle.state == v1::IDENTITY_STATE_RETIRED) return Describe(*version);
  if (lifecycle.state == v1::IDENTITY_STATE_DISABLED) {
    return WrongState(*version, "there is no way back");
  }
  const bool was_active = lifecycle.state == v1::IDENTITY_STATE_ACTIVE;
  if (was_active && !request.even_if_active()) {
    return WrongState(*version,
                      "nothing would sign for this identity; activate another "
                      "version, which retires this one, or insist");
  }
  const absl::Time now = clock_.Now();
  lifecycle.state = v1::IDENTITY_STATE_RETIRED;
  lifecycle.since = now;
  lifecycle.activate_at = absl::InfiniteFuture();
  if (was_active) lifecycle.signs_until = now + version->identity().overlap;
  const IdentityStore::Change change{version, lifecycle};
  RETURN_IF_ERROR(Record("identity_retired", *version, admin, "",
                         [&] { return store_.Apply({&change, 1}); }));
  return Describe(*version);
}

absl::StatusOr<v1::Identity> IdentityAdmin::Disable(
    const v1::DisableVersionRequest& request, const std::string& admin) {
  const std::lock_guard lock(changes_mutex_);
  RETURN_IF_ERROR(CheckRemembers());
  ASSIGN_OR_RETURN(IdentityVersion* const version,
                   Find(request.name(), request.version()));
  IdentityLifecycle lifecycle = version->lifecycle();
  if (lifecycle.state == v1::IDENTITY_STATE_DISABLED) return Describe(*version);
  const absl::Time now = clock_.Now();
  if (lifecycle.state == v1::IDENTITY_STATE_ACTIVE) lifecycle.signs_until = now;
  lifecycle.state = v1::IDENTITY_STATE_DISABLED;
  lifecycle.since = now;
  lifecycle.activate_at = absl::InfiniteFuture();
  const IdentityStore::Change change{version, lifecycle};
  RETURN_IF_ERROR(Record("identity_disabled", *version, admin,
                         request.because(),
                         [&] { return store_.Apply({&change, 1}); }));
  return Describe(*version);
}

absl::StatusOr<v1::ListIdentitiesResponse> IdentityAdmin::List(
    const v1::ListVersionsRequest& request) const {
  std::vector<std::string> names = {request.name()};
  if (request.name().empty()) names = store_.Names();
  v1::ListIdentitiesResponse response;
  for (const std::string& name : names) {
    for (const IdentityVersion* each : store_.Versions(name)) {
      *response.add_identities() = Describe(*each);
    }
  }
  if (response.identities().empty()) return Find(request.name(), "").status();
  return response;
}

void IdentityAdmin::RunSchedule() {
  const std::lock_guard lock(changes_mutex_);
  for (const std::string& name : store_.Names()) {
    std::vector<IdentityVersion*> versions = store_.Versions(name);
    for (const IdentityVersion* each : versions) Warn(*each);
    // In the order of their times, should several be due.
    std::stable_sort(versions.begin(), versions.end(),
                     [](const IdentityVersion* a, const IdentityVersion* b) {
                       return a->lifecycle().activate_at <
                              b->lifecycle().activate_at;
                     });
    for (IdentityVersion* const each : versions) ActivateDue(*each);
  }
}

void IdentityAdmin::ActivateDue(IdentityVersion& version) {
  const IdentityLifecycle lifecycle = version.lifecycle();
  const absl::Time now = clock_.Now();
  if (lifecycle.state != v1::IDENTITY_STATE_STAGED ||
      now < lifecycle.activate_at) {
    return;
  }
  Attempt& attempt = attempts_[&version];
  if (now < attempt.next) return;
  const absl::Status status = ActivateNow(version, false, "schedule");
  if (status.ok()) {
    attempts_.erase(&version);
    return;
  }
  // The version before it goes on.
  if (attempt.logged != GetReason(status)) {
    LogStatus(LogLevel::kError, "identity_not_activated", status,
              {{"identity", version.name()},
               {"version", version.id()},
               {"hint", KeyHint(GetReason(status))}});
  }
  attempt.logged = GetReason(status);
  attempt.next = now + attempt.delay;
  attempt.delay = std::min(2 * attempt.delay, kLongestScheduleRetry);
}

void IdentityAdmin::Warn(const IdentityVersion& version) {
  const absl::Time now = clock_.Now();
  const auto [last, first] = warned_at_.try_emplace(&version);
  if (!first && now - last->second < kWarningInterval) return;
  const std::vector<std::string> warnings = WarningsAbout(version, now);
  for (const std::string& each : warnings) {
    Log(LogLevel::kWarning, "identity_expires",
        {{"identity", version.name()},
         {"version", version.id()},
         {"message", each}});
  }
  if (warnings.empty()) {
    warned_at_.erase(last);
  } else {
    last->second = now;
  }
}

void IdentityAdmin::StartSchedule() {
  thread_ = std::thread([this] {
    std::unique_lock lock(thread_mutex_);
    while (!stopping_) {
      lock.unlock();
      RunSchedule();
      lock.lock();
      stop_.wait_for(lock, absl::ToChronoNanoseconds(kScheduleStep),
                     [this] { return stopping_; });
    }
  });
}

}  // namespace codeseal
