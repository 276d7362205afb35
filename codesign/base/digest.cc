#include "codesign/base/digest.h"

#include <openssl/evp.h>

#include <algorithm>
#include <cassert>
#include <cstdlib>

namespace codeseal {
namespace {

const EVP_MD* Algorithm(DigestKind kind) {
  // Fetched once: an implicit fetch for each digest costs more than a page.
  static const EVP_MD* const sha1 = EVP_MD_fetch(nullptr, "SHA1", nullptr);
  static const EVP_MD* const sha256 = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  static const EVP_MD* const sha384 = EVP_MD_fetch(nullptr, "SHA384", nullptr);
  switch (kind) {
    case DigestKind::kSha1:
      return sha1;
    case DigestKind::kSha256:
    case DigestKind::kSha256Truncated:
      return sha256;
    case DigestKind::kSha384:
      return sha384;
  }
  return nullptr;
}

}  // namespace

size_t DigestSize(DigestKind kind) {
  switch (kind) {
    case DigestKind::kSha1:
    case DigestKind::kSha256Truncated:
      return 20;
    case DigestKind::kSha256:
      return 32;
    case DigestKind::kSha384:
      return 48;
  }
  return 0;
}

size_t FullDigestSize(DigestKind kind) {
  return kind == DigestKind::kSha256Truncated ? 32 : DigestSize(kind);
}

std::string_view DigestName(DigestKind kind) {
  switch (kind) {
    case DigestKind::kSha1:
      return "sha1";
    case DigestKind::kSha256:
      return "sha256";
    case DigestKind::kSha256Truncated:
      return "sha256-truncated";
    case DigestKind::kSha384:
      return "sha384";
  }
  return "unknown";
}

struct Digester::Impl {
  explicit Impl(DigestKind digest_kind)
      : kind(digest_kind), context(EVP_MD_CTX_new()) {
    Start();
  }
  ~Impl() { EVP_MD_CTX_free(context); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  void Start() {
    // Fails only without memory or without the default provider: no caller
    // could go on.
    if (EVP_DigestInit_ex2(context, Algorithm(kind), nullptr) != 1) {
      std::abort();
    }
  }

  DigestKind kind;
  EVP_MD_CTX* context;
};

Digester::Digester(DigestKind kind) : impl_(std::make_unique<Impl>(kind)) {}
Digester::~Digester() = default;
Digester::Digester(Digester&&) noexcept = default;
Digester& Digester::operator=(Digester&&) noexcept = default;

void Digester::Update(ByteView bytes) {
  EVP_DigestUpdate(impl_->context, bytes.data(), bytes.size());
}

void Digester::Finish(std::span<uint8_t> out) {
  assert(out.size() == DigestSize(impl_->kind));
  uint8_t full[EVP_MAX_MD_SIZE];
  EVP_DigestFinal_ex(impl_->context, full, nullptr);
  std::copy_n(full, out.size(), out.begin());
  impl_->Start();
}

Bytes ComputeDigest(DigestKind kind, ByteView bytes) {
  Bytes digest(DigestSize(kind));
  Digester(kind).Digest(bytes, digest);
  return digest;
}

Bytes ComputeFullDigest(DigestKind kind, ByteView bytes) {
  return ComputeDigest(
      kind == DigestKind::kSha256Truncated ? DigestKind::kSha256 : kind, bytes);
}

CdHash ComputeCdHash(DigestKind kind, ByteView code_directory) {
  CdHash cdhash;
  const Bytes digest = ComputeDigest(kind, code_directory);
  std::copy_n(digest.begin(), cdhash.size(), cdhash.begin());
  return cdhash;
}

}  // namespace codeseal
