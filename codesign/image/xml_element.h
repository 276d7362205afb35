// Elements of a small XML text and where they stand in it, so that a text can
// be edited in a few places and keep all its other bytes.
//
//   table of contents, PackageInfo, Distribution -> [XmlElement] -> their views
//
// Spec: XML 1.0, through expat. Document types, entities of one's own and
//       encodings other than UTF-8 are refused, and so are prefixed names:
//       other readers see something else in them.

#ifndef CODESEAL_CODESIGN_IMAGE_XML_ELEMENT_H_
#define CODESEAL_CODESIGN_IMAGE_XML_ELEMENT_H_

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace codeseal {

// Bytes [begin, end) of the text that was parsed.
struct XmlRange {
  size_t begin = 0;
  size_t end = 0;
};

// Owns all that it holds.
struct XmlElement {
  std::string name;
  std::map<std::string, std::string> attributes;
  std::string text;  // all character data directly inside, joined
  std::vector<XmlElement> children;
  XmlRange range;    // from '<' to behind the end tag
  XmlRange content;  // between the tags

  // The only child of that name; null when there is none or more than one.
  const XmlElement* Child(std::string_view child_name) const;
  size_t CountChildren(std::string_view child_name) const;
  // The value; empty when there is none.
  std::string_view Attribute(std::string_view attribute_name) const;
};

// The root element. `what` names the text in errors.
// Errors: INVALID_ARGUMENT REASON_BAD_PACKAGE, byte_offset into `text`, also
// above 250000 elements and a depth of 64.
absl::StatusOr<XmlElement> ParseXml(std::string_view text,
                                    std::string_view what);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_IMAGE_XML_ELEMENT_H_
