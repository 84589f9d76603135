"""A hub on this machine: enough of its HTTP for a model or a dataset to be downloaded, which only one token may do."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Serves the folder as `owner/name`, to those who bring the token."""

    def __init__(self, folder: Path, repo: str, token: str, kind: str = "model") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.repo, self.token, self.kind = folder, repo, token, kind
        self.asked: list[tuple[str, bool]] = []  # path, and whether the token came with it
        self.sent: list[tuple[str, int, int]] = []  # of files: path, first byte, how many bytes
        self.drops: dict[str, int] = {}  # path -> after so many bytes its connection breaks, once
        self.stuck = ""  # a path after whose first half nothing more comes
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def bytes_of(self, name: str) -> int:
        """How many bytes of a file have been sent in all."""
        return sum(count for path, _, count in self.sent if path == name)


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_POST(self) -> None:
        self._posted = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        hub, path = self.server, unquote(urlsplit(self.path).path)
        authorization = self.headers.get("Authorization", "")
        allowed = authorization == f"Bearer {hub.token}"
        hub.asked.append((path, allowed))
        api = f"/api/{hub.kind}s/{hub.repo}"
        files = f"/datasets/{hub.repo}/resolve/" if hub.kind == "dataset" else f"/{hub.repo}/resolve/"
        if not path.startswith((api, files)):
            self._send(404, {"X-Error-Code": "RepoNotFound"}, b"", body)
        elif not allowed:
            # a server may well repeat what it was sent
            headers = {"X-Error-Code": "GatedRepo", "X-Error-Message": f"no access with {authorization!r}"}
            self._send(403, headers, json.dumps({"error": f"no access with {authorization!r}"}).encode(), body)
        elif path.startswith(files):
            revision, _, name = path.removeprefix(files).partition("/")
            self._file(revision, name, body)
        elif path == api or path.startswith(f"{api}/revision/"):
            self._about(path.removeprefix(f"{api}/revision/") if path != api else "main", body)
        elif path == f"{api}/auth-check":
            self._json({}, body)
        elif path.startswith(f"{api}/paths-info/"):
            self._json([self._entry(hub.folder / each) for each in parse_qs(self._posted.decode())["paths"]], body)
        else:
            under = hub.folder / path.removeprefix(f"{api}/tree/").partition("/")[2]
            self._json([self._entry(each) for each in sorted(under.rglob("*"))], body)

    def _about(self, revision: str, body: bool) -> None:
        hub = self.server
        if revision not in ("main", COMMIT):
            self._send(404, {"X-Error-Code": "RevisionNotFound"}, b"", body)
            return
        siblings = [{"rfilename": str(file.relative_to(hub.folder))} for file in sorted(hub.folder.rglob("*"))]
        self._json({"id": hub.repo, "sha": COMMIT, "private": False, "siblings": siblings}, body)

    def _entry(self, path: Path) -> dict[str, object]:
        name = str(path.relative_to(self.server.folder))
        if path.is_dir():
            return {"type": "directory", "path": name, "oid": "0" * 40}
        return {"type": "file", "path": name, "size": path.stat().st_size, "oid": _sha(path)}

    def _json(self, content: object, body: bool) -> None:
        self._send(200, {"Content-Type": "application/json"}, json.dumps(content).encode(), body)

    def _file(self, revision: str, name: str, body: bool) -> None:
        path = self.server.folder / name
        if revision not in ("main", COMMIT):
            self._send(404, {"X-Error-Code": "RevisionNotFound"}, b"", body)
            return
        if not path.is_file():
            self._send(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, b"", body)
            return
        content, headers = path.read_bytes(), {"ETag": f'"{_sha(path)}"', "X-Repo-Commit": COMMIT}
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send(206 if start else 200, headers, content[start:], body, name=name, start=start)

    def _send(
        self, status: int, headers: dict[str, str], content: bytes, body: bool, *, name: str = "", start: int = 0
    ) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if not body:
            return
        hub = self.server
        is_stuck = bool(name) and name == hub.stuck
        size = len(content) // 2 if is_stuck else hub.drops.pop(name, len(content))
        if name:
            hub.sent.append((name, start, size))
        self.wfile.write(content[:size])
        if is_stuck:
            self.wfile.flush()
            hub.released.wait()
        self.close_connection |= size < len(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def _sha(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()


@contextmanager
def serving(folder: Path, repo: str, token: str, kind: str = "model") -> Iterator[Hub]:
    hub = Hub(folder, repo, token, kind)
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.released.set()
        hub.shutdown()
        hub.server_close()
        thread.join()
