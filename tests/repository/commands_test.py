"""The commands that people type: what they refuse, and how they install. No
package is touched: apt-get, dpkg-query, id and sudo are stand-ins here."""

import os
import pathlib
import re
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGES = (ROOT / "deploy/packages").read_text()


def section(name):
    """Packages of one section of deploy/packages."""
    text = PACKAGES.split(f"[{name}]\n")[1].split("\n[")[0]
    rows = (line.split() for line in text.splitlines())
    return [row[0] for row in rows if row and not row[0].startswith("#")]


def run(*command, **options):
    return subprocess.run(
        [str(each) for each in command], cwd=ROOT, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=60, check=False, **options,
    )  # fmt: skip


class InstallTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.calls = self.folder / "calls"
        self.calls.touch()
        self.stand_in("apt-get", f'echo "$*" >>{self.calls}')
        self.installed([])
        self.user(0)

    def stand_in(self, name, script):
        path = self.folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def installed(self, packages, removed=()):
        lines = "".join(f"ii  {each}\\n" for each in packages)
        lines += "".join(f"rc  {each}\\n" for each in removed)
        self.stand_in("dpkg-query", f"printf '{lines}'")

    def user(self, number):
        self.stand_in("id", f"echo {number}")

    def install(self, *sections, path=None):
        script = f"set -euo pipefail; . deploy/common.sh; install_packages {' '.join(sections)}"
        return run(
            "bash", "-c", script,
            env=os.environ | {"PATH": path or f"{self.folder / 'bin'}:{os.environ['PATH']}"},
        )  # fmt: skip

    def test_installs_what_is_missing(self):
        build = section("build")
        self.installed(build[1:])
        done = self.install("build")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(
            self.calls.read_text().splitlines(),
            ["-q update", f"-q install -y --no-install-recommends {build[0]}"],
        )

    def test_downloads_nothing_when_nothing_is_missing(self):
        self.installed(section("build") + section("world"))
        done = self.install("build", "world")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.calls.read_text(), "")

    def test_takes_the_sections_it_is_asked_for(self):
        self.install("world")
        asked = self.calls.read_text().split("recommends ")[1].split()
        self.assertEqual(sorted(asked), sorted(section("world")))

    def test_removed_package_is_missing(self):
        self.installed(section("world")[1:], removed=section("world")[:1])
        self.install("world")
        self.assertIn(section("world")[0], self.calls.read_text())

    def test_command_serves_as_well_as_its_package(self):
        self.stand_in("npm", "")
        self.install("test")
        self.assertNotIn(" npm", self.calls.read_text())

    def test_user_without_sudo_is_told_what_to_type(self):
        self.user(1000)
        self.stand_in("sudo", "exit 1")
        done = self.install("world")
        self.assertEqual(done.returncode, 2)
        self.assertIn("needs root", done.stderr)
        for package in section("world"):
            self.assertIn(package, done.stderr)
        self.assertEqual(self.calls.read_text(), "")

    def test_user_with_sudo(self):
        self.user(1000)
        self.stand_in("sudo", 'shift; exec "$@"')
        done = self.install("world")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("install", self.calls.read_text())

    def test_failed_install_shows_why(self):
        self.stand_in("apt-get", "echo no such release >&2; exit 100")
        done = self.install("world")
        self.assertEqual(done.returncode, 2)
        self.assertIn("no such release", done.stderr)

    def test_other_system(self):
        for name in ("apt-get", "dpkg-query"):
            (self.folder / "bin" / name).unlink()
        for name in ("dirname", "bash", "awk"):
            (self.folder / "bin" / name).symlink_to(f"/usr/bin/{name}")
        done = self.install("world", path=str(self.folder / "bin"))
        self.assertEqual(done.returncode, 2)
        self.assertIn("not a Debian", done.stderr)


class PackagesTest(unittest.TestCase):
    def test_sections_that_are_asked_for_are_there(self):
        sections = set(re.findall(r"^\[(\w+)\]$", PACKAGES, re.M))
        for script in ("tests/run", "deploy/quickstart"):
            text = (ROOT / script).read_text()
            words = re.findall(r'(?:install_packages|sections=)\s*"?([a-z ]+)', text)
            for asked in " ".join(words).split():
                self.assertIn(asked, sections, script)


class UsageTest(unittest.TestCase):
    def assert_refused(self, reason, *command):
        done = run(*command)
        self.assertEqual(done.returncode, 2, done.stdout + done.stderr)
        self.assertIn(reason, done.stderr)

    def test_unknown_label(self):
        self.assert_refused("no label 'units'", "tests/run", "units")

    def test_quickstart(self):
        self.assert_refused("no option --keeep", "deploy/quickstart", "--keeep")
        self.assert_refused("no file /nonexistent", "deploy/quickstart", "/nonexistent")
        self.assert_refused("wants a folder", "deploy/quickstart", "--dir")
        self.assertIn("--keep", run("deploy/quickstart", "--help").stdout)


if __name__ == "__main__":
    unittest.main()
