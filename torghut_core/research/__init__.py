"""The door for what drives backtests from outside: sweeps, notebooks, jobs on other machines.

A backtest is the live loop on a recorded tape and the simulated broker; here lives what can be learned from one: its
figures, its page, and the check that a decision's verdicts can be computed again. Nothing here computes a value that a
decision reads, and nothing reaches a real venue::

    from torghut_core.research import backtest

    backtest(MyStrategy, bars, params={"fast": 12})
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torghut_core.generation import Generation
    from torghut_core.research.backtests import Backtest, load_catalog, run_backtest, tape_generation
    from torghut_core.research.belief.judge import Belief, judge
    from torghut_core.research.belief.overfitting import TrackRecord, deflated_sharpe, measure_overfitting
    from torghut_core.research.belief.resampling import (
        interval,
        resampled_means,
        resampled_sharpes,
        shuffled_drawdowns,
        totals_at_costs,
    )
    from torghut_core.research.feature_rows import FeatureRows
    from torghut_core.research.notebook import backtest
    from torghut_core.research.performance.curve import BarSeries, Curve, account_curve, bar_series
    from torghut_core.research.performance.trips import RoundTrip, round_trips
    from torghut_core.research.replay import Replay, example_catalogs, open_replay
    from torghut_core.research.sweeps.sweep import Sweep, Trial, open_sweep
    from torghut_core.research.sweeps.workers import Lost
    from torghut_core.trading.totals import Result

__all__ = [
    "Backtest",
    "BarSeries",
    "Belief",
    "Curve",
    "FeatureRows",
    "Generation",
    "Lost",
    "Replay",
    "Result",
    "RoundTrip",
    "Sweep",
    "TrackRecord",
    "Trial",
    "account_curve",
    "backtest",
    "bar_series",
    "deflated_sharpe",
    "example_catalogs",
    "interval",
    "judge",
    "load_catalog",
    "measure_overfitting",
    "open_replay",
    "open_sweep",
    "resampled_means",
    "resampled_sharpes",
    "round_trips",
    "run_backtest",
    "shuffled_drawdowns",
    "tape_generation",
    "totals_at_costs",
]

_HOMES = {
    "torghut_core.generation": ("Generation",),
    "torghut_core.research.backtests": ("Backtest", "load_catalog", "run_backtest", "tape_generation"),
    "torghut_core.research.belief.judge": ("Belief", "judge"),
    "torghut_core.research.feature_rows": ("FeatureRows",),
    "torghut_core.research.notebook": ("backtest",),
    "torghut_core.research.belief.overfitting": ("TrackRecord", "deflated_sharpe", "measure_overfitting"),
    "torghut_core.research.performance.curve": ("BarSeries", "Curve", "account_curve", "bar_series"),
    "torghut_core.research.replay": ("Replay", "example_catalogs", "open_replay"),
    "torghut_core.research.belief.resampling": (
        "interval",
        "resampled_means",
        "resampled_sharpes",
        "shuffled_drawdowns",
        "totals_at_costs",
    ),
    "torghut_core.research.performance.trips": ("RoundTrip", "round_trips"),
    "torghut_core.research.sweeps.sweep": ("Sweep", "Trial", "open_sweep"),
    "torghut_core.research.sweeps.workers": ("Lost",),
    "torghut_core.trading.totals": ("Result",),
}
"""Where each name lives: imported when it is first used, for the loop takes 0.5 s to import."""


if not TYPE_CHECKING:  # else a type checker would take any name for one of this module

    def __getattr__(name: str) -> Any:
        for module, names in _HOMES.items():
            if name in names:
                return getattr(import_module(module), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
