"""The commands `simulate plan`, `run`, `report`, `teardown` and `days`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from torghut_core.cli.help import RESEARCH, Group, command
from torghut_core.cli.options import STATE, AsJson, State
from torghut_core.errors import InputError, NotFoundError

if TYPE_CHECKING:
    from torghut_core.plugin_host import PluginHost
    from torghut_core.research.simulation.manifest import Manifest
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
ForceDump = Annotated[bool, typer.Option("--force-dump", help="Take the events from the tapes again.")]
ForceReplay = Annotated[bool, typer.Option("--force-replay", help="Forget what an earlier run of this id has done.")]


class CalendarFilter(StrEnum):
    """Which dates `simulate days` takes."""

    STRICT = "strict"
    SKIP_EMPTY = "skip-empty"


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
    force_dump: ForceDump = False,
    force_replay: ForceReplay = False,
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


@command(
    simulate,
    "torghut simulate days --manifest day.yaml --from-date 2026-01-05 --to-date 2026-01-30 --dry-run\n"
    "torghut simulate days --manifest day.yaml --confirm START_HISTORICAL_SIMULATION",
)
def days(
    manifest: ManifestOption,
    from_date: Annotated[
        str | None,
        typer.Option("--from-date", metavar="DAY", help="The first day (default: the last session before today)."),
    ] = None,
    to_date: Annotated[
        str | None, typer.Option("--to-date", metavar="DAY", help="The last day (default: the first one).")
    ] = None,
    calendar_filter: Annotated[
        CalendarFilter,
        typer.Option(
            "--calendar-filter",
            help="strict: sessions, and one without events fails; skip-empty: every date, where there is something.",
        ),
    ] = CalendarFilter.STRICT,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be run, and start nothing.")] = False,
    max_parallel_days: Annotated[
        int, typer.Option("--max-parallel-days", metavar="N", help="Days at a time.", min=1, max=64)
    ] = 1,
    sequence: Annotated[int, typer.Option("--sequence", metavar="N", help="The N of the ids sim-DAY-N.", min=1)] = 1,
    confirm: Confirm = "",
    output_root: OutputRoot = None,
    force_dump: ForceDump = False,
    force_replay: ForceReplay = False,
    state: State = STATE,
    as_json: AsJson = False,
) -> None:
    """Run the days between two dates, each as `run` does, tear them down, and keep a registry of them.

    A day that came to its verdict is not run again; one that was killed is continued. Exit code 1 where a day is neither done nor,
    with skip-empty, empty.
    """
    from torghut_core.cli.render import print_days, progress
    from torghut_core.research.simulation.day_runs import DONE, EMPTY_DAY, PLANNED, planned, run_days
    from torghut_core.research.simulation.isolation import CONFIRMATION
    from torghut_core.trading.totals import to_json

    if not dry_run and confirm != CONFIRMATION:
        raise InputError(f"nothing was started: say --confirm {CONFIRMATION}, or --dry-run")
    is_strict = calendar_filter is CalendarFilter.STRICT
    plans = _plans(manifest, from_date, to_date, output_root, sequence, sessions_only=is_strict)
    if dry_run:
        reports = planned(plans, force_replay=force_replay)
    else:
        with progress(len(plans), "days", "days") as advance:
            done: list[str] = []

            def on_day(report: dict[str, Any]) -> None:
                done.append(report["run_id"])
                advance(len(done))

            reports = run_days(
                plans,
                state,
                most_parallel=max_parallel_days,
                force_dump=force_dump,
                force_replay=force_replay,
                on_day=on_day,
            )
    if as_json:
        print(to_json({"days": reports}))
    else:
        print_days(reports)
    good = {PLANNED, DONE} if is_strict else {PLANNED, DONE, EMPTY_DAY}
    if any(report["status"] not in good for report in reports):
        raise typer.Exit(1)


def _plans(
    path: Path,
    from_date: str | None,
    to_date: str | None,
    output_root: Path | None,
    sequence: int,
    *,
    sessions_only: bool,
) -> list[Plan]:
    from datetime import UTC, datetime

    from torghut_core.cli.options import plugin_host
    from torghut_core.research.backtests import load_catalog
    from torghut_core.research.simulation.days import last_day, manifests, parse_day, plan_day

    if from_date is None and to_date is not None:
        raise InputError("--to-date without --from-date (give both, or neither for the last session before today)")
    first = last_day(path, datetime.now(UTC)) if from_date is None else parse_day("--from-date", from_date)
    last = first if to_date is None else parse_day("--to-date", to_date)
    read = [_below(each, output_root) for each in manifests(path, first, last, sessions_only=sessions_only)]
    if not read:
        return []
    host = plugin_host(load_catalog(read[0].catalog).plugins.allow)
    return [plan_day(each, host, sequence) for each in read]


def _below(read: Manifest, output_root: Path | None) -> Manifest:
    """A manifest with the output root that was given, if one was."""
    if output_root is None:
        return read
    return read.model_copy(update={"runtime": read.runtime.model_copy(update={"output_root": output_root.absolute()})})


def _plan(manifest: Path, run_id: str | None, output_root: Path | None) -> tuple[Plan, PluginHost]:
    from torghut_core.cli.options import plugin_host
    from torghut_core.research.backtests import load_catalog
    from torghut_core.research.simulation.manifest import load_manifest
    from torghut_core.research.simulation.plan import make_plan

    read = _below(load_manifest(manifest), output_root)
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
