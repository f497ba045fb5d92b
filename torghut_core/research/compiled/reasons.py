"""What keeps a generation from being backtested in compiled code."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from torghut_core.generation import Generation, StrategyInstance
from torghut_core.model.instruments import Instrument
from torghut_core.ports import Broker, FillTerms, Handler, RiskRule, Strategy
from torghut_core.research.compiled.walk import UNITS_OF_ONE
from torghut_core.trading.gates import Gates


def reasons(generation: Generation) -> list[str]:
    """Why a generation needs the loop, a sentence each; none where compiled code gives what the loop gives."""
    return list(_reasons(generation))


def _reasons(generation: Generation) -> Iterator[str]:
    source, broker = generation.source, generation.broker
    if source is None or broker is None:
        yield "it has no source and broker"
        return
    if not broker.capabilities.simulated:
        yield f"broker {generation.name_of(broker)} is a real venue"
        return
    if source.corporate_actions():
        yield "its tape has corporate actions"
    for kind, plugins in (("advisor", generation.advisors), ("observer", generation.observers)):
        for name, _ in plugins:
            yield f"{kind} {name} is shown each decision"
    for name, rule in generation.rules:
        yield from _of_rule(generation, name, rule)
    steps: dict[str, tuple[int, str]] = {}
    for each in generation.strategies:
        yield from of_strategy(each)
        for symbol in each.symbols:
            step, other = steps.setdefault(symbol, (each.step_ns, each.name))
            if step != each.step_ns:
                yield f"strategies {other} and {each.name} trade {symbol} by bars of different lengths"
    for symbol in sorted(steps):
        yield from _of_symbol(generation, broker, symbol)


def _of_rule(generation: Generation, name: str, rule: RiskRule) -> Iterator[str]:
    found = [rule.terms(each.limits) for each in generation.strategies]
    if None in found:
        yield f"rule {name} is shown each decision: what it does is more than a number"
    elif any(terms.step * UNITS_OF_ONE % 1 for terms in found if terms is not None):
        yield f"rule {name} has a quantity_step of more than nine decimals"
    wants_equity = any(terms.kind == "position-share" for terms in found if terms is not None)
    if wants_equity and any(each.wanted.frame.is_sliced for each in generation.strategies):
        yield f"rule {name} values positions in the middle of a slice"


def of_strategy(each: StrategyInstance) -> Iterator[str]:
    """Why a strategy needs the loop."""
    handled = [handler.value for handler in Handler if type(each.strategy).handles(handler)]
    if type(each.strategy).decide is Strategy.decide:
        yield f"strategy {each.name} does not decide on whole batches (docs/decide.md)"
    elif handled != [Handler.ON_SIGNAL.value]:
        others = [name for name in handled if name != Handler.ON_SIGNAL.value]
        yield f"strategy {each.name} has {' and '.join(others)} beside decide"
    if each.warmup:
        yield f"strategy {each.name} keeps something between rows (warmup {each.warmup})"
    if each.wanted.history:
        yield f"strategy {each.name} looks back at bars (history)"


def _of_symbol(generation: Generation, broker: Broker, symbol: str) -> Iterator[str]:
    terms = broker.fill_terms(symbol)
    instrument = terms_of(generation, symbol)
    if not isinstance(terms, FillTerms):
        yield f"broker {generation.name_of(broker)} in {symbol}: {terms}"
    elif (terms.multiplier, terms.margin) != (instrument.multiplier, instrument.margin):
        yield f"broker {generation.name_of(broker)} counts {symbol} by another multiplier or margin than its instrument"
    if instrument.min_notional:
        yield f"instrument {symbol} has a min_notional"
    if any((amount * UNITS_OF_ONE) % 1 for amount in (instrument.quantity_step, instrument.min_quantity)):
        yield f"instrument {symbol} has a quantity_step or min_quantity of more than nine decimals"


def terms_of(generation: Generation, symbol: str) -> Instrument:
    """The terms of a symbol, as the books of an account have them."""
    assert generation.broker is not None
    return generation.broker.instrument(symbol, generation.instruments[symbol])


def of_gates(gates: Gates) -> Iterator[str]:
    """Why gates need the loop."""
    usual = Gates(
        trading_enabled=True,
        price_max_age_ns=gates.price_max_age_ns,
        price_band=gates.price_band,
        price_collar=gates.price_collar,
    )
    if gates != usual:
        yield "a gate of the kernel is closed"


def in_units(quantity: Decimal) -> int:
    """A quantity in `walk.UNIT`."""
    return int(quantity * UNITS_OF_ONE)
