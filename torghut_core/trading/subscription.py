"""Which signal rows a strategy is shown, as what, and whether its answer counts.

A route is where a generation's strategy meets the stream. What has just come in does not trade at once: a strategy
that is not warm is shown its rows and its answers are dropped, and new code is on trial for its first rows, with the
old code at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import repeat
from typing import Any, TypeAlias

import msgspec
import numpy as np

from torghut_core.generation import StrategyInstance
from torghut_core.model.market import Batch, IntArray, Signal, signal_type
from torghut_core.model.trading import Decision
from torghut_core.ports import Context, Strategy

TRIAL_ROWS = 100
"""So many rows new code is on trial for."""

Ask: TypeAlias = Callable[[Signal, Context], Any]
Row: TypeAlias = "tuple[Subscription, Signal, Context, int, int, float]"
"""A signal row on its way to a strategy: with position, loop time and close."""


class StrategyTotals(msgspec.Struct):
    """What one strategy did so far, counted."""

    rows: int = 0
    """Signal rows that it was shown."""
    decisions: int = 0
    denied: int = 0
    shrunk: int = 0
    fills: int = 0
    failure: str = ""
    """Why it is quarantined: it is not asked then. "" while it trades."""


class Trial(msgspec.Struct):
    """The first rows of new code, and the route with the old code, as it was before them."""

    before: Subscription
    seen: list[tuple[Signal, Context, int, float]] = []


class Subscription:
    """One strategy of a generation at the stream.

    Parameters
    ----------
    instance : the strategy with its entry.
    number : the generation that its decisions carry.
    totals : where its doings are counted.

    Attributes
    ----------
    on_signal : what a row is handed to.
    is_running : whether rows are selected for it.
    is_closing : it only closes what its strategy held.
    left : rows that it has to see before its answers count, by symbol; warm symbols are not in it.
    """

    def __init__(self, instance: StrategyInstance, number: int = 0, totals: StrategyTotals | None = None) -> None:
        self.instance = instance
        self.name = instance.name
        self.number = number
        self.symbols = frozenset(instance.symbols)
        self.is_running = instance.enabled
        self.is_closing = isinstance(instance.strategy, Closing)
        self.totals = totals or StrategyTotals()
        self.left = dict.fromkeys(self.symbols, instance.warmup) if instance.warmup else {}
        self.minute = self.decided = 0
        """Decisions in this minute of the loop's time."""
        self.on_signal: Ask
        self._until: dict[str, int] = {}
        """By symbol, the `event_ts` of the last row that was shown beforehand."""
        self._trial: Trial | None = None
        self._row = signal_type(instance.columns)
        self._wanted = np.zeros(0, bool)
        self._settle()

    def succeed(self, before: Subscription, *, is_on_trial: bool = False) -> None:
        """Go on where the route of the generation before is: with the same strategy, or with new code on trial."""
        known = self.symbols & before.symbols
        self.left = {symbol: rows for symbol, rows in (self.left | before.left).items() if symbol in self.symbols}
        for symbol in known - before.left.keys():
            self.left.pop(symbol, None)
        self._until = dict(before._until)
        self.minute, self.decided = before.minute, before.decided
        before_trial, before._trial = before._trial, None
        self._trial = Trial(before) if is_on_trial else before_trial
        self._settle()

    def take(self, shown: Mapping[str, tuple[int, int]]) -> None:
        """So many rows of each symbol were shown beforehand, the last of them with this `event_ts`."""
        for symbol, (rows, event_ts) in shown.items():
            self.left[symbol] = self.left.get(symbol, 0) - rows
            self._until[symbol] = event_ts
        self.left = {symbol: rows for symbol, rows in self.left.items() if rows > 0}
        self._settle()

    def go_back(self) -> Any:
        """Leave new code that failed on trial: show the old code what it has missed, give its answer to the last row.

        Returns
        -------
        The answer; `NotImplemented` where nothing is on trial.
        """
        trial, self._trial = self._trial, None
        if trial is None:
            return NotImplemented
        old, new = trial.before.instance, self.instance
        self.instance = replace(
            new, strategy=old.strategy, plugin=old.plugin, columns=old.columns, warmup=old.warmup, digest=old.digest
        )
        self.number = trial.before.number
        self.left, self._until = trial.before.left, trial.before._until  # noqa: SLF001 - its own class
        if old.columns != new.columns:  # these rows lack what it reads: it goes on with the next batch
            self._row = signal_type(old.columns)
            self.on_signal = _nothing
            return None
        self._settle()
        answer = None
        for signal, context, now, price in trial.seen:
            context.event_ts, context.now, context.price = signal.event_ts, now, price
            answer = self.on_signal(signal, context)
        return answer

    def stop(self) -> None:
        """Ask the strategy nothing more, from this row on."""
        self.is_running = False
        self.on_signal = _nothing

    def close(self) -> None:
        """Only close what is held, from this row on."""
        self.is_closing = True
        self.on_signal = Closing().on_signal

    def teach(self, batch: Batch, context: Callable[[str, str], Context]) -> None:
        """Show a new strategy a batch that has gone by; nothing comes of it."""
        index = self.select(batch)
        for _, signal, view, _, now, close in self.stream(batch, index, context) if len(index) else ():
            view.event_ts, view.now, view.price = signal.event_ts, now, close
            self._learn(signal, view)

    def _settle(self) -> None:
        """Take the shortest way for the rows to come."""
        ask: Ask = self._learn if self.left or self._until else self.instance.strategy.on_signal
        self.on_signal = ask if self._trial is None else self._try

    def _learn(self, signal: Signal, context: Context) -> Any:
        """Show a row; the answer counts when the symbol is warm. Rows that were shown before are passed over."""
        symbol = signal.symbol
        if signal.event_ts <= self._until.get(symbol, -1):
            return None
        answer = self.instance.strategy.on_signal(signal, context)
        self._until.pop(symbol, None)
        left = self.left.pop(symbol, 0)
        if left > 1:
            self.left[symbol] = left - 1
        if not self.left and not self._until:
            self._settle()
        return None if left else answer

    def _try(self, signal: Signal, context: Context) -> Any:
        """Show a row to new code, and keep it for the old code."""
        trial = self._trial
        if trial is None or len(trial.seen) == TRIAL_ROWS:
            self._trial = None
            self._settle()
            return self.on_signal(signal, context)
        trial.seen.append((signal, context, context.now, context.price))
        ask = self._learn if self.left or self._until else self.instance.strategy.on_signal
        return ask(signal, context)

    def select(self, batch: Batch) -> IntArray:
        """Numbers of the rows at this timeframe, of these symbols, in which every column has a value."""
        if self.on_signal is _nothing:
            self._settle()
        signals = batch.signals
        names = batch.symbols.names
        if len(self._wanted) != len(names):
            self._wanted = np.fromiter((name in self.symbols for name in names), bool, len(names))
        mask = (signals.step == self.instance.step_ns) & self._wanted[signals.symbol]
        for column in self.instance.columns:
            values = getattr(signals, column)
            mask &= values == values
        return np.flatnonzero(mask)

    def stream(self, batch: Batch, index: IntArray, context: Callable[[str, str], Context]) -> Iterable[Row]:
        """These rows, each with the strategy's view of its symbol, the position, the loop's time and the close."""
        signals = batch.signals
        names = batch.symbols.names
        numbers = signals.symbol[index].tolist()
        contexts = {number: context(self.name, names[number]) for number in set(numbers)}
        only = next(iter(contexts)) if len(contexts) == 1 else None
        at = signals.at[index]
        rows = map(
            self._row,
            map(names.__getitem__, numbers) if only is None else repeat(names[only]),
            signals.event_ts[index].tolist(),
            *[getattr(signals, column)[index].tolist() for column in self.instance.columns],
        )
        return zip(
            repeat(self),
            rows,
            map(contexts.__getitem__, numbers) if only is None else repeat(contexts[only]),
            at.tolist(),
            batch.now[at - batch.start].tolist(),
            signals.close[index].tolist(),
            strict=False,  # `repeat` has no end
        )


def interleave(streams: list[Any], indices: list[IntArray]) -> Iterator[Any]:
    """Rows of several streams in order of their row number, streams in the order given where they share one."""
    iterators = [iter(stream) for stream in streams]
    rows = np.concatenate(indices)
    owner = np.repeat(np.arange(len(indices)), [len(index) for index in indices])
    for number in owner[np.argsort(rows, kind="stable")].tolist():
        yield next(iterators[number])


class Closing(Strategy):
    """What stands in for a strategy that is gone and whose positions are to be closed."""

    def __init__(self) -> None:
        super().__init__(None)

    def on_signal(self, signal: Signal, context: Context) -> Decision | None:  # noqa: ARG002 - every row will do
        """Close what is held, once nothing works any more."""
        return None if context.working else context.close(because="its strategy is gone (on_remove: flatten)")


def _nothing(_signal: Signal, _context: Context) -> None:
    return None
