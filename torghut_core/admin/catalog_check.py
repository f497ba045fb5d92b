"""Checking a catalog that came by HTTP: in a process of its own, which is of low priority and ends by itself.

Reading a large catalog computes for seconds, and plugins check their parameters with code of their own. In the process
that trades both would slow the loop.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from functools import partial
from typing import Any

from torghut_core.catalog import Catalog
from torghut_core.errors import InputError, StateError
from torghut_core.telemetry import logs

CPU_SECONDS = 20
"""Seconds that a check may compute."""

SECONDS = 60.0
"""Seconds that it may take on a busy machine."""

NICE = 10


def check_catalog(text: str, live: Catalog) -> dict[str, Any]:
    """Find what is wrong with a catalog, and what it would change.

    The plugins are those that the catalog allows, with the code that is installed now: what a reload would use.

    Parameters
    ----------
    text : the catalog as YAML.
    live : the catalog that trades.

    Returns
    -------
    As `admin.kernel.Kernel.validate`.

    Raises
    ------
    InputError : it takes too long.
    StateError : the other process failed.
    """
    request = json.dumps({"text": text, "live": live.model_dump(mode="json")}).encode()
    command = [sys.executable, "-P", "-m", __name__]
    try:
        done = subprocess.run(command, input=request, capture_output=True, timeout=SECONDS, check=False)  # noqa: S603 - ours
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StateError(f"the catalog could not be checked: {error} (use `torghut catalog validate`)") from error
    if done.returncode in (-signal.SIGKILL, -signal.SIGXCPU):
        raise InputError(f"the catalog takes more than {CPU_SECONDS} s to check (make it smaller)")
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        logs.error("catalog check failed", code=done.returncode, stderr=done.stderr[-2000:].decode(errors="replace"))
        raise StateError("the catalog could not be checked (the kernel's log says why)") from None
    return answer


def _answer(text: str, live: Any) -> dict[str, Any]:
    from torghut_core.catalog import load
    from torghut_core.catalog.diff import diff
    from torghut_core.errors import CatalogError
    from torghut_core.generation import validate_files
    from torghut_core.installation.open import load_plugins
    from torghut_core.installation.settings import load_settings

    try:
        _, _, problems = validate_files({"request": text}, partial(load_plugins, load_settings()))
    except CatalogError as error:
        problems = error.problems
    try:
        changes = diff(Catalog.model_validate(live), load({"request": text})).to_json()
    except CatalogError:  # among the problems
        changes = None
    return {"valid": not problems, "problems": [str(problem) for problem in problems], "diff": changes}


def _main() -> None:
    os.nice(NICE)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)  # what a plugin prints is not the answer
        json.dump(_answer(**json.load(sys.stdin)), out)


if __name__ == "__main__":
    _main()
