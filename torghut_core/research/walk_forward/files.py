"""What a walk forward leaves in its folder: the result, tables, and its page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from torghut_core.audit.values import plain
from torghut_core.research.experiments import Experiment, Ledger
from torghut_core.research.run_folder import RESULT, new_folder
from torghut_core.research.sweeps.sweep import Sweep
from torghut_core.research.walk_forward.page import write_walk_forward
from torghut_core.research.walk_forward.walk import WalkForward


def equity_table(done: WalkForward) -> pa.Table:
    """A row for each tested day: time (UTC), equity, drawdown, return, and the fold and set that it is of."""
    tested, returns = done.out_of_sample
    fold_of = np.concatenate([np.full(len(done.folds[fold].fold.tests[place]), fold) for fold, place in done.paths[0]])
    equity = done.equity
    highest = np.maximum(np.maximum.accumulate(equity), done.cash)
    return pa.table(
        {
            "time": pa.array(done.ends[tested]).cast(pa.timestamp("ns", "UTC")),
            "equity": equity,
            "drawdown": equity / highest - 1,
            "return": returns,
            "fold": fold_of,
            "set": np.array([done.folds[fold].best for fold in fold_of.tolist()]),
        }
    )


def trial_table(done: WalkForward) -> pa.Table:
    """A row for each fold and set: its parameters, the objective where it was chosen and where it was tested."""
    folds, sets = done.trained.shape
    paths = list(done.trials[0].params)
    columns: dict[str, Any] = {"fold": np.repeat(np.arange(folds), sets), "set": np.tile(np.arange(sets), folds)}
    for path in paths:
        columns[path] = [str(trial.params[path]) for trial in done.trials] * folds
    columns |= {"trained": done.trained.ravel(), "tested": done.tested.ravel()}
    columns["is_chosen"] = columns["set"] == np.repeat([each.best for each in done.folds], sets)
    return pa.table(columns)


def keep(
    folder: Path, done: WalkForward, sweep: Sweep, ledger: Ledger, run_id: str
) -> tuple[WalkForward, dict[str, Any]]:
    """Write everything to a folder, and add the run to the ledger; return it as it counts in the ledger, and the result.

    Parameters
    ----------
    folder : a new one, or an empty one; it is there as a whole, or not at all.
    done, sweep : the run, and what made it.
    ledger : says how often the same was tried in another way before.
    run_id : see `new_run_id`.

    Raises
    ------
    InputError : there is something in the folder.
    StateError : the folder cannot be written; or the ledger, and then the folder is there.
    TapeError : a tape is gone.
    """
    found, tape = done.to_json(), sweep.runner.tape
    experiment = Experiment.of(
        replace(sweep.generation, source=tape.source, catalog=sweep.runner.catalog),
        "walk-forward",
        run_id=run_id,
        began_at=tape.began_at,
        ended_at=tape.ended_at,
        figures=done.figures,
        params={axis.path: plain(axis.values) for axis in sweep.runner.axes},
        folds=found["plan"] | {"figures": found["folds"]},
        variants=len(done.trials) + len(done.refused),
        selection=f"highest {done.objective} where it was chosen",
        folder=str(folder.absolute()),
    )
    same = experiment.strategy, experiment.data_digest
    before = ledger.find(kind="walk-forward")
    others = {row.is_again for row in before if (row.strategy, row.data_digest) == same} - {experiment.is_again}
    done = replace(done, earlier=len(others))
    result = done.to_json() | experiment.to_json()
    write(folder, done, result, f"Walk forward of {experiment.strategy}")
    ledger.add(experiment)
    return done, result


def write(folder: Path, done: WalkForward, result: Mapping[str, Any], title: str) -> None:
    """Write tables, page and ``result.json``; raises as `keep`."""
    with new_folder(folder) as made:
        pq.write_table(equity_table(done), made / "equity.parquet")
        pq.write_table(trial_table(done), made / "trials.parquet")
        write_walk_forward(made / "page.html", title, done, result)
        (made / RESULT).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
