#!/usr/bin/env python3
"""Writes strings.txt: requirement texts, what Apple's tools print for them, and
their bytes.

The texts, the printed forms and the bytes are put together here from the
grammar, the dump's rules and the opcode table (Security: requirements.grammar,
reqdumper.cpp, requirement.h), by code that shares nothing with ours. One line
for each: text TAB printed TAB hexadecimal, with \\n, \\t and \\\\ escaped.
"""

import pathlib
import struct
import sys


def u32(number):
    return struct.pack(">I", number & 0xFFFFFFFF)


def data(value):
    if isinstance(value, str):
        value = value.encode()
    return u32(len(value)) + value + b"\0" * (-len(value) % 4)


def oid(text):
    first, second, *rest = map(int, text.split("."))
    out = b""
    for number in [first * 40 + second, *rest]:
        group = [number & 0x7F]
        while number := number >> 7:
            group.append(0x80 | (number & 0x7F))
        out += bytes(reversed(group))
    return out


# How tightly the outermost operator of an expression binds.
LEAF, NOT, AND, OR = range(4)


class Expr:
    def __init__(self, text, printed, code, level=LEAF):
        self.text, self.printed, self.code, self.level = text, printed, code, level


def leaf(text, code, printed=None):
    return Expr(text, text if printed is None else printed, code)


def binary(word, op, level):
    def join(a, b):
        # On the left an operator of the same kind needs no parentheses; on the
        # right the text does, to be read so, and the dump has none.
        def side(e, is_right):
            wrap_text = e.level > level or (is_right and e.level == level)
            wrap_dump = e.level > level
            return (f"({e.text})" if wrap_text else e.text,
                    f"({e.printed})" if wrap_dump else e.printed)

        left, right = side(a, False), side(b, True)
        return Expr(f"{left[0]} {word} {right[0]}",
                    f"{left[1]} {word} {right[1]}", u32(op) + a.code + b.code,
                    level)

    return join


and_ = binary("and", 6, AND)
or_ = binary("or", 7, OR)


def not_(e, space=" "):
    wrap = e.level > NOT
    return Expr(f"!{space}({e.text})" if wrap else f"!{space}{e.text}",
                f"! ({e.printed})" if wrap else f"! {e.printed}",
                u32(9) + e.code, NOT)


H1 = "0123456789abcdef0123456789abcdef01234567"
H2 = "611e5b662c593a08ff58d14ae22452d198df6c60"
HH1, HH2 = bytes.fromhex(H1), bytes.fromhex(H2)

# (text of a value, printed, bytes): every way to write and print one.
VALUES = [
    ("abc", "abc", b"abc"),
    ('"abc"', "abc", b"abc"),
    ("ABCDE12345", "ABCDE12345", b"ABCDE12345"),
    ('"2ABCDE1234"', '"2ABCDE1234"', b"2ABCDE1234"),
    ("com.example.tool", '"com.example.tool"', b"com.example.tool"),
    ("com.example.1", '"com.example.1"', b"com.example.1"),
    ("a.1.22.b", '"a.1.22.b"', b"a.1.22.b"),
    ('"with space"', '"with space"', b"with space"),
    ('"a\\"b"', '"a\\"b"', b'a"b'),
    ('"\\""', '"\\""', b'"'),
    ('""', '""', b""),
    ('"1.5"', '"1.5"', b"1.5"),
    ('"-"', '"-"', b"-"),
    ('"a_b"', '"a_b"', b"a_b"),
    ('"tab\there"', '"tab\there"', b"tab\there"),
    ('"line\nhere"', '"line\nhere"', b"line\nhere"),
    ('"// none"', '"// none"', b"// none"),
    ('"/* none */"', '"/* none */"', b"/* none */"),
    ('"# none"', '"# none"', b"# none"),
    ('"anchor"', '"anchor"', b"anchor"),
    ('"and"', '"and"', b"and"),
    ('"timestamp"', '"timestamp"', b"timestamp"),
    ('"Anchor"', "Anchor", b"Anchor"),
    ("ANCHOR", "ANCHOR", b"ANCHOR"),
    ("anchors", "anchors", b"anchors"),
    ("x", "x", b"x"),
    ("H1", "H1", b"H1"),
    ("0x616263", "abc", b"abc"),
    ("0x00", "0x00", b"\0"),
    ("0xff00FF", "0xff00ff", b"\xff\0\xff"),
    ("0x20", '" "', b" "),
    ("0x616e64", '"and"', b"and"),
    ('"M\u00fcller"', "0x4dc3bc6c6c6572", "M\u00fcller".encode()),
    ('"\u4e2d"', "0xe4b8ad", "\u4e2d".encode()),
    ('"' + "y" * 60 + '"', "y" * 60, b"y" * 60),
    ('"a,b;c(d)e[f]g=h~i*j!k<l>m"', '"a,b;c(d)e[f]g=h~i*j!k<l>m"',
     b"a,b;c(d)e[f]g=h~i*j!k<l>m"),
]

RESERVED = """guest host designated library plugin or and always true never
false identifier cdhash platform notarized legacy anchor apple generic
certificate cert trusted info entitlement exists absent leaf root
timestamp""".split()

# (text behind the key, printed, bytes).
MATCHES = [
    ("", " /* exists */", u32(0)),
    (" exists", " /* exists */", u32(0)),
    (" /* exists */", " /* exists */", u32(0)),
    (" absent", " absent ", u32(14)),
    (" = v", " = v", u32(1) + data("v")),
    (" == v", " = v", u32(1) + data("v")),
    ("=v", " = v", u32(1) + data("v")),
    (" ~ v", " ~ v", u32(2) + data("v")),
    (" = *v*", " ~ v", u32(2) + data("v")),
    (" = * v *", " ~ v", u32(2) + data("v")),
    (" = v*", " = v*", u32(3) + data("v")),
    (' = "a b"*', ' = "a b"*', u32(3) + data("a b")),
    (" = *v", " = *v", u32(4) + data("v")),
    (" == *v", " = *v", u32(4) + data("v")),
    (" < v", " < v", u32(5) + data("v")),
    (" > v", " > v", u32(6) + data("v")),
    (" <= v", " <= v", u32(7) + data("v")),
    (" >= v", " >= v", u32(8) + data("v")),
    (' < "10.9"', ' < "10.9"', u32(5) + data("10.9")),
    (' >= "10.9"', ' >= "10.9"', u32(8) + data("10.9")),
    (" = 0x00ff", " = 0x00ff", u32(1) + data(b"\0\xff")),
    (" ~ 0x0a", ' ~ "\n"', u32(2) + data("\n")),
]
SECONDS = {"20010101000000Z": 0, "20200102030405Z": 599627045,
           "19700101000000Z": -978307200, "20240229235959Z": 730943999,
           "20991231235959Z": 3124137599}
for sign, op in [("=", 9), ("<", 10), (">", 11), ("<=", 12), (">=", 13)]:
    for time, at in SECONDS.items():
        MATCHES.append((f' {sign} timestamp "{time}"',
                        f' {sign} timestamp "{time}"',
                        u32(op) + struct.pack(">q", at)))
MATCHES.append((' > timestamp "20010101010000+0100"',
                ' > timestamp "20010101000000Z"',
                u32(11) + struct.pack(">q", 0)))

# (text, printed, slot number).
SLOTS = [("leaf", "leaf", 0), ("0", "leaf", 0), ("1", "1", 1), ("2", "2", 2),
         ("17", "17", 17), ("root", "root", -1), ("-1", "root", -1),
         ("- 1", "root", -1), ("-2", "-2", -2), ("-17", "-17", -17)]


def all_leaves():
    yield leaf("always", u32(1))
    yield leaf("true", u32(1), "always")
    yield leaf("never", u32(0))
    yield leaf("false", u32(0), "never")
    yield leaf("anchor apple", u32(3))
    yield leaf("anchor apple generic", u32(15))
    yield leaf("anchor generic apple", u32(15), "anchor apple generic")
    yield leaf("anchor trusted", u32(13))
    yield leaf("certificate trusted", u32(13), "anchor trusted")
    yield leaf("cert trusted", u32(13), "anchor trusted")
    yield leaf("notarized", u32(21))
    yield leaf("legacy", u32(23))
    for number in (0, 1, 2, 13, 2147483647):
        yield leaf(f"platform = {number}", u32(20) + u32(number))
    yield leaf("platform 4", u32(20) + u32(4), "platform = 4")
    yield leaf("platform==4", u32(20) + u32(4), "platform = 4")
    for name in ("foo", '"two words"', "com.x"):
        value = name.strip('"')
        printed = name if name != "com.x" else '"com.x"'
        yield leaf(f"anchor apple {name}", u32(18) + data(value),
                   f"anchor apple {printed}")
        yield leaf(f"({name})", u32(19) + data(value), f"({printed})")
    yield leaf(f'cdhash H"{H1}"', u32(8) + data(HH1))
    yield leaf(f'cdhash = H"{H1.upper()}"', u32(8) + data(HH1),
               f'cdhash H"{H1}"')
    yield leaf(f'cdhash==H"{H2}"', u32(8) + data(HH2), f'cdhash H"{H2}"')
    yield leaf(f'anchor = H"{H2}"', u32(4) + u32(-1) + data(HH2),
               f'certificate root = H"{H2}"')
    yield leaf(f'anchor H"{H2}"', u32(4) + u32(-1) + data(HH2),
               f'certificate root = H"{H2}"')
    for text, printed, slot in SLOTS:
        yield leaf(f'certificate {text} = H"{H1}"',
                   u32(4) + u32(slot) + data(HH1),
                   f'certificate {printed} = H"{H1}"')
        yield leaf(f"cert {text}[subject.OU] = T",
                   u32(11) + u32(slot) + data("subject.OU") + u32(1) + data("T"),
                   f"certificate {printed}[subject.OU] = T")
    yield leaf("anchor[subject.O] = Apple",
               u32(11) + u32(-1) + data("subject.O") + u32(1) + data("Apple"),
               "certificate root[subject.O] = Apple")
    for text, printed, value in VALUES:
        # An identifier can't be written as a number, though it prints as one.
        if not text.startswith("0x") and not printed.startswith("0x"):
            yield leaf(f"identifier {text}", u32(2) + data(value),
                       f"identifier {printed}")
        yield leaf(f"certificate leaf[subject.CN] = {text}",
                   u32(11) + u32(0) + data("subject.CN") + u32(1) + data(value),
                   f"certificate leaf[subject.CN] = {printed}")
    yield leaf("identifier = com.x", u32(2) + data("com.x"),
               'identifier "com.x"')
    for word in RESERVED:
        yield leaf(f'info["{word}"] = "{word}"',
                   u32(10) + data(word) + u32(1) + data(word))
    for text, printed, code in MATCHES:
        yield leaf(f"info[key]{text}", u32(10) + data("key") + code,
                   f"info[key]{printed}")
    for text, printed, code in MATCHES:
        yield leaf(f"entitlement[com.x.y]{text}",
                   u32(16) + data("com.x.y") + code,
                   f"entitlement[com.x.y]{printed}")
        yield leaf(f"certificate -3[field.1.2.3]{text}",
                   u32(14) + u32(-3) + data(oid("1.2.3")) + code,
                   f"certificate -3[field.1.2.3]{printed}")
    yield leaf('entitlement["a b"]', u32(16) + data("a b") + u32(0),
               'entitlement["a b"] /* exists */')
    yield leaf('info["7a"] = b', u32(10) + data("7a") + u32(1) + data("b"))
    for name in "C CN D L O C-O OU C-OU ST C-ST STREET C-STREET UID".split():
        quoted = f'"subject.{name}"' if "-" in name else f"subject.{name}"
        yield leaf(f"certificate 1[{quoted}] = v",
                   u32(11) + u32(1) + data(f"subject.{name}") + u32(1) +
                   data("v"))
    for dotted in ("1.2.840.113635.100.6.1.13", "1.2.840.113635.100.6.2.6",
                   "2.5.29.37", "0.9.2342", "1.39.1", "2.39.127.128.16384",
                   "2.5.4294967295"):
        for prefix, op, printed in (("field", 14, "field"),
                                    ("extension", 14, "field"),
                                    ("policy", 17, "policy")):
            yield leaf(f"certificate leaf[{prefix}.{dotted}]",
                       u32(op) + u32(0) + data(oid(dotted)) + u32(0),
                       f"certificate leaf[{printed}.{dotted}] /* exists */")
    yield leaf('certificate leaf[timestamp.1.2.840.113635.100.6.1.33] > '
               'timestamp "20190408000000Z"',
               u32(22) + u32(0) + data(oid("1.2.840.113635.100.6.1.33")) +
               u32(11) + struct.pack(">q", 576374400))


def combinations():
    a = leaf("always", u32(1))
    b = leaf("never", u32(0))
    c = leaf("anchor apple", u32(3))
    d = leaf("notarized", u32(21))
    yield and_(a, b)
    yield or_(a, b)
    yield not_(a)
    yield not_(a, "")
    yield not_(not_(a))
    yield and_(and_(and_(a, b), c), d)
    yield or_(or_(or_(a, b), c), d)
    yield or_(and_(a, b), and_(c, d))
    yield and_(or_(a, b), or_(c, d))
    yield or_(a, and_(b, c))
    yield and_(or_(a, b), c)
    yield and_(c, or_(a, b))
    yield not_(and_(a, b))
    yield not_(or_(a, b))
    yield and_(not_(a), not_(b))
    yield or_(not_(a), b)
    yield not_(not_(or_(a, not_(b))))
    yield and_(not_(or_(a, b)), or_(not_(c), d))
    yield or_(and_(or_(and_(a, b), c), d), not_(and_(a, or_(b, c))))
    generic = leaf("anchor apple generic", u32(15))
    ident = leaf('identifier "com.example.app"', u32(2) + data("com.example.app"))
    field = lambda slot, number, dotted: leaf(
        f"certificate {slot}[field.{dotted}] /* exists */",
        u32(14) + u32(number) + data(oid(dotted)) + u32(0))
    team = leaf("certificate leaf[subject.OU] = ABCDE12345",
                u32(11) + u32(0) + data("subject.OU") + u32(1) +
                data("ABCDE12345"))
    yield and_(and_(and_(and_(ident, generic),
                         field("1", 1, "1.2.840.113635.100.6.2.6")),
                    field("leaf", 0, "1.2.840.113635.100.6.1.13")), team)
    yield and_(ident, or_(c, and_(generic, team)))
    spaced = Expr("\n\t always /* a */ and // b\n# c\n never;;", "always and never",
                  u32(6) + u32(1) + u32(0))
    yield spaced
    yield Expr("((((always))))", "always", u32(1))
    yield Expr("always;", "always", u32(1))


def blob(code):
    body = u32(1) + code
    return b"\xfa\xde\x0c\x00" + u32(8 + len(body)) + body


def sets():
    types = {"host": 1, "guest": 2, "designated": 3, "library": 4, "plugin": 5}
    a, b = u32(1), u32(3)

    def build(entries):
        blobs = [(number, blob(code)) for number, code in sorted(entries)]
        at = 12 + 8 * len(blobs)
        index, body = b"", b""
        for number, each in blobs:
            index += u32(number) + u32(at + len(body))
            body += each
        return b"\xfa\xde\x0c\x01" + u32(at + len(body)) + u32(len(blobs)) + \
            index + body

    for name, number in types.items():
        yield f"{name} => always", f"{name} => always\n", build([(number, a)])
    yield "3 => always", "designated => always\n", build([(3, a)])
    yield ("designated => anchor apple; library => always",
           "designated => anchor apple\nlibrary => always\n",
           build([(3, b), (4, a)]))
    yield ("library => always\nhost => anchor apple",
           "host => anchor apple\nlibrary => always\n",
           build([(1, b), (4, a)]))
    yield ("plugin=>always;;designated=>anchor apple;guest=>always",
           "guest => always\ndesignated => anchor apple\nplugin => always\n",
           build([(2, a), (3, b), (5, a)]))


def escape(text):
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")


def main():
    lines = ["# text TAB printed TAB bytes; made by make.py"]
    for expression in [*all_leaves(), *combinations()]:
        lines.append("\t".join([escape(expression.text),
                                escape(expression.printed),
                                blob(expression.code).hex()]))
    for text, printed, code in sets():
        lines.append("\t".join([escape(text), escape(printed), code.hex()]))
    path = pathlib.Path(__file__).with_name("strings.txt")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(len(lines) - 1, "strings", file=sys.stderr)


if __name__ == "__main__":
    main()
