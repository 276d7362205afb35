// The corpus: real signed and unsigned Apple code, published in npm packages,
// with the facts that are known of each item (tests/corpus/corpus.json).
// tests/corpus/fetch brings the files; they are never in the repository.
//
//   TEST(MachOCorpusTest, ReadsEverySlice) {
//     CODESEAL_CORPUS_ITEM(item, "D18");
//     const auto file = MappedFile::Open(item.path);
//
// An item that was not fetched skips its test by name, or fails it when
// CODESEAL_REQUIRE_CORPUS=1. Give such tests the label `corpus`.

#ifndef CODESEAL_TESTS_SUPPORT_CORPUS_H_
#define CODESEAL_TESTS_SUPPORT_CORPUS_H_

#include <cstdint>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "gtest/gtest.h"

namespace codeseal::testing {

// What is known of one CodeDirectory. Numbers are the wire's.
struct CorpusCodeDirectory {
  uint32_t slot = 0;  // 0, or 0x1000 and up for the alternates
  uint32_t version = 0;
  std::string digest;  // "sha1" or "sha256"
  uint32_t page_size = 0;
  uint32_t flags = 0;
  std::string identifier;
  std::string team;  // empty: none
  uint32_t special_slot_count = 0;
  uint32_t code_slot_count = 0;
  uint64_t code_limit = 0;
  std::string cdhash;  // hexadecimal, 20 bytes
};

struct CorpusBlob {
  uint32_t slot = 0;
  uint32_t magic = 0;
  uint64_t size = 0;
};

struct CorpusCms {
  uint64_t size = 0;      // without the blob's header
  std::string digest;     // of the signed attributes: "sha1" or "sha256"
  std::string leaf;       // common name of the signer
  std::string encoding;   // "BER" or "DER"
  std::string signed_at;  // the signer's word, "2020-01-30T10:29:23Z", or empty
  std::string timestamp_at;  // the timestamp authority's word, or empty
  std::vector<std::string> chain_sha256;  // certificates as stored
};

struct CorpusSignature {
  uint64_t super_blob_size = 0;
  std::vector<CorpusBlob> blobs;  // in index order
  std::vector<CorpusCodeDirectory> code_directories;
  // Requirements as Apple's tools print them, designated first.
  std::vector<std::string> requirements;
  std::vector<std::string> entitlements;  // keys only
  std::optional<CorpusCms> cms;
};

struct CorpusSlice {
  std::string arch;
  std::string filetype;  // "execute", "dylib", "bundle", "object", ...
  uint64_t offset = 0;   // in the file
  uint64_t size = 0;
  std::string state;  // "unsigned", "linker-signed", "adhoc" or "cms"
  // Bytes between the load commands and the first section; nullopt when no
  // section sits behind them.
  std::optional<uint64_t> header_room;
  uint64_t signature_offset = 0;  // in the slice
  uint64_t signature_size = 0;    // 0: no LC_CODE_SIGNATURE
  std::optional<CorpusSignature> signature;
};

struct CorpusItem {
  std::string id;         // "D17"
  std::string note;       // what is special about it
  std::string path;       // the file or the bundle's folder; absolute
  std::string main_file;  // equals `path` unless the item is a bundle
  bool is_bundle = false;
  std::string sha256;  // of main_file, hexadecimal
  uint64_t size = 0;   // of main_file
  // Apple's default verdict on the whole item: "intact", "unsigned" or
  // "broken".
  std::string expected;
  std::vector<std::string> reasons;  // for "unsigned" or "broken"; English
  std::vector<CorpusSlice> slices;   // empty when main_file is not a Mach-O
  std::optional<CorpusSignature> detached_signature;
};

// Every item in order of id, whether or not it was fetched. Made on first use;
// safe in INSTANTIATE_TEST_SUITE_P. Ends the process when corpus.json cannot be
// read, because then no verdict of a test would mean anything.
const std::vector<CorpusItem>& Corpus();

// Items whose main file is a Mach-O, thin or universal.
std::vector<CorpusItem> MachOCorpus();

// Ends the process when there is no such id.
const CorpusItem& FindCorpusItem(std::string_view id);

// The item's main file is in the cache with the size it should have; its digest
// was checked when it was fetched.
bool IsFetched(const CorpusItem& item);

// CODESEAL_REQUIRE_CORPUS=1: an item that is not there fails its test.
bool IsCorpusRequired();

// For messages of parameterised tests.
inline void PrintTo(const CorpusItem& item, std::ostream* out) {
  *out << item.id << " (" << item.note << ")";
}

// Names parameterised tests by id:
//   INSTANTIATE_TEST_SUITE_P(Corpus, X, ValuesIn(Corpus()), CorpusTestName);
inline std::string CorpusTestName(
    const ::testing::TestParamInfo<CorpusItem>& each) {
  return each.param.id;
}

}  // namespace codeseal::testing

// Skips (or fails) the calling test when `item` was not fetched.
#define CODESEAL_NEED_CORPUS_ITEM(item)                                   \
  if (!::codeseal::testing::IsFetched(item)) {                            \
    if (::codeseal::testing::IsCorpusRequired()) {                        \
      FAIL() << "corpus item " << (item).id << " is required and not at " \
             << (item).main_file;                                         \
    }                                                                     \
    GTEST_SKIP() << "corpus item " << (item).id                           \
                 << " was not fetched: run tests/corpus/fetch";           \
  }                                                                       \
  static_assert(true)

// Declares `const CorpusItem& name`.
#define CODESEAL_CORPUS_ITEM(name, id)          \
  const ::codeseal::testing::CorpusItem& name = \
      ::codeseal::testing::FindCorpusItem(id);  \
  CODESEAL_NEED_CORPUS_ITEM(name)

#endif  // CODESEAL_TESTS_SUPPORT_CORPUS_H_
