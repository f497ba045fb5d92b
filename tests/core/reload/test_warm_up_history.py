"""What a new strategy is shown of the signal store before its first row."""

import numpy as np

from support.generations import generation, instance
from torghut_core import MINUTE, Bars, Batch, Signals, Strategy, SymbolTable
from torghut_core.feature_graph import FeatureGraph, FeaturePlan
from torghut_core.reload.warm_up import bars_needed
from torghut_core.reload.warm_up import stored as stored_rows
from torghut_core.signals import MemorySignalStore

START = 28_626_600 * MINUTE


class Average(Strategy):
    """Reads one column."""

    columns = ("ema12",)

    def on_signal(self, signal, context):
        """Answer nothing."""


def stored(minutes, *, of_venue):
    """A store with minutes that were made of trades, and, besides, the signals of the venue's own."""
    store, symbols = MemorySignalStore(), SymbolTable()
    number = symbols.number("ES")
    for origin in (True, False) if of_venue else (False,):
        batch = Batch.of(symbols, 0, np.array([START + minutes * MINUTE]))
        head = {
            "event_ts": START + np.arange(minutes) * MINUTE,
            "seq": START // MINUTE + np.arange(minutes),
            "step": np.full(minutes, MINUTE),
            "series": np.full(minutes, symbols.series(number, MINUTE, origin)),
        }
        batch.signals = Signals.from_columns(**head, ema12=np.arange(minutes) + (1000.0 if origin else 0.0))
        if not origin:
            batch.microbars = Bars.from_columns(**head, close=np.arange(minutes) + 0.5)
        store.write(batch)
    return store


def shown(store):
    """The column of the rows that a strategy with a warm-up of five rows would be shown."""
    made = generation(instance("average", Average(None), warmup=5))
    bars = bars_needed(made.features, FeaturePlan(), made.strategies)
    return stored_rows(store, made.features, bars, None, START + 20 * MINUTE).signals.ema12.tolist()


def test_the_venues_own_bars_take_no_place_of_those_with_a_price():
    """As many rows as the warm-up needs come from the bars in the store, oldest first, each minute once."""
    assert shown(stored(20, of_venue=False)) == [14.0, 15.0, 16.0, 17.0, 18.0, 19.0]
    assert shown(stored(20, of_venue=True)) == shown(stored(20, of_venue=False))


class LooksBack(Average):
    """Looks back, and reads nothing else."""

    columns = ()
    history = 4


def test_bars_that_a_new_strategy_looks_back_come_from_the_store():
    """As many as it asks for; and of bars that are traded meanwhile each once."""
    made = generation(instance("back", LooksBack(None)))
    bars = bars_needed(made.features, FeaturePlan(), [])
    assert sum(bars.values()) == 4
    batch = stored_rows(stored(20, of_venue=False), made.features, bars, None, START + 20 * MINUTE)
    graph = FeatureGraph(made.features)
    graph.update(batch)
    graph.skip_shown(batch)
    graph.update(batch)
    graph.resume(FeatureGraph(FeaturePlan()))
    last = graph.histories.last(MINUTE, "ES", 4, at=0, now=START + 20 * MINUTE, until=0)
    assert last.close.tolist() == [16.5, 17.5, 18.5, 19.5]
    assert bars_needed(made.features, made.features, []) == {}
