"""Headless Chromium over its own debugging pipe: a browser for tests with nothing but the standard library."""

import base64
import json
import os
import select
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
PATIENCE = 60.0


class Page:
    """One tab: what it logged, what it asked for, and what runs in it."""

    def __init__(self, profile: Path) -> None:
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()

        def fds() -> None:  # Chromium reads commands from 3 and writes answers to 4
            a, b = os.dup(to_read), os.dup(to_write)
            os.dup2(a, 3)
            os.dup2(b, 4)

        self._process = subprocess.Popen(
            ["chromium", *FLAGS, f"--user-data-dir={profile}"],
            pass_fds=(3, 4, to_read, to_write),
            preexec_fn=fds,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self._buffer = b""
        self._next = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")

    def __enter__(self) -> "Page":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session = None
        os.write(self._write, json.dumps({"id": 0, "method": "Browser.close"}).encode() + b"\0")
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._read)
        os.close(self._write)

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """One command and its result."""
        self._next += 1
        message = {"id": self._next, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._next:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']}")
                return dict(answer["result"])
            self.events.append(answer)

    def _receive(self) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
            chunk = os.read(self._read, 1 << 20) if ready else b""
            if not chunk:
                raise AssertionError(f"Chromium gave no answer within {PATIENCE:.0f} s")
            self._buffer += chunk
        message, self._buffer = self._buffer.split(b"\0", 1)
        return dict(json.loads(message))

    def open(
        self, file: Path, *, at: str = "", width: int = 1280, height: int = 900, dark: bool = False, script: bool = True
    ) -> None:
        """Open a file from disk, at an anchor of it if one is given, and wait until it has loaded."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.send("Emulation.setScriptExecutionDisabled", value=not script)
        self._load("about:blank")  # another anchor of the file that is open would not load it again
        self._load(file.resolve().as_uri() + (f"#{at}" if at else ""))

    def _load(self, url: str) -> None:
        self.events.clear()
        self.send("Page.navigate", url=url)
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._receive())

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        result = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def show(self, anchor: str) -> None:
        """Go to an anchor of the page that is open, and wait until that is laid out."""
        self.run(f"location.hash = {json.dumps(anchor)}")
        self.settle()

    def settle(self) -> None:
        """Wait until what was asked for is laid out."""
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done))))")

    def screenshot(self, whole: bool = False, **options: Any) -> bytes:
        """What the tab shows, as PNG."""
        shot = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole, **options)
        return base64.b64decode(shot["data"])

    def complaints(self) -> list[str]:
        """Console errors and warnings, exceptions, and blocked or failed loads so far."""
        found = []
        for event in self.events:
            if event["method"] == "Runtime.exceptionThrown":
                found.append(str(event["params"]["exceptionDetails"]))
            if event["method"] == "Runtime.consoleAPICalled" and event["params"]["type"] in ("error", "warning"):
                found.append(str(event["params"]["args"]))
            if event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] in ("error", "warning"):
                found.append(event["params"]["entry"]["text"])
            if event["method"] == "Network.loadingFailed":
                found.append(event["params"]["errorText"])
        return found

    def requests(self) -> list[str]:
        """Every address that the page asked for, data URIs aside."""
        sent = [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]
        return [url for url in sent if not url.startswith("data:")]


def open_all_pages(page: Page, file: Path, *, dark: bool = False) -> None:
    """Open a report and go through all of its pages, so that each of them is made."""
    page.open(file, dark=dark)
    for id in page_ids(page):
        page.show(id)


def page_ids(page: Page) -> list[str]:
    """The pages of the report that is open, in the order of its navigation."""
    return [
        str(id) for id in page.run("Array.from(document.querySelectorAll('section.page'), (section) => section.id)")
    ]
