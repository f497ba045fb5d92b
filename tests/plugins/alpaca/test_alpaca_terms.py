"""What Alpaca takes, checked before the send; and that the docs say the same."""

import itertools
import re
from decimal import Decimal

import msgspec
import pytest
from torghut_brokers.alpaca import Alpaca
from torghut_brokers.alpaca.refusals import CODES
from torghut_brokers.alpaca.terms import PRICES, TERMS
from torghut_testing import decision
from torghut_testing.alpaca import FakeVenue, Refusal

from support.docs import DOCS, passes, text_of
from torghut_core import Instrument, OrderType, TimeInForce

PAGE = DOCS / "brokers.md"
BROKER = Alpaca(Alpaca.Params())
SYMBOLS = {"equity": "AAPL", "crypto": "BTC/USD"}
VALUES = {"limit_price": Decimal(100), "stop_price": Decimal(100)}
EVERY = list(itertools.product(SYMBOLS, OrderType, TimeInForce, ["1", "0.5"]))


def asked(kind, order_type, time_in_force, quantity="1", **fields):
    """A decision with just the prices that its order type has."""
    prices = {name: VALUES[name] for name in PRICES[order_type]}
    if order_type is OrderType.TRAILING_STOP:
        prices["trail_pct"] = Decimal(5)
    given = {"order_type": order_type, "time_in_force": time_in_force} | prices | fields
    return decision("buy", quantity, symbol=SYMBOLS[kind], **given)


@pytest.mark.parametrize(("kind", "order_type", "time_in_force", "quantity"), EVERY)
def test_table_is_what_is_objected_to(kind, order_type, time_in_force, quantity):
    """Each combination passes exactly where the table has it."""
    terms = TERMS[kind].get(order_type)
    allowed = terms and (terms.times_in_force if quantity == "1" else terms.fractional)
    objection = BROKER.objection(asked(kind, order_type, time_in_force, quantity))
    assert (not objection) is (time_in_force in (allowed or ()))


@pytest.mark.parametrize(("kind", "order_type", "time_in_force", "quantity"), EVERY)
def test_table_agrees_with_the_stand_in(kind, order_type, time_in_force, quantity):
    """What passes here the kit's venue takes, and what does not it refuses."""
    venue = FakeVenue()
    venue.set_price(SYMBOLS[kind], 90)
    wanted = asked(kind, order_type, time_in_force, quantity)
    prices = {name: str(getattr(wanted, name)) for name in PRICES[order_type]}
    if wanted.trail_pct is not None:
        prices["trail_percent"] = str(wanted.trail_pct)
    try:
        venue.place(SYMBOLS[kind], "buy", quantity, type=order_type.value, time_in_force=time_in_force.value, **prices)
        is_taken = True
    except Refusal:
        is_taken = False
    assert (not BROKER.objection(wanted)) is is_taken


@pytest.mark.parametrize(
    ("wanted", "objection"),
    [
        (asked("equity", OrderType.LIMIT, TimeInForce.DAY, limit_price=Decimal("1.001")), "limit_price 1.001"),
        (asked("equity", OrderType.LIMIT, TimeInForce.DAY, limit_price=Decimal("0.0001")), ""),
        (asked("equity", OrderType.LIMIT, TimeInForce.DAY, limit_price=Decimal("0.00001")), "limit_price 0.00001"),
        (asked("equity", OrderType.STOP, TimeInForce.DAY, stop_price=Decimal("1.005")), "stop_price 1.005"),
        (asked("equity", OrderType.LIMIT, TimeInForce.DAY, limit_price=Decimal("1E+2")), ""),
        (asked("crypto", OrderType.LIMIT, TimeInForce.GTC, limit_price=Decimal("0.000012345")), ""),
        (asked("crypto", OrderType.LIMIT, TimeInForce.GTC, limit_price=None), "without limit_price"),
        (asked("crypto", OrderType.STOP_LIMIT, TimeInForce.GTC, stop_price=None), "without stop_price"),
        (asked("equity", OrderType.TRAILING_STOP, TimeInForce.DAY, trail_pct=None), "one of"),
        (asked("equity", OrderType.TRAILING_STOP, TimeInForce.DAY, trail_price=Decimal(1)), "one of"),
        (asked("crypto", OrderType.MARKET, TimeInForce.GTC, "0.000000001"), ""),
        (asked("crypto", OrderType.MARKET, TimeInForce.GTC, "0.0000000001"), "decimals"),
        (asked("crypto", OrderType.MARKET, TimeInForce.GTC, "0.50000000000"), ""),
        (asked("equity", OrderType.MARKET, TimeInForce.GTC, "2.000"), ""),
    ],
)
def test_prices_and_decimals(wanted, objection):
    """Sub-pennies, missing prices, both trails and too fine fractions are objected to, each by name."""
    said = BROKER.objection(wanted)
    assert objection in said
    assert bool(said) is bool(objection)


# The docs


def table(marker):
    """Rows of the table behind a marker in the docs, as lists of cells without code marks."""
    text = text_of(PAGE).split(f"<!-- {marker}:", 1)[1]
    lines = itertools.takewhile(lambda line: line.startswith("|"), text.split("\n")[1:])
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines][2:]


def test_docs_show_the_terms():
    """The table in the docs is the table of the code."""
    shown = [
        [kind, order_type.value, ", ".join(sorted(terms.times_in_force)), ", ".join(sorted(terms.fractional)) or "-"]
        for kind, types in TERMS.items()
        for order_type, terms in types.items()
    ]
    assert table("terms") == shown


def test_docs_show_the_parameters():
    """Name, default and help of each parameter."""
    fields = Alpaca.Params.model_fields.items()
    shown = [
        [name, "none" if field.default is None else str(field.default), field.description] for name, field in fields
    ]
    assert table("parameters") == shown


def test_docs_show_the_codes():
    """Every code of a refusal has its line."""
    assert [row[0] for row in table("codes")] == list(CODES)


def test_docs_example_runs(tmp_path):
    """The subclass that the docs show passes as it stands."""
    example = re.search(r"<!-- example: .*?```python\n(.*?)```", text_of(PAGE), re.DOTALL)[1]
    assert re.search(r"\d\d passed", passes(tmp_path, **{"test_example.py": example}))


def test_terms_of_the_venues_list_of_assets_win(fake, kit):
    """It has the least quantity, step and tick of crypto; what it does not say is as the catalog states it."""
    fake.venue.list_asset("AAVE/USD", min_order_size=Decimal("0.010186515"))
    broker = kit.connect()
    stated = Instrument(asset_class="crypto", tick_size=Decimal(1), min_notional=Decimal(10))
    assert broker.instrument("AAPL", stated) == msgspec.structs.replace(stated, quantity_step=Decimal("1E-9"))
    assert broker.instrument("AAVE/USD", stated) == Instrument(
        asset_class="crypto",
        tick_size=Decimal("0.01"),
        quantity_step=Decimal("1E-9"),
        min_quantity=Decimal("0.010186515"),
        min_notional=Decimal(10),
    )
