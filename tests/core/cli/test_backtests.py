"""`torghut backtest`, `experiments` and `report`, in this process: what they write, what they say, and what they refuse."""

import json
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from torghut_core import cli
from torghut_core.research import load_catalog, run_backtest, tape_generation
from torghut_core.research.comparison import compare
from torghut_core.research.experiments import Experiment
from torghut_core.timestamps import MINUTE, SECOND, format_timestamp

T0 = 1_767_623_400 * SECOND
BARS = 600
TEXT = """
version: 1
pipelines:
  trading:
    source: {use: replay}
    stages: [{use: indicators, params: {columns: [ema12, ema26]}}]
    broker: {use: simulated, params: {cash: "1000000", fees: {"*": {bps: "10"}}, slippage: {"*": {bps: "2"}}}}
strategies:
  - {name: cross, use: ema-cross, base_timeframe: 1Min, symbols: [WALK], params: {quantity: "1"}}
  - {name: other, use: ema-cross, base_timeframe: 1Min, symbols: [WALK], params: {quantity: "3"}, enabled: false}
"""
FILES = ["equity.parquet", "orders.parquet", "page.html", "result.json", "round_trips.parquet"]


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A folder with a catalog and a tape of minutes that rise and fall; the author is known."""
    close = (100 + 5 * np.sin(np.arange(BARS) / 25)).round(2)
    columns = dict.fromkeys(("open", "high", "low", "close"), close) | {"volume": np.full(BARS, 100.0)}
    times = pa.array(T0 + np.arange(BARS) * MINUTE).cast(pa.timestamp("ns", "UTC"))
    pq.write_table(pa.table({"symbol": ["WALK"] * BARS, "event_ts": times, **columns}), tmp_path / "walk.parquet")
    (tmp_path / "walk.yaml").write_text(TEXT)
    monkeypatch.setenv("TORGHUT_AUTHOR", "ada")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(places, monkeypatch, capsys):
    """A function that runs a command line: its exit code, and what it printed."""

    def run(line, code=0):
        monkeypatch.setattr(sys, "argv", ["torghut", *line.split()])
        got = cli._run()
        printed = capsys.readouterr()
        assert got == code, printed.err
        return printed.out if code == 0 else printed.err

    return run


def backtest(run, options="", code=0):
    found = run(f"backtest walk.parquet --catalog walk.yaml {options}", code)
    return json.loads(found) if "--json" in options and not code else found


def test_a_folder_has_all_that_came_out(run, places):
    """The figures, round trips, equity and orders are those of the backtest, and the page is beside them."""
    printed = backtest(run, "--out made --json")
    done = run_backtest(tape_generation(load_catalog({"walk.yaml": TEXT}), [places / "walk.parquet"]))

    assert sorted(path.name for path in (places / "made").iterdir()) == FILES
    written = json.loads((places / "made" / "result.json").read_text())
    assert printed == written
    assert written["result"]["digest"] == done.result.digest
    assert written["figures"]["sharpe"] is None
    assert written["figures"]["total_return_pct"] == done.statistics["total_return_pct"]
    assert written["benchmark"]["name"] == "buy-and-hold"
    assert pq.read_table(places / "made" / "round_trips.parquet").equals(done.trades)
    assert pq.read_table(places / "made" / "equity.parquet").equals(done.equity)
    orders = pq.read_table(places / "made" / "orders.parquet")
    assert orders.num_rows == done.result.orders
    assert set(orders["state"].to_pylist()) == {"filled"}
    page = (places / "made" / "page.html").read_text()
    assert "WALK" in page
    assert written["run_id"] in page
    for name in ("catalog_digest", "code_digest", "data_digest"):
        assert f'<code title="{written[name]}">' in page


def test_without_a_folder_it_is_one_of_the_state_directory(run, places):
    """Each run has a folder of its own, under its id."""
    first, second = backtest(run, "--json"), backtest(run, "--json")
    folders = sorted((places / ".torghut" / "backtests").iterdir())
    assert {folder.name for folder in folders} == {first["run_id"], second["run_id"]}
    assert first["result"]["digest"] == second["result"]["digest"]


def test_a_run_is_in_the_ledger_with_all_that_made_it(run, places):
    """What, when, by whom, on which code and data, and what came out."""
    written = backtest(run, "--json --out made --notes first")
    (row,) = json.loads(run("experiments --json"))
    assert row == {name: written[name] for name in row}
    assert (row["author"], row["notes"], row["strategy"], row["variants"]) == ("ada", "first", "cross, other", 1)
    assert row["params"]["cross"]["quantity"] == "1"
    assert row["costs"]["fees"] == {"*": {"bps": "10"}}
    assert row["data"][0]["bytes"] == (places / "walk.parquet").stat().st_size
    assert {"kernel torghut", "strategy ema-cross"} <= {f"{each['kind']} {each['name']}" for each in row["code"]}
    assert row["folder"] == str(places / "made")
    assert "cross" in run("experiments --strategy cross")
    assert json.loads(run("experiments --json --strategy nobody")) == []
    assert run("experiments --strategy nobody") == "no run of 'nobody' (torghut experiments lists all)\n"
    assert json.loads(run("experiments --json --since 2100-01-01")) == []
    assert "quantity" in run(f"experiments {row['run_id'][:20]}")


def test_the_summary_says_how_far_it_can_be_believed(run, places):
    """In view of all that was tried on the same tapes; the same again is no further trial, and `report` says it too."""
    assert "Too little to tell from luck: it takes 30 round trips" in backtest(run)
    assert backtest(run, "--json")["belief"]["trials"] == 1
    (places / "walk.yaml").write_text(TEXT.replace('quantity: "1"', 'quantity: "2"'))
    done = backtest(run, "--json --out made")
    assert done["belief"]["trials"] == 2
    assert done["belief"]["answer"] == "too little to tell from luck"
    assert done["belief"]["sentence"] in run("report made")
    assert "Too little to tell from luck" in (places / "made" / "page.html").read_text()


def test_a_strategy_alone_is_traded_also_where_it_is_disabled(run):
    """The other entries of the catalog do not trade; an unknown name is met with those that there are."""
    done = backtest(run, "--strategy other --json")
    assert list(done["params"]) == ["other"]
    assert done["result"]["fills"]
    assert "cross" in backtest(run, "--strategy crss", code=2)


def test_costs_are_those_of_runs_of_their_own(run):
    """At 1 they are the run's own; without costs nothing is paid, and twice the costs are twice as much for the same fills."""
    done = backtest(run, "--costs 0,1,2 --json")
    costs, figures = done["at_costs"], done["figures"]
    assert costs["1"] == figures
    assert costs["0"]["fees"] == 0 < figures["fees"]
    assert costs["2"]["fills"] == figures["fills"]
    assert costs["2"]["fees"] == pytest.approx(2 * figures["fees"], rel=1e-3)
    slipped = [costs[each]["slippage"] for each in ("0", "1", "2")]
    assert slipped[2] - slipped[0] == pytest.approx(2 * (slipped[1] - slipped[0]), rel=1e-3)
    assert costs["0"]["total_return_pct"] > figures["total_return_pct"] > costs["2"]["total_return_pct"]


def test_a_span_is_traded_alone_and_its_dates_are_the_calendars(run):
    """A date as the end is included; features are warm at the start."""
    whole = backtest(run, "--json")
    part = backtest(run, f"--start {format_timestamp(T0 + 100 * MINUTE)} --end 2026-01-05 --json")
    assert part["began_at"] == format_timestamp(T0 + 100 * MINUTE)
    assert part["ended_at"] == "2026-01-06T00:00:00Z"
    assert 0 < part["result"]["fills"] < whole["result"]["fills"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--start yesterday", "no date like 2026-01-05"),
        ("--start 2026-01-06T00:00:00", "time with its zone"),
        ("--start 2026-01-06 --end 2026-01-05", "not before the end"),
        ("--start 2030-01-01", "end at 2026-01-06T00:30:00Z"),
        ("--end 2020-01-01", "they begin at 2026-01-05T14:31:00Z"),
        ("--costs 1,x", "--costs 1,x"),
        ("--costs -1", "numbers from 0 on"),
        ("--costs 5000", "at most 100"),
        ("--benchmark SPY", "there are WALK"),
        ("--out walk.yaml", "walk.yaml"),
        ("--out .", "not empty"),
        ("--catalog none.yaml", "none.yaml"),
    ],
)
def test_what_cannot_be_done_is_refused(run, places, options, said):
    """The message names the place and the fix, and nothing is written."""
    before = sorted(places.iterdir())
    assert said in backtest(run, options, code=2)
    assert sorted(places.iterdir()) == before


def test_a_folder_is_whole_or_not_there(run, places, monkeypatch):
    """Where writing fails half way, nothing of it is left."""

    def fail(*_args, **_more):
        raise KeyboardInterrupt

    monkeypatch.setattr("torghut_core.research.run_folder.write_backtest", fail)
    backtest(run, "--out made", code=cli.INTERRUPTED)
    assert sorted(path.name for path in places.iterdir() if path.name != ".torghut") == ["walk.parquet", "walk.yaml"]


def test_results_are_kept_where_the_ledger_cannot_be_written(run, places):
    """It fails loudly, and says where the results are."""
    (places / "damaged").mkdir()
    (places / "damaged" / "audit.db").write_bytes(b"no database" * 1000)
    said = backtest(run, "--out made --state damaged", code=1)
    assert f"the results are in {places / 'made'}" in said
    assert (places / "made" / "result.json").exists()


def test_a_summary_is_printed(run):
    """Figures, benchmark, costs and places are said in the terminal."""
    printed = backtest(run, "--costs 0,1 --out made")
    for text in ("Sharpe ratio", "beside buy-and-hold", "0x", "results: made", "digest"):
        assert text in printed
    assert "torghut explain" not in printed


def test_runs_are_compared(run, places):
    """Folders and ids may be mixed; figures stand side by side, and what is the same is left out."""
    first = backtest(run, "--strategy cross --out one --json")
    second = backtest(run, "--strategy other --json")
    found = json.loads(run(f"report one {second['run_id']} --page compared.html --json"))
    assert [each["run_id"] for each in found["runs"]] == [first["run_id"], second["run_id"]]
    assert found["figures"]["fills"] == [first["figures"]["fills"], second["figures"]["fills"]]
    assert found["differences"]["params.cross.quantity"] == ["1", None]
    assert found["differences"]["params.other.quantity"] == [None, "3"]
    assert "data" not in found["differences"]
    page = (places / "compared.html").read_text()
    assert page.count("<polyline") == 2
    assert first["run_id"] in page
    printed = run(f"report one {second['run_id']}")
    assert "what differs" in printed
    assert "win rate" in printed


def test_a_run_beside_itself_differs_in_nothing(run):
    """The same run twice says so."""
    backtest(run, "--out one")
    assert "nothing differs" in run("report one one")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("report", "give runs to compare"),
        ("report made --live 2026-01-05", "give runs to compare"),
        ("report made --account live", "--account goes with --live"),
        ("report nothing", "no run 'nothing'"),
        ("report .", "result.json"),
        ("experiments nothing", "no run 'nothing'"),
    ],
)
def test_what_is_no_run_is_refused(run, line, said):
    """The message says what to give."""
    backtest(run, "--out made")
    assert said in run(line, code=2)


def test_a_run_of_another_kind_is_compared_too():
    """A sweep has lists where a backtest has values, and folds are counted."""
    terms = {
        "author": "ada",
        "strategy": "trend",
        "universe": ["ES"],
        "began_at": 1,
        "ended_at": 2,
        "catalog_digest": "c",
        "code_digest": "p",
        "code": [],
        "data_digest": "d",
        "data": [],
        "costs": {},
        "figures": {},
        "created_at": 3,
    }
    one = Experiment(run_id="a", kind="backtest", params={"trend": {"fast": 5}}, **terms)
    folds = {"scheme": "rolling", "each": [{"sharpe": 1.0}, {"sharpe": 2.0}]}
    other = Experiment(
        run_id="b", kind="walk-forward", params={"params.fast": [5, 10]}, folds=folds, variants=2, **terms
    )
    assert compare([one, other]).differences == {
        "kind": ["backtest", "walk-forward"],
        "params.trend.fast": [5, None],
        "params.fast": [None, "5, 10"],
        "folds.scheme": [None, "rolling"],
        "folds.each": [None, 2],
        "variants": [1, 2],
    }
