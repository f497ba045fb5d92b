"""A real browser, Chromium without a window, spoken to by its DevTools protocol."""

import base64
import json
import re
import shutil
import subprocess
from contextlib import contextmanager
from itertools import count
from time import monotonic

from websockets.sync.client import connect

from support.waiting import PATIENCE

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Tab:
    """A tab of the browser: `errors` are what pages in it logged as errors, threw, or asked of others."""

    def __init__(self, socket, session):
        self._socket = socket
        self._session = session
        self._numbers = count(1)
        self.errors = []
        self._loaded = 0
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        """Ask the browser for something; its result."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params, "sessionId": self._session}))
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def _receive(self):
        event = json.loads(self._socket.recv(timeout=2 * PATIENCE))
        params = event.get("params", {})
        match event.get("method"):
            case "Runtime.exceptionThrown":
                self.errors.append(params["exceptionDetails"].get("exception", {}).get("description", str(params)))
            case "Log.entryAdded" if params["entry"]["level"] == "error":
                self.errors.append(params["entry"]["text"])
            case "Runtime.consoleAPICalled" if params["type"] == "error":
                self.errors.append(str(params["args"]))
            case "Network.requestWillBeSent" if not params["request"]["url"].startswith(("file:", "data:", "blob:")):
                self.errors.append(params["request"]["url"])
            case "Page.loadEventFired":
                self._loaded += 1
        return event

    def open(self, path):
        """Open a file, and wait until its scripts have run."""
        before = self._loaded
        self.call("Page.navigate", url=path.as_uri())
        while self._loaded == before:
            self._receive()
        self.frame()

    def js(self, expression):
        """The value of an expression of JavaScript, awaited where it is a promise."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, expression):
        """Wait until an expression of JavaScript holds; what goes wrong in the page meanwhile is an error."""
        deadline = monotonic() + 2 * PATIENCE
        while not self.js(expression):
            assert not self.errors, self.errors
            assert monotonic() < deadline, f"never: {expression}"
            self.frame()

    def frame(self):
        """Wait until what was asked for is painted."""
        self.js("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done))))")

    def key(self, key, text=""):
        """Press a key."""
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, text=text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)
        self.frame()

    def show(self, *, width=1320, height=1000, scheme="light"):
        """Set the size of the tab and the colours that the reader prefers."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.frame()

    def picture(self, path, *, is_whole=True):
        """Write a PNG of the page."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=is_whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def pdf(self, path):
        """Write what would be printed."""
        path.write_bytes(base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"]))


@contextmanager
def open_tab(folder):
    """A tab of a browser of its own, which resolves no name; its profile is kept in a folder."""
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += ["--remote-debugging-port=0", "--host-resolver-rules=MAP * ~NOTFOUND"]
    command += [f"--user-data-dir={folder / 'profile'}", "about:blank"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as browser:
        try:
            said = next(filter(None, (re.search(r"ws://\S+", line) for line in browser.stderr)))
            with connect(said[0], max_size=None, compression=None) as socket:
                yield Tab(socket, _attached(socket))
        finally:
            browser.terminate()


def _attached(socket):
    socket.send(json.dumps({"id": 1, "method": "Target.createTarget", "params": {"url": "about:blank"}}))
    target = _result(socket, 1)["targetId"]
    socket.send(
        json.dumps({"id": 2, "method": "Target.attachToTarget", "params": {"targetId": target, "flatten": True}})
    )
    return _result(socket, 2)["sessionId"]


def _result(socket, number):
    while True:
        answer = json.loads(socket.recv(timeout=2 * PATIENCE))
        if answer.get("id") == number:
            return answer["result"]
