#include "codesign/image/xml_element.h"

#include <expat.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "codesign/base/error.h"

namespace codeseal {
namespace {

constexpr size_t kMaxElementCount = 250'000;
constexpr size_t kMaxDepth = 64;

struct ParserDeleter {
  void operator()(XML_ParserStruct* parser) const { XML_ParserFree(parser); }
};

// Collects what expat reports. Once there is a fault, expat is told to stop.
class Collector {
 public:
  Collector() : parser_(XML_ParserCreate("UTF-8")) {
    XML_SetUserData(parser_.get(), this);
    XML_SetXmlDeclHandler(parser_.get(), OnDeclaration);
    XML_SetStartDoctypeDeclHandler(parser_.get(), OnDoctype);
    XML_SetElementHandler(parser_.get(), OnStart, OnEnd);
    XML_SetCharacterDataHandler(parser_.get(), OnText);
  }

  absl::StatusOr<XmlElement> Parse(std::string_view text,
                                   std::string_view what) {
    const auto fail = [&](uint64_t offset, const std::string& message) {
      return ParseError(v1::REASON_BAD_PACKAGE, offset,
                        std::string(what) + ": " + message);
    };
    if (text.size() > kMaxTextSize) return fail(0, "it is too long");
    const XML_Status status = XML_Parse(
        parser_.get(), text.data(), static_cast<int>(text.size()), XML_TRUE);
    if (fault_.has_value()) return fail(offset_, *fault_);
    if (status != XML_STATUS_OK || !root_.has_value()) {
      return fail(Offset(), XML_ErrorString(XML_GetErrorCode(parser_.get())));
    }
    return *std::move(root_);
  }

 private:
  static constexpr size_t kMaxTextSize = size_t{1} << 30;

  size_t Offset() const {
    const XML_Index index = XML_GetCurrentByteIndex(parser_.get());
    return index < 0 ? 0 : static_cast<size_t>(index);
  }
  size_t EndOffset() const {
    return Offset() +
           static_cast<size_t>(XML_GetCurrentByteCount(parser_.get()));
  }
  void Fail(const char* message) {
    if (fault_.has_value()) return;
    fault_ = message;
    offset_ = Offset();
    XML_StopParser(parser_.get(), XML_FALSE);
  }

  static void OnDeclaration(void* self, const XML_Char* /*version*/,
                            const XML_Char* encoding, int /*standalone*/) {
    if (encoding != nullptr && !absl::EqualsIgnoreCase(encoding, "UTF-8")) {
      static_cast<Collector*>(self)->Fail("the encoding is not UTF-8");
    }
  }
  static void OnDoctype(void* self, const XML_Char* /*name*/,
                        const XML_Char* /*system_id*/,
                        const XML_Char* /*public_id*/, int /*has_subset*/) {
    static_cast<Collector*>(self)->Fail("it has a document type");
  }
  static void OnStart(void* self, const XML_Char* name,
                      const XML_Char** attributes) {
    static_cast<Collector*>(self)->Start(name, attributes);
  }
  static void OnEnd(void* self, const XML_Char* /*name*/) {
    static_cast<Collector*>(self)->End();
  }
  static void OnText(void* self, const XML_Char* text, int size) {
    auto* const collector = static_cast<Collector*>(self);
    if (collector->open_.empty()) return;
    collector->open_.back().text.append(text, static_cast<size_t>(size));
  }

  void Start(std::string_view name, const XML_Char** attributes) {
    if (fault_.has_value()) return;
    if (++element_count_ > kMaxElementCount) return Fail("too many elements");
    if (open_.size() == kMaxDepth) return Fail("elements are nested too deep");
    if (name.find(':') != std::string_view::npos) {
      return Fail("an element's name has a prefix");
    }
    XmlElement& element = open_.emplace_back();
    element.name = name;
    for (; *attributes != nullptr; attributes += 2) {
      element.attributes.emplace(attributes[0], attributes[1]);
    }
    element.range.begin = Offset();
    element.content.begin = EndOffset();
  }

  void End() {
    if (fault_.has_value()) return;
    XmlElement element = std::move(open_.back());
    open_.pop_back();
    element.content.end = std::max(Offset(), element.content.begin);
    element.range.end = EndOffset();
    if (open_.empty()) {
      root_ = std::move(element);
    } else {
      open_.back().children.push_back(std::move(element));
    }
  }

  const std::unique_ptr<XML_ParserStruct, ParserDeleter> parser_;
  std::vector<XmlElement> open_;  // from the root to the innermost
  std::optional<XmlElement> root_;
  size_t element_count_ = 0;
  std::optional<std::string> fault_;
  size_t offset_ = 0;  // of the fault
};

}  // namespace

const XmlElement* XmlElement::Child(std::string_view child_name) const {
  const XmlElement* found = nullptr;
  for (const XmlElement& child : children) {
    if (child.name != child_name) continue;
    if (found != nullptr) return nullptr;
    found = &child;
  }
  return found;
}

size_t XmlElement::CountChildren(std::string_view child_name) const {
  return static_cast<size_t>(std::count_if(
      children.begin(), children.end(),
      [&](const XmlElement& child) { return child.name == child_name; }));
}

std::string_view XmlElement::Attribute(std::string_view attribute_name) const {
  const auto found = attributes.find(std::string(attribute_name));
  return found == attributes.end() ? std::string_view() : found->second;
}

absl::StatusOr<XmlElement> ParseXml(std::string_view text,
                                    std::string_view what) {
  return Collector().Parse(text, what);
}

}  // namespace codeseal
