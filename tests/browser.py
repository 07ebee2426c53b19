"""A headless Chromium, driven through its DevTools protocol by one web socket.

It resolves no host but this machine, so a page that asks another gets no answer, and
``Browser.requests`` says whom it asked.
"""

import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from base64 import b64decode
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


def program() -> str:
    """Where Chromium is; the test is skipped where there is none, or nothing to talk to it."""
    pytest.importorskip("websocket", reason="websocket-client is not installed (extra book)")
    found = next(filter(None, map(shutil.which, NAMES)), None)
    return found or pytest.skip("Chromium is not installed")


class Browser:
    """One page. ``errors`` and ``requests`` are those since it was opened."""

    def __init__(self, patience: float = 300):
        import websocket

        self.folder = tempfile.TemporaryDirectory(prefix="bedgen-", ignore_cleanup_errors=True)
        command = [program(), *FLAGS, f"--user-data-dir={self.folder.name}", "about:blank"]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        port = self._port(patience)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
            (page,) = (p for p in json.load(answer) if p["type"] == "page")
        self.socket = websocket.create_connection(
            page["webSocketDebuggerUrl"], timeout=patience, suppress_origin=True
        )
        self.number, self.events = 0, []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def _port(self, patience: float) -> str:
        file, end = Path(self.folder.name) / "DevToolsActivePort", time.monotonic() + patience
        while time.monotonic() < end and self.process.poll() is None:
            if file.exists() and (lines := file.read_text().splitlines()):
                return lines[0]
            time.sleep(0.1)
        raise RuntimeError("Chromium did not start")

    def close(self) -> None:
        self.socket.close()
        self.process.terminate()
        self.process.wait()
        self.folder.cleanup()

    def call(self, method: str, **parameters) -> dict:
        self.number += 1
        request = {"id": self.number, "method": method, "params": parameters}
        self.socket.send(json.dumps(request))
        while (said := json.loads(self.socket.recv())).get("id") != self.number:
            self.events.append(said)
        assert "error" not in said, f"{method}: {said['error']}"
        return said["result"]

    def run(self, script: str):
        """The value of a JavaScript expression; of a promise, what it comes to."""
        said = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    def open(self, address: str, width: int = 1400, height: int = 900) -> None:
        """Open a page and wait for it and all its formulas."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)
        self.call("Page.navigate", url="about:blank")
        self.events.clear()
        self.call("Page.navigate", url=address)
        loaded = "new Promise(go => document.readyState == 'complete' ? go() : onload = go)"
        while self.run("location.href") == "about:blank":
            time.sleep(0.05)
        self.run(loaded)
        self.run("window.MathJax?.startup?.promise.then(() => true)")

    @property
    def requests(self) -> list[str]:
        sent = (e["params"] for e in self.events if e["method"] == "Network.requestWillBeSent")
        return [event["request"]["url"] for event in sent]

    @property
    def errors(self) -> list[str]:
        """What the console shows as an error."""
        found = []
        for event in self.events:
            said = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                found.append(json.dumps(said["exceptionDetails"])[:500])
            elif event["method"] == "Runtime.consoleAPICalled" and said["type"] == "error":
                found.append(json.dumps(said["args"])[:500])
            elif event["method"] == "Log.entryAdded" and said["entry"]["level"] == "error":
                found.append(f"{said['entry']['text']} {said['entry'].get('url', '')}")
        return found

    def picture(self, path: Path, whole: bool = False) -> None:
        """What the page looks like, as a PNG; ``whole``: down to its end."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        path.write_bytes(b64decode(data))
