"""The commands `simulate plan`, `run`, `report` and `teardown`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from torghut_core.cli.help import RESEARCH, Group, command
from torghut_core.cli.options import STATE, AsJson, State
from torghut_core.errors import InputError, NotFoundError

if TYPE_CHECKING:
    from torghut_core.plugin_host import PluginHost
    from torghut_core.research.simulation.plan import Plan

app = typer.Typer()
simulate = typer.Typer(cls=Group, help="A historical day once more, in isolation.")
app.add_typer(simulate, name="simulate", rich_help_panel=RESEARCH)

ManifestOption = Annotated[
    Path,
    typer.Option(
        "--manifest", metavar="FILE", help="Which day, and what it may use (docs/simulate.md).", dir_okay=False
    ),
]
RunId = Annotated[str | None, typer.Option("--run-id", metavar="ID", help="Id of the run (default: sim-DAY-1).")]
OutputRoot = Annotated[
    Path | None,
    typer.Option("--output-root", metavar="DIR", help="Where artefacts go (default: the manifest's).", file_okay=False),
]
Confirm = Annotated[
    str, typer.Option("--confirm", metavar="PHRASE", help="START_HISTORICAL_SIMULATION, or nothing is started.")
]


@command(simulate, "torghut simulate plan --manifest day.yaml --objects deploy/simulation")
def plan(
    manifest: ManifestOption,
    run_id: RunId = None,
    output_root: OutputRoot = None,
    objects: Annotated[
        Path | None,
        typer.Option("--objects", metavar="DIR", help="Write the objects for a cluster there.", file_okay=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a simulation would do, and whether it is isolated. Starts nothing.

    Exit code 1 where it is not isolated, or the market is closed on the day.
    """
    from msgspec.structs import asdict

    from torghut_core.catalog import load
    from torghut_core.cli.render import print_plan
    from torghut_core.generation import build
    from torghut_core.research.simulation.cluster import write_objects
    from torghut_core.research.simulation.isolation import checks
    from torghut_core.trading.totals import to_json

    made, host = _plan(manifest, run_id, output_root)
    found = checks(made, build(load({"catalog.yaml": made.catalog_text}), host))
    written = [] if objects is None else write_objects(made, manifest, objects)
    if as_json:
        values = [asdict(check) for check in found]
        print(to_json(made.to_json() | {"isolation": values, "objects": [str(path) for path in written]}))
    else:
        print_plan(made, found, written)
    if made.window is None or not all(check.ok for check in found):
        raise typer.Exit(1)


@command(simulate, "torghut simulate run --manifest day.yaml --confirm START_HISTORICAL_SIMULATION")
def run(
    manifest: ManifestOption,
    confirm: Confirm = "",
    run_id: RunId = None,
    output_root: OutputRoot = None,
    force_dump: Annotated[bool, typer.Option("--force-dump", help="Take the events from the tapes again.")] = False,
    force_replay: Annotated[
        bool, typer.Option("--force-replay", help="Forget what an earlier run of this id has done.")
    ] = False,
    allow_missing_state: Annotated[
        bool, typer.Option("--allow-missing-state", help="Begin anew where the states of an earlier start are gone.")
    ] = False,
    state: State = STATE,
    as_json: AsJson = False,
) -> None:
    """Play a day through bus, TA and trading, with stores and topics of its own, and judge the result.

    --state, or DB_DSN, names the real audit database: its rows are counted before and after. A run that was killed is
    continued by the same command; one that is done is not run again. Exit code 1 where the verdict is FAIL.
    """
    from torghut_core.cli.render import steps
    from torghut_core.installation.settings import load_settings
    from torghut_core.research.simulation.isolation import CONFIRMATION
    from torghut_core.research.simulation.run import run_simulation

    if confirm != CONFIRMATION:
        raise InputError(f"nothing was started: say --confirm {CONFIRMATION}")
    made, host = _plan(manifest, run_id, output_root)
    with steps() as on_progress:
        report = run_simulation(
            made,
            host,
            load_settings(),
            state,
            force_dump=force_dump,
            force_replay=force_replay,
            allow_missing_state=allow_missing_state,
            on_progress=on_progress,
        )
    _say(report, made, as_json)


@command(simulate, "torghut simulate report --manifest day.yaml --run-id sim-20260105-1", name="report")
def show(
    manifest: ManifestOption,
    run_id: RunId = None,
    output_root: OutputRoot = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Fail, too, where an artefact is gone or is not what it was.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the report of a run. Exit code 1 where the verdict is FAIL."""
    from torghut_core.errors import StateError
    from torghut_core.research.simulation.report import altered, read_report

    made, _ = _plan(manifest, run_id, output_root)
    report = read_report(made.folder)
    if report is None:
        raise NotFoundError(f"{made.folder} has no report (run `torghut simulate run`, or give another --run-id)")
    if verify and (wrong := altered(made.folder, report)):
        raise StateError(f"not what they were in {made.folder}: {', '.join(wrong)} (run it again with --force-replay)")
    _say(report, made, as_json)


@command(simulate, "torghut simulate teardown --manifest day.yaml --run-id sim-20260105-1")
def teardown(
    manifest: ManifestOption, run_id: RunId = None, output_root: OutputRoot = None, as_json: AsJson = False
) -> None:
    """Remove what a run has made but its artefacts: stores, states and the bus."""
    from torghut_core.cli.options import say
    from torghut_core.research.simulation.run import teardown as remove

    made, _ = _plan(manifest, run_id, output_root)
    removed = remove(made)
    say({"run_id": made.run_id, "removed": removed}, "\n".join(removed) or "nothing was there", as_json)


def _plan(manifest: Path, run_id: str | None, output_root: Path | None) -> tuple[Plan, PluginHost]:
    from torghut_core.cli.options import plugin_host
    from torghut_core.research.backtests import load_catalog
    from torghut_core.research.simulation.manifest import load_manifest
    from torghut_core.research.simulation.plan import make_plan

    read = load_manifest(manifest)
    if output_root is not None:
        runtime = read.runtime.model_copy(update={"output_root": output_root.absolute()})
        read = read.model_copy(update={"runtime": runtime})
    host = plugin_host(load_catalog(read.catalog).plugins.allow)
    return make_plan(read, host, run_id), host


def _say(report: dict[str, Any], made: Plan, as_json: bool) -> None:
    from torghut_core.cli.render import print_simulation
    from torghut_core.trading.totals import to_json

    if as_json:
        print(to_json(report))
    else:
        print_simulation(report, made.folder)
    if report["verdict"]["status"] == "FAIL":
        raise typer.Exit(1)
