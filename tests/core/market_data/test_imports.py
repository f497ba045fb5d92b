"""Files as people have them become tapes: what is concluded is said, what cannot be known is asked, and no row is lost silently."""

import gzip
import io
import json
import zipfile

import numpy as np
import pyarrow.parquet as pq
import pytest

from torghut_core.errors import InputError
from torghut_core.market_data.imports.importer import Options
from torghut_core.research import load_catalog, run_backtest, tape_generation
from torghut_core.runtime.data import run_import
from torghut_core.timestamps import MINUTE, SECOND, format_timestamp

KLINES = 1_704_067_200_000  # 2024-01-01, ms
CATALOG = """
version: 1
pipelines:
  trading:
    source: {use: replay}
    stages: [{use: indicators, params: {columns: [ema12, ema26]}}]
    broker: {use: simulated, params: {cash: "1000000"}}
strategies:
  - {name: cross, use: ema-cross, base_timeframe: 1Min, symbols: ["BTC/USDT"], params: {quantity: "1"}}
"""


@pytest.fixture
def imported(tmp_path, monkeypatch):
    """Writes files, imports them, and gives the result and the tape's rows."""
    monkeypatch.chdir(tmp_path)

    def run(files, **options):
        paths = []
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
            paths.append(path.relative_to(tmp_path))
        out = tmp_path / "tape.parquet"
        done = run_import(paths, out, Options(**options))
        rows = pq.read_table(out).to_pylist()
        for row in rows:
            row["event_ts"] = format_timestamp(row["event_ts"].value)
        return done, rows

    return run


def zipped(name, content):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, content)
    return file.getvalue()


def klines(n, unit=1, start=KLINES):
    lines = []
    for number in range(n):
        at, price = start + number * 60_000, 42_000 + 50 * np.sin(number / 9)
        values = f"{price:.2f},{price + 1:.2f},{price - 1:.2f},{price:.2f},1.5"
        lines.append(f"{at * unit},{values},{(at + 60_000) * unit - 1},63000,100,0.7,30000,0")
    return "\n".join(lines) + "\n"


def bar(time, *prices, volume="10"):
    return ",".join((time, *prices, volume))


HEADER = "Date,Open,High,Low,Close,Volume"
GOOD = "1,2,0.5,1.5,10"


def csv(*lines, header=HEADER):
    return "\n".join([header, *lines]) + "\n"


def test_klines_of_binance_are_traded(imported, tmp_path):
    """Twelve columns without a header: symbol and timeframe are those of the name, and a replay trades the tape."""
    done, rows = imported({"BTCUSDT-1m-2024-01.csv": klines(600)})
    assert (done.kind, done.timeframe, done.rows) == ("bars", "1Min", 600)
    assert rows[0]["symbol"] == "BTC/USDT"
    assert rows[0]["event_ts"] == "2024-01-01T00:00:00Z"
    assert rows[0]["trade_count"] == 100
    generation = tape_generation(load_catalog({"c.yaml": CATALOG}), [tmp_path / "tape.parquet"])
    assert run_backtest(generation).result.fills > 5


def test_milliseconds_and_microseconds_are_distinguished_and_overlap_counts_once(imported):
    """A month in milliseconds, then a zip with a header in microseconds whose first bars came before."""
    header = "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore\n"
    lines = klines(100).splitlines()
    micro = [
        ",".join([cells[0] + "000", *cells[1:6], cells[6] + "999", *cells[7:]])
        for cells in (line.split(",") for line in lines[90:])
    ]
    second = zipped("BTCUSDT-1m-2024-02.csv", header + "\n".join(micro))
    done, rows = imported({"BTCUSDT-1m-2024-01.csv": klines(95), "BTCUSDT-1m-2024-02.zip": second})
    assert [row["event_ts"] for row in rows] == [format_timestamp((KLINES + n * 60_000) * 10**6) for n in range(100)]
    assert any("epoch ms in 95 rows" in guess for guess in done.guesses)
    assert any("epoch us in 10 rows" in guess for guess in done.guesses)
    (left,) = done.left_out
    assert (left.reason, left.rows, left.first) == ("the same bar came before", 5, 2)
    assert done.read == done.rows + 5


def test_daily_bars_of_yahoo(imported):
    """The file's name is the symbol; a day begins at midnight of the zone; a row of nulls is an error, or left out and said."""
    text = csv(
        "2024-01-02,370.0,375.0,369.0,372.0,371.0,1000",
        "2024-01-03,null,null,null,null,null,null",
        '2024-07-04,370.0,375.0,369.0,372.0,371.0,"1,000"',
        "2024-07-05,370.0,375.0,369.0,372.0,371.0,1000",
        header="Date,Open,High,Low,Close,Adj Close,Volume",
    )
    with pytest.raises(InputError, match=r"MSFT.csv: line 2: times name no zone \(say it: --zone"):
        imported({"MSFT.csv": text})
    with pytest.raises(InputError, match=r"MSFT.csv: line 3: open is missing .*--on-bad-row skip"):
        imported({"MSFT.csv": text}, zone="America/New_York")
    done, rows = imported({"MSFT.csv": text}, zone="America/New_York", on_bad_row="skip")
    assert [row["event_ts"] for row in rows] == ["2024-01-02T05:00:00Z", "2024-07-04T04:00:00Z", "2024-07-05T04:00:00Z"]
    assert (done.timeframe, rows[1]["volume"], rows[0]["close"]) == ("1Day", 1000, 372)
    assert (done.left_out[0].rows, done.left_out[0].first) == (1, 3)
    assert any("adjusted close is not used" in guess for guess in done.guesses)
    done, rows = imported({"MSFT.csv": text}, zone="America/New_York", on_bad_row="skip", is_adjusted=True)
    assert rows[0]["close"] == 371
    assert rows[0]["open"] == pytest.approx(370 * 371 / 372)


YFINANCE = """\
Price,Close,High,Low,Open,Volume
Ticker,AAPL,AAPL,AAPL,AAPL,AAPL
Date,,,,,
2024-01-02,183.9,186.5,182.0,185.2,82488700
2024-01-03,182.5,184.0,181.6,182.4,58414500
"""


def test_three_heading_rows_of_yfinance(imported):
    """Prices are those of their columns, in whichever order, and the row of tickers has the symbol: the file's name has no part in it."""
    done, rows = imported({"prices.csv": YFINANCE}, zone="America/New_York")
    assert (done.timeframe, done.symbols, done.read, done.left_out) == ("1Day", {"AAPL": 2}, 2, [])
    assert {**rows[0]}.items() >= {"open": 185.2, "high": 186.5, "low": 182.0, "close": 183.9}.items()
    assert (rows[0]["event_ts"], rows[0]["volume"]) == ("2024-01-02T05:00:00Z", 82488700)
    assert any("prices are adjusted" in guess for guess in done.guesses)
    _, named = imported({"MSFT.csv": YFINANCE}, zone="America/New_York", symbol="APPLE")
    assert {row["symbol"] for row in named} == {"APPLE"}


@pytest.mark.parametrize("is_by_ticker", [False, True])
@pytest.mark.parametrize("is_named", [False, True])
def test_each_ticker_of_yfinance_is_a_series(imported, is_by_ticker, is_named):
    """Columns go to the ticker above or below them; a day on which one has no values has no bar of it, and that is said."""
    prices = [
        "Price" * is_named,
        "Adj Close",
        "Adj Close",
        *[each for each in ("Close", "High", "Low", "Open", "Volume") for _ in range(2)],
    ]
    tickers = ["Ticker" * is_named, *["AAPL", "BTC-USD"] * 6]
    heads = [prices, tickers, ["Date", *[""] * 12]]
    if is_by_ticker:
        heads[:2] = heads[1::-1]
    text = (
        "\n".join(map(",".join, heads))
        + """
2024-01-04,1,39,2,40,3,50,1,30,1.5,35,10,20
2024-01-05,1,39,2,41,3,50,1,30,1.5,35,10,20
2024-01-06,,41,,42,,50,,30,,35,,20
2024-01-08,1,43,2.5,44,3,50,1,30,1.5,35,10,20
"""
    )
    done, rows = imported({"prices.csv": text}, zone="UTC")
    closes = [(row["symbol"], row["event_ts"][8:10], row["close"]) for row in rows]
    assert sorted(closes) == [
        ("AAPL", "04", 2), ("AAPL", "05", 2), ("AAPL", "08", 2.5),
        ("BTC/USD", "04", 40), ("BTC/USD", "05", 41), ("BTC/USD", "06", 42), ("BTC/USD", "08", 44),
    ]  # fmt: skip
    assert "1 bars are missing of one of the tickers: their fields are empty" in done.notes
    with pytest.raises(InputError, match="has 2 tickers, and --symbol names one"):
        imported({"prices.csv": text}, zone="UTC", symbol="AAPL")
    with pytest.raises(InputError, match="line 6: open is missing"):
        imported({"prices.csv": text.replace("-06,,41,,42", "-06,,41,7,42")}, zone="UTC")


def test_one_heading_row_beside_those_of_yfinance(imported):
    """The same columns under one row, and a column of tickers, are read as any other file."""
    flat = "Date" + YFINANCE.replace("Ticker,AAPL,AAPL,AAPL,AAPL,AAPL\nDate,,,,,\n", "").removeprefix("Price")
    done, rows = imported({"AAPL.csv": flat}, zone="UTC")
    assert (done.symbols, rows[0]["open"]) == ({"AAPL": 2}, 185.2)
    long = csv(
        *(f"{symbol},2024-01-0{day},{GOOD}" for symbol in ("A", "B") for day in (2, 3)), header=f"Ticker,{HEADER}"
    )
    done, _ = imported({"prices.csv": long}, zone="UTC")
    assert done.symbols == {"A": 2, "B": 2}
    with pytest.raises(InputError, match="line 6: open is missing"):
        imported({"prices.csv": f"{YFINANCE}2024-01-04,,,,,\n"}, zone="UTC")


def test_alpaca_csv_and_json_are_the_same_bars(imported):
    """The frame that alpaca-py writes, and the answers of the API, of several symbols."""
    frame = csv(
        "AAPL,2024-01-02 14:30:00+00:00,187.1,188,187,187.5,1000.0,10.0,187.4",
        "AAPL,2024-01-02 14:31:00+00:00,187.1,188,187,187.5,1000.0,10.0,187.4",
        "MSFT,2024-01-02 14:30:00+00:00,187.1,188,187,187.5,1000.0,10.0,187.4",
        header="symbol,timestamp,open,high,low,close,volume,trade_count,vwap",
    )
    values = {"o": 187.1, "h": 188, "l": 187, "c": 187.5, "v": 1000, "n": 10, "vw": 187.4}
    answer = {
        "bars": {
            "AAPL": [{"t": "2024-01-02T14:30:00Z", **values}, {"t": "2024-01-02T14:31:00Z", **values}],
            "MSFT": [{"t": "2024-01-02T14:30:00Z", **values}],
        },
        "next_page_token": None,
    }
    (_, first), (_, second) = imported({"bars.csv": frame}), imported({"bars.json": json.dumps(answer)})
    assert first == second
    assert [row["symbol"] for row in first] == ["AAPL", "MSFT", "AAPL"]


def test_trades_of_alpaca_keep_ids_conditions_and_nanoseconds(imported):
    """Nothing of a print is rounded."""
    trade = {
        "t": "2024-01-02T14:30:00.123456789Z",
        "p": 187.1,
        "s": 100,
        "x": "V",
        "c": ["@", "T"],
        "i": 2**60 + 1,
        "z": "C",
    }
    done, rows = imported({"trades.json": json.dumps({"symbol": "AAPL", "trades": [trade]})})
    assert done.kind == "trades"
    assert rows == [
        {
            "symbol": "AAPL", "event_ts": "2024-01-02T14:30:00.123456789Z", "price": 187.1, "size": 100,
            "exchange": "V", "conditions": "@,T", "trade_id": str(2**60 + 1), "suspicious": None,
        }
    ]  # fmt: skip


def test_folders_of_lean_say_what_is_in_them(imported):
    """Milliseconds since midnight in New York, and hundredths of cents."""
    lines = "\n".join(f"{34_200_000 + n * 60_000},1678500,1678600,1678400,1678550,{1000 + n}" for n in range(390))
    name = "equity/usa/minute/spy/20131007_trade.zip"
    done, rows = imported({name: zipped("20131007_spy_minute_trade.csv", lines)})
    assert (done.rows, rows[0]["symbol"], rows[0]["open"]) == (390, "SPY", 167.85)
    assert (rows[0]["event_ts"], rows[-1]["event_ts"]) == ("2013-10-07T13:30:00Z", "2013-10-07T19:59:00Z")
    ticks = "34200123,1678500,100,P,00000001,0\n34200124,1678600,200,P,20002020,1\n"
    done, rows = imported({"equity/usa/tick/spy/20131007_trade.zip": zipped("20131007_spy_tick_trade.csv", ticks)})
    assert done.kind == "trades"
    assert (rows[1]["price"], rows[1]["conditions"], rows[1]["suspicious"]) == (167.86, "20002020", True)


@pytest.mark.parametrize(
    ("lines", "options", "first"),
    [
        (("31.12.2023 09:00;1.234,5;1.240,0;1.230,25;1.235,5;10",), {"zone": "Europe/Berlin"}, ("2023-12-31T08:00:00Z", 1234.5)),
        (("12/31/2023 4:00 PM;1,234.5;1,240;1,230.25;1,235.5;10",), {"zone": "America/New_York"}, ("2023-12-31T21:00:00Z", 1234.5)),
        (("20231231 090000;1;2;0.5;1;10",), {"zone": "UTC"}, ("2023-12-31T09:00:00Z", 1)),
        (("20231231;1;2;0.5;1;10",), {"zone": "UTC"}, ("2023-12-31T00:00:00Z", 1)),
        (("Dec 31, 2023 09:00;1;2;0.5;1;10",), {"zone": "UTC"}, ("2023-12-31T09:00:00Z", 1)),
        (("2023-12-31T09:00:00-05:00;1;2;0.5;1;10",), {}, ("2023-12-31T14:00:00Z", 1)),
        (("1704012300;$1;2;0.5;1;1.5K",), {}, ("2023-12-31T08:45:00Z", 1)),
    ],
)  # fmt: skip
def test_ways_to_write_numbers_and_times(imported, lines, options, first):
    """Semicolons, a mark of UTF-8, both kinds of decimals, and each common form of a time."""
    content = ("\ufeff" + csv(*lines, header=HEADER.replace(",", ";")).replace("\n", "\r\n")).encode()
    _, rows = imported({"x.csv": content}, symbol="X", step=MINUTE, **options)
    assert (rows[0]["event_ts"], rows[0]["open"]) == first


def test_gzip_utf16_and_a_title_line(imported):
    """What other programs write: compressed, in two bytes a letter, newest first, with an address above the header."""
    text = "https://www.example.com\n" + csv(
        "1646092860,2022-03-01 00:01:00,BTC/USD,1,2,0.5,1.5,52.0,100",
        "1646092800,2022-03-01 00:00:00,BTC/USD,1,2,0.5,1.5,52.0,100",
        header="unix,date,symbol,open,high,low,close,Volume BTC,Volume USD",
    )
    done, rows = imported({"d.csv.gz": gzip.compress(text.encode("utf-16"))})
    assert [row["event_ts"] for row in rows] == ["2022-03-01T00:00:00Z", "2022-03-01T00:01:00Z"]
    assert rows[0]["volume"] == 52
    assert done.notes == ["1 rows came after later ones, and were sorted by time"]
    assert done.left_out[0].reason == "lines before the header"


@pytest.mark.parametrize(
    ("lines", "options", "flag"),
    [
        ((f"2024-01-02,{GOOD}",), {"symbol": "X"}, "--zone"),
        ((f"2024-01-02,{GOOD}",), {"zone": "UTC"}, "--symbol"),
        ((f"2024-01-02,{GOOD}",), {"zone": "UTC", "symbol": "X"}, "--timeframe"),
        ((f"1/2/2024,{GOOD}", f"2/2/2024,{GOOD}"), {"zone": "UTC", "symbol": "X"}, "--dates"),
    ],
)
def test_what_cannot_be_known_is_asked_with_its_flag(imported, lines, options, flag):
    """Zone, symbol, timeframe, order of day and month: an error names the option, and no tape is there."""
    with pytest.raises(InputError, match=flag):
        imported({"quotes of mine.csv": csv(*lines)}, **options)


def test_decimals_that_could_be_either_are_asked(imported):
    """1,234 between semicolons is a thousand or a little above one."""
    with pytest.raises(InputError, match="--decimal"):
        imported(
            {"a.csv": csv("2024-01-02;1,234;1,240;1,230;1,235;10", header=HEADER.replace(",", ";"))},
            symbol="X",
            zone="UTC",
        )


def test_columns_without_names_are_asked(imported):
    """And can be said on the command line, the ones not to take left empty."""
    text = "20120201 000000;1.30;1.31;1.29;1.30;0\n20120201 000100;1.30;1.31;1.29;1.30;0\n"
    with pytest.raises(InputError, match="--columns time,open,high,low,close,volume"):
        imported({"h.txt": text}, symbol="EUR/USD", zone="UTC")
    done, rows = imported(
        {"h.txt": text}, symbol="EUR/USD", zone="UTC", columns=("time", "open", "high", "low", "close", "")
    )
    assert done.rows == 2
    assert rows[0]["volume"] == 0
    assert done.notes == ["2 bars have a volume of 0: there is no column of volumes"]


def test_every_bad_row_is_counted_with_its_reason_and_first_line(imported):
    """Rows that are read are rows of the tape or rows that were left out."""
    text = csv(
        f"2024-01-02,{GOOD}", "2024-01-03,1,2", "2024-01-04,x,2,0.5,1.5,10", "2024-01-05,1,0.4,0.5,1.5,10", "", f"nonsense,{GOOD}",
        "2024-01-08,0,2,0,1.5,10", f"2024-01-02,{GOOD}", "2024-01-02,1,2,0.5,1.75,10", f"2024-01-03,{GOOD}",
    )  # fmt: skip
    done, rows = imported({"bad.csv": text}, symbol="X", zone="UTC", on_bad_row="skip")
    assert [(each.first, each.rows, each.reason) for each in done.left_out] == [
        (3, 1, "has another number of fields than the first line"),
        (4, 1, "open is no number"),
        (5, 1, "high must not be below low"),
        (7, 1, "time cannot be read"),
        (8, 1, "open must be a positive number"),
        (9, 1, "the same bar came before"),
        (10, 1, "a bar of the symbol and time came before, with other values: the first counts"),
    ]
    assert done.rows == len(rows) == 2
    assert done.read == done.rows + sum(each.rows for each in done.left_out)
    with pytest.raises(InputError, match=r"bad.csv: line 3: has another number of fields"):
        imported({"bad.csv": text}, symbol="X", zone="UTC")


def test_time_of_the_end(imported):
    """Bars that are dated by their end begin a step before."""
    _, rows = imported(
        {"e.csv": csv(f"2024-01-02 09:31:00,{GOOD}", f"2024-01-02 09:32:00,{GOOD}")},
        symbol="X",
        zone="UTC",
        times="end",
    )
    assert [row["event_ts"] for row in rows] == ["2024-01-02T09:30:00Z", "2024-01-02T09:31:00Z"]


def test_hours_that_clocks_repeat_and_skip(imported):
    """The second of two equal times is the later one; a time that there was not is a bad row."""
    lines = [f"2025-11-02 {clock},{GOOD}" for clock in ("00:30", "01:30", "01:30", "02:30")]
    done, rows = imported({"c.csv": csv(*lines)}, symbol="X", zone="America/New_York", step=30 * MINUTE)
    assert [row["event_ts"][11:16] for row in rows] == ["04:30", "05:30", "06:30", "07:30"]
    assert any("comes twice" in note for note in done.notes)
    with pytest.raises(InputError, match="line 3: time cannot be read"):
        imported(
            {"c.csv": csv(f"2025-03-09 01:30,{GOOD}", f"2025-03-09 02:30,{GOOD}")},
            symbol="X",
            zone="America/New_York",
            step=MINUTE,
        )


def test_a_tape_that_is_there_stays_when_an_import_fails(imported, tmp_path):
    """The new tape takes its place whole, or not at all, and nothing is left beside it."""
    imported({"BTCUSDT-1m-2024-01.csv": klines(10)})
    before = (tmp_path / "tape.parquet").read_bytes()
    with pytest.raises(InputError):
        imported({"BTCUSDT-1m-2024-01.csv": klines(10) + "1,2\n"})
    assert (tmp_path / "tape.parquet").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["BTCUSDT-1m-2024-01.csv", "tape.parquet"]


def test_a_single_bar_says_its_length(imported, tmp_path):
    """The tape says how long its bars are, so that its reader has nothing to guess."""
    imported({"x.csv": csv(f"2024-01-02 09:30:00,{GOOD}")}, symbol="BTC/USDT", zone="UTC", step=MINUTE)
    assert pq.read_schema(tmp_path / "tape.parquet").metadata[b"window_size"] == b"PT1M"
    generation = tape_generation(load_catalog({"c.yaml": CATALOG}), [tmp_path / "tape.parquet"])
    assert run_backtest(generation).result.events == 1


@pytest.mark.parametrize(
    "content", [b"", b"\n\n", b"\x00\x01\x02", b"a,b\n1,2\n", b'Date,Open\n"1,2\n', b"PK\x03\x04", b"{", b"[]"]
)
@pytest.mark.parametrize("name", ["f.csv", "f.zip", "f.json", "f.csv.gz"])
def test_what_is_no_market_data_is_an_error_that_names_the_file(imported, name, content):
    """Whatever is in it: one message, no traceback."""
    with pytest.raises(InputError, match=name):
        imported({name: content}, symbol="X", zone="UTC", step=SECOND)


def test_a_trade_that_two_files_have_counts_once(imported, monkeypatch):
    """By symbol, time, exchange and id; trades of one time with other ids stay, and so do twins without an id."""
    monkeypatch.setattr("torghut_core.market_data.imports.staging.ROWS_AT_A_TIME", 2)
    header = "symbol,timestamp,price,size,id,exchange"
    trade = "AAPL,2024-01-02T14:30:0{}Z,187.1,100,{},{}"
    first = csv(
        *(trade.format(*each) for each in ((0, 1, "V"), (1, 2, "V"), (1, 3, "V"), (1, "", "V"), (1, "", "V"))),
        header=header,
    )
    second = csv(*(trade.format(*each) for each in ((1, 3, "V"), (1, 2, "V"), (1, 2, "D"), (2, 4, "V"))), header=header)
    done, rows = imported({"a.csv": first, "b.csv": second})
    assert [(row["trade_id"], row["exchange"]) for row in rows] == [
        ("1", "V"), ("2", "V"), ("3", "V"), (None, "V"), (None, "V"), ("2", "D"), ("4", "V"),
    ]  # fmt: skip
    (left,) = done.left_out
    assert (left.file, left.reason, left.rows, left.first) == ("b.csv", "the same trade came before", 2, 2)


@pytest.mark.parametrize(("block", "rows"), [(1_000, 64), (400, 200)])
def test_blocks_change_nothing(imported, monkeypatch, block, rows):
    """A file that is read in small parts gives the same tape, also where it has to be sorted."""
    lines = klines(500).splitlines()
    np.random.default_rng(3).shuffle(lines)
    files = {"BTCUSDT-1m-2024-01.csv": "\n".join(lines)}
    whole = imported(files)
    monkeypatch.setattr("torghut_core.market_data.imports.files.BLOCK_BYTES", block)
    monkeypatch.setattr("torghut_core.market_data.imports.staging.ROWS_AT_A_TIME", rows)
    parts = imported(files)
    assert whole[1] == parts[1] == sorted(whole[1], key=lambda row: row["event_ts"])
    assert whole[0].read == parts[0].read == 500


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("f.csv", csv(f"2024-01-02,{GOOD}").replace("0.5", "0.\r5")),
        ("f.csv", csv("1,2,3\r4,5,6")),
        ("f.json", b'{"bars":{"A\xff":[{"t":"2024-01-02T14:30:00Z"}]}}'),
        ("BTCUSDT.csv", "1704067200000,1,2,0.5,1,1.5,170499,6,100,0.7,3,0\n"),
        ("f.csv", csv(f"99999999999999999999,{GOOD}")),
        ("f.csv", csv(f"1677-09-21 00:12:43,{GOOD}")),
    ],
)
def test_odd_files_that_once_broke_it(imported, name, content):
    """A stray end of line, bytes that are no text, bars that end before they begin, times beyond all times: an error, or a count."""
    with pytest.raises(InputError, match=name):
        imported({name: content}, zone="UTC")
