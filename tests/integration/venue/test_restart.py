"""A warm restart: what is held stays held, what works goes on working, what happened meanwhile is found."""

import copy
import json
import signal
import time
from decimal import Decimal

import pytest
from torghut_testing.alpaca import Fault

ENDS = {"SIGTERM": signal.SIGTERM, "kill -9": signal.SIGKILL}


@pytest.fixture(params=["kill -9", pytest.param("SIGTERM", marks=pytest.mark.proof)])
def end(request):
    """A way in which a process ends."""
    return ENDS[request.param]


@pytest.fixture
def second(trader):
    """Another process on the state directory of the first, not started."""
    second = copy.copy(trader)
    yield second
    second.kill()


def test_a_position_and_a_working_order_survive(trader, end):
    """Neither is a position flattened nor an order canceled or sent again; the strategy goes on from its position."""
    trader.begin().trade("buy")
    trader.trade("bid", ("ETH/USD",))
    trader.until(lambda: trader.held and trader.working)
    trader.agrees()
    working, sent = set(trader.working), len(trader.sent)
    trader.send(end)
    assert (set(trader.working), trader.held) == (working, {"BTC/USD": Decimal(1)})
    trader.begin()
    trader.agrees()
    assert (set(trader.working), trader.books, len(trader.sent)) == (working, {"BTC/USD": Decimal(1)}, sent)
    trader.trade("close")  # sells what the strategy sees as held
    trader.until(lambda: not trader.held)
    trader.agrees()
    assert json.loads(trader.sent[-1].body)["qty"] == "1"
    assert trader.send() == 0
    assert trader.findings == []


def test_what_happened_while_it_was_down_is_found(trader, end):
    """A fill, a part of a fill, and a cancel that came meanwhile: they count once, for the strategy that ordered."""
    symbols = ("ETH/USD", "SOL/USD", "LTC/USD")
    trader.begin().trade("bid", symbols)
    trader.until(lambda: len(trader.working) == 3)
    trader.agrees()
    numbers = {order["symbol"]: number for number, order in trader.working.items()}
    trader.send(end)
    trader.fake.venue.fill(numbers["ETH/USD"])
    trader.fake.venue.fill(numbers["SOL/USD"], "0.25")
    trader.fake.venue.cancel(numbers["LTC/USD"])
    trader.begin()
    trader.agrees()
    assert trader.books == {"ETH/USD": Decimal(1), "SOL/USD": Decimal("0.25")}
    trader.fake.venue.fill(numbers["SOL/USD"], "0.75")
    trader.until(lambda: trader.books["SOL/USD"] == 1)
    trader.agrees()
    assert {each["strategy"] for each in trader.status["positions"]} == {"told"}


def end_with_exit(trader, end):
    """Buy, place an exit that stays open, and end the process."""
    trader.begin().trade("buy")
    trader.until(lambda: trader.held)
    trader.agrees()
    trader.trade("ask")
    trader.until(lambda: trader.working)
    trader.agrees()
    trader.send(end)


def test_an_exit_goes_on_working_and_what_it_fills_is_closed(trader, end):
    """An exit that works over a restart closes the position when it fills, and no second one is sent."""
    end_with_exit(trader, end)
    trader.begin()
    trader.fake.venue.set_price("BTC/USD", "200")
    trader.until(lambda: not trader.held)
    trader.agrees()
    assert len(trader.sent) == 2


def test_a_close_takes_back_the_exit_of_before_a_restart(trader, end):
    """The units that its limit keeps from being sold are freed first; then they are sold, once."""
    end_with_exit(trader, end)
    trader.begin().trade("close")
    trader.until(lambda: not trader.held)
    trader.agrees()
    assert sorted(row["state"] for row in trader.rows("executions")) == ["canceled", "filled", "filled"]


def test_the_bars_before_it_ended_are_not_traded_again(make, fake, end):
    """The tape is read anew from its beginning: what was decided, or not, at a bar stays so."""
    trader = make(fake, past=3600)  # four bars within a second would reach into the future
    trader.begin()
    for number in range(1, 4):  # with what it holds at the end it would do the opposite at the first bar
        trader.trade("flip")
        trader.until(lambda number=number: len(trader.sent) == number)
        trader.agrees()
    for _ in range(2):
        trader.send(end)
        trader.begin()
        trader.agrees()
    assert len(trader.sent) == 3


def test_an_order_that_was_never_sent_is_found_out(trader):
    """Killed between commit and send: entries in the symbol wait, and after ten seconds it never reached the venue."""
    trader.env["KILL_AT"] = "torghut_core.trading.gateway:VenueGateway.dispatch before 1"
    trader.begin(launcher=True)
    trader.say("buy")
    assert trader.ended() == -signal.SIGKILL
    began = time.monotonic()
    trader.begin()
    assert trader.status["orders_working"] == 1
    assert trader.health["venue"]
    trader.trade("buy", ("BTC/USD", "ETH/USD"))
    trader.until(lambda: trader.held)
    trader.until(lambda: not trader.status["orders_working"])
    assert time.monotonic() - began > 10
    trader.agrees()
    assert trader.held == {"ETH/USD": Decimal(1)}
    (row,) = [row for row in trader.rows("executions") if row["symbol"] == "BTC/USD"]
    assert (row["state"], row["reason"]) == ("canceled", "not sent: it never reached the venue")


def test_an_answer_that_was_lost_with_the_process_is_no_lost_order(trader):
    """Killed while the venue has taken the order and not answered: it is found by its client order id, and sent once."""
    trader.begin()
    trader.fake.faults.add(Fault.timeout(after=True, method="POST", path="/v2/orders"))
    trader.fake.venue.hold("BTC/USD")
    trader.say("buy")
    trader.until(lambda: trader.working)
    trader.send(signal.SIGKILL)
    trader.begin()
    trader.agrees()
    trader.fake.venue.release("BTC/USD")
    trader.until(lambda: trader.books)
    trader.agrees()
    assert len(trader.sent) == 1


@pytest.mark.parametrize("is_killed", [False, pytest.param(True, marks=pytest.mark.proof)])
def test_a_second_one_on_the_same_state_waits_and_takes_over(trader, second, is_killed):
    """It is alive and not ready, says who is there, disturbs nothing, and trades the same account once that has ended."""
    trader.begin().trade("buy")
    trader.until(lambda: trader.held)
    trader.agrees()
    assert second.start().listens()
    holder = f"process {trader.process.pid}"
    code, text = second.ask("/readyz")
    assert (code, second.ask("/healthz")[0]) == (503, 200)
    assert holder in json.loads(text)["gates"]["standby"]
    status = second.status
    assert (status["role"], holder in status["standby"]["holder"]) == ("standby", True)
    trader.trade("bid", ("ETH/USD",))
    trader.until(lambda: trader.working)
    trader.agrees()
    sent = len(trader.sent)
    trader.kill() if is_killed else trader.send()
    assert second.listens()
    second.fed, second.told = trader.fed, trader.told
    second.caught_up()
    second.agrees()
    assert (second.status["role"], second.books, len(second.sent)) == ("trading", {"BTC/USD": Decimal(1)}, sent)
    assert second.send() == 0
    assert second.findings == []


def test_one_that_waits_for_a_state_directory_ends_on_sigterm(trader, second):
    """It ends in good order, and leaves the one that trades alone."""
    trader.begin()
    assert second.start().listens()
    assert second.send() == 0
    assert json.loads((trader.state / "admin.json").read_text())["url"] == trader.url
    trader.trade("buy")
    trader.until(lambda: trader.held)


def test_a_tape_of_the_past_is_traded_on_after_a_stop_and_a_restart(make, fake, end):
    """How far the account was traded is a time of the tape: not the time of day at which trading was stopped."""
    trader = make(fake, past=3 * 86_400)
    trader.begin().trade("buy")
    trader.until(lambda: trader.held)
    trader.output("kill", "--reason", "a look at it")
    trader.until(lambda: trader.status["control"]["state"] == "halted")
    trader.release()
    before = trader.rows("trade_cursor")
    trader.until(lambda: trader.trade("nothing") or trader.rows("trade_cursor") != before)  # once a second at most
    trader.send(end)
    trader.begin()
    trader.until(lambda: trader.ask("/readyz")[0] == 200)
    trader.trade("close")
    trader.until(lambda: not trader.held)
