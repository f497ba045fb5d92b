"""The page of a run: right numbers, one file, nothing from anywhere, and no text of a plugin taken for HTML."""

import base64
import hashlib
import json
import math
import subprocess
import sys
import zlib
from decimal import Decimal
from html.parser import HTMLParser
from resource import RUSAGE_SELF, getrusage

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from torghut_core.research.belief.judge import judge
from torghut_core.research.pages import charts
from torghut_core.research.pages.backtest import Run, write_page
from torghut_core.research.pages.documents import pack
from torghut_core.research.performance.curve import account_curve, bar_series, buy_and_hold
from torghut_core.research.performance.figures import trading_days
from torghut_core.research.performance.trips import round_trips, trip_arrays
from torghut_core.timestamps import DAY, HOUR, SECOND

T0 = 1_767_623_400 * SECOND
MINUTE = 60 * SECOND


def bar_table(closes, symbol="ES", step=SECOND, size="PT1S", first=T0):
    """Bars from close - 2 to close + 1, with a volume of 1 each."""
    n = len(closes)
    close = np.array(closes, np.float64)
    columns = {"open": close, "high": close + 1, "low": close - 2, "close": close, "volume": np.ones(n)}
    return pa.table(
        {
            "symbol": pa.array([symbol] * n, pa.string()),
            "event_ts": pa.array(first + np.arange(n) * step).cast(pa.timestamp("ns", "UTC")),
            "window_size": pa.array([size] * n, pa.string()),
            **{name: pa.array(values, from_pandas=True) for name, values in columns.items()},
        }
    )


def fill(at, side="buy", quantity="1", price="100", fee="0", symbol="ES", strategy_id="one", because="so"):
    """A fill `at` ns after the first bar's start."""
    money = {"quantity": Decimal(quantity), "price": Decimal(price), "fee": Decimal(fee)}
    names = {"symbol": symbol, "strategy_id": strategy_id, "side": side, "because": because}
    return {"event_ts": T0 + at, "decision_hash": f"{at:064x}"[::-1], **names, **money}


def unpacked(text):
    """The values of a packed block, as the page's script reads them."""
    block = zlib.decompress(base64.b64decode(text))
    start = 4 + int.from_bytes(block[:4], "little")

    def revive(found):
        if "$" not in found:
            return found
        kind, at, length, first, divisor = found["$"]
        stored = np.frombuffer(block, np.dtype(kind).newbyteorder("<"), length, start + at)
        if kind == "f8":
            return stored
        values = np.full(length, math.nan)
        known = stored != np.iinfo(stored.dtype).min
        values[known] = (first + np.cumsum(stored[known], dtype=np.float64)) / divisor
        return values

    return json.loads(block[4:start], object_hook=revive)


class Page(HTMLParser):
    """What a browser makes of a page: its elements, and the text outside of scripts and styles."""

    def __init__(self, path):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.sources: dict[str, list[str]] = {"script": [], "style": []}
        self._inside: list[str] = []
        self.html = path.read_text(encoding="utf-8")
        self.feed(self.html)
        (*self.scripts, self.data) = self._of_types()

    def _of_types(self):
        types = [attributes.get("type") for tag, attributes in self.elements if tag == "script"]
        pairs = list(zip(types, self.sources["script"], strict=True))
        return [*(text for kind, text in pairs if kind is None), *(unpacked(text) for kind, text in pairs if kind)]

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside.append(tag)

    def handle_endtag(self, tag):
        if tag in self._inside:
            while self._inside.pop() != tag:
                pass

    def handle_data(self, data):
        inside = self._inside[-1] if self._inside else ""
        if inside in self.sources:
            self.sources[inside].append(data)
        elif data.strip():
            self.words.append(" ".join(data.split()))

    def after(self, word):
        return self.words[self.words.index(word) + 1]

    def says(self, part):
        return [words for words in self.words if part in words]

    def count(self, tag):
        return sum(element == tag for element, _ in self.elements)


def run_of(bars=None, cash=1000, fills=(), **given):
    """A run on bars, with its account and round trips."""
    series = bar_series(bar_table([100.0, 101.0, 102.0]) if bars is None else bars)
    curve = account_curve(float(cash), series, fills)
    trips = round_trips(fills)
    known = {
        "days": trading_days(curve.event_ts),
        "trips": trips,
        "arrays": trip_arrays(trips, series),
    }
    return Run(
        **{"title": "a run", "cash": Decimal(cash), "bars": series, "curve": curve, "fills": fills, **known, **given}
    )


@pytest.fixture
def page(tmp_path):
    """A function that writes the page of a run and reads it."""

    def write(*given, **named):
        return Page(write_page(tmp_path / "page.html", run_of(*given, **named)))

    return write


# The figures


def test_the_numbers_of_a_run_are_on_the_page(page):
    """What a trader asks first: equity, return, drawdown, fees, round trips, denials and why; and what the run knows itself."""
    fills = [
        fill(1 * SECOND, "buy", "10", "100", fee="1"),
        fill(2 * SECOND, "sell", "10", "101", fee="1"),
        fill(3 * SECOND, "buy", "10", "102", fee="1"),
        fill(4 * SECOND, "sell", "10", "102", fee="1"),
    ]
    denied = [{"event_ts": T0, "symbol": "ES", "strategy_id": "one", "code": code} for code in ("a", "b", "b")]
    run = page(fills=fills, denied=denied, figures={"sharpe": 1.234, "cagr_pct": math.nan, "mean_holding_s": 7260.0})

    assert run.after("Final equity") == "1,006.00"
    assert run.after("Return") == "+0.600 %"
    assert run.after("Deepest drawdown") == "-0.198 %"
    assert run.after("Fees") == "4.00"
    assert run.after("Won") == "50 %"
    assert run.after("Denied by risk") == "3"
    assert "b 2, a 1" in run.words
    assert run.after("Sharpe") == "1.23"
    assert run.after("mean holding time") == "2 h 1 min"
    assert "CAGR" not in run.words
    assert run.says("return a year (CAGR): nothing to divide by")


def test_a_run_without_bars_or_fills_is_a_page_too(page):
    """Nothing happened: the page says so, and draws nothing."""
    run = page(bar_table([]))

    assert {"Nothing was filled.", "Risk denied nothing."} <= set(run.words)
    assert run.after("Final equity") == "1,000.00"
    assert (run.data["account"], run.data["markets"], run.data["rolling"]) == (None, [], None)


def test_the_account_is_drawn_beside_its_benchmark(page):
    """From the same cash on, under the benchmark's name, with the figures of both."""
    run = run_of(fills=[fill(0)])
    held = buy_and_hold(1000.0, run.bars, run.curve.event_ts)
    shown = page(fills=[fill(0)], benchmark="buy and hold", compared=held, against={"beta": 0.5, "alpha_pct": math.nan})

    assert shown.data["account"]["benchmark"].tolist() == pytest.approx([1000, 1000, 1010, 1020])
    assert shown.after("+0.200 %") == "buy and hold +2.00 %"
    assert shown.after("Beside buy and hold") == "beta"
    assert shown.after("beta") == "0.50"


def test_months_days_and_hours_are_of_the_account(page):
    """A month's return counts from the month before, the first from the cash; a short run is shown by the hour."""
    days = bar_table([100.0 + k for k in range(59)], step=DAY, size="P1D", first=0)
    run = page(days, fills=[{**fill(0, price="100"), "event_ts": 0}])
    (months,) = [words for words in run.words if words == "1970"]
    cells = run.words[run.words.index(months) + 1 :][:4]
    assert cells == ["3.00", "2.72", "5.80", "Return of a day: how often"]

    curve = run_of(days).curve
    beside = page(days, benchmark="index", compared=curve.equity * np.linspace(1, 1.1, len(curve.equity)))
    assert beside.words[beside.words.index("1970") + 1 :][2:4] == ["0.00", "10.0"]

    short = page(bar_table([100.0, 110.0], step=HOUR, size="PT1H", first=0), fills=[{**fill(0), "event_ts": 0}])
    assert short.words[short.words.index("1970-01-01") + 1 :][:3] == ["0.00", "1.00", "1.00"]


def test_moving_figures_need_their_days(page):
    """The Sharpe ratio and beta of 63 days begin when there are so many."""
    walk = 100 + np.cumsum(np.random.default_rng(3).normal(0, 1, 100))
    bars = bar_table(walk, step=DAY, size="P1D", first=0)
    rolling = page(bars, fills=[{**fill(0, quantity="10"), "event_ts": 0}], cash=10_000).data["rolling"]
    assert len(rolling["time"]) == len(rolling["sharpe"]) == 100 - 63 + 1
    change = np.diff(10_000 + 10 * (walk - 100)) / (10_000 + 10 * (walk - 100))[:-1]
    expected = change[-63:].mean() / change[-63:].std(ddof=1) * math.sqrt(365)
    assert rolling["sharpe"][-1] == pytest.approx(expected, abs=1e-3)
    assert page(bars.slice(0, 60)).data["rolling"] is None


def test_the_page_says_whether_it_can_be_luck(page):
    """In the sentence of `judge`, with the number of sets that were tried."""
    belief = judge(np.full(100, 1e-3), np.ones(50), 252, trials=7)
    run = page(belief=belief)
    head, _, rest = belief.sentence.partition(":")
    assert run.after(head) == ":" + rest
    assert run.says("7 were tried, as far as it is known here.")


def test_costs_are_a_column_for_each_multiple(page):
    """The figures of the run at its costs taken so many times stand side by side."""
    run = page(
        costs={
            1: {"total_return_pct": 2.5},
            0: {"total_return_pct": 4.0, "sharpe": math.nan},
            2: {"total_return_pct": 1.0},
        }
    )
    place = run.words.index("0x")
    assert run.words[place : place + 7] == ["0x", "1x", "2x", "return", "4.00 %", "2.50 %", "1.00 %"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "No position was closed"),
        ({"fills": [fill(0), fill(SECOND, "sell")]}, "Only 1 round trip were closed"),
        ({"fills": [fill(0)]}, "No fee was charged"),
        ({"positions": [("one", "ES", Decimal(1), Decimal(100))]}, "1 position open at the end"),
        ({"bars": pa.concat_tables([bar_table([1.0]), bar_table([1.0], first=T0 + 9 * DAY)])}, "ES has no bar for 8 d 23 h"),
        ({}, "The data spans 3 s"),
        (
            {"figures": {"total_return_pct": 1.0}, "costs": {n: {"total_return_pct": 2.0 - n} for n in (0, 1, 3)}},
            "At 3 times its costs the run loses 1.00 %.",
        ),
        ({"warnings": ["a price changed as in a split"]}, "a price changed as in a split"),
    ],
)  # fmt: skip
def test_what_a_reader_should_doubt_is_said_first(page, given, said):
    """Few round trips, a short span, no costs, open positions, missing data: a sentence each, above the figures."""
    assert page(**given).says(said)


# The charts


def test_the_account_is_drawn_in_equal_steps_with_its_deepest_drawdown(page, monkeypatch):
    """A long run is drawn at the end of each step; a drawdown between two of them is not lost."""
    monkeypatch.setattr(charts, "MOST_POINTS", 10)
    closes = [100.0] * 90 + [60.0] + [100.0] * 200
    account = page(bar_table(closes), fills=[fill(0, quantity="10")]).data["account"]

    assert np.diff(account["time"]).tolist() == pytest.approx([59_000, 60_000, 60_000, 60_000, 51_000], abs=1_000)
    assert account["drawdown"].min() == -40.0
    assert account["equity"].tolist() == [1000.0] * 6


def test_a_long_market_is_drawn_in_several_resolutions(page, monkeypatch):
    """The finest that fits, and longer bars for a look at the whole; the page says what is left out."""
    monkeypatch.setattr(charts, "MOST_BARS", 6_000)
    run = page(bar_table(100 + np.sin(np.arange(200_000) / 900).round(2)))
    market = run.data["markets"][0]

    assert [level["name"] for level in market["levels"]] == ["1Min", "5Min"]
    assert len(market["levels"][0]["time"]) == pytest.approx(200_000 / 60, abs=1)
    assert run.says("ES has 200,000 bars of 1Sec; the finest drawn are 1Min.")


def test_indicators_are_those_of_the_bars_that_are_drawn(page, monkeypatch):
    """Signals of the drawn bars' own step are taken; where there are none, shorter ones, and the page says which."""
    monkeypatch.setattr(charts, "MOST_BARS", 250)
    monkeypatch.setattr(charts, "BARS_OF_A_VIEW", 100)
    closes = [100.0 + k for k in range(300)]
    seconds, minutes = bar_table(closes), bar_table([1.0, 2.0, 3.0, 4.0, 5.0], step=MINUTE, size="PT1M")
    signals = {
        size: table.select(["symbol", "event_ts", "window_size"]).append_column("ema12", table["close"])
        for size, table in (("PT1S", seconds), ("PT1M", minutes))
    }

    own = page(seconds, signals=pa.concat_tables(signals.values())).data["markets"][0]
    assert own["levels"][0]["indicators"]["ema12"].tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert own["indicators_of"] == ""

    shorter = page(seconds, signals=signals["PT1S"]).data["markets"][0]
    assert shorter["levels"][0]["indicators"]["ema12"].tolist() == [159.0, 219.0, 279.0, 339.0, 399.0]
    assert shorter["indicators_of"] == "1Sec"


def test_fills_and_round_trips_carry_what_explain_takes(page):
    """A round trip names the fill that opened it and the one that closed it, with their decisions and reasons."""
    fills = [fill(SECOND, because="weak"), fill(2 * SECOND, "sell", "1", "101.25", because="strong")]
    data = page(fills=fills).data
    trips, drawn = data["trips"], data["fills"]

    assert (trips["entry"].tolist(), trips["exit"].tolist(), trips["profit"].tolist()) == ([0], [1], [1.25])
    assert [drawn["ids"][12 * k :][:12] for k in range(2)] == [each["decision_hash"][:12] for each in fills]
    assert [drawn["texts"][int(place)] for place in drawn["because"]] == ["weak", "strong"]
    assert (drawn["time"][1] * 1e6 - T0, drawn["price"][1]) == (2 * SECOND, 101.25)


def test_a_fill_without_a_decision_has_the_id_of_its_order(page):
    """The broker's own, a liquidation, is explained by its order."""
    own = {**fill(SECOND, "sell"), "decision_hash": "", "client_order_id": "liquidation-1"}
    drawn = page(fills=[fill(0), own]).data["fills"]
    assert drawn["orders"] == {"1": "liquidation-1"}
    assert len(drawn["ids"]) == 24


def test_each_symbol_has_its_chart_and_the_traded_ones_come_first(page):
    """The symbol with the most fills is drawn first; all can be chosen."""
    bars = pa.concat_tables([bar_table([1.0], symbol="AAPL"), bar_table([2.0], symbol="NQ")])
    run = page(bars, fills=[fill(0, symbol="NQ")])

    assert [market["symbol"] for market in run.data["markets"]] == ["NQ", "AAPL"]
    assert run.data["symbols"] == ["NQ", "AAPL"]


# The file

HARMFUL = '</script><script>alert(1)</script><img src=x onerror="alert(2)"><!--'


def harmful_run():
    """A run in which every text is an attack."""
    denied = [{"event_ts": T0, "symbol": HARMFUL, "strategy_id": HARMFUL, "action": HARMFUL, "code": HARMFUL}]
    strategy = {"name": HARMFUL, "use": HARMFUL, "symbols": [HARMFUL], "base_timeframe": HARMFUL}
    strategy |= {"params": {HARMFUL: [HARMFUL]}, "code": {"version": HARMFUL, "code_digest": HARMFUL}}
    part = {"use": HARMFUL, "params": {"paths": [HARMFUL], "cash": {HARMFUL: HARMFUL}}}
    record = {"digest": HARMFUL, "catalog_digest": HARMFUL, "strategies": [strategy], "plugins": [{"kind": HARMFUL}]}
    record |= {"pipelines": {"trading": {"source": part, "broker": part, "stages": [part]}}, "risk": [part]}
    made = [fill(0, strategy_id=HARMFUL, because=HARMFUL), fill(1, "sell", strategy_id=HARMFUL, symbol="ES")]
    return {
        "title": HARMFUL,
        "currency": HARMFUL,
        "bars": pa.concat_tables([bar_table([1.0, 2.0]), bar_table([1.0], symbol=HARMFUL)]),
        "fills": made,
        "denied": denied,
        "denials": {HARMFUL: 1},
        "figures": {"sharpe": math.nan},
        "record": record,
        "positions": [(HARMFUL, HARMFUL, Decimal(1), Decimal(1))],
        "warnings": [HARMFUL],
        "benchmark": HARMFUL,
        "against": {"beta": 1.0},
        "breakdowns": {
            "strategy": pa.table(
                {"strategy": [HARMFUL] * 2, "round_trips": [1, 1], "won": [1, 1], "profit": [1.0, 0.0]}
            )
        },
        "costs": {1: {"sharpe": 1.0}},
        "facts": {HARMFUL: HARMFUL},
    }


def test_text_of_plugins_is_shown_and_not_run(page):
    """Names, reasons, codes and parameters are a plugin's or an operator's: they never become elements."""
    harmful = page(**harmful_run())

    assert harmful.count("script") == page(fills=[fill(0)]).count("script") == 6
    assert harmful.count("img") == 0
    assert len(harmful.says(HARMFUL)) > 15
    assert "alert(1)" not in "".join(harmful.scripts)
    assert harmful.data["strategies"] == [HARMFUL]


def test_the_page_loads_nothing_and_runs_nothing_else(page):
    """One file: no element refers to another one, and a content security policy allows the scripts that are in it and no others."""
    run = page(**harmful_run())
    policy = next(attributes for tag, attributes in run.elements if tag == "meta" and "http-equiv" in attributes)
    texts = [*run.scripts, *run.sources["style"]]
    named = {f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in texts}

    assert {part for part in policy["content"].replace(";", " ").split() if "sha256" in part} == named
    assert "default-src 'none'" in policy["content"]
    assert "unsafe" not in policy["content"]
    assert not [attributes for _, attributes in run.elements if attributes.keys() & {"src", "action", "style"}]
    links = {attributes.get("href") for _, attributes in run.elements if "href" in attributes}
    outside = {link for link in links if not link.startswith("#")}
    assert outside == {"https://www.tradingview.com/", "https://www.apache.org/licenses/LICENSE-2.0"}


def test_the_charts_are_attributed_as_their_licence_asks(page):
    """The notice and the link are seen by who reads the page, and the licence stands in the script."""
    run = page()

    assert run.says("TradingView Lightweight Charts™, Copyright")
    assert "https://www.tradingview.com/" in run.words
    assert any("Licensed under Apache License 2.0" in script[:300] for script in run.scripts)


def test_a_path_of_the_machine_is_not_on_the_page(page):
    """Of a tape the page has the name: it is sent to others."""
    source = {"use": "replay", "params": {"paths": ["/home/ann/secret/es.parquet"]}}
    record = {"digest": "a", "catalog_digest": "b", "strategies": [], "plugins": []}
    run = page(record={**record, "pipelines": {"trading": {"source": source}}})

    assert "es.parquet" in run.words
    assert "/home/ann" not in run.html


def test_a_browser_without_scripts_gets_the_numbers(page):
    """Cards and tables are HTML, and the round trips and the data are among them."""
    run = page(fills=[fill(0), fill(SECOND, "sell", price="103")])

    assert run.count("noscript") == 2
    assert "+3.00" in run.words
    assert "3 of 1Sec" in run.words


def long_run(bars=500_000, trips=50_000):
    """Minutes of a random walk with indicators, and a position every ten bars."""
    rng = np.random.default_rng(7)
    close = (100 * np.exp(np.cumsum(rng.normal(0, 4e-4, bars)))).round(2)
    table = bar_table(close, step=MINUTE, size="PT1M")
    table = table.set_column(7, "volume", pa.array(rng.integers(100, 10_000, bars).astype(float)))
    signals = table.select(["symbol", "event_ts", "window_size"])
    for name in charts.DRAWN:
        signals = signals.append_column(name, pa.array(close + rng.normal(0, 0.1, bars)))
    fills = []
    for k in range(trips):
        bar = k * (bars // trips)
        own = {"fee": "0.1", "because": f"momentum {close[bar]} up from weakness"}
        fills.append(fill(bar * MINUTE, price=str(close[bar]), **own))
        fills.append(fill((bar + 4) * MINUTE, "sell", price=str(close[bar + 4]), **own))
    return run_of(table, cash=100_000, fills=fills, signals=signals)


@pytest.mark.proof
def test_a_long_run_gives_a_small_page_soon(tmp_path):
    """Half a million bars with their indicators and 50,000 round trips: below 6 MB, and written in seconds."""
    run = long_run()
    before = getrusage(RUSAGE_SELF).ru_utime
    path = write_page(tmp_path / "page.html", run)

    assert getrusage(RUSAGE_SELF).ru_utime - before < 6
    assert path.stat().st_size < 6_000_000


def test_many_symbols_give_a_page_of_bounded_size(page):
    """30 symbols of a day of seconds: 25 are drawn, and it says what is not."""
    bars = bar_table(100 + np.sin(np.arange(20_000) / 900).round(2))
    names = [f"S{k:02}" for k in range(30)]
    many = pa.concat_tables([bars.set_column(0, "symbol", pa.array([name] * 20_000)) for name in names])
    run = page(many, fills=[fill(k * SECOND, symbol=names[k % 30]) for k in range(600)])

    assert len(run.html) < 2_000_000
    assert run.says("5 more symbols are not drawn.")


def test_pandas_is_not_imported(tmp_path):
    """Arrow imports pandas, 0.7 s of it, at many a turn; the page of a run takes none of them."""
    code = """
import sys
from decimal import Decimal
from pathlib import Path
import pyarrow.parquet as pq
from torghut_core.research.performance.figures import trading_days
from torghut_core.research.pages.backtest import Run, write_page
from torghut_core.research.performance.curve import account_curve, bar_series
from torghut_core.research.performance.trips import trip_arrays
bars = pq.ParquetFile(sys.argv[1]).read()
series = bar_series(bars)
curve = account_curve(1.0, series, ())
known = {"days": trading_days(curve.event_ts), "arrays": trip_arrays([], series)}
write_page(Path(sys.argv[1] + ".html"), Run(title="", bars=series, curve=curve, signals=bars, cash=Decimal(1), **known))
print("pandas" in sys.modules)
"""
    bars = bar_table([1.0, math.nan])
    pq.write_table(bars.append_column("ema12", bars["close"]), tmp_path / "bars.parquet")
    command = [sys.executable, "-c", code, str(tmp_path / "bars.parquet")]

    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"


def test_the_same_run_gives_the_same_page(page):
    """The page does not depend on the clock or the machine."""
    assert page(fills=[fill(0)]).html == page(fills=[fill(0)]).html


# How numbers are packed


@pytest.mark.parametrize(
    "values",
    [
        [1.25, math.nan, 1.5, 1.75],
        [1e-8, 3e-8],
        [math.pi, math.e],
        [math.nan, math.nan],
        [],
        [1.767623400123e12, 1.767623460123e12],
        [5e9, -5e9, 0.01],
        [127.0, 0.0, 128.0, -128.0],
        [0.1, 0.2, 0.30000000000000004],
        [1e300, -1e-300, math.inf],
    ],
)
def test_packed_numbers_come_back(values):
    """To the last decimal; what is no number comes back as none."""
    found = unpacked(pack({"a": {"b": np.array(values, np.float64)}, "text": "</script>"}))
    expected = [math.nan if math.isinf(value) else value for value in values]
    np.testing.assert_allclose(found["a"]["b"], expected, rtol=1e-12, atol=0)
    assert found["text"] == "</script>"
