"""Results that other frameworks publish in their documents and tests: the same trades here, and the same statistics.

Nothing of theirs is run: what is compared with is what they have written down. Where the prices come in a peer's wheel, the test needs
it (`make .venv-rivals/stamp`) and is a proof; nothing of it is copied here.
"""

from math import floor, prod

import pandas as pd
import pytest

from support.docs import ROOT
from torghut_core import DAY, Strategy
from torghut_core.features import cross_above, cross_below, sma
from torghut_core.research import backtest

WHOLE = {"*": {"asset_class": "crypto", "quantity_step": "1", "tick_size": "0.01", "margin": "0.01"}}
"""Whole units, round the clock; what may be owed is not limited, for these peers do not."""


# backtesting.py 0.6.6: its README, and `test_compute_stats` of its tests

MORE = 990_000
"""So much more cash is in an account here: a peer that sizes at the price of the fill owes nothing for a gap over night."""

README = {
    "# Trades": 93, "Win Rate [%]": 53.76, "Best Trade [%]": 57.12, "Worst Trade [%]": -16.63, "Avg. Trade [%]": 1.96,
    "Max. Trade Duration": 121, "Avg. Trade Duration": 32, "Profit Factor": 2.13,
    "Equity Final [$]": 68935.12, "Equity Peak [$]": 68991.22, "Return [%]": 589.35, "Max. Drawdown [%]": -33.08,
}  # fmt: skip
"""SmaCross of 10 and 20 days on GOOG, commission 0.2 %. The figures are of an older version, which charged it once, at the entry.
Left out is the expectancy: 6.91 % follows from no trades with the other figures, of which the mean is 2.49 %."""

TESTED = {
    "# Trades": 66, "Win Rate [%]": 46.96969696969697, "Best Trade [%]": 53.59595229490424, "Worst Trade [%]": -18.39887353835481,
    "Avg. Trade [%]": 2.531715975158555, "Max. Trade Duration": 183, "Avg. Trade Duration": 46, "Profit Factor": 2.167945974262033,
    "Expectancy [%]": 3.2748078066748834, "Equity Final [$]": 51422.98999999996, "Equity Peak [$]": 75787.44,
    "Return [%]": 414.2298999999996, "Max. Drawdown [%]": -47.98012705007589,
}  # fmt: skip
"""SmaCross of 10 and 30 days, no commission; what is held is sold at the last open."""


class AllInAtTheCross(Strategy):
    """Long above, short below, of as many units as the peer bought: it sizes at the price of the fill, which nothing here can know."""

    fast, slow, sizes = 10, 20, ()
    state = ("crossed",)

    def __init__(self, params):
        super().__init__(params)
        self.crossed = 0

    def features(self):
        fast, slow = sma(self.fast), sma(self.slow)
        return {"up": cross_above(fast, slow), "down": cross_below(fast, slow)}

    def on_signal(self, signal, context):
        if not (signal.up or signal.down) or self.crossed == len(self.sizes):
            return None
        size = self.sizes[self.crossed]
        self.crossed += 1
        side = context.buy if signal.up else context.sell
        before = [] if context.is_flat else [context.close(because="crossed")]
        return [*before, side(size, because="crossed")]


def google():
    """The daily bars in the peer's wheel."""
    found = sorted((ROOT / ".venv-rivals").glob("lib/python*/site-packages/backtesting/test/GOOG.csv"))
    if not found:
        pytest.skip("the peers are not installed (make .venv-rivals/stamp)")
    return pd.read_csv(found[0], index_col=0, parse_dates=True)


def peer_sizes(bars, slow, commission):
    """How many units the peer trades at each cross: what its cash pays for at the next open, moved by the commission."""
    difference = bars["Close"].rolling(10).mean() - bars["Close"].rolling(slow).mean()
    crosses = (difference > 0) & (difference.shift(1) < 0) | (difference < 0) & (difference.shift(1) > 0)
    cash, held, paid, sizes = 10_000.0, 0, 0.0, []
    for at in crosses.to_numpy().nonzero()[0]:
        if at + 1 == len(bars):
            break
        price, side = float(bars["Open"].iloc[at + 1]), 1 if difference.iloc[at] > 0 else -1
        cash += held * (price - paid)
        units = int(cash // (price * (1 + side * commission)))
        cash -= units * price * commission
        held, paid = side * units, price
        sizes.append(units)
    return tuple(sizes)


def statistics_of(done, commission, end):
    """Our run in the peer's terms, after a commission that is paid at each entry; days are from fill to fill, rounded up.

    `end` is when what is held at last is sold, at which price, and the close after it; None where it stays open.
    """
    fills = [(each["event_ts"], each["side"], float(each["quantity"]), float(each["price"])) for each in done.fills()]
    trades, paid, entry, held = [], {}, None, 0.0
    for at, side, units, price in fills if end is None else [*fills, (end[0], "", 0.0, end[1])]:
        if entry is None:
            sign = 1 if side == "buy" else -1
            entry, held = (at, price * (1 + sign * commission), sign), sign * units
            paid[at] = units * price * commission
        else:
            began, adjusted, sign = entry
            trades.append(((price / adjusted - 1) * sign, (at - began) // DAY))
            entry = None
    returns, days = [each for each, _ in trades], [each for _, each in trades]
    wins, losses = [each for each in returns if each > 0], [each for each in returns if each < 0]
    curve = done.curve()
    equity = pd.Series(curve.equity, index=curve.event_ts - DAY) - MORE
    equity -= pd.Series(paid).cumsum().reindex(equity.index, method="ffill").fillna(0.0)
    if end is not None:
        equity.iloc[-1] += held * (end[1] - end[2])
    return {
        "# Trades": len(trades),
        "Win Rate [%]": 100 * len(wins) / len(trades),
        "Best Trade [%]": 100 * max(returns),
        "Worst Trade [%]": 100 * min(returns),
        "Avg. Trade [%]": 100 * (prod(1 + each for each in returns) ** (1 / len(returns)) - 1),
        "Max. Trade Duration": max(days),
        "Avg. Trade Duration": -(-sum(days) // len(days)),
        "Profit Factor": sum(wins) / -sum(losses),
        "Expectancy [%]": 100 * sum(returns) / len(returns),
        "Equity Final [$]": equity.iloc[-1],
        "Equity Peak [$]": equity.max(),
        "Return [%]": equity.iloc[-1] / 100 - 100,
        "Max. Drawdown [%]": 100 * (equity / equity.cummax() - 1).min(),
    }


@pytest.mark.proof
@pytest.mark.parametrize(
    ("slow", "commission", "published", "near"), [(20, 0.002, README, 0.005), (30, 0.0, TESTED, 1e-8)]
)
def test_smacross_of_backtesting_py(slow, commission, published, near):
    """Every trade and every figure, to the last digit that is published; the account to the cent."""
    bars = google()
    chosen = {"slow": slow, "sizes": peer_sizes(bars, slow, commission)}
    strategy = type("AllIn", (AllInAtTheCross,), {**chosen, "__module__": __name__})
    frame = bars.assign(symbol="GOOG").rename_axis("event_ts")
    done = backtest(strategy, frame, cash=10_000 + MORE, broker={"time_in_force": "gtc"}, instruments=WHOLE)
    assert done.totals.failures == done.totals.denials == {}
    opened, closed = (float(bars[name].iloc[-1]) for name in ("Open", "Close"))
    end = (int(bars.index[-1].as_unit("ns").value), opened, closed) if published is TESTED else None
    found = statistics_of(done, commission, end)
    assert {name: found[name] for name in published} == pytest.approx(
        published, rel=near if near < 1e-6 else 0, abs=near
    )
    assert done.statistics["round_trips"] == published["# Trades"] - (end is not None)


# vectorbt: `TestFromSignals` of its tests, on prices of 1 to 5

ENTRIES, EXITS = (True, True, True, False, False), (False, False, True, True, True)
ROWS = pd.DataFrame(
    {
        "Open": [1.0, 1.0, 2.0, 3.0, 4.0],  # a fill at the close there is one at the next open here
        "High": [1.0, 2.0, 3.0, 4.0, 5.0],
        "Low": [1.0, 1.0, 2.0, 3.0, 4.0],
        "Close": [1.0, 2.0, 3.0, 4.0, 5.0],
        "Volume": [1e9] * 5,
    },
    index=pd.date_range("2020-01-01", periods=5, name="event_ts"),
)
CASES = [
    pytest.param("both", {}, 100, [(0, "buy", 100, 1, 0), (3, "sell", 200, 4, 0)], id="test_one_column, both"),
    pytest.param("long", {}, 100, [(0, "buy", 100, 1, 0), (3, "sell", 100, 4, 0)], id="test_one_column, longonly"),
    pytest.param("both", {"fees": 1000}, 1, [(0, "buy", 1, 1, 0.1), (3, "sell", 2, 4, 0.8)], id="test_fees, 0.1, both"),
    pytest.param("both", {"fees": 10_000}, 1, [(0, "buy", 1, 1, 1), (3, "sell", 2, 4, 8)], id="test_fees, 1, both"),
    pytest.param("both", {"slippage": 1000}, 1, [(0, "buy", 1, 1.1, 0), (3, "sell", 2, 3.6, 0)], id="test_slippage, 0.1, both"),
]  # fmt: skip
"""Direction, costs in basis points, units, and the published records: row, side, size, price and fees."""


class Signals(Strategy):
    """Buys a size at an entry, and at an exit sells it, or turns to as many units short; both at once are none."""

    units, direction = 1, "long"
    state = ("row",)

    def __init__(self, params):
        super().__init__(params)
        self.row = 0

    def on_signal(self, signal, context):
        enters, leaves = ENTRIES[self.row], EXITS[self.row]
        self.row += 1
        if enters == leaves:
            return None
        if enters:
            return context.buy(self.units, because="entry") if context.is_flat else None
        if not context.is_long:
            return None
        before = [context.close(because="exit")]
        return [*before, context.sell(self.units, because="exit")] if self.direction == "both" else before


@pytest.mark.parametrize(("direction", "costs", "units", "published"), CASES)
def test_order_records_of_vectorbt(direction, costs, units, published):
    """Each published record: the row, the side, the size, the price and the fees."""
    chosen = {"units": units, "direction": direction}
    strategy = type("FromSignals", (Signals,), {**chosen, "__module__": __name__})
    broker = {name: {"*": {"bps": str(bps)}} for name, bps in costs.items()} | {"time_in_force": "gtc"}
    done = backtest(strategy, ROWS.assign(symbol="A"), cash=10_000, broker=broker, instruments=WHOLE)
    assert done.totals.failures == done.totals.denials == {}
    rows = [at.as_unit("ns").value for at in ROWS.index]
    found = {}
    for fill in done.fills():  # here an exit and an entry are two orders
        at, side = rows.index(fill["event_ts"]) - 1, str(fill["side"])
        size, _, fees = found.get((at, side), (0, 0, 0))
        found[at, side] = size + float(fill["quantity"]), float(fill["price"]), fees + float(fill["fee"])
    assert [(*key, *values) for key, values in found.items()] == [
        (*each[:2], *map(pytest.approx, each[2:])) for each in published
    ]


# bt: `test_strategybase_tree_rebalance` of its tests


class HalfAfterCommission(Strategy):
    """Half of the equity, as many units as it pays for with the commission."""

    def on_signal(self, signal, context):
        units = floor((float(context.account.equity) / 2 - 1) / signal.close)
        return context.buy(units, because="half") if context.is_flat else None


def test_rebalance_of_bt():
    """Of 1,000 at a price of 100, with a commission of 1 an order: 4 units, capital of 599, a value of 999 and a weight of 400/999."""
    days = pd.date_range("2010-01-01", periods=2, name="event_ts")
    bars = pd.DataFrame(dict.fromkeys(("Open", "High", "Low", "Close"), 100.0) | {"Volume": 1e6}, index=days)
    fees = {"fees": {"*": {"minimum": 1}}, "time_in_force": "gtc"}
    done = backtest(HalfAfterCommission, bars.assign(symbol="C1"), cash=1000, broker=fees, instruments=WHOLE)
    (fill,) = done.fills()
    value = float(done.result.final_equity)
    assert (fill["quantity"], fill["price"], value) == (4, 100, 999)
    assert value - 400 == 1000 - 401
    assert 400 / value == pytest.approx(400.0 / 999)
