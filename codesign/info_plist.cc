#include "codesign/info_plist.h"

#include "codesign/base/error.h"
#include "codesign/bundle/property_list.h"
#include "codesign/code_directory.h"

namespace codeseal {
namespace {

absl::StatusOr<std::optional<std::string>> FindText(const PlistDict& dict,
                                                    const char* key) {
  const auto entry = dict.find(key);
  if (entry == dict.end()) return std::nullopt;
  const auto* text = entry->second.As<std::string>();
  if (text == nullptr) {
    return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_PLAN,
                     v1::REASON_BAD_PLIST,
                     std::string(key) + " of the Info.plist is not a text");
  }
  return *text;
}

}  // namespace

absl::StatusOr<InfoPlist> ParseInfoPlist(ByteView bytes) {
  ASSIGN_OR_RETURN(const PlistDict dict, ParsePlistDict(bytes));
  InfoPlist info;
  ASSIGN_OR_RETURN(info.identifier, FindText(dict, "CFBundleIdentifier"));
  ASSIGN_OR_RETURN(info.name, FindText(dict, "CFBundleName"));
  if (const auto* number = FindInDict<int64_t>(dict, "CSFlags")) {
    info.flags = static_cast<uint32_t>(*number);
  } else if (const auto* words = FindInDict<std::string>(dict, "CSFlags")) {
    ASSIGN_OR_RETURN(info.flags, ParseCodeDirectoryFlags(*words));
  }
  return info;
}

}  // namespace codeseal
