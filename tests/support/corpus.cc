#include "tests/support/corpus.h"

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "nlohmann/json.hpp"

namespace codeseal::testing {
namespace {

using Json = nlohmann::json;

[[noreturn]] void Die(const std::string& message) {
  std::fprintf(stderr, "corpus: %s\n", message.c_str());
  std::abort();
}

std::filesystem::path CacheFolder() {
  if (const char* folder = std::getenv("CODESEAL_CORPUS"); folder != nullptr) {
    return folder;
  }
  const char* home = std::getenv("HOME");
  return std::filesystem::path(home != nullptr ? home : "/nonexistent") /
         ".cache/codeseal/corpus";
}

// Where tests/corpus/fetch unpacks: x/PACKAGE with '/' as '+', then the path
// inside; each '!' goes into an archive that was unpacked beside itself.
std::string PlaceOf(const std::string& package, const std::string& path) {
  std::string place = package;
  for (char& each : place) {
    if (each == '/') each = '+';
  }
  place = (CacheFolder() / "x" / place / "").string();
  for (const char each : path) {
    if (each == '!') {
      place += ".x/";
    } else {
      place += each;
    }
  }
  while (place.ends_with('/')) place.pop_back();
  return place;
}

std::vector<std::string> Strings(const Json& json, const char* key) {
  return json.value(key, std::vector<std::string>{});
}

CorpusCodeDirectory ToCodeDirectory(const Json& json) {
  return {.slot = json.at("slot"),
          .version = json.at("version"),
          .digest = json.at("digest"),
          .page_size = json.at("page_size"),
          .flags = json.at("flags"),
          .identifier = json.at("identifier"),
          .team = json.value("team", ""),
          .special_slot_count = json.at("special_slot_count"),
          .code_slot_count = json.at("code_slot_count"),
          .code_limit = json.at("code_limit"),
          .cdhash = json.at("cdhash")};
}

CorpusSignature ToSignature(const Json& json) {
  CorpusSignature signature;
  signature.super_blob_size = json.at("super_blob_size");
  for (const Json& each : json.at("blobs")) {
    signature.blobs.push_back({.slot = each.at("slot"),
                               .magic = each.at("magic"),
                               .size = each.at("size")});
  }
  for (const Json& each : json.at("code_directories")) {
    signature.code_directories.push_back(ToCodeDirectory(each));
  }
  signature.requirements = Strings(json, "requirements");
  signature.entitlements = Strings(json, "entitlements");
  if (const auto cms = json.find("cms"); cms != json.end()) {
    signature.cms = CorpusCms{.size = cms->at("size"),
                              .digest = cms->at("digest"),
                              .leaf = cms->at("leaf"),
                              .encoding = cms->at("encoding"),
                              .signed_at = cms->value("signing_time", ""),
                              .timestamp_at = cms->value("timestamp", ""),
                              .chain_sha256 = Strings(*cms, "chain_sha256")};
  }
  return signature;
}

CorpusSlice ToSlice(const Json& json) {
  CorpusSlice slice = {.arch = json.at("arch"),
                       .filetype = json.at("filetype"),
                       .offset = json.at("offset"),
                       .size = json.at("size"),
                       .state = json.at("state"),
                       .header_room = std::nullopt,
                       .signature_offset = json.value("signature_offset", 0u),
                       .signature_size = json.value("signature_size", 0u),
                       .signature = std::nullopt};
  if (const auto room = json.find("header_room"); room != json.end()) {
    slice.header_room = room->get<uint64_t>();
  }
  if (json.contains("signature")) {
    slice.signature = ToSignature(json.at("signature"));
  }
  return slice;
}

CorpusItem ToItem(const Json& json) {
  CorpusItem item;
  item.id = json.at("id");
  item.note = json.at("note");
  item.path = PlaceOf(json.at("package"), json.at("path"));
  item.is_bundle = json.at("type") == "bundle";
  item.main_file = item.path;
  if (item.is_bundle) {
    item.main_file += "/" + json.at("main_file").get<std::string>();
  }
  item.sha256 = json.at("sha256");
  item.size = json.at("size");
  item.expected = json.at("expected");
  item.reasons = Strings(json, "reasons");
  if (const auto slices = json.find("slices"); slices != json.end()) {
    for (const Json& each : *slices) item.slices.push_back(ToSlice(each));
  }
  if (json.contains("detached_signature")) {
    item.detached_signature = ToSignature(json.at("detached_signature"));
  }
  return item;
}

std::vector<CorpusItem> Load() {
  const std::string path = CODESEAL_CORPUS_JSON;
  try {
    std::ifstream file(path);
    if (!file) Die("cannot read " + path);
    const Json corpus = Json::parse(file);
    std::vector<CorpusItem> items;
    for (const Json& each : corpus.at("items")) {
      items.push_back(ToItem(each));
    }
    return items;
  } catch (const std::exception& fault) {
    Die(path + ": " + fault.what());
  }
}

}  // namespace

const std::vector<CorpusItem>& Corpus() {
  static const std::vector<CorpusItem>* const items =
      new std::vector<CorpusItem>(Load());
  return *items;
}

std::vector<CorpusItem> MachOCorpus() {
  std::vector<CorpusItem> items;
  for (const CorpusItem& item : Corpus()) {
    if (!item.slices.empty()) items.push_back(item);
  }
  return items;
}

const CorpusItem& FindCorpusItem(std::string_view id) {
  for (const CorpusItem& item : Corpus()) {
    if (item.id == id) return item;
  }
  Die("there is no item " + std::string(id));
}

bool IsFetched(const CorpusItem& item) {
  std::error_code error;
  return std::filesystem::file_size(item.main_file, error) == item.size &&
         !error;
}

bool IsCorpusRequired() {
  const char* required = std::getenv("CODESEAL_REQUIRE_CORPUS");
  return required != nullptr && std::string_view(required) == "1";
}

}  // namespace codeseal::testing
