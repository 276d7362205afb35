// A note, and the checkpoint inside. Oracles: what is accepted is written again
// as the same bytes; a checkpoint's three lines are stable.

#include <cstdint>

#include "audit/checkpoint.h"
#include "tests/fuzz/require.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes = codeseal::AsText({data, size});
  const auto key = codeseal::audit::NoteKey::Parse(bytes);
  const auto note = codeseal::audit::ParseNote(bytes);
  if (!note.ok()) return key.ok() ? 0 : -1;
  codeseal::Require(codeseal::audit::FormatNote(*note) == bytes);
  const auto checkpoint = codeseal::audit::ParseCheckpoint(note->text);
  if (checkpoint.ok()) {
    const std::string text = codeseal::audit::FormatCheckpoint(*checkpoint);
    codeseal::Require(note->text.starts_with(text));
    codeseal::Require(*codeseal::audit::ParseCheckpoint(text) == *checkpoint);
  }
  return 0;
}
