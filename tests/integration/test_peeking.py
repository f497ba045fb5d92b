"""Ten attempts to trade on what is not known yet: each cannot be written, sees nothing, or is caught.

What is left: a strategy that reads the tape's file itself, or keeps what another run has left in a global of a module. Python code in the
same process can do both; docs/no-look-ahead.md says so.
"""

import numpy as np
import pandas as pd
import pytest
from torghut_testing import IndicatorConformance, StrategyConformance

from torghut_core import DAY, InputError, Strategy
from torghut_core.features import close, ema, rank, sma
from torghut_core.research import backtest
from torghut_core.stages import kernel

WHOLE = {"*": {"asset_class": "crypto", "quantity_step": "1", "tick_size": "0.01"}}
SEEN = []
"""What the strategies below saw, or did."""


def bars(closes, *, freq="1min", symbol="A", start="2024-01-02 15:00", **columns):
    closes = np.asarray(closes, float)
    index = pd.date_range(start, periods=len(closes), freq=freq, name="event_ts", tz="UTC")
    names = {name: columns.get(name, closes) for name in ("open", "high", "low", "close")}
    return pd.DataFrame({**names, "volume": 1e6, "symbol": symbol}, index=index)


def run(strategy, frame, **options):
    SEEN.clear()
    return backtest(strategy, frame, cash=1_000_000, broker={"time_in_force": "gtc"}, instruments=WHOLE, **options)


def walk(seed, n=400):
    return 100 + np.cumsum(np.random.default_rng(seed).normal(0, 0.1, n)).round(2)


def decisions(done, until):
    """What was decided on bars that start before a time."""
    rows = done.audit.decisions(done.account)
    return [
        (row["symbol"], row["event_ts"], row["action"], str(row["params"])) for row in rows if row["event_ts"] < until
    ]


def check(suite, name, attribute, cls, *arguments):
    getattr(type("Suite", (suite,), {attribute: cls})(), name)(*arguments)


def test_1_a_shift_into_the_future():
    """It cannot be written, nor by a detour."""
    for attempt in (lambda: close.shift(-1), lambda: sma(10).shift(-3), lambda: rank(close.shift(-1))):
        with pytest.raises(ValueError, match="would look ahead"):
            attempt()


class OwnLow(Strategy):
    """Bids at the low of the bar that it has just seen."""

    def on_signal(self, signal, context):
        if context.is_flat and not context.orders:
            return context.buy(1, because="the low", order_type="limit", limit_price=signal.low)
        return None


def test_2_a_fill_on_the_bar_that_was_seen():
    """A bar ends when it is known: no order meets it, however far it went."""
    rising = np.arange(100.0, 120.0)
    done = run(OwnLow, bars(rising, low=rising - 0.5, high=rising + 0.2))
    assert done.result.orders > 0
    assert done.result.fills == 0


class Logs(Strategy):
    """Notes the closes, and an average, that it is shown."""

    def features(self):
        return {"mean": sma(3)}

    def on_signal(self, signal, context):
        SEEN.append((signal.event_ts, signal.close, signal.mean))


def test_3_a_split_that_is_applied_early(tmp_path):
    """Until its ex date nothing is known of it: closes and averages are those of a run without it."""
    frame = bars([100.0] * 5 + [50.0] * 5, freq="1D", start="2024-01-02 05:00")
    actions = tmp_path / "actions.csv"
    actions.write_text("symbol,ex_date,kind,ratio,amount,payable_date\nA,2024-01-07,split,2:1,,\n")
    run(Logs, frame, actions=actions)
    known = list(SEEN)
    run(Logs, frame)
    ex = frame.index[5].as_unit("ns").value
    assert [row for row in known if row[0] < ex] == [row for row in SEEN if row[0] < ex]
    assert [row[2] for row in known if row[0] >= ex] == [50.0] * 5, "from the ex date on the past is in new units"


class Hours(Strategy):
    """Holds while the close is above an average of hours."""

    def features(self):
        return {"hours": ema(close, 2, timeframe="1Hour")}

    def on_signal(self, signal, context):
        SEEN.append((signal.event_ts, signal.hours))
        return context.target(int(signal.close > signal.hours), because="the hours")


def test_4_a_larger_bar_that_is_known_early():
    """An hour is known at its end: what its second half becomes changes nothing in the first."""
    prices = walk(1)
    cut = 330  # half an hour into an hour
    other = np.concatenate((prices[:cut], prices[cut:] + 50))
    first = run(Hours, bars(prices))
    seen = [row for row in SEEN if row[0] < bars(prices).index[cut].as_unit("ns").value]
    second = run(Hours, bars(other))
    until = bars(prices).index[cut].as_unit("ns").value
    assert seen == [row for row in SEEN if row[0] < until]
    assert len({hours for _, hours in seen}) <= 5, "it changes with whole hours alone"
    assert decisions(first, until) == decisions(second, until) != []


class Strongest(Strategy):
    """Holds the symbol of the highest rank."""

    def features(self):
        return {"place": rank(close)}

    def on_slice(self, slice, context):
        SEEN.append(tuple((symbol, slice[symbol].place) for symbol in slice))
        return context.target_weights(
            {symbol: 0.5 for symbol in slice if slice[symbol].place == 1}, because="the strongest"
        )


def test_5_a_rank_among_the_prices_of_later():
    """The place of a symbol is among those of its own time."""
    frames = [bars(walk(seed), symbol=name) for seed, name in ((1, "A"), (2, "B"), (3, "C"))]
    until = frames[0].index[200].as_unit("ns").value
    first = run(Strongest, pd.concat(frames))
    seen = SEEN[:200]
    changed = frames[1].copy()
    changed.loc[changed.index[200] :, ["open", "high", "low", "close"]] += 500.0
    second = run(Strongest, pd.concat([frames[0], changed, frames[2]]))
    assert seen == SEEN[:200]
    assert decisions(first, until) == decisions(second, until) != []


class AboveTheMean(Strategy):
    """Buys below the mean of all closes, those of later among them."""

    def decide(self, columns):
        return np.where(columns.close < columns.close.mean(), 1.0, 0.0)


class BeforeTheRise(Strategy):
    """Holds what rises next."""

    def decide(self, columns):
        following = np.append(columns.close[1:], columns.close[-1:])
        return np.where(following > columns.close, 1.0, 0.0)


@pytest.mark.parametrize("peeking", [AboveTheMean, BeforeTheRise])
def test_6_and_7_a_whole_column_in_decide(peeking):
    """A mean over all rows, a shift back: the backtest stops the strategy before its first decision, and the suite fails."""
    done = run(peeking, bars(walk(4)))
    assert "uses later rows" in done.totals.failures[peeking.__name__.lower()]
    assert (done.result.orders, done.result.fills) == (0, 0)
    with pytest.raises((AssertionError, TypeError), match=r"other rows|later rows"):
        check(StrategyConformance, "test_decide_agrees_with_on_signal", "strategy", peeking, 0)


def following(_state, _row, inputs, _numbers, out):
    out[0, :-1] = inputs[0, 1:]
    out[0, -1:] = inputs[0, -1:]


def peeking_indicator():
    from torghut_core import Indicator

    class Following(Indicator):
        """The close of the next bar."""

        kernel = kernel(following)

        def row(self):
            return np.dtype([("nothing", np.int64)])

    return Following


@pytest.mark.proof  # it is compiled
def test_8_an_indicator_that_looks_ahead():
    """The suite of indicators fails: values change with what comes after, and with how bars are cut into batches."""
    for name in ("test_nothing_looks_ahead", "test_chunking_changes_nothing"):
        with pytest.raises(AssertionError, match=r"looks ahead|in batches of"):
            check(IndicatorConformance, name, "indicator", peeking_indicator(), 0)


class NegativeHistory(Strategy):
    """Asks for the bars to come."""

    history = 5
    wanted = -3

    def on_signal(self, signal, context):
        past = context.history(5)
        SEEN.append((signal.event_ts, int(past.event_ts[-1])))
        if len(SEEN) == 10:
            try:
                context.history(self.wanted)
            except InputError as error:
                SEEN.append(str(error))


@pytest.mark.parametrize("wanted", [-3, 0, 6, slice(None)])
def test_9_history_of_a_negative_number(wanted):
    """It is refused; what history gives ends with the row's own bar."""
    asking = type("Asking", (NegativeHistory,), {"wanted": wanted, "__module__": __name__})
    run(asking, bars(walk(5, 40)))
    refused = [each for each in SEEN if isinstance(each, str)]
    assert len(refused) == 1
    assert all(at == last for at, last in (each for each in SEEN if not isinstance(each, str)))


class ThroughTheTable(Strategy):
    """Reads the next close from the table that the row lies in."""

    def on_signal(self, signal, context):
        table, row = signal.bars, signal.row
        later = table.close[row + 1 :][table.symbol[row + 1 :] == table.symbol[row]]
        return context.target(int(len(later) > 0 and later[0] > signal.close), because="it will rise")


def test_10_the_table_behind_the_row():
    """The suite fails: without later rows behind it the strategy decides differently."""
    with pytest.raises(AssertionError, match="looks ahead"):
        check(StrategyConformance, "test_nothing_looks_ahead", "strategy", ThroughTheTable, 0)


class Honest(Strategy):
    """Buys above an average, in a class that looks back alone."""

    def features(self):
        return {"mean": sma(20)}

    def decide(self, columns):
        before = np.append(columns.close[:1], columns.close[:-1])
        return np.where((columns.close > columns.mean) & (before == before), 1.0, 0.0)


def test_an_honest_strategy_is_not_accused():
    """What looks at its own row has the same decisions in every batch."""
    done = run(Honest, bars(walk(6)))
    assert done.totals.failures == {}
    assert done.result.fills > 0
    check(StrategyConformance, "test_nothing_looks_ahead", "strategy", Honest, 0)
    check(StrategyConformance, "test_decide_agrees_with_on_signal", "strategy", Honest, 0)
    assert done.ended_at - done.began_at < DAY
