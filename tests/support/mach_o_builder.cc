#include "tests/support/mach_o_builder.h"

#include <algorithm>

namespace codeseal::testing {
namespace {

// Appends integers of either byte order.
class Writer {
 public:
  explicit Writer(ByteOrder order) : order_(order) {}

  void U32(uint64_t value) {
    bytes_.resize(bytes_.size() + 4);
    StoreU32(bytes_, bytes_.size() - 4, static_cast<uint32_t>(value), order_);
  }
  void U64(uint64_t value) {
    bytes_.resize(bytes_.size() + 8);
    StoreU64(bytes_, bytes_.size() - 8, value, order_);
  }
  void Word(uint64_t value, bool is_64_bit) {
    is_64_bit ? U64(value) : U32(value);
  }
  void Name(std::string_view name) {
    Append(bytes_, AsBytes(name));
    bytes_.resize(bytes_.size() + 16 - name.size());
  }
  void Raw(ByteView bytes) { Append(bytes_, bytes); }
  void ResizeTo(size_t size) { bytes_.resize(size); }
  size_t size() const { return bytes_.size(); }
  const Bytes& bytes() const { return bytes_; }
  Bytes Take() && { return std::move(bytes_); }

 private:
  ByteOrder order_;
  Bytes bytes_;
};

size_t AlignUp(size_t value, size_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

struct Places {
  size_t code = 0;
  size_t info_plist = 0;
  size_t linkedit = 0;
  size_t strings = 0;
  size_t signature = 0;
  size_t end = 0;
};

void WriteSegment(const MachODescription& d, std::string_view name,
                  uint64_t file_offset, uint64_t file_size,
                  uint32_t section_count, Writer& out) {
  const size_t section_size = d.is_64_bit ? 80 : 68;
  out.U32(d.is_64_bit ? 0x19 : 0x1);  // LC_SEGMENT_64, LC_SEGMENT
  out.U32((d.is_64_bit ? 72 : 56) + section_count * section_size);
  out.Name(name);
  out.Word(file_offset, d.is_64_bit);                 // vmaddr
  out.Word(AlignUp(file_size, 0x1000), d.is_64_bit);  // vmsize
  out.Word(file_offset, d.is_64_bit);
  out.Word(file_size, d.is_64_bit);
  out.U32(7);  // maxprot
  out.U32(5);  // initprot
  out.U32(section_count);
  out.U32(0);  // flags
}

void WriteSection(const MachODescription& d, std::string_view name,
                  size_t offset, size_t size, Writer& out) {
  out.Name(name);
  out.Name("__TEXT");
  out.Word(offset, d.is_64_bit);  // addr
  out.Word(size, d.is_64_bit);
  out.U32(offset);
  for (int i = 0; i < 3; ++i) out.U32(0);  // align, reloff, nreloc
  out.U32(0);                              // flags: S_REGULAR
  for (int i = 0; i < (d.is_64_bit ? 3 : 2); ++i) out.U32(0);  // reserved
}

void WriteSignatureCommand(const MachODescription& d, const Places& places,
                           Writer& out) {
  out.U32(0x1d);  // LC_CODE_SIGNATURE
  out.U32(16);
  out.U32(places.signature);
  out.U32(d.signature->size());
}

uint32_t WriteLoadCommands(const MachODescription& d, const Places& places,
                           Writer& out) {
  uint32_t count = 0;
  if (d.signature.has_value() && d.signature_command_first) {
    ++count;
    WriteSignatureCommand(d, places, out);
  }
  ++count;
  const bool has_info_plist = !d.info_plist.empty();
  WriteSegment(d, "__TEXT", 0, places.linkedit, has_info_plist ? 2 : 1, out);
  WriteSection(d, "__text", places.code, d.code_size, out);
  if (has_info_plist) {
    WriteSection(d, "__info_plist", places.info_plist, d.info_plist.size(),
                 out);
  }
  if (d.has_linkedit) {
    ++count;
    WriteSegment(d, "__LINKEDIT", places.linkedit, places.end - places.linkedit,
                 0, out);
  }
  ++count;
  out.U32(0x2);  // LC_SYMTAB
  out.U32(24);
  out.U32(places.linkedit);
  out.U32(0);  // nsyms
  out.U32(places.strings);
  out.U32(d.string_table_size);
  if (d.build_version.has_value()) {
    ++count;
    out.U32(0x32);  // LC_BUILD_VERSION
    out.U32(24);
    out.U32(static_cast<uint32_t>(d.build_version->platform));
    out.U32(d.build_version->minimum_os);
    out.U32(d.build_version->sdk);
    out.U32(0);  // ntools
  }
  if (d.version_min.has_value()) {
    ++count;
    out.U32(0x24);  // LC_VERSION_MIN_MACOSX
    out.U32(16);
    out.U32(d.version_min->minimum_os);
    out.U32(d.version_min->sdk);
  }
  for (const MachODescription::PathCommand& each : d.path_commands) {
    ++count;
    const bool is_rpath = each.command == 0x8000001c;
    const size_t fixed_size = is_rpath ? 12 : 24;
    const size_t size = AlignUp(fixed_size + each.path.size() + 1, 8);
    out.U32(each.command);
    out.U32(size);
    out.U32(each.path_offset.value_or(static_cast<uint32_t>(fixed_size)));
    for (size_t i = 12; i < fixed_size; i += 4) out.U32(0);  // versions
    Bytes text = ToBytes(each.path);
    text.resize(size - fixed_size);
    out.Raw(text);
  }
  if (d.uuid.has_value()) {
    ++count;
    out.U32(0x1b);  // LC_UUID
    out.U32(24);
    out.Raw(*d.uuid);
  }
  if (d.signature.has_value() && !d.signature_command_first) {
    ++count;
    WriteSignatureCommand(d, places, out);
  }
  return count;
}

}  // namespace

Bytes BuildMachO(const MachODescription& d) {
  // The load commands' size doesn't depend on the places they name.
  Writer measure(d.byte_order);
  WriteLoadCommands(d, {}, measure);
  const size_t header_size = d.is_64_bit ? 32 : 28;

  Places places;
  places.code = header_size + measure.size() + d.header_room;
  places.info_plist = places.code + d.code_size;
  places.linkedit = AlignUp(places.info_plist + d.info_plist.size(), 16);
  places.strings = places.linkedit;
  places.end = places.strings + d.string_table_size;
  if (d.signature.has_value()) {
    places.signature = AlignUp(places.end, 16);
    places.end = places.signature + d.signature->size();
  }

  Writer commands(d.byte_order);
  const uint32_t command_count = WriteLoadCommands(d, places, commands);

  Writer out(d.byte_order);
  out.U32(d.is_64_bit ? 0xfeedfacf : 0xfeedface);
  out.U32(static_cast<uint32_t>(d.architecture.cpu_type));
  out.U32(d.architecture.cpu_subtype);
  out.U32(static_cast<uint32_t>(d.file_type));
  out.U32(command_count);
  out.U32(commands.size());
  out.U32(0x85);  // flags
  if (d.is_64_bit) out.U32(0);
  out.Raw(commands.bytes());
  out.ResizeTo(places.code);
  Bytes code(d.code_size);
  for (size_t i = 0; i < code.size(); ++i) {
    code[i] = static_cast<uint8_t>(i * 7 + 1);
  }
  out.Raw(code);
  out.Raw(AsBytes(d.info_plist));
  out.ResizeTo(places.strings);
  out.Raw(Bytes(d.string_table_size, 's'));
  if (d.signature.has_value()) {
    out.ResizeTo(places.signature);
    out.Raw(*d.signature);
  }
  out.Raw(Bytes(d.trailing_size, 't'));
  return std::move(out).Take();
}

Bytes BuildUniversal(const UniversalDescription& d) {
  const size_t alignment = size_t{1} << d.align_log2;
  Writer header(d.byte_order);
  header.U32(0xcafebabe);
  header.U32(d.slices.size() - (d.hide_last ? 1 : 0));
  size_t offset = 8 + 20 * d.slices.size();
  std::vector<size_t> offsets;
  for (const auto& slice : d.slices) {
    offset = AlignUp(offset, alignment);
    offsets.push_back(offset);
    header.U32(static_cast<uint32_t>(slice.architecture.cpu_type));
    header.U32(slice.architecture.cpu_subtype);
    header.U32(offset);
    header.U32(slice.bytes.size());
    header.U32(d.align_log2);
    offset += slice.bytes.size();
  }
  Bytes file = std::move(header).Take();
  for (size_t i = 0; i < d.slices.size(); ++i) {
    file.resize(offsets[i]);
    Append(file, d.slices[i].bytes);
  }
  return file;
}

}  // namespace codeseal::testing
