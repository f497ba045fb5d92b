"""The command line: each command parses, calls one function of the kernel, and prints.

Never holds logic of its own. Exit codes: 0 done, 1 failed, 2 bad input. Every reading command has ``--json``. Imports are
made in the commands, so that ``torghut --help`` does not wait for a database.
"""

from __future__ import annotations

import gc
import os
import sys
import traceback
from typing import Annotated

import typer

from torghut_core.cli import (
    audit,
    authoring,
    backtests,
    catalog,
    data,
    maintenance,
    market_data,
    reports,
    research,
    simulations,
    status,
    sweeps,
    trading,
    walk_forward,
)
from torghut_core.cli.help import Group
from torghut_core.cli.options import INTERRUPTED
from torghut_core.errors import CatalogError, InputError, TorghutError
from torghut_core.telemetry import logs

app = typer.Typer(
    name="torghut",
    cls=Group,
    help="Run trading strategies from a YAML catalog: replay, paper or live.",
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for part in (
    research,
    backtests,
    sweeps,
    walk_forward,
    reports,
    simulations,
    trading,
    status,
    market_data,
    data,
    catalog,
    authoring,
    audit,
    maintenance,
):  # in the order of the help
    app.add_typer(part.app)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more to standard error.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        print(f"torghut {installed('torghut')}")
        raise typer.Exit
    logs.set_level("info" if verbose else "warning")


def main() -> None:
    """Run the command line; errors become one message and an exit code.

    Everything is closed by then, so the process ends at once: taking numba, chdb and SQLAlchemy apart would take half a
    second, to free what the system frees anyway.
    """
    gc.set_threshold(100_000, 50, 100)  # imports make no garbage: looking for it takes a tenth of the start
    code = _run()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        code = code or 1
    os._exit(code)


def _run() -> int:
    try:
        app()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            print("stopped by Ctrl-C before it was done", file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except CatalogError as error:
        print("\n".join(f"error: {problem}" for problem in error.problems), file=sys.stderr)
        return 2
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except TorghutError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0
