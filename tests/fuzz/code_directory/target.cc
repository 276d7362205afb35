// A CodeDirectory: views stay inside, and one that is built from its fields
// has the same fields.

#include <algorithm>

#include "codesign/code_directory.h"
#include "tests/fuzz/require.h"

namespace codeseal {
namespace {

void CheckViews(const CodeDirectory& directory) {
  const ByteView raw = directory.raw();
  RequireInside(AsBytes(directory.identifier()), raw);
  RequireInside(AsBytes(directory.team_identifier()), raw);
  RequireInside(directory.code_slots(), raw);
  RequireInside(directory.pre_encrypt_slots(), raw);
  Require(!directory.identifier().empty());
  const uint32_t count = directory.code_slot_count();
  Require(!directory.CodeSlotDigest(count).has_value());
  if (count > 0) RequireInside(*directory.CodeSlotDigest(count - 1), raw);
  const uint32_t special_count = directory.special_slot_count();
  if (special_count > 0) {
    RequireInside(*directory.SpecialSlotDigest(special_count), raw);
  }
  for (size_t offset = 0; offset < std::min<size_t>(raw.size(), 512);
       ++offset) {
    Require(!directory.DescribeOffset(offset).empty());
  }
}

void CheckRebuild(const CodeDirectory& directory) {
  CodeDirectoryFields fields;
  fields.identifier = directory.identifier();
  fields.team_identifier = directory.team_identifier();
  fields.flags = directory.flags();
  fields.digest_kind = directory.digest_kind();
  fields.platform = directory.platform();
  fields.page_size = directory.page_size();
  fields.code_limit = directory.code_limit();
  fields.exec_segment = directory.exec_segment();
  fields.runtime_version = directory.runtime_version();
  fields.pre_encrypt = !directory.pre_encrypt_slots().empty();
  const uint32_t slot_count = directory.special_slot_count();
  if (slot_count > kLibraryConstraintSlot) return;
  for (uint32_t slot = 1; slot <= slot_count; ++slot) {
    fields.special_slots[slot] = ToBytes(*directory.SpecialSlotDigest(slot));
  }
  auto builder = CodeDirectoryBuilder::Create(fields);
  Require(builder.ok());
  std::ranges::copy(directory.code_slots(), builder->code_slots().begin());
  std::ranges::copy(directory.pre_encrypt_slots(),
                    builder->pre_encrypt_slots().begin());
  const Bytes built = (*std::move(builder)).Build();
  Require(built.size() <= fields.ReservedSize());

  const auto again = CodeDirectory::Parse(built);
  Require(again.ok());
  Require(again->identifier() == directory.identifier());
  Require(again->team_identifier() == directory.team_identifier());
  Require(again->flags() == directory.flags());
  Require(again->page_size() == directory.page_size());
  Require(again->code_limit() == directory.code_limit());
  Require(again->runtime_version() == directory.runtime_version());
  Require(Equal(again->code_slots(), directory.code_slots()));
  Require(Equal(again->pre_encrypt_slots(), directory.pre_encrypt_slots()));
  for (uint32_t slot = 1; slot <= slot_count; ++slot) {
    Require(Equal(*again->SpecialSlotDigest(slot),
                  *directory.SpecialSlotDigest(slot)));
  }
}

}  // namespace
}  // namespace codeseal

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace codeseal;
  const ByteView bytes(data, size);
  const auto directory = CodeDirectory::Parse(bytes);
  if (!directory.ok()) return -1;
  RequireInside(directory->raw(), bytes);
  CheckViews(*directory);
  CheckRebuild(*directory);
  return 0;
}
