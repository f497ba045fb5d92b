"""Which signal rows a strategy is shown, and whether its answer to them counts.

A subscription is where a generation's strategy meets the stream. What has just come in does not trade at once: a strategy
that is not warm is shown its rows and its answers are dropped, and new code is on trial for its first rows, with the
old code at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import repeat
from types import CodeType
from typing import Any, ClassVar, TypeAlias

import msgspec
import numpy as np

from torghut_core.boundary import bound_method
from torghut_core.generation import StrategyInstance
from torghut_core.model.market import Batch, IntArray, Signal, signal_type
from torghut_core.model.trading import ZERO, Decision
from torghut_core.plugin_host.running_plugin import label
from torghut_core.ports import Context, LiveContext, Strategy
from torghut_core.timestamps import EARLIEST
from torghut_core.trading.totals import StrategyTotals

TRIAL_ROWS = 100
"""So many rows new code is on trial for."""

OnSignal: TypeAlias = Callable[[Signal, Context], Any]
Row: TypeAlias = "tuple[Subscription, Signal, LiveContext, int, int, float]"
"""A signal row on its way to a strategy: with its position in the stream, the loop's time and the close."""


class Trial(msgspec.Struct):
    """The first rows of new code, and the subscription with the old code, as it was before them."""

    before: Subscription
    seen: list[tuple[Signal, LiveContext, int, float]] = []


class Subscription:
    """One strategy of a generation at the stream.

    Parameters
    ----------
    instance : the strategy with its entry.
    generation : number of the generation that its decisions carry.
    totals : where its rows and decisions are counted.

    Attributes
    ----------
    on_signal : what the next row is handed to, see there.
    label : what is noted while it is at work.
    is_running : whether rows are selected for it.
    is_closing : it only closes what its strategy held.
    rows_to_warm : rows that it has to see before its answers count, by symbol; warm symbols are not in it.
    minute, decided : decisions in this minute of the loop's time.
    """

    def __init__(self, instance: StrategyInstance, generation: int = 0, totals: StrategyTotals | None = None) -> None:
        self.instance = instance
        self.name = instance.name
        self.label = label("strategy", instance.name)
        self.generation = generation
        self.symbols = frozenset(instance.symbols)
        self.is_running = instance.enabled
        self.is_closing = isinstance(instance.strategy, Closing)
        self.totals = totals or StrategyTotals()
        self.rows_to_warm = dict.fromkeys(self.symbols, instance.warmup) if instance.warmup else {}
        self.minute = self.decided = 0
        self.on_signal: OnSignal
        """Swapped, not asked about for each row, because it is on the path of every row. One of five:

        - the strategy's own `on_signal`, in its context: it is warm and not on trial;
        - `_on_warm_up_signal`: until every symbol is warm and is past the rows that were shown beforehand;
        - `_on_trial_signal`: the first `TRIAL_ROWS` rows of new code;
        - `Closing().on_signal`: after `close`;
        - `_ignore`: after `stop`; and after `revert` to code that reads other columns, until the next batch.
        """
        self._shown_until: dict[str, int] = {}
        """By symbol, the `event_ts` of the last row that was shown beforehand."""
        self._trial: Trial | None = None
        self._wanted = np.zeros(0, bool)
        self._choose()

    def resume(self, before: Subscription, *, is_on_trial: bool = False) -> None:
        """Resume where the subscription of the generation before is: with the same strategy, or with new code on trial."""
        known = self.symbols & before.symbols
        rows_to_warm = self.rows_to_warm | before.rows_to_warm
        self.rows_to_warm = {symbol: rows for symbol, rows in rows_to_warm.items() if symbol in self.symbols}
        for symbol in known - before.rows_to_warm.keys():
            self.rows_to_warm.pop(symbol, None)
        self._shown_until = dict(before._shown_until)
        self.minute, self.decided = before.minute, before.decided
        before_trial, before._trial = before._trial, None
        self._trial = Trial(before) if is_on_trial else before_trial
        self._choose()

    def skip(self, shown: Mapping[str, tuple[int, int]]) -> None:
        """Skip what was shown beforehand: by symbol, so many rows, and the `event_ts` of the last of them."""
        for symbol, (rows, event_ts) in shown.items():
            self.rows_to_warm[symbol] = self.rows_to_warm.get(symbol, 0) - rows
            self._shown_until[symbol] = event_ts
        self.rows_to_warm = {symbol: rows for symbol, rows in self.rows_to_warm.items() if rows > 0}
        self._choose()

    def revert(self) -> Any:
        """Go back to the old code after new code has failed on trial: show it the rows that it has missed.

        Returns
        -------
        Its answer to the last row; `NotImplemented` where nothing is on trial.
        """
        trial, self._trial = self._trial, None
        if trial is None:
            return NotImplemented
        old, new = trial.before.instance, self.instance
        self.instance = replace(
            new, strategy=old.strategy, plugin=old.plugin, columns=old.columns, warmup=old.warmup, digest=old.digest
        )
        self.generation = trial.before.generation
        self.rows_to_warm, self._shown_until = trial.before.rows_to_warm, trial.before._shown_until  # noqa: SLF001
        if old.columns != new.columns:  # these rows lack what it reads: it resumes with the next batch
            self.on_signal = _ignore
            return None
        self._choose()
        answer = None
        for signal, context, now, price in trial.seen:
            context.show(signal.event_ts, now, price)
            answer = self.on_signal(signal, context.read_only)
        return answer

    def stop(self) -> None:
        """Show the strategy nothing more, from this row on."""
        self.is_running = False
        self.on_signal = _ignore

    def close(self) -> None:
        """Only close what is held, from this row on."""
        self.is_closing = True
        self.on_signal = Closing().on_signal

    def warm_up(self, batch: Batch, context: Callable[[str, str], LiveContext]) -> None:
        """Show a new strategy a batch that was traded before it came; its answers are dropped."""
        index = self.select(batch)
        for _, signal, view, _, now, close in rows_of(batch, [(self, index)], context) if len(index) else ():
            view.show(signal.event_ts, now, close)
            self._on_warm_up_signal(signal, view.read_only)

    def _choose(self) -> None:
        """Set `on_signal` to the shortest way for the rows to come."""
        self.on_signal = self._off_trial if self._trial is None else self._on_trial_signal

    @property
    def _off_trial(self) -> OnSignal:
        """What a row is handed to where no code is on trial."""
        is_warming = self.rows_to_warm or self._shown_until
        return self._on_warm_up_signal if is_warming else bound_method(self.instance.strategy, "on_signal")

    def _on_warm_up_signal(self, signal: Signal, context: Context) -> Any:
        """Show a row; the answer counts when the symbol is warm. Rows that were shown before are skipped."""
        symbol = signal.symbol
        if signal.event_ts <= self._shown_until.get(symbol, EARLIEST):
            return None
        answer = bound_method(self.instance.strategy, "on_signal")(signal, context)
        self._shown_until.pop(symbol, None)
        left = self.rows_to_warm.pop(symbol, 0)
        if left > 1:
            self.rows_to_warm[symbol] = left - 1
        if not self.rows_to_warm and not self._shown_until:
            self._choose()
        return None if left else answer

    def _on_trial_signal(self, signal: Signal, context: Context) -> Any:
        """Show a row to new code, and keep it for the old code."""
        trial = self._trial
        if trial is None or len(trial.seen) == TRIAL_ROWS:
            self._trial = None
            self._choose()
            return self.on_signal(signal, context)
        trial.seen.append((signal, context._live, context.now, context.price))  # noqa: SLF001
        return self._off_trial(signal, context)

    def select(self, batch: Batch) -> IntArray:
        """Indices of the rows at this timeframe, of these symbols, in which every column has a value."""
        if self.on_signal is _ignore:
            self._choose()
        signals = batch.signals
        names = batch.symbols.names
        if len(self._wanted) != len(names):
            self._wanted = np.fromiter((name in self.symbols for name in names), bool, len(names))
        mask = (signals.step == self.instance.step_ns) & self._wanted[signals.symbol]
        for column in self.instance.columns:
            values = getattr(signals, column)
            mask &= values == values
        return np.flatnonzero(mask)

    CALLERS: ClassVar[dict[CodeType, str]] = {
        _on_warm_up_signal.__code__: "self",
        _on_trial_signal.__code__: "self",
        revert.__code__: "self",
    }
    """The functions here that call a strategy, each with the local variable that names it; see `Watchdog`."""


def rows_of(
    batch: Batch, parts: Sequence[tuple[Subscription, IntArray]], context: Callable[[str, str], LiveContext]
) -> Iterable[Row]:
    """The rows of a batch that subscriptions are shown, in stream order; subscriptions as given where they share one.

    Parameters
    ----------
    parts : the subscriptions, each with the indices of its rows, of which there are some.
    context : gives a strategy's view of a symbol.
    """
    signals, names = batch.signals, batch.symbols.names
    index = np.concatenate([index for _, index in parts])
    owner = np.repeat(np.arange(len(parts)), [len(index) for _, index in parts])
    if len(parts) > 1:
        order = np.argsort(index, kind="stable")
        index, owner = index[order], owner[order]
    symbol, at = signals.symbol[index], signals.at[index]
    pairs = (owner * len(names) + symbol).tolist()
    views = {pair: context(parts[pair // len(names)][0].name, names[pair % len(names)]) for pair in sorted(set(pairs))}
    return zip(
        _each([part for part, _ in parts], owner),
        _signals_of(batch, [part.instance.columns for part, _ in parts], index, owner),
        map(views.__getitem__, pairs) if len(views) > 1 else repeat(views[pairs[0]]),
        at.tolist(),
        batch.now[at - batch.start].tolist(),
        signals.close[index].tolist(),
        strict=False,  # `repeat` has no end
    )


def _signals_of(batch: Batch, columns: Sequence[tuple[str, ...]], index: IntArray, owner: IntArray) -> Iterator[Signal]:
    """The rows with these indices, each with the columns of its owner."""
    signals, names = batch.signals, batch.symbols.names
    kinds = dict.fromkeys(columns)
    kind = np.array([list(kinds).index(each) for each in columns])[owner] if len(kinds) > 1 else None
    made = []
    for number, each in enumerate(kinds):
        rows = index if kind is None else index[kind == number]
        values = [getattr(signals, column)[rows].tolist() for column in each]
        symbols, starts = _each(names, signals.symbol[rows]), signals.event_ts[rows].tolist()
        made.append(map(signal_type(each), symbols, starts, *values))
    return made[0] if kind is None else map(next, _each(made, kind))


def _each(values: Any, numbers: IntArray) -> Iterable[Any]:
    """The value of each number; without end where all are the same."""
    first = numbers.item(0)
    return repeat(values[first]) if (numbers == first).all() else map(values.__getitem__, numbers.tolist())


class Closing(Strategy):
    """Stands in for a strategy that is gone and whose positions are to be closed."""

    def __init__(self) -> None:
        super().__init__(None)

    def on_signal(self, signal: Signal, context: Context) -> Decision | None:  # noqa: ARG002 - every row will do
        """Close what is held and is not being closed yet."""
        return context.target(ZERO, because="its strategy is gone (on_remove: flatten)")


def _ignore(_signal: Signal, _context: Context) -> None:
    return None
