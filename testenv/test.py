#!/usr/bin/env python3
"""Runs every test of the workspace, several test programs at a time: most of what they do is wait for engines and stores.

    testenv/test.py                 all of them, and the examples in docstrings
    testenv/test.py gateway store   the programs and the tests whose names contain one of these words
    testenv/test.py --jobs 1        one program after the other

Programs are built by one `cargo test --no-run`, so that no build runs beside a test. The output of a program that fails is
printed; of the others, how many passed and how long it took.
"""

import argparse
import collections
import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys
import time

WORKSPACE = ["--locked", "--workspace", "--features", "weir/cluster"]
# A program in its crate's folder, as `cargo test` would run it.
Program = collections.namedtuple("Program", "name path folder")
# What takes longest begins first, so that nothing long is left at the end.
LONGEST = ["weir-memory-external it", "weir-memory it", "weir it", "weir-embed it"]


def cargo(*arguments, check=True, **options):
    return subprocess.run([os.environ.get("CARGO", "cargo"), *arguments], check=check, **options)


def passes(output):
    return sum(map(int, re.findall(r"^test result: .*?(\d+) passed", output, re.MULTILINE)))


def built():
    """Builds every test program; those of the workspace's crates, the longest first."""
    output = cargo("test", *WORKSPACE, "--no-run", "--message-format=json-render-diagnostics", stdout=subprocess.PIPE, text=True).stdout
    programs = []
    for line in output.splitlines():
        message = json.loads(line)
        if message["reason"] == "compiler-artifact" and message.get("executable") and message["profile"]["test"]:
            folder = pathlib.Path(message["manifest_path"]).parent
            url, _, version = message["package_id"].partition("#")
            package = version.split("@")[0] if "@" in version else url.rsplit("/", 1)[-1]
            target = "lib" if "lib" in message["target"]["kind"] else message["target"]["name"]
            name = f"{package} {target}"
            programs.append(Program(name, message["executable"], folder))
    rank = {name: place for place, name in enumerate(LONGEST)}
    return sorted(programs, key=lambda program: (rank.get(program.name, len(rank)), program.name))


def run(program, words):
    """Its exit status, its output and the seconds that it took."""
    started = time.monotonic()
    environment = dict(os.environ, CARGO_MANIFEST_DIR=str(program.folder))
    done = subprocess.run([program.path, *words], cwd=program.folder, env=environment, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    return done.returncode, done.stdout, time.monotonic() - started


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="run only what is named like one of these")
    parser.add_argument("--jobs", type=int, default=3, help="programs at the same time [default: 3]")
    arguments = parser.parse_args()
    programs = built()
    failed, passed = [], 0
    with concurrent.futures.ThreadPoolExecutor(max(1, arguments.jobs)) as pool:
        def begin(program):
            named = any(word in program.name for word in arguments.words)
            return pool.submit(run, program, [] if named else arguments.words)
        running = {begin(program): program for program in programs}
        for done in concurrent.futures.as_completed(running):
            program, (status, output, seconds) = running[done], done.result()
            count = passes(output)
            passed += count
            if status:
                failed.append(program.name)
                print(output, flush=True)
            if status or count:
                print(f"{'FAILED' if status else 'ok':6} {program.name:<32} {count:>5} passed {seconds:6.1f} s", flush=True)
    if not arguments.words:
        examples = cargo("test", *WORKSPACE, "--doc", "--quiet", check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        passed += passes(examples.stdout)
        if examples.returncode:
            failed.append("the examples in docstrings")
            print(examples.stdout, flush=True)
    if failed:
        sys.exit(f"test: {passed} passed; failures in {', '.join(sorted(failed))}")
    if not passed:
        sys.exit(f"test: no test is named like {' or '.join(arguments.words)}")
    print(f"test: {passed} passed")


if __name__ == "__main__":
    main()
