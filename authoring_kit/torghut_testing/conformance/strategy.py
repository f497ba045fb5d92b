"""What every strategy promises."""

from __future__ import annotations

from decimal import Decimal
from typing import ClassVar

import pytest

from torghut_core import SIGNAL_COLUMNS, Decision, Strategy
from torghut_testing.conformance.plugin import PluginConformance
from torghut_testing.generators import random_rows
from torghut_testing.plain import plain_copy
from torghut_testing.strategy_loop import Rehearsal, Row


class StrategyConformance(PluginConformance):
    """Checks of a strategy on random rows.

    Attributes
    ----------
    strategy : the class under test.
    params : its parameters, where the defaults will not do.
    decides : whether it decides at least once on `rows`; False for one that waits for something rare. Better is to
        override `rows`: the checks say nothing about a strategy that never decides.

    Examples
    --------
    A whole test file::

        class TestMacdRsi(StrategyConformance):
            strategy = MacdRsi
    """

    strategy: ClassVar[type[Strategy]]
    decides: ClassVar[bool] = True

    @property
    def subject(self) -> type[Strategy]:
        """The class under test."""
        return self.strategy

    def rows(self, seed: int) -> list[Row]:
        """What the strategy is shown; override it where noise does not move it."""
        return random_rows(self.strategy.columns, seed)

    def test_columns_exist(self) -> None:
        """The strategy asks for columns of ``ta_signals``, each once."""
        columns = self.strategy.columns
        assert isinstance(columns, tuple)
        assert not set(columns) - set(SIGNAL_COLUMNS)
        assert len(set(columns)) == len(columns)

    @pytest.mark.parametrize("seed", range(3))
    def test_decisions_are_sound(self, seed: int) -> None:
        """A decision is on the row's symbol and time, for a positive number of units, and says why."""
        rehearsal = Rehearsal(self.make())
        decided = 0
        for row in self.rows(seed):
            decision = rehearsal.show(row)
            if decision is None:
                continue
            decided += 1
            assert isinstance(decision, Decision)
            assert (decision.symbol, decision.event_ts) == (row.signal.symbol, row.signal.event_ts)
            assert decision.because.strip(), "a decision says why"
            prices = decision.limit_price, decision.stop_price, decision.trail_price, decision.trail_pct
            for number in (decision.quantity, *prices):
                assert number is None or (isinstance(number, Decimal) and number.is_finite() and number > 0)
        assert decided or not self.decides, "it never decided: override `rows`, or state `decides = False`"

    @pytest.mark.parametrize("price", [1e-6, 1.0, 1e7])
    @pytest.mark.parametrize("volatility", [0.0, 0.2])
    def test_extreme_markets_are_survived(self, price: float, volatility: float) -> None:
        """Prices that stand still or jump, tiny or huge, raise nothing."""
        rows = random_rows(self.strategy.columns, seed=0, count=200, price=price, volatility=volatility)
        Rehearsal(self.make()).run(rows)

    @pytest.mark.parametrize("seed", range(3))
    def test_same_rows_give_same_decisions(self, seed: int) -> None:
        """Nothing but parameters and rows decides: no clock, no chance, nothing left from another instance."""
        first, second = (Rehearsal(self.make()).run(self.rows(seed)) for _ in range(2))
        assert first == second

    @pytest.mark.parametrize("seed", range(3))
    def test_saved_state_carries_on(self, seed: int) -> None:
        """Handing over to a new instance, at any row, changes no decision."""
        rows = self.rows(seed)
        whole = Rehearsal(self.make()).run(rows)
        for cut in (1, len(rows) // 3, len(rows) // 2, len(rows) - 1):
            rehearsal = Rehearsal(self.make())
            decisions = rehearsal.run(rows[:cut])
            old = rehearsal.strategy
            rehearsal.strategy = self.make()
            rehearsal.strategy.load_state(plain_copy(old.save_state()), old.state_version)
            assert decisions + rehearsal.run(rows[cut:]) == whole

    @pytest.mark.parametrize("seed", range(3))
    def test_symbols_do_not_affect_each_other(self, seed: int) -> None:
        """What is decided on a symbol is the same when the strategy sees no other."""
        rows = self.rows(seed)
        together = Rehearsal(self.make()).run(rows)
        for symbol in {row.signal.symbol for row in rows}:
            alone = Rehearsal(self.make()).run(row for row in rows if row.signal.symbol == symbol)
            assert alone == [decision for decision in together if decision.symbol == symbol]
