"""Splits and dividends on their ex dates: what the account has is what a ledger made by hand says, to the cent."""

from datetime import date
from decimal import Decimal
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from torghut_core import OrderType, Strategy, TimeInForce
from torghut_core.features import atr, close, ema, highest, rsi, sma, volume
from torghut_core.research import backtest, load_catalog, open_replay, run_backtest, tape_generation

GTC = TimeInForce.GTC
DAY = 86_400 * 10**9
EQUITY = {"*": {"asset_class": "equity", "quantity_step": "1"}}
AAPL = [  # day, open, high, low, close
    ("2014-06-04", 637.44, 647.89, 636.11, 644.82),
    ("2014-06-05", 646.20, 649.37, 642.61, 647.35),
    ("2014-06-06", 649.90, 651.26, 644.47, 645.57),
    ("2014-06-09", 92.70, 93.88, 91.75, 93.70),
    ("2014-06-10", 94.73, 95.05, 91.00, 94.25),
    ("2014-06-11", 94.13, 94.76, 93.47, 93.86),
]
AIG = [
    ("2009-06-26", 1.40, 1.45, 1.35, 1.40),
    ("2009-06-29", 1.20, 1.30, 1.15, 1.25),
    ("2009-06-30", 1.20, 1.25, 1.10, 1.16),
    ("2009-07-01", 22.80, 23.00, 18.10, 18.50),
    ("2009-07-02", 18.00, 18.20, 14.00, 15.00),
]
SPLIT = "symbol,ex_date,kind,ratio,amount,payable_date\nAAPL,2014-06-09,split,7:1,,2014-06-06\n"
REVERSE = "symbol,ex_date,kind,ratio\nAIG,2009-07-01,split,1:20\n"


class Scripted(Strategy):
    """Do on each day what `script` says."""

    script: ClassVar = {}

    def on_signal(self, signal, context):
        day = np.datetime64(signal.event_ts, "ns").astype("datetime64[D]").item()
        act = self.script.get(day.isoformat())
        return None if act is None else act(context)


def scripted(**script):
    """A strategy that does these things at the closes of days, given as ``d2014_06_05``."""
    days = {name[1:].replace("_", "-"): act for name, act in script.items()}
    return type("Scripted", (Scripted,), {"script": days, "__module__": __name__})


def bars(rows, symbol, **columns):
    day, *prices = zip(*rows, strict=True)
    names = ("open", "high", "low", "close")
    values = dict(zip(names, map(list, prices), strict=True))
    table = {
        "date": np.array(day, "datetime64[D]"),
        **values,
        "volume": [1e6] * len(rows),
        "symbol": [symbol] * len(rows),
    }
    return pa.table({**table, **columns})


@pytest.fixture
def run(tmp_path):
    def run(strategy, rows, symbol, actions, instruments=EQUITY, **broker):
        tape = tmp_path / "actions.csv"
        tape.write_text(actions)
        return backtest(strategy, bars(rows, symbol), actions=tape, instruments=instruments, broker=broker)

    return run


def buy(quantity, **terms):
    return lambda context: context.buy(quantity, because="said", **terms)


def test_a_split_multiplies_the_position_and_divides_its_price(run):
    done = run(scripted(d2014_06_05=buy(100)), AAPL, "AAPL", SPLIT)

    position = done.positions["scripted", "AAPL"]
    assert position.quantity == 700
    assert position.average_price == Decimal("649.90") / 7
    assert done.result.final_equity == Decimal(100000) - 100 * Decimal("649.90") + 700 * Decimal("93.86")
    assert done.jumps == []
    assert [str(each) for each in done.actions] == ["AAPL split 7:1 on 2014-06-09: 100 -> 700 units"]


def test_what_is_less_than_a_unit_after_a_reverse_split_is_paid_in_cash_at_the_last_price(run):
    done = run(scripted(d2009_06_26=buy(110)), AIG, "AIG", REVERSE)

    assert done.positions["scripted", "AIG"].quantity == 5
    paid = Decimal("0.5") * 20 * Decimal("1.16")
    assert done.result.final_equity == 100_000 - 110 * Decimal("1.20") + paid + 5 * Decimal("15.00")
    assert [change.cash for change in done.actions[0].changes] == [paid]


@pytest.mark.parametrize("units", [100, -100])
def test_a_dividend_is_paid_to_who_is_long_and_by_who_is_short(run, units):
    dividend = "symbol,ex_date,kind,ratio,amount,payable_date\nAAPL,2014-06-06,cash_dividend,,3.29,2014-06-12\n"
    act = buy(units) if units > 0 else lambda context: context.sell(-units, because="said")
    done = run(scripted(d2014_06_04=act), AAPL[:3], "AAPL", dividend)

    held = done.positions["scripted", "AAPL"]
    assert (held.quantity, held.realized_pnl) == (units, units * Decimal("3.29"))
    assert done.result.final_equity == 100_000 + units * (Decimal("645.57") - Decimal("646.20") + Decimal("3.29"))


def test_nothing_is_paid_for_what_is_bought_on_the_ex_date(run):
    dividend = "symbol,ex_date,kind,amount\nAAPL,2014-06-06,cash_dividend,3.29\n"
    done = run(scripted(d2014_06_05=buy(100)), AAPL[:3], "AAPL", dividend)

    assert done.result.final_equity == 100_000 + 100 * (Decimal("645.57") - Decimal("649.90"))


@pytest.mark.parametrize(
    ("terms", "quantity", "price"),
    [
        (
            {"order_type": OrderType.LIMIT, "limit_price": 640, "time_in_force": GTC},
            70,
            "91.42",
        ),  # 640 / 7 = 91.428..., rounded down to the cent
        ({"order_type": OrderType.STOP, "stop_price": 665, "time_in_force": GTC}, 70, "95.00"),
    ],
)
def test_an_open_order_over_the_ex_date_is_for_as_much_money_as_before(run, terms, quantity, price):
    done = run(scripted(d2014_06_05=buy(10, **terms)), AAPL, "AAPL", SPLIT)

    (fill,) = done.fills()
    assert (fill["quantity"], Decimal(str(fill["price"]))) == (quantity, Decimal(price))


def test_an_order_for_the_ex_date_is_in_its_units(run):
    done = run(scripted(d2014_06_06=buy(10)), AAPL, "AAPL", SPLIT)

    (fill,) = done.fills()
    assert (fill["quantity"], Decimal(str(fill["price"]))) == (70, Decimal("92.7"))


def test_both_legs_of_an_order_from_long_to_short_are_in_the_units_of_the_ex_date(run):
    short = scripted(d2014_06_04=buy(10), d2014_06_06=lambda context: context.target(-20, because="said"))
    done = run(short, AAPL, "AAPL", SPLIT)

    assert [(fill["side"], fill["quantity"]) for fill in done.fills()] == [("buy", 10), ("sell", 70), ("sell", 140)]
    assert done.positions["scripted", "AAPL"].quantity == -140


def test_a_stop_protects_all_of_the_position_after_a_split(run):
    def protect(context):
        return context.sell(10, because="said", order_type=OrderType.STOP, stop_price=600, time_in_force=GTC)

    falls = [*AAPL[:4], ("2014-06-10", 90.0, 90.5, 80.0, 82.0)]
    done = run(scripted(d2014_06_04=buy(10), d2014_06_05=protect), falls, "AAPL", SPLIT)

    _, sale = done.fills()
    assert (sale["quantity"], Decimal(str(sale["price"]))) == (70, Decimal("85.72"))  # 600 / 7, rounded up to the cent
    assert done.positions["scripted", "AAPL"].quantity == 0


def test_an_account_on_margin_is_worth_the_same_after_a_split(run):
    """The margin is checked in the new units: nothing is liquidated for want of it."""
    done = run(scripted(d2014_06_04=buy(250)), AAPL, "AAPL", SPLIT, leverage="alpaca", interest="alpaca")

    assert done.positions["scripted", "AAPL"].quantity == 1750
    assert done.totals.liquidations == 0


@pytest.mark.parametrize("day", ["d2014_06_04", "d2014_06_06"])
def test_a_bracket_protects_as_much_money_as_before(run, day):
    """Its entry has filled before the split, or is open over the ex date."""
    falls = [*AAPL[:4], ("2014-06-10", 90.0, 90.5, 80.0, 82.0)]
    done = run(scripted(**{day: buy(10, stop_loss=600, take_profit=680)}), falls, "AAPL", SPLIT)

    _, sale = done.fills()
    assert (sale["quantity"], Decimal(str(sale["price"]))) == (70, Decimal("85.72"))
    assert (done.open_orders, done.positions["scripted", "AAPL"].quantity) == (0, 0)


def test_an_order_that_becomes_less_than_a_unit_is_canceled(run):
    done = run(
        scripted(d2009_06_26=buy(10, order_type=OrderType.LIMIT, limit_price=1, time_in_force=GTC)), AIG, "AIG", REVERSE
    )

    assert (done.open_orders, done.result.fills) == (0, 0)


def test_adjusted_prices_have_the_splits_in_them_and_dividends_are_per_unit_of_today(run):
    adjusted = [(day, *(round(price / 7, 4) for price in prices)) for day, *prices in AAPL[:3]] + AAPL[3:]
    dividend = SPLIT + "AAPL,2014-06-06,cash_dividend,,3.29,\n"
    done = run(
        scripted(d2014_06_04=buy(700)), adjusted, "AAPL", dividend, {"*": {"asset_class": "equity", "adjusted": True}}
    )

    assert done.positions["scripted", "AAPL"].quantity == 700
    assert done.positions["scripted", "AAPL"].realized_pnl == 329
    assert len(done.actions) == 1


def test_a_split_that_is_in_no_tape_is_still_reported(run):
    done = run(scripted(), AAPL, "AAPL", "symbol,ex_date,kind,ratio\nMSFT,2014-06-09,split,7:1\n")

    assert len(done.jumps) == 1
    assert done.actions == []


def test_the_curve_and_the_round_trips_go_on_over_a_split(run):
    done = run(
        scripted(d2014_06_05=buy(100), d2014_06_10=lambda context: context.close(because="said")), AAPL, "AAPL", SPLIT
    )

    (trip,) = done.round_trips()
    assert (trip.quantity, trip.exit_price) == (700, Decimal("94.13"))
    assert round(trip.profit, 9) == 700 * Decimal("94.13") - 100 * Decimal("649.90")
    equity = dict(zip(done.equity["time"].to_pylist(), done.equity["equity"].to_pylist(), strict=True))
    by_day = {str(time)[:10]: value for time, value in equity.items()}
    assert by_day["2014-06-07"] == pytest.approx(100_000 - 64_990 + 64_557)
    assert by_day["2014-06-10"] == pytest.approx(100_000 - 64_990 + 700 * 93.70)
    assert done.statistics["final_equity"] == pytest.approx(float(done.result.final_equity))
    assert max(-done.equity["drawdown"].to_numpy()) < 0.01


# Features.


class Watching(Strategy):
    """Notes what it is shown."""

    columns = ("macd", "macd_signal", "ema26", "rsi14", "boll_upper", "vwap_session")
    history = 5
    shown = None

    def features(self):
        mean = sma(close, 20)
        return {
            "mean": mean,
            "ratio": close / mean,
            "top": highest(close, 30).shift(1),
            "slow": ema(close, 50),
            "range": atr(14),
            "strength": rsi(10),
            "flow": sma(volume, 10),
            "mean_of_means": sma(sma(close, 5), 7),
            "other": sma(close.of("AAA") / close, 9),
        }

    def on_signal(self, signal, context):
        record = signal.to_record()
        past = context.history(5)
        record |= {"past": past.close.tolist(), "volumes": past.volume.tolist(), "close": signal.close}
        self.shown.append(record)


def walk(days, *, ratio=1.0, split_at=10**9, seed=3):
    """Daily bars of two symbols: those of AAA are divided by `ratio` from day `split_at` on."""
    chance = np.random.default_rng(seed)
    rows = []
    for symbol in ("AAA", "BBB"):
        price = 100 * np.exp(np.cumsum(chance.normal(0, 0.02, days)))
        units = chance.integers(1_000, 9_000, days).astype(float)
        over = np.where((np.arange(days) >= split_at) & (symbol == "AAA"), ratio, 1.0)
        rows.append((symbol, price / over, units * over))
    day = np.datetime64("2024-01-01") + np.arange(days)
    return pa.concat_tables(
        pa.table(
            {
                "date": day,
                "symbol": [symbol] * days,
                "open": price * 0.999,
                "high": price * 1.01,
                "low": price * 0.99,
                "close": price,
                "volume": units,
            }
        )
        for symbol, price, units in rows
    )


def watched(data, actions=(), **more):
    shown = []
    strategy = type("Watching", (Watching,), {"shown": shown, "__module__": __name__})
    backtest(strategy, data, actions=actions, broker={}, **more)
    return shown


@pytest.mark.parametrize("ratio", [("4:1", 4.0), ("1:10", 0.1)])
def test_features_columns_and_history_are_as_if_the_prices_had_always_been_those_after_the_split(tmp_path, ratio):
    text, factor = ratio
    tape = tmp_path / "actions.jsonl"
    tape.write_text(f'{{"symbol": "AAA", "ex_date": "2025-08-20", "kind": "split", "ratio": "{text}"}}\n')
    split_at = (date(2025, 8, 20) - date(2024, 1, 1)).days

    split = watched(walk(700, ratio=factor, split_at=split_at), tape)
    always = watched(walk(700, ratio=factor, split_at=0))
    assert len(split) == len(always) > 1_000
    after = np.datetime64("2025-08-20", "ns").astype(np.int64)
    compared = 0
    for one, other in zip(split, always, strict=True):
        assert (one["symbol"], one["event_ts"]) == (other["symbol"], other["event_ts"])
        if one["event_ts"] < after:
            continue
        compared += 1
        for name, value in other.items():
            if name not in ("symbol", "event_ts"):
                assert one[name] == pytest.approx(value, rel=1e-6, abs=1e-6), name
    assert compared > 200


# Whatever the batches.

MINUTES = """
version: 1
pipelines:
  trading:
    source: {use: replay}
    stages: [{use: microbars}, {use: resample, params: {timeframes: [1Min]}}, {use: indicators}]
    broker: {use: simulated, params: {cash: "100000"}}
instruments: {"*": {asset_class: equity}}
strategies:
  - {name: ema-cross, use: ema-cross, base_timeframe: 1Min, symbols: [AAA, BBB], params: {quantity: "3"}}
"""


@pytest.fixture
def ticks(tmp_path):
    """A tape of trades of two symbols on three days; AAA is split 2:1 on the second, and pays on the third."""
    chance = np.random.default_rng(5)
    times, symbols, prices = [], [], []
    for day, factor in (("2024-03-05", 1.0), ("2024-03-06", 0.5), ("2024-03-07", 0.5)):
        opens = np.datetime64(f"{day}T14:30:00", "ns").astype(np.int64)
        at = opens + np.sort(chance.integers(0, 23_400, 900)) * 1_000_000_000
        names = chance.choice(["AAA", "BBB"], 900)
        price = 50 + np.cumsum(chance.normal(0, 0.05, 900))
        times += at.tolist()
        symbols += names.tolist()
        prices += (price * np.where(names == "AAA", factor, 1.0)).round(2).tolist()
    table = pa.table(
        {
            "event_ts": pa.array(times, pa.timestamp("ns", "UTC")),
            "symbol": symbols,
            "price": prices,
            "size": [10.0] * len(times),
        }
    )
    pq.write_table(table, tmp_path / "trades.parquet")
    is_before = (table["symbol"].to_numpy() == "AAA") & (np.array(times) < opens - DAY)
    halves = np.where(is_before, 0.5, 1.0)
    columns = {"price": np.array(prices) * halves, "size": 10.0 / halves}
    always = pa.table({**{name: table[name] for name in ("event_ts", "symbol")}, **columns})
    pq.write_table(always, tmp_path / "always.parquet")
    (tmp_path / "actions.csv").write_text(
        "symbol,ex_date,kind,ratio,amount\nAAA,2024-03-06,split,2:1,\nAAA,2024-03-07,cash_dividend,,0.25\n"
    )
    return tmp_path


def test_bars_made_of_trades_have_features_as_if_the_prices_had_always_been_those_after_the_split(ticks):
    symbols = {"symbols": ["AAA", "BBB"], "timeframe": "1Min"}
    split = watched(ticks / "trades.parquet", ticks / "actions.csv", **symbols)
    always = watched(ticks / "always.parquet", **symbols)
    midnight = np.datetime64("2024-03-06", "ns").astype(np.int64)
    one, other = ([each for each in rows if each["event_ts"] > midnight] for rows in (split, always))
    assert len(one) == len(other) > 500
    for first, second in zip(one, other, strict=True):
        for name, value in second.items():
            assert first[name] == (value if name == "symbol" else pytest.approx(value, rel=1e-6, abs=1e-6)), name


NOTER = """
from torghut_core import Strategy, hookimpl
from torghut_core.features import close, sma


class Noter(Strategy):
    def __init__(self, params):
        super().__init__(params)
        self.shown = {}

    def features(self):
        return {"mean": sma(close, 200)}

    def on_signal(self, signal, context):
        self.shown[signal.symbol, signal.event_ts] = signal.mean


@hookimpl
def register_strategies(register):
    register("noter", Noter)
"""


def test_features_that_a_reload_adds_after_a_split_are_computed_from_the_past_in_its_prices(ticks, monkeypatch):
    (ticks / "plugins").mkdir()
    (ticks / "plugins" / "split_noter.py").write_text(NOTER)
    monkeypatch.setenv("TORGHUT_PLUGIN_PATH", str(ticks / "plugins"))
    entry = "  - {name: noter, use: noter, base_timeframe: 1Min, symbols: [AAA, BBB]}\n"
    before, after = ticks / "before.yaml", ticks / "after.yaml"
    allow = 'plugins: {allow: ["*"]}\n'
    before.write_text(MINUTES + allow)
    after.write_text(MINUTES + entry + allow)

    def shown(first, swaps):
        tapes, actions = [ticks / "trades.parquet"], [ticks / "actions.csv"]
        state = ticks / f"state-{len(swaps)}"
        with open_replay(first, tapes, state, actions=actions, swaps=swaps, is_stored=False) as job:
            generation = job.run().generation
        return next(each.strategy.shown for each in generation.strategies if each.name == "noter")

    added, always = shown(before, [(1000, after)]), shown(after, [])
    assert len(added) > 500
    for key, mean in added.items():
        assert mean == pytest.approx(always[key], rel=1e-9), key


def test_the_result_does_not_depend_on_the_batches(ticks):
    results = []
    for size in (1_000_000, 97, 1):
        generation = tape_generation(
            load_catalog({"a.yaml": MINUTES}), [ticks / "trades.parquet"], actions=[str(ticks / "actions.csv")]
        )
        done = run_backtest(generation, allow_shorts=True, batch_size=size)
        assert done.jumps == []
        assert len(done.actions) == 2
        assert done.result.fills > 20
        results.append((done.result.digest, done.result.final_equity, done.result.signals, done.result.events))
    assert len(set(results)) == 1
