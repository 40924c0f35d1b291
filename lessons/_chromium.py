"""A headless Chromium and one page of it, driven by the DevTools protocol: https://chromedevtools.github.io/devtools-protocol.

The browser is that of the system; the only library needed is `websockets`, which marimo brings.
"""

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from websockets.sync.client import connect

__all__ = ["Page", "chromium", "find_chromium"]

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "C:/Program Files/Google/Chrome/Application/chrome.exe",
)
# No traffic of the browser itself: no updates, no reports, no start pages.
OPTIONS = (
    "--headless",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-domain-reliability",
    "--disable-extensions",
    "--disable-gpu",
    "--disable-sync",
    "--no-default-browser-check",
    "--no-first-run",
    "--no-pings",
    "--remote-debugging-port=0",
)
START_SECONDS = 60


def find_chromium():
    """Return the path of Chromium or a browser of its kind; the message of the ValueError tells how to install one."""
    for name in (*NAMES, *PLACES):
        if path := shutil.which(name):
            return path
    raise ValueError("no Chromium found: apt-get install chromium (Debian, Ubuntu), or install Chrome")


@contextlib.contextmanager
def chromium():
    """Start a headless Chromium with an empty profile, and yield its only page, blank, inside a `with` block."""
    path = find_chromium()
    # Root, as in containers, has no sandbox to give; all pages are ours.
    options = [*OPTIONS, "--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else OPTIONS
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [path, *options, f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            with connect(_address(process, Path(profile, "DevToolsActivePort")), max_size=None) as connection:
                yield Page(connection)
        finally:
            _end(process)


def _address(process, file):
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(FileNotFoundError, ValueError):
            port, path = file.read_text(encoding="utf-8").split()
            return f"ws://127.0.0.1:{port}{path}"
        time.sleep(0.02)
    raise ValueError(f"Chromium did not start within {START_SECONDS} s")


def _end(process):
    # With the children, which keep the profile's files open.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL) if hasattr(os, "killpg") else process.kill()
    process.wait()


class Page:
    """A page of the browser, and what happened on it since it was opened.

    `requests`: addresses that the page or its workers requested; `complaints`: errors and warnings on the console, and
    uncaught exceptions.
    """

    def __init__(self, connection):
        self.requests, self.complaints = [], []
        self._connection, self._count, self._session = connection, 0, None
        (target,) = (t for t in self.send("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self._session = self.send("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method, *, timeout=60, **arguments):
        """Call a method of the protocol ("Page.navigate") and return its result, a dict.

        RuntimeError if the browser refuses, TimeoutError without a reply in `timeout` seconds.
        """
        self._count += 1
        message = {"id": self._count, "method": method, "params": arguments}
        if self._session:
            message["sessionId"] = self._session
        self._connection.send(json.dumps(message))
        while True:
            reply = json.loads(self._connection.recv(timeout))
            if reply.get("id") != message["id"]:
                self._note(reply)
            elif "error" in reply:
                raise RuntimeError(f"{method}: {reply['error']['message']}")
            else:
                return reply["result"]

    def _note(self, event):
        values = event.get("params", {})
        match event.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(values["request"]["url"])
            case "Network.webSocketCreated":
                self.requests.append(values["url"])
            case "Runtime.exceptionThrown":
                details = values["exceptionDetails"]
                self.complaints.append(details.get("exception", {}).get("description") or details["text"])
            case "Runtime.consoleAPICalled" if values["type"] in ("error", "assert"):
                words = (str(word.get("value", word.get("description", ""))) for word in values["args"])
                self.complaints.append(" ".join(words))
            case "Log.entryAdded" if values["entry"]["level"] == "error":
                self.complaints.append(f"{values['entry']['text']} {values['entry'].get('url', '')}".strip())

    def open(self, url):
        """Open an address of http or file; `requests` and `complaints` begin anew. RuntimeError if nothing is there."""
        # The last events of the previous page must not be counted.
        self.send("Page.navigate", url="about:blank")
        self.evaluate("1")
        self.requests.clear()
        self.complaints.clear()
        reply = self.send("Page.navigate", url=url)
        if reply.get("errorText"):
            raise RuntimeError(f"{url}: {reply['errorText']}")

    def evaluate(self, expression):
        """Evaluate JavaScript on the page: a value for JSON, or a promise of it. RuntimeError if it throws."""
        reply = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in reply:
            details = reply["exceptionDetails"]
            raise RuntimeError(details.get("exception", {}).get("description") or details["text"])
        return reply["result"].get("value")

    def wait_for(self, expression, *, seconds=60):
        """Wait until a JavaScript expression, evaluated repeatedly, is true; TimeoutError if it stays false."""
        deadline = time.monotonic() + seconds
        while True:
            # While a page is being replaced, nothing can be evaluated.
            with contextlib.suppress(RuntimeError):
                if self.evaluate(f"Boolean({expression})"):
                    return
            if time.monotonic() > deadline:
                raise TimeoutError(f"still false after {seconds} s: {expression}")
            time.sleep(0.03)

    def press(self, key):
        """Press and release a key, such as "ArrowRight" or "Tab"."""
        codes = {"Tab": 9, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        for kind in ("rawKeyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key])

    def look(self, width, *, height=900, scale=1, scheme="light"):
        """Set the window in CSS pixels, the screen's pixels per CSS pixel, and the colour scheme, "light" or "dark"."""
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def picture(self):
        """Return a PNG of the window."""
        return base64.b64decode(self.send("Page.captureScreenshot")["data"])

    def pdf(self):
        """Return the page as printed on A4."""
        margins = {f"margin{side}": 0.5 for side in ("Top", "Bottom", "Left", "Right")}
        paper = {"paperWidth": 8.27, "paperHeight": 11.69, "printBackground": True, **margins}
        return base64.b64decode(self.send("Page.printToPDF", timeout=120, **paper)["data"])
