"""How much of a Sharpe ratio is luck: of a short record, of fat tails, and of having tried many.

Sharpe ratios are per period of the returns here, never annualised: a day's where the returns are daily.

References
----------
Bailey, D., Lopez de Prado, M.: "The Sharpe Ratio Efficient Frontier", Journal of Risk 15(2), 2012 (probabilistic Sharpe
ratio, minimum track record length); "The Deflated Sharpe Ratio", Journal of Portfolio Management 40(5), 2014; with Borwein, J.,
Zhu, Q.: "The Probability of Backtest Overfitting", Journal of Computational Finance 20(4), 2017.
"""

from __future__ import annotations

import math
from itertools import combinations, islice
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from torghut_core.model.market import FloatArray

BLOCKS = 16
"""Into which the time of trials is cut, as in the paper: 12,870 ways to train on half of them."""

_NORMAL = NormalDist()
_EULER = 0.5772156649015329
_CELLS = 1 << 19
"""Numbers in memory at a time: a few MB, which a processor's cache holds."""


class TrackRecord(NamedTuple):
    """What is known of returns: how many, their Sharpe ratio per period, skewness, and kurtosis (3 for a normal distribution)."""

    length: int
    sharpe: float
    skew: float = 0.0
    kurtosis: float = 3.0

    @classmethod
    def of(cls, returns: FloatArray) -> TrackRecord:
        """Measure returns, shape (n,); their Sharpe ratio is 0 where they do not vary.

        Examples
        --------
        >>> TrackRecord.of(np.array([0.01, -0.01, 0.02, 0.0])).length
        4
        """
        spread = float(returns.std()) if len(returns) > 1 else 0.0
        if spread <= 1e-12 * float(np.abs(returns).max(initial=0.0)):
            return cls(len(returns), 0.0)
        scores = (returns - returns.mean()) / spread
        sharpe = float(returns.mean() / returns.std(ddof=1))
        return cls(len(returns), sharpe, float((scores**3).mean()), float((scores**4).mean()))

    @property
    def variance(self) -> float:
        """That of the Sharpe ratio's estimate, times `length` - 1 (Mertens 2002)."""
        return max(1 - self.skew * self.sharpe + (self.kurtosis - 1) / 4 * self.sharpe**2, 0.0)


def probabilistic_sharpe(record: TrackRecord, benchmark: float = 0.0) -> float:
    """The probability that the true Sharpe ratio is above `benchmark`; NaN for fewer than two returns.

    Examples
    --------
    A fund with two years of months, and a crash among them: 0.98 if its returns were normal.

    >>> round(probabilistic_sharpe(TrackRecord(24, 0.458, -2.448, 10.164)), 3)
    0.913
    """
    if record.length < 2:
        return math.nan
    distance = (record.sharpe - benchmark) * math.sqrt(record.length - 1)
    if not record.variance:
        return 0.5 if not distance else float(distance > 0)
    return _NORMAL.cdf(distance / math.sqrt(record.variance))


def expected_best_sharpe(trials: int, variance: float) -> float:
    """The Sharpe ratio that the best of some independent trials is expected to show though none has an edge.

    Parameters
    ----------
    trials : how many were tried; 0.0 for one.
    variance : of the trials' Sharpe ratios.
    """
    if trials < 2:
        return 0.0
    usual, rare = _NORMAL.inv_cdf(1 - 1 / trials), _NORMAL.inv_cdf(1 - 1 / (trials * math.e))
    return math.sqrt(variance) * ((1 - _EULER) * usual + _EULER * rare)


def deflated_sharpe(record: TrackRecord, trials: int, variance: float) -> float:
    """The probability that the best of some trials has an edge: its true Sharpe ratio is above what luck gives the best.

    Parameters
    ----------
    record : of the best trial.
    trials, variance : as `expected_best_sharpe`. Trials that resemble each other count as less than they are, so all of them
        are the cautious number.

    Examples
    --------
    >>> a_day = 250
    >>> round(deflated_sharpe(TrackRecord(1250, 2.5 / a_day**0.5, -3, 10), trials=100, variance=0.5 / a_day), 3)
    0.9
    """
    return probabilistic_sharpe(record, expected_best_sharpe(trials, variance))


def minimum_track_record(record: TrackRecord, benchmark: float = 0.0, confidence: float = 0.95) -> float:
    """How many returns it takes to say with `confidence` that the true Sharpe ratio is above `benchmark`; infinite if it is not."""
    if record.sharpe <= benchmark:
        return math.inf
    return 1 + record.variance * (_NORMAL.inv_cdf(confidence) / (record.sharpe - benchmark)) ** 2


class Overfitting(NamedTuple):
    """What picking the best of trials on one half of the time is worth on the other half, over all ways to halve it.

    Attributes
    ----------
    probability : that the best of one half is no better than the median in the other (PBO); NaN where nothing can be halved.
    loss_probability : that the best of one half loses in the other.
    slope : of the Sharpe ratio in the other half over that of the best in its own; 1 where it is kept, below 0 where a better
        choice is worse afterwards.
    chosen, kept : the mean Sharpe ratio of the best in its own half, and in the other.
    """

    probability: float
    loss_probability: float = math.nan
    slope: float = math.nan
    chosen: float = math.nan
    kept: float = math.nan


def measure_overfitting(returns: FloatArray, blocks: int = BLOCKS) -> Overfitting:
    """Estimate the probability of backtest overfitting by combinatorially symmetric cross-validation.

    Time is cut in `blocks` of the same length (fewer where there are not two returns for each); half of them are for choosing,
    in every combination. Of trials that are equally good on one half the worst of the other counts.

    Parameters
    ----------
    returns : shape (n_times, n_trials), of all trials that were tried, at the same times.
    """
    times, trials = returns.shape
    blocks = min(blocks, times // 2) // 2 * 2
    if blocks < 2 or trials < 2:
        return Overfitting(math.nan)
    edges = np.linspace(0, times, blocks + 1).astype(np.int64)
    middle = returns.mean(axis=0)
    moved = returns - middle  # a sum of squares loses no digits then
    sums = np.add.reduceat(moved, edges[:-1])
    squares = np.add.reduceat(moved**2, edges[:-1])
    counts = np.diff(edges)

    def sharpes(half: FloatArray) -> FloatArray:
        count = half @ counts
        mean = half @ sums / count[:, None]
        spread = np.sqrt(np.maximum(half @ squares / count[:, None] - mean**2, 0))
        tiny = 1e-9 * np.sqrt(squares.max() / counts.min())
        return np.where(spread > tiny, (mean + middle) / np.maximum(spread, tiny or 1.0), 0.0)

    logits, chosen, kept = [], [], []
    halves = combinations(range(blocks), blocks // 2)
    rest = math.comb(blocks, blocks // 2) // 2  # the second half of all combinations are the complements of the first
    while rest:
        some = list(islice(halves, min(rest, max(1, _CELLS // trials))))
        rest -= len(some)
        half = np.zeros((len(some), blocks))
        np.put_along_axis(half, np.array(some), 1.0, axis=1)
        one, other = sharpes(half), sharpes(1 - half)
        for inside, outside in ((one, other), (other, one)):
            best = inside.max(axis=1, keepdims=True)
            of_best = np.where(inside == best, outside, np.inf).min(axis=1, keepdims=True)
            rank = (outside < of_best).sum(axis=1) + ((outside == of_best).sum(axis=1) + 1) / 2
            logits.append(np.log(rank / (trials + 1 - rank)))
            chosen.append(best[:, 0])
            kept.append(of_best[:, 0])
    logit, own, later = map(np.concatenate, (logits, chosen, kept))
    spread = float(own.var())
    return Overfitting(
        probability=float((logit <= 0).mean()),
        loss_probability=float((later < 0).mean()),
        slope=float(((own - own.mean()) * later).mean()) / spread if spread else math.nan,
        chosen=float(own.mean()),
        kept=float(later.mean()),
    )
