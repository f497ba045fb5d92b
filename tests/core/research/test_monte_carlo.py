"""What a run could as well have come to is drawn from its own round trips."""

import math

import numpy as np
import pytest

from torghut_core.research.belief.monte_carlo import MonteCarlo


def test_the_order_of_equal_losses_changes_nothing():
    """Ten losses of one percent of the cash are a drawdown of ten, whatever their order, and every draw of them loses."""
    found = MonteCarlo.of(np.full(10, -10.0), np.full(10, 1.0), 1_000.0)
    assert found.drawdown_median_pct == pytest.approx(-10)
    assert found.drawdown_bad_pct == pytest.approx(-10)
    assert found.loss_probability == 1
    assert found.total_low < found.total_high < -99
    assert "in 100%" in found.sentence


def test_a_bad_order_is_deeper_than_the_middle_one():
    """Gains and losses in turn: most orders put losses together."""
    found = MonteCarlo.of(np.tile([20.0, -15.0], 50), np.full(100, 1.0), 1_000.0)
    assert found.drawdown_bad_pct < found.drawdown_median_pct < -1.5
    assert found.break_even_costs == pytest.approx(3.5)
    assert "3.5 times the fees leave no profit" in found.sentence
    assert found == MonteCarlo.of(np.tile([20.0, -15.0], 50), np.full(100, 1.0), 1_000.0)


def test_without_round_trips_or_fees_nothing_is_made_up():
    """No sentence without round trips; no fees are said to be none; JSON has no infinite number."""
    nothing = MonteCarlo.of(np.empty(0), np.empty(0), 1_000.0)
    assert nothing.sentence == ""
    assert set(nothing.to_json().values()) == {0, None}
    free = MonteCarlo.of(np.array([1.0, 2.0]), np.zeros(2), 1_000.0)
    assert math.isinf(free.break_even_costs)
    assert free.to_json()["break_even_costs"] is None
    assert "without fees, as here" in free.sentence
