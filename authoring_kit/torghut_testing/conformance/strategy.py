"""The conformance suite of a strategy."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar

import msgspec
import numpy as np
import pytest

from torghut_core import SIGNAL_COLUMNS, Cancel, Deciding, Decision, Handler, Signal, Strategy
from torghut_testing.conformance.plugin import PluginConformance
from torghut_testing.generators import SYMBOLS, random_rows
from torghut_testing.plain import plain_copy
from torghut_testing.registration import indicators_beside
from torghut_testing.strategy_loop import Rehearsal, Row


class StrategyConformance(PluginConformance):
    """Checks of a strategy on random rows.

    Attributes
    ----------
    strategy : the class under test.
    params : its parameters where the defaults do not work.
    timeframe : of the bars that it is shown, one whose features are warm after some thousand of them.
    decides : whether it decides at least once on `rows`; False for one that waits for a rare event. Better override
        `rows`: the checks prove nothing about a strategy that never decides.

    Examples
    --------
    A whole test file::

        class TestMacdRsi(StrategyConformance):
            strategy = MacdRsi
    """

    strategy: ClassVar[type[Strategy]]
    timeframe: ClassVar[str] = "1Min"
    decides: ClassVar[bool] = True

    @property
    def subject(self) -> type[Strategy]:
        """The class under test."""
        return self.strategy

    def rows(self, seed: int) -> list[Row]:
        """The rows that the strategy is shown; override it where random noise leads to no decision."""
        return self._random(seed)

    def _random(self, seed: int, **market: Any) -> list[Row]:
        made = self.make()
        own = indicators_beside(self.strategy)
        return random_rows(
            made.columns, seed, timeframe=self.timeframe, features=made.features(), indicators=own, **market
        )

    def test_columns_exist(self) -> None:
        """The strategy asks for columns of ``ta_signals``, each once."""
        columns = self.strategy.columns
        assert isinstance(columns, tuple), f"`columns` is a {type(columns).__name__}: make it a tuple of column names"
        unknown = set(columns) - set(SIGNAL_COLUMNS)
        assert not unknown, f"not columns of ta_signals: {sorted(unknown)} (there are {', '.join(SIGNAL_COLUMNS)})"
        assert len(set(columns)) == len(columns), "a column is listed twice"

    def test_features_exist(self) -> None:
        """The features that it asks for can be computed, and are the same whenever it is asked.

        By indicators that are installed, in a folder of ``TORGHUT_PLUGIN_PATH``, or registered by its own module or package.
        """
        features = self.make().features()
        if features:
            from torghut_core.research import FeatureRows  # its compiler is slow to import

            own = indicators_beside(self.strategy)
            FeatureRows(features, SYMBOLS, self.timeframe, columns=self.strategy.columns, indicators=own)
        assert dict(self.make().features()) == dict(features), "`features` gives others when it is asked again"

    @pytest.mark.parametrize("seed", range(3))
    def test_decisions_are_sound(self, seed: int) -> None:
        """A decision has the row's symbol and time, positive quantity and prices, and a reason."""
        rehearsal = Rehearsal(self.make())
        decided = 0
        for rows in rehearsal.together(self.rows(seed)):
            shown = {row.signal.symbol for row in rows}
            for decision in rehearsal.show_together(rows):
                decided += 1
                if isinstance(decision, Cancel):
                    assert decision.because.strip(), "a cancel gives no reason (state `because`)"
                    continue
                assert isinstance(decision, Decision), (
                    f"it returned {decision!r}: return a `Decision`, a `Cancel`, a list of them or None"
                )
                assert decision.symbol in shown or len(shown) > 1, "the decision is not on the row's symbol"
                context = rehearsal.context(decision.symbol)
                is_of_fill = self.strategy.handles(Handler.ON_FILL)  # which comes before the row
                is_on_time = decision.event_ts == context.event_ts or is_of_fill
                assert is_on_time, "the decision is not on the row's time"
                assert decision.because.strip(), "the decision gives no reason (state `because`)"
                names = ("quantity", "limit_price", "stop_price", "trail_price", "trail_pct")
                amounts = {name: getattr(decision, name) for name in names}
                if decision.bracket is not None:
                    amounts |= decision.bracket.given
                    has_one_stop = decision.bracket.stop_loss is None or decision.bracket.trail is None
                    assert has_one_stop, "stop_loss and trail are two stops: give one of them"
                for name, value in amounts.items():
                    is_sound = value is None or (isinstance(value, Decimal) and value.is_finite() and value > 0)
                    assert is_sound, f"{name} is {value!r}: give a Decimal above 0"
        assert decided or not self.decides, "the strategy never decided (override `rows`, or state `decides = False`)"

    @pytest.mark.parametrize("price", [1e-6, 1.0, 1e7])
    @pytest.mark.parametrize("volatility", [0.0, 0.2])
    def test_extreme_markets_are_survived(self, price: float, volatility: float) -> None:
        """Prices that never move or jump, tiny or huge, raise nothing."""
        rows = self._random(0, count=200, price=price, volatility=volatility)
        Rehearsal(self.make()).run(rows)

    @pytest.mark.parametrize("seed", range(3))
    def test_same_rows_give_same_decisions(self, seed: int) -> None:
        """Decisions depend on parameters and rows alone: no clock, no chance, nothing shared between instances."""
        first, second = (Rehearsal(self.make()).run(self.rows(seed)) for _ in range(2))
        assert first == second, "two instances decide differently on the same rows (a clock, chance, or shared state?)"

    @pytest.mark.parametrize("seed", range(3))
    def test_saved_state_carries_on(self, seed: int) -> None:
        """A new instance that loads the saved state, at any row, decides as the old one would have."""
        rows = self.rows(seed)
        whole = Rehearsal(self.make()).run(rows)
        for cut in (1, len(rows) // 3, len(rows) // 2, len(rows) - 1):
            rehearsal = Rehearsal(self.make())
            cut = _between_slices(rehearsal, rows, cut)  # noqa: PLW2901
            decisions = rehearsal.run(rows[:cut])
            old = rehearsal.strategy
            rehearsal.strategy = self.make()
            rehearsal.strategy.load_state(plain_copy(old.save_state()), old.state_version)
            decisions += rehearsal.run(rows[cut:])
            assert decisions == whole, f"after a hand-over at row {cut} it decides differently: is all state saved?"

    @pytest.mark.parametrize("seed", range(3))
    def test_symbols_do_not_affect_each_other(self, seed: int) -> None:
        """The decisions on a symbol are the same when the strategy is shown no other symbol."""
        if self.strategy.handles(Handler.ON_SLICE):
            pytest.skip("a strategy with `on_slice` looks at all symbols")
        rows = self.rows(seed)
        together = Rehearsal(self.make()).run(rows)
        for symbol in {row.signal.symbol for row in rows}:
            alone = Rehearsal(self.make()).run(row for row in rows if row.signal.symbol == symbol)
            beside_others = [decision for decision in together if decision.symbol == symbol]
            assert alone == beside_others, f"decisions on {symbol} depend on other symbols: keep state for each symbol"

    @pytest.mark.parametrize("seed", range(3))
    def test_nothing_looks_ahead(self, seed: int) -> None:
        """The decisions are the same where each row comes in a batch of its own, behind which there is no later one."""
        rows = self.rows(seed)
        alone = [row._replace(signal=_alone(row.signal)) for row in rows]
        together = Rehearsal(self.make()).run(rows)
        assert Rehearsal(self.make()).run(alone) == together, (
            "it decides differently without later rows: it looks ahead"
        )

    @pytest.mark.parametrize("seed", range(3))
    def test_decide_agrees_with_on_signal(self, seed: int) -> None:
        """`decide` gives the same targets whichever rows come together, and where there is `on_signal` too, its decisions."""
        strategy = type(self.make())
        if strategy.decide is Strategy.decide:
            return
        rows = self.rows(seed)
        one_by_one = [decided(self.make(), [row])[0] for row in rows]
        together = decided(self.make(), rows)
        assert together == one_by_one, "`decide` gives a row another target when other rows come with it"
        if strategy.on_signal is not Strategy.on_signal:
            without = type(strategy.__name__, (strategy,), {"decide": Strategy.decide})
            by_row = Rehearsal(without(self.make().params)).run(rows)
            assert Rehearsal(self.make()).run(rows) == by_row, "`decide` and `on_signal` decide differently"


def decided(strategy: Strategy, rows: list[Row]) -> list[tuple[str, str, dict[str, float]]]:
    """What `decide` says to rows that come together: target and reason of each, as text, and what protects it."""
    deciding = Deciding("", strategy)
    targets = deciding.decide_on([row.signal for row in rows])
    return [
        (repr(units), targets.reason(place), targets.protection(place))
        for place, units in enumerate(targets.units.tolist())
    ]


def _alone(signal: Signal) -> Signal:
    """The row in a table that has no other."""
    if signal.bars is None:
        return signal
    return msgspec.structs.replace(signal, bars=signal.bars.take(np.array([signal.row])), row=0)


def _between_slices(rehearsal: Rehearsal, rows: list[Row], cut: int) -> int:
    """The first place, from `cut` on, at which no slice is cut in two."""
    place = 0
    for together in rehearsal.together(rows):
        if place >= cut:
            break
        place += len(together)
    return place
