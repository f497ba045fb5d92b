"""The kernel's own gates: what has to be true for any order to be sent. No plugin can open one.

The verdicts depend on the decision and on `Inputs`, and on nothing else; the order of the gates is fixed (``docs/risk.md``).
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_DOWN, Context, Decimal
from functools import lru_cache
from typing import Literal

import msgspec

from torghut_core.model.trading import ZERO, Bracket, ControlState, Decision, Outcome, Side, Verdict
from torghut_core.ports import RiskContext
from torghut_core.timestamps import DAY, SECOND

KERNEL = "kernel"
"""The `rule` of a gate's verdict."""

QUANTITY_STEP = Decimal("1E-6")
"""Of a unit: the kernel cuts orders to whole multiples of it."""

_SELL, _ALLOW, _DENY = Side.SELL, Outcome.ALLOW, Outcome.DENY
_DOWN = Context(prec=80, rounding=ROUND_DOWN)


class Gates(msgspec.Struct, kw_only=True, gc=False):
    """The state of the gates. Changed by an operator or the kernel, never by a plugin.

    Attributes
    ----------
    trading_enabled : ``TRADING_ENABLED``, or a replay.
    is_live : orders go to real money; needs `mode` live, `live_enabled` and `live_account`, the three switches.
    mode, live_enabled, live_account : ``TRADING_MODE``, ``TRADING_LIVE_ENABLED`` and ``TRADING_LIVE_ACCOUNT``.
    control, control_reason : the operator's control, see `controls`.
    restriction : "", `reduce_only` (a decision may only make a position smaller) or `halt`; because the catalog is wrong
        and says so in `on_invalid`.
    unrecorded : why the audit database cannot be written now, "" while it can: until then entries are denied.
    unready : why the market data cannot be traded on now, "" while it can: until then entries are denied.
    unreconciled : by symbol, how our books and the venue's differ: entries in it are denied. Replaced, never changed.
    price_max_age_ns : how old the price of a decision may be, nanoseconds (``TRADING_PRICE_LOOKBACK_MINUTES``).
    price_band : how far the price of an entry may be from the prices before it and from the quote, as a share of these
        (``TRADING_PRICE_BAND``); no order to buy is filled farther above, where a limit of risk depends on its price.
    price_collar : how much above the reference price an order without a limit is judged, as a share of it
        (``TRADING_PRICE_COLLAR``).
    """

    trading_enabled: bool = False
    is_live: bool = False
    mode: str = "paper"
    live_enabled: bool = False
    live_account: str = ""
    control: ControlState = "running"
    control_reason: str = ""
    restriction: Literal["", "reduce_only", "halt"] = ""
    unrecorded: str = ""
    unready: str = ""
    unreconciled: Mapping[str, str] = {}
    price_max_age_ns: int = 300 * SECOND
    price_band: Decimal = Decimal("0.5")
    price_collar: Decimal = Decimal("0.005")

    @property
    def has_switches(self) -> bool:
        """Whether all three switches of live trading are set."""
        return self.mode == "live" and self.live_enabled and bool(self.live_account)

    def exits_only(self, symbol: str) -> list[tuple[str, str]]:
        """What denies entries in a symbol and lets exits pass: codes, each with its reason."""
        if self.control not in _EXITS_ONLY and not (
            self.restriction or self.unrecorded or self.unready or self.unreconciled
        ):
            return _NOTHING
        found = [(_EXITS_ONLY[self.control], self.control_reason)] if self.control in _EXITS_ONLY else []
        if self.restriction == "reduce_only":
            found.append(("reduce-only", "the catalog is wrong (on_invalid)"))
        if self.unrecorded:
            found.append(("unrecorded", self.unrecorded))
        if self.unready:
            found.append(("not-ready", self.unready))
        if symbol in self.unreconciled:
            found.append(("unreconciled", self.unreconciled[symbol]))
        return found


_NOTHING: list[tuple[str, str]] = []
_EXITS_ONLY = {"pause_entries": "pause-entries", "reduce_only": "reduce-only"}


class Inputs(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """All that the verdicts on a decision depend on, besides the decision and the rules' code.

    `is_enabled`, `is_allowed`: whether the strategy is enabled, and whether the symbol is one of its own. `objection`:
    why the broker would not take the order (`Broker.objection`). `price_ts`: when its price was known, ns; None when no
    price is known, and then no plugin is asked. `context` is None where there is nothing to measure.
    `generation`: whose advisors and rules were asked. `is_close`: see `Decision`.
    """

    gates: Gates
    is_enabled: bool
    is_allowed: bool
    objection: str
    price_ts: int | None
    context: RiskContext | None = None
    generation: int = 0
    is_close: bool = False


def has_valid_quantity(decision: Decision) -> bool:
    """Whether the quantity is a number above zero."""
    return decision.quantity.is_finite() and decision.quantity > 0


def gate_verdicts(decision: Decision, inputs: Inputs, is_valid: bool) -> list[Verdict]:
    """The gates' verdicts: first those that deny everything, then those that only exits pass."""
    gates, price_ts = inputs.gates, inputs.price_ts
    verdicts = [
        _verdict("trading-enabled", gates.trading_enabled, "", "" if gates.trading_enabled else "true"),
        _verdict("mode", True, "paper") if not gates.is_live else _verdict("mode", gates.has_switches, "live"),
        _verdict("kill-switch", True)
        if gates.control != "halted"
        else _verdict("kill-switch", False, gates.control_reason),
        _verdict("strategy-enabled", inputs.is_enabled),
        _verdict("symbol-allowed", inputs.is_allowed, decision.symbol),
        _verdict("broker-capable", not inputs.objection, inputs.objection),
        _verdict("price-present", price_ts is not None),
    ]
    if price_ts is not None:
        age, limit = decision.decided_at - price_ts, gates.price_max_age_ns
        verdicts.append(_verdict("price-fresh", age <= limit, f"{age // SECOND} s", f"{limit // SECOND} s"))
    verdicts.append(_verdict("quantity-valid", is_valid, str(decision.quantity), "> 0"))
    if decision.bracket is not None:
        wrong = _wrong_in_bracket(decision, decision.bracket)
        verdicts.append(_verdict("bracket-valid", not wrong, wrong))
    if gates.restriction == "halt":
        verdicts.append(_verdict("halted", False))
    context, closed = inputs.context, gates.exits_only(decision.symbol)
    jump = "" if context is None else _jump(context, gates.price_band)
    if jump:
        closed = [*closed, ("price-sane", jump)]
    if closed:
        closable = ZERO if context is None else context.closable(decision.action)
        if decision.quantity <= closable:
            verdicts += [_verdict(code, True, reason) for code, reason in closed]
        elif closable and is_valid:
            verdicts += [
                Verdict(KERNEL, Outcome.SHRINK, code, reason, f"exits: {closable}", closable) for code, reason in closed
            ]
        else:
            verdicts += [_verdict(code, False, reason, f"exits: {closable}") for code, reason in closed]
    if is_valid and context:
        held = _held(decision, context, is_close=inputs.is_close)
        found = (held, minimum_verdict(decision, context))
        verdicts += [verdict for verdict in found if verdict is not None]
    return verdicts


def _wrong_in_bracket(decision: Decision, bracket: Bracket) -> str:
    """What is wrong with the legs of an entry, "" where they would protect it."""
    given, is_buy = bracket.given, decision.action is not _SELL
    for name, amount in given.items():
        if not (amount.is_finite() and amount > 0):
            return f"{name} {amount} is not positive"
    if "stop_loss" in given and "trail" in given:
        return "stop_loss and trail are two stops"
    entry = decision.limit_price or decision.stop_price or decision.price
    if entry is None:
        return ""
    for name, is_above in (("stop_loss", not is_buy), ("take_profit", is_buy)):
        if name in given and not (given[name] > entry if is_above else given[name] < entry):
            return f"{name} {given[name]} is not {'above' if is_above else 'below'} the entry at {entry}"
    if not is_buy or given.get("trail", ZERO) < entry:
        return ""
    return f"trail {given['trail']} is not below the entry at {entry}"


def minimum_verdict(decision: Decision, context: RiskContext) -> Verdict | None:
    """The verdict on an order that is too small for its instrument; None where it is large enough.

    An exit may be worth less than `min_notional`.
    """
    instrument = context.instrument
    if decision.quantity < instrument.smallest_order:
        return _verdict("min-quantity", False, f"{decision.quantity:f}", f"{instrument.smallest_order:f}")
    if instrument.min_notional and decision.quantity > context.closable(decision.action):
        notional = instrument.notional(decision.quantity, decision.limit_price or context.price)
        if notional < instrument.min_notional:
            return _verdict("min-notional", False, f"{notional:f}", f"{instrument.min_notional:f}")
    return None


def _held(decision: Decision, context: RiskContext, *, is_close: bool) -> Verdict | None:
    """The verdict on an exit of more than is held; None where it is no such exit.

    Where the venue's position differs from our books, what would close a strategy's position is cut to what the venue
    holds, and opens nothing. A `close` never opens anything.
    """
    own = context.own_closable(decision.action)
    if is_close:
        most = own if not context.difference else context.closable(decision.action)
    elif context.difference and own:
        most = context.closable(decision.action)
    else:
        return None
    if decision.quantity <= most:
        return None
    outcome = Outcome.SHRINK if most else Outcome.DENY
    return Verdict(KERNEL, outcome, "held", str(decision.quantity), str(most), most or None)


def last_verdicts(decision: Decision, context: RiskContext) -> list[Verdict]:
    """What the kernel says of the quantity that advisors and rules have left: nothing where it may be sent.

    A sale without ``TRADING_ALLOW_SHORTS`` is cut to what it closes, and an order that the account cannot pay for to what
    it closes and can pay for.
    """
    closable = context.closable(decision.action)
    opened = decision.quantity - closable
    if opened <= 0:
        return []
    verdicts = []
    if decision.action is _SELL and not context.allow_shorts:
        verdicts.append(_cut("no-shorts", decision.quantity, closable, closable))
    cost, left = (
        context.worst_cost(decision) * context.instrument.margin,
        context.account.buying_power - context.reserved_cash,
    )
    affordable = max(ZERO, _DOWN.divide(left, cost).quantize(QUANTITY_STEP, context=_DOWN)) if cost else ZERO
    if opened > affordable:
        verdicts.append(_cut("buying-power", opened * cost, left, closable + affordable))
    return verdicts


def _cut(code: str, value: Decimal, limit: Decimal, allowed: Decimal) -> Verdict:
    shown = f"{value:f}", f"{limit:f}"
    if allowed:
        return Verdict(KERNEL, Outcome.SHRINK, code, *shown, allowed)
    return Verdict(KERNEL, Outcome.DENY, code, *shown)


def _jump(context: RiskContext, band: Decimal) -> str:
    """How the price is too far from the prices before it, or from the quote; "" where it is near both.

    From day to day a market may move by any amount: closes of days are compared with the quote alone.
    """
    price, recent, bid, ask = context.price, context.recent_price, context.bid, context.ask
    if recent is not None and context.bar_ns < DAY and abs(price - recent) > band * abs(recent):
        return f"{price} after {recent}"
    if bid is not None and ask is not None and not bid * (1 - band) <= price <= ask * (1 + band):
        return f"{price} where {bid} is bid and {ask} asked"
    return ""


@lru_cache(maxsize=4096)  # most decisions pass the same gates in the same way
def _verdict(code: str, is_open: bool, value: str = "", limit: str = "") -> Verdict:
    return Verdict(KERNEL, _ALLOW if is_open else _DENY, code, value, limit)
