"""Takes a signed disk image or installer package apart, field by field, with
nothing but Python's own library and openssl: it shares no code with codeseal.

    check_signed.py dmg FILE UNSIGNED_FILE ROOT_PEM IDENTIFIER
    check_signed.py pkg FILE UNSIGNED_FILE ROOT_PEM DIGEST

Prints what was found and exits 0, or the first thing that is wrong and exits 1.
"""

import base64
import hashlib
import pathlib
import struct
import subprocess
import sys
import tempfile
import xml.etree.ElementTree
import zlib


def check(condition, message):
    if not condition:
        print(message)
        sys.exit(1)


def openssl(*arguments):
    result = subprocess.run(["openssl", *arguments], capture_output=True, text=True)
    check(result.returncode == 0, f"openssl {arguments[0]}: {result.stderr}")
    return result.stdout


def check_cms(cms, content, root):
    """`cms` is a detached signature of `content` whose chain ends in `root`."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "cms").write_bytes(cms)
        (folder / "content").write_bytes(content)
        openssl("cms", "-verify", "-binary", "-inform", "DER",
                "-in", str(folder / "cms"), "-content", str(folder / "content"),
                "-purpose", "any", "-CAfile", root, "-out", "/dev/null")


def blob(data, offset, magic):
    """The blob at `offset`, header included."""
    found, size = struct.unpack_from(">II", data, offset)
    check(found == magic, f"magic {found:#x} at {offset}, want {magic:#x}")
    check(size <= len(data) - offset, f"blob at {offset} is cut short")
    return data[offset:offset + size]


def check_dmg(path, unsigned_path, root, identifier):
    data = pathlib.Path(path).read_bytes()
    unsigned = pathlib.Path(unsigned_path).read_bytes()
    limit = len(unsigned) - 512
    check(data[:limit] == unsigned[:limit], "the data was changed")
    trailer = data[-512:]
    check(trailer[:12] == struct.pack(">4sII", b"koly", 4, 512), "no koly trailer")
    offset, size = struct.unpack_from(">QQ", trailer, 296)
    check(offset == limit, f"codeSignOffset {offset}, want {limit}")
    check(offset + size + 512 == len(data), f"codeSignLength {size} leaves a gap")
    without = trailer[:296] + bytes(16) + trailer[312:]
    check(without == unsigned[-512:], "other fields of the trailer were changed")

    signature = data[offset:offset + size]
    check(blob(signature, 0, 0xFADE0CC0) == signature, "SuperBlob has another size")
    count, = struct.unpack_from(">I", signature, 8)
    index = [struct.unpack_from(">II", signature, 12 + 8 * i) for i in range(count)]
    check([slot for slot, _ in index] == [0, 2, 0x10000], f"slots {index}")
    end = 12 + 8 * count
    for (slot, start), magic in zip(index, (0xFADE0C02, 0xFADE0C01, 0xFADE0B01)):
        check(start == end, f"slot {slot} begins at {start}, not at {end}")
        end += len(blob(signature, start, magic))
    check(end == len(signature), "there are bytes behind the last blob")

    directory = blob(signature, index[0][1], 0xFADE0C02)
    requirements = blob(signature, index[1][1], 0xFADE0C01)
    cms = blob(signature, index[2][1], 0xFADE0B01)[8:]
    (version, flags, hash_offset, ident_offset, special_count, code_count,
     code_limit, hash_size, hash_type, platform, page_log2, spare2,
     scatter) = struct.unpack_from(">7I4BII", directory, 8)
    check(version == 0x20100, f"version {version:#x}")
    check(flags == 0, f"flags {flags:#x}")
    check((special_count, code_count) == (6, 1), f"{special_count}+{code_count} slots")
    check(code_limit == limit, f"codeLimit {code_limit}")
    check((hash_size, hash_type) == (32, 2), "not SHA-256")
    check((platform, page_log2, spare2, scatter) == (0, 0, 0, 0), "odd fields")
    end_of_name = directory.index(b"\0", ident_offset)
    check(directory[ident_offset:end_of_name].decode() == identifier, "identifier")
    check(ident_offset == 48 and end_of_name + 1 == hash_offset - 6 * 32,
          "the parts of the CodeDirectory do not follow each other")
    check(len(directory) == hash_offset + 32, "CodeDirectory has another size")

    def special(slot):
        start = hash_offset - slot * 32
        return directory[start:start + 32]

    blinded = trailer[:304] + bytes(8) + trailer[312:]
    check(special(6) == hashlib.sha256(blinded).digest(), "slot -6: the trailer")
    check(special(2) == hashlib.sha256(requirements).digest(), "slot -2")
    for slot in (1, 3, 4, 5):
        check(special(slot) == bytes(32), f"slot -{slot} seals something")
    check(directory[hash_offset:] == hashlib.sha256(data[:limit]).digest(),
          "the code slot is not the digest of all data")
    check_cms(cms, directory, root)
    print(f"disk image: {len(signature)} bytes of signature at {offset}")


def check_pkg(path, unsigned_path, root, digest):
    data = pathlib.Path(path).read_bytes()
    magic, size, version, stored, full, algorithm = struct.unpack_from(
        ">4sHHQQI", data)
    check((magic, size, version) == (b"xar!", 28, 1), "no xar header")
    check(algorithm == {"sha1": 1, "sha256": 3}[digest], f"algorithm {algorithm}")
    table = data[28:28 + stored]
    heap = data[28 + stored:]
    text = zlib.decompress(table)
    check(len(text) == full, "the table has another size than the header says")
    toc = xml.etree.ElementTree.fromstring(text).find("toc")

    def number(element, name):
        return int(element.findtext(name))

    def bytes_of(element, name="size"):
        start = number(element, "offset")
        check(start + number(element, name) <= len(heap), "outside the heap")
        return heap[start:start + number(element, name)]

    checksum = bytes_of(toc.find("checksum"))
    check(toc.find("checksum").get("style") == digest, "checksum style")
    check(number(toc.find("checksum"), "offset") == 0, "checksum offset")
    check(checksum == hashlib.new(digest, table).digest(), "checksum")

    # Signatures follow the checksum, content follows them.
    names = [child.tag for child in toc]
    check(names.index("signature") + 1 == names.index("x-signature"), f"{names}")
    check(names.index("x-signature") < names.index("file"), f"{names}")
    rsa, cms = toc.find("signature"), toc.find("x-signature")
    check((rsa.get("style"), cms.get("style")) == ("RSA", "CMS"), "styles")
    check(number(rsa, "offset") == len(checksum), "offset of the RSA signature")
    check(number(rsa, "size") == 256, "size of the RSA signature")
    check(number(cms, "offset") == len(checksum) + 256, "offset of the CMS")
    check(number(cms, "size") % 1024 == 0, "size of the CMS")
    namespace = "{http://www.w3.org/2000/09/xmldsig#}"
    chains = [[base64.b64decode(each.text) for each in element.find(
        f"{namespace}KeyInfo/{namespace}X509Data")] for element in (rsa, cms)]
    check(chains[0] == chains[1], "the signatures have different certificates")
    pem = pathlib.Path(root).read_text()
    body = pem.split("-----BEGIN CERTIFICATE-----")[1].split("-----END")[0]
    check(chains[0][-1] == base64.b64decode(body), "the root is not the last")

    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "leaf.der").write_bytes(chains[0][0])
        (folder / "checksum").write_bytes(checksum)
        (folder / "rsa").write_bytes(bytes_of(rsa))
        openssl("x509", "-inform", "DER", "-in", str(folder / "leaf.der"),
                "-out", str(folder / "leaf.pem"))
        openssl("pkeyutl", "-verify", "-certin", "-inkey", str(folder / "leaf.pem"),
                "-in", str(folder / "checksum"), "-sigfile", str(folder / "rsa"),
                "-pkeyopt", f"digest:{digest}")
    padded = bytes_of(cms)
    message = padded.rstrip(b"\0")
    # The message itself ends in the zeros of its indefinite lengths.
    message += bytes(6)
    check(len(message) <= len(padded), "the CMS does not fit")
    check_cms(message, checksum, root)

    # The files are those of the unsigned archive, moved.
    original = pathlib.Path(unsigned_path).read_bytes()
    old_stored, = struct.unpack_from(">Q", original, 8)
    old_toc = xml.etree.ElementTree.fromstring(
        zlib.decompress(original[28:28 + old_stored])).find("toc")
    old_heap = original[28 + old_stored:]
    files, old_files = list(toc.iter("file")), list(old_toc.iter("file"))
    check(len(files) == len(old_files), "files were lost")
    first = number(cms, "offset") + number(cms, "size")
    for file, old in zip(files, old_files):
        check(file.findtext("name") == old.findtext("name"), "names")
        if file.find("data") is None:
            continue
        part, old_part = file.find("data"), old.find("data")
        content = bytes_of(part, "length")
        check(number(part, "offset") >= first, "a file lies on the signatures")
        start = number(old_part, "offset")
        check(content == old_heap[start:start + number(old_part, "length")],
              file.findtext("name") + " was changed")
        check(hashlib.sha1(content).hexdigest() ==
              part.findtext("archived-checksum"), "archived-checksum")
        for tag in ("size", "length", "extracted-checksum"):
            check(part.findtext(tag) == old_part.findtext(tag), tag)
    print(f"package: {len(files)} files, {len(message)} bytes of CMS")


if __name__ == "__main__":
    {"dmg": check_dmg, "pkg": check_pkg}[sys.argv[1]](*sys.argv[2:])
