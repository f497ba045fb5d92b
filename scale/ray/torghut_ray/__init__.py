"""Workers of a Ray cluster for the sweeps of Torghut: an actor for each processor, each with the tape in its memory.

What they run, with the tape, is placed once in Ray's object store. An actor that dies loses the set that it was at, as a process of
this machine does, and another one takes its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import ray

from torghut_core import InputError
from torghut_core.research import Lost

CHUNK = 16
"""So many sets are sent to a worker at once: what they share, it computes once."""


class _Worker:
    """An actor: it has the work, and does its tasks."""

    def __init__(self, work: Any) -> None:
        self._work = work

    def try_sets(self, tasks: list[Any]) -> list[Any]:
        """Return the trial of each task."""
        self._work.prepare([task.params for task in tasks])
        return [self._work.trial(task) for task in tasks]


class RayWorkers:
    """The processors of a Ray cluster, see `torghut_core.research.sweeps.sweep.Workers`.

    Parameters
    ----------
    address : ``ray://local`` begins a cluster on this machine, ``ray://HOST:PORT`` joins one that is there, of which this machine
        has to be a part.
    work : what tries sets; it can be pickled.

    Raises
    ------
    InputError : there is no such cluster, or it cannot do this work.
    """

    def __init__(self, address: str, work: Any) -> None:
        self._has_begun = not ray.is_initialized()
        if self._has_begun:
            place = address.removeprefix("ray://")
            try:
                ray.init(place, log_to_driver=False, logging_level="error")
            except Exception as error:  # Ray raises what it likes
                raise InputError(f"--workers {address}: no cluster: {str(error).partition(chr(10))[0]}") from error
        self._work = ray.put(work)
        self._count = int(ray.cluster_resources().get("CPU", 1))
        self._nodes = sum(node["Alive"] for node in ray.nodes())
        self._actors = [self._begin() for _ in range(self._count)]

    def __str__(self) -> str:
        machines = f"{self._nodes} machine{'s' if self._nodes > 1 else ''}"
        return f"on {self._count} Ray worker{'s' if self._count > 1 else ''} of {machines}"

    def run(self, tasks: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        """Yield each task with its trial, or `Lost`, in the order in which they are done.

        Of several sets that a worker had when it died, each is tried again alone, so that only the one that did it is lost.
        """
        waiting, again = iter(tasks), []
        busy: dict[Any, tuple[Any, list[Any]]] = {}
        idle = list(self._actors)
        try:
            while True:
                while idle:
                    chunk = [again.pop()] if again else list(islice(waiting, CHUNK))
                    if not chunk:
                        break
                    actor = idle.pop()
                    busy[actor.try_sets.remote(chunk)] = actor, chunk
                if not busy:
                    return
                (done, *_), _ = ray.wait(list(busy))
                actor, chunk = busy.pop(done)
                try:
                    results = ray.get(done)
                except ray.exceptions.RayTaskError as error:  # the work did not arrive: other code, or none
                    raise InputError(f"a Ray worker cannot try sets: {_last_line(error)}") from error
                except ray.exceptions.RayActorError as error:
                    if "creation task" in str(error) or "__init__" in str(error):
                        raise InputError(f"a Ray worker cannot begin: {_last_line(error)}") from error
                    self._actors.remove(actor)
                    idle.append(self._begin())
                    self._actors.append(idle[-1])
                    if len(chunk) > 1:
                        again += chunk
                        continue
                    results = [Lost(f"its Ray worker died: {_last_line(error)}")]
                else:
                    idle.append(actor)
                yield from zip(chunk, results, strict=True)
        finally:
            for actor, _ in busy.values():
                ray.kill(actor)
                self._actors.remove(actor)
                self._actors.append(self._begin())

    def close(self) -> None:
        """End the actors, and the cluster if it was begun for them."""
        for actor in self._actors:
            ray.kill(actor)
        if self._has_begun:
            ray.shutdown()

    def _begin(self) -> Any:
        return ray.remote(num_cpus=1)(_Worker).remote(self._work)


def _last_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[-1].strip()
