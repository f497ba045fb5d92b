"""What a sweep leaves in its folder beside its trials: the result and the page; and its row in the ledger."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from torghut_core.audit.values import plain
from torghut_core.catalog import content_digest
from torghut_core.research.belief.judge import Belief
from torghut_core.research.experiments import Experiment, Ledger, tried
from torghut_core.research.run_folder import RESULT, read_run
from torghut_core.research.sweeps.page import write_sweep
from torghut_core.research.sweeps.results import Objective, SweepResult
from torghut_core.research.sweeps.search import Search, value_text
from torghut_core.research.sweeps.sweep import Sweep
from torghut_core.research.sweeps.table import write_text


def identity(sweep: Sweep, search: str, plan: Search, seed: int, objective: Objective) -> dict[str, Any]:
    """What a sweep is of: equal for two that give the same trials."""
    runner = sweep.runner
    of = _experiment(sweep)
    job = runner.job
    settings = [msgspec.structs.asdict(job.gates), job.allow_shorts, msgspec.structs.asdict(job.limits)]
    return {
        "catalog": of.catalog_digest,
        "code": of.code_digest,
        "tapes": of.data_digest,
        "settings": content_digest(plain(settings)),
        "strategies": of.strategy,
        "values": {axis.path: [value_text(value) for value in axis.values] for axis in runner.axes},
        "search": search,
        "seed": None if search == "grid" else seed,
        "sets": plan.total,
        "objective": [objective.name, objective.is_minimized] if search == "tpe" else None,
    }


def folder_name(identity: Mapping[str, Any]) -> str:
    """The name of a sweep's folder where none is given: the same for the same sweep, so that it resumes."""
    return f"sweep-{content_digest(plain(identity))[:12]}"


def keep(folder: Path, done: SweepResult, sweep: Sweep, search: str, state: Path) -> dict[str, Any]:
    """Write ``result.json`` and ``page.html``, add the sweep to the ledger of the state directory, and return the result.

    Raises
    ------
    StateError : something cannot be written; what could be is there.
    """
    best = done.best
    goal = f"{'lowest' if done.objective.is_minimized else 'highest'} {done.objective.name} of {search}"
    experiment = _experiment(
        sweep,
        figures=best[0].figures if best else {},
        params={axis.path: [value_text(value) for value in axis.values] for axis in done.axes},
        variants=max(1, len(done.trials)),
        selection=goal,
        folder=str(folder.absolute()),
    )
    believed = _belief(done, sweep, tried(state, experiment)) if best else None
    path = folder / RESULT
    if not done.fresh and path.exists():
        before = read_run(folder)
        same = {name: getattr(before, name) for name in ("run_id", "created_at", "author")}
        experiment = msgspec.structs.replace(experiment, **same)
    result = experiment.to_json() | done.to_json() | {"belief": believed.to_json() if believed else None}
    write_text(path, json.dumps(result, indent=1))
    title = f"Sweep of {experiment.strategy}"
    facts = {name: result[name] for name in _FACTS}
    write_sweep(folder / "page.html", title, done, facts, believed.sentence if believed else "")
    with closing(Ledger.open(state)) as ledger:
        if not ledger.find(run=experiment.run_id):  # a call before this one may have failed at the ledger
            ledger.add(experiment)
    return result


_FACTS = (
    *("run_id", "created_at", "author", "strategy", "universe", "began_at", "ended_at", "selection", "costs"),
    *("catalog_digest", "code_digest", "data_digest"),
)
"""What of the result the page lists."""


def _experiment(sweep: Sweep, **fields: Any) -> Experiment:
    generation = replace(sweep.generation, source=sweep.runner.tape.source, catalog=sweep.runner.catalog)
    tape = sweep.runner.tape
    given = {"figures": {}, "params": {}} | fields
    return Experiment.of(generation, "sweep", began_at=tape.began_at, ended_at=tape.ended_at, **given)


def _belief(done: SweepResult, sweep: Sweep, trials: int) -> Belief:
    """How far the best set can be believed, in view of all that were tried: here, and before."""
    best = sweep.runner.run(done.best[0].params)
    sharpes = np.array([trial.figures.get("sharpe", math.nan) for trial in done.trials])
    sharpes = sharpes[np.isfinite(sharpes)]
    variance = float(sharpes.var(ddof=1)) / best.days.per_year if len(sharpes) > 1 else None
    return best.belief(trials, variance=variance)
