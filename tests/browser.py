"""A headless Chromium for tests, driven over a pipe by its DevTools protocol: no package needed."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WAIT = 60


def find_browser() -> str | None:
    """Return the path of a Chromium or Chrome, or None."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


def require_browser() -> str:
    """Return the path of a Chromium or Chrome; without one skip, but fail where CI must have it."""
    found = find_browser()
    if found is not None:
        return found
    missing = "no Chromium or Chrome is installed (Debian: apt-get install chromium)"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


class Browser:
    """One browser with one page. Every request and every error of the page is kept."""

    def __init__(self, program: str, profile: Path) -> None:
        read_low, self._write = os.pipe()
        self._read, write_low = os.pipe()
        # Out of the way of 3 and 4, where they are wanted in the end.
        read_end, write_end = (fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (read_low, write_low))
        options = [
            program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--no-first-run", "--disable-background-networking", "--force-color-profile=srgb",
            f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank",
        ]  # fmt: skip
        # The browser reads commands from file 3 and answers into file 4.
        move = f"import os, sys; os.dup2({read_end}, 3); os.dup2({write_end}, 4);"
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"{move} os.execv(sys.argv[1], sys.argv[1:])", *options],
            pass_fds=(read_end, write_end),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for end in (read_low, write_low, read_end, write_end):
            os.close(end)
        self._buffer = b""
        self._calls = 0
        self._session: str | None = None
        self.requests: list[str] = []
        self.errors: list[str] = []
        (page,) = (
            target
            for target in self.call("Target.getTargets")["targetInfos"]
            if target["type"] == "page"
        )
        attached = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        # As if its window were in front: elements get the keyboard's focus.
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call the browser and return its answer; what happens meanwhile is noted."""
        self._calls += 1
        message: dict[str, Any] = {"id": self._calls, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._calls:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = os.read(self._read, 2**16)
            if not part:
                raise EOFError("the browser has ended")
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer

    def _note(self, event: dict[str, Any]) -> None:
        name, what = event.get("method"), event.get("params", {})
        if name == "Network.requestWillBeSent":
            self.requests.append(what["request"]["url"])
        elif name == "Runtime.exceptionThrown":
            self.errors.append(str(what["exceptionDetails"]))
        elif name == "Log.entryAdded":
            self.errors.append(what["entry"]["text"])
        elif name == "Runtime.consoleAPICalled" and what["type"] in ("error", "assert", "warning"):
            self.errors.append(f"console.{what['type']}: {what['args']}")
        elif name == "Page.javascriptDialogOpening":
            self.errors.append(f"a dialog: {what['message']}")

    def open(self, file: Path, width: int = 1400, height: int = 1000) -> None:
        """Load a file and wait until all of it stands; forget what was noted before."""
        self.call("Page.navigate", url="about:blank")
        self.until("location.href === 'about:blank'")
        self.requests.clear()
        self.errors.clear()
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        self.call("Page.navigate", url=file.resolve().as_uri())
        self.until("location.protocol === 'file:' && document.readyState === 'complete'")

    def value(self, expression: str) -> Any:
        """Return what a JavaScript expression is in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, expression: str) -> None:
        """Wait for an expression to become true."""
        end = time.monotonic() + WAIT
        while not self.value(expression):
            assert time.monotonic() < end, expression
            time.sleep(0.02)

    def point_at(self, selector: str) -> None:
        """Move the mouse onto the first element that a selector finds."""
        found = f"document.querySelector({json.dumps(selector)})"
        self.value(f"{found}.scrollIntoView({{block: 'center'}})")
        place = self.value(
            f"(r => [r.x + r.width / 2, r.y + r.height / 2])({found}.getClientRects()[0])"
        )
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=place[0], y=place[1])

    def press(self, key: str) -> None:
        """Press and release a key."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def screenshot(self, file: Path) -> None:
        """Save what is seen as a PNG."""
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def close(self) -> None:
        """End the browser and everything that it started."""
        os.close(self._write)
        os.close(self._read)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
