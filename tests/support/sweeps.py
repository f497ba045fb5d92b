"""What sweeps are tested on: a catalog, plugins that go wrong when they are asked to, and a tape of 30 days of hours."""

import textwrap

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

CATALOG = """
version: 1
pipelines:
  trading:
    source: {use: replay, params: {bar_step: 1Hour}}
    stages: [{use: indicators}]
    broker: {use: simulated, params: {cash: "100000", fees: {"*": {bps: "2"}}}}
strategies:
  - {name: one, use: swept, base_timeframe: 1Hour, symbols: [SPY], params: {fast: 12}}
"""

PLUGIN = """
import os

import numpy as np
from torghut_core import Strategy, hookimpl, param
from torghut_core.features import close, ema
import pydantic


class Swept(Strategy):
    class Params(Strategy.Params):
        fast: int = param(5, ge=2, le=100, help="bars")
        slow: int = param(20, ge=2, le=100, help="bars")
        quantity: float = param(10, gt=0, help="units")
        fault: str = param("", help="what goes wrong")

        @pydantic.model_validator(mode="after")
        def _in_order(self):
            if self.fast >= self.slow:
                raise ValueError("fast is below slow")
            return self

    def features(self):
        return {"fast": ema(close, self.params.fast), "slow": ema(close, self.params.slow)}

    def on_signal(self, signal, context):
        if self.params.fault == "exit":
            os._exit(7)
        if self.params.fault == "raise":
            raise ValueError("as asked")
        if self.params.fault == "print":
            print("noise")
        return context.target(self.params.quantity if signal.fast > signal.slow else 0, because="trend")


class Columnar(Strategy):
    class Params(Strategy.Params):
        fast: int = param(5, ge=2, le=100, help="bars")
        slow: int = param(20, ge=2, le=100, help="bars")
        quantity: float = param(10, gt=0, help="units")
        stop: float = param(0, help="part of the price; 0 for none")
        fault: str = param("", help="what goes wrong")

    def features(self):
        return {"fast": ema(close, self.params.fast), "slow": ema(close, self.params.slow)}

    def decide(self, columns):
        while self.params.fault == "endless":
            pass
        while self.params.fault == "endless alone" and len(columns) == 1:
            pass
        if self.params.fault == "exit":
            os._exit(7)
        if self.params.fault == "raise":
            raise ValueError("as asked")
        is_up = columns.fast > columns.slow
        targets = np.where(is_up, self.params.quantity, 0.0)
        if self.params.stop:
            stops = np.where(is_up, np.round(columns.close * (1 - self.params.stop), 2), np.nan)
            return targets, "trend", {"stop_loss": stops}
        return targets, "trend"


@hookimpl
def register_strategies(register):
    register("swept", Swept)
    register("columnar", Columnar)
"""
COLUMNS = CATALOG.replace("use: swept", "use: columnar")
"""The same with a strategy that decides on columns."""


def write_plugins(folder):
    """Write the plugins into a folder: one for all tests of a process, for it imports them once."""
    (folder / "swept.py").write_text(PLUGIN)
    return folder


def write_place(folder):
    """Write ``catalog.yaml`` and ``bars.parquet`` into a folder."""
    chance = np.random.default_rng(5)
    price = (100 * np.exp(np.cumsum(chance.normal(0, 0.004, 720)))).round(2)
    start = np.datetime64("2026-01-05", "ns") + np.arange(720) * np.timedelta64(3600, "s")
    columns = {
        "open": price,
        "high": price + 0.5,
        "low": price - 0.5,
        "close": np.roll(price, -1),
        "volume": price * 0 + 9,
    }
    columns["high"] = np.maximum(columns["high"], columns["close"])
    columns["low"] = np.minimum(columns["low"], columns["close"])
    table = {"symbol": ["SPY"] * 720, "event_ts": pa.array(start).cast(pa.timestamp("ns", "UTC")), **columns}
    pq.write_table(pa.table(table), folder / "bars.parquet")
    (folder / "catalog.yaml").write_text(textwrap.dedent(CATALOG))
    return folder
