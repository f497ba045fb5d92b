"""What a strategy of a test answers: functions of its context, made by what they propose."""

from torghut_brokers import Simulated

from support.generations import generation, instance, signal_batch, with_signals
from torghut_core.audit import MemoryAuditStore
from torghut_core.ports import Strategy
from torghut_core.timestamps import MINUTE, SECOND
from torghut_core.trading.engine import Engine
from torghut_core.trading.gates import Gates

START = 1_767_571_200 * SECOND


class Plan(Strategy):
    """Does at each row the next thing of a list: a function of the context, or nothing; keeps what it `sees` before that."""

    def __init__(self, *acts, sees=lambda context: None):
        super().__init__(None)
        self.acts = list(acts)
        self.sees = sees
        self.seen = []

    def on_signal(self, signal, context):
        self.seen.append(self.sees(context))
        act = self.acts.pop(0) if self.acts else None
        return act(context) if act else None


def buy(quantity, **terms):
    """Buy units, at the market where `terms` say nothing else."""
    return lambda context: context.buy(quantity, because="test", **terms)


def sell(quantity, **terms):
    """Sell units."""
    return lambda context: context.sell(quantity, because="test", **terms)


def close(**terms):
    """Close what is held."""
    return lambda context: context.close(because="test", **terms)


def play(bars, *acts, cuts=(), sees=lambda context: None, rules=(), **params):
    """A plan, its engine and its audit after minutes in ES.

    Parameters
    ----------
    bars : closes, or (open, high, low, close).
    cuts : where batches end.
    sees : what the plan keeps of each row.
    rules : (name, rule) that judge.
    params : of the simulated broker.
    """
    plan = Plan(*acts, sees=sees)
    made = generation(instance("one", plan), broker=Simulated(Simulated.Params(**params)), rules=rules)
    audit = MemoryAuditStore()
    engine = Engine(made, "test", audit, Gates(trading_enabled=True), allow_shorts=True)
    prices = [bar if isinstance(bar, tuple) else (bar,) * 4 for bar in bars]
    rows = [("ES", START + n * MINUTE, *map(float, each), 10.0) for n, each in enumerate(prices)]
    batch = signal_batch(rows)
    for cut in sorted(cuts):
        if batch.start < cut < batch.stop:
            head, batch = batch.split(cut)
            engine.step(with_signals(head))
    engine.step(with_signals(batch))
    audit.commit()
    return plan, engine, audit
