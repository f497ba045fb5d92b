"""Many days, each a process with its plan: run, torn down, and written down in a report of the day and in the registry."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from torghut_core.errors import StateError, TorghutError
from torghut_core.research.backtests import load_catalog
from torghut_core.research.simulation.artifacts import read_json, sha256_of, write_json, write_text
from torghut_core.research.simulation.isolation import CONFIRMATION
from torghut_core.research.simulation.plan import Plan
from torghut_core.research.simulation.processes import POLL_S, Child
from torghut_core.research.simulation.report import REPORT, read_report
from torghut_core.research.simulation.run import STATE, RunState, alone, teardown
from torghut_core.timestamps import SYSTEM_CLOCK, format_timestamp

DAY_SCHEMA = "torghut.day-report.v1"
REGISTRY_SCHEMA = "torghut.day-registry.v1"
REGISTRY = "day-registry.json"
DAY_REPORT = "day-report.json"

PLANNED, DONE, FAILED, EMPTY_DAY = "planned", "done", "failed", "empty_day"
BLOCKED, PATCH_FAIL, RECOVERY, MANUAL = "blocked_config_drift", "patch_fail", "recovery", "manual_cleanup_required"

TEARDOWNS = 3
"""How often a teardown is tried."""

OnDay = Callable[[dict[str, Any]], None]
"""Called with the report of each day, as it is there."""


def planned(plans: Sequence[Plan], *, force_replay: bool = False) -> list[dict[str, Any]]:
    """What would be done of each day; nothing is written."""
    found = []
    for plan in plans:
        kept = None if force_replay else _kept(plan)
        status, reason = _obstacle(plan, force_replay=force_replay) or (PLANNED, "")
        found.append(kept or _day_report(plan, status, reason))
    return found


def run_days(
    plans: Sequence[Plan],
    state: Path,
    *,
    most_parallel: int = 1,
    force_dump: bool = False,
    force_replay: bool = False,
    on_day: OnDay = lambda _report: None,
) -> list[dict[str, Any]]:
    """Run each day that is not done, tear it down, and give the reports of all, in the order of the plans.

    A day that was killed in the middle is continued; one that did not come to its end is begun anew.

    Parameters
    ----------
    state : see ``torghut simulate run --state``.
    most_parallel : days at a time.
    force_dump, force_replay : as those of `run_simulation`, for each day.
    on_day : see `OnDay`.

    Raises
    ------
    StateError : another process runs days below the same output root, or a report cannot be written.
    """
    if not plans:
        return []
    root = plans[0].manifest.runtime.output_root
    reports: dict[str, dict[str, Any]] = {}

    def keep(plan: Plan, report: dict[str, Any], *, is_new: bool = True) -> None:
        reports[plan.run_id] = report
        if is_new:
            write_json(plan.folder / DAY_REPORT, report)
            _register(root, plan, report)
        on_day(report)

    with alone(root / "days.lock", "torghut simulate days"), ExitStack() as stack:
        running: list[_Running] = []
        waiting = list(reversed(plans))
        while waiting or running:
            while waiting and len(running) < most_parallel:
                plan = waiting.pop()
                kept = None if force_replay else _kept(plan)
                obstacle = _obstacle(plan, force_replay=force_replay)
                if kept is not None:
                    keep(plan, kept, is_new=False)
                elif obstacle is not None:
                    keep(plan, _day_report(plan, *obstacle))
                else:
                    running.append(_Running(plan, state, force_dump=force_dump, force_replay=force_replay))
                    stack.callback(running[-1].child.stop)
            for each in [each for each in running if each.child.code is not None]:
                running.remove(each)
                keep(each.plan, each.report())
            if running:
                time.sleep(POLL_S)
    return [reports[plan.run_id] for plan in plans]


class _Running:
    """A day whose process has been started."""

    def __init__(self, plan: Plan, state: Path, *, force_dump: bool, force_replay: bool) -> None:
        self.plan = plan
        self._began = SYSTEM_CLOCK.wall()
        folder = plan.folder
        earlier = read_json(folder / DAY_REPORT)
        if force_replay or earlier is not None:  # what is there is not to be taken for this one's
            force_replay = True
            (folder / REPORT).unlink(missing_ok=True)
        manifest = write_text(folder / "manifest.yaml", yaml.safe_dump(plan.manifest.content, sort_keys=False))
        arguments: list[str | Path] = ["simulate", "run", "--manifest", manifest, "--run-id", plan.run_id]
        arguments += ["--state", state.absolute(), "--confirm", CONFIRMATION, "--json"]
        arguments += ["--force-dump"] if force_dump else []
        arguments += ["--force-replay"] if force_replay else []
        (folder / "logs").mkdir(exist_ok=True)
        self.child = Child("simulate", arguments, folder / "logs", os.environ)

    def report(self) -> dict[str, Any]:
        """Tear down what the day has left, and say how it ended."""
        plan = self.plan
        result = read_report(plan.folder)
        status, reason = _status(plan, result, self.child)
        removed, left = _torn_down(plan)
        if left:
            status, reason = MANUAL, "; ".join(filter(None, [reason, left]))
        return _day_report(plan, status, reason, result, removed, self._began)


def _kept(plan: Plan) -> dict[str, Any] | None:
    """The report of a day that came to its verdict, of the same plan."""
    found = read_json(plan.folder / DAY_REPORT)
    is_this = isinstance(found, dict) and found.get("schema") == DAY_SCHEMA and found.get("digest") == plan.digest
    return found if is_this and found["status"] in (DONE, FAILED) and found["verdict"] else None


def _obstacle(plan: Plan, *, force_replay: bool) -> tuple[str, str] | None:
    """Why a day is not started: its status, and the reason."""
    if plan.session is None:
        return EMPTY_DAY, "the market is closed"
    if not any(tape.exists() for tape in plan.manifest.tapes):
        return EMPTY_DAY, f"no tape {plan.manifest.tapes[0]}"
    try:
        digest = load_catalog(plan.manifest.catalog).digest
    except TorghutError as error:
        return BLOCKED, str(error)
    if digest != plan.catalog_digest:
        return BLOCKED, f"the catalog {plan.manifest.catalog} has changed since the days were planned"
    if not force_replay and RunState(plan.folder, plan.run_id, plan.digest).is_of_another:
        return BLOCKED, "an earlier run was of another manifest or catalog (--sequence 2, or --force-replay)"
    return None


def _status(plan: Plan, result: dict[str, Any] | None, child: Child) -> tuple[str, str]:
    """How the process of a day ended: the status, and the reason where it is not done."""
    phase = RunState(plan.folder, plan.run_id, plan.digest).status
    if result is None:
        return (RECOVERY if phase("monitor") else PATCH_FAIL if phase("apply") else FAILED), child.last_words()
    if "empty_day" in result["verdict"]["codes"]:
        return EMPTY_DAY, "the tapes have no event of the day"
    if failure := result["run_metadata"]["failure"]:
        return (RECOVERY if phase("monitor") else PATCH_FAIL), failure
    codes = ", ".join(result["verdict"]["codes"])
    return (FAILED if result["verdict"]["status"] == "FAIL" else DONE), codes


def _torn_down(plan: Plan) -> tuple[list[str], str]:
    """What was removed; and what has to be done by hand, "" where that is nothing. A folder that no run has made is left alone."""
    if not (plan.folder / STATE).is_file():
        return [], ""
    left = ""
    for attempt in range(TEARDOWNS):
        if attempt:
            time.sleep(1)
        try:
            return teardown(plan), ""
        except StateError as error:
            left = str(error)
    return [], left


def _day_report(
    plan: Plan,
    status: str,
    reason: str,
    result: dict[str, Any] | None = None,
    removed: Sequence[str] = (),
    began: int | None = None,
) -> dict[str, Any]:
    made = plan.to_json()
    session = plan.session
    coverage = (result or {}).get("coverage") or {}
    funnel = (result or {}).get("funnel") or {}
    pnl = (result or {}).get("pnl") or {}
    return {
        "schema": DAY_SCHEMA,
        "trading_day": str(plan.manifest.window.trading_day),
        "run_id": plan.run_id,
        "dataset_id": plan.manifest.dataset_id,
        "digest": plan.digest,
        "status": status,
        "reason": reason,
        "verdict": None if result is None else result["verdict"]["status"],
        "session": None
        if session is None
        else {"start": format_timestamp(session.since), "end": format_timestamp(session.until)},
        **{name: made[name] for name in ("window", "topics", "group", "database", "catalog_digest")},
        "metrics": {
            "dump_records": coverage.get("records", 0),
            "dump_records_by_topic": coverage.get("records_by_topic", {}),
            **{name: count for name, count in funnel.items() if isinstance(count, int)},
            "net": pnl.get("net"),
        },
        "removed": list(removed),
        "began_at": None if began is None else format_timestamp(began),
        "ended_at": None if began is None else format_timestamp(SYSTEM_CLOCK.wall()),
        "evidence": dict(_evidence(plan)) if began is not None else {},
    }


def _evidence(plan: Plan) -> Iterator[tuple[str, str]]:
    """The files that say how a day went, each with its sha256."""
    for name in ("manifest.yaml", "run-manifest.json", "source-dump.ndjson", str(REPORT)):
        path = plan.folder / name
        if path.is_file():
            yield name, sha256_of(path)


def _register(root: Path, plan: Plan, report: dict[str, Any]) -> None:
    """Put a day into the registry, in place of what it has of the same run."""
    kept = read_json(root / REGISTRY)
    runs = kept["runs"] if isinstance(kept, dict) and kept.get("schema") == REGISTRY_SCHEMA else {}
    names = ("trading_day", "dataset_id", "digest", "status", "reason", "verdict", "ended_at")
    runs[plan.run_id] = {name: report[name] for name in names} | {"report": f"{plan.run_id}/{DAY_REPORT}"}
    write_json(root / REGISTRY, {"schema": REGISTRY_SCHEMA, "runs": dict(sorted(runs.items()))})
