"""Generations and bars with signals, made by hand: for tests that need no catalog and no plugin."""

from decimal import Decimal

import numpy as np
from torghut_brokers.simulated import Simulated
from torghut_testing import bar_batch

from support.features import find
from torghut_core.feature_graph import Planner, with_columns
from torghut_core.generation import Generation, StrategyInstance
from torghut_core.model.market import Signals
from torghut_core.model.trading import Limits
from torghut_core.ports import Handler
from torghut_core.timestamps import MINUTE


def planned(name, strategy, symbols, step_ns, planner=None):
    """A planner with what a strategy reads."""
    planner = planner or Planner(find)
    is_sliced = strategy.handles(Handler.ON_SLICE)
    wanted = with_columns(strategy.columns, strategy.features())
    planner.add(name, wanted, step_ns, symbols, is_sliced=is_sliced, history=strategy.history)
    return planner


def instance(name, strategy, symbols=("ES",), step_ns=MINUTE, **fields):
    """A strategy as a generation has it, with limits of its own and the like where `fields` say so."""
    given = {
        "use": name,
        "plugin": None,
        "params": {},
        "wanted": planned(name, strategy, symbols, step_ns).plan.wanted[name],
        "warmup": 0,
        "limits": Limits(),
        "enabled": True,
        "on_remove": "freeze",
        "digest": "",
        "timers": tuple(strategy.timers),
    } | fields
    return StrategyInstance(name=name, strategy=strategy, symbols=symbols, step_ns=step_ns, **given)


def generation(*instances, broker=None, source=None, number=1, rules=(), observers=()):
    """A generation of these strategies; rules are (name, rule). The broker is a simulated one where none is given."""
    planner = Planner(find)
    for each in instances:
        planned(each.name, each.strategy, each.symbols, each.step_ns, planner)
    return Generation(
        features=planner.plan,
        number=number,
        digest="",
        catalog=None,
        plugins=(),
        source=source,
        stages=(),
        broker=broker or Simulated(Simulated.Params(cash=Decimal(100_000))),
        strategies=instances,
        rules=tuple(rules),
        advisors=(),
        observers=tuple(observers),
    )


def with_signals(batch, ema12=1.0):
    """A batch with a row of signals for each of its bars."""
    bars = batch.bars
    head = {name: getattr(bars, name) for name in ("at", "event_ts", "symbol", "seq", "step", "series")}
    batch.signals = Signals.from_columns(**head, ema12=np.broadcast_to(ema12, len(bars)), close=bars.close)
    return batch


def signal_batch(rows, step="1Min", *place, ema12=1.0):
    """Bars and a row of signals for each, as `bar_batch` takes them."""
    return with_signals(bar_batch(rows, step, *place), ema12)
