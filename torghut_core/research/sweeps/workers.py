"""Processes that do one kind of work again and again, with what the parent had in memory when they began.

They are forked: each shares the parent's catalog, plugins and tape, read once, until one of them writes to it. One that
dies loses the task that it was at, and another one takes its place.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple, NoReturn, cast

_STOP_SECONDS = 5.0


class Lost(NamedTuple):
    """The result of a task whose worker died."""

    reason: str


class _Worker(NamedTuple):
    process: Any
    connection: Connection


class Processes:
    """So many processes of this machine.

    Parameters
    ----------
    work : gives the result of a task; tasks and results can be pickled. Whatever it raises ends its process.
    count : of the processes.
    """

    def __init__(self, work: Callable[[Any], Any], count: int) -> None:
        self._work = work
        self._workers: list[_Worker] = []
        for _ in range(count):
            self._begin()

    def run(self, tasks: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        """Yield each task with its result, or `Lost`, in the order in which they are done.

        A task is taken when a process is free for it. What is left when the caller stops asking is dropped.
        """
        waiting = iter(tasks)
        busy: dict[Connection, tuple[_Worker, Any]] = {}
        idle = list(self._workers)
        try:
            while True:
                while idle:
                    try:
                        task = next(waiting)
                    except StopIteration:
                        break
                    worker = self._send(idle.pop(), task)
                    busy[worker.connection] = worker, task
                if not busy:
                    return
                for connection in cast("list[Connection]", wait(list(busy))):
                    worker, task = busy.pop(connection)
                    try:
                        result = worker.connection.recv()
                    except (EOFError, OSError):
                        result = Lost(self._end(worker))
                        worker = self._begin()
                    idle.append(worker)
                    yield task, result
        finally:
            for worker, _ in busy.values():
                worker.process.kill()
                self._end(worker)
                self._begin()

    def close(self) -> None:
        """End all processes, whatever they are at."""
        for worker in list(self._workers):
            worker.process.kill()
            self._end(worker)

    def _send(self, worker: _Worker, task: Any) -> _Worker:
        try:
            worker.connection.send(task)
        except OSError:  # it died while it waited
            self._end(worker)
            worker = self._begin()
            worker.connection.send(task)
        return worker

    def _begin(self) -> _Worker:
        ours, theirs = multiprocessing.Pipe()
        inherited = [ours, *(worker.connection for worker in self._workers)]
        context = multiprocessing.get_context("fork")
        process = context.Process(target=_serve, args=(self._work, theirs, inherited), name="torghut-worker")
        process.daemon = True
        with warnings.catch_warnings():  # Python warns of threads; those of Arrow begin anew in a child
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
        theirs.close()
        worker = _Worker(process, ours)
        self._workers.append(worker)
        return worker

    def _end(self, worker: _Worker) -> str:
        """Wait for the end of a process, and return how it ended."""
        self._workers.remove(worker)
        worker.connection.close()
        worker.process.join(_STOP_SECONDS)
        code = worker.process.exitcode
        if code is None:  # it has closed its connection, and lives
            worker.process.kill()
            worker.process.join()
            return "its process stopped answering"
        if code >= 0:
            return f"its process ended with exit code {code}"
        with suppress(ValueError):
            return f"its process was ended by {signal.Signals(-code).name}"
        return f"its process was ended by signal {-code}"


def _serve(work: Callable[[Any], Any], connection: Connection, inherited: list[Connection]) -> NoReturn:
    """Do tasks until the parent has closed its end, or is gone."""
    for other in inherited:  # else the end of a parent that was killed would not be noticed
        other.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    os.dup2(2, 1)  # what a strategy prints does not get into the command's result
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - a thread of the parent may have held the old one's lock
    while True:
        try:
            task = connection.recv()
        except (EOFError, OSError):
            os._exit(0)
        result = work(task)
        with suppress(OSError):
            connection.send(result)
