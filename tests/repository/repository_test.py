"""Every rule of rules.py holds in this repository, and each rule can fail."""

import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import rules  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
REASONS = "proto/codeseal/v1/error_detail.proto"


class Tree:
    """A small tree with the given files; removed at the end of `with`."""

    def __init__(self, planted):
        self.folder = tempfile.TemporaryDirectory()
        self.planted = planted

    def __enter__(self):
        root = pathlib.Path(self.folder.name)
        for name, content in self.planted.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return root

    def __exit__(self, *_):
        self.folder.cleanup()


class RepositoryTest(unittest.TestCase):
    maxDiff = None

    def assert_holds(self, check):
        problems = check(ROOT)
        self.assertEqual(problems, [], "\n" + "\n".join(problems))

    def assert_found(self, check, planted, *places):
        """`check` reports exactly `places` (path:line) in the planted tree."""
        with Tree(planted) as root:
            problems = check(root)
        self.assertEqual(
            sorted(":".join(each.split(":")[:2]) for each in problems),
            sorted(places),
            problems,
        )

    def test_include_rules(self):
        self.assert_holds(rules.check_include_rules)
        for path, header in (
            ("codesign/base/x.cc", "codesign/cms/certificate.h"),
            ("codesign/base/x.cc", "codeseal/v1/signing.pb.h"),
            ("codesign/cms/x.cc", "codesign/macho/slice.h"),
            ("codesign/macho/x.cc", "codesign/code_directory.h"),
            ("codesign/x.cc", "codesign/verify/verifier.h"),
            ("codesign/verify/x.cc", "hsm/token.h"),
            ("codesign/x.h", "server/config.h"),
            ("hsm/x.cc", "codesign/signing_plan.h"),
            ("hsm/x.cc", "server/config.h"),
            ("server/x.cc", "client/render.h"),
            ("server/sub/x.cc", "client/render.h"),
            ("client/x.cc", "server/config.h"),
            ("client/x.cc", "tests/support/corpus.h"),
        ):
            with self.subTest(path=path, header=header):
                self.assert_found(
                    rules.check_include_rules,
                    {path: f'int x;\n#include "{header}"\n'},
                    f"{path}:2",
                )
        for path, header in (
            ("codesign/x.cc", "openssl/cms.h"),
            ("codesign/macho/x.cc", "openssl/evp.h"),
            ("server/x.cc", "openssl/x509.h"),
            ("client/x.cc", "libp11.h"),
            ("codesign/cms/x.cc", "p11-kit/pkcs11.h"),
            ("hsm/x.cc", "grpcpp/grpcpp.h"),
            ("codesign/x.cc", "grpcpp/channel.h"),
            ("hsm/x.cc", "CLI/CLI.hpp"),
            ("server/x.cc", "gtest/gtest.h"),
        ):
            with self.subTest(path=path, header=header):
                self.assert_found(
                    rules.check_include_rules,
                    {path: f"#include <{header}>\n"},
                    f"{path}:1",
                )
        allowed = {
            "codesign/cms/x.cc": '#include "codesign/base/bytes.h"\n',
            "codesign/verify/x.cc": '#include "codesign/code_directory.h"\n',
            "hsm/x.cc": "#include <openssl/evp.h>\n#include <libp11.h>\n",
            "server/x.cc": '#include "hsm/token.h"\n#include <grpcpp/server.h>\n',
            "client/x.cc": '#include "codeseal/v1/signing.grpc.pb.h"\n',
            "tests/unit/x.cc": '#include "server/config.h"\n',
        }
        self.assert_found(rules.check_include_rules, allowed)

    def test_each_library_has_a_twin_test(self):
        self.assert_holds(rules.check_twin_tests)
        library = {"codesign/macho/CMakeLists.txt": "codeseal_library(macho)\n"}
        self.assert_found(
            rules.check_twin_tests, library, "codesign/macho/CMakeLists.txt:1"
        )
        twin = {"tests/unit/macho/slice_test.cc": ""}
        self.assert_found(rules.check_twin_tests, library | twin)

    def test_headers_say_what_they_are_and_have_guards(self):
        self.assert_holds(rules.check_headers)
        guard = "CODESEAL_HSM_TOKEN_URI_H_"
        good = f"// Says.\n\n#ifndef {guard}\n#define {guard}\n\n#endif  // {guard}\n"
        self.assert_found(rules.check_headers, {"hsm/token_uri.h": good})
        for bad in (
            good.replace("// Says.\n", ""),
            good.replace("TOKEN", "TOKENS"),
            good.replace(f"#endif  // {guard}", "#endif"),
            "// Says.\n#pragma once\n",
        ):
            with self.subTest(bad=bad):
                self.assert_found(
                    rules.check_headers, {"hsm/token_uri.h": bad}, "hsm/token_uri.h:1"
                )

    def test_own_headers_are_included_from_the_root(self):
        self.assert_holds(rules.check_own_includes_exist)
        planted = {
            "hsm/x.cc": '#include "token.h"\n#include "hsm/gone.h"\n#include <map>\n',
            "hsm/token.h": "",
        }
        self.assert_found(
            rules.check_own_includes_exist, planted, "hsm/x.cc:1", "hsm/x.cc:2"
        )

    def test_local_names(self):
        self.assert_holds(rules.check_local_names)
        own = "namespace {{\n\n{}\n}}  // namespace\n"
        for name in (
            "constexpr int kSize = 4;",
            "constexpr char kText[] =",
            "struct Part {",
            "enum class Kind { kOne };",
            "using Json = nlohmann::json;",
            "absl::StatusOr<int> Read(",
            "Part(int",
        ):
            with self.subTest(name=name):
                planted = {"hsm/a.cc": own.format(name), "server/a.cc": own.format(name)}
                self.assert_found(rules.check_local_names, planted)
                other = own.format(name.replace("nlohmann::", "other::"))
                planted |= {"hsm/b.cc": other, "hsm/main.cc": other}
                self.assert_found(rules.check_local_names, planted, "hsm/b.cc:3")
        using = own.format("using Json = nlohmann::json;")
        self.assert_found(
            rules.check_local_names, {"hsm/a.cc": using, "hsm/b.cc": using}
        )

    def test_each_rule_is_tested(self):
        self.assert_holds(rules.check_rules_are_tested)
        code = {"codesign/x.cc": 'if (a) Bad("CD-1");\nif (b) return 0;  // CD-2\n'}
        self.assert_found(
            rules.check_rules_are_tested, code, "codesign/x.cc:1", "codesign/x.cc:2"
        )
        # CD-12 is another rule than CD-1; SHA-256 is none.
        test = {"tests/unit/x_test.cc": 'Case{"CD12_x"}; // CD-2', "hsm/y.cc": "// SHA-256"}
        self.assert_found(rules.check_rules_are_tested, code | test, "codesign/x.cc:1")
        test = {"tests/unit/x_test.cc": 'Case{"CD1_Magic"}; Case{"CD-2"};'}
        self.assert_found(rules.check_rules_are_tested, code | test)

    def test_each_reason_is_given(self):
        self.assert_holds(rules.check_reasons_are_given)
        planted = {
            REASONS: "REASON_UNSPECIFIED = 0;\nREASON_A = 1;\nREASON_B = 2;\n",
            "hsm/x.cc": "v1::REASON_A;  // not REASON_B\n",
            "client/fix_hints.cc": "v1::REASON_A v1::REASON_B",
        }
        self.assert_found(rules.check_reasons_are_given, planted, f"{REASONS}:3")

    def test_each_reason_is_hinted(self):
        self.assert_holds(rules.check_reasons_are_hinted)
        planted = {
            REASONS: "REASON_UNSPECIFIED = 0;\nREASON_A = 1;\nREASON_B = 2;\n",
            "client/fix_hints.cc": "v1::REASON_B",
        }
        self.assert_found(rules.check_reasons_are_hinted, planted, f"{REASONS}:2")

    def test_words(self):
        self.assert_holds(rules.check_words)
        for bad in (
            "cd /" + "root/codeseal",
            'x = "/' + 'home/somebody/x"',
            "https://registry." + "npmjs.org/x",
            "-----BEGIN " + "PRIVATE KEY-----",
            "-----BEGIN EC " + "PRIVATE KEY-----",
            "sudo apt-get install " + "-y g++",
            "a\tb",
            "a ",
        ):
            with self.subTest(bad=bad):
                self.assert_found(
                    rules.check_words, {"docs/x.md": f"fine\n{bad}\n"}, "docs/x.md:2"
                )

    def test_format(self):
        if not rules.has_clang_format():
            self.skipTest(f"{rules.CLANG_FORMAT} is not installed")
        self.assert_holds(rules.check_format)
        style = {".clang-format": (ROOT / ".clang-format").read_text()}
        planted = style | {"hsm/x.cc": "int  x;\n", "hsm/y.cc": "int y;\n"}
        self.assert_found(rules.check_format, planted, "hsm/x.cc:1")

    def test_scripts(self):
        self.assert_holds(rules.check_scripts)
        planted = {"a": "#!/bin/bash\nset -euo pipefail\nif true; then\n"}
        # Three faults: no `fi`, no `set`, not executable.
        self.assert_found(rules.check_scripts, planted, "a:1", "a:1")
        self.assert_found(
            rules.check_scripts, {"a": "#!/bin/sh\ntrue\n"}, "a:1", "a:1"
        )


if __name__ == "__main__":
    unittest.main()
