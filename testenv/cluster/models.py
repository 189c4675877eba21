#!/usr/bin/env python3
"""A model hub for the test cluster: the fetched files over https, with the faults that a test asks for.

    testenv/cluster/models.py --state DIR [--listen 10.244.0.1:8443] [--folder ~/.cache/weir]

It serves `/models/...` of the folder (the embedder is /models/all-minilm-l6-v2/), with HEAD, ETag, If-None-Match, If-Range and
one Range a request. It makes an authority of its own in the state folder once: give `DIR/ca.crt` to whoever fetches. It prints one
line of JSON with `url` and `ca` when it listens, and runs until SIGTERM.

A fault is written into the query of a file's address, or set for a path with `POST /control/faults`:

    {"path": "/models/x.gguf", "times": 2, "fault": {"status": 503}}     `times` omitted: for ever; {"path": "*"}: every file

    status=503              answer with that status
    cutAfterBytes=N         send N bytes of the body, then close the connection
    bytesPerSecond=N        send no faster than that
    delaySeconds=S          wait before the answer
    etag=NAME               another version of the file, as far as its ETag tells

`GET /control/requests` is every request for a file so far, with its range, status and bytes sent; `DELETE` forgets them.
`DELETE /control/faults` ends all faults.
"""

import argparse
import contextlib
import dataclasses
import email.utils
import http
import http.server
import json
import pathlib
import re
import signal
import ssl
import subprocess
import sys
import threading
import time
import urllib.parse

SERVED = "models"
BLOCK = 64 * 1024
# A name for pods, where somebody makes a Service of it.
IN_CLUSTER = "models.weir-hub.svc"


@dataclasses.dataclass
class Fault:
    status: int = 0
    cutAfterBytes: int = -1
    bytesPerSecond: int = 0
    delaySeconds: float = 0.0
    etag: str = ""

    @classmethod
    def read(cls, words):
        """From a query or from JSON; an unknown word is an error, so that no test runs without its fault."""
        kinds = {field.name: field.type for field in dataclasses.fields(cls)}
        if unknown := set(words) - set(kinds):
            raise ValueError(f"no fault is called {', '.join(sorted(unknown))}; there are {', '.join(kinds)}")
        return cls(**{name: kinds[name](value) for name, value in words.items()})


class Hub:
    """What the requests share: the files, the faults that are set, the record of requests."""

    def __init__(self, folder):
        self.folder = folder
        self.lock = threading.Lock()
        self.faults = []
        self.requests = []

    def file(self, path):
        parts = pathlib.PurePosixPath(urllib.parse.unquote(path)).parts[1:]
        if len(parts) < 2 or parts[0] != SERVED or ".." in parts or any(part.startswith(".") for part in parts):
            return None
        found = self.folder.joinpath(*parts)
        return found if found.is_file() else None

    def set_fault(self, rule):
        fault = Fault.read(rule["fault"])
        with self.lock:
            self.faults.append([rule["path"], rule.get("times"), fault])

    def fault(self, path, query):
        if query:
            return Fault.read(dict(urllib.parse.parse_qsl(query)))
        with self.lock:
            for rule in self.faults:
                if rule[0] in ("*", path) and rule[1] != 0:
                    rule[1] = rule[1] and rule[1] - 1
                    return rule[2]
        return Fault()

    def record(self, **facts):
        with self.lock:
            self.requests.append(facts)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub = None

    def log_message(self, *_):
        """The record of requests is the log."""

    def do_HEAD(self):
        self.serve_file(head=True)

    def do_GET(self):
        if self.path == "/control/requests":
            with self.hub.lock:
                return self.answer(200, json.dumps(self.hub.requests).encode())
        self.serve_file(head=False)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path != "/control/faults":
            return self.answer(404)
        try:
            self.hub.set_fault(json.loads(body))
        except (ValueError, KeyError, TypeError) as error:
            return self.answer(400, f"{error}".encode())
        self.answer(204)

    def do_DELETE(self):
        forgotten = {"/control/requests": self.hub.requests, "/control/faults": self.hub.faults}.get(self.path)
        if forgotten is None:
            return self.answer(404)
        with self.hub.lock:
            forgotten.clear()
        self.answer(204)

    def answer(self, status, body=b"", head=False, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if status not in (204, 304) and "content_length" not in headers:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        if not head:
            self.wfile.write(body)

    def serve_file(self, head):
        path, _, query = self.path.partition("?")
        sent, status = 0, 500
        try:
            fault = self.hub.fault(path, query)
            time.sleep(fault.delaySeconds)
            file = self.hub.file(path)
            status = fault.status or (200 if file else 404)
            if status == 200:
                status, first, length = self.open_answer(file, fault)
                if not head and status in (200, 206):
                    sent = self.send_body(file, first, length, fault)
            else:
                self.answer(status, f"{http.HTTPStatus(status).phrase}\n".encode(), head)
        except ValueError as error:
            status = 400
            self.answer(status, f"{error}\n".encode(), head)
        except OSError:
            self.close_connection = True
        finally:
            self.hub.record(method=self.command, path=path, query=query, range=self.headers.get("range"),
                            status=status, bytesSent=sent, client=self.client_address[0])

    def open_answer(self, file, fault):
        """Send the head of the answer: its status, and the first byte and length of the body that is due."""
        facts = file.stat()
        etag = f'"{fault.etag or f"{facts.st_size:x}-{facts.st_mtime_ns:x}"}"'
        headers = {"etag": etag, "accept_ranges": "bytes", "content_type": "application/octet-stream",
                   "last_modified": email.utils.formatdate(facts.st_mtime, usegmt=True)}
        if etag in self.headers.get("if-none-match", ""):
            self.answer(304, head=True, **headers)
            return 304, 0, 0
        first, last = self.range(facts.st_size) if self.headers.get("if-range", etag) == etag else (None, None)
        if first is None:
            self.answer(200, head=True, content_length=str(facts.st_size), **headers)
            return 200, 0, facts.st_size
        if first >= facts.st_size or last < first:
            self.answer(416, content_range=f"bytes */{facts.st_size}", **headers)
            return 416, 0, 0
        headers["content_range"] = f"bytes {first}-{last}/{facts.st_size}"
        self.answer(206, head=True, content_length=str(last - first + 1), **headers)
        return 206, first, last - first + 1

    def range(self, size):
        """The first and last byte asked for, or nothing for the whole file (RFC 9110, section 14: unknown ranges are ignored)."""
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("range", ""))
        if not asked or asked[0] == "bytes=-":
            return None, None
        if not asked[1]:
            return max(0, size - int(asked[2])), size - 1
        return int(asked[1]), min(size - 1, int(asked[2] or size - 1))

    def send_body(self, file, first, length, fault):
        sent, began = 0, time.monotonic()
        due = length if fault.cutAfterBytes < 0 else min(length, fault.cutAfterBytes)
        with open(file, "rb") as source, contextlib.suppress(OSError):
            source.seek(first)
            block = min(BLOCK, max(1, fault.bytesPerSecond // 10)) if fault.bytesPerSecond else BLOCK
            while sent < due:
                piece = source.read(min(block, due - sent))
                self.wfile.write(piece)
                sent += len(piece)
                if fault.bytesPerSecond:
                    time.sleep(max(0.0, began + sent / fault.bytesPerSecond - time.monotonic()))
        if sent < length:
            self.close_connection = True
        return sent


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A client that goes away or distrusts the certificate is not this server's failure."""


def authority(state, host):
    """Make `ca.crt`, and `tls.crt` with `tls.key` for `host`, unless they are there."""
    def openssl(*words):
        subprocess.run(["openssl", *words], cwd=state, check=True, capture_output=True)

    state.mkdir(parents=True, exist_ok=True)
    if not (state / "tls.crt").is_file():
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"]
        openssl("req", "-x509", *key, "-subj", "/CN=weir test models", "-keyout", "ca.key", "-out", "ca.crt")
        openssl("req", "-x509", *key, "-subj", "/CN=models", "-CA", "ca.crt", "-CAkey", "ca.key", "-keyout", "tls.key",
                "-out", "tls.crt", "-addext", f"subjectAltName=IP:{host},IP:127.0.0.1,DNS:localhost,DNS:{IN_CLUSTER}",
                "-addext", "basicConstraints=critical,CA:FALSE")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(state / "tls.crt", state / "tls.key")
    return context


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=pathlib.Path, required=True, metavar="DIR", help="certificates")
    parser.add_argument("--listen", default="10.244.0.1:8443", metavar="ADDRESS:PORT", help="port 0: any that is free")
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path.home() / ".cache" / "weir", metavar="DIR")
    args = parser.parse_args()
    host, port = args.listen.rsplit(":", 1)
    context = authority(args.state, host)
    Handler.hub = Hub(args.folder)
    server = Server((host, int(port)), Handler)
    # The handshake belongs to the request's thread: one slow client must not keep others out.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    facts = {"url": f"https://{host}:{server.server_address[1]}", "ca": str((args.state / "ca.crt").resolve())}
    print(json.dumps(facts), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(0)
