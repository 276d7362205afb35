#include "hsm/token_uri.h"

#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

using ::codeseal::testing::HasMessage;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;

TEST(TokenUriTest, ReadsEveryPartThatIsUsed) {
  const auto uri = ParseTokenUri(
      "pkcs11:token=My%20Token;serial=0123abc;object=developer%2Did;"
      "id=%01%AB;type=private"
      "?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/run/pin");
  ASSERT_THAT(uri, IsOk());
  EXPECT_EQ(uri->config.label, "My Token");
  EXPECT_EQ(uri->config.name, "My Token");
  EXPECT_THAT(uri->config.serials, ::testing::ElementsAre("0123abc"));
  EXPECT_EQ(uri->config.module, "/usr/lib/softhsm/libsofthsm2.so");
  EXPECT_EQ(uri->config.pin_source, "file:/run/pin");
  EXPECT_EQ(uri->key.label, "developer-id");
  EXPECT_EQ(uri->key.id, (Bytes{1, 0xab}));
}

TEST(TokenUriTest, PartsMayBeMissing) {
  auto uri = ParseTokenUri("pkcs11:serial=99");
  ASSERT_THAT(uri, IsOk());
  EXPECT_EQ(uri->config.label, "");
  EXPECT_EQ(uri->config.name, "99");
  EXPECT_EQ(uri->config.module, "");
  EXPECT_EQ(uri->config.pin_source, "");
  EXPECT_TRUE(uri->key.id.empty());
  EXPECT_TRUE(uri->key.label.empty());
  uri = ParseTokenUri("pkcs11:token=t?pin-source=/run/pin");
  ASSERT_THAT(uri, IsOk());
  EXPECT_EQ(uri->config.pin_source, "file:/run/pin");
}

TEST(TokenUriTest, PinInTheUriIsRefusedAndNotQuoted) {
  const auto uri = ParseTokenUri("pkcs11:token=t?pin-value=987654");
  EXPECT_THAT(uri, HasReason(v1::REASON_BAD_TOKEN_URI));
  EXPECT_THAT(uri, HasMessage("pin-source"));
  EXPECT_THAT(uri, ::testing::Not(HasMessage("987654")));
}

TEST(TokenUriTest, WhatCouldMeanAnotherKeyIsRefused) {
  for (const char* text :
       {"", "token=t", "pkcs11", "http://x", "pkcs11:", "pkcs11:object=k",

        "pkcs11:token=%zz", "pkcs11:token=t;object=k;type=public",
        "pkcs11:token=t;type=cert", "pkcs11:token=t;slot-id=3",
        "pkcs11:token=t;manufacturer=m", "pkcs11:token=t;model=m",
        "pkcs11:token=t;library-description=m",
        "pkcs11:token=t;slot-description=m", "pkcs11:token=t;colour=red",
        "pkcs11:token=t?module-name=softhsm2",
        "pkcs11:token=t?pin-source=|/bin/cat",
        "pkcs11:token=t?pin-source=1234"}) {
    EXPECT_THAT(ParseTokenUri(text), HasReason(v1::REASON_BAD_TOKEN_URI))
        << text;
  }
  EXPECT_THAT(ParseTokenUri(std::string_view("pkcs11:token=t\0x", 16)),
              HasReason(v1::REASON_BAD_TOKEN_URI));
}

}  // namespace
}  // namespace codeseal
