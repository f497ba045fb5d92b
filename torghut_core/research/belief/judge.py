"""Whether a result can be told from luck: one sentence, and the numbers that it is made of.

It is cautious: few trades or a short span say nothing, and each doubt alone is enough for a no. docs/belief.md has what each number
means and where it ends.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any

import msgspec
import numpy as np

from torghut_core.model.market import FloatArray
from torghut_core.research.belief.overfitting import (
    Overfitting,
    TrackRecord,
    expected_best_sharpe,
    minimum_track_record,
    probabilistic_sharpe,
)
from torghut_core.research.belief.resampling import interval, resampled_means, resampled_sharpes

LEAST_TRADES, LEAST_DAYS = 30, 60
"""Below these nothing is said: the formulas are for large numbers."""

CONFIDENCE = 0.95
MOST_OVERFITTING, MOST_LOSSES = 0.2, 0.05
"""A probability of backtest overfitting above the one (0.5 is a coin) is a doubt, if what was chosen then also loses more often than the
other: among sets that are all good it does not matter which is chosen."""


UNKNOWN_OVERFITTING = Overfitting(math.nan)


class Answer(StrEnum):
    """Whether a result is more than luck."""

    YES = "distinguishable from luck"
    NO = "not distinguishable from luck"
    UNKNOWN = "too little to tell from luck"


class Belief(msgspec.Struct, frozen=True, kw_only=True):
    """How far a result can be believed. Sharpe ratios are a year's; NaN is what is not known.

    Attributes
    ----------
    answer, sentence : the answer, and the same with its reasons.
    trades, days, trials : how many there were: round trips, daily returns, parameter sets that were tried.
    sharpe : of the returns; `sharpe_low` and `sharpe_high` hold it with 95 %.
    luck_sharpe : what the best of so many trials is expected to show without any edge; 0 for one.
    deflated_sharpe : the probability that the true Sharpe ratio is above `luck_sharpe`.
    needed_days : how many days like these would make that probability 0.95; infinite where no number does.
    overfitting : probability of backtest overfitting, of the trials; `losses`: that what is best in one half of the time loses in the
        other.
    mean_profit : of a trade, money; `mean_profit_low` and `mean_profit_high` hold it with 95 %.
    """

    answer: Answer
    sentence: str
    trades: int
    days: int
    trials: int
    sharpe: float
    sharpe_low: float
    sharpe_high: float
    luck_sharpe: float
    deflated_sharpe: float
    needed_days: float
    overfitting: float
    losses: float
    mean_profit: float
    mean_profit_low: float
    mean_profit_high: float

    def to_json(self) -> dict[str, Any]:
        """As JSON has it: None where a number is not known or infinite."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        unknown = (name for name, value in found.items() if isinstance(value, float) and not math.isfinite(value))
        return found | dict.fromkeys(unknown)


def judge(
    returns: FloatArray,
    profits: FloatArray,
    per_year: int,
    *,
    trials: int = 1,
    variance: float | None = None,
    overfitting: Overfitting = UNKNOWN_OVERFITTING,
    seed: int = 0,
) -> Belief:
    """Judge a result.

    Parameters
    ----------
    returns : shape (d,), of each day, as a share, see `figures.daily_returns`.
    profits : shape (n,), of each round trip, money, after costs.
    per_year : days in a year.
    trials : how many parameter sets were tried until this one was chosen, all of them, good and bad.
    variance : of the daily Sharpe ratios of the trials; where None, what chance alone gives to trials of as many days.
    overfitting : of the trials, see `measure_overfitting`.
    seed : of the draws.
    """
    year = math.sqrt(per_year)
    record = TrackRecord.of(returns)
    days, trades = len(returns), len(profits)
    if variance is None:
        variance = 1 / (days - 1) if days > 1 else math.nan
    luck = expected_best_sharpe(trials, variance)
    drawn = interval(resampled_sharpes(returns, seed=seed), CONFIDENCE)
    earned = interval(resampled_means(profits, seed=seed), CONFIDENCE)
    numbers: dict[str, Any] = {
        "trades": trades,
        "days": days,
        "trials": trials,
        "sharpe": record.sharpe * year,
        "sharpe_low": drawn.low * year,
        "sharpe_high": drawn.high * year,
        "luck_sharpe": luck * year,
        "deflated_sharpe": probabilistic_sharpe(record, luck),
        "needed_days": minimum_track_record(record, luck, CONFIDENCE),
        "overfitting": overfitting.probability,
        "losses": overfitting.loss_probability,
        "mean_profit": float(np.mean(profits)) if trades else math.nan,
        "mean_profit_low": earned.low,
        "mean_profit_high": earned.high,
    }
    unsaid = Belief(answer=Answer.UNKNOWN, sentence="", **numbers)
    answer, reason = _judged(unsaid)
    seen = f"{_counted(trades, 'round trip')} in {_counted(days, 'day')}, {_counted(trials, 'trial')}"
    sentence = f"{answer.capitalize()}: {reason} ({seen})."
    return msgspec.structs.replace(unsaid, answer=answer, sentence=sentence)


def _judged(found: Belief) -> tuple[Answer, str]:
    """The answer, and why."""
    if found.trades < LEAST_TRADES or found.days < LEAST_DAYS:
        return Answer.UNKNOWN, f"it takes {LEAST_TRADES} round trips and {LEAST_DAYS} days at the least"
    doubts = list(_doubts(found))
    if doubts:
        return Answer.NO, "; ".join(doubts)
    chance = "more than 0.999" if found.deflated_sharpe > 0.999 else f"{found.deflated_sharpe:.3f}"
    return Answer.YES, (
        f"a Sharpe ratio of {found.sharpe:.2f} a year, {found.sharpe_low:.2f} to {found.sharpe_high:.2f} with 95 %, is above "
        f"the {found.luck_sharpe:.2f} of luck with a probability of {chance}"
    )


def _doubts(found: Belief) -> list[str]:
    """What speaks against a result, a line each; one is enough."""
    if not found.sharpe > 0:
        return [f"it did not earn anything, with a Sharpe ratio of {found.sharpe:.2f} a year"]
    doubts = []
    if not found.deflated_sharpe >= CONFIDENCE:
        wanted = f", which takes {found.needed_days:,.0f} such days" if math.isfinite(found.needed_days) else ""
        against = (
            f", and the best of {found.trials:,} without an edge is expected to have {found.luck_sharpe:.2f}"
            if found.trials > 1
            else ""
        )
        doubts.append(
            f"the Sharpe ratio is {found.sharpe:.2f} a year{against}: the deflated Sharpe ratio is "
            f"{found.deflated_sharpe:.2f}, and {CONFIDENCE} is wanted{wanted}"
        )
    if not found.sharpe_low > 0:
        doubts.append(
            f"days like these give a Sharpe ratio from {found.sharpe_low:.2f} to {found.sharpe_high:.2f} with 95 %"
        )
    if not found.mean_profit_low > 0:
        doubts.append(
            f"trades like these earn from {found.mean_profit_low:,.2f} to {found.mean_profit_high:,.2f} each with 95 %"
        )
    if found.overfitting > MOST_OVERFITTING and found.losses > MOST_LOSSES:
        doubts.append(
            f"what was best in one half of the time was no better than the median in the other in {found.overfitting:.0%} "
            f"of the cases, and lost there in {found.losses:.0%} (at most {MOST_OVERFITTING:.0%} and {MOST_LOSSES:.0%} are wanted)"
        )
    return doubts


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
