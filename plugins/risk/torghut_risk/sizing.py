"""Turns a limit into a quantity, and a quantity into a verdict.

An order that only closes a position passes every rule of this package (but `wash-trade`). A limit is there to bound what
can be lost; denying or cutting an exit would keep money at risk. So a rule says how much of an order may *open* something,
and `verdict` adds what the order closes.

A limit is counted in whole steps, also for an order that is within it by less than one step: so a larger order is never
allowed less than a smaller one, and a rule that cuts an order first never makes another rule allow more.
"""

from __future__ import annotations

from decimal import ROUND_DOWN, Context, Decimal

from torghut_core import Decision, Outcome, RiskContext, Verdict

ZERO = Decimal(0)
STEP_HELP = "the allowed quantity is a whole multiple of this, or of the instrument's step where that is larger, units"

# Precise enough to be exact, and never rounds up: a cut order must fit the limit.
_DOWN = Context(prec=80, rounding=ROUND_DOWN)
_DOWN_14 = Context(prec=14, rounding=ROUND_DOWN)


def verdict(
    code: str,
    decision: Decision,
    context: RiskContext,
    *,
    allowed: Decimal,
    value: Decimal | str | None,
    limit: Decimal | str | None,
    highest_price: Decimal | None = None,
) -> Verdict:
    """Allow an order of at most `allowed` units, shrink a larger one to that, deny it where nothing is left.

    Parameters
    ----------
    code : the rule's name, stable.
    decision : what was proposed.
    context : its `closable` quantity always passes, whatever `allowed` says.
    allowed : units that the rule lets through; 0 for none.
    value, limit : what was measured and what is allowed; None where there is no such number.
    highest_price : see `Verdict`, of the order that is allowed; None where the limit depends on no price.
    """
    shown = plain(value), plain(limit)
    allowed = max(allowed, context.closable(decision.action))
    if decision.quantity <= allowed:
        return Verdict(code, Outcome.ALLOW, code, *shown, highest_price=highest_price)
    if allowed > 0:
        return Verdict(code, Outcome.SHRINK, code, *shown, allowed, highest_price)
    return Verdict(code, Outcome.DENY, code, *shown)


def entry_verdict(
    code: str,
    decision: Decision,
    context: RiskContext,
    *,
    may_enter: bool,
    value: Decimal | str | None,
    limit: Decimal | str | None,
) -> Verdict:
    """Allow an order if entries are allowed; else cut it to what it closes."""
    allowed = decision.quantity if may_enter else ZERO
    return verdict(code, decision, context, allowed=allowed, value=value, limit=limit)


def exposure_verdict(
    code: str,
    decision: Decision,
    context: RiskContext,
    *,
    exposure: Decimal,
    held: Decimal,
    limit: Decimal | None,
    step: Decimal,
) -> Verdict:
    """Allow an order as far as what it opens, and what is held in its symbol, at its worst price, stay within `limit`.

    Parameters
    ----------
    exposure : notional before the order, quote currency.
    held : the part of it that is held in the order's symbol, signed units: it is worth more when the price is higher.
    limit : notional with the order, quote currency; None for none.
    step : the allowed quantity is a multiple of this, units.
    """
    closing, held = context.closable(decision.action), abs(held)
    multiplier, cost = context.instrument.multiplier, context.worst_cost(decision)
    elsewhere = exposure - held * context.reference_price * multiplier
    before = elsewhere + held * cost
    after = before + max(ZERO, decision.quantity - closing) * cost
    if limit is None:
        return verdict(code, decision, context, allowed=decision.quantity, value=after, limit=limit)
    allowed = closing + units(limit - before, cost, step_of(context, step))
    opened = min(allowed, decision.quantity) - closing
    highest = highest_price(limit - elsewhere, (held + opened) * multiplier) if opened > 0 else None
    return verdict(code, decision, context, allowed=allowed, value=after, limit=limit, highest_price=highest)


def units(money: Decimal, cost: Decimal, step: Decimal, taken: Decimal = ZERO) -> Decimal:
    """Return how many units, in whole steps, `money` pays for at `cost` each after `taken` units of it; never below 0.

    Examples
    --------
    >>> units(Decimal(1000), Decimal(30), Decimal("0.01"))
    Decimal('33.33')
    >>> units(Decimal(1000), Decimal(30), Decimal(1), taken=Decimal(30))
    Decimal('3')
    """
    if not cost:
        return ZERO
    left = _DOWN.subtract(_DOWN.divide(money, cost), taken)
    return max(ZERO, _DOWN.multiply(_DOWN.divide_int(left, step), step))


def step_of(context: RiskContext, step: Decimal) -> Decimal:
    """Return the step that a rule counts in: its own, or the instrument's where that is larger."""
    return max(step, context.instrument.quantity_step)


def highest_price(money: Decimal, quantity: Decimal) -> Decimal | None:
    """Return the highest price at which `money` pays for a quantity (times its multiplier); None for no quantity."""
    return _DOWN_14.divide(money, quantity) if quantity > 0 and money > 0 else None


def tighter(rule: Decimal | None, strategy: Decimal | None) -> Decimal | None:
    """Return the lower of the rule's own limit and the strategy's; None where neither is set."""
    return min((limit for limit in (rule, strategy) if limit is not None), default=None)


def plain(number: Decimal | str | None) -> str:
    """Format a decimal without exponent or trailing zeros; "" for None. Text stays as it is.

    Examples
    --------
    >>> plain(Decimal("1E+3")), plain(Decimal("0.0500")), plain(None)
    ('1000', '0.05', '')
    """
    if not isinstance(number, Decimal):
        return number or ""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
