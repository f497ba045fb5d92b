"""What simulated fills cost: fees to the cent of the published schedules, slippage by its formulas, and the laws of both."""

import json
from decimal import Decimal

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torghut_brokers.costs import PRESETS, Bill, Fee, Fees, Slippage, Tally
from torghut_brokers.simulated import Simulated

from support.docs import DOCS, has_blocks, table
from support.effort import examples
from support.simulated import BTC, bar, broker, intent, quote, reported, tape, trade
from torghut_core import DAY, Purpose, Side

BUY, SELL = Side.BUY, Side.SELL
CENT = Decimal("0.01")


def by_pattern(given):
    """The fees of a catalog's parameter, as the broker has them."""
    return Simulated.Params(fees=given).fees


def charged(fees, *fills, symbol="AAPL", bill=None):
    """The fees of fills (side, price, quantity), of one order each unless they share a bill, on day 0 or the day they name."""
    return [
        fees.charge(
            symbol, bill or Bill(), side, Decimal(price) * quantity, Decimal(quantity), day * DAY, is_maker=False
        )
        for side, price, quantity, *rest in fills
        for day in rest or [0]
    ]


def total(fees, *fills, **given):
    return sum(charged(fees, *fills, **given))


# -- one fee --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fee", "paid"),
    [
        ({}, ["0", "0"]),
        ({"bps": 10}, ["25.741", "51.484"]),
        ({"bps": 10, "decimals": 2}, ["25.75", "51.48"]),
        ({"per_unit": "0.35"}, ["0.35", "0.7"]),
        ({"per_unit": "0.35", "minimum": "1"}, ["1", "0.05"]),
        ({"minimum": "1"}, ["1", "0"]),
        ({"per_unit": "0.35", "maximum": "0.6"}, ["0.35", "0.25"]),
        ({"per_unit": "0.35", "minimum": "1", "maximum_bps": "0.1"}, ["0.25741", "0.51484"]),
        ({"bps": 10, "side": "buy"}, ["25.741", "51.484"]),
        ({"bps": 10, "side": "sell"}, ["0", "0"]),
        ({"maker_bps": 5, "taker_bps": 10}, ["25.741", "51.484"]),
    ],
)
def test_fees_of_an_order_in_two_parts(fee, paid):
    """Each part is charged what is owed by then: the minimum once, and the rounded parts add up to the rounded whole."""
    subject = broker(participation=1, fees={"*": fee})
    batch = tape(trade(1, 25741, size=1), trade(2, 25742, size=2))
    subject.submit(intent(quantity="3"))
    subject.advance(batch, 0, 2)
    reports = subject.updates()[1:]
    assert [report.fill.fee for report in reports] == [Decimal(each) for each in paid]
    assert subject.account().cash == 100_000 - (25741 + 2 * 25742 + sum(map(Decimal, paid)))
    assert subject.positions()[BTC].fees == sum(map(Decimal, paid))


def test_first_pattern_counts():
    """A symbol has the fees of the first pattern that matches it, and none where none does."""
    fees = Fees(by_pattern({"ES": {"per_unit": 2}, "E*": {"per_unit": 1}}), Tally())
    assert [total(fees, (BUY, 100, 3), symbol=symbol) for symbol in ("ES", "EMD", "NQ")] == [6, 3, 0]


def test_fees_of_a_list_add_up():
    """A symbol may have several fees, each with its own side, bounds and rounding."""
    fees = Fees(
        by_pattern({"*": [{"bps": 1, "decimals": 2}, {"per_unit": "0.001", "decimals": 2, "side": "sell"}]}), Tally()
    )
    assert charged(fees, (BUY, 99, 1), (SELL, 99, 1)) == [Decimal("0.01"), Decimal("0.02")]


def test_resting_limit_order_is_a_maker():
    """A limit order that rested before the event pays the maker's rate, what crosses the market the taker's."""
    subject = broker(fees={"*": {"maker_bps": 10, "taker_bps": 20}})
    batch = tape(trade(1, 100), trade(2, 100), trade(3, 100), trade(4, 90), trade(5, 95))
    subject.advance(batch, 0, 1)
    for name, price in (("tg-1", "100"), ("tg-2", "90")):
        subject.submit(intent(quantity="1", name=name, order_type="limit", limit_price=price))
    subject.submit(
        intent("sell", "1", "tg-3", order_type="stop_limit", stop_price="92", limit_price="94", time_in_force="gtc")
    )
    subject.advance(batch, 1, 5)
    fills = {each.client_order_id: each.fill for each in subject.updates() if each.fill}
    assert {name: (fill.price, fill.fee) for name, fill in fills.items()} == {
        "tg-1": (100, Decimal("0.2")),
        "tg-2": (90, Decimal("0.09")),
        "tg-3": (94, Decimal("0.094")),
    }


# -- presets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fills", "cents"),
    [
        ([(BUY, 150, 100)], 1),  # CAT 0.00265
        ([(SELL, 150, 100)], 31 + 2 + 1),  # SEC 0.309, TAF 0.0195, CAT 0.00265
        ([(SELL, 10, 60_000)], 1236 + 979 + 159),  # SEC 12.36; TAF 11.70, at most 9.79; CAT 1.59
        ([(SELL, 1_000_000, 1)], 2060 + 1 + 1),  # SEC: 20.60 per million
        ([(SELL, 10, 1)] * 20, 1 + 1 + 1),  # added up over the day: SEC 0.00412, TAF 0.0039, CAT 0.00053
        ([(SELL, 10, 1, 0), (SELL, 10, 1, 1)], 2 * 3),  # and anew on the next
        ([(SELL, 10, 60_000)] * 2, 2472 + 2 * 979 + 318),  # the maximum is of each order
    ],
)
def test_equities_at_alpaca(fills, cents):
    """What a day costs is the published schedule's, to the cent."""
    assert total(Fees(by_pattern("alpaca"), Tally()), *fills) == cents * CENT


def test_rounding_example_of_alpaca():
    """Of the page on regulatory fees: a day's TAF of 0.00083 (five shares at the rate of 2025) is rounded up to 0.01."""
    fee = {"per_unit": "0.000166", "maximum": "8.30", "side": "sell", "decimals": 2, "rounded": "day"}
    fees = Fees(by_pattern({"*": fee}), Tally())
    assert charged(fees, (SELL, 100, 2), (BUY, 100, 5), (SELL, 100, 3)) == [CENT, 0, 0]
    assert charged(fees, (SELL, 1, 50_000, 1)) == [Decimal("8.30")]


@pytest.mark.parametrize(
    ("volume", "maker", "taker"),
    [
        ("0", 15, 25), ("99999.99", 15, 25), ("100000", 12, 22), ("500000", 10, 20), ("1000000", 8, 18),
        ("10000000", 5, 15), ("25000000", 2, 13), ("50000000", 2, 12), ("100000000", 0, 10),
    ],
)  # fmt: skip
def test_tiers_of_crypto_at_alpaca(volume, maker, taker):
    """The rates after each volume are those of the published table."""
    (fee,) = PRESETS["alpaca-crypto"]
    assert fee.rates(Decimal(volume)) == (Decimal(maker) / 10_000, Decimal(taker) / 10_000)


def test_tier_holds_from_the_next_day_for_thirty_days():
    """As in Alpaca's example: beyond 100,000 the next tier holds from the next day on, until the volume is 30 days past."""
    fees = Fees(by_pattern("alpaca"), Tally())
    fills = [(BUY, "99500", 1, 0), (BUY, "500", 1, 0), *((SELL, "100", 1, day) for day in (0, 1, 30, 31))]
    paid = charged(fees, *fills, symbol=BTC)
    assert paid == [Decimal(each) for each in ("248.75", "1.25", "0.25", "0.22", "0.22", "0.25")]
    assert [day for day, _ in fees.tally.volumes["*/*"]] == [1, 30, 31]


def test_volume_of_equities_is_no_volume_of_crypto():
    """Tiers go by what was traded under their own pattern."""
    fees = Fees(by_pattern("alpaca"), Tally())
    total(fees, (BUY, 1_000_000, 1, 0))
    assert charged(fees, (BUY, 100, 1, 1), symbol=BTC) == [Decimal("0.25")]


def test_days_are_kept_over_a_restart():
    """A new process goes on with the day's sums and the volumes, so that a cent is not charged twice, nor a tier lost."""
    given = {"*/*": {"maker_bps": 1, "taker_bps": 2, "tiers": [{"volume": 50, "maker_bps": 0, "taker_bps": 1}]}}
    given["*"] = {"per_unit": "0.001", "decimals": 2, "rounded": "day"}
    batch = tape(trade(1, 100), trade(2, 100, symbol="AAPL"), trade(86_400, 100), trade(86_400, 100, symbol="AAPL"))
    paid = []
    for is_restarted in (False, True):
        subject = broker(fees=given)
        for at, symbol in enumerate((BTC, "AAPL", BTC, "AAPL")):
            subject.submit(intent(quantity="1", name=f"tg-{at}", symbol=symbol, second=at // 2 * 86_399))
            subject.advance(batch, at, at + 1)
            if is_restarted:
                state = json.loads(json.dumps(subject.save_state()))
                subject = broker(fees=given)
                subject.load_state(state, Simulated.state_version)
        paid.append((subject.account().cash, msgspec.to_builtins(subject.save_state()["tally"])))
    assert paid[0] == paid[1]
    assert paid[0][0] == 100_000 - 4 * 100 - Decimal("0.05")


# -- slippage -------------------------------------------------------------------------------------------------------

SLIPS = {"*": {"bps": 2, "spread_bps": 6, "impact_bps": 10}}


@pytest.mark.parametrize(
    ("order", "events", "price"),
    [
        (intent("buy", "1"), [bar(0, 100, 101, 99, 100, volume=100)], "100.060005"),  # 5 bps, and 10 * sqrt(0.01)
        (intent("sell", "1"), [bar(0, 100, 101, 99, 100, volume=100)], "99.940005"),
        (intent("buy", "1"), [trade(1, 100, size=1)], "100.15005"),
        (intent("buy", "2"), [trade(1, 100, size=1)], "100.19157075"),  # 14.142 bps, rounded up to 14.15
        (intent("buy", "1"), [quote(1, 99, 100, ask_size=4)], "100.05"),  # at a touch nothing but the impact
        (intent("buy", "1"), [trade(0, 1), quote(0.5, 99, 100), trade(1, 99.5, size=4)], "100.05"),
        (intent("buy", "1", order_type="limit", limit_price="100.01"), [trade(1, 100, size=1)], "100.01"),
        (intent("sell", "1", order_type="limit", limit_price="99.99"), [trade(1, 100, size=1)], "99.99"),
        (intent("buy", "1", order_type="stop", stop_price="100"), [trade(1, 100, size=1)], "100.15005"),
    ],
)
def test_slippage(order, events, price):
    """A price moves by bps and half the assumed spread where no quote is known, and by the impact where liquidity is taken."""
    subject, batch = broker(slippage=SLIPS), tape(*events)
    first = len(events) - 1
    subject.advance(batch, 0, first)
    subject.submit(order)
    subject.advance(batch, first, batch.stop)
    (_, fill) = reported(subject.updates())
    assert Decimal(fill[3]) == Decimal(price)


def test_order_that_rests_has_no_impact():
    """Who waits in the book at a limit gets the limit."""
    subject, batch = broker(slippage=SLIPS), tape(trade(1, 100), trade(2, 90, size=0.5))
    subject.advance(batch, 0, 1)
    subject.submit(intent(quantity="2", order_type="limit", limit_price="90"))
    subject.advance(batch, 1, 2)
    assert reported(subject.updates())[-1] == ("fill", 2, "2", "90")


def test_impact_stops_at_the_highest_price():
    """What the kernel has judged an order at is kept, however large its impact."""
    subject, batch = broker(slippage={"*": {"impact_bps": 1000}}), tape(trade(1, 100, size=1))
    subject.submit(msgspec.structs.replace(intent(quantity="1"), highest_price=Decimal("100.5")))
    subject.advance(batch, 0, 1)
    assert reported(subject.updates())[-1] == ("fill", 1, "1", "100.5")


# -- laws -----------------------------------------------------------------------------------------------------------

amounts = st.integers(0, 10_000).map(lambda hundredths: Decimal(hundredths) / 100)
maybe = st.none() | amounts
any_fee = st.builds(
    Fee,
    bps=amounts,
    per_unit=amounts,
    minimum=amounts,
    maximum=maybe,
    maximum_bps=maybe,
    side=st.sampled_from([None, BUY, SELL]),
    decimals=st.none() | st.integers(0, 4),
    rounded=st.sampled_from(["order", "day"]),
)
some_fees = st.lists(any_fee, min_size=1, max_size=3).map(lambda fees: {"*": tuple(fees)})
parts = st.lists(st.integers(1, 50), min_size=1, max_size=6)
sides = st.sampled_from([BUY, SELL])
prices = st.integers(1, 1000)


@examples(200)
@given(some_fees, parts, prices, sides)
def test_order_pays_the_same_in_however_many_parts(fees, quantities, price, side):
    """Fees of the parts add up to the fee of the whole, and no part is paid back."""
    paid = charged(Fees(fees, Tally()), *((side, price, each) for each in quantities), bill=Bill())
    assert sum(paid) == total(Fees(fees, Tally()), (side, price, sum(quantities)))
    assert min(paid) >= 0


@examples(200)
@given(any_fee, st.lists(st.tuples(sides, prices, st.integers(1, 50)), min_size=1, max_size=8))
def test_rounding_is_in_favour_of_the_venue(fee, fills):
    """What is charged is at least what is owed, and less than a unit more: for each order, or for the day."""
    exact = charged(Fees({"*": (fee.model_copy(update={"decimals": None}),)}, Tally()), *fills)
    paid = charged(Fees({"*": (fee,)}, Tally()), *fills)
    unit = Decimal(0) if fee.decimals is None else Decimal(1).scaleb(-fee.decimals)
    pairs = zip(exact, paid, strict=True) if fee.rounded == "order" else [(sum(exact), sum(paid))]
    for owed, got in pairs:
        assert owed <= got <= owed + unit
        assert got < owed + unit or not unit


@examples(100)
@given(
    some_fees, amounts, amounts, amounts, prices, st.lists(st.tuples(sides, st.integers(1, 20)), min_size=1, max_size=6)
)
def test_trading_at_one_price_never_earns(fees, bps, spread_bps, impact_bps, price, orders):
    """Whatever is bought and sold at a price that does not move, the account never has more than before."""
    slippage = {"*": {"bps": bps, "spread_bps": spread_bps, "impact_bps": impact_bps}}
    subject = broker(cash="1000000", fees=fees, slippage=slippage)
    batch = tape(*(trade(second, price, size=10) for second in range(len(orders) + 1)))
    for number, (side, quantity) in enumerate(orders):
        subject.submit(intent(side.value, str(quantity), f"tg-{number}", second=number - 1))
        subject.advance(batch, number, number + 1)
        assert subject.account().equity <= 1_000_000


def test_exits_pay_too():
    """An exit, and what the kernel flattens, is charged like any order."""
    subject, batch = broker(fees={"*": {"bps": 10}}), tape(trade(1, 100), trade(2, 100))
    subject.submit(intent(quantity="1"))
    subject.advance(batch, 0, 1)
    subject.submit(msgspec.structs.replace(intent("sell", "1", "tg-2", second=1), purpose=Purpose.FLATTEN))
    subject.advance(batch, 1, 2)
    assert [each.fill.fee for each in subject.updates() if each.fill] == [Decimal("0.1")] * 2


# -- what a catalog may say ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("alpaca", {"*/*": PRESETS["alpaca-crypto"], "*": PRESETS["alpaca-equities"]}),
        ("alpaca-crypto", {"*": PRESETS["alpaca-crypto"]}),
        ({"*": {"bps": "1"}}, {"*": (Fee(bps=1),)}),
        ({"B*": "alpaca-crypto", "*": [{"bps": 1}]}, {"B*": PRESETS["alpaca-crypto"], "*": (Fee(bps=1),)}),
    ],
)
def test_ways_to_say_fees(given, expected):
    """A preset, or by pattern a fee, a list of fees or a preset."""
    assert by_pattern(given) == expected


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"fees": "alpaka"}, "there is no preset 'alpaka': use one of alpaca, alpaca-crypto, alpaca-equities"),
        ({"leverage": "alpaka"}, "there is no preset 'alpaka': use alpaca, or write"),
        ({"interest": "alpaka"}, "there is no preset 'alpaka': use alpaca, or write {loan_pct: 6"),
        ({"fees": {"*": {"maker_bps": 1}}}, "give either bps, or both maker_bps and taker_bps"),
        (
            {"fees": {"*": {"bps": 1, "maker_bps": 1, "taker_bps": 1}}},
            "give either bps, or both maker_bps and taker_bps",
        ),
        (
            {"fees": {"*": {"tiers": [{"volume": 1, "maker_bps": 1, "taker_bps": 1}] * 2}}},
            "volumes of tiers have to rise",
        ),
        ({"fees": {"*": {"bps": -1}}}, "greater than or equal to 0"),
        ({"fees": {"*": 3}}, "valid tuple"),
        ({"fees": 3}, "valid dictionary"),
        ({"fees": {"bps": 1}}, "bps is for the symbols of a pattern: write"),
        ({"slippage": {"spread_bps": 2}}, "spread_bps is for the symbols of a pattern: write"),
        ({"leverage": {"times": 2}}, "times is for the symbols of a pattern: write"),
        ({"slippage": {"*": {"impact_bps": "5000"}}}, "less than 5000"),
    ],
)
def test_bad_costs_are_refused(params, message):
    """What makes no sense is refused, with what to do."""
    with pytest.raises(pydantic.ValidationError, match=message):
        Simulated.Params(**params)


# -- the page -------------------------------------------------------------------------------------------------------


def rows_of(model):
    fields = model.model_fields.items()
    yield "field", "default", "means"
    for name, field in fields:
        yield f"`{name}`", "none" if field.default in (None, ()) else f"`{field.default}`", field.description


def said(fee):
    """A fee as a catalog says it, without its tiers."""
    fields = fee.model_dump(mode="json", exclude_defaults=True, exclude={"tiers"})
    return ", ".join(f"{name}: {value}" for name, value in fields.items() if value != "0")


def test_page_has_the_fields_and_presets_of_the_code():
    """The tables of docs/costs.md are made of the models and presets."""
    presets = [(f"`{name}`", f"`{said(fee)}`") for name, fees in PRESETS.items() for fee in fees]
    (crypto,) = PRESETS["alpaca-crypto"]
    tiers = [("0", f"{crypto.maker_bps}", f"{crypto.taker_bps}")]
    tiers += [(f"{tier.volume:,}", f"{tier.maker_bps}", f"{tier.taker_bps}") for tier in crypto.tiers]
    made = {
        "fee": table(*rows_of(Fee)),
        "slippage": table(*rows_of(Slippage)),
        "presets": table(("preset", "fee"), *presets),
        "tiers": table(("30 days, USD", "maker_bps", "taker_bps"), *tiers),
    }
    has_blocks(DOCS / "costs.md", made)


# -- times a multiplier ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fee",
    [
        {"bps": 10},
        {"per_unit": "0.35", "minimum": "1", "maximum": "40"},
        {"maker_bps": 5, "taker_bps": 10, "maximum_bps": "8"},
        {"maker_bps": 5, "taker_bps": 10, "tiers": [{"volume": 1000, "maker_bps": 1, "taker_bps": 2}]},
    ],
)
@pytest.mark.parametrize("factor", [0, 1, 2, "1.5"])
def test_a_multiplier_multiplies_fees_and_slippage(fee, factor):
    """Every rate and bound is multiplied, so each fee is the fee of before times it, and so is the way of the price."""
    terms = {"fees": {"*": fee}, "slippage": {"*": {"bps": 2, "spread_bps": 4}}}
    fills = []
    for multiplier in (1, factor):
        subject = broker(**terms, cost_multiplier=multiplier)
        subject.submit(intent(quantity="3"))
        subject.advance(tape(trade(1, 20000, size=10)), 0, 1)
        fills.append(subject.updates()[-1].fill)
    plain, multiplied = fills
    assert multiplied.price - 20000 == (plain.price - 20000) * Decimal(factor)
    owed = plain.fee / (plain.price * 3 if "per_unit" not in fee else 1)
    assert multiplied.fee / (multiplied.price * 3 if "per_unit" not in fee else 1) == pytest.approx(
        owed * Decimal(factor), rel=Decimal("1e-20")
    )


def test_a_multiplier_is_in_the_terms_of_fills():
    """What compiled code counts with is what a fill costs."""
    terms = broker(fees={"*": {"bps": 10}}, slippage={"*": {"bps": 3}}, cost_multiplier=2).fill_terms(BTC)
    assert terms.fees[0].taker == Decimal("0.002")
    assert (terms.sale, terms.purchase) == (Decimal("0.9994"), Decimal("1.0006"))


def test_a_multiplier_that_would_take_half_of_the_price_is_refused():
    """No fill is at a price that nobody has seen."""
    with pytest.raises(pydantic.ValidationError, match="half the price"):
        Simulated.Params(slippage={"*": {"bps": 100}}, cost_multiplier=50)
