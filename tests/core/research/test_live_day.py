"""A live day beside its backtest: decisions matched, and each order with its cost."""

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from torghut_core.audit import MemoryAuditStore
from torghut_core.errors import InputError, NotFoundError
from torghut_core.installation.settings import Settings
from torghut_core.research import load_catalog, open_replay, run_backtest, tape_generation
from torghut_core.research.live_day.day import compare_day, match, open_live_day
from torghut_core.research.live_day.page import write_live_day
from torghut_core.research.live_day.tca import Expected, expectations, order_costs, percentiles
from torghut_core.research.stored.window import day_window
from torghut_core.signals import MemorySignalStore
from torghut_core.timestamps import MINUTE, SECOND

T0 = 1_767_623_400 * SECOND
DAY = "2026-01-05"
TEXT = """
version: 1
pipelines:
  trading:
    source: {use: replay}
    stages: [{use: microbars}, {use: resample, params: {timeframes: [1Min]}}, {use: indicators}]
    broker: {use: simulated, params: {cash: "1000000", fees: {"*": {bps: "10"}}}}
strategies:
  - {name: cross, use: ema-cross, base_timeframe: 1Min, symbols: [WALK], params: {quantity: "1"}}
"""


class Paper(MemoryAuditStore):
    """An audit of one account, as `torghut run` writes it down."""

    def new_account(self, prefix):
        return "paper"


@pytest.fixture(scope="module")
def tape(tmp_path_factory):
    path = tmp_path_factory.mktemp("tape") / "walk.parquet"
    price = (100 + 5 * np.sin(np.arange(500) / 25)).round(2)
    times = pa.array(T0 + np.arange(500) * MINUTE).cast(pa.timestamp("ns", "UTC"))
    pq.write_table(
        pa.table({"symbol": ["WALK"] * 500, "event_ts": times, "price": price, "size": np.full(500, 9.0)}), path
    )
    return path


@pytest.fixture(scope="module")
def lived(tape):
    """What a run on these trades leaves: its audit and its signal store."""
    audit, signals = Paper(), MemorySignalStore()
    run_backtest(tape_generation(load_catalog({"walk.yaml": TEXT}), [tape]), audit=audit, signals=signals)
    return audit, signals


def compare(lived, **options):
    return compare_day(DAY, day_window(DAY), "paper", *lived, Settings(), **options)


def test_a_day_decides_again_what_it_decided(lived):
    """The backtest of the stored rows has the same decisions, by their hashes, and as many orders."""
    report = compare(lived).to_json()
    assert report["live"]["decisions"] > 5
    assert report["decisions"]["match_ratio"] == 1
    assert report["decisions"]["same"] == report["live"]["decisions"] == report["backtest"]["decisions"]
    assert report["live"]["filled"] == report["backtest"]["filled"] > 5
    assert report["decisions"]["differences"] == []


def test_orders_have_costs_expectations_and_the_simulator_that_they_are_from(lived):
    """Each order that filled has a shortfall with its fees, an expectation, and how far apart they are."""
    day = compare(lived)
    filled = [cost for cost in day.costs if cost.filled_qty]
    assert filled
    for cost in filled:
        assert cost.realized_shortfall_bps == pytest.approx(cost.slippage_bps + 10, abs=0.1)
        assert cost.divergence_bps == cost.realized_shortfall_bps - cost.expected_shortfall_bps_p50
        assert cost.simulator_version.startswith("simulated ")
    assert sum(cost.churn_qty for cost in filled) > 0


def test_another_catalog_differs_and_the_report_says_where(lived, tmp_path):
    """What the backtest does otherwise is listed, decision by decision, and is on the page."""
    other = load_catalog({"walk.yaml": TEXT.replace('quantity: "1"', 'quantity: "2"')})
    day = compare(lived, catalog=other)
    report = day.to_json()
    assert report["decisions"]["same"] == 0
    assert report["decisions"]["other_terms"] == report["live"]["decisions"]
    difference = report["decisions"]["differences"][0]
    assert (difference["live"]["quantity"], difference["backtest"]["quantity"]) == ("1", "2")
    page = write_live_day(tmp_path / "day.html", day).read_text(encoding="utf-8")
    assert "other terms" in page
    assert difference["event_ts"] in page


def test_a_decision_that_only_one_side_made_is_said_to_be_one():
    """Hash first, then strategy, symbol, time and action; what is left is of one side alone."""

    def row(key, at, action="buy", status="allowed"):
        like = {
            "strategy_id": "s",
            "symbol": "ES",
            "event_ts": at,
            "decided_at": at,
            "action": action,
            "status": status,
        }
        return like | {"decision_hash": key}

    live = [row("a", 1), row("b", 2), row("c", 3), row("e", 5)]
    ours = [row("a", 1), row("x", 2), row("d", 3, "sell"), row("e", 5, status="denied")]
    assert [pair.kind for pair in match(live, ours)] == [
        "same", "other_terms", "live_only", "backtest_only", "other_verdict",
    ]  # fmt: skip


def order(key, side, filled, price, fees="0", parent="", **more):
    return {
        "client_order_id": key, "decision_hash": key, "strategy_id": "s", "symbol": "ES", "side": side, "state": "filled",
        "decided_at": 0, "filled_quantity": Decimal(filled), "average_price": Decimal(price), "fees": Decimal(fees),
        "submitted_at": 30_000_000, "parent": parent, **more,
    }  # fmt: skip


def test_costs_are_those_of_the_arithmetic():
    """Worked by hand: bought 2 at 101 for 100 with fees of 1, at a multiplier of 50; then sold 3 at 99.5 for 100."""
    decisions = {key: {"price": Decimal(100), "decided_at": 0, "created_at": 20_000_000} for key in ("a", "b")}
    rows = [order("a", "buy", "2", "101", "1"), order("b", "sell", "3", "99.5")]
    first, second = order_costs(
        rows, decisions, {"a": 75_000_000}, multipliers={"ES": Decimal(50)}, expected={"ES": Expected(80.0, 120.0)}
    )
    assert first.slippage_bps == 100
    assert first.shortfall_notional == 2 * 50 + 1
    assert first.realized_shortfall_bps == pytest.approx(101 / 10_000 * 10_000)
    assert first.divergence_bps == pytest.approx(21)
    assert (first.signal_to_decision_ms, first.decision_to_submit_ms, first.submit_to_first_fill_ms) == (20, 10, 45)
    assert (first.signed_qty, first.churn_qty) == (2, 0)
    assert second.slippage_bps == 50
    assert (second.signed_qty, second.churn_qty) == (-3, 2)
    assert second.churn_ratio == pytest.approx(2 / 3)
    assert second.submit_to_first_fill_ms is None


def test_a_leg_of_a_bracket_and_an_unfilled_order_have_no_cost():
    """A stop waits for its price: the price of the entry's decision says nothing about it."""
    decisions = {"a": {"price": Decimal(100), "decided_at": 0, "created_at": 0}}
    rows = [order("a", "buy", "0", "0"), order("a", "sell", "1", "90", parent="a")]
    costs = order_costs(rows, decisions, {}, multipliers={})
    assert [cost.realized_shortfall_bps for cost in costs] == [None, None]
    assert expectations(costs) == {}
    assert percentiles(cost.slippage_bps for cost in costs)["p50"] is None


def test_a_day_without_decisions_is_refused(lived):
    """The error says which day and account, and what to give."""
    with pytest.raises(NotFoundError, match="account paper decided nothing on 2026-01-06"):
        compare_day("2026-01-06", day_window("2026-01-06"), "paper", *lived, Settings())
    with pytest.raises(InputError, match="is not a day"):
        day_window("5 January")


def test_it_finds_account_catalog_and_signals_by_itself(tape, tmp_path):
    """Given a state directory alone, the day is compared on what was written down there."""
    pytest.importorskip("chdb", reason="the embedded signal store is torghut[embedded]")
    (tmp_path / "walk.yaml").write_text(TEXT)
    with open_replay(tmp_path / "walk.yaml", [tape], tmp_path / "state", settings=Settings()) as replay:
        replay.run()
    with pytest.raises(NotFoundError, match="--account"), open_live_day(DAY, tmp_path / "state", settings=Settings()):
        pass  # replays are not live
    with open_live_day(DAY, tmp_path / "state", account="replay-1", settings=Settings()) as make:
        report = make(lambda _events: None).to_json()
    assert report["decisions"]["match_ratio"] == 1
    assert report["live"]["decisions"] > 5
