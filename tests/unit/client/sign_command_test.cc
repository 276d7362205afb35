// RunSign against a server that cannot be trusted: whatever it answers, nothing
// is embedded that is not a signature of this code by the promised identity.

#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <functional>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "client/commands.h"
#include "codeseal/v1/identity.grpc.pb.h"
#include "codeseal/v1/signing.grpc.pb.h"
#include "codesign/cms/apple_cms.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/mach_o_builder.h"
#include "tests/support/made_app.h"
#include "tests/support/made_tree.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test_pki.h"
#include "tests/support/tree_snapshot.h"

namespace codeseal::client {
namespace {

using ::codeseal::testing::CertificateSpec;
using ::codeseal::testing::TestChain;
using ::codeseal::testing::TestIdentity;
using ::testing::HasSubstr;

// What the server makes of a request's first CodeDirectories.
using Answer = std::function<Bytes(const std::vector<CodeDirectoryBlob>&)>;

class Server : public v1::SigningService::Service,
               public v1::IdentityService::Service {
 public:
  Answer answer;
  int stream_count = 0;
  int item_count = 0;
  TestChain chain = codeseal::testing::MakeCodeSigningChain();

 private:
  grpc::Status GetIdentity(grpc::ServerContext*,
                           const v1::GetIdentityRequest* request,
                           v1::Identity* response) override {
    response->set_name(request->name());
    for (const Certificate& certificate : chain.certificates()) {
      response->add_certificate_chain(ToString(certificate.der()));
    }
    return grpc::Status::OK;
  }

  grpc::Status SignStream(
      grpc::ServerContext*,
      grpc::ServerReaderWriter<v1::SignStreamResponse, v1::SignStreamRequest>*
          stream) override {
    ++stream_count;
    v1::SignStreamResponse credit;
    credit.mutable_credit()->set_items(8);
    stream->Write(credit);
    v1::SignStreamRequest message;
    while (stream->Read(&message)) {
      if (!message.has_item()) continue;
      ++item_count;
      std::vector<CodeDirectoryBlob> blobs;
      for (const std::string& raw :
           message.item().code_directory_set().code_directories()) {
        blobs.push_back({DigestKind::kSha256, AsBytes(raw)});
      }
      v1::SignStreamResponse response;
      response.mutable_result()->set_request_id(message.item().request_id());
      response.mutable_result()->mutable_response()->set_cms(
          ToString(answer(blobs)));
      stream->Write(response);
    }
    return grpc::Status::OK;
  }
};

Bytes SignAs(const TestChain& chain, std::span<const CodeDirectoryBlob> blobs) {
  const std::vector<Certificate> certificates = chain.certificates();
  CmsSigner signer;
  signer.key = chain.leaf.key();
  signer.chain = certificates;
  return *BuildAppleCms(signer, DescribeContent(blobs), absl::Now());
}

class SignCommandTest : public ::testing::Test {
 protected:
  SignCommandTest() {
    const TestIdentity root = codeseal::testing::MakeRoot(CertificateSpec());
    CertificateSpec spec;
    spec.common_name = "peer";
    spec.dns_names = {"localhost"};
    const TestIdentity peer = codeseal::testing::Issue(spec, root);
    grpc::SslServerCredentialsOptions options;
    options.pem_key_cert_pairs = {{peer.key_pem(), peer.pem()}};
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::SslServerCredentials(options),
                             &port);
    builder.RegisterService(
        static_cast<v1::SigningService::Service*>(&service_));
    builder.RegisterService(
        static_cast<v1::IdentityService::Service*>(&service_));
    server_ = builder.BuildAndStart();
    command_.signer.connection = {"localhost:" + std::to_string(port),
                                  folder_.Write("ca.pem", root.pem()),
                                  folder_.Write("peer.pem", peer.pem()),
                                  folder_.Write("peer.key", peer.key_pem())};
    command_.identity = "release";
    original_ = codeseal::testing::BuildMachO();
    command_.paths = {folder_.Write("tool", AsText(original_))};
  }

  ExitCode Sign() {
    Reporter reporter("sign", {.verbosity = 1}, out_, err_, false);
    RunSign(command_, reporter);
    return reporter.Finish();
  }

  void ExpectMistrust(const std::string& why) {
    EXPECT_EQ(Sign(), ExitCode::kInternal);
    EXPECT_THAT(err_.str(), HasSubstr("that came back is not used: "));
    EXPECT_THAT(err_.str(), HasSubstr(why));
    EXPECT_EQ(folder_.Read("tool"), AsText(original_));
  }

  codeseal::testing::TempFolder folder_;
  Server service_;
  std::unique_ptr<grpc::Server> server_;
  Bytes original_;
  SignCommand command_;
  std::ostringstream out_;
  std::ostringstream err_;
};

TEST_F(SignCommandTest, HonestServerIsBelieved) {
  service_.answer = [&](const std::vector<CodeDirectoryBlob>& blobs) {
    return SignAs(service_.chain, blobs);
  };
  EXPECT_EQ(Sign(), ExitCode::kDone) << err_.str();
  EXPECT_NE(folder_.Read("tool"), AsText(original_));
  EXPECT_THAT(out_.str(), HasSubstr("signed Mach-O thin (arm64)"));
}

TEST_F(SignCommandTest, WholeAppIsOneStreamAndNothingIsSignedTwice) {
  service_.answer = [&](const std::vector<CodeDirectoryBlob>& blobs) {
    return SignAs(service_.chain, blobs);
  };
  codeseal::testing::MadeTree tree;
  const codeseal::testing::MadeApp app(tree, "Demo.app", 20);
  command_.deep = true;
  command_.paths = {tree.Path("Demo.app")};
  EXPECT_EQ(Sign(), ExitCode::kDone) << err_.str();
  EXPECT_EQ(service_.stream_count, 1);
  // Two slices of each Mach-O, and the script.
  EXPECT_EQ(service_.item_count, static_cast<int>(app.code_count()) * 2 + 1);
}

TEST_F(SignCommandTest, RefusedPartLeavesTheWholeAppAlone) {
  int count = 0;
  service_.answer = [&](const std::vector<CodeDirectoryBlob>& blobs) {
    return ++count == 7 ? Bytes() : SignAs(service_.chain, blobs);
  };
  codeseal::testing::MadeTree tree;
  const codeseal::testing::MadeApp app(tree, "Demo.app", 2);
  const auto before = codeseal::testing::TakeSnapshot(tree.Path());
  command_.deep = true;
  command_.paths = {tree.Path("Demo.app")};
  EXPECT_EQ(Sign(), ExitCode::kInternal);
  EXPECT_EQ(codeseal::testing::TakeSnapshot(tree.Path()), before);
}

TEST_F(SignCommandTest, SignatureOfOtherCodeIsRefused) {
  service_.answer = [&](const std::vector<CodeDirectoryBlob>& blobs) {
    Bytes other = ToBytes(blobs[0].raw);
    other.back() ^= 1;
    const CodeDirectoryBlob blob = {DigestKind::kSha256, other};
    return SignAs(service_.chain, {&blob, 1});
  };
  ExpectMistrust("");
}

TEST_F(SignCommandTest, SignatureByAnotherIdentityIsRefused) {
  const TestChain other = codeseal::testing::MakeCodeSigningChain();
  service_.answer = [&](const std::vector<CodeDirectoryBlob>& blobs) {
    return SignAs(other, blobs);
  };
  ExpectMistrust("it is by");
}

TEST_F(SignCommandTest, NoSignatureIsRefused) {
  service_.answer = [](const std::vector<CodeDirectoryBlob>&) {
    return Bytes();
  };
  ExpectMistrust("");
}

}  // namespace
}  // namespace codeseal::client
