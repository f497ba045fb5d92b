"""The processes of a simulation: commands of torghut that never outlive the one that started them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from torghut_core.errors import StateError

POLL_S = 0.1
"""Pause between two looks at a process, seconds."""

END_S = 60.0
"""How long a process may take to end after SIGTERM, seconds."""

_BIND = """
import ctypes, os, signal, sys
parent = int(sys.argv[1])
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() == parent:
    sys.argv = ["torghut", *sys.argv[2:]]
    from torghut_core.cli import main
    main()
"""
"""Runs a command, which the system ends together with its parent (prctl 1 is PR_SET_PDEATHSIG)."""

_URL = re.compile(r"http://\S+")
_SAMPLE = re.compile(r"^torghut_(\w+)(?:\{[^}]*\})? (\S+)$", re.MULTILINE)


class Child:
    """A command of torghut as a process of its own, in a session of its own: Ctrl-C reaches only its parent.

    Making it starts it.

    Parameters
    ----------
    name : its output is appended to ``NAME.out`` and ``NAME.log`` in `folder`.
    arguments : of ``torghut``.
    environment : all variables that it gets.
    """

    def __init__(
        self, name: str, arguments: Sequence[str | Path], folder: Path, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self._log = folder / f"{name}.log"
        self._out = folder / f"{name}.out"
        self._url = ""
        self._out.touch()
        self._since = self._out.stat().st_size
        command = [sys.executable, "-P", "-c", _BIND, str(os.getpid()), *map(str, arguments)]
        with self._out.open("ab") as out, self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - what is started is our own
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=log, env=dict(environment), start_new_session=True
            )

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    def waiting(self, until: float) -> Iterator[None]:
        """Poll while it runs, until a time of `time.monotonic`.

        Raises
        ------
        StateError : it ended with an error, or that time has come.
        """
        while self.code is None:
            if time.monotonic() > until:
                raise StateError(f"{self._what('did not end in time')} (raise monitor.timeout_seconds)")
            yield
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(POLL_S)
        if self.code:
            raise StateError(self._what(f"ended with {self.code}"))

    def metrics(self) -> dict[str, float]:
        """Its metrics without ``torghut_``, of several with one name the sum; empty where it does not answer."""
        if not self._url:
            with self._out.open("rb") as file:
                file.seek(self._since)
                found = _URL.search(file.read().decode(errors="replace"))
            self._url = found[0] if found else ""
        numbers: dict[str, float] = {}
        if self._url:
            with suppress(OSError, ValueError), urllib.request.urlopen(f"{self._url}/metrics", timeout=10) as answer:  # noqa: S310 - loopback's http
                for name, value in _SAMPLE.findall(answer.read().decode()):
                    numbers[name] = numbers.get(name, 0.0) + float(value)
        return numbers

    def stop(self) -> int:
        """End it by SIGTERM, or by SIGKILL where that does not end it; return its exit code."""
        if self.code is None:
            self._process.terminate()
            try:
                self._process.wait(END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        return self._process.wait()

    def last_words(self) -> str:
        """The last line of its log, and where that is."""
        last = self._log.read_text(errors="replace").rstrip().rpartition("\n")[2] if self._log.exists() else ""
        return f"{last} (see {self._log})".lstrip()

    def _what(self, what: str) -> str:
        return f"torghut {self.name} {what}: {self.last_words()}"
