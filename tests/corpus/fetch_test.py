"""tests/corpus/fetch against a stand-in for the npm client."""

import base64
import hashlib
import io
import json
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import unittest
import zipfile

FETCH = pathlib.Path(__file__).resolve().parent / "fetch"

# Copies NPM_ARCHIVES/PACKAGE.tgz and notes the call; NPM_KILL ends the fetch
# that called it, as a power cut would.
FAKE_NPM = """#!/bin/sh
echo "$*" >>"$NPM_CALLS"
if [ -n "$NPM_FAIL" ]; then
  printf 'npm ERR! code E404\\nnpm ERR! 404 Not Found - a@1\\nnpm ERR! A log\\n' >&2
  exit 1
fi
if [ -n "$NPM_KILL" ]; then kill -9 $PPID; exit 1; fi
for last; do :; done
while [ "$1" != --pack-destination ]; do shift; done
cp "$NPM_ARCHIVES/$(echo "$last" | tr / +).tgz" "$2/a.tgz"
"""


def tar_of(files):
    """A gzip'd tar of {name: bytes, or a link's target as str}."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                tar.addfile(member)
            else:
                member.size, member.mode = len(content), 0o755
                tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def zip_of(files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as zipped:
        for name, content in files.items():
            zipped.writestr(name, content)
    return out.getvalue()


class FetchTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.cache = self.folder / "cache"
        (self.folder / "archives").mkdir()
        npm = self.folder / "bin" / "npm"
        npm.parent.mkdir()
        npm.write_text(FAKE_NPM)
        npm.chmod(0o755)
        self.calls = self.folder / "calls"
        self.calls.touch()
        self.packages = []
        self.items = []

    def publish(self, name, archive, path, content, sha512=None):
        """Adds a package, and an item of it at `path` with `content`."""
        place = self.folder / "archives" / (name.replace("/", "+") + ".tgz")
        place.write_bytes(archive)
        digest = base64.b64encode(hashlib.sha512(archive).digest()).decode()
        self.packages.append({"name": name, "sha512": sha512 or digest})
        self.items.append({
            "id": f"T{len(self.items)}", "package": name, "path": path,
            "sha256": hashlib.sha256(content).hexdigest(), "size": len(content),
        })  # fmt: skip

    def fetch(self, *arguments, **variables):
        corpus = self.folder / "corpus.json"
        corpus.write_text(
            json.dumps({"packages": self.packages, "items": self.items})
        )
        environment = os.environ | {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "CODESEAL_CORPUS": str(self.cache),
            "NPM_ARCHIVES": str(self.folder / "archives"),
            "NPM_CALLS": str(self.calls),
            "NPM_KILL": "",
            "NPM_FAIL": "",
        } | variables  # fmt: skip
        return subprocess.run(
            [FETCH, "--corpus", corpus, *arguments], env=environment,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def place(self, *parts):
        return self.cache.joinpath("x", *parts)

    def assert_refused(self, result, reason):
        self.assertEqual(result.returncode, 1, result.stdout + result.stderr)
        self.assertIn(reason, result.stdout)
        self.assertEqual(os.listdir(self.cache / "x"), [])
        self.assertFalse((self.cache / "staging").exists())

    def test_unpacks_packages_and_nested_archives(self):
        self.publish("@a/b@1", tar_of({"package/x": b"one"}), "package/x", b"one")
        inner = tar_of({"C/tool": b"two", "C/link": "tool"})
        self.publish(
            "c@2", tar_of({"package/i.tgz": inner}), "package/i.tgz!C/tool", b"two"
        )
        inner = zip_of({"P/app": b"three"})
        self.publish(
            "d@3", tar_of({"package/i.ipa": inner}), "package/i.ipa!P/app", b"three"
        )
        result = self.fetch()
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertEqual(self.place("@a+b@1/package/x").read_bytes(), b"one")
        self.assertTrue(os.access(self.place("@a+b@1/package/x"), os.X_OK))
        self.assertEqual(
            os.readlink(self.place("c@2/package/i.tgz.x/C/link")), "tool"
        )
        self.assertEqual(
            self.place("d@3/package/i.ipa.x/P/app").read_bytes(), b"three"
        )

    def test_what_is_there_is_not_downloaded_again(self):
        self.publish("a@1", tar_of({"package/x": b"one"}), "package/x", b"one")
        self.fetch()
        calls = self.calls.read_text()
        self.assertIn("--ignore-scripts", calls)
        self.assertEqual(self.fetch().returncode, 0)
        self.assertEqual(self.calls.read_text(), calls)

    def test_damaged_package_is_replaced(self):
        self.publish("a@1", tar_of({"package/x": b"one"}), "package/x", b"one")
        self.fetch()
        self.place("a@1/package/x").write_bytes(b"o")
        self.assertEqual(self.fetch().returncode, 0)
        self.assertEqual(self.place("a@1/package/x").read_bytes(), b"one")

    def test_only_the_packages_of_the_ids(self):
        self.publish("a@1", tar_of({"package/x": b"one"}), "package/x", b"one")
        self.publish("b@1", tar_of({"package/x": b"two"}), "package/x", b"two")
        self.assertEqual(self.fetch("T1").returncode, 0)
        self.assertEqual(os.listdir(self.cache / "x"), ["b@1"])
        self.assertEqual(self.fetch("T9").returncode, 1)

    def test_other_package_than_the_pinned_one(self):
        archive = tar_of({"package/x": b"one"})
        self.publish("a@1", archive, "package/x", b"one", sha512="AAAA")
        self.assert_refused(self.fetch(), "SHA-512")

    def test_other_item_than_the_known_one(self):
        self.publish("a@1", tar_of({"package/x": b"one"}), "package/x", b"two")
        self.assert_refused(self.fetch(), "SHA-256")

    def test_members_that_leave_their_folder(self):
        for files in (
            {"../x": b"one"},
            {"/x": b"one"},
            {"package/x": "../../x"},
            {"package/x": "/etc/passwd"},
            {"package/d": ".", "package/d/x": b"one"},
        ):
            with self.subTest(files=files):
                self.packages, self.items = [], []
                self.publish("a@1", tar_of(files), "package/x", b"one")
                self.assert_refused(self.fetch(), "archive")

    def test_killed_fetch_leaves_no_half_package(self):
        self.publish("a@1", tar_of({"package/x": b"one"}), "package/x", b"one")
        self.assertEqual(self.fetch(NPM_KILL="1").returncode, -9)
        self.assertEqual(os.listdir(self.cache / "x"), [])
        self.assertEqual(self.fetch().returncode, 0)
        self.assertFalse((self.cache / "staging").exists())

    def test_failed_download_says_why_and_stops(self):
        for name in "abcdefgh":
            archive = tar_of({"package/x": b"one"})
            self.publish(f"{name}@1", archive, "package/x", b"one")
        result = self.fetch(NPM_FAIL="1")
        self.assert_refused(result, "404 Not Found - a@1")
        self.assertIn("not tried", result.stdout)

    def test_without_npm(self):
        self.publish("a@1", tar_of({"package/x": b"one"}), "package/x", b"one")
        python = self.folder / "python"
        python.mkdir()
        (python / "python3").symlink_to(sys.executable)
        self.assert_refused(self.fetch(PATH=str(python)), "npm client")


if __name__ == "__main__":
    unittest.main()
