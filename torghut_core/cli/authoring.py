"""Commands for authors of plugins, which the authoring kit carries out: `new` and `plugin check`."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_args

import typer

from torghut_core.cli.catalog import plugin_app
from torghut_core.cli.help import CATALOG, command
from torghut_core.cli.options import AsJson, plugin_host, say
from torghut_core.errors import InputError

app = typer.Typer()

Level: TypeAlias = Literal["bronze", "silver", "gold"]
LEVELS = get_args(Level)


@command(
    app,
    "torghut new strategy acme-alpha\ntorghut new indicator acme-slope --folder ~/plugins",
    name="new",
    panel=CATALOG,
)
def new(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND", help="strategy, indicator, risk, broker, source or advisor.", show_default=False
        ),
    ],
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="Of the package and its plugin: a-z, 0-9 and hyphens.", show_default=False),
    ],
    folder: Annotated[
        Path, typer.Option("--folder", metavar="DIR", help="Where the package's folder is made.")
    ] = Path(),
    as_json: AsJson = False,
) -> None:
    """Make a plugin package that works: code, test, catalog entry, README. It says what to do next."""
    new_package = _kit("new_package", "torghut new").new_package
    taken = {plugin.name for plugin in plugin_host(("torghut-*",)).plugins()}
    made = new_package(kind, name, folder, taken)
    steps = _next_steps(made)
    say({"path": str(made), "next": steps}, "\n".join([f"made {made}; next:", "", *steps]), as_json)


@command(plugin_app, "torghut plugin check .\ntorghut plugin check acme-alpha --level silver --json", name="check")
def plugin_check(
    project: Annotated[
        str,
        typer.Argument(
            metavar="PATH|NAME", help="Folder of a project, or a distribution installed with -e.", show_default=False
        ),
    ],
    level: Annotated[Level, typer.Option(help="Fail below this level.")] = "bronze",
    limit: Annotated[
        float, typer.Option(metavar="SECONDS", min=1, help="Longest time of one command of the check.")
    ] = 120,
    as_json: AsJson = False,
) -> None:
    """Check a plugin package: does it load (bronze), does it keep the laws of its kind (silver), can others rely on it (gold)?

    Its code runs in processes of its own. Exit code 1 if it is below the level that is asked for.
    """
    found = _kit("plugin_check", "torghut plugin check").check_plugin(project, limit)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        from torghut_core.cli.render import print_checked

        print_checked(found)
    if found["level"] not in LEVELS[LEVELS.index(level) :]:
        raise typer.Exit(1)


def _kit(module: str, verb: str) -> Any:
    """A module of the authoring kit, which is a package of its own."""
    try:
        return import_module(f"torghut_testing.{module}")
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("torghut_testing"):
            raise
        raise InputError(f"`{verb}` is part of the authoring kit: pip install torghut-testing") from error


def _next_steps(made: Path) -> list[str]:
    """Commands for a shell, from where the package was made to a replay."""
    programs = Path(sys.executable).parent
    found = shutil.which("torghut")
    is_found = found is not None and Path(found).parent.samefile(programs)
    return [
        *([] if is_found else [f"export PATH={shlex.quote(str(programs))}:$PATH"]),
        f"cd {shlex.quote(str(made))}",
        "export TORGHUT_PLUGIN_PATH=$PWD  # until it is installed",
        "torghut plugin check .",
        "pytest",
        "sed -i.bak 's/enabled: false/enabled: true/' catalog.yaml  # once you have read it",
        "torghut demo --catalog catalog.yaml",
    ]
