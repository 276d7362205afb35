"""tests/corpus/synth makes what its list says; other tests rely on it."""

import pathlib
import shutil
import struct
import subprocess
import tempfile
import unittest

SYNTH = pathlib.Path(__file__).resolve().parent / "synth"
LC_SEGMENT_64, LC_CODE_SIGNATURE = 0x19, 0x1D


def header_of(thin):
    """(room between load commands and first section, has LC_CODE_SIGNATURE)."""
    command_count, commands_size = struct.unpack_from("<II", thin, 16)
    offset, first_section, signed = 32, len(thin), False
    for _ in range(command_count):
        command, size = struct.unpack_from("<II", thin, offset)
        signed |= command == LC_CODE_SIGNATURE
        if command == LC_SEGMENT_64:
            for index in range(struct.unpack_from("<I", thin, offset + 64)[0]):
                section = offset + 72 + 80 * index
                file_offset = struct.unpack_from("<I", thin, section + 48)[0]
                if file_offset:
                    first_section = min(first_section, file_offset)
        offset += size
    return first_section - 32 - commands_size, signed


def slices_of(content):
    magic, count = struct.unpack_from(">II", content)
    layout = {0xCAFEBABE: (">IIIII", 20), 0xCAFEBABF: (">IIQQII", 32)}.get(magic)
    if layout is None:
        return [content]
    found = []
    for index in range(count):
        fields = struct.unpack_from(layout[0], content, 8 + layout[1] * index)
        found.append(content[fields[2]:fields[2] + fields[3]])
    return found


@unittest.skipUnless(shutil.which("ld64.lld-19"), "lld-19 is not installed")
class SynthTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.out = pathlib.Path(folder.name)
        subprocess.run([SYNTH, cls.out], check=True)

    def headers(self, name):
        return [header_of(each) for each in slices_of((self.out / name).read_bytes())]

    def test_room_in_the_header(self):
        self.assertEqual(self.headers("no-room-arm64"), [(0, False)])
        self.assertEqual(self.headers("tight-x86_64"), [(16, False)])
        for room, _ in self.headers("universal"):
            self.assertGreaterEqual(room, 4096)

    def test_who_is_signed(self):
        signed = {
            path.name: [header[1] for header in self.headers(path.name)]
            for path in self.out.iterdir()
            if path.suffix != ".o" and not path.name.endswith("arm64_32")
        }
        self.assertEqual(
            {name: each for name, each in signed.items() if any(each)},
            {"universal-half": [False, True], "linker-signed-arm64": [True]},
        )
        self.assertEqual(len(signed["universal-three"]), 3)
        self.assertEqual(len(signed["universal-64"]), 2)

    def test_same_bytes_every_time(self):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([SYNTH, folder, "many-pages"], check=True)
            again = pathlib.Path(folder, "many-pages").read_bytes()
        self.assertEqual(again, (self.out / "many-pages").read_bytes())

    def test_unknown_name(self):
        done = subprocess.run(
            [SYNTH, self.out, "nothing"], capture_output=True, check=False
        )
        self.assertEqual(done.returncode, 2)


if __name__ == "__main__":
    unittest.main()
