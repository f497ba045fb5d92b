"""Torghut commands as processes of their own, and one that runs, with its HTTP interface at hand.

In a quick run they are forks of a process that has imported everything (see `fork_server`). In a proof, and where a test
asks for it, they are started as anybody starts them.
"""

import atexit
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from contextlib import suppress
from multiprocessing import connection
from pathlib import Path

from support.effort import IS_PROOF
from support.waiting import PATIENCE, until

TORGHUT = Path(sys.executable).parent / "torghut"
FORK_SERVER = Path(__file__).with_name("fork_server.py")
ADDRESS = "TESTS_FORK_SERVER"
"""The variable with the address of the process that forks, for the workers of this process."""

NOT_OURS = ("PYTHONDONTWRITEBYTECODE", ADDRESS)
"""Variables that a process of a test does not get."""

SAMPLE = re.compile(r'^torghut_(?P<name>\w+)(?:\{\w+="(?P<label>(?:[^"\\]|\\.)*)"\})? (?P<value>\S+)$', re.MULTILINE)

FORKS = sys.platform == "linux" and not IS_PROOF

_channels = []


class Forked:
    """What `subprocess.Popen` is of a process that was started, of one that was forked.

    It is waited for with `connection.wait`: `select` takes no descriptor above 1,023, and chDB keeps many open.
    """

    def __init__(self, request, out, error):
        self.returncode = None
        self.stdout = None
        readable, writable = os.pipe()
        if out == subprocess.PIPE:
            told, out = os.pipe()
            self.stdout = os.fdopen(told)
            to_close = [out]
        else:
            to_close = []
            out = out.fileno()
        socket.send_fds(_channel(), [json.dumps(request).encode()], [out, error.fileno(), writable])
        for file in (*to_close, writable):
            os.close(file)
        self._outcome = os.fdopen(readable)
        self.pid = int(self._outcome.readline())

    def poll(self):
        if self.returncode is None and connection.wait([self._outcome], 0):
            self._end()
        return self.returncode

    def wait(self, timeout=None):
        if self.returncode is None:
            if not connection.wait([self._outcome], timeout):
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            self._end()
        return self.returncode

    def _end(self):
        self.returncode = int(self._outcome.readline())
        self._outcome.close()

    def send_signal(self, number):
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def kill(self):
        self.send_signal(signal.SIGKILL)


def api_process(pid):
    """The id of the process that serves the admin API of another one, as a shell would have started that; None while there is none."""
    for child in (child for file in Path(f"/proc/{pid}/task").glob("*/children") for child in file.read_text().split()):
        with suppress(OSError):
            if b"torghut_core.admin.serve" in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0"):
                return int(child)
    return None


def share_fork_server():
    """Start the process that forks, for this process and its workers; it imports nothing before one of them needs it."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with listener:
        listener.bind("")  # the system chooses a name, which is in no folder
        listener.listen()
        command = [sys.executable, str(FORK_SERVER), str(listener.fileno())]
        process = subprocess.Popen(command, pass_fds=[listener.fileno()], stdin=subprocess.DEVNULL)
        os.environ[ADDRESS] = listener.getsockname()[1:].decode()
    atexit.register(lambda: (process.terminate(), process.wait()))


def _channel():
    """The way to the process that forks."""
    if not _channels:
        if ADDRESS not in os.environ:
            share_fork_server()
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        channel.connect(b"\0" + os.environ[ADDRESS].encode())
        _channels.append(channel)
        atexit.register(channel.close)
    return _channels[0]


def start(*arguments, out, error, env=None, cwd=None, script=None, real=False):
    """Start a torghut command.

    Parameters
    ----------
    out, error : files for what it prints; `out` may be ``subprocess.PIPE``.
    env : variables, besides those of this process.
    script : a program to run in torghut's place.
    real : start it as a shell would, also in a quick run.

    Returns
    -------
    Something that can do what a `subprocess.Popen` can.
    """
    real = real or not FORKS or "PYTHONHASHSEED" in (env or ())
    env = {name: value for name, value in {**os.environ, **(env or {})}.items() if name not in NOT_OURS}
    program = [sys.executable, str(script)] if script else [str(TORGHUT)]
    words = [str(argument) for argument in arguments]
    if real:
        return subprocess.Popen(
            [*program, *words], stdin=subprocess.DEVNULL, stdout=out, stderr=error, env=env, cwd=cwd, text=True
        )
    request = {
        "argv": [program[-1], *words],
        "env": env,
        "cwd": str(cwd or Path.cwd()),
        "script": script and str(script),
    }
    return Forked(request, out, error)


def run(*arguments, env=None, cwd=None, script=None, real=False):
    """Run a torghut command to its end.

    Returns
    -------
    As `subprocess.run`, with what it printed.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as error:
        process = start(*arguments, out=out, error=error, env=env, cwd=cwd, script=script, real=real)
        try:
            code = process.wait(2 * PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        texts = []
        for file in (out, error):
            file.seek(0)
            texts.append(file.read())
        return subprocess.CompletedProcess(list(map(str, arguments)), code, *texts)


class Running:
    """A torghut command that runs until a signal ends it, what it logs, and its HTTP interface.

    Parameters
    ----------
    folder : where it runs; its standard error goes to ``NAME.log`` there.
    state : its state directory.
    env : variables, besides those of this process.
    real : whether it and its commands are started as a shell would, also in a quick run.
    """

    def __init__(self, folder, state, *, name="run", env=None, real=False):
        self.folder = folder
        self.state = state
        self.env = dict(env or {})
        self.real = real
        self.process = None
        self.url = self.token = ""
        self._log = folder / f"{name}.log"

    # Commands.

    def command(self, *arguments):
        """Run a command to its end: as `subprocess.run`."""
        return run(*arguments, env=self.env, cwd=self.folder, real=self.real)

    def output(self, *arguments, code=0):
        """What a command on the state directory prints; its exit code has to be `code`, if that is not None."""
        done = self.command(*arguments, "--state", self.state)
        assert code in (None, done.returncode), done.stdout + done.stderr + self.log
        return done.stdout + done.stderr

    def printed(self, *arguments, code=0):
        """The JSON that a command on the state directory prints with ``--json``."""
        return json.loads(self.output(*arguments, "--json", code=code))

    # The process.

    def start(self, *arguments, script=None):
        """Start it, and do not wait."""
        with self._log.open("a") as log:
            self.process = start(
                *arguments,
                out=subprocess.PIPE,
                error=log,
                env=self.env,
                cwd=self.folder,
                script=script,
                real=self.real,
            )
        return self

    def listens(self):
        """Wait for the line that it prints when its HTTP interface listens; False where it ended before."""
        line = self.process.stdout.readline()
        if not line:
            return False
        found = re.search(r"http://\S+", line)
        assert found, line + self.log
        self.url = found[0]
        return True

    @property
    def log(self):
        """What it said on standard error."""
        return self._log.read_text() if self._log.exists() else ""

    @property
    def complaints(self):
        """The lines of its log that are no information: warnings, errors, tracebacks."""
        return [line for line in self.log.splitlines() if "[info " not in line]

    def send(self, number=signal.SIGTERM):
        """Send it a signal, and give its exit code."""
        self.process.send_signal(number)
        return self.ended()

    def ended(self, seconds=PATIENCE):
        """Its exit code, once it has one."""
        code = self.process.wait(seconds)
        self.process.stdout.close()
        self.process = None
        return code

    def kill(self):
        """End it, where it still runs."""
        if self.process is not None:
            self.send(signal.SIGKILL)

    # Its HTTP interface.

    def ask(self, path, body=None, method="GET"):
        """Status and text of an answer."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, method=method)
        request.add_header("Authorization", f"Bearer {self.token}")
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except urllib.error.URLError as error:
            raise AssertionError(f"{error} (exit code {self.process and self.process.poll()})\n{self.log}") from error

    def get(self, path):
        """The JSON of an answer that is well."""
        code, text = self.ask(path)
        assert code == 200, text
        return json.loads(text)

    @property
    def health(self):
        """The checks of its trading, each with the reasons why it fails: 200 where none does, else 503."""
        code, text = self.ask("/trading/health")
        checks = json.loads(text)["checks"]
        assert code == (503 if any(checks.values()) else 200), text
        return checks

    def post(self, path, body=None):
        """The JSON of an answer that is well, to a change."""
        code, text = self.ask(path, body, "POST")
        assert code < 300, text
        return json.loads(text)

    def metrics(self):
        """Its numbers: by name without ``torghut_``, then by the value of their one label ("" of those without)."""
        numbers = {}
        for match in SAMPLE.finditer(self.ask("/metrics")[1]):
            numbers.setdefault(match["name"], {})[match["label"] or ""] = float(match["value"])
        return numbers

    def metric(self, name, label=""):
        """A number, None where there is none."""
        return self.metrics().get(name, {}).get(label)

    def until(self, is_so, problem=lambda: "", seconds=PATIENCE):
        """Wait until something is true while it runs; what it was then."""

        def looked():
            found = is_so()
            assert found or self.process is None or self.process.poll() is None, self.log
            return found

        return until(looked, lambda: f"{problem()}\n{self.log[-6000:]}", seconds)
