"""A headless Chromium for tests, spoken to through two pipes: no port, no driver, no package."""

import base64
import json
import os
import select
import shutil
import subprocess
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def find() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


class Server:
    """``folder`` at ``address``, on this machine alone, as long as the ``with`` block lasts."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    def __init__(self, folder: Path):
        self.server = ThreadingHTTPServer(
            ("127.0.0.1", 0), partial(self.Quiet, directory=str(folder))
        )
        self.server.handle_error = lambda *_: None  # a page may end a download
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> "Server":
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.server.shutdown()
        self.server.server_close()


class Page:
    """One tab. ``errors``: what the console was told; ``requests``: every address asked for, and no
    host but this machine is found.
    """

    def __init__(self, profile: Path, width: int = 1400, height: int = 900, before: str = ""):
        read_end, self._to = os.pipe()
        self._from, write_end = os.pipe()
        options = (
            f"--headless=new --no-sandbox --disable-gpu --no-first-run --disable-dev-shm-usage "
            f"--host-resolver-rules='MAP * ~NOTFOUND, EXCLUDE 127.0.0.1' "
            f"--remote-debugging-pipe --user-data-dir='{profile}' about:blank"
        )
        self._process = subprocess.Popen(  # Chromium listens at 3 and answers at 4
            ["bash", "-c", f"exec '{find()}' {options} 3<&{read_end} 4>&{write_end}"],
            pass_fds=(read_end, write_end), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(read_end)
        os.close(write_end)
        self._rest, self._number, self._session = b"", 0, ""
        self.errors: list[str] = []
        self.requests: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        # Workers ask for files, too.
        self.call(
            "Target.setAutoAttach", autoAttach=True, waitForDebuggerOnStart=False, flatten=True
        )
        self.call("Page.addScriptToEvaluateOnNewDocument", source=before)
        self.resize(width, height)

    def __enter__(self) -> "Page":
        return self

    def __exit__(self, *_) -> None:
        self._process.terminate()
        self._process.wait(timeout=30)
        os.close(self._to)
        os.close(self._from)

    def _send(self, method: str, session: str, params: dict) -> int:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        data = json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0"
        while data:
            data = data[os.write(self._to, data) :]
        return self._number

    def _receive(self, deadline: float) -> dict:
        while b"\0" not in self._rest:
            wait = deadline - time.monotonic()
            if wait <= 0 or not select.select([self._from], [], [], wait)[0]:
                raise TimeoutError("the browser did not answer in time")
            data = os.read(self._from, 1 << 20)
            if not data:
                raise ConnectionError("the browser has ended")
            self._rest += data
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)

    def _note(self, message: dict) -> None:
        params, method = message.get("params", {}), message.get("method")
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(params["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            self.errors.append(str([a.get("value", a.get("description")) for a in params["args"]]))
        elif method == "Target.attachedToTarget" and self._session:
            self._send("Network.enable", params["sessionId"], {})

    def call(self, method: str, timeout: float = 120.0, **params):
        """The answer to a command of the DevTools protocol."""
        number, deadline = self._send(method, self._session, params), time.monotonic() + timeout
        while True:
            message = self._receive(deadline)
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]
            self._note(message)

    def resize(self, width: int, height: int = 900) -> None:
        size = {"width": width, "height": height}
        self.call("Emulation.setDeviceMetricsOverride", **size, deviceScaleFactor=1, mobile=False)

    def open(self, address: str, ready: str = "true") -> None:
        """Go to ``address`` and wait until ``ready`` holds there; errors and requests are new."""
        self.call("Page.navigate", url="about:blank")
        self.wait("location.href === 'about:blank'")
        self.errors.clear()
        self.requests.clear()
        self.call("Page.navigate", url=address)
        there = "location.href !== 'about:blank' && document.readyState === 'complete'"
        self.wait(f"{there} && ({ready})")

    def evaluate(self, expression: str, timeout: float = 120.0):
        """The value of ``expression``, awaited if it is a promise."""
        answer = self.call(
            "Runtime.evaluate", timeout,
            expression=expression, awaitPromise=True, returnByValue=True, userGesture=True,
        )  # fmt: skip
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"].get("description"))
        return answer["result"].get("value")

    def wait(self, condition: str, timeout: float = 120.0) -> float:
        """Seconds until ``condition`` held."""
        began = time.monotonic()
        while not self.evaluate(f"Boolean({condition})"):
            if time.monotonic() - began > timeout:
                raise TimeoutError(f"in {timeout:.0f} s it never held that {condition}")
            time.sleep(0.01)
        return time.monotonic() - began

    def move(self, x: float, y: float) -> None:
        """The pointer, to a place in the window."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def screenshot(self, path: Path, whole: bool = True) -> None:
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))
