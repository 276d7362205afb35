// Installer packages: what is read of a request, what policy says, what the key
// signs.

#include <future>
#include <memory>
#include <string>

#include "codesign/cms/apple_cms.h"
#include "codesign/cms/digest_signature.h"
#include "codesign/image/package_plan.h"
#include "gmock/gmock.h"
#include "server/package_check.h"
#include "server/policy.h"
#include "server/request_handler.h"
#include "tests/support/fake_clock.h"
#include "tests/support/package_builder.h"
#include "tests/support/rule_matcher.h"
#include "tests/support/sign_request_builder.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/server/server_fixture.h"

namespace codeseal {
namespace {

using ::codeseal::testing::HasReason;
using ::codeseal::testing::HasRule;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::MakePackage;
using ::testing::ElementsAre;

constexpr char kInstallerUsage[] = "1.2.840.113635.100.4.13";

testing::CertificateSpec LeafFor(const std::string& usage) {
  testing::CertificateSpec spec;
  spec.extended_key_usage = {usage};
  return spec;
}

class PackageSigningTest : public testing::ServerFixture {
 protected:
  explicit PackageSigningTest(const std::string& usage = kInstallerUsage)
      : ServerFixture("rsa2048", LeafFor(usage)) {
    config_.identities[0].rules.allow_packages = true;
  }
  ~PackageSigningTest() override { store_.reset(); }

  void Start() {
    auto store = MakeStore();
    ASSERT_THAT(store, IsOk());
    store_ = *std::move(store);
    store_->LoadKeys(absl::Seconds(30));
    auto gate = PeerGate::Create(TlsConfig(), clock_);
    ASSERT_THAT(gate, IsOk());
    gate_ = *std::move(gate);
    auto timestamps = TimestampAuthorities::Create(config_.authorities, clock_);
    ASSERT_THAT(timestamps, IsOk());
    timestamps_ = *std::move(timestamps);
    handler_ =
        std::make_unique<RequestHandler>(*store_, *gate_, *timestamps_, nullptr,
                                         nullptr, config_.limits, clock_);
  }

  std::vector<Certificate> Chain() const {
    return Certificate::ParsePem(folder_.Read("chain.pem")).value();
  }

  // What the client sends for a package.
  v1::SignRequest MakeRequest(const testing::PackageSpec& spec = {}) {
    plan_ =
        PackagePlan::Create(
            MappedFile::Open(folder_.Write("a.pkg", MakePackage(spec))).value(),
            {}, Chain())
            .value();
    v1::SignRequest request;
    request.set_request_id(testing::RandomUuid());
    request.set_identity("dev");
    v1::Package& package = *request.mutable_package();
    package.set_table_of_contents(ToString(plan_->stored_table()));
    package.set_table_of_contents_size(plan_->table_size());
    for (const PackageMember& each : plan_->members()) {
      v1::Package::Member* member = package.add_members();
      member->set_path(each.path);
      member->set_stored(ToString(each.stored));
    }
    return request;
  }

  absl::StatusOr<v1::SignResponse> Sign(const v1::SignRequest& request) {
    std::promise<absl::StatusOr<v1::SignResponse>> promise;
    RequestHandler::Call call;
    call.request = std::make_shared<v1::SignRequest>(request);
    call.peer = std::make_shared<Peer>(peer_);
    call.done = [&promise](absl::StatusOr<v1::SignResponse> result) {
      promise.set_value(std::move(result));
    };
    handler_->Sign(std::move(call));
    return promise.get_future().get();
  }

  testing::FakeClock clock_{
      absl::FromUnixSeconds(absl::ToUnixSeconds(absl::Now()) + 60)};
  std::optional<PackagePlan> plan_;
  std::unique_ptr<PeerGate> gate_;
  std::unique_ptr<TimestampAuthorities> timestamps_;
  std::unique_ptr<RequestHandler> handler_;
  std::unique_ptr<IdentityStore> store_;
};

TEST_F(PackageSigningTest, SignsTheChecksumTwice) {
  Start();
  for (const bool sha256 : {false, true}) {
    testing::PackageSpec spec;
    spec.sha256 = sha256;
    const absl::StatusOr<v1::SignResponse> response = Sign(MakeRequest(spec));
    ASSERT_THAT(response, IsOk());
    const Certificate leaf = Chain().front();
    const DigestKind kind = sha256 ? DigestKind::kSha256 : DigestKind::kSha1;
    EXPECT_THAT(CheckRsaSignature(leaf, kind, plan_->checksum(),
                                  AsBytes(response->package_signature())),
                IsOk());
    const auto cms = VerifyAppleCms(AsBytes(response->cms()),
                                    DescribeBytes(plan_->checksum()));
    ASSERT_THAT(cms, IsOk());
    EXPECT_TRUE(cms->signer == leaf);
    EXPECT_EQ(cms->signing_time, clock_.Now());
    EXPECT_EQ(response->cdhashes_size(), 0);
  }
}

TEST_F(PackageSigningTest, TheKeyIsNotUsedForWhatIsOnlyJudged) {
  Start();
  const int before = key_->sign_count();
  v1::SignRequest request = MakeRequest();
  request.set_validate_only(true);
  const absl::StatusOr<v1::SignResponse> response = Sign(request);
  ASSERT_THAT(response, IsOk());
  EXPECT_TRUE(response->package_signature().empty());
  EXPECT_EQ(key_->sign_count(), before);
}

TEST_F(PackageSigningTest, AWrongRsaSignatureNeverLeaves) {
  Start();
  token_->SetSignHook([](const auto& sign) {
    absl::StatusOr<Bytes> signature = sign();
    signature->back() ^= 1;
    return signature;
  });
  EXPECT_THAT(Sign(MakeRequest()), HasReason(v1::REASON_SELF_VERIFY_FAILED));
}

TEST_F(PackageSigningTest, PolicyMustAllowPackages) {
  config_.identities[0].rules.allow_packages = false;
  Start();
  const int before = key_->sign_count();
  EXPECT_THAT(Sign(MakeRequest()), HasRule("dev/packages"));
  EXPECT_EQ(key_->sign_count(), before);
}

TEST_F(PackageSigningTest, EveryIdentifierMustFit) {
  config_.identities[0].rules.identifiers = {"com.example.tool",
                                             "com.example.tool.*"};
  Start();
  // The product is com.example.tool.product.
  EXPECT_THAT(Sign(MakeRequest()), IsOk());
  testing::PackageSpec spec;
  spec.entries.push_back(
      {"Other.pkg/PackageInfo", "<pkg-info identifier=\"com.other\"/>"});
  EXPECT_THAT(Sign(MakeRequest(spec)), HasRule("dev/identifiers"));
}

TEST_F(PackageSigningTest, ReadsTheIdentifiers) {
  const auto checked = CheckPackage(MakeRequest().package());
  ASSERT_THAT(checked, IsOk());
  EXPECT_EQ(checked->checksum, plan_->checksum());
  EXPECT_THAT(checked->identifiers,
              ElementsAre("com.example.tool.product", "com.example.tool"));
}

TEST_F(PackageSigningTest, RefusesRequestsThatHideOrInvent) {
  const v1::Package good = MakeRequest().package();
  ASSERT_THAT(CheckPackage(good), IsOk());

  v1::Package bad = good;
  bad.mutable_members()->RemoveLast();
  EXPECT_THAT(CheckPackage(bad), HasRule("PR-4"));

  bad = good;
  *bad.add_members() = bad.members(0);
  EXPECT_THAT(CheckPackage(bad), HasRule("PR-3"));

  bad = good;
  bad.add_members()->set_path("Tool.pkg/Payload");
  EXPECT_THAT(CheckPackage(bad), HasRule("PR-5"));

  bad = good;
  bad.mutable_members(0)->mutable_stored()->back() ^= 1;
  EXPECT_THAT(CheckPackage(bad), HasReason(v1::REASON_PACKAGE_MODIFIED));

  bad = good;
  bad.mutable_table_of_contents()->append("more");
  EXPECT_THAT(CheckPackage(bad), HasReason(v1::REASON_BAD_PACKAGE));

  bad = good;
  bad.set_table_of_contents_size(bad.table_of_contents_size() + 1);
  EXPECT_THAT(CheckPackage(bad), HasReason(v1::REASON_BAD_PACKAGE));

  // Without the elements of both signatures.
  const testing::PackageParts parts = testing::MakePackageParts();
  bad = good;
  bad.set_table_of_contents(testing::Compress(parts.xml));
  bad.set_table_of_contents_size(parts.xml.size());
  EXPECT_THAT(CheckPackage(bad), HasRule("PR-1"));

  // Moved away from the checksum.
  std::string xml = CheckPackage(good)->table.xml();
  const size_t offset = xml.find("<offset>276<");
  ASSERT_NE(offset, std::string::npos);
  xml.replace(offset, 12, "<offset>277<");
  bad.set_table_of_contents(testing::Compress(xml));
  bad.set_table_of_contents_size(xml.size());
  EXPECT_THAT(CheckPackage(bad), HasRule("PR-2"));

  testing::PackageSpec nameless;
  nameless.entries = {{"Payload", "p"}};
  EXPECT_THAT(CheckPackage(MakeRequest(nameless).package()), HasRule("PR-6"));
}

TEST_F(PackageSigningTest, TheTableMustNameTheIdentitysChain) {
  const auto checked = CheckPackage(MakeRequest().package());
  ASSERT_THAT(checked, IsOk());
  EXPECT_THAT(CheckPackageSigner(*checked, Chain()), IsOk());
  const testing::TestChain other = testing::MakeCodeSigningChain();
  EXPECT_THAT(CheckPackageSigner(*checked, other.certificates()),
              HasRule("PR-7"));
  std::vector<Certificate> chain = Chain();
  chain.pop_back();
  EXPECT_THAT(CheckPackageSigner(*checked, chain), HasRule("PR-8"));
}

TEST_F(PackageSigningTest, AnInstallerIdentityDoesNotSignCode) {
  Start();
  v1::SignRequest request = testing::BuildSignRequest({});
  EXPECT_THAT(Sign(request), HasReason(v1::REASON_NOT_INSTALLER_CERTIFICATE));
}

class CodeIdentityTest : public PackageSigningTest {
 protected:
  CodeIdentityTest() : PackageSigningTest(testing::kCodeSigning) {}
};

TEST_F(CodeIdentityTest, DoesNotSignPackages) {
  Start();
  // The client refuses such a plan, too: the table is another identity's.
  v1::SignRequest request;
  request.set_request_id(testing::RandomUuid());
  request.set_identity("dev");
  testing::CertificateSpec authority;
  const testing::TestIdentity root = testing::MakeRoot(authority);
  testing::CertificateSpec spec = LeafFor(kInstallerUsage);
  const std::vector<Certificate> chain = {
      testing::IssueForKey(key_->public_key(), spec, root), root.certificate()};
  const auto plan = PackagePlan::Create(
      MappedFile::Open(folder_.Write("a.pkg", MakePackage())).value(), {},
      chain);
  ASSERT_THAT(plan, IsOk());
  request.mutable_package()->set_table_of_contents(
      ToString(plan->stored_table()));
  request.mutable_package()->set_table_of_contents_size(plan->table_size());
  for (const PackageMember& each : plan->members()) {
    v1::Package::Member* member = request.mutable_package()->add_members();
    member->set_path(each.path);
    member->set_stored(ToString(each.stored));
  }
  EXPECT_THAT(Sign(request), HasReason(v1::REASON_NOT_INSTALLER_CERTIFICATE));
}

}  // namespace
}  // namespace codeseal
