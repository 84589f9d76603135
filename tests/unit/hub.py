"""A hub on this machine: enough of its HTTP for a model to be downloaded, which only one token may do."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Serves the folder as `owner/name`, to those who bring the token."""

    def __init__(self, folder: Path, repo: str, token: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.repo, self.token = folder, repo, token
        self.asked: list[tuple[str, bool]] = []  # path, and whether the token came with it

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        hub, path = self.server, urlsplit(self.path).path
        authorization = self.headers.get("Authorization", "")
        allowed = authorization == f"Bearer {hub.token}"
        hub.asked.append((path, allowed))
        api, files = f"/api/models/{hub.repo}", f"/{hub.repo}/resolve/{COMMIT}/"
        if not path.startswith((api, files)):
            self._send(404, {"X-Error-Code": "RepoNotFound"}, b"", body)
        elif not allowed:
            # a server may well repeat what it was sent
            headers = {"X-Error-Code": "GatedRepo", "X-Error-Message": f"no access with {authorization!r}"}
            self._send(403, headers, json.dumps({"error": f"no access with {authorization!r}"}).encode(), body)
        elif path.startswith(files):
            self._file(hub.folder / path.removeprefix(files), body)
        elif path == api or path.startswith(f"{api}/revision/"):
            self._json({"id": hub.repo, "sha": COMMIT, "private": False, "siblings": self._siblings()}, body)
        else:
            self._json(
                [{"type": "file", "path": f.name, "size": f.stat().st_size, "oid": _sha(f)} for f in self._files()],
                body,
            )

    def _files(self) -> list[Path]:
        return sorted(self.server.folder.iterdir())

    def _siblings(self) -> list[dict[str, str]]:
        return [{"rfilename": file.name} for file in self._files()]

    def _json(self, content: object, body: bool) -> None:
        self._send(200, {"Content-Type": "application/json"}, json.dumps(content).encode(), body)

    def _file(self, path: Path, body: bool) -> None:
        if path.is_file():
            self._send(200, {"ETag": f'"{_sha(path)}"', "X-Repo-Commit": COMMIT}, path.read_bytes(), body)
        else:
            self._send(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, b"", body)

    def _send(self, status: int, headers: dict[str, str], content: bytes, body: bool) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def _sha(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()


@contextmanager
def serving(folder: Path, repo: str, token: str) -> Iterator[Hub]:
    hub = Hub(folder, repo, token)
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
