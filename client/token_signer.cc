#include "client/token_signer.h"

#include <algorithm>
#include <future>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "client/wait_hint.h"
#include "codesign/base/error.h"
#include "codesign/cms/apple_cms.h"
#include "codesign/cms/digest_signature.h"
#include "hsm/provider.h"

namespace codeseal::client {
namespace {

struct Candidate {
  KeyReference key;
  std::string label;  // of the certificate; empty for one from a file
  Certificate leaf;
};

bool Contains(std::span<const Certificate> certificates,
              const Certificate& certificate) {
  return std::any_of(certificates.begin(), certificates.end(),
                     [&](const Certificate& each) {
                       return Equal(each.der(), certificate.der());
                     });
}

// The key that belongs to the certificate; nullptr when it is not here.
const KeyListing* FindKey(const TokenListing& listing,
                          const Certificate& certificate, ByteView id) {
  const Bytes public_key = certificate.SubjectPublicKeyInfo();
  for (const KeyListing& key : listing.keys) {
    const bool fits = key.public_key.empty() ? !id.empty() && Equal(key.id, id)
                                             : key.public_key == public_key;
    if (fits) return &key;
  }
  return nullptr;
}

class TokenSigner : public Signer {
 public:
  TokenSigner(std::shared_ptr<Token> token, TokenSignerOptions options,
              const Clock& clock)
      : token_(std::move(token)), options_(std::move(options)), clock_(clock) {}

  absl::StatusOr<std::vector<SigningIdentity>> ListIdentities() override {
    RETURN_IF_ERROR(Load());
    std::vector<SigningIdentity> identities;
    for (const Candidate& candidate : candidates_) {
      identities.push_back(Describe(candidate));
    }
    return identities;
  }

  absl::StatusOr<SigningIdentity> GetIdentity(
      const std::string& name) override {
    RETURN_IF_ERROR(Load());
    std::vector<const Candidate*> fitting;
    for (const Candidate& candidate : candidates_) {
      if (HasName(candidate, name)) fitting.push_back(&candidate);
    }
    if (fitting.size() != 1) return NotOne(name, fitting);
    const Candidate& candidate = *fitting.front();
    if (clock_.Now() > candidate.leaf.not_after()) {
      return WithSubject(
          MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_PLAN,
                    v1::REASON_CERTIFICATE_EXPIRED,
                    "the certificate expired on " +
                        absl::FormatTime("%Y-%m-%d", candidate.leaf.not_after(),
                                         absl::UTCTimeZone())),
          "identity " + name);
    }
    // Only here a missing issuer matters: a listing shows what there is.
    RETURN_IF_ERROR(BuildChain(candidate.leaf, certificates_).status());
    return Describe(candidate);
  }

  std::vector<absl::StatusOr<SliceSignature>> Sign(
      const SigningIdentity& identity, std::span<const SliceToSign> slices,
      const SignProgress& progress) override {
    std::vector<absl::StatusOr<SliceSignature>> results(slices.size(),
                                                        SliceSignature());
    if (options_.validate_only) return results;
    const absl::StatusOr<UniqueEvpPkey> key = LoadKey(identity);
    for (size_t i = 0; i < slices.size(); ++i) {
      const WaitHint hint = Hint(absl::StrCat(
          "to sign ", slices[i].path, " (", i + 1, " of ", slices.size(), ")"));
      results[i] = key.ok() ? SignSlice(*slices[i].plan, identity, key->get())
                            : key.status();
      if (progress) progress(i + 1, slices.size());
    }
    if (options_.timestamper != nullptr) {
      std::vector<PendingStamp> pending(slices.size());
      for (size_t i = 0; i < slices.size(); ++i) {
        if (results[i].ok()) pending[i] = AskForStamp(results[i]->cms);
      }
      for (size_t i = 0; i < slices.size(); ++i) {
        if (!results[i].ok()) continue;
        const absl::StatusOr<absl::Time> time =
            AddStamp(std::move(pending[i]), results[i]->cms);
        if (time.ok()) {
          results[i]->timestamp = *time;
        } else {
          results[i] = time.status();
        }
      }
    }
    return results;
  }

  absl::StatusOr<PackageSignatures> SignPackage(
      const SigningIdentity& identity, const PackagePlan& plan) override {
    PackageSignatures signatures;
    if (options_.validate_only) return signatures;
    ASSIGN_OR_RETURN(const UniqueEvpPkey key, LoadKey(identity));
    const CmsSigner signer{key.get(), TokenLibraryContext(), identity.chain};
    const WaitHint hint = Hint("to sign the package");
    // The attribute has whole seconds.
    signatures.signing_time =
        absl::FromUnixSeconds(absl::ToUnixSeconds(clock_.Now()));
    const SignScope scope(Deadline());
    absl::StatusOr<Bytes> rsa =
        SignRsaDigest(signer, plan.checksum_kind(), plan.checksum());
    // OpenSSL knows only that it failed; the token knows why.
    RETURN_IF_ERROR(scope.token_status());
    if (!rsa.ok()) return rsa.status();
    absl::StatusOr<Bytes> cms = BuildAppleCms(
        signer, DescribeBytes(plan.checksum()), signatures.signing_time);
    RETURN_IF_ERROR(scope.token_status());
    if (!cms.ok()) return cms.status();
    signatures.rsa = *std::move(rsa);
    signatures.cms = *std::move(cms);
    if (options_.timestamper != nullptr) {
      ASSIGN_OR_RETURN(signatures.timestamp,
                       AddStamp(AskForStamp(signatures.cms), signatures.cms));
    }
    return signatures;
  }

 private:
  WaitHint Hint(const std::string& what) const {
    if (!options_.on_wait) return WaitHint(options_.hint_after, nullptr);
    return WaitHint(options_.hint_after,
                    [this, what] { options_.on_wait(what); });
  }

  using PendingStamp = std::future<absl::StatusOr<Stamp>>;

  // All of them wait side by side.
  PendingStamp AskForStamp(ByteView cms) const {
    auto promise = std::make_shared<std::promise<absl::StatusOr<Stamp>>>();
    PendingStamp pending = promise->get_future();
    const absl::StatusOr<CmsSignature> signature = ParseAppleCms(cms);
    if (!signature.ok()) {
      promise->set_value(signature.status());
      return pending;
    }
    options_.timestamper->Get(signature->signature_value, Deadline(),
                              [promise](absl::StatusOr<Stamp> stamp) {
                                promise->set_value(std::move(stamp));
                              });
    return pending;
  }
  static absl::StatusOr<absl::Time> AddStamp(PendingStamp pending, Bytes& cms) {
    ASSIGN_OR_RETURN(const Stamp stamp, pending.get());
    ASSIGN_OR_RETURN(cms, AddTimestampToken(cms, stamp.token));
    return stamp.time;
  }

  absl::Time Deadline() const { return absl::Now() + options_.timeout; }

  // Reads the token once.
  absl::Status Load() {
    if (loaded_) return absl::OkStatus();
    ASSIGN_OR_RETURN(const TokenListing listing, token_->List(Deadline()));
    certificates_ = options_.certificates;
    for (const CertificateListing& stored : listing.certificates) {
      // A token may hold certificates of other kinds; they are not ours.
      const absl::StatusOr<Certificate> certificate =
          Certificate::Parse(stored.der);
      if (!certificate.ok()) continue;
      AddCandidate(listing, *certificate, stored.id, stored.label);
      certificates_.push_back(*certificate);
    }
    for (const Certificate& certificate : options_.certificates) {
      AddCandidate(listing, certificate, {}, "");
    }
    loaded_ = true;
    return absl::OkStatus();
  }

  void AddCandidate(const TokenListing& listing, const Certificate& leaf,
                    ByteView id, const std::string& label) {
    const KeyListing* key = FindKey(listing, leaf, id);
    if (key == nullptr) return;
    const KeyReference& wanted = options_.key;
    if (!wanted.id.empty() && key->id != wanted.id) return;
    if (!wanted.label.empty() && key->label != wanted.label) return;
    for (const Candidate& each : candidates_) {
      if (Equal(each.leaf.der(), leaf.der())) return;
    }
    candidates_.push_back({{key->id, key->label}, label, leaf});
  }

  static bool HasName(const Candidate& candidate, const std::string& name) {
    return candidate.leaf.CommonName() == name ||
           (!candidate.label.empty() && candidate.label == name) ||
           HexEncode(candidate.leaf.Sha1()) == absl::AsciiStrToLower(name);
  }

  absl::Status NotOne(const std::string& name,
                      const std::vector<const Candidate*>& fitting) const {
    std::string message;
    if (fitting.empty()) {
      message = "no certificate of this name has its private key on token " +
                token_->config().name;
    } else {
      message = "the name fits several certificates; name one by its SHA-1:";
      for (const Candidate* each : fitting) {
        absl::StrAppend(&message, " ", HexEncode(each->leaf.Sha1()));
      }
    }
    return WithSubject(MakeError(absl::StatusCode::kNotFound, v1::STAGE_TOKEN,
                                 v1::REASON_IDENTITY_NOT_FOUND, message),
                       "identity " + name);
  }

  SigningIdentity Describe(const Candidate& candidate) const {
    SigningIdentity identity;
    identity.name = candidate.leaf.CommonName();
    if (identity.name.empty()) identity.name = candidate.label;
    identity.state = "active";
    absl::StatusOr<std::vector<Certificate>> chain =
        BuildChain(candidate.leaf, certificates_);
    if (chain.ok()) {
      identity.chain = *std::move(chain);
    } else {
      identity.chain = {candidate.leaf};
      identity.unavailable_because = std::string(Message(chain.status()));
    }
    return identity;
  }

  absl::StatusOr<UniqueEvpPkey> LoadKey(const SigningIdentity& identity) {
    for (const Candidate& candidate : candidates_) {
      if (!Contains(identity.chain, candidate.leaf)) continue;
      const WaitHint hint = Hint("to open the key");
      ASSIGN_OR_RETURN(std::shared_ptr<KeyBackend> backend,
                       token_->LoadKey(candidate.key, options_.key_policy,
                                       candidate.leaf.der(), Deadline()));
      return MakeTokenPkey(std::move(backend));
    }
    return MakeError(absl::StatusCode::kNotFound, v1::STAGE_TOKEN,
                     v1::REASON_KEY_NOT_FOUND, "no key for this identity");
  }

  absl::StatusOr<SliceSignature> SignSlice(const SlicePlan& slice,
                                           const SigningIdentity& identity,
                                           EVP_PKEY* key) {
    std::vector<CodeDirectoryBlob> blobs;
    for (size_t i = 0; i < slice.code_directories.size(); ++i) {
      blobs.push_back({slice.digests[i], slice.code_directories[i]});
    }
    CmsSigner signer;
    signer.key = key;
    signer.context = TokenLibraryContext();
    signer.chain = identity.chain;
    SliceSignature signature;
    // The attribute has whole seconds.
    signature.signing_time =
        absl::FromUnixSeconds(absl::ToUnixSeconds(clock_.Now()));
    const SignScope scope(Deadline());
    absl::StatusOr<Bytes> cms =
        BuildAppleCms(signer, DescribeContent(blobs), signature.signing_time);
    // OpenSSL knows only that it failed; the token knows why.
    RETURN_IF_ERROR(scope.token_status());
    if (!cms.ok()) return cms.status();
    signature.cms = *std::move(cms);
    return signature;
  }

  const std::shared_ptr<Token> token_;
  const TokenSignerOptions options_;
  const Clock& clock_;
  bool loaded_ = false;
  std::vector<Candidate> candidates_;
  std::vector<Certificate> certificates_;  // to build chains from
};

}  // namespace

std::unique_ptr<Signer> MakeTokenSigner(std::shared_ptr<Token> token,
                                        TokenSignerOptions options,
                                        const Clock& clock) {
  return std::make_unique<TokenSigner>(std::move(token), std::move(options),
                                       clock);
}

}  // namespace codeseal::client
