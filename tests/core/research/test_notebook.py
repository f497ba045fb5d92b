"""A backtest in one call is the loop's own, whatever its data comes in, and shows itself in a notebook."""

from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from torghut_core import Strategy, param
from torghut_core.errors import CatalogError, InputError
from torghut_core.features import close, ema
from torghut_core.research import backtest, load_catalog, run_backtest, tape_generation
from torghut_core.research.comparison import compare, find_runs
from torghut_core.research.performance.figures import unknown

DAYS = 300


class Trend(Strategy):
    """Long above its average, short below it."""

    class Params(Strategy.Params):
        span: int = param(20, ge=2, le=200, help="of the average, bars")

    def features(self):
        return {"mean": ema(close, self.params.span)}

    def on_signal(self, signal, context):
        return context.target(10 if signal.close > signal.mean else -10, because="trend")


def days(symbol=None):
    """Daily bars as other libraries give them: names with capitals, the days as the index."""
    chance = np.random.default_rng(11)
    close = 100 + np.cumsum(chance.normal(0, 1, DAYS)).round(2)
    index = pd.date_range("2024-01-01", periods=DAYS, freq="D", name="Date")
    bars = pd.DataFrame({"Open": close, "High": close + 1, "Low": close - 1, "Close": close, "Volume": 1000}, index)
    return bars if symbol is None else bars.assign(symbol=symbol)


def test_it_is_what_a_catalog_comes_to(tmp_path):
    """The same decisions and money as the catalog that says the same, on a tape with the same bars."""
    done = backtest(
        "ema-cross", days(), symbols=["SPY"], params={"quantity": "3"}, broker={"fees": {"*": {"bps": "2"}}}
    )

    bars = days().rename(columns=str.lower).reset_index(names="event_ts").assign(symbol="SPY")
    table = pa.Table.from_pandas(bars, preserve_index=False)
    pq.write_table(table.set_column(0, "event_ts", bars_utc(table)), tmp_path / "days.parquet")
    text = """
        version: 1
        pipelines:
          trading:
            source: {use: replay}
            stages: [{use: indicators}]
            broker: {use: simulated, params: {cash: "100000", fees: {"*": {bps: "2"}}}}
        strategies:
          - {name: ema-cross, use: ema-cross, base_timeframe: 1Day, symbols: [SPY], params: {quantity: "3"}}
    """
    generation = tape_generation(
        load_catalog({"a.yaml": "\n".join(text.splitlines())}), [tmp_path / "days.parquet"], bar_step="1Day"
    )
    other = run_backtest(generation, allow_shorts=True)
    assert done.result.fills == other.result.fills > 3
    assert done.result.final_equity == other.result.final_equity


def bars_utc(table):
    return table["event_ts"].cast(pa.timestamp("ns")).cast(pa.timestamp("ns", "UTC"))


def test_its_figures_add_up():
    """Equity, trades and statistics are of one run: profits, and what is open, are the change of the equity."""
    done = backtest(Trend, days(), params={"span": 10})
    trades, equity, figures = done.trades.to_pandas(), done.equity.to_pandas(), done.statistics

    assert equity["equity"].iloc[-1] == pytest.approx(figures["final_equity"]) == float(done.result.final_equity)
    assert figures["round_trips"] == len(trades) > 10
    assert set(trades["side"]) == {"buy", "sell"}
    assert trades["profit"].sum() == pytest.approx(figures["expectancy"] * len(trades))
    (held,) = done.positions.values()
    marked = held.quantity * (Decimal(str(days()["Close"].iloc[-1])) - held.average_price)
    assert float(held.realized_pnl - held.fees + marked) == pytest.approx(figures["final_equity"] - 100_000)
    assert figures["max_drawdown_pct"] < 0 < figures["fees"]


def test_costs_are_those_of_the_fills():
    """Slippage is what the fills were worse than the prices that were decided at; a fee of 1 bp is one of what was traded."""
    found = backtest(Trend, days(), params={"span": 10}).statistics
    free = backtest(Trend, days(), params={"span": 10}, broker={}).statistics

    assert found["fees"] / found["costs"] == pytest.approx(1 - found["slippage_share_pct"] / 100)
    gained = [each["final_equity"] - 100_000 for each in (free, found)]
    assert gained[0] - gained[1] == pytest.approx(found["costs"] - free["costs"], rel=0.01)
    assert found["turnover_a_year"] == pytest.approx(found["turnover"] * 365 / 300)


def test_it_is_compared_with_a_benchmark():
    """Holding what was traded: one that does it moves as the benchmark does, and loses what it costs."""

    class Hold(Strategy):
        def on_signal(self, signal, context):
            return context.target(1000, because="always")

    done = backtest(Hold, days(), cash="100000", broker={})
    found = done.against()
    assert found["beta"] == pytest.approx(1, abs=0.02)
    assert found["correlation"] == pytest.approx(1, abs=0.01)
    assert abs(found["alpha_pct"]) < 5
    assert done.benchmark("ASSET").tolist() == done.benchmark().tolist()
    assert done.benchmark()[-1] == pytest.approx(100_000 * days()["Close"].iloc[-1] / days()["Open"].iloc[0])
    with pytest.raises(InputError, match=r"benchmark SPY: the tape has no bars of it \(there are ASSET\)"):
        done.against("SPY")


def test_a_day_without_a_trade_and_a_single_fill_are_sane():
    """Nothing is divided by what was not traded; a position that is still open is no round trip."""

    class Once(Strategy):
        def on_signal(self, signal, context):
            return context.target(10, because="always")

    class Never(Strategy):
        def on_signal(self, signal, context):
            return None

    none, one = (backtest(each, days()).statistics for each in (Never, Once))
    assert (none["total_return_pct"], none["volatility_pct"], none["max_drawdown_pct"], none["costs"]) == (0, 0, 0, 0)
    assert (none["time_in_market_pct"], none["turnover"], none["round_trips"]) == (0, 0, 0)
    assert (one["fills"], one["round_trips"]) == (1, 0)
    assert one["time_in_market_pct"] > 99
    assert "win_rate_pct" in unknown(one)


def test_a_total_loss_has_a_page_too(tmp_path):
    """Short of a price that rises fourfold: more than all is lost, and every view of it can be had."""

    class Short(Strategy):
        def on_signal(self, signal, context):
            return context.target(-1000, because="always")

    price = np.append(np.full(10, 100.0), np.linspace(100, 400, 60))
    done = backtest(Short, days()[:70].assign(Open=price, High=price, Low=price, Close=price))
    found = done.statistics

    assert found["final_equity"] < 0
    assert found["cagr_pct"] == -100 > found["total_return_pct"] == found["max_drawdown_pct"]
    assert done.against()["benchmark_return_pct"] == pytest.approx(300)
    assert "-100.00 %" in repr(done)
    assert done.page(tmp_path / "page.html").exists()
    assert done.drawdowns()[0].depth_pct == found["max_drawdown_pct"]


def test_costs_are_on_where_nothing_is_said():
    """Nobody gets a free backtest by leaving something out."""
    paid, free = backtest(Trend, days()), backtest(Trend, days(), broker={})
    assert paid.statistics["fees"] > 0 == free.statistics["fees"]
    assert paid.result.final_equity < free.result.final_equity


def test_several_symbols_and_other_tables():
    """A column `symbol` is enough, and a table of Arrow, with times as whole nanoseconds, is one too."""
    frame = pd.concat([days("AAA"), days("BBB")])
    done = backtest(Trend, frame)
    assert {row["symbol"] for row in done.fills()} == {"AAA", "BBB"}
    plain = frame.reset_index()
    table = pa.table(
        {name.lower(): plain[name].to_numpy() for name in plain.columns if name not in ("Date", "symbol")}
        | {
            "symbol": plain["symbol"].tolist(),
            "event_ts": plain["Date"].astype("datetime64[ns]").astype("int64").to_numpy(),
        }
    )
    assert backtest(Trend, table).result.digest == done.result.digest


def test_a_tape_is_traded_too(tmp_path):
    """Its file says what it has; symbols and timeframe have to be named."""
    path = tmp_path / "minutes.csv"
    rows = [f"ES,2026-01-05T14:{m:02}:00Z,{100 + m},{100 + m},{100 + m},{100 + m},5" for m in range(40)]
    path.write_text("\n".join(["symbol,event_ts,open,high,low,close,volume", *rows]) + "\n")
    done = backtest(Trend, path, symbols=["ES"], timeframe="1Min", params={"span": 5})
    assert done.result.fills == 1
    with pytest.raises(InputError, match="which `symbols` of the tapes"):
        backtest(Trend, path)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda bars: bars.drop(columns="Volume"), InputError, "no column volume"),
        (lambda bars: bars.reset_index(drop=True), InputError, "no column with their times"),
        (lambda bars: bars.iloc[:1], InputError, "show no timeframe"),
        (lambda bars: pd.concat([bars, bars]), InputError, "show no timeframe"),
    ],
)
def test_bad_bars_are_named(change, error, message):
    """What is missing, before anything is traded."""
    with pytest.raises(error, match=message):
        backtest(Trend, change(days()))


def test_a_bad_parameter_has_its_place():
    """As in a catalog."""
    with pytest.raises(CatalogError, match="span"):
        backtest(Trend, days(), params={"span": 1})


def test_a_notebook_shows_it(tmp_path):
    """Figures and the line of the equity in its cell, and a page of its own where one is asked for."""
    done = backtest(Trend, days(), params={"span": 10})
    assert "Backtest of trend, 300 events" in repr(done)
    assert repr(done).split("fills")[1].split()[0] == str(done.result.fills), "counts are whole"
    short = repr(backtest(Trend, days()[:5], params={"span": 10}))
    assert "nan" not in short, "what is not known is left out"
    assert "worst month, Calmar ratio" in short, "and says why"
    cell = done._repr_html_()
    assert "round trips" in cell
    assert "<polyline points='" in cell
    assert "nan" not in cell
    assert done.page(tmp_path / "page.html").stat().st_size > 100_000


def test_it_can_be_saved_and_compared(tmp_path):
    """The folder is that of the command, whatever the data came in; a second run does not get into it."""
    for span in (10, 20):
        backtest(Trend, days(), symbols=["SPY"], params={"span": span}).save(tmp_path / str(span), notes="a try")
    found = compare(find_runs([str(tmp_path / "10"), str(tmp_path / "20")], tmp_path))
    assert found.differences["params.trend.span"] == [10, 20]
    assert "notes" not in found.differences
    with pytest.raises(InputError, match="not empty"):
        backtest(Trend, days(), symbols=["SPY"]).save(tmp_path / "10")


@pytest.mark.parametrize("zone", ["", "T00:00:00-05:00"])
def test_times_may_be_text(zone):
    """As `pandas.read_csv` leaves them: of UTC where they have no zone, and an error that says what to do where they are none."""
    days = [f"2026-01-{day:02}{zone}" for day in range(5, 15)]
    bars = pd.DataFrame({"Date": days} | dict.fromkeys(("Open", "High", "Low", "Close", "Volume"), 100.0))
    assert backtest(Trend, bars, symbols=["AAPL"]).result.events == 10
    with pytest.raises(InputError, match=r"in `date` times, as pandas\.to_datetime makes them"):
        backtest(Trend, bars.assign(Date="yesterday"), symbols=["AAPL"])


def test_a_summary_says_why_a_strategy_was_shown_nothing():
    """A symbol with a typing error trades nothing, and printing the backtest says which bars did not come."""
    bars = pd.DataFrame(
        {"Date": pd.date_range("2026-01-05", periods=9)}
        | dict.fromkeys(("Open", "High", "Low", "Close", "Volume"), 100.0)
        | {"symbol": "AAPL"}
    )
    done = backtest(Trend, bars, symbols=["AAPX"])
    for shown in (repr(done), done._repr_html_()):
        assert "trend was shown no row: no 1Day bar of AAPX came" in shown
