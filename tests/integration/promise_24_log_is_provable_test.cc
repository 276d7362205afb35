// Promise 24: the log is append-only and provable. Each reply carries a proof
// that verifies offline, checkpoints grow out of one another, and a flipped bit
// in any file of the log is found.

#include "audit/entry.h"
#include "tests/integration/audit_fixture.h"

namespace codeseal::testing {
namespace {

using ::testing::IsEmpty;
namespace fs = std::filesystem;

class Promise24Test : public AuditServerTest {};

TEST_F(Promise24Test, promise_24_replies_prove_what_was_signed) {
  Start();
  std::vector<std::string> saved;
  for (int i = 0; i < 3; ++i) {
    const v1::SignRequest request = NewRequest();
    const auto reply = client_->Sign(request);
    ASSERT_THAT(reply, IsOk());
    const audit::Receipt receipt = ReceiptOf(*reply);
    const auto checkpoint = audit::CheckReceipt(receipt, Key());
    ASSERT_THAT(checkpoint, IsOk());
    EXPECT_EQ(checkpoint->origin, "log.example/test");
    EXPECT_EQ(reply->audit().origin(), "log.example/test");
    const auto entry = audit::ParseEntry(receipt.entry);
    ASSERT_THAT(entry, IsOk());
    EXPECT_EQ(entry->kind, audit::EntryKind::kSigned);
    EXPECT_EQ(entry->request_id, request.request_id());
    EXPECT_EQ(entry->client, ServerWorld::kClientUri);
    EXPECT_EQ(entry->identity, "ec");
    EXPECT_EQ(entry->identity_version, "v1");
    EXPECT_EQ(entry->decision, "allowed");
    EXPECT_EQ(entry->policy,
              HexEncode(ComputeDigest(DigestKind::kSha256, AsBytes(Config()))));
    EXPECT_EQ(
        entry->cms_sha256,
        HexEncode(ComputeDigest(DigestKind::kSha256, AsBytes(reply->cms()))));
    ASSERT_EQ(entry->cdhashes.size(), 1u);
    EXPECT_EQ(entry->cdhashes[0], HexEncode(AsBytes(reply->cdhashes(0))));
    saved.push_back(receipt.checkpoint);
  }
  const audit::LogReport report = Verify(saved);
  EXPECT_THAT(report.problems, IsEmpty());
  EXPECT_EQ(report.signed_count, 3u);
  EXPECT_EQ(report.intent_count, 3u);
}

TEST_F(Promise24Test, promise_24_the_service_proves_the_same) {
  Start();
  const auto first = Sign();
  ASSERT_THAT(first, IsOk());
  ASSERT_THAT(Sign(), IsOk());
  const auto stub = client_->Audit();
  v1::GetCheckpointResponse latest;
  {
    grpc::ClientContext context;
    ASSERT_THAT(Decode(stub->GetCheckpoint(&context, {}, &latest)), IsOk());
  }
  EXPECT_EQ(latest.key(), Key().Format());
  const auto newer = audit::OpenCheckpoint(latest.checkpoint(), Key());
  const auto older = audit::OpenCheckpoint(first->audit().checkpoint(), Key());
  ASSERT_THAT(newer, IsOk());
  ASSERT_THAT(older, IsOk());
  const auto hashes = [](const v1::AuditProof& wire) {
    audit::Proof proof;
    for (const std::string& each : wire.hashes()) {
      audit::TreeHash hash{};
      EXPECT_EQ(each.size(), hash.size());
      std::copy_n(each.begin(), std::min(each.size(), hash.size()),
                  hash.begin());
      proof.push_back(hash);
    }
    return proof;
  };
  v1::AuditProof wire;
  {
    grpc::ClientContext context;
    v1::GetConsistencyProofRequest request;
    request.set_old_size(older->head.size);
    request.set_size(newer->head.size);
    ASSERT_THAT(Decode(stub->GetConsistencyProof(&context, request, &wire)),
                IsOk());
    EXPECT_THAT(audit::CheckConsistency(older->head, newer->head, hashes(wire)),
                IsOk());
  }
  v1::ReadEntriesResponse entries;
  {
    grpc::ClientContext context;
    v1::ReadEntriesRequest request;
    request.set_begin(first->audit().index());
    request.set_max_count(1);
    ASSERT_THAT(Decode(stub->ReadEntries(&context, request, &entries)), IsOk());
    ASSERT_EQ(entries.entries_size(), 1);
    EXPECT_EQ(entries.entries(0), first->audit().entry());
  }
  wire.Clear();
  {
    grpc::ClientContext context;
    v1::GetInclusionProofRequest request;
    request.set_index(first->audit().index());
    request.set_size(newer->head.size);
    ASSERT_THAT(Decode(stub->GetInclusionProof(&context, request, &wire)),
                IsOk());
    EXPECT_THAT(audit::CheckInclusion(
                    audit::HashLeaf(AsBytes(entries.entries(0))),
                    first->audit().index(), newer->head, hashes(wire)),
                IsOk());
  }
}

TEST_F(Promise24Test, promise_24_entries_are_for_readers) {
  Start();
  ASSERT_THAT(Sign(), IsOk());
  CertificateSpec spec;
  spec.uris = {"spiffe://test/somebody"};
  TestClient other(server_->address(), world_.tls_ca(),
                   world_.AddClient("other", spec));
  const auto stub = other.Audit();
  grpc::ClientContext context;
  v1::ReadEntriesResponse entries;
  EXPECT_THAT(Decode(stub->ReadEntries(&context, {}, &entries)),
              HasReason(v1::REASON_NOT_AUTHORISED));
  grpc::ClientContext again;
  v1::GetCheckpointResponse checkpoint;
  EXPECT_THAT(Decode(stub->GetCheckpoint(&again, {}, &checkpoint)), IsOk());
}

TEST_F(Promise24Test, promise_24_a_flipped_bit_in_any_file_is_found) {
  Start();
  std::string saved;
  for (int i = 0; i < 3; ++i) saved = Sign()->audit().checkpoint();
  Stop();
  ASSERT_THAT(Verify({saved}).problems, IsEmpty());
  int file_count = 0;
  for (const auto& each : fs::recursive_directory_iterator(LogPath())) {
    const std::string name =
        each.path().lexically_relative(world_.folder().path()).string();
    if (!each.is_regular_file() || name == "auditlog/key") continue;
    ++file_count;
    const std::string honest = world_.folder().Read(name);
    for (size_t at = 0; at < honest.size(); at += 41) {
      std::string changed = honest;
      changed[at] = static_cast<char>(changed[at] ^ 1);
      world_.folder().Write(name, changed);
      EXPECT_FALSE(Verify({saved}).problems.empty()) << name << " " << at;
    }
    world_.folder().Write(name, honest);
  }
  EXPECT_GE(file_count, 2);
}

}  // namespace
}  // namespace codeseal::testing
