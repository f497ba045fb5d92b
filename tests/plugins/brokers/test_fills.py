"""docs/fills.md: its tables are what torghut fills, for both sides, and what the others do, by their rules."""

import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torghut_brokers.simulated import Simulated

from support.docs import DOCS, has_blocks, table, text_of
from support.effort import examples
from support.fills_page import NAMES, ROWS, events_of, terms_of
from support.peer_fills import Event, Terms, backtrader, lean, nautilus, zipline
from support.simulated import bar, broker, intent, quote, reported, tape, trade

PEERS = {"LEAN": lean, "NautilusTrader": nautilus, "backtrader": backtrader, "zipline": zipline}


RULES = re.findall(r"^(\d+)\. \*\*", text_of(DOCS / "fills.md"), re.MULTILINE)


def mirrored(terms, events):
    """The same with sides exchanged: a price p is 200 - p."""

    def other(price):
        return None if price is None else 200 - price

    def turned(event):
        prices = tuple(map(other, event.prices))
        if event.kind == "bar":
            opened, low, high, closed = prices
            prices = opened, high, low, closed
        return event._replace(prices=prices[::-1] if event.kind == "quote" else prices)

    turned_terms = terms._replace(is_buy=not terms.is_buy, limit=other(terms.limit), stop=other(terms.stop))
    return turned_terms, [*map(turned, events)]


def filled(terms, seen, events, **params):
    """What torghut does, as the table writes it. Bars take a minute each, trades and quotes a second."""
    second, made = 0, []
    for event in (*seen, *events):
        if event.kind == "bar":
            second = -(-second // 60) * 60
            made.append(bar(second, *event.prices, volume=event.volume))
            second += 60
        else:
            second += 1
            sizes = (event.volume,) * (1 if event.kind == "trade" else 2)
            made.append((trade if event.kind == "trade" else quote)(second, *event.prices, *sizes))
    batch, subject = tape(*made), broker(**params)
    subject.advance(batch, 0, len(seen))
    kind = {(False, False): "market", (True, False): "limit", (False, True): "stop", (True, True): "stop_limit"}
    named = {"limit_price": terms.limit, "stop_price": terms.stop, "trail_price": terms.trail}
    order = intent(
        "buy" if terms.is_buy else "sell",
        second=made[len(seen) - 1][3] if seen else 0,
        order_type="trailing_stop" if terms.trail else kind[terms.limit is not None, terms.stop is not None],
        time_in_force=terms.time_in_force,
        **{name: str(price) for name, price in named.items() if price is not None},
    )
    subject.submit(order)
    done = {}
    for number in range(len(events)):
        subject.advance(batch, len(seen) + number, len(seen) + number + 1)
        for event, _, *rest in reported(subject.updates()):
            done.setdefault(number + 1, (event, *rest)) if event != "accept" else None
    for number, (event, *rest) in done.items():
        return f"{float(Decimal(rest[1])):g} @{number}" if event == "fill" else f"{event} @{number}"
    return "open"


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_table_is_what_happens(row):
    """Each row of the page is what the simulated venue does, and the same holds for the other side."""
    terms = terms_of(row["order"])
    seen, events = events_of(row["seen"]), events_of(row["events"])
    assert filled(terms, seen, events) == row["torghut"]
    turned, seen_and_events = mirrored(terms, [*seen, *events])
    price, *place = row["torghut"].split(" ")
    expected = " ".join([price if price in ("open", "canceled") else f"{200 - float(price):g}", *place])
    there, comes = seen_and_events[: len(seen)], seen_and_events[len(seen) :]
    assert filled(turned, there, comes) == expected


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_what_the_table_says_of_others_is_what_their_rules_give(row, peer):
    """A peer's cell is what its rules come to, and a row in which one differs names the rule that says why."""
    terms = terms_of(row["order"])
    cell = row[peer]
    if cell not in ("", "?"):
        expected = row["torghut"] if cell == "=" else cell
        assert PEERS[peer](terms, events_of(row["seen"]), events_of(row["events"])) == expected
        assert cell == "=" or row["rule"]
    assert set(filter(None, row["rule"].split(", "))) <= set(RULES)


def test_every_rule_is_shown():
    """No rule stands on the page without a row."""
    assert {rule for row in ROWS for rule in filter(None, row["rule"].split(", "))} == set(RULES)


def test_page_of_brokers_has_the_parameters():
    """The names, defaults and meanings are those of the code."""
    fields = Simulated.Params.model_fields.items()
    rows = [
        (f"`{name}`", "none" if field.default in (None, "") else f"`{field.default}`", field.description)
        for name, field in fields
    ]
    has_blocks(DOCS / "brokers.md", {"simulated": table(("parameter", "default", "means"), *rows)})


# -- random orders, against the rules of two others ----------------------------------------------------------------------

prices = st.integers(190, 210).map(lambda halves: halves / 2)


@st.composite
def bars(draw):
    opened, closed, *others = (draw(prices) for _ in range(4))
    return Event("bar", (opened, max(opened, closed, *others), min(opened, closed, *others), closed))


trades = prices.map(lambda price: Event("trade", (price,)))
quotes = prices.map(lambda price: Event("quote", (price, price + 0.5)))
none, gtc = st.none(), st.just("gtc")
orders = st.builds(Terms, st.booleans(), st.one_of(none, prices), st.one_of(none, prices), none, gtc)
trailing_orders = st.builds(Terms, st.booleans(), none, none, st.integers(1, 8).map(float), gtc)
orders_at_once = st.builds(Terms, st.booleans(), st.one_of(none, prices), none, none, st.sampled_from(["ioc", "fok"]))


@examples(1500, quick=150)
@given(orders, st.lists(bars(), min_size=2, max_size=6))
def test_random_orders_on_bars_fill_as_backtraders(terms, stream):
    """The same fills but for rule 10: what comes in a bar after a stop inside it, where the limit is before the stop."""
    seen, events = stream[:1], stream[1:]
    ours, theirs = filled(terms, seen, events), backtrader(terms, seen, events)
    sign = 1 if terms.is_buy else -1
    if None not in (terms.limit, terms.stop) and sign * terms.limit < sign * terms.stop:
        assert ours == theirs or number_of(ours) <= number_of(theirs)
    else:
        assert ours == theirs


@examples(600, quick=60)
@given(trailing_orders, st.lists(bars(), min_size=2, max_size=6))
def test_trailing_stops_on_bars_fill_no_later_than_backtraders(terms, stream):
    """They follow the high where backtrader's follow the close (rule 11), so that they are nearer to the market."""
    assert number_of(filled(terms, stream[:1], stream[1:])) <= number_of(backtrader(terms, stream[:1], stream[1:]))


def meets_the_market(terms, market):
    """Whether NautilusTrader decides on an order by the price that was known when it came: rules 1, 7 and 13."""
    sign = 1 if terms.is_buy else -1
    if terms.stop is not None:
        return sign * market >= sign * terms.stop
    return terms.time_in_force != "gtc" or terms.limit is None or sign * market <= sign * terms.limit


@examples(1500, quick=150)
@given(st.one_of(orders, orders_at_once), st.lists(st.one_of(trades, quotes), min_size=2, max_size=8))
def test_random_orders_on_trades_and_quotes_fill_as_nautilustraders(terms, stream):
    """The same event fills them, but for rules 1, 7 and 13; the price is that of its event or the limit, never better.

    NautilusTrader pays the stop's price where it was jumped over (rule 12).
    """
    seen, events = stream[:1], stream[1:]
    ours, theirs = filled(terms, seen, events, quote_max_age_ms=0), nautilus(terms, seen, events)
    if meets_the_market(terms, seen[0].price(terms.is_buy)):
        assert theirs.endswith(" @0")
        assert ours == "open" or number_of(ours) >= 1
    elif terms.stop is None:
        assert ours == theirs
    else:
        assert number_of(ours) == number_of(theirs)
        sign = 1 if terms.is_buy else -1
        assert ours == "open" or sign * price_of(ours) >= sign * price_of(theirs)


@examples(600, quick=60)
@given(trailing_orders, st.lists(trades, min_size=2, max_size=8))
def test_trailing_stops_on_trades_fill_as_nautilustraders(terms, stream):
    """The same trade fills them, at its price: NautilusTrader pays the stop's (rule 12)."""
    ours, theirs = filled(terms, stream[:1], stream[1:]), nautilus(terms, stream[:1], stream[1:])
    assert number_of(ours) == number_of(theirs)
    assert ours == "open" or price_of(ours) == stream[number_of(ours)].prices[0]


@examples(1500, quick=150)
@given(orders, st.lists(bars(), min_size=2, max_size=6))
def test_random_orders_on_bars_fill_as_nautilustraders(terms, stream):
    """The same bar fills them, but for rules 1 and 13; opens are paid, for better (6) and worse (12).

    NautilusTrader has the high before the low: for a stop inside the bar what comes after it (10) is that to a buyer, and the
    close to a seller; and it has no price between the two.
    """
    seen, events = stream[:1], stream[1:]
    ours, theirs = filled(terms, seen, events), nautilus(terms, seen, events)
    sign = 1 if terms.is_buy else -1
    if meets_the_market(terms, seen[0].prices[-1]):
        assert theirs.endswith(" @0")
    elif None in (terms.limit, terms.stop):
        assert number_of(ours) == number_of(theirs)
        assert ours == theirs or price_of(ours) == events[number_of(ours) - 1].prices[0]
    elif terms.is_buy == (sign * terms.limit >= sign * terms.stop):
        assert number_of(ours) == number_of(theirs)
    elif terms.is_buy:
        assert number_of(ours) >= number_of(theirs)
    else:
        assert number_of(ours) <= number_of(theirs)


@examples(600, quick=60)
@given(st.one_of(orders, trailing_orders), st.lists(st.one_of(trades, quotes, bars()), min_size=2, max_size=8))
def test_sides_are_treated_alike(terms, stream):
    """What a buyer gets at some prices, a seller gets at their mirror image."""
    turned, reflected = mirrored(terms, stream)
    ours, others = filled(terms, stream[:1], stream[1:]), filled(turned, reflected[:1], reflected[1:])
    assert number_of(ours) == number_of(others)
    assert ours == others == "open" or price_of(ours) + price_of(others) == 200


def price_of(result):
    """The price of a fill."""
    return float(result.split()[0])


def number_of(result):
    """Which event filled an order; a large number for none."""
    return int(result.split("@")[1]) if "@" in result else 99
