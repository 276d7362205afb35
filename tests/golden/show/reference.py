#!/usr/bin/env python3
"""The lines of `codesign -d` with VERBOSITY times -v for a thin Mach-O or an app,
made from the bytes with nothing of codeseal's: struct, hashlib, plistlib and
openssl. Which line comes when is Apple's: the order of codesign's own output.

    reference.py PATH VERBOSITY
"""

import datetime
import hashlib
import pathlib
import plistlib
import re
import struct
import subprocess
import sys

CPUS = {0x01000007: "x86_64", 0x0100000C: "arm64"}
HASHES = {1: ("sha1", 20, hashlib.sha1), 2: ("sha256", 32, hashlib.sha256)}
FLAGS = [(0x2, "adhoc"), (0x100, "hard"), (0x200, "kill"), (0x400, "expires"),
         (0x2000, "library-validation"), (0x10000, "runtime"),
         (0x20000, "linker-signed")]  # fmt: skip


class Directory:
    def __init__(self, blob):
        self.raw = blob
        (_, _, self.version, self.flags, self.hash_offset, identifier,
         self.special, self.code, _, self.size, self.kind, self.platform,
         page) = struct.unpack_from(">IIIIIIIIIBBBB", blob)  # fmt: skip
        self.identifier = self.text(identifier)
        self.page_size = 1 << page if page else 0
        self.team = ""
        if self.version >= 0x20200:
            team = struct.unpack_from(">I", blob, 48)[0]
            self.team = self.text(team) if team else ""
        self.segment = None
        if self.version >= 0x20400:
            self.segment = struct.unpack_from(">QQQ", blob, 64)
        self.runtime = 0
        if self.version >= 0x20500:
            self.runtime = struct.unpack_from(">I", blob, 88)[0]
        self.name, self.digest_size, self.hash = HASHES[self.kind]
        self.digest = self.hash(blob).hexdigest()

    def text(self, offset):
        return self.raw[offset : self.raw.index(b"\0", offset)].decode()

    def slot(self, number):
        start = self.hash_offset + number * self.digest_size
        return self.raw[start : start + self.digest_size].hex()


def openssl(*arguments, data):
    return subprocess.run(
        ["openssl", *arguments], input=data, capture_output=True, check=True
    ).stdout


def authorities(cms):
    """Common names, leaf first."""
    pem = openssl("pkcs7", "-inform", "DER", "-print_certs", data=cms).decode()
    issuers, names = {}, {}
    for each in re.findall(
        "-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", pem, re.S
    ):
        words = ["-noout", "-nameopt", "sep_multiline,utf8,lname"]
        one = each.encode()
        subject = openssl("x509", "-subject", *words, data=one).decode()
        issuer = openssl("x509", "-issuer", *words, data=one).decode()
        subject, issuer = (x.split("=", 1)[1].strip() for x in (subject, issuer))
        issuers[subject] = issuer
        names[subject] = re.search("commonName=(.*)", subject)[1]
    leaf = next(s for s in issuers if s not in
                {i for t, i in issuers.items() if t != i})  # fmt: skip
    chain = [leaf]
    while issuers[chain[-1]] != chain[-1]:
        chain.append(issuers[chain[-1]])
    return [names[each] for each in chain]


def stamped_at(cms):
    """genTime of the RFC 3161 token; None without one."""
    token = cms.find(bytes.fromhex("060b2a864886f70d010910020e"))
    if token < 0:
        return None
    info = cms.index(bytes.fromhex("060b2a864886f70d0109100104"), token)
    time = re.search(rb"\x18\x0f(\d{14})Z", cms[info:])[1].decode()
    return datetime.datetime.strptime(time, "%Y%m%d%H%M%S")


def medium_date(time):
    clock = time.strftime("%I:%M:%S %p").lstrip("0")
    return f"{time:%b} {time.day}, {time.year} at {clock}"


def load_commands(data):
    count = struct.unpack_from("<I", data, 16)[0]
    offset = 32
    for _ in range(count):
        command, size = struct.unpack_from("<II", data, offset)
        yield command, data[offset : offset + size]
        offset += size


def lines(path, verbosity):
    path = pathlib.Path(path)
    folder = None
    if path.is_dir():
        folder = path / "Contents"
        info = plistlib.loads((folder / "Info.plist").read_bytes())
        path = folder / "MacOS" / info["CFBundleExecutable"]
    data = path.read_bytes()
    architecture = CPUS[struct.unpack_from("<I", data, 4)[0]]
    version = None
    embedded_info = None
    for command, body in load_commands(data):
        if command == 0x1D:
            at, size = struct.unpack_from("<II", body, 8)
            signature = data[at : at + size]
        elif command == 0x32:
            version = struct.unpack_from("<III", body, 8)
        elif command == 0x24 and version is None:
            version = (1, *struct.unpack_from("<II", body, 8))
        elif command == 0x19:
            for i in range(struct.unpack_from("<I", body, 64)[0]):
                name, segment, _, size, at = struct.unpack_from(
                    "<16s16sQQI", body, 72 + 80 * i
                )
                if name.rstrip(b"\0") == b"__info_plist":
                    embedded_info = data[at : at + size]
    blobs = {}
    for i in range(struct.unpack_from(">I", signature, 8)[0]):
        slot, at = struct.unpack_from(">II", signature, 12 + 8 * i)
        size = struct.unpack_from(">I", signature, at + 4)[0]
        blobs[slot] = signature[at : at + size]
    directories = [Directory(blobs[s]) for s in sorted(blobs) if s == 0 or
                   0x1000 <= s < 0x1005]  # fmt: skip
    best = max(directories, key=lambda each: each.kind)
    cms = blobs[0x10000][8:]

    found = []

    def add(level, line):
        if level <= verbosity:
            found.append(line)

    flags = ",".join(name for bit, name in FLAGS if best.flags & bit) or "none"
    kind = "app bundle with Mach-O" if folder else "Mach-O"
    add(0, f"Executable={path.absolute()}")
    add(1, f"Identifier={best.identifier}")
    add(1, f"Format={kind} thin ({architecture})")
    add(1, f"CodeDirectory v={best.version:x} size={len(best.raw)} "
           f"flags={best.flags:#x}({flags}) hashes={best.code}+{best.special} "
           "location=embedded")  # fmt: skip
    if version:
        add(4, f"VersionPlatform={version[0]}")
        add(4, f"VersionMin={version[1]}")
        add(4, f"VersionSDK={version[2]}")
    add(3, f"Hash type={best.name} size={best.digest_size}")
    for each in directories:
        add(3, f"CandidateCDHash {each.name}={each.digest[:40]}")
        add(3, f"CandidateCDHashFull {each.name}={each.digest}")
    add(3, "Hash choices=" + ",".join(each.name for each in directories))
    add(3, f"CMSDigest={hashlib.sha256(directories[0].raw).hexdigest()}")
    add(3, "CMSDigestType=2")
    if best.segment:
        add(4, f"Executable Segment base={best.segment[0]}")
        add(4, f"Executable Segment limit={best.segment[1]}")
        add(4, f"Executable Segment flags={best.segment[2]:#x}")
    add(4, f"Page size={best.page_size or 'none'}")
    for number in range(-best.special, 0):
        add(5, f"{number:6d}={best.slot(number)}")
    for number in range(best.code):
        add(6, f"{number:6d}={best.slot(number)}")
    add(3, f"CDHash={best.digest[:40]}")
    add(1, f"Signature size={len(cms)}")
    for name in authorities(cms):
        add(2, f"Authority={name}")
    if time := stamped_at(cms):
        add(1, f"Timestamp={medium_date(time)}")
    if folder:
        add(1, f"Info.plist entries={len(info)}")
    elif embedded_info:
        add(1, f"Info.plist entries={len(plistlib.loads(embedded_info))}")
    else:
        add(1, "Info.plist=not bound")
    add(1, f"TeamIdentifier={best.team or 'not set'}")
    if best.runtime:
        x, y, z = best.runtime >> 16, best.runtime >> 8 & 255, best.runtime & 255
        add(1, f"Runtime Version={x}.{y}.{z}")
    if folder:
        seal = plistlib.loads((folder / "_CodeSignature/CodeResources").read_bytes())
        suffix = "2" if "files2" in seal else ""
        add(1, f"Sealed Resources version={suffix or 1} "
               f"rules={len(seal['rules' + suffix])} "
               f"files={len(seal['files' + suffix])}")  # fmt: skip
    else:
        add(1, "Sealed Resources=none")
    count = struct.unpack_from(">I", blobs[2], 8)[0]
    add(1, f"Internal requirements count={count} size={len(blobs[2])}")
    return found


if __name__ == "__main__":
    print("\n".join(lines(sys.argv[1], int(sys.argv[2]))))
