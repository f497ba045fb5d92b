"""`replay --from-store` and `report --live` as commands: what they print, and what they refuse."""

import json

import pytest
from typer.testing import CliRunner

from torghut_core.cli import app
from torghut_core.errors import InputError
from torghut_core.timestamps import SECOND, format_timestamp

T0 = 1_767_623_400 * SECOND
CATALOG = """
version: 1
pipelines:
  trading: {source: {use: replay}, stages: [{use: microbars}, {use: indicators}], broker: {use: simulated}}
strategies:
  - {name: cross, use: ema-cross, base_timeframe: 1Sec, symbols: [WALK]}
  - {name: slow, use: ema-cross, base_timeframe: 1Hour, symbols: [WALK]}
"""
START = ["--from-store", "--start", "2026-01-05"]


@pytest.fixture
def given(tmp_path, monkeypatch):
    """A catalog and a fixture of three seconds; gives what runs a command there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    lines = []
    for second in range(3):
        head = {"symbol": "WALK", "event_ts": format_timestamp(T0 + second * SECOND), "seq": second}
        lines.append(head | {"o": 1.0, "h": 2.0, "l": 1.0, "c": 1.5, "v": 10.0, "vwap": 1.4, "count": 3})
        lines.append(head | {"ema12": 2.0, "ema26": 1.0})
    (tmp_path / "rows.jsonl").write_text("".join(f"WALK:{json.dumps(line)}\n" for line in lines))

    def run(*arguments):
        return CliRunner().invoke(app, [*arguments, "--catalog", "catalog.yaml"])

    return run


def test_it_prints_the_object_of_a_replay(given):
    """All its keys, without orders, fills and equity."""
    done = json.loads(given("replay", "rows.jsonl", *START, "--json").stdout)
    assert sorted(done) == sorted(
        [
            "events", "late", "duplicates", "microbars", "signals", "decisions", "denied", "orders", "fills", "final_equity",
            "digest", "seconds", "events_per_second", "generation",
        ]
    )  # fmt: skip
    assert (done["events"], done["decisions"], done["orders"], done["fills"]) == (3, 3, 0, 0)
    assert done["final_equity"] is None


def test_it_prints_decisions_and_who_saw_nothing(given, tmp_path):
    """A table of decisions, a sentence on the rest; all decisions are in the file that is asked for."""
    shown = given("replay", "rows.jsonl", *START, "--out", "decisions.jsonl").stdout
    assert "fast average above slow" in shown
    assert "3 decisions (0 denied), no orders" in shown
    assert "slow was shown no row" in shown
    rows = [json.loads(line) for line in (tmp_path / "decisions.jsonl").read_text().splitlines()]
    assert [row["strategy_id"] for row in rows] == ["cross"] * 3


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["rows.jsonl", "--from-store"], "needs a window"),
        (["rows.jsonl", *START, "--swap-at", "1:x.yaml"], "--swap-at is for tapes"),
        (["rows.jsonl", "--apply-risk"], "--apply-risk goes with --from-store"),
        (["rows.jsonl", *START, "--symbol", "ES"], "no strategy of the catalog trades ES"),
        (["rows.jsonl", *START, "--out", "no/such/folder.jsonl"], "cannot write"),
    ],
)
def test_what_does_not_go_together_is_refused(given, arguments, what):
    """With what to write instead."""
    done = given("replay", *arguments)
    assert isinstance(done.exception, InputError)
    assert what in str(done.exception)


def test_a_day_and_its_state_have_to_be_there(given):
    """What is missing is named."""
    assert "there is no state" in str(given("report", "--live", "2026-01-05").exception)
    assert "is not a day" in str(given("report", "--live", "today").exception)
