"""Compiled backtests come to what the loop comes to: the same fills, counts and money, on random strategies and tapes."""

import json
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from support.effort import examples
from torghut_core import Strategy, hookimpl, param
from torghut_core.plugin_host import PluginHost
from torghut_core.research import load_catalog, run_backtest, tape_generation
from torghut_core.research.compiled import Simulator
from torghut_core.timestamps import HOUR, MINUTE, SECOND

LATE = 1_767_654_000 * SECOND
"""Half past eleven at night, in the middle of a week of January 2026, UTC: six hours after New York's open."""


class Drawn(Strategy):
    """Targets drawn by lot, of each row the same whichever rows come with it."""

    class Params(Strategy.Params):
        seed: int = param(0, help="of the lots")
        levels: list[float] = param([0.0, 1.0], help="targets to draw from, units")
        changes: int = param(3, ge=1, help="one row in so many has a target")
        stop: float = param(0.0, help="distance of the stop, part of the close; 0 for none")
        profit: float = param(0.0, help="distance of the take-profit, part of the close; 0 for none")

    def decide(self, columns):
        params = self.params
        seeds = np.array([sum(map(ord, symbol)) for symbol in columns.symbol], np.int64) + params.seed
        lots = (columns.event_ts // SECOND * 48_271 + seeds * 69_621) % 2_147_483_647 % 10_007
        targets = np.array(params.levels)[lots % len(params.levels)]
        targets = np.where(lots // 7 % params.changes == 0, targets, np.nan)
        sign, legs = np.sign(targets), {}
        if params.stop:
            legs["stop_loss"] = np.round(columns.close * (1 - sign * params.stop), 2)
        if params.profit:
            legs["take_profit"] = np.round(columns.close * (1 + sign * params.profit), 2)
        return targets, "by lot", legs


def plugins():
    module = ModuleType("drawn")

    @hookimpl
    def register_strategies(register):
        register("drawn", Drawn)

    module.register_strategies = register_strategies
    return module


@pytest.fixture(scope="module")
def host():
    return PluginHost.load(extra=[("drawn", plugins())])


def write(path, seed, symbols, minutes, wild, begin=LATE):
    """Bars by the minute: some missing, some without trades, now and then a pause or a gap in the price."""
    chance = np.random.default_rng(seed)
    rows, moment = [], begin + int(chance.integers(0, 40)) * MINUTE
    price = dict.fromkeys(symbols, 100.0)
    for _ in range(minutes):
        moment += MINUTE * int(
            chance.choice([1, 1, 1, 1, 1, 1, 2, 7, 400, 1500], p=[0.16] * 6 + [0.02, 0.01, 0.006, 0.004])
        )
        for symbol in symbols:
            if chance.random() < 0.1:
                continue
            last = price[symbol]
            opened = round(last * float(np.exp(chance.normal(0, wild))), 2) or 0.01
            if chance.random() < 0.01:
                opened = round(opened * float(chance.choice([0.45, 0.6, 1.4, 2.3])), 2) or 0.01
            ends = [round(opened * float(np.exp(chance.normal(0, wild))), 2) or 0.01 for _ in range(3)]
            price[symbol] = ends[0]
            volume = 0.0 if chance.random() < 0.05 else float(chance.integers(1, 500))
            rows.append((symbol, moment, opened, max(opened, *ends), min(opened, *ends), ends[0], volume))
    names = ("symbol", "event_ts", "open", "high", "low", "close", "volume")
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    columns["event_ts"] = pa.array(columns["event_ts"]).cast(pa.timestamp("ns", "UTC"))
    pq.write_table(pa.table({name: pa.array(column) for name, column in columns.items()}), path)


DECIMALS = {"fees": st.sampled_from(["0", "1", "2.5", "10"]), "amounts": st.sampled_from(["0", "0.005", "0.35", "1"])}
FEE = st.one_of(
    st.builds(lambda bps: {"bps": bps}, DECIMALS["fees"]),
    st.builds(lambda maker, taker: {"maker_bps": maker, "taker_bps": taker}, DECIMALS["fees"], DECIMALS["fees"]),
    st.builds(
        lambda unit, least, most: {"per_unit": unit, "minimum": least, "maximum": "5", "maximum_bps": most},
        DECIMALS["amounts"],
        DECIMALS["amounts"],
        st.sampled_from(["50", "100"]),
    ),
    st.builds(lambda bps, side: {"bps": bps, "side": side}, DECIMALS["fees"], st.sampled_from(["buy", "sell"])),
)
TERMS = st.none() | st.fixed_dictionaries(
    {"calendar": st.sampled_from(["XNYS", "24/7"])},
    optional={
        "quantity_step": st.sampled_from(["0.1", "0.25", "1"]),
        "min_quantity": st.sampled_from(["0.5", "1"]),
        "tick_size": st.sampled_from(["0.01", "0.05", "0.25"]),
        "multiplier": st.sampled_from(["1", "5", "0.1"]),
        "margin": st.sampled_from(["1", "0.5", "0.1"]),
    },
)
PARAMS = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 1000),
        "levels": st.lists(
            st.sampled_from([0.0, 1.0, 2.0, -1.0, 0.3, 1 / 3, -2.5, 10.0]), min_size=2, max_size=4, unique=True
        ),
        "changes": st.integers(1, 6),
    },
    optional={"stop": st.sampled_from([0.001, 0.01, 0.05]), "profit": st.sampled_from([0.001, 0.01, 0.05])},
)
LIMITS = st.just({}) | st.fixed_dictionaries(
    {},
    optional={
        "max_notional_per_trade": st.sampled_from(["80", "250", "1000"]),
        "max_position_pct_equity": st.sampled_from(["0.001", "0.01", "0.5"]),
        "cooldown_seconds": st.sampled_from([60, 150, 3600]),
    },
)
RULES = st.just([]) | st.lists(
    st.sampled_from(
        [
            {"use": "buying-power"},
            {"use": "buying-power", "params": {"fee_buffer_bps": "200", "quantity_step": "0.01"}},
            {"use": "no-shorts"},
            {"use": "max-notional", "params": {"max_notional_per_trade": "180", "quantity_step": "0.5"}},
            {"use": "max-position-pct-equity", "params": {"max_position_pct_equity": "0.005"}},
            {"use": "cooldown", "params": {"cooldown_seconds": 120}},
        ]
    ),
    max_size=3,
    unique_by=lambda rule: rule["use"],
)
ENTRIES = st.lists(
    st.tuples(PARAMS, LIMITS, st.sampled_from([{"ES"}, {"BTC/USD"}, {"SPY"}, {"ES", "SPY"}, {"BTC/USD", "ES", "SPY"}])),
    min_size=1,
    max_size=3,
)


def catalog_of(tape, broker, instruments, entries, rules):
    """A catalog; `entries` are parameters, limits and symbols of each strategy."""
    return {
        "version": 1,
        "pipelines": {
            "trading": {
                "source": {"use": "replay", "params": {"paths": [str(tape)]}},
                "stages": [{"use": "indicators", "params": {"columns": ["ema12"]}}],
                "broker": {"use": "simulated", "params": broker},
            }
        },
        "instruments": instruments,
        "strategies": [
            {
                "name": f"drawn-{number}",
                "use": "drawn",
                "base_timeframe": "1Min",
                "symbols": sorted(listed),
                "params": params,
                **limits,
            }
            for number, (params, limits, listed) in enumerate(entries)
        ],
        "risk": rules,
    }


@given(data=st.data())
@examples(4000, quick=20)
def test_it_comes_to_what_the_loop_comes_to(host, tmp_path_factory, data):
    """Of any catalog that can be compiled, a set that does not need the loop has the loop's fills, counts, money and curve."""
    entries = data.draw(ENTRIES, "entries")
    symbols = sorted({symbol for _, _, listed in entries for symbol in listed})
    tape = tmp_path_factory.mktemp("compiled") / "tape.parquet"
    wild = data.draw(st.sampled_from([0.0, 0.0005, 0.005, 0.03]), "wild")
    write(
        tape,
        data.draw(st.integers(0, 10**6), "tape"),
        symbols,
        data.draw(st.sampled_from([150, 60, 5]), "minutes"),
        wild,
    )
    broker = {
        "cash": data.draw(st.sampled_from(["100000", "1000000", "2500"]), "cash"),
        "fees": {"*": data.draw(st.lists(FEE, max_size=2), "fees")},
        "slippage": {
            "*": {"bps": data.draw(DECIMALS["fees"], "bps"), "spread_bps": data.draw(DECIMALS["fees"], "spread")}
        },
        "time_in_force": data.draw(st.sampled_from(["day", "gtc"]), "time in force"),
    }
    instruments = {symbol: terms for symbol in symbols if (terms := data.draw(TERMS, symbol))}
    catalog = catalog_of(tape, broker, instruments, entries, data.draw(RULES, "rules"))
    may_short = data.draw(st.booleans(), "shorts")
    cuts = sorted(data.draw(st.just(set()) | st.sets(st.integers(0, 200), max_size=2), "span"))
    span = dict(zip(("since", "until"), (LATE + cut * MINUTE for cut in cuts), strict=False))
    ours = compare(host, catalog, may_short, **span)
    event(ours.needs_loop or f"compiled, {'with' if ours.filled else 'without'} fills")


def compare(host, catalog, may_short, **span):
    loaded = load_catalog({"drawn.json": json.dumps(catalog)})
    others = json.loads(json.dumps(catalog))
    for entry in others["strategies"]:
        entry["params"] = {}
    first = tape_generation(load_catalog({"drawn.json": json.dumps(others)}), host=host)
    simulator = Simulator(first, host, allow_shorts=may_short, batch_size=17)
    params = {entry["name"]: entry["params"] for entry in catalog["strategies"]}
    ours = simulator.run(params, **span, with_equity=True)
    if ours.needs_loop:
        return ours
    loop = run_backtest(tape_generation(loaded, host=host), allow_shorts=may_short, **span)
    result = loop.result
    shown = ("event_ts", "strategy_id", "symbol", "side", "quantity", "price", "fee")
    key = lambda fill: (fill["event_ts"], fill["strategy_id"], fill["symbol"])  # noqa: E731
    theirs = sorted([{name: fill[name] for name in shown} for fill in loop.fills()], key=key)
    assert sorted(simulator.fill_rows(ours), key=key) == theirs
    counts = (result.decisions, result.denied, result.orders, result.fills)
    assert (ours.decisions, ours.denied, ours.orders, ours.filled) == counts
    assert abs(ours.final_equity - float(result.final_equity)) < 1e-6
    assert abs(ours.fees - float(loop.totals.fees)) < 1e-6
    curve, expected = simulator.curve(ours), loop.curve()
    assert curve.event_ts.tolist() == expected.event_ts.tolist()
    assert np.allclose(curve.equity, expected.equity, rtol=0, atol=1e-6)
    assert len(simulator.round_trips(ours)) == len(loop.round_trips())
    assert ours.equity[-1:].tolist() in ([], [pytest.approx(ours.final_equity)])
    return ours


def test_a_leg_that_the_loop_refuses_needs_the_loop(host, tmp_path):
    """A price without end, or with more digits than a decision may name, quarantines the strategy there."""
    write(tmp_path / "tape.parquet", 1, ["ES"], 60, 0.001)
    entries = [({"levels": [1.0, 0.0], "changes": 1, "stop": 1e30}, {}, ["ES"])]
    ours = compare(host, catalog_of(tmp_path / "tape.parquet", {}, {}, entries, []), may_short=False)
    assert "quarantined" in ours.needs_loop


BOUNDED = {"per_unit": "0.01", "minimum": "0.35", "maximum": "5", "maximum_bps": "50"}
BANDS = {"levels": [0.0, 1.0], "stop": 0.01, "profit": 0.01}


def test_many_units_are_counted_to_the_last(host, tmp_path):
    """Beyond what a float holds to nine decimals."""
    write(tmp_path / "tape.parquet", 1, ["ES"], 60, 0.001)
    entries = [({"levels": [9007199.254740993, 1 / 3, 14345678.12345679], "changes": 1}, {}, ["ES"])]
    ours = compare(
        host, catalog_of(tmp_path / "tape.parquet", {"cash": "2000000000"}, {}, entries, []), may_short=False
    )
    assert not ours.needs_loop
    assert ours.filled


def test_legs_of_a_short_position_hold_buying_power(host, tmp_path):
    """What is left for another order then is the loop's to say; a set without such legs is compiled."""
    tape = tmp_path / "tape.parquet"
    write(tape, 126, ["BTC/USD", "ES", "SPY"], 5, 0.0)
    for legs, reason in (({"stop": 0.001}, "hold buying power"), ({}, "")):
        entries = [({"seed": 17, "levels": [10.0, -1.0], "changes": 1, **legs}, {}, {"BTC/USD", "ES", "SPY"})]
        ours = compare(host, catalog_of(tape, {"cash": "2500"}, {}, entries, []), may_short=True)
        assert reason in ours.needs_loop
        assert bool(ours.needs_loop) == bool(reason)


STORIES = {
    "from long to short and back": ([({"levels": [1.0, -1.0, 0.0]}, {}, ["ES"])], [], {}),
    "stops and take-profits": ([({**BANDS, "changes": 1}, {}, ["ES", "SPY"])], [], {}),
    "of shorts too": ([({**BANDS, "levels": [-2.0, 0.0, 2.0]}, {}, ["BTC/USD"])], [], {}),
    "limits that cut": ([({"levels": [5.0, 0.0]}, {"max_notional_per_trade": "250"}, ["ES"])], [], {}),
    "shares of equity": ([({"levels": [5.0, 0.0]}, {"max_position_pct_equity": "0.003"}, ["ES", "SPY"])], [], {}),
    "pauses": ([({"levels": [2.0, 0.0, -2.0]}, {"cooldown_seconds": 150}, ["ES"])], [], {}),
    "rules": (
        [({"levels": [40.0, 0.0, 1 / 3]}, {}, ["ES", "SPY"])],
        [{"use": "buying-power"}, {"use": "no-shorts"}],
        {},
    ),
    "two strategies in one symbol": (
        [({"levels": [2.0, 1.0]}, {}, ["ES"]), ({"levels": [-1.0, 0.0], "seed": 7, "changes": 7}, {}, ["ES"])],
        [],
        {},
    ),
    "a future": (
        [({"levels": [3.0, -3.0, 0.0]}, {}, ["ES"])],
        [{"use": "buying-power"}],
        {"ES": {"calendar": "24/7", "multiplier": "50", "margin": "0.1", "quantity_step": "1", "tick_size": "0.25"}},
    ),
    "sessions": ([({"levels": [1.0, 0.0]}, {}, ["SPY"])], [], {"SPY": {"calendar": "XNYS", "asset_class": "equity"}}),
}


@pytest.mark.parametrize("story", STORIES)
def test_stories_are_compiled_and_come_to_the_same(host, tmp_path, story):
    """Each of what compiled code can say is traded there, on some tape at least, and comes to what the loop comes to."""
    entries, rules, instruments = STORIES[story]
    symbols = sorted({symbol for _, _, listed in entries for symbol in listed})
    fees = [{"maker_bps": "1", "taker_bps": "3"}, BOUNDED]
    broker = {"cash": "5000", "fees": {"*": fees}, "slippage": {"*": {"bps": "2"}}}
    filled = 0
    for seed in range(4):
        begin = LATE - 4 * HOUR if story == "sessions" else LATE
        write(tmp_path / "tape.parquet", seed, symbols, 150, 0.003, begin)
        catalog = catalog_of(tmp_path / "tape.parquet", broker, instruments, entries, rules)
        filled += compare(host, catalog, may_short=True).filled
    assert filled > 20
