"""A simulated account is kept over restarts of `torghut run` as a venue's is, however the process before ended."""

import random
import signal
import time
from contextlib import closing
from decimal import Decimal

import pytest

from support.effort import many
from torghut_core.audit import SqlAuditStore
from torghut_core.model.trading import Side

from .conftest import Kernel

ENDS = {"SIGTERM": signal.SIGTERM, "kill -9": signal.SIGKILL}
CASH = Decimal(1_000_000)

BID = '''
"""Bids far below the market, once."""
from decimal import Decimal

from torghut_core import OrderType, Strategy, TimeInForce, hookimpl


class Bid(Strategy):
    def on_signal(self, signal, context):
        if context.is_flat and not context.working:
            terms = {"order_type": OrderType.LIMIT, "time_in_force": TimeInForce.GTC}
            return context.buy(3, limit_price=Decimal(50), because="low", **terms)
        return None


@hookimpl
def register_strategies(register):
    register("bid", Bid)
'''


@pytest.fixture(params=ENDS)
def end(request):
    """A way in which a process ends."""
    return ENDS[request.param]


def account(kernel):
    """What the kernel shows of its account."""
    status = kernel.get("/trading/status")
    shown = ("account", "cash", "equity", "positions", "orders_working")
    return {name: status[name] for name in shown}


def renamed(kernel, name):
    """Give the broker's account another name."""
    text = kernel.file.read_text()
    kernel.file.write_text(text.replace('params: {cash: "1000000"', f'params: {{account: "{name}", cash: "1000000"'))


def paid(kernel):
    """What all fills that are written down have cost, fees included."""
    with closing(SqlAuditStore(kernel.state / "audit.db")) as audit:
        fills = audit.fills()
    costs = [(1 if row["side"] == Side.BUY else -1) * row["quantity"] * row["price"] + row["fee"] for row in fills]
    return sum(costs, Decimal(0))


def test_cash_and_positions_are_there_after_a_restart(kernel, end):
    """The next process has the same account under the same label, trades nothing twice, and goes on from its positions."""
    kernel.begin().trade(3)
    before = kernel.until(lambda: len(account(kernel)["positions"]) == 2 and account(kernel))
    assert before["account"] == "paper-simulated"
    kernel.send(end)
    kernel.begin()
    assert account(kernel) == before
    kernel.trade(1)
    kernel.until(lambda: not account(kernel)["positions"])
    assert kernel.send() == 0
    decisions = kernel.rows("trade_decisions")
    assert len(decisions) == 2 * kernel.fed
    assert {row["account"] for row in decisions} == {before["account"]}
    assert kernel.findings == []


def test_an_open_order_works_on_after_a_restart(kernel, end):
    """It is neither canceled nor sent again, and fills at the first price that it can get."""
    kernel.write_plugin("bid", BID)
    kernel.write({"low": {"use": "bid"}})
    kernel.begin()
    kernel.until(lambda: account(kernel)["orders_working"] == 1)
    kernel.send(end)
    kernel.begin().grow(2)
    kernel.until(lambda: kernel.metric("events_total") == kernel.fed)
    assert (account(kernel)["orders_working"], account(kernel)["positions"]) == (1, [])
    with kernel.tape.open("a") as tape:
        tape.write("ES,2026-01-05T15:00:00Z,60,60,40,45,10\n")
    held = kernel.until(lambda: account(kernel)["positions"])
    assert [each["quantity"] for each in held] == ["3"]
    assert kernel.send() == 0
    assert len(kernel.rows("executions")) == 1
    assert kernel.findings == []


def test_another_name_is_a_new_account(kernel):
    """With another `account` it starts with the broker's cash; under the first name everything is as it was."""
    kernel.begin().trade(3)
    before = kernel.until(lambda: account(kernel)["positions"] and account(kernel))
    assert kernel.send() == 0
    text = kernel.file.read_text()
    renamed(kernel, "second")
    kernel.begin(waits=False)
    assert account(kernel)["account"] == "paper-second"
    kernel.send(signal.SIGKILL)
    kernel.file.write_text(text)
    kernel.begin()
    assert account(kernel) == before


def test_a_second_process_on_the_account_stands_by_and_continues_with_it(tmp_path):
    """It decides nothing while the first trades, and then has the cash and the positions of the first."""
    kernels = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        kernels.append(Kernel(tmp_path / name))
        kernels[-1].env["DB_DSN"] = f"sqlite:///{tmp_path}/shared.db"
        kernels[-1].write({"one": 1, "two": 2})
    first, second = kernels
    try:
        first.begin().trade(3)
        before = first.until(lambda: first.metric("fills_total") == 6 and account(first))
        second.grow(3)
        second.begin()
        assert second.get("/trading/status")["role"] == "standby"
        assert (second.ask("/readyz")[0], second.metric("decisions_total"), account(second)["positions"]) == (
            503,
            0,
            [],
        )
        assert first.send() == 0
        second.until(lambda: second.get("/trading/status")["role"] == "trading")
        assert account(second) == before
        second.trade(1)
        second.until(lambda: not account(second)["positions"])
        assert second.send() == 0
        with closing(SqlAuditStore(tmp_path / "shared.db")) as audit:
            assert len(audit.rows("trade_decisions")) == 10
            assert audit.verify() == []
    finally:
        for each in kernels:
            each.kill()


@pytest.mark.examples
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.proof)])
def test_killed_anywhere_its_cash_is_what_the_fills_have_left(kernel, seed):
    """After each of many kills cash, positions and fills agree: none is lost, none counts twice."""
    chance = random.Random(seed)
    kernel.write({"one": 1, "two": 2})
    for _ in range(many(8, quick=2)):
        kernel.grow(30)
        kernel.begin(waits=False)
        time.sleep(chance.uniform(0, 0.3))  # the moment of the kill
        kernel.send(signal.SIGKILL)
    kernel.begin()
    kernel.trade(1)
    assert kernel.send() == 0
    cash = [row["cash"] for row in kernel.rows("position_snapshots") if row["cash"] is not None]
    assert cash[-1] == CASH - paid(kernel)
    decided = [(row["strategy_id"], row["event_ts"]) for row in kernel.rows("trade_decisions")]
    assert len(decided) == len(set(decided)) == 2 * kernel.fed
    assert kernel.findings == []
