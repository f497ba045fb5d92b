"""Runs a simulation: one at a time below an output root, again and again to the same end, everything ended in all cases."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from torghut_core.bus.schema import check_schemas
from torghut_core.catalog import load
from torghut_core.errors import InputError, StateError, TorghutError
from torghut_core.files import open_lock
from torghut_core.generation import build
from torghut_core.installation.settings import Settings
from torghut_core.plugin_host import PluginHost
from torghut_core.research.simulation.artifacts import read_json, sha256_of, write_json, write_text
from torghut_core.research.simulation.database import drop_database, make_database
from torghut_core.research.simulation.dataset import Dump, take_dump
from torghut_core.research.simulation.isolation import Check, checks, production_rows, require
from torghut_core.research.simulation.plan import Plan
from torghut_core.research.simulation.processes import Child
from torghut_core.research.simulation.report import Outcome, read_report, write_report
from torghut_core.timestamps import SYSTEM_CLOCK, format_timestamp

STATE = "run-state.json"
REMOVED = ("state", "bus", "catalog")
"""Folders in that of a run which its teardown removes."""

OnProgress = Callable[[str, int], None]
"""Called with what is being done, and the events so far."""


class RunState:
    """How far a run is: a phase at a time, written down as it happens."""

    def __init__(self, folder: Path, run_id: str, digest: str) -> None:
        self._path = folder / STATE
        kept = read_json(self._path)
        is_this = isinstance(kept, dict) and kept.get("digest") == digest
        self.is_of_another = isinstance(kept, dict) and not is_this
        self.content: dict[str, Any] = kept if is_this else {"run_id": run_id, "digest": digest, "phases": {}}

    def enter(self, phase: str, status: str, detail: str = "") -> None:
        """Write down the state of a phase."""
        now = format_timestamp(SYSTEM_CLOCK.wall())
        self.content["phases"][phase] = {"status": status, "at": now, "detail": detail}
        write_json(self._path, self.content)

    def status(self, phase: str) -> str:
        """The state of a phase; "" where it was not entered."""
        return str(self.content["phases"].get(phase, {}).get("status", ""))


def run_simulation(
    plan: Plan,
    host: PluginHost,
    settings: Settings,
    production: Path,
    *,
    force_dump: bool = False,
    force_replay: bool = False,
    allow_missing_state: bool = False,
    on_progress: OnProgress = lambda _what, _events: None,
) -> dict[str, Any]:
    """Run a simulation to its report, and return that. A run that has its report is not run again.

    Where another process was killed in the middle, the run continues with what it had: the dump where it is whole, and the states of the
    processes, which continue as after any crash.

    Parameters
    ----------
    settings, production : name the real audit database, of which rows are counted before and after.
    force_dump : take the events from the tapes again.
    force_replay : forget what an earlier run of this id has done.
    allow_missing_state : whether a run whose states are gone may begin anew.
    on_progress : see `OnProgress`.

    Raises
    ------
    InputError : the id is that of a run of another manifest, or of a folder that no run has made.
    StateError : the run is in use by another process; it is not isolated; or something cannot be ended.
    """
    _check_own(plan.folder)
    with locked(plan):
        state = RunState(plan.folder, plan.run_id, plan.digest)
        if (state.is_of_another or force_replay) and plan.folder.exists():
            if not force_replay:
                raise InputError(
                    f"{plan.folder} is of another manifest or catalog (give another --run-id, or --force-replay to forget it)"
                )
            remove_state(plan)
            state = RunState(plan.folder, plan.run_id, plan.digest)
            state.content = {"run_id": plan.run_id, "digest": plan.digest, "phases": {}}
        report = read_report(plan.folder)
        if state.status("report") == "done" and report is not None:
            return report
        return _run(
            plan,
            host,
            settings,
            production,
            state,
            on_progress,
            force_dump=force_dump,
            may_lack_state=allow_missing_state,
        )


def _check_own(folder: Path) -> None:
    """Raise `InputError` where a folder has what a run would write over or remove, and no run has made it: a real state or catalog."""
    if not (folder / STATE).is_file() and any((folder / name).exists() for name in REMOVED):
        raise InputError(
            f"{folder} is not the folder of a simulation: it has no {STATE} (give another --run-id, or another runtime.output_root)"
        )


@contextmanager
def locked(plan: Plan) -> Iterator[None]:
    """Own the run, and the output root too where the manifest names one database for all of its runs.

    Raises
    ------
    StateError : another simulation has it, or it cannot be written.
    """
    clickhouse = plan.manifest.clickhouse
    has_own_database = clickhouse is None or clickhouse.simulation_database is None
    with ExitStack() as stack:
        for folder in [plan.folder] if has_own_database else [plan.manifest.runtime.output_root, plan.folder]:
            stack.enter_context(alone(folder / "inflight.lock", plan.run_id))
        yield


@contextmanager
def alone(path: Path, who: str) -> Iterator[None]:
    """Own a lock file, which says who has it; the lock ends with the process, however that ends.

    Raises
    ------
    StateError : another process has it, or it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = open_lock(path)
    except OSError as error:
        raise StateError(f"{path}: {error.strerror} (choose another runtime.output_root)") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            other = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another simulation"
            raise StateError(f"{path.parent} is in use by {other} (let it finish: one at a time)") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{who}, process {os.getpid()}\n".encode(), 0)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _run(
    plan: Plan,
    host: PluginHost,
    settings: Settings,
    production: Path,
    state: RunState,
    on_progress: OnProgress,
    *,
    force_dump: bool,
    may_lack_state: bool,
) -> dict[str, Any]:
    began = time.monotonic()
    is_resumed = state.status("apply") != ""
    generation = build(load({"catalog.yaml": plan.catalog_text}), host)
    found = checks(plan, generation)
    require(found)
    had_state = (plan.folder / "state").exists()
    if is_resumed and not had_state and not may_lack_state:
        raise StateError(
            f"restore_state_missing: {plan.folder / 'state'} of an earlier start is gone (give --allow-missing-state to begin anew)"
        )
    state.enter("preflight", "done", f"{len(found)} checks hold")
    state.enter("argocd_prepare", "skipped", "no application is managed: the processes are this one's own")
    before = {} if plan.window is None else production_rows(settings, production, plan.window)
    dump: Dump | None = None
    failure = ""
    try:
        if plan.window is not None:
            on_progress("dump", 0)
            dump = take_dump(plan, host, plan.window, force=force_dump)
        if dump is not None and dump.records:
            write_text(plan.catalog_path, plan.catalog_text)
            state.enter("apply", "started", "resumed" if is_resumed else "")
            _play(plan, dump, state, on_progress)
            state.enter("apply", "done")
            state.enter("monitor", "done")
    except TorghutError as error:
        failure = str(error)
        state.enter("apply", "failed", failure)
    except KeyboardInterrupt:
        state.enter("apply", "interrupted", "the next start continues")
        raise
    finally:
        state.enter("argocd_restore", "done", "all processes have ended; nothing else was changed")
    after = {} if plan.window is None else production_rows(settings, production, plan.window)
    untouched = Check(
        "production_rows", before == after, str(after), f"they were {before}: find out who writes rows of the past"
    )
    _write_manifests(plan, dump, is_resumed=is_resumed, had_state=had_state)
    outcome = Outcome(dump, [*found, untouched], failure, time.monotonic() - began)
    report = write_report(plan, generation, outcome)
    state.enter("report", "failed" if failure else "done", report["verdict"]["status"])
    _write_lifecycle(plan, state)
    return report


def _play(plan: Plan, dump: Dump, state: RunState, on_progress: OnProgress) -> None:
    """Start the processes, wait until all has gone through them, and end them.

    Raises
    ------
    StateError : one ended with an error, was not done in time, or could not be ended.
    """
    logs = plan.folder / "logs"
    logs.mkdir(exist_ok=True)
    (plan.folder / "state").mkdir(exist_ok=True)
    children: list[Child] = []
    until = time.monotonic() + plan.manifest.monitor.timeout_seconds

    def start(command: str) -> Child:
        arguments: list[str | Path] = [
            command,
            "--catalog",
            plan.catalog_path,
            "--state",
            plan.state(command),
            "--port",
            "0",
        ]
        child = Child(command, arguments, logs, plan.environment())
        children.append(child)
        return child

    try:
        make_database(plan)
        state.enter("monitor", "started")
        if plan.is_on_kafka:
            _play_on_kafka(plan, dump, start, until, on_progress)
        else:
            trading = start("run")
            for _ in trading.waiting(until):
                on_progress("trade", int(trading.metrics().get("events_total", 0)))
    finally:
        with ExitStack() as stack:
            for child in children:
                stack.callback(child.stop)


def _play_on_kafka(
    plan: Plan, dump: Dump, start: Callable[[str], Child], until: float, on_progress: OnProgress
) -> None:
    """From the dump to the simulated topics, from there to the signals, and from those to decisions.

    At full speed trading begins when the signals are there: symbols do not wait for each other, and their order in the store
    would depend on how fast each was derived.
    """
    grace = plan.manifest.monitor.cursor_grace_seconds
    is_paced = plan.manifest.replay.pace_mode != "max_throughput"
    ta = start("ta")
    trading = start("run") if is_paced else None
    forward = start("forward")
    for _ in forward.waiting(until):
        on_progress("play", int(forward.metrics().get("forwarded_total", 0)))
    _settle(ta, "events_total", grace, until, lambda events: on_progress("derive", events), least=dump.records)
    ta.stop()
    trading = trading or start("run")
    _settle(trading, "clickhouse_signals_rows_total", grace, until, lambda events: on_progress("trade", events))


def _settle(
    child: Child, metric: str, grace: float, until: float, on_progress: Callable[[int], None], least: int | None = None
) -> None:
    """Wait until a process has counted `least`, or has counted something and then nothing more for `grace` seconds."""
    last, since = -1, time.monotonic()
    for _ in child.waiting(until):
        count = int(child.metrics().get(metric, -1))
        if count != last:
            last, since = count, time.monotonic()
            on_progress(max(count, 0))
        is_quiet = last >= 0 and time.monotonic() - since >= grace
        if is_quiet or (least is not None and count >= least):
            return
    raise StateError(f"torghut {child.name} ended before it was asked to")


def _write_manifests(plan: Plan, dump: Dump | None, *, is_resumed: bool, had_state: bool) -> None:
    window = plan.manifest.window
    lost = is_resumed and not had_state
    reason = "restore_state_missing" if lost else ""
    mode = "last-state" if is_resumed and had_state else "stateless"
    write_json(
        plan.folder / "run-manifest.json",
        plan.to_json()
        | {
            "replay": {
                "records": 0 if dump is None else dump.records,
                "records_by_topic": {} if dump is None else dump.records_by_topic,
                "pace_mode": plan.manifest.replay.pace_mode,
            },
            "dump": {"sha256": None if dump is None else dump.sha256},
            "dump_coverage": None if dump is None else dump.to_json(),
            "window_policy": window.model_dump(mode="json"),
            "ta_restore": {
                "mode": mode,
                "effective_upgrade_mode": mode,
                "fallback_applied": lost,
                "reason": reason,
            },
            "rollouts": dict.fromkeys(
                ("runtime_analysis_run", "activity_analysis_run", "artifact_analysis_run", "teardown_analysis_run")
            ),
        },
    )
    problems = check_schemas(None)
    write_json(
        plan.folder / "runtime-verify.json",
        {
            "schema_registry": {
                "ready": not problems,
                "reason": "schema_registry_not_ready" if problems else "",
                "problems": [str(problem) for problem in problems],
            },
            "analysis_images": {"ready": True, "reason": ""},
            "ta_runtime": {"upgrade_mode": mode, "restore_state_reason": reason},
            "runtime_state": {"resumed": is_resumed},
            "environment_state": plan.settings()
            | {"TRADING_SIMULATION_ENABLED": "true", "TRADING_EXECUTION_ADAPTER": "simulation", "fallback": "none"},
        },
    )


def _write_lifecycle(plan: Plan, state: RunState) -> None:
    files = sorted(path for path in plan.folder.glob("*.json") if path.name != "run-full-lifecycle-manifest.json")
    files += sorted((plan.folder / "report").iterdir())
    write_json(
        plan.folder / "run-full-lifecycle-manifest.json",
        {
            "run_id": plan.run_id,
            "digest": plan.digest,
            "phases": state.content["phases"],
            "manifest": read_json(plan.folder / "run-manifest.json"),
            "artifacts": {str(path.relative_to(plan.folder)): sha256_of(path) for path in files},
        },
    )


def teardown(plan: Plan) -> list[str]:
    """Remove what a run has made but its artefacts: stores, states and the bus; return what was removed, a line each.

    Raises
    ------
    InputError : no run has made its folder.
    StateError : another simulation is running, or something cannot be removed; with what to do by hand.
    """
    _check_own(plan.folder)
    with locked(plan):
        removed = remove_state(plan)
        if (plan.folder / STATE).exists():
            state = RunState(plan.folder, plan.run_id, plan.digest)
            state.enter("teardown", "done", "; ".join(removed))
        return removed


def remove_state(plan: Plan) -> list[str]:
    """Remove databases, states, topics and the bus of a run; what is not there is left out."""
    removed: list[str] = []
    failed: list[str] = []
    for name in REMOVED:
        if (plan.folder / name).exists():
            try:
                shutil.rmtree(plan.folder / name)
                removed.append(f"folder {plan.folder / name}")
            except OSError as error:
                failed.append(f"remove {plan.folder / name} by hand: {error.strerror}")
    if plan.manifest.clickhouse is not None:
        from torghut_core.signals.clickhouse import server_client

        try:
            client, _ = server_client(
                plan.manifest.clickhouse.http_url,
                plan.manifest.clickhouse.username,
                plan.environment().get("TA_CLICKHOUSE_PASSWORD", ""),
            )
            try:
                client.command(f"DROP DATABASE IF EXISTS {plan.database}")
            finally:
                client.close()
            removed.append(f"ClickHouse database {plan.database}")
        except Exception as error:
            failed.append(f"DROP DATABASE {plan.database} by hand: {error}")
    try:
        removed += drop_database(plan)
    except StateError as error:
        failed.append(str(error))
    if plan.is_on_kafka:
        prefix = f"torghut.sim.{plan.token}."
        removed.append(f"topics {prefix}* and group {plan.group} stay until the cluster's retention ends them")
    if failed:
        raise StateError("not all could be removed; " + "; ".join(failed))
    return removed
