"""A headless Chromium for tests of pages, driven through a pipe by its DevTools protocol: no package, no port."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE_SECONDS = 60

# Chromium reads commands from descriptor 3 and writes answers to 4.
LAUNCHER = """
import os, sys
for given, wanted in zip(sys.argv[1:3], (3, 4)):
    os.dup2(int(given), wanted)
    os.close(int(given))
os.execv(sys.argv[3], sys.argv[3:])
"""

KEY_CODES = {"ArrowLeft": 37, "ArrowRight": 39, "ArrowUp": 38, "ArrowDown": 40, "Home": 36, "End": 35, "Tab": 9}


def find_chromium() -> str | None:
    """The browser's program, None where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """One page of a headless Chromium. `requests` are addresses that it asked for, `errors` what it complained of."""

    def __init__(self, program: str, profile: Path) -> None:
        self.requests: list[str] = []
        self.errors: list[str] = []
        self._last = 0
        self._received = b""
        # All lie above 4, so that moving one there overwrites no other.
        pairs = [os.pipe(), os.pipe()]
        theirs_in, self._send, self._receive, theirs_out = (
            fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for pair in pairs for end in pair
        )
        for end in (*pairs[0], *pairs[1]):
            os.close(end)

        self.process = subprocess.Popen(
            [
                *(sys.executable, "-c", LAUNCHER, str(theirs_in), str(theirs_out)),
                program,
                "--headless=new",
                "--remote-debugging-pipe",
                "--no-sandbox",  # a container's root has no other way; the pages are the test's own
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--force-color-profile=srgb",
                "--hide-scrollbars",
                "--no-first-run",
                "--disable-background-networking",
                f"--user-data-dir={profile}",
                "about:blank",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(theirs_in, theirs_out),
            env={**os.environ, "HOME": str(profile), "DBUS_SESSION_BUS_ADDRESS": "disabled:"},
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._session: str | None = None
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target for target in targets if target["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        """End the browser and wait for it."""
        os.close(self._send)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self._receive)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a command; AssertionError where the browser refuses it or does not answer."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            answer = self._next_message(until, method)
            self._note(answer)
            if answer.get("id") == self._last:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return dict(answer["result"])

    def _next_message(self, until: float, method: str) -> dict[str, Any]:
        while b"\0" not in self._received:
            ready, _, _ = select.select([self._receive], [], [], max(0, until - time.monotonic()))
            assert ready, f"{method}: the browser did not answer within {PATIENCE_SECONDS} s"
            data = os.read(self._receive, 1 << 16)
            assert data, f"{method}: the browser has ended"
            self._received += data
        head, _, self._received = self._received.partition(b"\0")
        return dict(json.loads(head))

    def _note(self, message: dict[str, Any]) -> None:
        parameters = message.get("params", {})
        if message.get("method") == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"][:200])
        elif message.get("method") == "Runtime.exceptionThrown":
            self.errors.append(str(parameters["exceptionDetails"])[:500])
        elif message.get("method") == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.errors.append(parameters["entry"]["text"])

    def resize(
        self, width: int, height: int, *, ratio: float = 1, is_touch: bool = False, theme: str = "light"
    ) -> None:
        """Set the viewport in CSS pixels, device pixels to a CSS pixel, and what a person would have set."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=ratio, mobile=is_touch
        )
        self.call("Emulation.setTouchEmulationEnabled", enabled=is_touch, maxTouchPoints=2)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])

    def open(self, path: Path) -> None:
        """Load a file and wait until it has shown its pictures."""
        self.requests.clear()
        self.errors.clear()
        self.call("Page.navigate", url=path.as_uri())
        self.wait("document.readyState === 'complete' && document.documentElement.dataset.shown !== undefined")

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression; a promise is awaited."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait(self, condition: str) -> None:
        """Until a JavaScript expression is true."""
        until = time.monotonic() + PATIENCE_SECONDS
        while not self.evaluate(condition):
            assert time.monotonic() < until, f"never came true: {condition}"
            time.sleep(0.02)

    def screenshot(self) -> np.ndarray:
        """What is on the screen, (H, W, 3) uint8 in device pixels."""
        data = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        return np.asarray(iio.imread(data, extension=".png"))[..., :3]

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """`Pressed`, `Moved`, `Released` or `Wheel` at a place in CSS pixels."""
        pressed = {} if kind == "Wheel" else {"button": "left", "buttons": int(kind != "Released"), "clickCount": 1}
        self.call("Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y, **{**pressed, **more})

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Press the mouse at one place, move in four steps, let go at another."""
        self.mouse("Pressed", *start)
        for k in range(1, 5):
            self.mouse("Moved", *(a + (b - a) * k / 4 for a, b in zip(start, end, strict=True)))
        self.mouse("Released", *end)

    def touch(self, kind: str, *points: tuple[float, float]) -> None:
        """`Start`, `Move` or `End` of fingers, those still down at these places."""
        listed = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        self.call("Input.dispatchTouchEvent", type=f"touch{kind}", touchPoints=listed)

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press and release a key, named as in KeyboardEvent.key."""
        code = KEY_CODES.get(key, ord(key.upper()) if len(key) == 1 else 0)
        name = f"Digit{key}" if key.isdigit() else f"Key{key.upper()}" if key.isalpha() and len(key) == 1 else key
        event = {"key": key, "code": name, "windowsVirtualKeyCode": code, "modifiers": 8 * shift}
        self.call("Input.dispatchKeyEvent", type="keyDown", **({"text": key} if len(key) == 1 else {}), **event)
        self.call("Input.dispatchKeyEvent", type="keyUp", **event)


@contextmanager
def running_browser(program: str) -> Iterator[Browser]:
    """A browser with a fresh profile, ended and removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="ristn-browser-", ignore_cleanup_errors=True) as profile:
        browser = Browser(program, Path(profile))
        try:
            yield browser
        finally:
            browser.close()
