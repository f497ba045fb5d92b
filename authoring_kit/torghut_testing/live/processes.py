"""Processes that are started, watched and ended by this process, and never outlive it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

PATIENCE_S = 60.0
"""How long a process may take to start, and to end, seconds."""

POLL_S = 0.05

_INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "TORGHUT_PLUGIN_PATH", "NUMBA_CACHE_DIR", "LD_LIBRARY_PATH")
_BIND = """
import ctypes, os, signal, sys
parent, command = int(sys.argv[1]), sys.argv[2:]
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() == parent:
    os.execv(command[0], command)
"""
"""Becomes the command, which the system then ends together with its parent (prctl 1 is PR_SET_PDEATHSIG)."""

_SAMPLE = re.compile(r'^torghut_(?P<name>\w+)(?:\{\w+="(?P<label>(?:[^"\\]|\\.)*)"\})? (?P<value>\S+)$', re.MULTILINE)
_URL = re.compile(r"http://\S+")


class Died(RuntimeError):
    """A process ended, or gave no answer; the last line of its log is in the message."""


class Process:
    """A command as a process of its own, in a session of its own: Ctrl-C reaches only its parent.

    Parameters
    ----------
    name : its output is appended to ``NAME.out`` and ``NAME.log`` in `folder`.
    command : program and arguments; the program is a path.
    environment : variables besides the few that every process needs.
    """

    def __init__(
        self, name: str, command: Sequence[str | Path], folder: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self._command = [str(part) for part in command]
        self._out, self._log = folder / f"{name}.out", folder / f"{name}.log"
        kept = {key: os.environ[key] for key in _INHERITED if key in os.environ}
        self._environment = kept | {"PYTHONUNBUFFERED": "1"} | dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._since = 0
        self.url = ""

    def start(self) -> None:
        """Start it, also again after it ended. Does not wait until it is ready."""
        self._out.touch()
        self._since = self._out.stat().st_size
        with self._out.open("ab") as out, self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - what is started is our own
                [sys.executable, "-c", _BIND, str(os.getpid()), *self._command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )

    @property
    def pid(self) -> int | None:
        """Its id while it runs; None before it starts and after it ends."""
        process = self._process
        return None if process is None or process.poll() is not None else process.pid

    @property
    def code(self) -> int | None:
        """Its exit code; negative for the number of a signal; None while it runs."""
        return None if self._process is None else self._process.poll()

    def lines(self) -> list[str]:
        """The whole lines that it has printed since its last start."""
        with self._out.open("rb") as file:
            file.seek(self._since)
            text = file.read().decode(errors="replace")
        return text.split("\n")[:-1]

    def first_line(self) -> str:
        """Wait for the first line that it prints, once it listens.

        Raises
        ------
        Died : it ended before, or printed nothing within `PATIENCE_S`.
        """
        for _ in self.waiting(PATIENCE_S):
            if lines := self.lines():
                found = _URL.search(lines[0])
                self.url = found[0] if found else ""
                return lines[0]
        raise Died(self._message(f"printed nothing for {PATIENCE_S:g} s"))

    def waiting(self, seconds: float) -> Iterator[None]:
        """Poll while it runs: yield every `POLL_S`, for `seconds` at most.

        Raises
        ------
        Died : it ended.
        """
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.check()
            yield
            time.sleep(POLL_S)

    def check(self) -> None:
        """Raise `Died` where it does not run."""
        if self.pid is None:
            raise Died(self._message(f"ended with {self.code}"))

    def wait_ready(self) -> None:
        """Wait until its ``/readyz`` answers 200.

        Raises
        ------
        Died : it ended before, or was not ready within `PATIENCE_S`; with its last answer.
        """
        status, answer = 0, "no answer"
        for _ in self.waiting(PATIENCE_S):
            status, answer = self._get("/readyz")
            if status == 200:
                return
        raise Died(self._message(f"is not ready after {PATIENCE_S:g} s: {answer}"))

    def wait_done(self) -> None:
        """Wait until it ends with exit code 0.

        Raises
        ------
        Died : it ended with another code, or not within `PATIENCE_S`.
        """
        until = time.monotonic() + PATIENCE_S
        while self.pid is not None:
            if time.monotonic() > until:
                raise Died(self._message(f"does not end within {PATIENCE_S:g} s"))
            time.sleep(POLL_S)
        if self.code:
            raise Died(self._message(f"ended with {self.code}"))

    def metrics(self) -> dict[str, dict[str, float]]:
        """Its metrics: by name without ``torghut_``, then by the value of their one label ("" for those without).

        Empty where it does not answer.
        """
        status, text = self._get("/metrics")
        numbers: dict[str, dict[str, float]] = {}
        for match in _SAMPLE.finditer(text if status == 200 else ""):
            numbers.setdefault(match["name"], {})[match["label"] or ""] = float(match["value"])
        return numbers

    def get(self, path: str) -> Any:
        """The JSON that it answers with.

        Raises
        ------
        Died : another status than 200.
        """
        status, text = self._get(path)
        if status != 200:
            raise Died(self._message(f"answered {path} with {status or text}"))
        return json.loads(text)

    def _get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"{self.url}{path}", timeout=10) as answer:  # noqa: S310 - it is loopback's http
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode(errors="replace")
        except OSError as error:
            return 0, str(error)

    def stop(self) -> int | None:
        """End it by SIGTERM, or by SIGKILL where that does not end it; return its exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it by SIGKILL, as a crash would."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> int | None:
        process = self._process
        if process is None:
            return None
        if process.poll() is None:
            process.send_signal(number)
            try:
                process.wait(PATIENCE_S / 2)
            except subprocess.TimeoutExpired:
                process.kill()
        return process.wait()

    def _message(self, what: str) -> str:
        last = self._log.read_text(errors="replace").rstrip().rpartition("\n")[2] if self._log.exists() else ""
        return f"{self.name} {what}{f': {last}' if last else ''} (see {self._log})"
