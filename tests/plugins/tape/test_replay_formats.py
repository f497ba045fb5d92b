"""Parquet, CSV and JSONL say the same thing: one stream, whatever the file."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

MINUTE = 60_000_000_000


@pytest.fixture
def trades(kit):
    return [
        kit.trade(0, seq=0, exchange="D", conditions="@,I", trade_id=3447222699101865076, suspicious=False),
        kit.trade(0, seq=1, exchange="K", conditions=None, trade_id=7, suspicious=False, symbol="BTC/USD", price=0.1),
        kit.trade(1, seq=2, exchange=None, conditions=None, trade_id=None, suspicious=False, size=0.00000001),
        kit.trade(999, seq=3, exchange="D", conditions="@", trade_id=7, suspicious=False, symbol="BRK.B"),
    ]


@pytest.fixture
def quotes(kit):
    return [
        kit.quote(0, seq=0),
        kit.quote(5, seq=1, bid_price=None, bid_size=None),
        kit.quote(5, seq=2, symbol="ES", ask_price=None, ask_size=None),
    ]


@pytest.fixture
def bars(kit):
    return [
        kit.bar(0, seq=0, vwap=10.5, trade_count=3),
        kit.bar(1, seq=1, vwap=None, trade_count=None),
        kit.bar(2, seq=2, vwap=0.0, volume=0.0, trade_count=0),
    ]


@pytest.mark.parametrize("kind", ["trades", "quotes", "bars"])
def test_the_same_rows_in_three_formats_are_the_same_stream(kit, tmp_path, request, kind):
    """Which format a tape has changes no position, no time, no value and no identity."""
    rows = request.getfixturevalue(kind)
    step = MINUTE if kind == "bars" else None
    kit.write_parquet(tmp_path / "tape.parquet", rows)
    kit.write_csv(tmp_path / "tape.csv", rows)
    kit.write_csv(tmp_path / "tape.csv.gz", rows)
    envelopes = [kit.envelope(kind, row, step) for row in rows]
    kit.write_jsonl(tmp_path / "tape.jsonl", envelopes)
    kit.write_jsonl(tmp_path / "tape.jsonl.gz", envelopes)
    parquet = kit.play(tmp_path / "tape.parquet")
    assert len(parquet.table(kind)) == len(rows)
    for name in ("tape.csv", "tape.csv.gz", "tape.jsonl", "tape.jsonl.gz"):
        kit.assert_same(kit.play(tmp_path / name), parquet)


def test_trades_arrive_with_every_column(kit, tmp_path, trades):
    """Prices, sizes, times, order, identity and conditions are those of the file."""
    kit.write_parquet(tmp_path / "tape.parquet", trades)
    stream = kit.play(tmp_path / "tape.parquet")
    table, symbols = stream.table("trades"), stream.batches[0].symbols
    assert [symbols.names[number] for number in table.symbol] == ["AAPL", "BTC/USD", "AAPL", "BRK.B"]
    assert table.at.tolist() == [0, 1, 2, 3]
    assert table.event_ts.tolist() == [kit.T0, kit.T0, kit.T0 + 1, kit.T0 + 999]
    assert stream.now.tolist() == table.event_ts.tolist()
    assert table.seq.tolist() == [0, 1, 2, 3]
    assert table.price.tolist() == [100.0, 0.1, 100.0, 100.0]
    assert table.size.tolist() == [1.0, 1.0, 0.00000001, 1.0]
    assert [symbols.conditions[number] for number in table.conditions] == [
        ("@,I", False),
        ("", False),
        ("", False),
        ("@", False),
    ]
    assert table.trade_key[2] == 0
    assert len(set(table.trade_key.tolist())) == 4


def test_suspicious_trade_says_so_in_its_conditions(kit, tmp_path):
    """The tape's own mark reaches those who decide which trades count."""
    rows = [
        kit.trade(suspicious=False, conditions="@"),
        kit.trade(suspicious=True, conditions="@"),
        kit.trade(suspicious=True, conditions=None),
    ]
    for name, write in (("tape.parquet", kit.write_parquet), ("tape.csv", kit.write_csv)):
        write(tmp_path / name, rows)
        stream = kit.play(tmp_path / name)
        conditions = stream.batches[0].symbols.conditions
        assert [conditions[number] for number in stream.table("trades").conditions] == [
            ("@", False),
            ("@", True),
            ("", True),
        ]


@pytest.mark.parametrize("name", ["tape.parquet", "tape.csv"])
def test_required_columns_are_enough(kit, tmp_path, name):
    """Without `seq` the row number orders equal times; without ids and conditions there are none."""
    write = kit.write_csv if name.endswith("csv") else kit.write_parquet
    write(tmp_path / name, [kit.trade(), kit.trade(), kit.trade(5)])
    table = kit.play(tmp_path / name).table("trades")
    assert table.seq.tolist() == [0, 1, 2]
    assert table.trade_key.tolist() == [0, 0, 0]
    assert table.conditions.tolist() == [0, 0, 0]


def test_missing_side_of_a_quote_is_nan(kit, tmp_path):
    """Null is no side, and so is Alpaca's 0 for 0; the other side stays."""
    rows = [kit.quote(bid_price=None, bid_size=None), kit.quote(ask_price=0.0, ask_size=0.0), kit.quote(ask_price=None)]
    kit.write_parquet(tmp_path / "tape.parquet", rows)
    table = kit.play(tmp_path / "tape.parquet").table("quotes")
    assert np.isnan(table.bid_price).tolist() == np.isnan(table.bid_size).tolist() == [True, False, False]
    assert np.isnan(table.ask_price).tolist() == np.isnan(table.ask_size).tolist() == [False, True, True]
    assert table.ask_price[0] == 101.0


def test_bar_is_known_at_its_end_and_without_vwap_where_there_is_none(kit, tmp_path, bars):
    """The loop's time is the end of the bar; vwap 0 of volume 0 is no vwap."""
    kit.write_parquet(tmp_path / "tape.parquet", bars)
    stream = kit.play(tmp_path / "tape.parquet")
    table = stream.table("bars")
    assert table.step.tolist() == [MINUTE] * 3
    assert stream.now.tolist() == (table.event_ts + MINUTE).tolist()
    assert table.vwap[0] == 10.5
    assert np.isnan(table.vwap[1:]).all()
    assert table.count.tolist() == [3, 0, 0]
    assert table.series.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (pa.timestamp("s", "UTC"), 1767623400),
        (pa.timestamp("ms", "America/New_York"), 1767623400000),
        (pa.timestamp("us", "+01:00"), 1767623400000000),
        (pa.timestamp("ns", "UTC"), 1767623400000000000),
    ],
)
def test_parquet_time_of_any_unit_and_zone_is_the_instant(kit, tmp_path, type_, value):
    """Units are converted, and a zone is only how the instant is shown."""
    columns = {"symbol": ["ES"], "event_ts": pa.array([value], type_), "price": [1.0], "size": [1.0]}
    pq.write_table(pa.table(columns), tmp_path / "tape.parquet")
    assert kit.play(tmp_path / "tape.parquet").now.tolist() == [kit.T0]


def test_parquet_columns_of_other_number_and_text_types_are_read(kit, tmp_path):
    """Whole-number and decimal prices, dictionary and large text, unsigned ids: all have one meaning."""
    kit.write_parquet(tmp_path / "plain.parquet", [kit.trade(trade_id=2**63 - 1, exchange="D", seq=0, size=2.0)])
    table = pa.table(
        {
            "symbol": pa.array(["AAPL"]).dictionary_encode(),
            "event_ts": pa.array([kit.T0], pa.timestamp("ns", "UTC")),
            "price": pa.array([100], pa.int32()),
            "size": pa.array([2], pa.decimal128(10, 2)),
            "trade_id": pa.array([2**63 - 1], pa.uint64()),
            "exchange": pa.array(["D"], pa.large_string()),
            "conditions": pa.array([None], pa.null()),
            "seq": pa.array([0], pa.uint8()),
            "side": pa.array(["buy"]),
        }
    )
    pq.write_table(table, tmp_path / "other.parquet")
    kit.assert_same(kit.play(tmp_path / "other.parquet"), kit.play(tmp_path / "plain.parquet"))


def test_csv_of_another_tool_is_read(kit, tmp_path):
    """A byte order mark, CRLF, blank lines, quotes, spaces around numbers and other zones do not matter."""
    text = (
        '\ufeff"symbol","event_ts",size,price\r\n'
        "AAPL,2026-01-05 14:30:00+00:00, 1 ,100\r\n"
        "\r\n"
        '"BTC/USD",2026-01-05T09:30:00.000000001-05:00,1e-8,"0.1"\r\n'
    )
    (tmp_path / "tape.csv").write_text(text, newline="")
    stream = kit.play(tmp_path / "tape.csv")
    table = stream.table("trades")
    assert table.event_ts.tolist() == [kit.T0, kit.T0 + 1]
    assert table.price.tolist() == [100.0, 0.1]
    assert table.size.tolist() == [1.0, 1e-8]


def test_jsonl_holds_several_kinds_and_passes_over_what_is_no_market_event(kit, tmp_path):
    """A recording of a whole bus replays its trades, quotes and bars, in the order in which they came."""
    status = kit.envelope("trades", kit.trade(2)).encode().replace(b'"trades"', b'"status"')
    draft = kit.envelope("bars", kit.bar(seq=8), MINUTE).encode().replace(b'"is_final":true', b'"is_final":false')
    kit.write_jsonl(
        tmp_path / "tape.jsonl",
        [
            kit.envelope("trades", kit.trade(0, seq=1)),
            kit.envelope("quotes", kit.quote(0, seq=2)),
            b"",
            status,
            kit.envelope("trades", kit.trade(0, seq=0)),
            draft,
            kit.envelope("bars", kit.bar(-1, seq=9, ingest_ts=kit.T0), MINUTE),
        ],
    )
    stream = kit.play(tmp_path / "tape.jsonl")
    assert [event[1:] for event in stream.events] == [
        ("trades", "AAPL", 1),
        ("quotes", "AAPL", 2),
        ("trades", "AAPL", 0),
        ("bars", "AAPL", 9),
    ]


@pytest.mark.parametrize("name", ["tape.jsonl", "tape.parquet", "tape.csv"])
def test_recording_with_arrival_times_may_hold_late_events(kit, tmp_path, name):
    """With `ingest_ts` rising, `event_ts` may fall; the loop's time does not."""
    rows = [kit.trade(5, seq=0, ingest_ts=kit.T0 + 10), kit.trade(3, seq=1, ingest_ts=kit.T0 + 11)]
    rows.append(kit.trade(7, seq=2, ingest_ts=kit.T0 + 11))
    if name.endswith("jsonl"):
        kit.write_jsonl(tmp_path / name, [kit.envelope("trades", row) for row in rows])
    else:
        (kit.write_csv if name.endswith("csv") else kit.write_parquet)(tmp_path / name, rows)
    stream = kit.play(tmp_path / name)
    assert (stream.table("trades").event_ts - kit.T0).tolist() == [5, 3, 7]
    assert (stream.now - kit.T0).tolist() == [5, 5, 7]


def test_bar_step_is_seen_in_the_gaps_of_each_symbol(kit, tmp_path):
    """Minutes without a bar, and symbols in between, do not hide that these are bars of a minute."""
    rows = [
        kit.bar(0),
        kit.bar(1, symbol="MSFT"),
        kit.bar(2),
        kit.bar(4, symbol="MSFT"),
        kit.bar(5),
    ]
    kit.write_parquet(tmp_path / "tape.parquet", rows)
    kit.write_csv(tmp_path / "tape.csv", rows)
    assert set(kit.play(tmp_path / "tape.parquet").table("bars").step.tolist()) == {MINUTE}
    kit.assert_same(kit.play(tmp_path / "tape.csv"), kit.play(tmp_path / "tape.parquet"))


def test_daily_bars_of_a_zone_that_changes_its_clocks_are_days(kit, tmp_path):
    """Midnights of New York are 23, 24 or 25 hours apart; a bar lasts a day."""
    hour = 60
    kit.write_parquet(
        tmp_path / "tape.parquet", [kit.bar(0), kit.bar(23 * hour), kit.bar(47 * hour), kit.bar(119 * hour)]
    )
    assert set(kit.play(tmp_path / "tape.parquet").table("bars").step.tolist()) == {1440 * MINUTE}


def test_bar_step_of_the_catalog_overrides_the_file(kit, tmp_path):
    """An author who knows better says so in `bar_step`; JSONL obeys as well."""
    kit.write_parquet(tmp_path / "tape.parquet", [kit.bar(0), kit.bar(15)])
    kit.write_jsonl(
        tmp_path / "tape.jsonl", [kit.envelope("bars", kit.bar(0)), kit.envelope("bars", kit.bar(5), MINUTE)]
    )
    for name in ("tape.parquet", "tape.jsonl"):
        assert kit.play(tmp_path / name, bar_step="5Min").table("bars").step.tolist() == [5 * MINUTE] * 2


def test_each_length_of_bars_in_a_recording_is_a_series_of_its_own(kit, tmp_path):
    """`window.size` distinguishes bars of a second from those of a minute, and both come at their end."""
    kit.write_jsonl(
        tmp_path / "tape.jsonl",
        [
            kit.envelope("bars", kit.bar(0, seq=0), 1_000_000_000),
            kit.envelope("bars", kit.bar(0, seq=1), MINUTE),
            kit.envelope("bars", kit.bar(0, seq=2, symbol="MSFT"), MINUTE),
        ],
    )
    stream = kit.play(tmp_path / "tape.jsonl")
    symbols, table = stream.batches[0].symbols, stream.table("bars")
    series = [(symbols.names[symbols.series_symbol[s]], symbols.series_step[s]) for s in table.series.tolist()]
    assert series == [("AAPL", 1_000_000_000), ("AAPL", MINUTE), ("MSFT", MINUTE)]
    assert (stream.now - kit.T0).tolist() == [1_000_000_000, MINUTE, MINUTE]


def test_ending_of_the_name_may_be_in_capitals(kit, tmp_path):
    """Some systems shout."""
    kit.write_parquet(tmp_path / "TAPE.PARQUET", [kit.trade()])
    assert len(kit.play(tmp_path / "TAPE.PARQUET").now) == 1


def test_total_is_known_for_parquet_only(kit, tmp_path):
    """A progress bar gets the rows of the files, or nothing: never a guess."""
    kit.write_parquet(tmp_path / "a.parquet", [kit.trade(), kit.trade(1)])
    kit.write_parquet(tmp_path / "b.parquet", [kit.quote()])
    kit.write_csv(tmp_path / "c.csv", [kit.trade()])
    assert kit.play(tmp_path / "a.parquet", tmp_path / "b.parquet").source.total == 3
    assert kit.play(tmp_path / "a.parquet", tmp_path / "c.csv").source.total is None
