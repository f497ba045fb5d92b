"""The entries of a catalog as pydantic models: a validated and immutable `Catalog`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import cached_property
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from packaging.specifiers import SpecifierSet
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PrivateAttr,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from torghut_core.calendars import ROUND_THE_CLOCK, check_calendar
from torghut_core.catalog.digest import content_digest
from torghut_core.catalog.marked_yaml import MAX_DIGITS
from torghut_core.catalog.problems import Marks, quoted
from torghut_core.environment import Environment
from torghut_core.model.market import SYMBOL_PATTERN

NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}", re.ASCII)
"""The form of the names of strategies, pipelines and plugins."""


PATTERN_OF_SYMBOLS = re.compile(r"[A-Z0-9._/*?-]{1,32}", re.ASCII)
"""A symbol, or a pattern of symbols: ``*`` is any text, ``?`` a character."""

DEFAULTS_OF_CLASSES: Mapping[str, Mapping[str, Any]] = {
    "equity": {"calendar": "XNYS", "tick_size": Decimal("0.01")},
    "crypto": {"calendar": ROUND_THE_CLOCK},
    "future": {"quantity_step": Decimal(1)},
}
"""What an instrument of a class has where its entry says nothing."""

MAX_RANGE = 200
"""Characters of a version range at most; Python refuses to read numbers of thousands of digits."""

DEFAULT_ALLOW = ("torghut-*",)
"""The distributions that may be loaded when the catalog has no `plugins.allow`."""


def _complaint(message: str, hint: str) -> PydanticCustomError:
    return PydanticCustomError("torghut", "{message} ({hint})", {"message": message, "hint": hint})


def _name(text: str) -> str:
    if not NAME_PATTERN.fullmatch(text):
        raise _complaint(f"{quoted(text)} is not a name", "use a-z, 0-9 and . _ -, at most 63")
    return text


def _symbol(text: str) -> str:
    if not SYMBOL_PATTERN.fullmatch(text):
        is_near = SYMBOL_PATTERN.fullmatch(text.upper())
        hint = f"did you mean {text.upper()!r}?" if is_near else "use A-Z, 0-9 and . _ / -, at most 32"
        raise _complaint(f"{quoted(text)} is not a symbol", hint)
    return text


def _symbol_pattern(text: str) -> str:
    if not PATTERN_OF_SYMBOLS.fullmatch(text):
        raise _complaint(f"{quoted(text)} is not a symbol, or a pattern of symbols", "use A-Z, 0-9 and . _ / - * ?")
    return text


def _calendar(text: str) -> str:
    try:
        return check_calendar(text)
    except ValueError as error:
        raise _complaint(str(error), "use a name of exchange_calendars, or 24/7") from None


def _distinct(symbols: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted(symbol for symbol, times in Counter(symbols).items() if times > 1)
    if twice:
        raise _complaint(f"names {', '.join(twice)} more than once", "list each symbol once")
    return symbols


def _version(value: Any) -> Any:
    if value != 1 or isinstance(value, bool):
        raise _complaint(f"{quoted(value)} is not supported", "write `version: 1`")
    return value


def _versions(text: str) -> SpecifierSet:
    if len(text) > MAX_RANGE:
        raise ValueError(f"a version range has at most {MAX_RANGE} characters")
    return SpecifierSet(text)


def _version_range(text: str) -> str:
    try:
        _versions(text)
    except ValueError:
        hint = f"did you mean '=={text}'?" if re.fullmatch(r"[0-9][0-9.]*", text) else "write one like '>=1.2,<2'"
        raise _complaint(f"{quoted(text)} is not a version range", hint) from None
    return text


def allow_rule(text: str) -> tuple[str, SpecifierSet]:
    """Parse a `plugins.allow` rule: a pattern over normalized distribution names, and the versions.

    Raises
    ------
    ValueError : it is not such a rule.

    Examples
    --------
    >>> name, versions = allow_rule("Acme_alpha>=1.2,<2")
    >>> name, "1.3" in versions
    ('acme-alpha', True)
    """
    match = re.fullmatch(r"([A-Za-z0-9*?._-]+)\s*(.*)", text, re.ASCII)
    if match is None:
        raise ValueError(f"{text!r} names no distribution")
    return re.sub(r"[-_.]+", "-", match[1]).lower(), _versions(match[2])


def _allow_rule(text: str) -> str:
    try:
        allow_rule(text)
    except ValueError:
        raise _complaint(f"{quoted(text)} names no distribution", "write it like 'acme-alpha>=1.2,<2'") from None
    return text


def _freeze(value: Any) -> Any:
    if isinstance(value, Mapping):
        return MappingProxyType({key: _freeze(inner) for key, inner in value.items()})
    return tuple(map(_freeze, value)) if isinstance(value, list | tuple) else value


def _thaw(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _thaw(inner) for key, inner in value.items()}
    return [_thaw(inner) for inner in value] if isinstance(value, tuple) else value


def _text(pattern: re.Pattern[str]) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^{pattern.pattern}$"})


Name = Annotated[str, AfterValidator(_name), _text(NAME_PATTERN)]
Symbol = Annotated[str, AfterValidator(_symbol), _text(SYMBOL_PATTERN)]
SymbolPattern = Annotated[str, AfterValidator(_symbol_pattern), _text(PATTERN_OF_SYMBOLS)]
Calendar = Annotated[str, AfterValidator(_calendar)]
VersionRange = Annotated[str, AfterValidator(_version_range)]
AllowRule = Annotated[str, AfterValidator(_allow_rule)]
Money = Annotated[Decimal, Field(gt=0, max_digits=MAX_DIGITS)]
Fraction = Annotated[Decimal, Field(gt=0, le=1, max_digits=MAX_DIGITS)]
Timeframe = Literal["1Sec", "1Min", "5Min", "15Min", "1Hour", "1Day"]
OnRemove = Literal["freeze", "flatten", "handover"]


def _field(default: Any = ..., *, meaning: str, example: Any = None, **bounds: Any) -> Any:
    examples = None if example is None else [example]
    return Field(default, description=meaning, examples=examples, validate_default=True, **bounds)


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Use(_Entry):
    """One use of a plugin: its name, accepted versions and parameters."""

    use: str = _field(meaning="name that the plugin is registered under", example="macd-rsi")
    version: VersionRange | SkipJsonSchema[None] = _field(
        None, meaning="accepted versions of its distribution, such as '>=1.2,<2'; any if left out"
    )
    params: Annotated[Mapping[str, Any], AfterValidator(_freeze), PlainSerializer(_thaw)] = _field(
        {}, meaning="parameters of the plugin"
    )

    _place: str = PrivateAttr(default="")

    @property
    def place(self) -> str:
        """Its key in the files (``strategies[0]``); "" for an entry that comes from no file."""
        return self._place

    def moved(self, place: str) -> Self:
        """The same entry at another place."""
        entry = self.model_copy()
        entry._place = place  # noqa: SLF001 (its own class)
        return entry


class InstrumentEntry(_Entry):
    """What is known of a symbol, or of the symbols of a pattern: how it is traded, and when."""

    asset_class: Literal["equity", "crypto", "future"] | SkipJsonSchema[None] = _field(
        None, meaning="what it is: the defaults of calendar, tick_size and quantity_step follow from it"
    )
    currency: Annotated[str, Field(pattern=r"^[A-Z0-9]{2,12}$")] | SkipJsonSchema[None] = _field(
        None, meaning="currency of its prices: the account's, which is also the default", example="USD"
    )
    tick_size: Money | SkipJsonSchema[None] = _field(
        None, meaning="prices of orders are whole multiples of it, quote currency per unit; any price if left out"
    )
    quantity_step: Money | SkipJsonSchema[None] = _field(
        None, meaning="quantities of orders are whole multiples of it, units; any quantity if left out"
    )
    min_quantity: Money | SkipJsonSchema[None] = _field(
        None, meaning="least quantity of an order, units; a step if left out"
    )
    min_notional: Money | SkipJsonSchema[None] = _field(
        None, meaning="least notional of an order that opens something, quote currency"
    )
    multiplier: Money = _field(
        Decimal(1), meaning="money that one unit gains when its price rises by 1: 50 dollars for an E-mini"
    )
    calendar: Calendar | SkipJsonSchema[None] = _field(
        None,
        meaning="its exchange calendar, a name of exchange_calendars; 24/7 is never closed, and its days are those of UTC",
        example="CMES",
    )
    margin: Fraction = _field(
        Decimal(1), meaning="share of its notional that a position takes of the buying power; 1 is all of it"
    )
    adjusted: bool = _field(
        default=False, meaning="its prices are adjusted for splits, so that a jump is no split and gives no warning"
    )

    @model_validator(mode="after")
    def _has_calendar(self) -> Self:
        if not self.sessions:
            raise _complaint("has no calendar", "give one, such as `calendar: CMES`, or `calendar: 24/7`")
        return self

    @property
    def sessions(self) -> str:
        """The calendar of its sessions."""
        return str(self.terms["calendar"])

    @property
    def terms(self) -> dict[str, Any]:
        """The fields of `Instrument` that it states, and behind them those of its class."""
        stated = {name: value for name, value in self if value is not None}
        return {"calendar": "", **DEFAULTS_OF_CLASSES.get(str(self.asset_class), {}), **stated}


class StrategyEntry(Use):
    """One strategy: what it trades, on which bars, within which limits."""

    name: Name = _field(meaning="its own name, under which decisions and positions are kept", example="macd-rsi-es")
    enabled: bool = _field(default=True, meaning="whether it makes decisions")
    base_timeframe: Timeframe = _field(meaning="bars whose signals it sees", example="1Min")
    symbols: Annotated[tuple[Symbol, ...], AfterValidator(_distinct)] = _field(
        meaning="what it trades, each in quotes", example=["BTC/USD"], min_length=1
    )
    max_notional_per_trade: Money | SkipJsonSchema[None] = _field(
        None, meaning="largest price x quantity of one order, quote currency"
    )
    max_position_pct_equity: Fraction | SkipJsonSchema[None] = _field(
        None, meaning="largest position as a fraction of equity: 0.05 is 5 %"
    )
    cooldown_seconds: int = _field(0, meaning="pause after an order before the next in that symbol, seconds", ge=0)
    on_remove: OnRemove = _field(
        "freeze",
        meaning="what happens to its position when it is no longer listed: freeze keeps it, flatten closes it, "
        "handover gives it to another strategy",
    )


class Pipeline(_Entry):
    """Where events come from, what is derived from them, and where orders, or events, go."""

    source: Use = _field(meaning="where events come from", example={"use": "replay"})
    stages: tuple[Use, ...] = _field((), meaning="what is derived from them, in this order")
    broker: Use | SkipJsonSchema[None] = _field(
        None, meaning="where orders go; `trading` needs one", example={"use": "simulated"}
    )
    sink: Use | SkipJsonSchema[None] = _field(
        None, meaning="where events, and what is derived from them, go; `forwarder` needs one", example={"use": "kafka"}
    )


class Plugins(_Entry):
    """Which installed plugins may be loaded."""

    allow: tuple[AllowRule, ...] = _field(
        DEFAULT_ALLOW,
        meaning="distributions that may be loaded: names, in which * is any text, with optional versions, as in "
        "'acme-alpha>=1.2,<2'; of two that register the same plugin, the one listed first is used",
    )


class CatalogSettings(Environment):
    """Defaults of a catalog's fields."""

    trading_strategy_config_mode: Literal["sync", "merge"] = Field(
        default="sync", description="`mode` of a catalog that states none: sync or merge"
    )


class Catalog(_Entry):
    """What runs: in which pipelines, by which strategies, within which rules."""

    version: Annotated[Literal[1], BeforeValidator(_version)] = _field(meaning="version of this format", example=1)
    mode: Literal["sync", "merge"] = Field(
        default_factory=lambda: CatalogSettings.read().trading_strategy_config_mode,
        description="sync disables the strategies that are no longer listed, merge leaves them;"
        " default: TRADING_STRATEGY_CONFIG_MODE",
        json_schema_extra={"default": "sync"},
    )
    on_invalid: Literal["keep_last_good", "reduce_only", "halt"] = _field(
        "keep_last_good", meaning="what a running kernel does when the catalog becomes invalid"
    )
    plugins: Plugins = _field(Plugins(), meaning="which installed plugins may be loaded")
    pipelines: Annotated[Mapping[Name, Pipeline], AfterValidator(MappingProxyType), PlainSerializer(dict)] = _field(
        {},
        meaning="pipelines by name; `trading` is the one that trades",
        json_schema_extra={"additionalProperties": False},
    )
    instruments: Annotated[
        Mapping[SymbolPattern, InstrumentEntry], AfterValidator(MappingProxyType), PlainSerializer(dict)
    ] = _field(
        {},
        meaning="what is traded, by symbol or pattern (* and ?); a symbol's own entry counts, or else the longest pattern"
        " that matches",
        json_schema_extra={"additionalProperties": False},
    )
    strategies: tuple[StrategyEntry, ...] = _field(
        (), meaning="what proposes decisions; called in order of their names"
    )
    risk: tuple[Use, ...] = _field((), meaning="rules that check every decision, in this order")
    advisors: tuple[Use, ...] = _field((), meaning="second opinions that may veto or shrink, in this order")
    observers: tuple[Use, ...] = _field((), meaning="plugins that are notified of decisions, fills and generations")

    _marks: Marks = PrivateAttr(default=Marks({}))

    @property
    def marks(self) -> Marks:
        """Where in the files each key and value is."""
        return self._marks

    @cached_property
    def digest(self) -> str:
        """sha256 of the content, hexadecimal.

        The order of keys and of strategies, comments, quotes around numbers, the split into files and defaults that are
        written out make no difference.
        """
        content = self.model_dump()
        if not self.instruments:
            del content["instruments"]
        content["strategies"] = sorted(content["strategies"], key=lambda entry: str(entry["name"]))
        return content_digest(content)

    @property
    def symbols(self) -> set[str]:
        """Every symbol that a strategy lists."""
        return {symbol for entry in self.strategies for symbol in entry.symbols}

    @cached_property
    def instruments_in_order(self) -> dict[str, InstrumentEntry]:
        """The instruments by symbol or pattern; the first that matches a symbol counts."""
        order = sorted(self.instruments, key=lambda name: ("*" in name or "?" in name, -len(name), name))
        return {name: self.instruments[name] for name in order}

    @property
    def calendars(self) -> dict[str, str]:
        """The calendars of the instruments by symbol or pattern; the first that matches a symbol counts."""
        return {name: entry.sessions for name, entry in self.instruments_in_order.items()}

    def with_(self, **values: Any) -> Catalog:
        """The catalog with other values in some of its fields; they are not validated again."""
        catalog = Catalog.model_construct(**{name: getattr(self, name) for name in Catalog.model_fields} | values)
        catalog._marks = self._marks  # noqa: SLF001 (its own class)
        return catalog

    def placed(self, marks: Marks, places: Mapping[str, Sequence[str]]) -> Catalog:
        """The same catalog with its marks, and the entries of each list with their `places` in the files."""
        lists = {
            key: tuple(entry.moved(place) for entry, place in zip(getattr(self, key), of_list, strict=True))
            for key, of_list in places.items()
        }
        catalog = self.with_(**lists)
        catalog._marks = marks  # noqa: SLF001 (its own class)
        return catalog

    @classmethod
    def from_record(cls, content: Mapping[str, Any]) -> Catalog:
        """The catalog of a recorded generation, from its row in the audit database."""
        strategies = [
            {name: entry[name] for name in StrategyEntry.model_fields} | {"params": entry["given"]}
            for entry in content["strategies"]
        ]
        fields = {name: content[name] for name in cls.model_fields if name in content}
        return cls.model_validate(fields | {"plugins": {"allow": content["allow"]}, "strategies": strategies})

    def __eq__(self, other: object) -> bool:
        return self.digest == other.digest if isinstance(other, Catalog) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest)
