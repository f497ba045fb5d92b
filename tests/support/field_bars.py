"""Bars for comparing frameworks: the demo's tape by the minute, and two made series; prices are quarters, whose sums are exact.

`RandomState` gives the same numbers in all versions of numpy.
"""

import numpy as np
import pandas as pd

from support.docs import ROOT

TAPE = ROOT / "catalog" / "tapes" / "es_20130901_20130903.parquet"


def minutes():
    """The E-mini of the demo's tape: a bar for each minute with trades."""
    trades = pd.read_parquet(TAPE, columns=["event_ts", "price", "size"]).set_index("event_ts")
    bars = trades["price"].resample("1min").ohlc().assign(volume=trades["size"].resample("1min").sum()).dropna()
    return {"ES": bars}


def walk(chance, index, start):
    """A walk in quarters from `start`: a bar opens near the last close."""
    count = len(index)
    path = start + np.cumsum(chance.randint(-3, 4, (count, 4)) / 4.0).reshape(count, 4)
    columns = {"open": path[:, 0], "high": path.max(axis=1), "low": path.min(axis=1), "close": path[:, 3]}
    return pd.DataFrame(columns | {"volume": chance.randint(100, 1000, count).astype(float)}, index=index)


def sessions():
    """Eight sessions of a stock in New York, in winter."""
    days = pd.bdate_range("2024-01-02", periods=8, tz="UTC") + pd.Timedelta("14h30min")
    index = pd.DatetimeIndex([day + pd.Timedelta(minutes=minute) for day in days for minute in range(390)])
    return {"SPY": walk(np.random.RandomState(11), index, 470.0)}


def days():
    """Four symbols, each day for two years; two of them share most of their walk."""
    index = pd.date_range("2022-01-03", periods=730, tz="UTC")
    found = {
        symbol: walk(np.random.RandomState(seed), index, 200.0) for seed, symbol in enumerate(("AAA", "CCC", "DDD"))
    }
    near = np.random.RandomState(9).randint(-8, 9, len(index)) / 4.0
    prices = found["AAA"][["open", "high", "low", "close"]].add(near, axis=0)
    return dict(sorted((found | {"BBB": found["AAA"].assign(**prices)}).items()))
