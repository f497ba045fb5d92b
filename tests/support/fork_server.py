"""The program behind `processes.start`: it imports what a torghut command imports, once, and forks for each command.

One of them serves all workers of a run of the tests. It imports when the first of them connects.

What is forked is a process of its own as any other: it is killed, frozen and waited for, and ends with `os._exit`. It only
has its imports behind it, which are two seconds of CPU of a `torghut run` that lives for three.

A request is JSON (``argv``, ``env``, ``cwd``, ``script``) with three files: for its output, for its errors, and for what
becomes of it: its id as soon as it is known, and its exit code.

The process of the admin API that such a command starts is forked here too. It has two files: the socket to the command, and
one for its id, which is closed when it ends.
"""

import contextlib
import ctypes
import functools
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys
from multiprocessing import connection

MODULES = (
    # The kernel, and the parts that its commands import when they are called.
    "torghut_core.runtime.run",
    "torghut_core.runtime.service",
    "torghut_core.runtime.backfill",
    "torghut_core.research.replay",
    "torghut_core.research.pages.backtest",
    "torghut_core.admin.app",
    "torghut_core.admin.connections",
    "torghut_core.admin.serve",
    "torghut_core.audit.sql",
    "torghut_core.audit.visit",
    "torghut_core.cli.doctor",
    "torghut_core.execution.venue",
    "torghut_core.signals.clickhouse",
    # Plugins.
    "torghut_strategies",
    "torghut_risk",
    "torghut_brokers.alpaca.broker",
    "torghut_brokers.alpaca.rest",
    "torghut_brokers.alpaca.stream",
    "torghut_sources.alpaca.source",
    "torghut_sources.bus",
    "torghut_sources.signal_store",
    "torghut_sources.tape.source",
    # What examples of pages are tested with.
    "hypothesis",
    "pytest",
    "torghut_testing",
    # What they import late. Not chdb: it starts threads, and only the thread that forks is in what is forked.
    "alembic.command",
    "anyio._backends._asyncio",
    "clickhouse_connect",
    "confluent_kafka",
    "exchange_calendars",
    "litestar._kwargs",
    "litestar.middleware._internal.exceptions",
    "litestar.plugins.pydantic",
    "psycopg",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite",
    "structlog",
    "uvicorn.lifespan.off",
    "uvicorn.protocols.http.h11_impl",
    "watchfiles",
    "websockets.sync.client",
    "xml.etree.ElementTree",
)


def die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def serve(listener: socket.socket, of_commands: socket.socket) -> dict[str, object]:
    """Fork for each request; returns in what was forked for a command, with the request."""
    channels: list[socket.socket] = []
    while True:
        for each in connection.wait([listener, of_commands, *channels]):
            if each is listener:
                channels.append(listener.accept()[0])
                continue
            text, files, *_ = socket.recv_fds(each, 1 << 20, 3)
            if not text:
                channels.remove(each)
                each.close()
            elif os.fork() == 0:
                for one in (listener, *channels):
                    one.close()
                if each is of_commands:
                    serve_api(*files)
                return attended(json.loads(text), *files)
            for file in files:
                os.close(file)


def serve_api(control: int, told: int) -> None:
    """Be the process of an admin API to its end."""
    from torghut_core.admin.serve import main

    die_with_parent()
    os.write(told, b"%d\n" % os.getpid())
    os.dup2(control, 0)
    os.close(control)
    try:
        main()
    finally:
        os._exit(0)


class ForkedApi:
    """What `subprocess.Popen` is of a process of the admin API, of one that was forked here."""

    def __init__(self, way: socket.socket, control: socket.socket) -> None:
        readable, writable = os.pipe()
        socket.send_fds(way, [b"a"], [control.fileno(), writable])
        os.close(writable)
        self._told = os.fdopen(readable, "rb")
        self.pid = int(self._told.readline())

    def wait(self) -> int:
        with self._told:
            self._told.read()
        return 0

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


def attended(request: dict[str, object], out: int, error: int, outcome: int) -> dict[str, object]:
    """Fork once more and tell what becomes of that process; returns in it."""
    die_with_parent()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.fork()
    if child == 0:
        die_with_parent()
        os.close(outcome)
        os.dup2(out, 1)
        os.dup2(error, 2)
        os.close(out)
        os.close(error)
        return request
    os.close(out)
    os.close(error)
    os.write(outcome, b"%d\n" % child)
    _, status = os.waitpid(child, 0)
    os.write(outcome, b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def warm_up() -> None:
    """Make what every pipeline makes: numba then has its types, which takes longer than all the rest."""
    from torghut_sources.indicators import INDICATORS
    from torghut_sources.stages.indicators import Indicators
    from torghut_sources.stages.microbars import Microbars
    from torghut_sources.stages.resample import Resample

    for stage in (Indicators, Microbars, Resample):
        stage(stage.Params())
    for place in INDICATORS.values():
        importlib.import_module(f"torghut_sources.indicators.{place.partition(':')[0]}")


def main() -> None:
    die_with_parent()
    listener = socket.socket(fileno=int(sys.argv[1]))
    connection.wait([listener])
    for name in MODULES:
        try:
            importlib.import_module(name)
        except ImportError:  # of an extra that is not installed, or that has moved: it is imported later then
            continue
    warm_up()
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    way, of_commands = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    request = serve(listener, of_commands)
    of_commands.close()
    importlib.import_module("torghut_core.admin.api_process").start_process = functools.partial(ForkedApi, way)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv[:] = request["argv"]
    sys.path[1:1] = [path for path in request["env"].get("PYTHONPATH", "").split(os.pathsep) if path]
    if request["script"]:
        runpy.run_path(request["script"], run_name="__main__")
    else:
        from torghut_core.cli import main as torghut

        torghut()


if __name__ == "__main__":
    main()
