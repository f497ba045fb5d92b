"""The folder of a run: what came out of a backtest, as files that other programs read.

``result.json`` says what was run and its figures, beside it are the round trips, the equity and the orders as Parquet, and the page.
The folder is made beside its place and moved there when it is whole, so one that is there is whole.
"""

from __future__ import annotations

import json
import math
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from torghut_core.errors import InputError, NotFoundError, StateError
from torghut_core.research.belief.judge import Belief
from torghut_core.research.experiments import Experiment
from torghut_core.research.pages.backtest import write_backtest
from torghut_core.research.performance.curve import BUY_AND_HOLD, Row
from torghut_core.signals import column, texts
from torghut_core.trading.totals import to_json

if TYPE_CHECKING:
    from torghut_core.research.backtests import Backtest

RESULT = "result.json"
NO_COSTS: Mapping[Decimal, Mapping[str, float]] = {}
_TIMES = ("decided_at", "last_update_at")
_AMOUNTS = (
    "quantity",
    "limit_price",
    "stop_price",
    "trail_price",
    "trail_pct",
    "filled_quantity",
    "average_price",
    "fees",
)
_TEXTS = (
    "client_order_id",
    "decision_hash",
    "strategy_id",
    "symbol",
    "side",
    "order_type",
    "time_in_force",
    "state",
    "reason",
    "purpose",
    "parent",
)


def save_backtest(
    folder: Path,
    done: Backtest,
    experiment: Experiment,
    *,
    belief: Belief | None = None,
    title: str = "Backtest",
    benchmark: str = BUY_AND_HOLD,
    costs: Mapping[Decimal, Mapping[str, float]] = NO_COSTS,
) -> Path:
    """Write the folder of a backtest and return its path.

    Parameters
    ----------
    folder : not there yet, or empty.
    experiment : what was run, see `experiment_of`.
    belief : whether it can be told from luck; that of a single trial where None.
    title : of the page.
    benchmark, costs : as `Studied` has them.

    Raises
    ------
    InputError : the folder has something in it.
    StateError : it cannot be written.
    """
    belief = belief or done.belief()
    with new_folder(folder) as made:
        pq.write_table(done.trades, made / "round_trips.parquet")
        pq.write_table(done.equity, made / "equity.parquet")
        pq.write_table(order_table(done.orders()), made / "orders.parquet")
        multiples = {float(factor): figures for factor, figures in costs.items()}
        write_backtest(
            made / "page.html", title, done, belief=belief, benchmark=benchmark, costs=multiples, experiment=experiment
        )
        (made / RESULT).write_text(json.dumps(summary(done, experiment, belief, benchmark, costs), indent=1) + "\n")
    return folder


def summary(
    done: Backtest,
    experiment: Experiment,
    belief: Belief,
    benchmark: str = BUY_AND_HOLD,
    costs: Mapping[Decimal, Mapping[str, float]] = NO_COSTS,
) -> dict[str, Any]:
    """What ``result.json`` has, as JSON values: the row of the ledger and more; a figure that is not known is None."""
    is_compared = bool(done.series) and done.starting_cash > 0
    return experiment.to_json() | {
        "result": json.loads(to_json(done.result)),
        "belief": belief.to_json(),
        "monte_carlo": done.monte_carlo.to_json(),
        "currency": done.currency,
        "starting_cash": float(done.starting_cash),
        "benchmark": {"name": benchmark} | (known(done.against(benchmark)) if is_compared else {}),
        "at_costs": {f"{factor.normalize():f}": known(figures) for factor, figures in costs.items()},
    }


def experiment_of(done: Backtest, **more: Any) -> Experiment:
    """What the ledger has of a backtest; `more` as in `Experiment.of`."""
    return Experiment.of(
        done.generation,
        "backtest",
        began_at=done.began_at,
        ended_at=done.ended_at,
        figures=done.statistics,
        **more,
    )


def known(figures: Mapping[str, float]) -> dict[str, float | None]:
    """Figures as JSON has them: None where there is no number."""
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}


def order_table(orders: Sequence[Row]) -> pa.Table:
    """Orders as a table, a row each: times as timestamps of UTC, money and units as float64, null where there is none."""
    columns: dict[str, pa.Array] = {}
    for name in _TEXTS:
        columns[name] = texts([None if row[name] is None else str(row[name]) for row in orders])
    for name in _AMOUNTS:
        columns[name] = column(np.array([row[name] for row in orders], np.float64), pa.float64())  # None is NaN
    for name in _TIMES:
        columns[name] = column(np.array([row[name] for row in orders], np.int64), pa.timestamp("ns", "UTC"))
    return pa.Table.from_arrays(list(columns.values()), names=list(columns))


def read_run(folder: Path) -> Experiment:
    """What ``result.json`` says of the run in a folder.

    Raises
    ------
    NotFoundError : there is none.
    InputError : it is not one of ours.
    """
    path = folder / RESULT
    try:
        return Experiment.from_json(json.loads(path.read_bytes()))
    except OSError as error:
        raise NotFoundError(f"{path}: {error.strerror} (give the folder of a run, or its id)") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: is not the result of a run ({error})") from error


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Give a folder to write into, which is moved to its place when the block ends well, and removed otherwise.

    Raises
    ------
    InputError : there is something at its place.
    StateError : it cannot be written.
    """
    check_free(folder)
    made = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.partial"
    try:
        made.mkdir(parents=True)
        yield made
        made.replace(folder)
    except OSError as error:
        raise StateError(f"{folder}: {error.strerror or error} (give another --out)") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)


def check_free(folder: Path) -> None:
    """Raise `InputError` where a folder has something in it, or is a file."""
    try:
        is_free = not folder.exists() or not any(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror} (give another --out)") from error
    if not is_free:
        raise InputError(f"{folder} is not empty (give another --out, or remove it: nothing is written over)")
