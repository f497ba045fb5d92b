"""How much of a Sharpe ratio is luck: the papers' own examples, and what noise and an edge look like."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.effort import many
from torghut_core.research.belief.overfitting import (
    TrackRecord,
    deflated_sharpe,
    expected_best_sharpe,
    measure_overfitting,
    minimum_track_record,
    probabilistic_sharpe,
)


def noise(seed, times=500, trials=30, edge=0.0):
    """Daily returns of strategies without an edge; the first has one of `edge` standard deviations a day."""
    returns = np.random.default_rng(seed).normal(0, 0.01, (times, trials))
    returns[:, 0] += 0.01 * edge
    return returns


@pytest.mark.parametrize(
    ("skew", "kurtosis", "expected"), [(-2.448, 10.164, 0.913), (0, 3, 0.982)], ids=["as it was", "if it were normal"]
)
def test_the_probabilistic_sharpe_ratio_of_the_papers_fund(skew, kurtosis, expected):
    """Two years of months (Bailey and Lopez de Prado 2012, section 4): a Sharpe ratio of 1.59 a year, with a crash in it."""
    assert probabilistic_sharpe(TrackRecord(24, 0.458, skew, kurtosis)) == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize(
    ("periods", "skew", "kurtosis", "years"),
    [(252, 0, 3, 2.73), (52, 0, 3, 2.83), (12, 0, 3, 3.24), (12, -0.72, 5.78, 4.99)],
)
def test_the_minimum_track_record_of_the_paper(periods, skew, kurtosis, years):
    """A Sharpe ratio of 2 a year is above 1 with 95 % after so many years (Bailey and Lopez de Prado 2012, section 5)."""
    record = TrackRecord(0, 2 / math.sqrt(periods), skew, kurtosis)
    assert minimum_track_record(record, 1 / math.sqrt(periods)) / periods == pytest.approx(years, abs=0.005)


@pytest.mark.parametrize(
    ("trials", "skew", "kurtosis", "best", "expected"),
    [(100, -3, 10, 0.1132, 0.9004), (46, -3, 10, 0.1004, 0.9505), (88, 0, 3, 0.1111, 0.9505)],
)
def test_the_deflated_sharpe_ratio_of_the_paper(trials, skew, kurtosis, best, expected):
    """Five years of days at 2.5 a year, the best of so many (Bailey and Lopez de Prado 2014, "A numerical example")."""
    variance = 0.5 / 250
    assert expected_best_sharpe(trials, variance) == pytest.approx(best, abs=5e-5)
    record = TrackRecord(1250, 2.5 / math.sqrt(250), skew, kurtosis)
    assert deflated_sharpe(record, trials, variance) == pytest.approx(expected, abs=5e-5)


def test_a_record_is_measured_as_the_formulas_say():
    """Skewness and kurtosis are the central moments over powers of the standard deviation."""
    record = TrackRecord.of(np.array([1.0, 2.0, 3.0, 10.0]))
    assert record == pytest.approx((4, 4 / math.sqrt(50 / 3), 180 / 4 / 12.5**1.5, 1394 / 4 / 12.5**2))


@pytest.mark.parametrize("returns", [[], [0.1], [0.0, 0.0, 0.0], [0.01] * 50])
def test_returns_that_do_not_vary_say_nothing(returns):
    """No returns, one, or all the same: no Sharpe ratio, and no division by zero."""
    record = TrackRecord.of(np.array(returns))
    assert record.sharpe == 0.0
    chance = probabilistic_sharpe(record)
    assert math.isnan(chance) if len(returns) < 2 else chance == 0.5


def test_one_trial_is_not_deflated():
    """Where nothing was chosen, the deflated Sharpe ratio is the probabilistic one."""
    record = TrackRecord(500, 0.1)
    assert deflated_sharpe(record, 1, 0.01) == probabilistic_sharpe(record)
    assert minimum_track_record(TrackRecord(500, -0.1)) == math.inf


@given(st.integers(2, 10_000), st.integers(2, 10_000), st.floats(1e-6, 0.1))
def test_more_trials_deflate_more(one, other, variance):
    """The more was tried, the better the best has to be."""
    few, many_trials = sorted((one, other))
    assert expected_best_sharpe(few, variance) <= expected_best_sharpe(many_trials, variance)


def test_noise_has_any_probability_and_an_edge_a_high_one():
    """Of strategies without an edge the probabilistic Sharpe ratio is spread evenly, and the best of 50 rarely convinces."""
    count = many(2_000, quick=300)
    chances = np.sort([probabilistic_sharpe(TrackRecord.of(noise(seed, 250, 1)[:, 0])) for seed in range(count)])
    assert np.abs(chances - (np.arange(count) + 0.5) / count).max() < 1.95 / math.sqrt(
        count
    )  # Kolmogorov: one in 1,000

    def of_the_best(seed, edge):
        returns = noise(seed, 500, 50, edge)
        records = [TrackRecord.of(column) for column in returns.T]
        best = max(records, key=lambda record: record.sharpe)
        return deflated_sharpe(best, 50, float(np.var([record.sharpe for record in records], ddof=1)))

    few = many(400, quick=60)
    assert np.mean([of_the_best(seed, 0.0) > 0.95 for seed in range(few)]) < 0.1
    assert np.mean([of_the_best(seed, 0.35) > 0.95 for seed in range(few)]) > 0.9


def test_noise_is_overfitted_every_second_time_and_an_edge_never():
    """Without an edge the best of one half is above or below the median of the other as a coin falls; with one it stays."""
    count = many(200, quick=40)
    of_noise = [measure_overfitting(noise(seed), 8).probability for seed in range(count)]
    assert np.mean(of_noise) == pytest.approx(0.5, abs=0.12 if count < 100 else 0.06)
    assert max(measure_overfitting(noise(seed, edge=0.3), 8).probability for seed in range(10)) < 0.05


def test_trials_of_one_and_the_same_sharpe_ratio_are_all_overfit():
    """The paper's first test: every trial has the same Sharpe ratio in all, so what is best in one half is worst in the other."""
    returns = noise(7, 1000, 100)
    level = (returns - returns.mean(axis=0)) / returns.std(axis=0)
    found = measure_overfitting(level, 8)
    assert found.probability == 1.0
    assert found.loss_probability == 1.0
    assert found.slope == pytest.approx(-1.0, abs=0.1)


@given(st.integers(0, 2**32), st.integers(2, 7), st.sampled_from([2, 4, 6]), st.integers(12, 40))
def test_it_is_what_the_paper_says_step_by_step(seed, trials, blocks, times):
    """Every way to halve the blocks, the best of one half, its rank in the other: as loops over plain arrays give them."""
    returns = noise(seed, times, trials) + 0.002
    parts = np.array_split(np.arange(times), np.linspace(0, times, blocks + 1).astype(int)[1:-1])
    lower, losses = 0, 0
    for chosen in combinations(range(blocks), blocks // 2):
        inside = np.concatenate([parts[block] for block in chosen])
        outside = np.concatenate([parts[block] for block in range(blocks) if block not in chosen])
        own, other = (returns[rows].mean(axis=0) / returns[rows].std(axis=0) for rows in (inside, outside))
        best = own.argmax()
        rank = 1 + (other < other[best]).sum()
        lower += math.log(rank / (trials + 1 - rank)) <= 0
        losses += other[best] < 0
    ways = math.comb(blocks, blocks // 2)
    found = measure_overfitting(returns, blocks)
    assert (found.probability, found.loss_probability) == (lower / ways, losses / ways)


@given(st.integers(0, 2**32), st.permutations(range(6)))
def test_the_order_of_the_trials_changes_nothing(seed, order):
    """Also where some never traded and are equally good."""
    returns = noise(seed, 60, 6)
    returns[:, :3] = 0.0
    assert measure_overfitting(returns, 6) == pytest.approx(
        measure_overfitting(returns[:, list(order)], 6), nan_ok=True
    )


@pytest.mark.parametrize("shape", [(0, 5), (3, 5), (100, 0), (100, 1)])
def test_nothing_is_said_of_too_little(shape):
    """Without two halves or two trials there is no choice that could be wrong."""
    assert math.isnan(measure_overfitting(np.zeros(shape)).probability)


def test_trials_that_never_trade_are_no_evidence():
    """Whether trials without any return can be told apart is not a matter of rounding: the choice is worth nothing."""
    assert measure_overfitting(np.zeros((100, 4))).probability == 1.0
