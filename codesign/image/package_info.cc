#include "codesign/image/package_info.h"

#include <algorithm>

#include "codesign/base/error.h"
#include "codesign/image/xml_element.h"

namespace codeseal {
namespace {

constexpr std::string_view kPackageInfo = "PackageInfo";
constexpr std::string_view kDistribution = "Distribution";

void Add(std::vector<std::string>& identifiers, std::string_view identifier) {
  if (identifier.empty() || std::find(identifiers.begin(), identifiers.end(),
                                      identifier) != identifiers.end()) {
    return;
  }
  identifiers.emplace_back(identifier);
}

// <pkg-ref> stands in <installer-gui-script> and inside of <choice>.
void AddReferences(const XmlElement& element,
                   std::vector<std::string>& identifiers) {
  if (element.name == "product" || element.name == "pkg-ref") {
    Add(identifiers, element.Attribute("id"));
  }
  for (const XmlElement& child : element.children) {
    AddReferences(child, identifiers);
  }
}

}  // namespace

bool DescribesPackage(std::string_view path) {
  const std::string_view name = path.substr(path.rfind('/') + 1);
  return name == kPackageInfo || path == kDistribution;
}

absl::StatusOr<std::vector<std::string>> ReadPackageIdentifiers(
    std::string_view path, ByteView xml) {
  const absl::StatusOr<XmlElement> root = ParseXml(AsText(xml), path);
  if (!root.ok()) return WithSubject(root.status(), path);
  std::vector<std::string> identifiers;
  if (path == kDistribution) {
    AddReferences(*root, identifiers);
    return identifiers;
  }
  if (root->name == "pkg-info") Add(identifiers, root->Attribute("identifier"));
  if (identifiers.empty()) {
    return WithSubject(
        ParseError(v1::REASON_BAD_PACKAGE, 0,
                   std::string(path) + " is no <pkg-info> with an identifier"),
        path);
  }
  return identifiers;
}

}  // namespace codeseal
