// ParseBundleInfo: a property list that is accepted is written and read again
// unchanged.

#include <cstdlib>

#include "codesign/bundle/bundle.h"
#include "codesign/bundle/property_list.h"

namespace {

void Require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const codeseal::ByteView input(data, size);
  const auto dict = codeseal::ParsePlistDict(input);
  const auto info = codeseal::ParseBundleInfo(input);
  Require(dict.ok() == info.ok());
  if (!info.ok()) return -1;

  Require(info->entry_count == dict->size());
  const std::string written = codeseal::BuildXmlPlist(*dict);
  const auto again = codeseal::ParsePlistDict(codeseal::AsBytes(written));
  if (again.ok()) Require(codeseal::BuildXmlPlist(*again) == written);
  return 0;
}
