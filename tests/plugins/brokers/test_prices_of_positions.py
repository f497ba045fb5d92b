"""What positions are valued at: the last price of each symbol, read event by event or many events at once."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st
from torghut_brokers.market import Market

from support.simulated import NAN, bar, quote, tape, tick, trade

SYMBOLS = ("A", "B", "C")
PRICES = st.sampled_from([NAN, 0.0, 99.9, 100.0, 100.25, 100.3])

events = st.one_of(
    st.builds(lambda symbol, price: ("trade", symbol, price, price), st.sampled_from("ABCD"), PRICES),
    st.builds(lambda symbol, price: ("bar", symbol, price, price), st.sampled_from("ABCD"), PRICES),
    st.builds(lambda symbol, bid, ask: ("quote", symbol, bid, ask), st.sampled_from("ABCD"), PRICES, PRICES),
    st.just(("tick", "", NAN, NAN)),
)


def event_of(second, kind, symbol, bid, ask):
    if kind == "trade":
        return trade(second, bid, symbol=symbol)
    if kind == "quote":
        return quote(second, bid, ask, symbol=symbol)
    if kind == "bar":
        return bar(second, bid, bid, bid, bid, symbol=symbol)
    return tick(second)


def prices_after(batch, strides):
    market = Market()
    market.open(batch, batch.start)
    for symbol in SYMBOLS:
        market.follow(symbol, Decimal(1), batch.start)
    for stop in [*strides, batch.stop]:
        market.refresh(min(stop, batch.stop))
    return {symbol: str(price) for symbol, price in market.prices.items()}


@given(kinds=st.lists(events, min_size=1, max_size=80), start=st.sampled_from([0, 1000]))
def test_many_events_at_once_give_what_each_gives(kinds, start):
    """Trades, bars and quotes, of which some have no price, whichever comes last."""
    batch = tape(*[event_of(second, *kind) for second, kind in enumerate(kinds)], start=start)
    assert prices_after(batch, []) == prices_after(batch, range(batch.start, batch.stop))
