"""What a simulated fill costs: fees of the venue, and slippage. docs/costs.md has the formulas for readers.

**Fees** are a list of `Fee` for each symbol. What an order owes of one, after each of its fills, is::

    due  = sum over its fills of  notional * rate / 10,000 + quantity * per_unit
    owed = min(max(due, minimum), maximum, notional of all its fills * maximum_bps / 10,000)

A fill is charged what is owed after it, rounded up, less what was charged before it. So an order pays the same in however many
parts, and rounding never favours us. Where a fee is `rounded` by the day, what all orders of a UTC day owe is added up before.

**Slippage** moves a price against us by ``bps + spread_bps / 2`` at a trade or bar, and by ``impact_bps * sqrt(share)`` for
what takes liquidity anywhere, where the share is that of the event's volume which the fill takes.

**Presets** are published schedules as they stood on 2026-11-30; a tape of any other time is charged the same rates.

`alpaca-equities`: no commission; the fees of the regulators, which Alpaca passes on in full, each added up over the day and
rounded up to a cent (https://docs.alpaca.markets/docs/regulatory-fees, https://alpaca.markets/support/regulatory-fees, read
2026-11-30). These pages, in the state that could be read, had rates of 2025 for SEC and FINRA; those here are of 2026, known at
second hand: SEC 20.60 USD per million sold (Section 31, fee rate advisory for fiscal year 2026, from 2026-04-04); FINRA TAF
0.000195 USD per share sold, at most 9.79 a trade (SR-FINRA-2024-019). CAT: 0.0000265 USD per share bought or sold, of Alpaca's page.

`alpaca-crypto`: maker and taker rates by the 30 days before (https://alpaca.markets/support/crypto-maker-taker-gmt-faq, read
2026-11-30). Alpaca takes the fee of a purchase from the coins; here it is money of the same worth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import ROUND_CEILING, Decimal
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeAlias

import msgspec
from pydantic import BeforeValidator, model_validator

from torghut_core import DAY, FeeTerms, Params, Side, first_match, param

ZERO, BPS = Decimal(0), Decimal(10_000)
VOLUME_DAYS = 30
"""So many days before the current one count for a tier."""
HUNDREDTH_BPS = Decimal("0.01")


class Tier(Params):
    """Rates from a volume on."""

    volume: Decimal = param(
        gt=0, help="notional of the 30 UTC days before, from which on the rates hold, in `currency`"
    )
    maker_bps: Decimal = param(ge=0, help="of a fill that brings liquidity, basis points of the notional")
    taker_bps: Decimal = param(ge=0, help="of a fill that takes it, basis points of the notional")


class Fee(Params):
    """One fee of an order; the formulas are at the top of this module."""

    bps: Decimal = param("0", ge=0, help="of the notional, basis points")
    maker_bps: Decimal | None = param(None, ge=0, help="in place of `bps`, of a fill that brings liquidity")
    taker_bps: Decimal | None = param(None, ge=0, help="in place of `bps`, of a fill that takes it")
    tiers: tuple[Tier, ...] = param((), help="other rates of maker and taker by volume, the lowest volume first")
    per_unit: Decimal = param("0", ge=0, help="per unit (share, coin, contract), in `currency`")
    minimum: Decimal = param("0", ge=0, help="least that an order with a fill owes, in `currency`")
    maximum: Decimal | None = param(None, ge=0, help="most that an order owes, in `currency`")
    maximum_bps: Decimal | None = param(None, ge=0, help="most that an order owes, basis points of its notional")
    side: Side | None = param(None, help="buy or sell where it is for that side alone")
    decimals: int | None = param(None, ge=0, le=12, help="decimals to which it is rounded up; none: not rounded")
    rounded: Literal["order", "day"] = param(
        "order", help="what is added up before it is rounded: an order, or the day's"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.maker_bps is None) != (self.taker_bps is None) or (self.bps and self.maker_bps is not None):
            raise ValueError("give either bps, or both maker_bps and taker_bps")
        volumes = [tier.volume for tier in self.tiers]
        if volumes != sorted(set(volumes)):
            raise ValueError("the volumes of tiers have to rise")
        return self

    def times(self, factor: Decimal) -> Self:
        """Return the fee with all its rates and bounds multiplied."""
        names = ("bps", "maker_bps", "taker_bps", "per_unit", "minimum", "maximum", "maximum_bps")
        given = {name: value * factor for name in names if (value := getattr(self, name)) is not None}
        tiers = tuple(
            tier.model_copy(update={"maker_bps": tier.maker_bps * factor, "taker_bps": tier.taker_bps * factor})
            for tier in self.tiers
        )
        return self.model_copy(update=given | {"tiers": tiers})

    def rates(self, volume: Decimal) -> tuple[Decimal, Decimal]:
        """Return the shares of the notional of maker and taker after a volume of the 30 days before."""
        maker, taker = self.bps if self.maker_bps is None else self.maker_bps, self.taker_bps
        taker = self.bps if taker is None else taker
        for tier in self.tiers:
            if volume >= tier.volume:
                maker, taker = tier.maker_bps, tier.taker_bps
        return (maker / BPS).normalize(), (taker / BPS).normalize()

    def owed(self, due: Decimal, notional: Decimal) -> Decimal:
        """Return what an order owes, before rounding."""
        owed = max(due, self.minimum)
        if self.maximum is not None:
            owed = min(owed, self.maximum)
        return owed if self.maximum_bps is None else min(owed, notional * self.maximum_bps / BPS)


def _tier(volume: str, maker_bps: str, taker_bps: str) -> Tier:
    return Tier(volume=Decimal(volume), maker_bps=Decimal(maker_bps), taker_bps=Decimal(taker_bps))


EQUITIES = (
    Fee(side=Side.SELL, bps=Decimal("0.206"), decimals=2, rounded="day"),
    Fee(side=Side.SELL, per_unit=Decimal("0.000195"), maximum=Decimal("9.79"), decimals=2, rounded="day"),
    Fee(per_unit=Decimal("0.0000265"), decimals=2, rounded="day"),
)
CRYPTO = (
    Fee(
        maker_bps=Decimal(15),
        taker_bps=Decimal(25),
        tiers=(
            _tier("100000", "12", "22"),
            _tier("500000", "10", "20"),
            _tier("1000000", "8", "18"),
            _tier("10000000", "5", "15"),
            _tier("25000000", "2", "13"),
            _tier("50000000", "2", "12"),
            _tier("100000000", "0", "10"),
        ),
    ),
)
PRESETS: Mapping[str, tuple[Fee, ...]] = {"alpaca-crypto": CRYPTO, "alpaca-equities": EQUITIES}
ALPACA = {"*/*": "alpaca-crypto", "*": "alpaca-equities"}
"""What the preset `alpaca` is short for: a symbol with a slash is crypto."""

Preset: TypeAlias = Literal["alpaca-crypto", "alpaca-equities"]


def check_patterns(given: Any, terms: type[Params]) -> Any:
    """Return what is given by symbol pattern.

    Raises
    ------
    ValueError : a field of the terms stands in the place of a pattern.
    """
    for key in given if isinstance(given, Mapping) else ():
        if key in terms.model_fields:
            raise ValueError(f'{key} is for the symbols of a pattern: write {{"*": {{{key}: ...}}}} for all symbols')
    return given


def alpaca_or(given: Any, preset: Any, example: str) -> Any:
    """Return what the preset ``alpaca`` stands for where that is given, and anything but text as it is.

    Raises
    ------
    ValueError : another text; it says to write something like `example`.
    """
    if isinstance(given, str) and given != "alpaca":
        raise ValueError(f"there is no preset {given!r}: use alpaca, or write {example}")
    return preset if isinstance(given, str) else given


def _spelled_out(given: Any) -> Any:
    """Return fees by pattern as lists, with presets replaced by what they stand for."""
    if isinstance(given, str):
        given = ALPACA if given == "alpaca" else {"*": given}
    check_patterns(given, Fee)
    return {pattern: _listed(fees) for pattern, fees in given.items()} if isinstance(given, Mapping) else given


def _listed(fees: Any) -> Any:
    if isinstance(fees, str):
        if fees not in PRESETS:
            raise ValueError(f"there is no preset {fees!r}: use one of {', '.join(['alpaca', *PRESETS])}")
        return PRESETS[fees]
    return (fees,) if isinstance(fees, Mapping | Fee) else fees


FeesByPattern: TypeAlias = Annotated[
    dict[str, tuple[Fee, ...]],
    BeforeValidator(
        _spelled_out, json_schema_input_type=Literal["alpaca"] | Preset | dict[str, Preset | Fee | tuple[Fee, ...]]
    ),
]
"""Type of a parameter: by symbol pattern, first match counts, a fee, a list of fees, or a preset; or a preset alone."""


class Bill(msgspec.Struct):
    """What an order owes: its notional, and of each fee what is due and what counts as charged."""

    notional: Decimal = ZERO
    due: list[Decimal] = []
    charged: list[Decimal] = []


class Tally(msgspec.Struct):
    """What an account's fees remember of its days: numbers of days since 1970, in UTC.

    `owed` is what the day's orders owe of each fee that is rounded by the day; `volumes` the notional by pattern and day of the
    last 30 days and this one, where a fee has tiers.
    """

    day: int | None = None
    owed: dict[str, Decimal] = {}
    volumes: dict[str, list[tuple[int, Decimal]]] = {}


class Rates(NamedTuple):
    """A fee with the rates of a day: shares of the notional as maker and taker, and what it is rounded to.

    `key` is its key in a `Tally`, "" where it is not rounded by the day.
    """

    fee: Fee
    maker: Decimal
    taker: Decimal
    per_unit: Decimal
    side: Side | None
    is_bounded: bool
    unit: Decimal | None
    key: str


def fee_terms(fees: Sequence[Fee]) -> tuple[FeeTerms, ...] | str:
    """Return what an order of one fill owes of each fee, where numbers say that; else which parameter of a fee is in the way."""
    terms = []
    for fee in fees:
        if fee.tiers or fee.decimals is not None:
            return "tiers of its fees" if fee.tiers else "decimals of its fees"
        maker, taker = fee.rates(ZERO)
        share = None if fee.maximum_bps is None else fee.maximum_bps / BPS
        terms.append(
            FeeTerms(
                maker=maker,
                taker=taker,
                per_unit=fee.per_unit,
                minimum=fee.minimum,
                maximum=fee.maximum,
                maximum_share=share,
                side=fee.side,
            )
        )
    return tuple(terms)


class Fees:
    """The fees of an account.

    Attributes
    ----------
    tally : what has to be kept over a restart.
    """

    def __init__(self, by_pattern: Mapping[str, Sequence[Fee]], tally: Tally) -> None:
        self.tally = tally
        self._by_pattern = by_pattern
        self._patterns = {pattern: pattern for pattern in by_pattern}
        self._found: dict[str, tuple[str, list[Rates]]] = {}
        """By symbol, on the current day: its pattern if the fees have tiers, "" if not, and the rates."""

    def charge(
        self,
        symbol: str,
        bill: Bill,
        side: Side,
        notional: Decimal,
        quantity: Decimal,
        event_ts: int,
        *,
        is_maker: bool,
    ) -> Decimal:
        """Return the fee of a fill, and add it to the order's bill."""
        tally, day = self.tally, event_ts // DAY
        if tally.day is None or day > tally.day:  # an event that is late counts for the day in which it comes
            tally.day = day
            tally.owed.clear()
            self._found.clear()
        pattern, rates = self._found.get(symbol) or self._find(symbol, tally.day)
        if pattern:
            self._count(pattern, tally.day, notional)
        if len(bill.due) < len(rates):
            missing = [ZERO] * (len(rates) - len(bill.due))
            bill.due += missing
            bill.charged += missing
        bill.notional += notional
        charged = ZERO
        for number, (fee, maker, taker, per_unit, of_side, is_bounded, unit, key) in enumerate(rates):
            if of_side is not None and of_side is not side:
                continue
            owed = bill.due[number] = bill.due[number] + notional * (maker if is_maker else taker) + quantity * per_unit
            before = bill.charged[number]
            if is_bounded:
                owed = max(fee.owed(owed, bill.notional), before)
            if unit is not None and not key:
                owed = owed.quantize(unit, ROUND_CEILING)
            bill.charged[number] = owed
            if unit is None or not key:
                charged += owed - before
            else:
                of_day = tally.owed.get(key, ZERO)
                tally.owed[key] = of_day + owed - before
                charged += tally.owed[key].quantize(unit, ROUND_CEILING) - of_day.quantize(unit, ROUND_CEILING)
        return charged

    def _find(self, symbol: str, day: int) -> tuple[str, list[Rates]]:
        pattern = first_match(symbol, self._patterns)
        fees = () if pattern is None else self._by_pattern[pattern]
        volumes = self.tally.volumes.get(pattern or "", ())
        volume = sum((notional for of, notional in volumes if day - VOLUME_DAYS <= of < day), ZERO)
        rates = [
            Rates(
                fee,
                *fee.rates(volume),
                fee.per_unit,
                fee.side,
                bool(fee.minimum) or fee.maximum is not None or fee.maximum_bps is not None,
                None if fee.decimals is None else Decimal(1).scaleb(-fee.decimals),
                f"{pattern} {number}" if fee.rounded == "day" else "",
            )
            for number, fee in enumerate(fees)
        ]
        is_tiered = any(fee.tiers for fee in fees)
        self._found[symbol] = (pattern or "") if is_tiered else "", rates
        return self._found[symbol]

    def _count(self, pattern: str, day: int, notional: Decimal) -> None:
        volumes = self.tally.volumes.setdefault(pattern, [])
        if volumes and volumes[-1][0] == day:
            volumes[-1] = day, volumes[-1][1] + notional
        else:
            volumes[:] = [*(each for each in volumes if each[0] >= day - VOLUME_DAYS), (day, notional)]


class Slippage(Params):
    """How far a price moves against us; the formulas are at the top of this module."""

    bps: Decimal = param("0", ge=0, lt=5_000, help="at a trade or bar, basis points of the price")
    spread_bps: Decimal = param(
        "0",
        ge=0,
        lt=5_000,
        help="spread to assume at a trade or bar without a fresh quote, basis points; half of it is paid",
    )
    impact_bps: Decimal = param(
        "0",
        ge=0,
        lt=5_000,
        help="for taking all of an event's volume, basis points; a share costs its square root of that",
    )

    def times(self, factor: Decimal) -> Self:
        """Return the slippage with all its rates multiplied."""
        return self.model_copy(update={name: getattr(self, name) * factor for name in type(self).model_fields})


SlippageByPattern: TypeAlias = Annotated[
    dict[str, Slippage], BeforeValidator(lambda given: check_patterns(given, Slippage))
]
"""Type of a parameter: by symbol pattern, first match counts."""


class Slips(dict[str, tuple[Decimal, Decimal, Decimal]]):
    """By symbol: what a price that slips is multiplied by in a sale and in a purchase, and the impact in basis points."""

    def __init__(self, by_pattern: Mapping[str, Slippage]) -> None:
        super().__init__()
        self._by_pattern = by_pattern

    def __missing__(self, symbol: str) -> tuple[Decimal, Decimal, Decimal]:
        """Find what a symbol has."""
        found = first_match(symbol, self._by_pattern) or Slippage()
        slip = (found.bps + found.spread_bps / 2) / BPS
        self[symbol] = (1 - slip).normalize(), (1 + slip).normalize(), found.impact_bps
        return self[symbol]


def impact(impact_bps: Decimal, quantity: Decimal, volume: Decimal) -> Decimal:
    """Return by which part of itself a price moves, for taking a quantity of an event's volume: up to a hundredth bp, rounded up.

    At most half of the price. Where the volume is not known (not positive), the fill takes it all.

    Examples
    --------
    >>> impact(Decimal(10), Decimal(25), Decimal(100))
    Decimal('0.0005')
    """
    share = quantity / volume if volume > 0 else Decimal(1)
    return (min(impact_bps * share.sqrt(), BPS / 2).quantize(HUNDREDTH_BPS, ROUND_CEILING) / BPS).normalize()
