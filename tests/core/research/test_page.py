"""The page of a run: right numbers, one file, nothing from anywhere, and no text of a plugin taken for HTML."""

import base64
import json
import math
import re
import subprocess
import sys
from decimal import Decimal
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from torghut_core.research import page as pages
from torghut_core.research.page import write_page
from torghut_core.timestamps import SECOND

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
    return {
        "event_ts": T0 + at,
        "symbol": symbol,
        "strategy_id": strategy_id,
        "side": side,
        "because": because,
        **money,
    }


class Page(HTMLParser):
    """What a browser makes of a page: its elements, and the text outside of scripts and styles."""

    def __init__(self, path):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.parents: list[str] = []
        self.scripts: list[str] = []
        self._inside: list[str] = []
        self.html = path.read_text(encoding="utf-8")
        self.feed(self.html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside.append(tag)

    def handle_endtag(self, tag):
        if tag in self._inside:
            while self._inside.pop() != tag:
                pass

    def handle_data(self, data):
        if self._inside and self._inside[-1] == "script":
            self.scripts.append(data)
        elif data.strip():
            self.words.append(" ".join(data.split()))
            self.parents.append(self._inside[-1] if self._inside else "")

    def after(self, word):
        return self.words[self.words.index(word) + 1]

    def figures(self, name):
        """What the page's script gets as `name`."""
        line = re.search(rf"^const {name} = (.*);$", self.scripts[-1], re.MULTILINE)
        return json.loads(line[1])


def column(encoded):
    return np.frombuffer(base64.b64decode(encoded["bdata"]), encoded["dtype"])


def trace(figure, name):
    return next(trace for trace in figure["data"] if trace["name"] == name)


@pytest.fixture
def page(tmp_path):
    """A function that writes a page and reads it."""

    def write(bars=None, **given):
        bars = bar_table([100.0, 101.0, 102.0]) if bars is None else bars
        given = {"title": "a run", "summary": {}, "cash": Decimal(1000), **given}
        return Page(write_page(tmp_path / "page.html", bars=bars, **given))

    return write


# The account


def test_equity_follows_fills_and_closes(page):
    """At the end of each bar and at each fill: cash, and the position at the last close that was known."""
    fills = [
        fill(SECOND // 2, quantity="2", price="99", fee="1"),
        fill(2 * SECOND + 1, "sell", quantity="3", price="104"),
    ]
    equity = trace(page(fills=fills).figures("account"), "equity")

    assert (column(equity["x"]) - T0 / 1e6).tolist() == [0.0, 500.0, 1000.0, 2000.0, 2000.0, 3000.0]
    assert column(equity["y"]).tolist() == [1000.0, 999.0, 1001.0, 1003.0, 1012.0, 1011.0]


def test_the_numbers_of_a_run_are_on_the_page(page):
    """What a trader asks first: equity, return, drawdown, fees, round trips, decisions, denials and why."""
    fills = [
        fill(1 * SECOND, "buy", "10", "100", fee="1"),
        fill(2 * SECOND, "sell", "10", "101", fee="1"),
        fill(3 * SECOND, "buy", "10", "102", fee="1"),
        fill(4 * SECOND, "sell", "10", "102", fee="1"),
    ]
    summary = {"decisions": 7, "denied": 3, "orders": 4, "final_equity": Decimal("1006.00")}
    denied = [{"event_ts": T0, "symbol": "ES", "strategy_id": "one", "code": code} for code in ("a", "b", "b")]
    run = page(summary=summary, fills=fills, denied=denied)

    assert run.after("Final equity") == "1,006.00"
    assert run.after("Return") == "+0.600 %"
    assert run.after("Max drawdown") == "-0.198 %"
    assert run.after("Fees paid") == "4.00"
    assert run.after("Round trips won") == "50 %"
    assert run.after("Decisions") == "7"
    assert run.after("Denied by risk") == "3"
    assert run.words[run.words.index("Denied by risk") + 2] == "b 2, a 1"
    assert "of 4 orders" in run.words


def test_a_run_without_bars_or_fills_is_a_page_too(page):
    """Nothing happened: the page says so, and draws nothing."""
    run = page(bars=bar_table([]))

    assert {"Nothing was filled.", "Risk denied nothing."} <= set(run.words)
    assert run.after("Final equity") == "1,000.00"
    assert (run.figures("account"), run.figures("markets")) == (None, [])


# The market


def test_indicators_are_those_of_the_bars_that_are_drawn(page, monkeypatch):
    """Signals of the drawn bars' own step are taken; where there are none, shorter ones, and the page says which."""
    monkeypatch.setattr(pages, "_MAX_BARS", 250)
    closes = [100.0 + k for k in range(300)]
    seconds, minutes = bar_table(closes), bar_table([1.0, 2.0, 3.0, 4.0, 5.0], step=MINUTE, size="PT1M")
    signals = {
        size: table.select(["symbol", "event_ts", "window_size"]).append_column("ema12", table["close"])
        for size, table in (("PT1S", seconds), ("PT1M", minutes))
    }

    own = page(seconds, signals=pa.concat_tables(signals.values())).figures("markets")[0]
    assert column(trace(own, "EMA 12")["y"]).tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]

    shorter = page(seconds, signals=signals["PT1S"]).figures("markets")[0]
    assert column(trace(shorter, "EMA 12 of 1Sec bars")["y"]).tolist() == [159.0, 219.0, 279.0, 339.0, 399.0]
    assert shorter["bars"] == "5 bars of 1Min"


def test_a_long_pause_is_a_gap_and_not_a_line(page):
    """A session's end: the indicators of Friday and Monday are not joined by a slope."""
    bars = pa.concat_tables([bar_table([1.0, 2.0]), bar_table([3.0], first=T0 + 3600 * SECOND)])
    signals = bars.select(["symbol", "event_ts", "window_size"]).append_column("ema12", bars["close"])
    market = page(bars, signals=signals).figures("markets")[0]

    assert column(trace(market, "EMA 12")["y"]).tolist() == pytest.approx([1.0, 2.0, math.nan, 3.0], nan_ok=True)


def test_fills_are_marked_at_their_own_time_and_price(page):
    """A marker says who traded, how much, and why."""
    fills = [fill(1_500_000_000, "sell", "0.50", "101.25", because="enough")]
    market = page(fills=fills).figures("markets")[0]
    marker = trace(market, "sell (1)")

    assert (column(marker["x"])[0] - T0 / 1e6, column(marker["y"])[0]) == (1500.0, 101.25)
    assert marker["text"] == ["sell 0.5 at 101.25<br>one<br>enough"]


def test_too_many_fills_are_counted_and_the_last_marked(page, monkeypatch):
    """A browser draws thousands of markers and not millions: the legend has the count of all."""
    monkeypatch.setattr(pages, "_MAX_MARKERS", 2)
    market = page(fills=[fill(k * SECOND) for k in range(3)]).figures("markets")[0]

    assert (column(trace(market, "buy (3)")["x"]) - T0 / 1e6).tolist() == [1000.0, 2000.0]


def test_each_symbol_has_its_chart_and_the_traded_ones_come_first(page):
    """The symbol with the most fills is drawn first; all can be chosen."""
    bars = pa.concat_tables([bar_table([1.0], symbol="AAPL"), bar_table([2.0], symbol="NQ")])
    run = page(bars, fills=[fill(0, symbol="NQ")])

    assert [market["symbol"] for market in run.figures("markets")] == ["NQ", "AAPL"]
    options = [word for word, tag in zip(run.words, run.parents, strict=True) if tag == "option"]
    assert options == ["NQ", "AAPL"]


# The file

HARMFUL = '</script><script>alert(1)</script><img src=x onerror="alert(2)">'


def test_text_of_plugins_is_shown_and_not_run(page):
    """Titles, strategy names, reasons and codes are a plugin's or an operator's: they never become elements."""
    denied = [
        {"event_ts": T0, "symbol": "ES", "strategy_id": HARMFUL, "action": HARMFUL, "code": HARMFUL, "value": HARMFUL}
    ]
    plain = page(fills=[fill(0)], denied=[{**denied[0], "strategy_id": "", "action": "", "code": "", "value": ""}])
    harmful = page(
        title=HARMFUL,
        summary={"digest": HARMFUL},
        fills=[fill(0, strategy_id=HARMFUL, because=HARMFUL)],
        denied=denied,
        bars=pa.concat_tables([bar_table([1.0]), bar_table([1.0], symbol=HARMFUL)]),
    )

    def count(run, tag):
        return sum(element == tag for element, _ in run.elements)

    assert count(harmful, "script") == count(plain, "script") == 2
    assert count(harmful, "img") == 0
    assert HARMFUL in harmful.words
    assert "<img" not in trace(harmful.figures("markets")[0], "buy (1)")["text"][0]  # plotly's labels know some HTML


def test_the_page_loads_nothing(page):
    """One file: no element refers to another one, and a content security policy forbids it."""
    run = page(fills=[fill(0)])
    policy = next(attributes for tag, attributes in run.elements if tag == "meta" and "http-equiv" in attributes)

    assert not [attributes for _, attributes in run.elements if attributes.keys() & {"src", "href", "action"}]
    assert "default-src 'none'" in policy["content"]
    assert "Share chart" not in run.scripts[-1]
    assert 'plotlyServerURL: ""' in run.scripts[-1]


def test_a_browser_without_scripts_gets_the_numbers(page):
    """The cards and tables are HTML, and in the place of the charts is a table of the bars."""
    run = page()

    assert any(tag == "noscript" for tag, _ in run.elements)
    assert "3 of 1Sec" in run.words


def test_a_long_run_of_many_symbols_stays_small(page):
    """A day of seconds in 30 symbols with 6,000 fills: at most 8 MB besides plotly, and it says what is not drawn."""
    closes = 100 + np.sin(np.arange(86_400) / 900)
    bars = bar_table(closes)
    names = [f"S{k:02}" for k in range(30)]
    many = pa.concat_tables([bars.set_column(0, "symbol", pa.array([name] * len(closes))) for name in names])
    signals = many.select(["symbol", "event_ts", "window_size"])
    for name in pages._DRAWN:
        signals = signals.append_column(name, many["close"])
    fills = [fill(k * SECOND, symbol=names[k % 30], because="momentum up from weakness") for k in range(6_000)]
    run = page(many, signals=signals, fills=fills)

    assert len(run.html) - len(run.scripts[0]) < 8_000_000
    assert "5 more symbols are not drawn" in run.words


def test_pandas_is_not_imported(tmp_path):
    """Arrow imports pandas, 0.7 s of it, at many a turn; the page of a run takes none of them."""
    code = """
import sys
from decimal import Decimal
from pathlib import Path
import pyarrow.parquet as pq
from torghut_core.research.page import write_page
bars = pq.ParquetFile(sys.argv[1]).read()
write_page(Path(sys.argv[1] + ".html"), title="", summary={}, bars=bars, signals=bars, cash=Decimal(1))
print("pandas" in sys.modules)
"""
    bars = bar_table([1.0, math.nan])
    pq.write_table(bars.append_column("ema12", bars["close"]), tmp_path / "bars.parquet")
    command = [sys.executable, "-c", code, str(tmp_path / "bars.parquet")]

    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"


def test_the_same_run_gives_the_same_page(page):
    """The page does not depend on the clock or the machine."""
    assert page(fills=[fill(0)]).html == page(fills=[fill(0)]).html
