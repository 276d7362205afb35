#!/usr/bin/env python3
"""check_bundle.py check APP: checks every hash of a signed bundle.
check_bundle.py check-quick APP: the same without llvm-objdump.
check_bundle.py compare OLD NEW: that only signatures differ.

A second opinion: nothing here comes from codeseal's own code. Mach-O files,
signatures and seals are read with struct, plistlib and hashlib;
llvm-objdump-19, when it is installed, must agree where the signatures are.
Prints what was checked; exit code 1 and one line for each fault.
"""

import hashlib
import os
import pathlib
import plistlib
import shutil
import struct
import subprocess
import sys

OTOOL = "llvm-objdump-19"  # what llvm-otool runs, which ignores -arch
DIGESTS = {1: ("sha1", 20), 2: ("sha256", 32), 3: ("sha256", 20), 4: ("sha384", 48)}
BEST_FIRST = [4, 2, 3, 1]
ARM64 = 0x0100000C
X86_64 = 0x01000007
# Not sealed by Apple's default rules.
OMITTED = {"Info.plist", "PkgInfo"}

uses_otool = False
faults = []
counts = {"files": 0, "links": 0, "nested": 0, "slices": 0, "pages": 0, "seals": 0}


def fault(path, text):
    faults.append(f"{path}: {text}")


def digest(kind, data):
    name, size = DIGESTS[kind]
    return hashlib.new(name, data).digest()[:size]


def slices(data):
    """(cputype, offset, bytes) of each slice of a Mach-O; [] for other files."""
    if data[:4] == b"\xca\xfe\xba\xbe":
        count = struct.unpack_from(">I", data, 4)[0]
        found = []
        for i in range(count):
            cpu, _, offset, size, _ = struct.unpack_from(">5I", data, 8 + 20 * i)
            found.append((cpu, offset, data[offset : offset + size]))
        return found
    if data[:4] == b"\xcf\xfa\xed\xfe":
        return [(struct.unpack_from("<I", data, 4)[0], 0, data)]
    return []


def signature_place(piece):
    """(dataoff, datasize) of LC_CODE_SIGNATURE."""
    count = struct.unpack_from("<I", piece, 16)[0]
    at = 32
    for _ in range(count):
        command, size = struct.unpack_from("<2I", piece, at)
        if command == 0x1D:
            return struct.unpack_from("<2I", piece, at + 8)
        at += size
    return None


def blobs_of(super_blob):
    magic, _, count = struct.unpack_from(">3I", super_blob)
    assert magic == 0xFADE0CC0, hex(magic)
    blobs = {}
    for i in range(count):
        slot, offset = struct.unpack_from(">2I", super_blob, 12 + 8 * i)
        size = struct.unpack_from(">I", super_blob, offset + 4)[0]
        blobs[slot] = super_blob[offset : offset + size]
    return blobs


DETACHED = {
    0: "CodeDirectory", 2: "CodeRequirements", 5: "CodeEntitlements",
    7: "CodeEntitlementDER", 0x1000: "CodeRequirements-1",
}  # fmt: skip


def detached_blobs(folder):
    return {
        slot: (folder / name).read_bytes()
        for slot, name in DETACHED.items()
        if (folder / name).is_file()
    }


def directories(blobs):
    """{hash type: CodeDirectory}."""
    found = {}
    for slot, blob in blobs.items():
        if slot == 0 or 0x1000 <= slot < 0x1005:
            found[blob[37]] = blob
    return found


def check_directory(name, cd, code, blobs, info_plist, code_resources):
    (magic, length, _, _, hash_offset, _, special, pages, limit) = struct.unpack_from(
        ">9I", cd
    )
    size, kind, _, log2 = cd[36:40]
    if magic != 0xFADE0C02 or length != len(cd) or size != DIGESTS[kind][1]:
        return fault(name, "broken CodeDirectory")
    if limit != len(code):
        fault(name, f"codeLimit {limit}, code has {len(code)} bytes")
    page = (1 << log2) if log2 else max(1, len(code))
    if pages != (len(code) + page - 1) // page:
        fault(name, f"{pages} pages for {len(code)} bytes")
    for i in range(pages):
        stored = cd[hash_offset + i * size : hash_offset + (i + 1) * size]
        if stored != digest(kind, code[i * page : (i + 1) * page]):
            fault(name, f"page {i}")
        counts["pages"] += 1
    contents = {slot: blob for slot, blob in blobs.items() if 1 < slot < 12}
    if info_plist is not None:
        contents[1] = info_plist
    if code_resources is not None:
        contents[3] = code_resources
    for slot in range(1, special + 1):
        stored = cd[hash_offset - slot * size : hash_offset - (slot - 1) * size]
        if slot in contents:
            if stored != digest(kind, contents[slot]):
                fault(name, f"special slot {slot}")
        elif stored != bytes(size):
            fault(name, f"special slot {slot} seals what is not there")
    for slot in contents:
        if slot > special:
            fault(name, f"slot {slot} is not sealed")


def best_cdhash(blobs):
    found = directories(blobs)
    for kind in BEST_FIRST:
        if kind in found:
            return digest(kind, found[kind])[:20]
    return None


def otool_place(path, architecture):
    """(dataoff, datasize) as llvm-objdump prints them; None with a fault."""
    result = subprocess.run([OTOOL, "--macho", f"--arch={architecture}", "--private-headers", str(path)],
                            capture_output=True, text=True)  # fmt: skip
    if result.returncode != 0:
        fault(path, result.stderr.strip())
        return None
    lines = [line.split() for line in result.stdout.splitlines()]
    at = lines.index(["cmd", "LC_CODE_SIGNATURE"])
    return (int(lines[at + 2][1]), int(lines[at + 3][1]))


def check_code(path, info_plist=None, code_resources=None, folder=None):
    """Checks one main file; returns the cdhash that a seal has of it."""
    data = path.read_bytes()
    found = slices(data)
    if not found:
        blobs = detached_blobs(folder) if folder else {}
        if 0 not in blobs:
            fault(path, "no signature")
            return None
        for cd in directories(blobs).values():
            check_directory(path, cd, data, blobs, info_plist, code_resources)
        counts["slices"] += 1
        return best_cdhash(blobs)
    cdhashes = {}
    for cpu, _, piece in found:
        counts["slices"] += 1
        place = signature_place(piece)
        if place is None:
            fault(path, "a slice has no signature")
            continue
        name = {ARM64: "arm64", X86_64: "x86_64"}[cpu]
        if uses_otool and otool_place(path, name) != place:
            fault(path, f"{OTOOL} finds another signature for {name}")
        blobs = blobs_of(piece[place[0] :])
        for cd in directories(blobs).values():
            check_directory(
                path, cd, piece[: place[0]], blobs, info_plist, code_resources
            )
        if 0x10000 not in blobs:
            fault(path, "no CMS slot")
        cdhashes[cpu] = best_cdhash(blobs)
    return cdhashes.get(ARM64) or next(iter(cdhashes.values()), None)


def layout(bundle):
    """(resource base, Info.plist, main file, excluded) of a bundle."""
    if (bundle / "Contents").is_dir():
        base = bundle / "Contents"
        info = base / "Info.plist"
        place = base / "MacOS"
    elif (bundle / "Versions" / "Current").exists():
        base = (bundle / "Versions" / "Current").resolve()
        info = base / "Resources" / "Info.plist"
        place = base
    elif (bundle / "Resources" / "Info.plist").is_file():
        base = place = bundle
        info = base / "Resources" / "Info.plist"
    else:
        base = place = bundle
        info = base / "Info.plist"
    name = plistlib.loads(info.read_bytes())["CFBundleExecutable"]
    return base, info, place / name


def check_bundle(bundle):
    base, info, main = layout(bundle)
    seal_path = base / "_CodeSignature" / "CodeResources"
    if not seal_path.is_file():
        fault(bundle, "no seal")
        return None
    counts["seals"] += 1
    raw = seal_path.read_bytes()
    seal = plistlib.loads(raw)
    cdhash = check_code(
        main, info.read_bytes(), raw, folder=base / "_CodeSignature"
    )
    seen = set()
    for relative, entry in seal["files2"].items():
        path = base / relative
        seen.add(relative)
        if "symlink" in entry:
            counts["links"] += 1
            if not path.is_symlink() or os.readlink(path) != entry["symlink"]:
                fault(path, "is not the link that is sealed")
        elif "cdhash" in entry:
            counts["nested"] += 1
            nested = check_bundle(path) if path.is_dir() else check_code(path)
            if nested != entry["cdhash"]:
                fault(path, "its cdhash is not what is sealed")
            if not entry["requirement"].startswith(("identifier ", "cdhash ")):
                fault(path, "odd requirement " + entry["requirement"])
        else:
            counts["files"] += 1
            content = path.read_bytes()
            for key, kind in (("hash", 1), ("hash2", 2)):
                if key in entry and entry[key] != digest(kind, content):
                    fault(path, f"{key} is wrong")
            if "hash2" not in entry:
                fault(path, "no SHA-256")
            is_localised = ".lproj/" in relative and "Base.lproj/" not in relative
            if bool(entry.get("optional")) != is_localised:
                fault(path, "optional is wrong")
    for relative, entry in seal.get("files", {}).items():
        value = entry["hash"] if isinstance(entry, dict) else entry
        if value != digest(1, (base / relative).read_bytes()):
            fault(base / relative, "SHA-1 of version 1 is wrong")
    check_all_sealed(base, main, seen)
    return cdhash


def check_all_sealed(base, main, seen):
    for folder, folders, files in os.walk(base):
        relative_folder = os.path.relpath(folder, base)
        prefix = "" if relative_folder == "." else relative_folder + "/"
        if prefix == "":
            folders[:] = [each for each in folders if each != "_CodeSignature"]
        links = [each for each in folders if os.path.islink(os.path.join(folder, each))]
        folders[:] = [each for each in folders
                      if each not in links and prefix + each not in seen]  # fmt: skip
        for name in files + links:
            relative = prefix + name
            wanted = (
                name != ".DS_Store"
                and not name == "locversion.plist"
                and pathlib.Path(folder, name) != main
                and relative not in OMITTED
            )
            if wanted != (relative in seen):
                fault(os.path.join(folder, name),
                      "is not sealed" if wanted else "is sealed")  # fmt: skip


def without_signature(data):
    """The bytes of a Mach-O with its CMS blanked, and the CodeDirectories."""
    kept = bytearray(data)
    sealed = []
    for _, offset, piece in slices(data):
        start, size = signature_place(piece)
        blobs = blobs_of(piece[start:])
        sealed.append({slot: blob for slot, blob in blobs.items() if slot != 0x10000})
        kept[offset + start : offset + start + size] = bytes(size)
    return bytes(kept), sealed


def compare(old, new):
    def tree(root):
        return {
            str(path.relative_to(root)): path
            for path in sorted(pathlib.Path(root).rglob("*"))
        }

    old_tree, new_tree = tree(old), tree(new)
    for name in old_tree.keys() ^ new_tree.keys():
        fault(name, "is only in one of them")
    for name in old_tree.keys() & new_tree.keys():
        a, b = old_tree[name], new_tree[name]
        if a.lstat().st_mode != b.lstat().st_mode:
            fault(name, "another mode")
        elif a.is_symlink():
            if os.readlink(a) != os.readlink(b):
                fault(name, "another target")
        elif a.is_file() and a.read_bytes() != b.read_bytes():
            if name.endswith("_CodeSignature/CodeSignature"):
                continue  # a CMS alone
            x, y = a.read_bytes(), b.read_bytes()
            if not slices(x) or without_signature(x) != without_signature(y):
                fault(name, "differs in more than its signature")


def main(arguments):
    global uses_otool
    if len(arguments) == 2 and arguments[0] in ("check", "check-quick"):
        uses_otool = arguments[0] == "check" and bool(shutil.which(OTOOL))
        check_bundle(pathlib.Path(arguments[1]))
    elif len(arguments) == 3 and arguments[0] == "compare":
        compare(*arguments[1:])
    else:
        print(__doc__)
        return 2
    print(" ".join(f"{name}={count}" for name, count in counts.items()))
    for each in faults:
        print(each)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
