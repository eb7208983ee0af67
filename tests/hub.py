"""A Hub of one's own on 127.0.0.1: the routes by which files are fetched, with the faults that real ones have."""

from __future__ import annotations

import gzip
import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

SURPLUS_PIECE = 1 << 20
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class QuietServer(ThreadingHTTPServer):
    """Says nothing of a client that hangs up in the middle of an answer, as one does whose disk is full."""

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            raise


@dataclass
class Hub:
    """What the server holds, how it misbehaves, and what it was asked.

    `files` are by `owner/name/revision/file`. After `cut_after` bytes of a body the connection drops, `cuts` times.
    A body is followed by `surplus` bytes that no header tells of, or is sent with the Content-Encoding `encoding`.
    With `has_storage` files are handed out by a store under another name, as large ones are. `status` answers
    everything, `error_code` is the Hub's own name of it. `sent` counts the surplus that was sent. `requests` are
    (method, path, headers).
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    cut_after: int = 0
    cuts: int = 0
    surplus: int = 0
    encoding: str = ""
    sent: int = 0
    status: int = 0
    error_code: str = ""
    knows_ranges: bool = True
    tells_sha256: bool = True
    has_storage: bool = False
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def ranges(self) -> list[str | None]:
        """The Range header of each GET."""
        return [headers.get("range") for method, _, headers in self.requests if method == "GET"]


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """Within, a Hub listens."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Silent."""

        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def answer(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            hub.requests.append((self.command, self.path, headers))
            body = hub.files.get(self.path.removeprefix("/store").strip("/").replace("/resolve", "", 1))
            if hub.status or body is None:
                self.send_response(hub.status or 404)
                code = hub.error_code or ("" if hub.status else self.missing())
                if code:
                    self.send_header("X-Error-Code", code)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if hub.has_storage and not self.path.startswith("/store/"):
                self.send_response(302)
                self.send_header("Location", f"{hub.url.replace('127.0.0.1', 'localhost')}/store{self.path}")
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("X-Linked-ETag", f'"{hashlib.sha256(body).hexdigest()}"')
                self.send_header("X-Linked-Size", str(len(body)))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start = 0
            if hub.knows_ranges and "range" in headers:
                start = int(headers["range"].removeprefix("bytes=").partition("-")[0])
            self.send_response(206 if start else 200)
            tag = hashlib.sha256(body).hexdigest() if hub.tells_sha256 else hashlib.sha1(body).hexdigest()
            self.send_header("ETag", f'"{tag}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Accept-Ranges", "bytes")
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            if self.command == "GET" and hub.encoding:
                body = gzip.compress(body)
                self.send_header("Content-Encoding", hub.encoding)
            if self.command == "GET" and hub.surplus:
                self.send_header("Connection", "close")  # whose end is the end of the body
            else:
                self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            if self.command == "HEAD":
                return
            if hub.surplus:
                self.close_connection = True
                self.wfile.write(body[start:])
                for _ in range(hub.surplus // SURPLUS_PIECE):
                    self.wfile.write(bytes(SURPLUS_PIECE))
                    hub.sent += SURPLUS_PIECE
                return
            if hub.cuts:
                hub.cuts -= 1
                body = body[: start + hub.cut_after]
                self.close_connection = True
            self.wfile.write(body[start:])

        def missing(self) -> str:
            """What the Hub calls what is not there."""
            owner, name, _, revision = [*self.path.strip("/").split("/"), "", "", ""][:4]
            if not any(file.startswith(f"{owner}/{name}/") for file in hub.files):
                return "RepoNotFound"
            known = any(file.startswith(f"{owner}/{name}/{revision}/") for file in hub.files)
            return "EntryNotFound" if known else "RevisionNotFound"

    server = QuietServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
