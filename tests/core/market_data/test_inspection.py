"""What is in a tape is said: spans, gaps by calendar, and prices to look at."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from torghut_core.calendars import exchange_sessions
from torghut_core.runtime import data
from torghut_core.runtime.data import run_inspect
from torghut_core.timestamps import DAY, MINUTE, parse_timestamp


def write(path, times, closes, symbol="SPY", **columns):
    closes = np.asarray(closes, float)
    table = {
        "symbol": [symbol] * len(closes),
        "event_ts": pa.array(np.asarray(times)).cast(pa.timestamp("ns", "UTC")),
        **{name: columns.get(name, closes) for name in ("open", "high", "low", "close")},
        "volume": columns.get("volume", np.full(len(closes), 10.0)),
    }
    pq.write_table(pa.table(table), path)
    return path


@pytest.fixture(scope="module")
def minutes():
    """The minutes of the sessions of New York in three weeks of January 2024, of which the 15th is a holiday."""
    sessions = exchange_sessions("XNYS", "2024-01-02", "2024-01-22")
    return np.concatenate(
        [np.arange(opens, closes, MINUTE) for opens, closes in zip(sessions.opens, sessions.closes, strict=True)]
    )


def only(found):
    (series,) = found.series
    return series, {finding.what: finding for finding in series.findings}


def test_a_whole_tape_has_nothing_to_report(minutes, tmp_path):
    """Every minute of every session, a holiday among them: no gap, no finding."""
    series, findings = only(run_inspect([write(tmp_path / "t.parquet", minutes, np.full(len(minutes), 100.0))]))
    assert (series.symbol, series.timeframe, series.calendar, series.sessions) == ("SPY", "1Min", "XNYS", 14)
    assert (series.missing_sessions, series.missing_bars, series.outside_pct) == (0, 0, 0)
    assert findings == {}


def test_gaps_are_counted_by_calendar(minutes, tmp_path):
    """A session that is not there, and the minutes that are missing in another, with their place; a night is no gap."""
    lost, hole = parse_timestamp("2024-01-10T00:00:00Z"), parse_timestamp("2024-01-11T15:00:00Z")
    kept = minutes[
        ~((minutes >= lost) & (minutes < lost + DAY)) & ~((minutes >= hole) & (minutes < hole + 20 * MINUTE))
    ]
    series, findings = only(run_inspect([write(tmp_path / "t.parquet", kept, np.full(len(kept), 100.0))]))
    assert (series.missing_sessions, series.missing_bars) == (1, 20)
    assert findings["sessions of XNYS without a row"].places == ["2024-01-10"]
    assert findings["bars missing in sessions"].places == ["2024-01-11T15:00:00Z to 2024-01-11T15:20:00Z"]
    assert all(finding.means and finding.todo for finding in findings.values())


def test_prices_to_look_at(minutes, tmp_path):
    """A spike that comes back, a low far from its bar, a split over a night, volumes of nothing: each with its place."""
    n = len(minutes)
    closes, volume = np.full(n, 100.0), np.full(n, 10.0)
    closes[100] = 130
    closes[390:] /= 2
    low = closes.copy()
    low[700] = 30
    volume[800:810] = 0
    tape = write(tmp_path / "t.parquet", minutes, closes, low=low, volume=volume)
    _, findings = only(run_inspect([tape]))
    assert findings["prices that jump and come back at once"].places == ["2024-01-02T16:10:00Z 130"]
    assert findings["highs or lows far from their bar and the close before"].places == ["2024-01-03T19:40:00Z 30"]
    assert findings["opens that differ from the close before as in a split"].places == ["2024-01-03T14:30:00Z 2"]
    assert findings["bars with a volume of 0"].count == 10


def test_batches_change_nothing(minutes, tmp_path, monkeypatch):
    """What is found does not hang on how the tape is cut: a spike at an edge is found as well."""
    random = np.random.default_rng(5)
    n = len(minutes)
    closes = np.where(random.random(n) < 0.02, 150.0, 100.0)
    tape = write(tmp_path / "t.parquet", minutes, closes)
    whole = run_inspect([tape])
    for size in (1, 7, 1000):
        monkeypatch.setattr(data, "BATCH_SIZE", size)
        assert run_inspect([tape]) == whole


def test_bad_rows_and_duplicates_are_counted(tmp_path):
    """Rows that a replay would stop at are counted by reason, with the first place; bars that came before as duplicates."""
    times = parse_timestamp("2024-01-02T15:00:00Z") + np.array([0, 1, 1, 2, 3, 4, 3, 5]) * MINUTE
    closes = np.array([100, 100, 100, 100, -1, 100, 100, 100])
    found = run_inspect([write(tmp_path / "t.parquet", times, closes, symbol="BTC/USD")])
    assert found.duplicates == 1
    assert sorted(found.bad_rows.values()) == [1, 1]
    assert any("must be a positive number, first in row 4" in reason for reason in found.bad_rows)
    assert any("before that of an earlier row, first in row 6" in reason for reason in found.bad_rows)
    assert found.series[0].calendar == "24/7"


def test_daily_bars_have_their_sessions(tmp_path):
    """Days from midnight to midnight of New York cover the sessions in them; a holiday is not missing, a lost day is."""
    days = [f"2024-01-{day:02}T05:00:00Z" for day in (2, 3, 4, 5, 8, 9, 11, 12, 16)]
    series, _ = only(
        run_inspect([write(tmp_path / "t.parquet", [parse_timestamp(day) for day in days], np.full(9, 100.0))])
    )
    assert (series.timeframe, series.sessions, series.missing_sessions) == ("1Day", 10, 1)


def test_another_calendar_is_said(minutes, tmp_path):
    """Of a symbol by its pattern."""
    tape = write(tmp_path / "t.parquet", minutes, np.full(len(minutes), 100.0))
    series, findings = only(run_inspect([tape], {"SP*": "24/7"}))
    assert series.calendar == "24/7"
    assert findings["sessions of 24/7 without a row"].count == 7
