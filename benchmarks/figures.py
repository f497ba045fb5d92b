"""The figures of a run beside empyrical's, and what a whole backtest's figures cost.

    .venv/bin/python benchmarks/figures.py [--bars 21659] [--trips 200] [--runs 7]

Both get a curve of hourly bars (a random walk, seed 1) and give the ten figures that empyrical has, ours 51 with those of
the round trips and costs; empyrical gets the returns of its days, which are made of the curve beforehand. Processor time, medians.
"""

import argparse
import json
import resource
import statistics
import sys

import empyrical
import numpy as np

from torghut_core.research.performance.figures import DAYS_A_YEAR, Traded, Trips, daily_returns, figures, trading_days
from torghut_core.timestamps import HOUR


def cpu_us(call, times):
    """Processor time of a call, microseconds, the mean of some."""
    began = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    for _ in range(times):
        call()
    return 1e6 * (resource.getrusage(resource.RUSAGE_SELF).ru_utime - began) / times


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bars", type=int, default=21_659)
    parser.add_argument("--trips", type=int, default=200)
    parser.add_argument("--runs", type=int, default=7)
    given = parser.parse_args()

    chance = np.random.default_rng(1)
    at = np.arange(1, given.bars + 1) * HOUR
    equity = 100_000 * np.exp(np.cumsum(chance.normal(0, 0.001, given.bars)))
    trips = Trips(at[: given.trips], at[1 : given.trips + 1], chance.normal(0, 5, given.trips))
    traded = Traded(2 * given.trips, 1e6, 100.0, 0.0, 100.0)
    days = trading_days(at)
    returns = daily_returns(equity, 100_000.0, days)
    of_year = {"annualization": DAYS_A_YEAR}

    def ours():
        figures(at, equity, 100_000.0, days=days, trips=trips, traded=traded, exposure=equity)

    def theirs():
        empyrical.cum_returns_final(returns)
        empyrical.cagr(returns, **of_year)
        empyrical.annual_volatility(returns, **of_year)
        empyrical.sharpe_ratio(returns, **of_year)
        empyrical.sortino_ratio(returns, **of_year)
        empyrical.calmar_ratio(returns, **of_year)
        empyrical.omega_ratio(returns, **of_year)
        empyrical.max_drawdown(returns)
        empyrical.value_at_risk(returns)
        empyrical.conditional_value_at_risk(returns)

    ours()
    theirs()
    rounds = [(cpu_us(ours, 50), cpu_us(theirs, 50)) for _ in range(given.runs)]
    one, other = (statistics.median(each) for each in zip(*rounds, strict=True))
    found = {"bars": given.bars, "days": len(returns), "ours_us": round(one), "empyrical_us": round(other)}
    sys.stdout.write(json.dumps(found | {"ratio": round(other / one, 2)}) + "\n")


if __name__ == "__main__":
    main()
