"""What borrowed money and shares cost, and when the venue closes positions: ledgers by hand, to the cent."""

import json
from decimal import Decimal

import msgspec
import pytest
from torghut_brokers import interest, margin
from torghut_brokers.interest import Interest
from torghut_brokers.margin import Leverage
from torghut_brokers.simulated import Simulated

from plugins.brokers.test_costs import rows_of
from support.docs import DOCS, has_blocks, table
from support.simulated import BTC, ETH, HOUR, bar, broker, intent, reported, tape, trade
from torghut_core import Charge, Instrument, Purpose

DAY = 24 * HOUR
TO_FRIDAY = 3 * DAY
"""T0 is a Tuesday, 16:00 UTC."""
ACME, EMCA, ES = "ACME", "EMCA", "ES"
CENT = Decimal("0.01")


def cents(amount):
    return amount.quantize(CENT)


def minute(second, price, symbol=ACME, close=None):
    """A bar of a minute, of plenty."""
    close = price if close is None else close
    return bar(second, price, max(price, close), min(price, close), close, volume=1e6, symbol=symbol)


def traded(events, *orders, **params):
    """The broker after events, with orders as (second at which they are sent, order), and all that it gave as updates."""
    subject, batch, updates, first = broker(**params), tape(*events), [], 0
    ends = [known for *_, known, _ in events]
    for second, order in orders:
        sent = sum(end <= second for end in ends)
        subject.advance(batch, first, sent)
        updates += subject.updates()
        subject.submit(order)
        first = sent
    subject.advance(batch, first, batch.stop)
    return subject, updates + subject.updates()


def reports_of(updates):
    return [each for each in updates if not isinstance(each, Charge)]


def charges_of(updates):
    return [each for each in updates if isinstance(each, Charge)]


def order(side, quantity, second, symbol=ACME, **fields):
    return second, intent(side, quantity, fields.pop("name", f"tg-{symbol}"), second, symbol, **fields)


# -- interest -------------------------------------------------------------------------------------------------------


def test_margin_loan_over_a_weekend_costs_three_nights():
    """10,000 buys 150 shares at 100 on a Friday: 5,000 are owed on Friday, Saturday and Sunday, at 7.2 % and 360 days 1.00 a night."""
    events = [minute(TO_FRIDAY, 100), minute(TO_FRIDAY + 60, 100), minute(TO_FRIDAY + 3 * DAY, 101)]
    subject, updates = traded(
        events, order("buy", "150", TO_FRIDAY + 60), cash="10000", interest={"loan_pct": "7.2"}, leverage="alpaca"
    )
    # The night's loan includes the interest of the nights before: 5,000.00, 5,001.00, 5,002.0002.
    nights = [Decimal("1.000000"), Decimal("1.000200"), Decimal("1.000401")]
    assert [charge.amount for charge in charges_of(updates)] == nights
    assert {charge.symbol for charge in charges_of(updates)} == {""}
    account = subject.account()
    assert cents(account.cash) == Decimal("-5003.00")
    assert cents(account.equity) == 150 * 101 - Decimal("5003.00")


def test_shares_borrowed_over_a_month_cost_by_their_market_value():
    """100 shares are short for 30 nights, at 3.6 %: each night a ten-thousandth of what they are worth at its beginning."""
    prices = [50 + night % 7 for night in range(31)]
    events = [minute(60, 50), *(minute(120 + night * DAY, 50, close=price) for night, price in enumerate(prices))]
    subject, updates = traded(events, order("sell", "100", 120), interest={"borrow_pct": {"A*": "3.6"}})
    nights = [Decimal(100 * price) / 10_000 for price in prices[:30]]
    assert [(charge.symbol, charge.amount) for charge in charges_of(updates)] == [(ACME, night) for night in nights]
    assert subject.account().cash == 100_000 + 100 * 50 - sum(nights)
    assert cents(subject.account().equity) == cents(100_000 + 100 * (50 - Decimal(prices[30])) - sum(nights))


def test_nothing_is_owed_for_what_is_held_within_a_day_or_paid_for():
    """A loan that is paid back before midnight costs nothing, nor does a position that cash has paid, nor a short at no rate."""
    events = [minute(60 * at, 100) for at in range(4)] + [minute(DAY, 100)]
    within = [order("buy", "1500", 60), order("sell", "1500", 180, name="tg-2")]
    for orders in (within, [order("buy", "1000", 60)], [order("sell", "10", 60)]):
        _, updates = traded(events, *orders, interest={"loan_pct": "7.2", "borrow_pct": {"X": "5"}})
        assert charges_of(updates) == []


def test_contract_on_margin_is_no_loan():
    """A future's notional takes the cash below zero, and nothing is borrowed; what it loses beyond the cash is."""
    events = [minute(0, 1000, ES), minute(60, 1000, ES), minute(DAY, 960, ES), minute(2 * DAY, 960, ES)]
    subject, updates = traded(
        events,
        order("buy", "5", 60, ES),
        cash="5000",
        interest={"loan_pct": "36", "borrow_pct": {"*": "36"}},
        multipliers={"ES": "50"},
        margins={"ES": "0.02"},
    )
    # Two midnights: at the first the contracts are even, at the second they have lost 10,000 of the 5,000.
    assert [(charge.symbol, charge.amount) for charge in charges_of(updates)] == [("", Decimal(5))]
    assert subject.account().equity == 5_000 - 10_000 - 5


def test_restart_between_nights_charges_each_once():
    """Whatever the moment at which the state is saved, through JSON, and loaded: three nights are three charges."""
    events = [minute(60 * at, 100) for at in range(3)] + [minute(night * DAY, 100) for night in (1, 2, 3)]
    batch = tape(*events)
    params = {"cash": "10000", "interest": "alpaca", "leverage": "alpaca"}
    amounts = set()
    for stops in ([], [3], [4], range(1, 7)):
        subject, updates, first = broker(**params), [], 0
        subject.submit(order("buy", "150", 60)[1])
        for stop in [*stops, batch.stop]:
            subject.advance(batch, first, stop)
            first = stop
            state = json.loads(json.dumps(subject.save_state()))
            subject = broker(**params)
            subject.load_state(state, Simulated.state_version)
            updates += charges_of(subject.updates())
        amounts.add(tuple(charge.amount for charge in updates))
        assert len(updates) == 3
    assert len(amounts) == 1


# -- leverage -------------------------------------------------------------------------------------------------------


def test_buying_power_is_twice_the_equity_at_alpaca_in_shares_and_once_in_crypto():
    """In units of equity: what a position's initial margin leaves, for a strategy that counts `instrument.margin` of a notional."""
    subject, _ = traded(
        [minute(0, 100), minute(60, 100), minute(120, 110)], order("buy", "150", 60), cash="10000", leverage="alpaca"
    )
    terms = Instrument()
    assert (subject.instrument(ACME, terms).margin, subject.instrument(BTC, terms).margin) == (Decimal("0.5"), 1)
    account = subject.account()
    assert (account.equity, account.buying_power) == (11_500, 11_500 - Decimal(150 * 110) / 2)


@pytest.mark.parametrize(
    ("symbol", "price", "side", "quantity", "reason"),
    [
        (ACME, 100, "buy", "200", ""),
        (ACME, 100, "buy", "201", "it needs 10050.00 of margin, and 10000.00 of the buying power is left"),
        (ACME, 100, "sell", "200", ""),
        (ACME, 100, "sell", "201", "it needs 10050.00 of margin, and 10000.00 of the buying power is left"),
        (BTC, 100, "buy", "100", ""),
        (BTC, 100, "buy", "101", "it needs 10100.00 of margin, and 10000.00 of the buying power is left"),
        (ES, 100, "buy", "2000", ""),
        (ES, 100, "buy", "2001", "it needs 10005.00 of margin, and 10000.00 of the buying power is left"),
    ],
)
def test_order_beyond_the_buying_power_is_rejected(symbol, price, side, quantity, reason):
    """The initial margin is that of the instrument, or 1 / times; crypto has none."""
    events = [minute(0, price, symbol), minute(60, price, symbol)]
    _, updates = traded(
        events, order(side, quantity, 60, symbol), cash="10000", leverage="alpaca", margins={"ES": "0.05"}
    )
    assert updates[0].reason == reason
    assert updates[0].event == ("rejected" if reason else "accept")


def test_open_orders_and_positions_take_buying_power_and_exits_take_none():
    """A bid takes its margin while it rests; to close what is held, or to turn round by no more than that, needs nothing."""
    events = [minute(60 * at, 100) for at in range(5)]
    bid = order("buy", "100", 60, EMCA, order_type="limit", limit_price="90", time_in_force="gtc")
    beyond = order("buy", "111", 120, name="tg-beyond")
    _, updates = traded(events, bid, beyond, cash="10000", leverage="alpaca")
    assert updates[-1].reason == "it needs 5550.00 of margin, and 5500.00 of the buying power is left"
    turned = [order("buy", "200", 60), order("sell", "400", 120, name="tg-2")]
    subject, _ = traded(events, *turned, cash="10000", leverage="alpaca")
    assert subject.positions()[ACME].quantity == -200


def test_crash_bar_liquidates_the_largest_position_at_the_next_event():
    """After the close of the bar in which equity falls below 30 % of what is held; the second is kept, because the rest is enough."""
    events = [
        minute(0, 100),
        minute(0, 20, EMCA),
        minute(60, 100),
        minute(60, 20, EMCA),
        bar(120, 100, 100, 60, 62, volume=1e6, symbol=ACME),  # at its low it would be below, and that is no last price
        minute(180, 62),
    ]
    orders = [order("buy", "160", 60), order("buy", "150", 60, EMCA)]
    subject, updates = traded(events, *orders, cash="10000", leverage="alpaca", fees={"*": {"bps": 10}})
    # Bought: 16,000 and 3,000, fees 19: cash -9,019. At 62: equity 9,920 + 3,000 - 9,019 = 3,901, to keep 3,876: held.
    assert len(reports_of(updates)) == 4
    events[4:] = [bar(120, 100, 100, 60, 61, volume=1e6, symbol=ACME), minute(180, 61), minute(240, 80)]
    subject, updates = traded(events, *orders, cash="10000", leverage="alpaca", fees={"*": {"bps": 10}})
    # At 61: 9,760 + 3,000 - 9,019 = 3,741, to keep 3,828.
    accepted, filled = reports_of(updates)[4:]
    assert reported([accepted, filled]) == [("accept", 180), ("fill", 180, "160", "61")]
    assert accepted.reason == "liquidation: equity 3741.00 is below the maintenance margin 3828.00"
    assert (accepted.intent.purpose, accepted.intent.side, accepted.intent.symbol) == (
        Purpose.LIQUIDATION,
        "sell",
        ACME,
    )
    account = subject.account()
    assert cents(account.cash) == cents(Decimal(-9_019 + 160 * 61) - Decimal("9.76"))
    assert cents(account.equity) == cents(account.cash + 3_000)


def test_interest_alone_can_liquidate():
    """Where the night's interest takes the equity below what is required, at the first event of the day after."""
    events = [minute(0, 100), minute(60, 100), minute(120, 72), minute(DAY, 72)]
    _, updates = traded(
        events,
        order("buy", "195", 60),
        cash="10000",
        leverage={"*": {"times": 2, "maintenance_pct": 32}},
        interest={"loan_pct": "36"},
    )
    # 14,040 is held with 4,540 of equity; to keep 4,492.80. The night costs 9.50: 4,530.50. It takes five.
    assert reports_of(updates)[2:] == []
    events = [*events, *(minute(night * DAY, 72) for night in range(2, 8))]
    _, updates = traded(
        events,
        order("buy", "195", 60),
        cash="10000",
        leverage={"*": {"times": 2, "maintenance_pct": 32}},
        interest={"loan_pct": "36"},
    )
    accepted, filled = reports_of(updates)[2:]
    assert accepted.event_ts == charges_of(updates)[4].event_ts
    assert filled.event_ts > accepted.event_ts
    assert len(charges_of(updates)) == 5


def test_short_is_bought_back_when_it_rises():
    """100 short at 100 with 10,000: at 154 equity is 4,600, and 30 % of what it takes to buy them back 4,620."""
    events = [minute(0, 100), minute(60, 100), minute(120, 153), minute(180, 154), minute(240, 156)]
    subject, updates = traded(events, order("sell", "100", 60), cash="10000", leverage="alpaca")
    assert reported(reports_of(updates)[2:]) == [("accept", 240), ("fill", 240, "100", "156")]
    assert subject.account().equity == 10_000 - 5_600


def test_position_of_several_strategies_is_closed_by_who_holds_it():
    """What the account holds is closed, with the strategy that holds most on that side first; the other side's is left."""
    events = [minute(60 * at, price) for at, price in enumerate([100, 100, 100, 53, 53, 53])]
    subject, batch, first = broker(cash="10000", leverage="alpaca"), tape(*events), 1
    subject.advance(batch, 0, 1)
    for strategy, side, quantity in (("a", "buy", "60"), ("b", "buy", "120"), ("c", "sell", "20")):
        made = intent(side, quantity, f"tg-{strategy}", 60, ACME)
        subject.submit(msgspec.structs.replace(made, strategy_id=strategy))
    subject.advance(batch, first, batch.stop)
    own = [each for each in subject.updates() if each.client_order_id.startswith("liquidation")]
    accepted = [(each.intent.strategy_id, each.intent.quantity) for each in own if each.intent is not None]
    assert accepted == [("b", 120), ("a", 40)]
    assert subject.positions()[ACME].quantity == 0


def test_liquidation_cannot_be_canceled():
    """It is the venue's own: it fills at the next event, whatever is asked."""
    events = [minute(0, 100), minute(60, 100), minute(120, 40), minute(180, 40)]
    subject, batch = broker(cash="10000", leverage="alpaca"), tape(*events)
    subject.advance(batch, 0, 1)
    subject.submit(order("buy", "200", 60)[1])
    subject.advance(batch, 1, 3)
    (working,) = subject.orders()
    subject.cancel(working.intent.client_order_id)
    subject.advance(batch, 3, 4)
    assert subject.orders() == []
    assert not subject.positions()[ACME].quantity


def test_crypto_needs_no_margin_and_is_never_liquidated_at_alpaca():
    """It is paid in full: however far it falls, equity is what it is worth."""
    events = [trade(second, price, 1e6, ETH) for second, price in ((1, 100), (2, 100), (3, 1), (4, 1))]
    subject, updates = traded(events, order("buy", "100", 1, ETH), cash="10000", leverage="alpaca", interest="alpaca")
    assert [report.client_order_id for report in updates] == ["tg-ETH/USD"] * 2
    assert subject.account().equity == 100


def test_without_leverage_nothing_is_rejected_or_closed():
    """An account as it was: cash may be negative without end."""
    subject, updates = traded([minute(0, 100), minute(60, 100), minute(120, 1)], order("buy", "10000", 60))
    assert [each.event.value for each in updates] == ["accept", "fill"]
    assert subject.account().equity < 0
    assert not subject.may_liquidate


# -- the page -------------------------------------------------------------------------------------------------------


def test_page_has_the_fields_and_presets_of_the_code():
    """The tables of docs/costs.md are made of the models and presets."""
    rates = [("`loan_pct`", str(interest.ALPACA.loan_pct), "")]
    rates += [("`borrow_pct`", str(rate), f"`{pattern}`") for pattern, rate in interest.ALPACA.borrow_pct.items()]
    kept = [
        (f"`{pattern}`", str(each.times), f"{100 / each.times:g}", f"{each.maintenance_pct or 100 / each.times:g}")
        for pattern, each in margin.ALPACA.items()
    ]
    made = {
        "interest": table(*rows_of(Interest)),
        "leverage": table(*rows_of(Leverage)),
        "rates": table(("preset `alpaca`", "percent a year", "symbols"), *rates),
        "margins": table(("symbols", "times", "to open, %", "to keep, %"), *kept),
    }
    has_blocks(DOCS / "costs.md", made)
