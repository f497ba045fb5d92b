"""Checking a catalog that came by HTTP: in a process of its own, which is of low priority and ends by itself.

Reading a large catalog computes for seconds, and plugins check their parameters with code of their own. In the process
that trades both would slow the loop. Importing the plugins takes longer than checking a small catalog, so each check is
forked from one process that has imported them (see `catalog_check_preload`).
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import traceback
from collections.abc import Sequence
from contextlib import closing
from functools import cache, partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from torghut_core.catalog import DEFAULT_ALLOW, Catalog, load
from torghut_core.catalog.diff import diff
from torghut_core.errors import CatalogError, InputError, StateError
from torghut_core.generation import validate_files
from torghut_core.plugin_host import PluginHost
from torghut_core.telemetry import logs

CPU_SECONDS = 20
"""Seconds that a check may compute."""

SECONDS = 60.0
"""Seconds that it may take on a busy machine."""

NICE = 10

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["torghut_core.admin.catalog_check_preload"])


def check_catalog(text: str, live: Catalog, plugin_folders: Sequence[Path] = ()) -> dict[str, Any]:
    """Find what is wrong with a catalog, and what it would change.

    The plugins are those that the catalog allows, with the code that is installed now: what a reload would use.

    Parameters
    ----------
    text : the catalog as YAML.
    live : the catalog that trades.
    plugin_folders : as `PluginHost.load` takes them.

    Returns
    -------
    As `admin.kernel.Kernel.validate`.

    Raises
    ------
    InputError : it takes too long.
    StateError : the other process failed.
    """
    answers, theirs = _FORKS.Pipe(duplex=False)
    request = (text, live.model_dump(mode="json"), plugin_folders)
    process = _FORKS.Process(target=_check, args=(theirs, *request), daemon=True)
    try:
        with closing(answers):
            with closing(theirs):
                process.start()
            answer = _receive(answers, process)
    except (OSError, EOFError) as error:  # EOFError: what checks are forked from has ended
        answer = f"{type(error).__name__}: {error}"
    finally:
        if process.pid is not None:
            process.kill()
            process.join()
    if isinstance(answer, str):
        logs.error("catalog check failed", reason=answer[-2000:])
        raise StateError("the catalog could not be checked (the kernel's log says why; use `torghut catalog validate`)")
    return answer


def _receive(answers: Connection, process: Any) -> dict[str, Any] | str:
    """The answer of a check, or why there is none."""
    if not answers.poll(SECONDS):
        return f"no answer within {SECONDS:g} s"
    try:
        answer: dict[str, Any] | str = answers.recv()
    except EOFError:
        process.join(1)
        if process.exitcode in (-signal.SIGKILL, -signal.SIGXCPU):
            raise InputError(f"the catalog takes more than {CPU_SECONDS} s to check (make it smaller)") from None
        return f"the process ended with exit code {process.exitcode}"
    return answer


@cache
def installed_plugins() -> PluginHost:
    """The plugins that a catalog may use without naming them, imported once for all checks."""
    return PluginHost.load(DEFAULT_ALLOW)


def _check(answers: Connection, text: str, live: Any, plugin_folders: Sequence[Path]) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    os.dup2(2, 1)  # what a plugin prints is not the kernel's output
    try:
        answers.send(_answer(text, live, plugin_folders))
    except BaseException:
        answers.send(traceback.format_exc())


def _answer(text: str, live: Any, plugin_folders: Sequence[Path]) -> dict[str, Any]:
    load_plugins = partial(PluginHost.load, folders=plugin_folders, previous=installed_plugins())
    try:
        _, _, problems = validate_files({"request": text}, load_plugins)
    except CatalogError as error:
        problems = error.problems
    try:
        changes = diff(Catalog.model_validate(live), load({"request": text})).to_json()
    except CatalogError:  # among the problems
        changes = None
    return {"valid": not problems, "problems": [str(problem) for problem in problems], "diff": changes}
