"""What holds of the exchange whatever is done to it."""

from contextlib import suppress
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st
from torghut_testing.alpaca import FakeVenue, Refusal
from torghut_testing.alpaca.orders import DONE

from support.effort import examples

SYMBOLS = ("BTC/USD", "AAPL")
prices = st.integers(80, 120)
act = st.one_of(
    st.tuples(st.just("price"), st.sampled_from(SYMBOLS), prices),
    st.tuples(
        st.just("place"),
        st.sampled_from(SYMBOLS),
        st.sampled_from(["buy", "sell"]),
        st.integers(1, 300),
        st.sampled_from(["market", "limit", "stop_limit", "trailing_stop"]),
        prices,
        prices,
        st.sampled_from(["gtc", "ioc", "day"]),
    ),
    st.tuples(st.sampled_from(["hold", "release"]), st.sampled_from(SYMBOLS)),
    st.tuples(st.just("replace"), st.integers(0, 20), prices, st.integers(1, 300)),
    st.tuples(st.just("fill"), st.integers(0, 20), st.integers(1, 50), prices),
    st.tuples(
        st.sampled_from(
            ["request_cancel", "cancel", "expire", "reject", "reject_cancel", "confirm_replace", "reject_replace"]
        ),
        st.integers(0, 20),
    ),
    st.tuples(st.sampled_from(["open_market", "close_market"])),
    st.tuples(st.just("slow"), st.booleans()),
    st.tuples(st.just("restart")),
)


def do(venue, verb, *args):
    ids = [order["id"] for order in venue.orders()]
    match verb, args:
        case "price", (symbol, price):
            venue.set_price(symbol, price)
        case "place", (symbol, side, qty, kind, limit, stop, lasts):
            fields = {"type": kind, "time_in_force": lasts}
            fields |= {"limit_price": str(limit)} if "limit" in kind else {}
            fields |= {"stop_price": str(stop)} if kind == "stop_limit" else {}
            fields |= {"trail_price": "5"} if kind == "trailing_stop" else {}
            venue.place(symbol, side, qty, **fields)
        case "slow", (is_slow,):
            venue.slow_cancels = venue.slow_replaces = is_slow
        case "restart", ():
            venue.load(venue.dump())
        case (("hold" | "release" | "open_market" | "close_market"), _):
            getattr(venue, verb)(*args)
        case _, (index, *rest) if ids:
            key = ids[index % len(ids)]
            match verb, rest:
                case "replace", (limit, qty):
                    venue.replace(key, {"limit_price": str(limit), "qty": str(qty)})
                case "fill", (qty, price):
                    venue.fill(key, qty, price, late=True)
                case _:
                    getattr(venue, verb)(key)


def signed(row):
    return Decimal(row["qty"]) * (1 if row["side"] == "buy" else -1)


@examples(100)
@given(st.lists(act, min_size=10, max_size=40))
def test_books_add_up(acts):
    """Cash, positions and filled quantities follow from the fills, what is reserved from the open orders, and no order that
    is done changes but by a late fill; an update tells of every change.
    """
    venue = FakeVenue(cash=20_000)
    for symbol in SYMBOLS:
        venue.set_price(symbol, 100)
    told = {}
    venue.listeners.append(lambda update: told.__setitem__(update["order"]["id"], update["order"]["status"]))
    for one in acts:
        done = {order["id"]: order["status"] for order in venue.orders() if order["status"] in DONE}
        with suppress(Refusal, ValueError):
            do(venue, *one)
        rows = venue.activities()
        orders = {order["id"]: order for order in venue.orders()}
        assert Decimal(venue.account()["cash"]) == 20_000 - sum(signed(row) * Decimal(row["price"]) for row in rows)
        held = {position["symbol"]: Decimal(position["qty"]) for position in venue.positions()}
        for symbol in SYMBOLS:
            bought = sum(signed(row) for row in rows if row["symbol"] == symbol)
            assert held.get(symbol.replace("/", ""), 0) == bought
        for key, order in orders.items():
            assert Decimal(order["filled_qty"]) == sum(Decimal(r["qty"]) for r in rows if r["order_id"] == key)
            assert Decimal(order["filled_qty"]) <= Decimal(order["qty"])
            assert (order["status"] == "filled") == (order["filled_qty"] == order["qty"])
            assert told.get(key, "pending_new") == order["status"]  # a replacement that waits is not reported
            if order["replaced_by"]:
                assert orders[order["replaced_by"]]["replaces"] == key
        for key, status in done.items():
            assert orders[key]["status"] in (status, "filled")
        working = {key for key, order in orders.items() if order["status"] not in DONE}
        assert {order["id"] for order in venue.orders("open")} == working
        power = venue.account()["non_marginable_buying_power"]
        venue.load(venue.dump())
        assert venue.account()["non_marginable_buying_power"] == power
        if not working:
            assert Decimal(power) == max(0, Decimal(venue.account()["cash"]))
