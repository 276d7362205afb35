#include "audit/note.h"

#include "audit/checkpoint.h"
#include "audit/receipt.h"
#include "audit/text.h"
#include "codesign/base/digest.h"
#include "codesign/cms/log_signature.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/audit/log_fixture.h"

namespace codeseal::audit {
namespace {

using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::SoftwareKey;

// The example of c2sp.org/signed-note.
const char kPoem[] =
    "Ognuno sta solo sul cuor della terra\n"
    "trafitto da un raggio di sole:\n"
    "\n"
    "ed è subito sera.\n";
const char kPoemSignature[] =
    "— quasimodo.example/salvatore "
    "NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99i"
    "hAQwaqP3ZekRwNtIc=\n";
// The example of c2sp.org/tlog-checkpoint.
const char kExampleCheckpoint[] =
    "example.com/behind-the-sofa\n"
    "20852163\n"
    "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";

Note Signed(const std::string& text, SoftwareKey& key) {
  const NoteKey note_key = KeyOf(key);
  const auto signature =
      key.Sign(SignMechanism::kEcdsa, SignDigest::kSha256,
               ComputeDigest(DigestKind::kSha256, AsBytes(text)),
               absl::InfiniteFuture());
  EXPECT_THAT(signature, IsOk());
  return {text, {{note_key.name(), note_key.id(), *signature}}};
}

TEST(NoteTest, ReadsTheExampleOfTheSpecification) {
  const std::string bytes = std::string(kPoem) + "\n" + kPoemSignature;
  const auto note = ParseNote(bytes);
  ASSERT_THAT(note, IsOk());
  EXPECT_EQ(note->text, kPoem);
  ASSERT_EQ(note->signatures.size(), 1u);
  EXPECT_EQ(note->signatures[0].name, "quasimodo.example/salvatore");
  EXPECT_EQ(note->signatures[0].key_id, 0x367ba04bu);
  EXPECT_EQ(note->signatures[0].signature.size(), kEd25519SignatureSize);
  EXPECT_EQ(FormatNote(*note), bytes);
}

struct BadNoteCase {
  const char* rule;
  std::string bytes;
};

class BadNoteTest : public ::testing::TestWithParam<BadNoteCase> {};

TEST_P(BadNoteTest, IsRefused) {
  EXPECT_THAT(ParseNote(GetParam().bytes), HasReason(v1::REASON_BAD_AUDIT_LOG));
}

INSTANTIATE_TEST_SUITE_P(
    Rules, BadNoteTest,
    ::testing::Values(
        BadNoteCase{"NT1_Size", std::string(kMaxNoteSize, 'a') + "\n\n" +
                                    std::string(kPoemSignature)},
        BadNoteCase{"NT2_NotUtf8", "a\xff\n\n" + std::string(kPoemSignature)},
        BadNoteCase{"NT2_Control", "a\tb\n\n" + std::string(kPoemSignature)},
        BadNoteCase{"NT3_NoEmptyLine", "a\n" + std::string(kPoemSignature)},
        BadNoteCase{"NT3_Empty", ""},
        BadNoteCase{"NT4_NoNewline", "a\n\n— k AAAAAAA="},
        BadNoteCase{"NT4_NoDash", "a\n\n- k AAAAAAA=\n"},
        BadNoteCase{"NT4_NoName", "a\n\n— AAAAAAA=\n"},
        BadNoteCase{"NT4_EmptyName", "a\n\n—  AAAAAAA=\n"},
        BadNoteCase{"NT4_Plus", "a\n\n— k+l AAAAAAA=\n"},
        BadNoteCase{"NT4_Short", "a\n\n— k AAAAAA==\n"},
        BadNoteCase{"NT4_Padding", "a\n\n— k AAAAAAA\n"},
        BadNoteCase{"NT4_LooseBits", "a\n\n— k AAAAAAB=\n"},
        BadNoteCase{"NT5_None", "a\n\n"}),
    [](const auto& each) { return std::string(each.param.rule); });

TEST(NoteTest, RuleNT5_AtMost64Signatures) {
  std::string bytes = "a\n\n";
  for (int i = 0; i < 64; ++i) bytes += "— k AAAAAAA=\n";
  EXPECT_THAT(ParseNote(bytes), IsOk());
  EXPECT_THAT(ParseNote(bytes + "— k AAAAAAA=\n"),
              HasReason(v1::REASON_BAD_AUDIT_LOG));
}

TEST(NoteKeyTest, IdOfAnEcdsaKeyIsTheDigestOfThePublicKey) {
  const auto key = SoftwareKey::Cached("p256");
  const Bytes digest = ComputeDigest(DigestKind::kSha256, key->public_key());
  EXPECT_EQ(KeyOf(*key).id(), uint32_t{digest[0]} << 24 |
                                  uint32_t{digest[1]} << 16 |
                                  uint32_t{digest[2]} << 8 | digest[3]);
}

TEST(NoteKeyTest, TextIsReadBack) {
  const auto key = SoftwareKey::Cached("p256");
  const NoteKey note_key = KeyOf(*key);
  const auto parsed = NoteKey::Parse(note_key.Format() + "\n");
  ASSERT_THAT(parsed, IsOk());
  EXPECT_EQ(parsed->Format(), note_key.Format());
  EXPECT_EQ(parsed->name(), kTestOrigin);
  EXPECT_TRUE(parsed->type() == NoteKey::Type::kEcdsa);
  std::string wrong_id = note_key.Format();
  wrong_id[std::string(kTestOrigin).size() + 1] ^= 1;
  for (const std::string& bad :
       {std::string(), std::string("a"), std::string("a+b"),
        std::string("a+00000000+"), std::string("a+00000000+!"), wrong_id}) {
    EXPECT_FALSE(NoteKey::Parse(bad).ok()) << bad;
  }
}

TEST(NoteKeyTest, OnlyKeysThatTokensMakeAndWitnessesHave) {
  const auto create = [](const std::string& name, int type, Bytes key) {
    return NoteKey::Create(name, static_cast<NoteKey::Type>(type),
                           std::move(key));
  };
  const Bytes p256 = ToBytes(SoftwareKey::Cached("p256")->public_key());
  const Bytes p384 = ToBytes(SoftwareKey::Cached("p384")->public_key());
  const Bytes rsa = ToBytes(SoftwareKey::Cached("rsa2048")->public_key());
  EXPECT_THAT(create("a", 2, p256), IsOk());
  EXPECT_THAT(create("a", 2, p384), IsOk());
  EXPECT_THAT(create("a", 4, Bytes(32)), IsOk());
  EXPECT_THAT(create("a", 2, rsa), HasReason(v1::REASON_KEY_UNSUPPORTED));
  EXPECT_THAT(create("a", 2, Bytes(32)), HasReason(v1::REASON_KEY_UNSUPPORTED));
  EXPECT_THAT(create("a", 4, Bytes(31)), HasReason(v1::REASON_KEY_UNSUPPORTED));
  EXPECT_THAT(create("a", 1, Bytes(32)), HasReason(v1::REASON_KEY_UNSUPPORTED));
  Bytes tail = p256;
  tail.push_back(0);
  EXPECT_THAT(create("a", 2, tail), HasReason(v1::REASON_KEY_UNSUPPORTED));
  for (const char* name : {"", "a b", "a+b", "a\nb", "a\x01"}) {
    EXPECT_THAT(create(name, 2, p256), HasReason(v1::REASON_BAD_AUDIT_LOG));
  }
}

TEST(NoteKeyTest, ChecksItsOwnSignatureOnly) {
  const auto key = SoftwareKey::Cached("p256");
  const auto other = SoftwareKey::Generate("p256");
  const NoteKey note_key = KeyOf(*key);
  Note note = Signed("text\n", *key);
  EXPECT_THAT(note_key.Check(note), IsOk());
  EXPECT_THAT(KeyOf(*other).Check(note),
              HasReason(v1::REASON_BAD_NOTE_SIGNATURE));
  // Signatures of unknown keys are nobody's business.
  note.signatures.push_back(Signed("other\n", *other).signatures[0]);
  EXPECT_THAT(note_key.Check(note), IsOk());
  EXPECT_THAT(KeyOf(*other).Check(note),
              HasReason(v1::REASON_BAD_NOTE_SIGNATURE));
  Note changed = note;
  changed.text = "Text\n";
  EXPECT_THAT(note_key.Check(changed),
              HasReason(v1::REASON_BAD_NOTE_SIGNATURE));
  changed = note;
  changed.signatures[0].name = "another";
  EXPECT_THAT(note_key.Check(changed),
              HasReason(v1::REASON_BAD_NOTE_SIGNATURE));
  // One good signature does not make up for a bad one of the same key.
  changed = note;
  changed.signatures.push_back(note.signatures[0]);
  changed.signatures.back().signature.back() ^= 1;
  EXPECT_THAT(note_key.Check(changed),
              HasReason(v1::REASON_BAD_NOTE_SIGNATURE));
}

// RFC 8032 section 7.1, test 2, as a PKCS #8 key.
const char kWitnessPem[] =
    "-----BEGIN "
    "PRIVATE KEY-----\n"
    "MC4CAQAwBQYDK2VwBCIEIEzNCJso/5banbbDRuwRTg9bijGfNaumJNqM9u1PuKb7\n"
    "-----END PRIVATE KEY-----\n";

TEST(Ed25519KeyTest, VectorOfTheRfc) {
  const auto key = Ed25519Key::ParsePem(kWitnessPem);
  ASSERT_THAT(key, IsOk());
  EXPECT_EQ(HexEncode(key->public_key()),
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
  const Bytes message = {0x72};
  const auto signature = key->Sign(message);
  ASSERT_THAT(signature, IsOk());
  EXPECT_EQ(HexEncode(*signature),
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
            "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00");
  EXPECT_THAT(CheckEd25519(key->public_key(), message, *signature), IsOk());
  EXPECT_THAT(CheckEd25519(key->public_key(), Bytes{0x73}, *signature),
              HasReason(v1::REASON_BAD_NOTE_SIGNATURE));
  EXPECT_THAT(Ed25519Key::ParsePem("nothing"),
              HasReason(v1::REASON_KEY_UNSUPPORTED));
}

TEST(CosignatureTest, IsTimedAndBoundToTheText) {
  const auto witness = Ed25519Key::ParsePem(kWitnessPem);
  ASSERT_THAT(witness, IsOk());
  const auto key =
      NoteKey::Create("witness.example/w1", NoteKey::Type::kEd25519Cosignature,
                      witness->public_key());
  ASSERT_THAT(key, IsOk());
  const absl::Time time = absl::FromUnixSeconds(1'679'315'147);
  EXPECT_EQ(
      CosignatureMessage(kExampleCheckpoint, time),
      "cosignature/v1\ntime 1679315147\n" + std::string(kExampleCheckpoint));
  const auto signature =
      witness->Sign(AsBytes(CosignatureMessage(kExampleCheckpoint, time)));
  ASSERT_THAT(signature, IsOk());
  Note note = {kExampleCheckpoint,
               {{key->name(), key->id(), EncodeCosignature(time, *signature)}}};
  const auto checked = key->Check(note);
  ASSERT_THAT(checked, IsOk());
  EXPECT_EQ(**checked, time);
  EXPECT_THAT(CheckWitnesses(FormatNote(note), {{*key}}), IsOk());

  Note other_time = note;
  other_time.signatures[0].signature[7] ^= 1;
  EXPECT_THAT(key->Check(other_time), HasReason(v1::REASON_BAD_NOTE_SIGNATURE));
  other_time.signatures[0].signature[0] = 0x80;
  EXPECT_THAT(key->Check(other_time), HasReason(v1::REASON_BAD_NOTE_SIGNATURE));
  Note cut = note;
  cut.signatures[0].signature.pop_back();
  EXPECT_THAT(key->Check(cut), HasReason(v1::REASON_BAD_NOTE_SIGNATURE));
  Note other_text = note;
  other_text.text = "x\n";
  EXPECT_THAT(key->Check(other_text), HasReason(v1::REASON_BAD_NOTE_SIGNATURE));
}

TEST(CheckpointTest, ReadsTheExampleOfTheSpecification) {
  const auto checkpoint = ParseCheckpoint(kExampleCheckpoint);
  ASSERT_THAT(checkpoint, IsOk());
  EXPECT_EQ(checkpoint->origin, "example.com/behind-the-sofa");
  EXPECT_EQ(checkpoint->head.size, 20852163u);
  EXPECT_EQ(FormatCheckpoint(*checkpoint), kExampleCheckpoint);
  EXPECT_EQ(*ParseCheckpoint(std::string(kExampleCheckpoint) + "more\n"),
            *checkpoint);
}

TEST(CheckpointTest, RulesAreKept) {
  const std::string root = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
  const std::pair<const char*, std::string> cases[] = {
      {"CK-1", ""},
      {"CK-1", "a\n1\n"},
      {"CK-1", "a\n1\n" + root.substr(0, root.size() - 1)},
      {"CK-2", "\n1\n" + root},
      {"CK-3", "a\n01\n" + root},
      {"CK-3", "a\n-1\n" + root},
      {"CK-3", "a\n\n" + root},
      {"CK-3", "a\n18446744073709551615\n" + root},
      {"CK-4", "a\n1\nAAAA\n"},
      {"CK-4", "a\n1\n" + root.substr(1)},
      {"CK-5", "a\n1\n" + root + "\n"},
      {"CK-5", "a\n1\n" + root + "more"},
  };
  for (const auto& [rule, text] : cases) {
    EXPECT_THAT(ParseCheckpoint(text), HasReason(v1::REASON_BAD_AUDIT_LOG))
        << rule << ": " << text;
  }
}

TEST(CheckpointTest, AnotherLogsCheckpointIsNotThisLogs) {
  const auto key = SoftwareKey::Cached("p256");
  const Note note = Signed(kExampleCheckpoint, *key);
  EXPECT_THAT(OpenCheckpoint(FormatNote(note), KeyOf(*key)),
              HasReason(v1::REASON_AUDIT_INCONSISTENT));
}

Receipt MakeReceipt(SoftwareKey& key) {
  Receipt receipt;
  receipt.index = 1;
  receipt.entry = TestEntry(1);
  receipt.proof = {HashLeaf(TestEntry(0))};
  const TreeHash root =
      HashChildren(HashLeaf(TestEntry(0)), HashLeaf(receipt.entry));
  receipt.checkpoint =
      FormatNote(Signed(FormatCheckpoint({kTestOrigin, {2, root}}), key));
  return receipt;
}

TEST(ReceiptTest, IsReadBackAndChecked) {
  const auto key = SoftwareKey::Cached("p256");
  const Receipt receipt = MakeReceipt(*key);
  const auto parsed = ParseReceipt(FormatReceipt(receipt));
  ASSERT_THAT(parsed, IsOk());
  EXPECT_EQ(*parsed, receipt);
  const auto checkpoint = CheckReceipt(*parsed, KeyOf(*key));
  ASSERT_THAT(checkpoint, IsOk());
  EXPECT_EQ(checkpoint->head.size, 2u);

  Receipt other_entry = receipt;
  other_entry.entry = TestEntry(2);
  EXPECT_THAT(CheckReceipt(other_entry, KeyOf(*key)),
              HasReason(v1::REASON_AUDIT_INCONSISTENT));
  const auto other_key = SoftwareKey::Generate("p256");
  EXPECT_THAT(CheckReceipt(receipt, KeyOf(*other_key)),
              HasReason(v1::REASON_BAD_NOTE_SIGNATURE));
}

TEST(ReceiptTest, RulesAreKept) {
  const auto key = SoftwareKey::Cached("p256");
  const std::string good = FormatReceipt(MakeReceipt(*key));
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    const size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return text.replace(at, from.size(), to);
  };
  const std::pair<const char*, std::string> cases[] = {
      {"RC-1", good + std::string(200'000, 'a')},
      {"RC-2", with("@v1", "@v2")},
      {"RC-2", ""},
      {"RC-3", with("extra ", "extra  ")},
      {"RC-3", with("extra ", "index ")},
      {"RC-4", with("index 1", "index 01")},
      {"RC-4", with("index 1", "index")},
      {"RC-5", with("index 1\n", "index 1\nAAAA\n")},
      {"NT-3", with("\n\n— ", "\n— ")},
  };
  for (const auto& [rule, text] : cases) {
    EXPECT_THAT(ParseReceipt(text), HasReason(v1::REASON_BAD_AUDIT_LOG))
        << rule;
  }
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_FALSE(ParseReceipt(good.substr(0, size)).ok()) << size;
  }
}

}  // namespace
}  // namespace codeseal::audit
