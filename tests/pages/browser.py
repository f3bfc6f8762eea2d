"""A headless Chromium, driven over its DevTools protocol: how a page looks, and what it requests from the network."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

# No sandbox: CI containers run as root and have none. No network but the page's own is a claim of the tests, so nothing
# of the browser's own may stand between.
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)

START_S = 30
"""Seconds a browser may take to start."""


class NoBrowser(Exception):
    """There is no Chromium, which all these tests need."""


def executable() -> str:
    """Return the browser: `$CHROMIUM`, or the first of `NAMES` on the path.

    Raises:

    NoBrowser: there is none. Pages without a browser are not tested, so this is no skip.
    """
    found = os.environ.get("CHROMIUM") or next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        raise NoBrowser(
            f"none of {', '.join(NAMES)} is on the path: apt-get install chromium, or say where it is in $CHROMIUM"
        )
    return found


@dataclass
class Page:
    """One tab."""

    socket: ClientConnection
    requests: list[str] = field(default_factory=list)
    """Requests since the tab opened, except for the page itself."""
    sent: int = 0

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command and return its result; requests reported meanwhile are stored."""
        self.sent += 1
        self.socket.send(json.dumps({"id": self.sent, "method": method, "params": parameters}))
        while True:
            told = json.loads(self.socket.recv(timeout=START_S))
            if told.get("method") == "Network.requestWillBeSent":
                self.requests.append(told["params"]["request"]["url"])
            if told.get("id") == self.sent:
                if "error" in told:
                    raise RuntimeError(f"{method}: {told['error']}")
                return dict(told["result"])

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression; DevTools may run it even if the page may not."""
        told = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in told:
            raise RuntimeError(f"{expression}: {told['exceptionDetails']}")
        return told["result"].get("value")

    def show(self, path: Path, width: int, height: int, *, dark: bool = False, scripts: bool = True) -> None:
        """Open a file on a screen of this size, and wait until it is drawn."""
        self.call("Page.enable")
        self.call("Network.enable")
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.requests.clear()
        self.call("Page.navigate", url=path.as_uri())
        end = time.monotonic() + START_S
        while self.evaluate("document.readyState") != "complete" or self.evaluate("location.href") != path.as_uri():
            if time.monotonic() > end:
                raise TimeoutError(f"{path} was not drawn within {START_S} s")
            time.sleep(0.02)
        self.requests = [url for url in self.requests if url != path.as_uri()]

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """Write the visible part or the whole page as PNG."""
        told = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(told["data"]))


@contextmanager
def opened() -> Iterator[Page]:
    """Start a browser with one tab; end both afterwards."""
    home = Path(tempfile.mkdtemp(prefix="pages."))
    process = subprocess.Popen(
        [executable(), *FLAGS, f"--user-data-dir={home}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        port = _port(home, process)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
            tab = next(tab for tab in json.load(answer) if tab["type"] == "page")
        with connect(tab["webSocketDebuggerUrl"], max_size=None) as socket:
            yield Page(socket)
    finally:
        process.terminate()
        process.wait(START_S)
        shutil.rmtree(home, ignore_errors=True)


def _port(home: Path, process: subprocess.Popen[bytes]) -> str:
    told = home / "DevToolsActivePort"
    end = time.monotonic() + START_S
    while not told.exists() or not told.read_text().strip():
        if process.poll() is not None or time.monotonic() > end:
            raise NoBrowser(f"{executable()} did not start within {START_S} s")
        time.sleep(0.02)
    return told.read_text().splitlines()[0]
