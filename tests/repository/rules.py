"""The repository's own rules. Each check takes the root of a tree and returns
its problems as "path:line: what is wrong"; repository_test.py runs every check
on this tree and on planted violations.
"""

import os
import pathlib
import re
import shutil
import subprocess

PRODUCT_FOLDERS = ("codesign", "audit", "hsm", "tsa", "server", "client")
SKIPPED = {".git", "build", ".quickstart", ".cache", "__pycache__"}
CODE_SUFFIXES = {".h", ".cc", ".c"}


def files(root, *suffixes):
    """Files of the tree in order, as paths relative to `root`."""
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(set(folders) - SKIPPED)
        for name in sorted(set(names) - SKIPPED):
            path = pathlib.Path(folder, name).relative_to(root)
            if not suffixes or path.suffix in suffixes:
                found.append(path)
    return found


def code_files(root):
    return files(root, *CODE_SUFFIXES)


def lines(root, path):
    """(number, line) of a text file; nothing of a binary one."""
    content = (root / path).read_bytes()
    if b"\0" in content:
        return []
    return list(enumerate(content.decode(errors="replace").splitlines(), 1))


def includes(root, path):
    """(line number, included path) of every #include."""
    for number, line in lines(root, path):
        if match := re.match(r'\s*#\s*include\s+["<]([^">]+)[">]', line):
            yield number, match[1]


# --- include rules -----------------------------------------------------------

# What a folder may include of ours, longest folder first. A folder includes
# itself; a trailing slash means the folder and all below it.
OWN_INCLUDES = {
    "codesign/base": ["codeseal/v1/error_detail.pb.h"],
    "codesign/cms": ["codesign/base/"],
    "codesign/macho": ["codesign/base/"],
    "codesign/requirement": [
        "codesign/base/",
        "codesign/cms/",
        "codesign/bundle/property_list.h",  # It asks of Info.plist.
        "codesign/super_blob.h",  # A requirement set is one.
    ],
    "codesign/bundle": ["codesign/base/", "codesign/macho/"],
    "codesign/verify": ["codesign/"],
    "codesign/assess": ["codesign/"],
    "codesign/image": ["codesign/"],
    "codesign": ["codesign/"],
    # The statement that client and server make of a grant.
    "audit/approval": ["codesign/base/", "codeseal/v1/approval.pb.h"],
    "audit": ["codesign/base/", "codesign/cms/"],
    "hsm": ["codesign/base/", "codesign/cms/"],
    "tsa": ["codesign/base/", "codesign/cms/"],
    "server": ["codesign/", "audit/", "hsm/", "tsa/", "codeseal/v1/"],
    "client": ["codesign/", "audit/", "hsm/", "tsa/", "codeseal/v1/"],
}
# What reads code does not know what judges it.
NEVER_BELOW = {
    "codesign": ("codesign/verify/", "codesign/assess/"),
    "codesign/verify": "codesign/assess/",
}
OWN_PREFIXES = (
    "codesign/",
    "audit/",
    "hsm/",
    "tsa/",
    "server/",
    "client/",
    "tests/",
    "codeseal/",
)

# Headers of others -> folders that may include them.
FOREIGN_INCLUDES = [
    (r"openssl/", ("codesign/cms", "codesign/base", "hsm", "tests")),
    (r"(p11-kit/|libp11\.h|pkcs11)", ("hsm", "tests")),
    (r"(grpc/|grpcpp/|.*\.grpc\.pb\.h)", ("server", "client", "tests")),
    (r"plist/", ("codesign/bundle", "tests")),
    (r"(expat|zlib)\.h", ("codesign/image", "tests")),
    (r"CLI/", ("audit", "server", "client", "tests")),
    (r"yaml-cpp/", ("server", "client", "tests")),
    (r"curl/", ("tsa", "client", "server")),
    (r"sqlite3\.h", ("server", "tests")),
    (r"libpq-fe\.h", ("server",)),
    (r"(CivetServer|civetweb)\.h", ("server",)),
    (r"prometheus/", ("server",)),
    (r"(gtest|gmock)/", ("tests",)),
]


def is_under(path, folder):
    return str(path) == folder or str(path).startswith(folder + "/")


def check_include_rules(root):
    problems = []
    for path in code_files(root):
        folder = next((f for f in OWN_INCLUDES if is_under(path, f)), None)
        for number, included in includes(root, path):
            place = f"{path}:{number}"
            if folder is not None and included.startswith(OWN_PREFIXES):
                allowed = [folder + "/", *OWN_INCLUDES[folder]]
                never = NEVER_BELOW.get(folder)
                if not included.startswith(tuple(allowed)) or (
                    never and included.startswith(never)
                ):
                    problems.append(f"{place}: {folder} may not include {included}")
            for pattern, folders in FOREIGN_INCLUDES:
                if re.match(pattern, included) and not any(
                    is_under(path, each) for each in folders
                ):
                    problems.append(
                        f"{place}: {included} belongs in {', '.join(folders)}"
                    )
    return problems


# --- layout ------------------------------------------------------------------


def check_twin_tests(root):
    """Each library folder has tests/unit/NAME with tests in it."""
    problems = []
    for path in files(root, ".txt"):
        if path.name != "CMakeLists.txt" or path.parts[0] not in PRODUCT_FOLDERS:
            continue
        if not re.search(r"^\s*codeseal_library\(", (root / path).read_text(), re.M):
            continue
        twin = pathlib.Path("tests/unit", path.parent.name)
        if not list((root / twin).glob("*_test.cc")):
            problems.append(f"{path}:1: has no tests in {twin}")
    return problems


def header_guard(path):
    return "CODESEAL_" + re.sub(r"[^A-Z0-9]", "_", str(path).upper()) + "_"


def check_headers(root):
    """Each header begins by saying what it is, and has the guard of its path."""
    problems = []
    for path in files(root, ".h"):
        text = (root / path).read_text()
        guard = header_guard(path)
        if not text.startswith("// "):
            problems.append(f"{path}:1: does not begin by saying what it is")
        if f"#ifndef {guard}\n#define {guard}\n" not in text or not text.endswith(
            f"#endif  // {guard}\n"
        ):
            problems.append(f"{path}:1: wants the header guard {guard}")
    return problems


def check_own_includes_exist(root):
    """Own headers are included by their path from the root."""
    problems = []
    for path in code_files(root):
        for number, included in includes(root, path):
            own = included.startswith(OWN_PREFIXES) and ".pb.h" not in included
            if own and not (root / included).is_file():
                problems.append(f"{path}:{number}: there is no {included}")
            if "/" not in included and (root / path.parent / included).is_file():
                problems.append(
                    f"{path}:{number}: include {path.parent / included} instead"
                )
    return problems


# What stands at the beginning of a line in an unnamed namespace and gives a name
# to something. A `using` may be repeated, word by word.
LOCAL_NAMES = [
    re.compile(r"(?:inline |static )*(?:constexpr|const)\b[^(=]*?\b(\w+)(?:\[\w*\])* ="),
    re.compile(r"(?:struct|class|enum class|enum) (\w+)"),
    re.compile(r"using (\w+) ="),
    re.compile(r"[\w:<>,&* ]*[&* >](\w+)\("),
    re.compile(r"(\w+)\("),
]


def local_names(root, path):
    """(line number, name, line) of what the file keeps to itself."""
    inside = False
    for number, line in lines(root, path):
        if line == "namespace {":
            inside = True
        elif line == "}  // namespace":
            inside = False
        elif inside and line[:1].isalpha():
            for pattern in LOCAL_NAMES:
                if match := pattern.match(line):
                    yield number, match[1], line
                    break


def check_local_names(root):
    """No two files of a folder use one name for different things: they are
    compiled together (cmake/Codeseal.cmake), and overloads of one another would
    be chosen silently."""
    problems = []
    seen = {}
    for path in files(root, ".cc"):
        if path.parts[0] not in PRODUCT_FOLDERS or path.name == "main.cc":
            continue
        for number, name, line in local_names(root, path):
            other, other_line = seen.setdefault((path.parent, name), (path, line))
            if other == path or (line.startswith("using ") and line == other_line):
                continue
            problems.append(f"{path}:{number}: {name} is a name in {other}, too")
    return problems


# --- rules and reasons -------------------------------------------------------

# A rule of ours, CD-5: in code as "CD-5" or // CD-5; in a test also as CD5,
# since names of tests have no dash.
RULE_IN_CODE = re.compile(r'(?:"|//\s*)([A-Z]{2}-\d+)\b')


def check_rules_are_tested(root):
    tests = "\n".join(
        (root / path).read_text(errors="replace")
        for path in code_files(root)
        if path.parts[0] == "tests"
    )
    named = {
        f"{match[1]}-{match[2]}"
        for match in re.finditer(r"(?<![A-Z])([A-Z]{2})-?(\d+)(?!\d)", tests)
    }
    problems = {}
    for path in files(root, ".cc"):
        if path.parts[0] not in PRODUCT_FOLDERS:
            continue
        for number, line in lines(root, path):
            for rule in RULE_IN_CODE.findall(line):
                if rule not in named:
                    problems.setdefault(
                        rule, f"{path}:{number}: no test names rule {rule}"
                    )
    return list(problems.values())


REASONS = pathlib.Path("proto/codeseal/v1/error_detail.proto")
HINTS = pathlib.Path("client/fix_hints.cc")


def reasons_of(root):
    """(line number, name) of each Reason but the unspecified one."""
    if not (root / REASONS).is_file():
        return
    for number, line in lines(root, REASONS):
        match = re.match(r"\s*(REASON_[A-Z0-9_]+) = (\d+);", line)
        if match and match[2] != "0":
            yield number, match[1]


def reasons_named(root, path):
    """In code; a comment does not count."""
    code = re.sub(r"//.*", "", (root / path).read_text())
    return set(re.findall(r"\bREASON_[A-Z0-9_]+", code))


def check_reasons_are_given(root):
    given = set()
    for path in files(root, ".cc"):
        if path.parts[0] in PRODUCT_FOLDERS and path != HINTS:
            given |= reasons_named(root, path)
    return [
        f"{REASONS}:{number}: no code gives {name}"
        for number, name in reasons_of(root)
        if name not in given
    ]


def check_reasons_are_hinted(root):
    if not (root / HINTS).is_file():
        return []
    hinted = reasons_named(root, HINTS)
    return [
        f"{REASONS}:{number}: {HINTS} has no {name}"
        for number, name in reasons_of(root)
        if name not in hinted
    ]


# --- words -------------------------------------------------------------------

# Written so that this file does not match itself.
FORBIDDEN_WORDS = [
    (r"(?<![\w.$})/-])/(root|home|Users|work)/", "somebody's own folder"),
    (r"registry\.[n]pmjs|deb\.[d]ebian\.org|pypi\.[o]rg", "a registry's host name"),
    (r"-----BEGIN [A-Z ]*PRIVATE[ ]KEY-----\s*$", "a private key"),
    (r"apt(-get)?\s+[i]nstall\s+(-\S+\s+)*[a-z]", "a package list of its own"),
    (r"\t", "a tab"),
    (r"[ ]+$", "a blank at the end of a line"),
]
# Files that others wrote, or that must hold such bytes.
WORDS_NOT_CHECKED = re.compile(
    r"^(LICENSE|.*\.(plist|pem|der|bin|mobileprovision)|tests/golden/.*"
    r"|tests/fuzz/[^/]+/seeds/.*)$"
)


def check_words(root):
    problems = []
    for path in files(root):
        if WORDS_NOT_CHECKED.match(str(path)):
            continue
        for number, line in lines(root, path):
            for pattern, meaning in FORBIDDEN_WORDS:
                if re.search(pattern, line):
                    problems.append(f"{path}:{number}: {meaning}")
    return problems


# --- form --------------------------------------------------------------------

CLANG_FORMAT = "clang-format-19"


def has_clang_format():
    return shutil.which(CLANG_FORMAT) is not None


def check_format(root):
    paths = [str(path) for path in code_files(root)]
    if not paths:
        return []
    done = subprocess.run(
        [CLANG_FORMAT, "--dry-run", "-Werror", "--ferror-limit=1", *paths],
        cwd=root, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    faults = re.findall(r"^(\S+?:\d+):\d+: error", done.stderr, re.M)
    if done.returncode != 0 and not faults:
        return [f"{CLANG_FORMAT}: {done.stderr.strip()}"]
    return [f"{each}: is not as {CLANG_FORMAT} leaves it" for each in faults]


def is_shell_script(root, path):
    with (root / path).open("rb") as file:
        return re.match(rb"#!.*\b(ba|da)?sh\b", file.readline()) is not None


def check_scripts(root):
    """Shell scripts can be read by their shell, stop at the first fault, and
    can be run."""
    problems = []
    for path in files(root):
        if not is_shell_script(root, path):
            continue
        text = (root / path).read_text()
        done = subprocess.run(
            ["bash", "-n", str(root / path)], capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        if done.returncode != 0:
            problems.append(f"{path}:1: {done.stderr.strip()}")
        if not re.search(r"^set -eu", text, re.M):
            problems.append(f"{path}:1: wants set -eu")
        if not os.access(root / path, os.X_OK):
            problems.append(f"{path}:1: is not executable")
    return problems
