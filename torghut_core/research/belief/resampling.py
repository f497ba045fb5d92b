"""What a result could as well have been: the same trades or days, drawn again, in another order, or at other costs.

Each function gives one number for each of `resamples` draws; `interval` says between which most of them lie. The same `seed`
gives the same draws.

References
----------
Efron, B.: "Bootstrap Methods", Annals of Statistics 7(1), 1979. Politis, D., Romano, J.: "The Stationary Bootstrap", Journal of
the American Statistical Association 89, 1994.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from torghut_core.model.market import FloatArray

RESAMPLES = 1_000
_CELLS = 1 << 19
"""Numbers in memory at a time."""


class Interval(NamedTuple):
    """Between which two numbers most draws lie."""

    low: float
    high: float


def interval(values: FloatArray, confidence: float = 0.95) -> Interval:
    """The middle of some draws, shape (n,): as many as `confidence` says; NaN without any.

    Examples
    --------
    >>> interval(np.arange(101.0), 0.5)
    Interval(low=25.0, high=75.0)
    """
    if not len(values):
        return Interval(np.nan, np.nan)
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))


def resampled_means(profits: FloatArray, *, resamples: int = RESAMPLES, seed: int = 0) -> FloatArray:
    """The mean of as many trades, drawn with replacement; times their number it is the total.

    Parameters
    ----------
    profits : shape (n,), of each trade; trades that depend on each other vary more than this says.
    """
    rng, n = np.random.default_rng(seed), len(profits)
    parts = [profits[rng.integers(0, n, (rows, n))].mean(axis=1) for rows in _rows(resamples, n)]
    return _joined(parts)


def resampled_sharpes(
    returns: FloatArray, *, block: float | None = None, resamples: int = RESAMPLES, seed: int = 0
) -> FloatArray:
    """The Sharpe ratio per period of returns that are drawn in blocks of random length, so that what hangs together stays so.

    Parameters
    ----------
    returns : shape (n,), in order of time; what follows the last is the first.
    block : mean length of a block; the cube root of n where None.
    """
    rng, n = np.random.default_rng(seed), len(returns)
    ends = 1 / max(1.0, n ** (1 / 3) if block is None else block)
    parts = []
    here = np.arange(n)
    for rows in _rows(resamples, n):
        starts = rng.integers(0, n, (rows, n))
        begins = np.maximum.accumulate(np.where(rng.random((rows, n)) < ends, here, 0), axis=1)
        drawn = returns[(np.take_along_axis(starts, begins, axis=1) + here - begins) % n]
        spread = drawn.std(axis=1, ddof=1) if n > 1 else np.zeros(rows)
        parts.append(np.divide(drawn.mean(axis=1), spread, out=np.zeros(rows), where=spread > 0))
    return _joined(parts)


def shuffled_drawdowns(profits: FloatArray, cash: float, *, resamples: int = RESAMPLES, seed: int = 0) -> FloatArray:
    """The deepest drawdown if the same trades had come in another order, a share of the highest equity before (<= 0).

    Parameters
    ----------
    profits : shape (n,), of each trade; equity is counted at the end of each, so that what was lost in between is not seen.
    cash : at the start, above 0.
    """
    rng, n = np.random.default_rng(seed), len(profits)
    parts = []
    for rows in _rows(resamples, n):
        order = rng.permuted(np.broadcast_to(profits, (rows, n)), axis=1)
        equity = np.hstack([np.full((rows, 1), cash), cash + order.cumsum(axis=1)])
        parts.append((equity / np.maximum.accumulate(equity, axis=1)).min(axis=1) - 1)
    return _joined(parts)


def totals_at_costs(
    profits: FloatArray,
    costs: FloatArray,
    between: tuple[float, float] = (1.0, 2.0),
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> FloatArray:
    """The total profit of trades that are drawn with replacement, at costs that are a random multiple of what was paid.

    Parameters
    ----------
    profits : shape (n,), of each trade, after costs.
    costs : shape (n,), what each paid.
    between : the lowest and the highest multiple; one is drawn for all trades of a resample, for costs are dear for all at a time.
    """
    rng, n = np.random.default_rng(seed), len(profits)
    parts = []
    for rows in _rows(resamples, n):
        drawn = rng.integers(0, n, (rows, n))
        parts.append(profits[drawn].sum(axis=1) - (rng.uniform(*between, rows) - 1) * costs[drawn].sum(axis=1))
    return _joined(parts)


def break_even_costs(profits: FloatArray, costs: FloatArray) -> float:
    """How many times the costs would leave no profit: 1.0 where nothing is left now, infinite where nothing was paid.

    Examples
    --------
    >>> break_even_costs(np.array([3.0, -1.0]), np.array([0.5, 0.5]))
    3.0
    """
    paid = float(costs.sum())
    return 1 + float(profits.sum()) / paid if paid > 0 else np.inf


def _rows(resamples: int, n: int) -> Iterator[int]:
    """In how many rows of `n` numbers to draw at a time; nothing where there is nothing to draw from."""
    most = max(1, _CELLS // max(n, 1))
    for done in range(0, resamples if n else 0, most):
        yield min(most, resamples - done)


def _joined(parts: list[FloatArray]) -> FloatArray:
    return np.concatenate([np.empty(0), *parts])
