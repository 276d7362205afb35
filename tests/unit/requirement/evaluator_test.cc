#include "codesign/requirement/evaluator.h"

#include "absl/time/civil_time.h"
#include "codesign/requirement/compiler.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_pki.h"

namespace codeseal {
namespace {

using ::codeseal::testing::CertificateSpec;
using ::codeseal::testing::HasMessage;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::Issue;
using ::codeseal::testing::MakeRoot;
using ::codeseal::testing::TestIdentity;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr char kMarker[] = "1.2.840.113635.100.6.1.13";

// A chain, an Info.plist and entitlements; made once.
class World {
 public:
  World() {
    CertificateSpec root_spec;
    root_spec.common_name = "root";
    const TestIdentity root = MakeRoot(root_spec);
    CertificateSpec leaf_spec;
    leaf_spec.common_name = "Leaf 10";
    leaf_spec.organizational_unit = "TEAM";
    leaf_spec.markers = {kMarker};
    const TestIdentity leaf = Issue(leaf_spec, root);
    chain_ = {leaf.certificate(), root.certificate()};
    cdhash_.fill(0x11);
    info_["CFBundleVersion"] = {std::string("10.9")};
    info_["Yes"] = {true};
    info_["No"] = {false};
    info_["Count"] = {int64_t{3}};
    info_["Date"] = {
        absl::FromCivil(absl::CivilDay(2020, 1, 1), absl::UTCTimeZone())};
    info_["List"] = {PlistArray{{std::string("one")}, {std::string("two")}}};
    entitlements_["com.apple.x"] = {true};
  }

  RequirementContext Context() const {
    RequirementContext context;
    context.identifier = "com.example.app";
    context.cdhashes = std::span(&cdhash_, 1);
    context.platform = 7;
    context.info = &info_;
    context.entitlements = &entitlements_;
    context.chain = chain_;
    return context;
  }
  std::string LeafSha1() const { return HexEncode(chain_[0].Sha1()); }

 private:
  std::vector<Certificate> chain_;
  CdHash cdhash_;
  PlistDict info_;
  PlistDict entitlements_;
};

const World& TheWorld() {
  static const World* const world = new World;
  return *world;
}

Evaluation Evaluate(const std::string& text,
                    const RequirementContext& context = TheWorld().Context()) {
  const absl::StatusOr<RequirementExpression> expression =
      CompileRequirement(text);
  EXPECT_THAT(expression, IsOk()) << text;
  return expression.ok() ? EvaluateRequirement(*expression, context)
                         : Evaluation();
}

TEST(EvaluatorTest, WhatHolds) {
  for (const std::string text :
       {"always",
        "! never",
        "identifier com.example.app",
        "platform = 7",
        "cdhash H\"1111111111111111111111111111111111111111\"",
        "certificate leaf[subject.CN] = \"Leaf 10\"",
        "certificate leaf[subject.CN] > \"Leaf 9\"",
        "certificate 0[subject.OU] = TEAM",
        "certificate -2[subject.OU] exists",
        "certificate 1[subject.CN] = \"root\"",
        "anchor[subject.CN] = ro*",
        "anchor[subject.CN] = *ot",
        "certificate leaf[field.1.2.840.113635.100.6.1.13]",
        "certificate leaf[field.1.2.3] absent",
        "certificate leaf[policy.1.2.3] absent",
        "certificate leaf[timestamp.1.2.3] absent",
        "info[CFBundleVersion] = \"10.9\"",
        "info[CFBundleVersion] < \"10.10\"",
        "info[CFBundleVersion] >= \"10.09\"",
        "info[CFBundleVersion] > \"9\"",
        "info[CFBundleVersion] ~ \".\"",
        "info[Yes]",
        "info[Count] exists",
        "info[List] = two",
        "info[List] exists",
        "info[Nothing] absent",
        "info[Date] < timestamp \"20200102000000Z\"",
        "info[Date] = timestamp \"20200101000000Z\"",
        "entitlement[com.apple.x]",
        "always or notarized",
        "! (never and notarized)"}) {
    const Evaluation evaluation = Evaluate(text);
    EXPECT_EQ(evaluation.truth, Truth::kTrue) << text;
    EXPECT_THAT(evaluation.failed, IsEmpty()) << text;
    EXPECT_THAT(evaluation.undecided, IsEmpty()) << text;
  }
}

TEST(EvaluatorTest, WhatDoesNotHold) {
  for (const std::string text :
       {"never", "! always", "identifier com.example", "platform = 8",
        "cdhash H\"2211111111111111111111111111111111111111\"", "anchor apple",
        "anchor apple generic", "certificate leaf[subject.CN] < \"Leaf 9\"",
        "certificate leaf[subject.L] exists",
        // Apple's reading: a missing field is not even absent.
        "certificate leaf[subject.L] absent",
        "certificate 2[subject.CN] exists", "certificate -3[subject.CN] exists",
        "certificate 2[field.1.2.3] absent", "certificate leaf[field.1.2.3]",
        "certificate leaf[policy.1.2.3]",
        "certificate leaf[timestamp.1.2.840.113635.100.6.1.13]",
        "info[CFBundleVersion] absent", "info[CFBundleVersion] > \"10.10\"",
        "info[CFBundleVersion] = *\"1\"", "info[No]", "info[Count] = \"3\"",
        "info[List] = three", "info[List] absent", "info[Nothing] exists",
        "info[Nothing] = x", "info[Date] > timestamp \"20200102000000Z\"",
        "entitlement[com.apple.y]", "never and notarized"}) {
    EXPECT_EQ(Evaluate(text).truth, Truth::kFalse) << text;
  }
}

TEST(EvaluatorTest, WhatOnlyAMacKnows) {
  for (const std::string text :
       {"notarized", "legacy", "anchor trusted", "certificate leaf trusted",
        "anchor apple foo", "(foo)", "! notarized", "always and notarized",
        "never or notarized"}) {
    const Evaluation evaluation = Evaluate(text);
    EXPECT_EQ(evaluation.truth, Truth::kUnknown) << text;
    EXPECT_EQ(evaluation.undecided.size(), 1u) << text;
  }
  // Ad-hoc code may be Apple's: only a Mac has the trust cache.
  EXPECT_EQ(Evaluate("anchor apple", RequirementContext()).truth,
            Truth::kUnknown);
  EXPECT_EQ(Evaluate("anchor apple generic", RequirementContext()).truth,
            Truth::kFalse);
}

TEST(EvaluatorTest, CodeWithoutListsHasNoValues) {
  EXPECT_EQ(Evaluate("info[x] absent", RequirementContext()).truth,
            Truth::kTrue);
  EXPECT_EQ(Evaluate("entitlement[x] exists", RequirementContext()).truth,
            Truth::kFalse);
}

TEST(EvaluatorTest, HashOfCertificate) {
  const std::string hash = "H\"" + TheWorld().LeafSha1() + "\"";
  EXPECT_EQ(Evaluate("certificate leaf = " + hash).truth, Truth::kTrue);
  EXPECT_EQ(Evaluate("certificate -2 = " + hash).truth, Truth::kTrue);
  EXPECT_EQ(Evaluate("certificate root = " + hash).truth, Truth::kFalse);
  EXPECT_EQ(Evaluate("certificate 9 = " + hash).truth, Truth::kFalse);
}

// 1.2.3 with a needless zero group in front: no certificate holds it.
TEST(EvaluatorTest, StrangeOidsMatchNothing) {
  RequirementExpression expression =
      *CompileRequirement("certificate leaf[field.1.2.840.113635.100.6.1.13]");
  EXPECT_THAT(CheckRequirement(expression, TheWorld().Context()), IsOk());
  expression.key.insert(expression.key.begin() + 1, 0x80);
  EXPECT_THAT(CheckRequirement(expression, TheWorld().Context()),
              HasReason(v1::REASON_REQUIREMENT_NOT_SATISFIED));
}

TEST(EvaluatorTest, UnknownOpcodes) {
  RequirementExpression is_false;
  is_false.op = RequirementOp{99};
  is_false.flags = kOpFalseIfUnknown;
  EXPECT_EQ(EvaluateRequirement(is_false, {}).truth, Truth::kFalse);
  RequirementExpression skipped;
  skipped.op = RequirementOp{99};
  skipped.flags = kOpSkipIfUnknown;
  skipped.operands.push_back(*CompileRequirement("always"));
  EXPECT_EQ(EvaluateRequirement(skipped, {}).truth, Truth::kTrue);
}

TEST(EvaluatorTest, DeepestTree) {
  RequirementExpression expression = *CompileRequirement("always");
  for (size_t level = 1; level < kMaxRequirementDepth; ++level) {
    RequirementExpression negation;
    negation.op = RequirementOp::kNot;
    negation.operands.push_back(std::move(expression));
    expression = std::move(negation);
  }
  EXPECT_EQ(RequirementDepth(expression), kMaxRequirementDepth);
  EXPECT_EQ(EvaluateRequirement(expression, {}).truth, Truth::kTrue);
}

TEST(EvaluatorTest, SaysWhatFailed) {
  EXPECT_THAT(
      Evaluate("identifier x and (never or platform = 1) and always").failed,
      ElementsAre("identifier x", "never", "platform = 1"));
  const auto check = [](const std::string& text) {
    return CheckRequirement(*CompileRequirement(text), TheWorld().Context());
  };
  EXPECT_THAT(check("identifier x and always"),
              HasReason(v1::REASON_REQUIREMENT_NOT_SATISFIED));
  EXPECT_THAT(check("identifier x and always"),
              HasMessage("not satisfied: identifier x"));
  EXPECT_THAT(check("notarized"), HasMessage("outside macOS: notarized"));
  EXPECT_EQ(GetErrorDetail(check("identifier x and never"))->rule(),
            "identifier x");
  EXPECT_THAT(check("always"), IsOk());
}

TEST(EvaluatorTest, SaysWhatIsThereInstead) {
  const auto explain = [](const std::string& text) {
    return ExplainFailure(Evaluate(text));
  };
  EXPECT_EQ(explain("identifier x and certificate leaf[subject.OU] = OTHER"),
            "identifier x (it is com.example.app); certificate "
            "leaf[subject.OU] = OTHER (it is TEAM)");
  EXPECT_EQ(explain("anchor apple generic"),
            "anchor apple generic (the root is \"root\")");
  EXPECT_EQ(explain("certificate leaf[subject.O] = X"),
            "certificate leaf[subject.O] = X (\"Leaf 10\" has none)");
  EXPECT_EQ(explain("certificate 5[field.1.2.3] exists"),
            "certificate 5[field.1.2.3] /* exists */ (the chain has only 2 "
            "certificates)");
  EXPECT_EQ(explain("info[CFBundleVersion] = \"11\" and entitlement[x] exists"),
            "info[CFBundleVersion] = \"11\" (it is 10.9); entitlement[x] /* "
            "exists */ (there is none)");
  EXPECT_EQ(explain("platform = 1"), "platform = 1 (it is 7)");
  // What a true alternative did not need is not blamed.
  EXPECT_EQ(explain("(never or always) and ! always"), "! always");
  EXPECT_EQ(explain("notarized"), "notarized");
  EXPECT_EQ(explain("always"), "");
}

}  // namespace
}  // namespace codeseal
