#!/usr/bin/env python3
"""Prints expected.json: reads `input` with nothing of codeseal's."""

import hashlib
import json
import pathlib
import struct

data = (pathlib.Path(__file__).parent / "input").read_bytes()
command = 32
for _ in range(struct.unpack_from("<I", data, 16)[0]):
    kind, size, offset, _ = struct.unpack_from("<4I", data, command)
    if kind == 0x1D:  # LC_CODE_SIGNATURE
        break
    command += size
blob = offset + struct.unpack_from(">I", data, offset + 16)[0]
length, version, flags, hashes, name = struct.unpack_from(">5I", data, blob + 4)
special, code, limit = struct.unpack_from(">3I", data, blob + 24)
page_size = 1 << data[blob + 39]
table = data[blob + hashes : blob + hashes + code * 32]
pages = b"".join(
    hashlib.sha256(data[begin : min(begin + page_size, limit)]).digest()
    for begin in range(0, limit, page_size)
)
assert pages == table and limit == offset
print(
    json.dumps(
        {
            "format": "Mach-O thin (arm64)",
            "identifier": data[blob + name :].split(b"\0")[0].decode(),
            "version": version,
            "flags": flags,
            "special_slot_count": special,
            "code_slot_count": code,
            "page_size": page_size,
            "cdhash": hashlib.sha256(data[blob : blob + length]).hexdigest()[:40],
        },
        indent=2,
    )
)
