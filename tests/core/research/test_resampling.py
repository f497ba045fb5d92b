"""What a result could as well have been: draws are right on the whole, the same for the same seed, and quick."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from torghut_core.research.belief.resampling import (
    break_even_costs,
    interval,
    resampled_means,
    resampled_sharpes,
    shuffled_drawdowns,
    totals_at_costs,
)

RNG = np.random.default_rng(3)
PROFITS = RNG.normal(2, 20, 400)
COSTS = RNG.uniform(0.5, 1.5, 400)


def test_the_interval_of_the_mean_is_that_of_the_central_limit():
    """Of many trades, 95 % of the means lie within 1.96 standard errors."""
    low, high = interval(resampled_means(PROFITS, resamples=4_000))
    error = PROFITS.std() / np.sqrt(len(PROFITS))
    assert (low, high) == pytest.approx(
        (PROFITS.mean() - 1.96 * error, PROFITS.mean() + 1.96 * error), abs=0.15 * error
    )


def test_the_interval_of_a_sharpe_ratio_is_that_of_independent_returns():
    """Where returns do not depend on each other, blocks change nothing: the standard error is that of theory."""
    returns = np.random.default_rng(5).normal(0.0005, 0.01, 1_000)
    drawn = resampled_sharpes(returns, resamples=2_000)
    assert drawn.std() == pytest.approx(1 / np.sqrt(1_000), rel=0.12)
    assert drawn.mean() == pytest.approx(returns.mean() / returns.std(), abs=0.005)


def test_blocks_keep_what_hangs_together():
    """Where a day is like the one before, the Sharpe ratio is known less well than single days would make believe."""
    shocks = np.random.default_rng(5).normal(0, 0.01, 1_000)
    returns = np.convolve(shocks, np.ones(10), "valid")
    single, blocks = (resampled_sharpes(returns, block=block).std() for block in (1, 40))
    assert blocks > 2 * single


def test_a_shuffled_drawdown_is_that_of_plain_arithmetic():
    """Two trades have two orders, and each its own drawdown."""
    drawn = shuffled_drawdowns(np.array([50.0, -30.0]), 100.0, resamples=50)
    assert set(np.round(drawn, 12)) == {-0.2, -0.3}


def test_dearer_costs_leave_less():
    """Costs between one and two times of what was paid cost half as much again on average."""
    drawn = totals_at_costs(PROFITS, COSTS, resamples=4_000)
    assert drawn.mean() == pytest.approx(PROFITS.sum() - 0.5 * COSTS.sum(), abs=40)
    assert totals_at_costs(PROFITS, COSTS, (1, 1)).mean() == pytest.approx(PROFITS.sum(), abs=40)


def test_costs_that_leave_nothing():
    """At so many times the costs the profit is gone."""
    times = break_even_costs(PROFITS, COSTS)
    assert PROFITS.sum() - (times - 1) * COSTS.sum() == pytest.approx(0, abs=1e-9)
    assert break_even_costs(PROFITS, 0 * COSTS) == np.inf


DRAWS = [
    lambda values, seed: resampled_means(values, seed=seed, resamples=20),
    lambda values, seed: resampled_sharpes(values, seed=seed, resamples=20),
    lambda values, seed: shuffled_drawdowns(values, 1e6, seed=seed, resamples=20),
    lambda values, seed: totals_at_costs(values, np.abs(values), seed=seed, resamples=20),
]


@pytest.mark.parametrize("draw", DRAWS)
@given(values=st.lists(st.floats(-1e3, 1e3), max_size=30), seed=st.integers(0, 100))
def test_the_same_seed_gives_the_same_draws(draw, values, seed):
    """A report can be made again, and of no trades nothing is drawn."""
    drawn = draw(np.array(values), seed)
    assert len(drawn) == (20 if values else 0)
    assert np.isfinite(drawn).all()
    assert drawn.tolist() == draw(np.array(values), seed).tolist()


def test_the_interval_of_nothing_is_unknown():
    """No trades, no interval."""
    assert np.isnan(interval(np.empty(0))).all()


def test_ten_thousand_trades_are_drawn_in_parts():
    """Memory stays flat however many are drawn: parts of a run are what a run in one piece gives."""
    profits = np.random.default_rng(1).normal(1, 10, 10_000)
    assert len(resampled_means(profits)) == 1_000
    assert interval(resampled_means(profits))[0] > 0
