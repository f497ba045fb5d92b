"""Whether a result can be told from luck: the answer is cautious, and says why."""

import numpy as np
import pytest

from support.docs import DOCS, code_of
from support.effort import many
from torghut_core.research.belief.judge import Answer, judge
from torghut_core.research.belief.overfitting import Overfitting


def returns(seed=0, days=504, edge=0.0):
    """Daily returns of one percent a day, with an edge of so many standard deviations a day."""
    drawn = np.random.default_rng(seed).normal(0, 0.01, days)
    return drawn - drawn.mean() + 0.01 * edge


def profits(seed=0, trades=200, mean=5.0):
    """Profits of round trips, of a mean that is exact."""
    drawn = np.random.default_rng(seed).normal(0, 20, trades)
    return drawn - drawn.mean() + mean


def test_an_edge_over_two_years_is_believed():
    """A Sharpe ratio of 3 over two years, chosen from ten, can hardly be luck; which of ten good ones it is does not matter."""
    found = judge(returns(edge=0.19), profits(), 252, trials=10, overfitting=Overfitting(0.28, 0.0))
    assert found.answer is Answer.YES
    assert found.sentence.startswith("Distinguishable from luck: a Sharpe ratio of 2.97 a year, 1.72 to 4.22")
    assert found.sentence.endswith("(200 round trips in 504 days, 10 trials).")
    assert found.deflated_sharpe > 0.95
    assert found.needed_days < 504


@pytest.mark.parametrize(
    ("kwargs", "edge", "mean", "because"),
    [
        ({"trials": 1_000}, 0.1, 5.0, "the best of 1,000 without an edge is expected to have 2."),
        ({}, 0.02, 5.0, "and 0.95 is wanted, which takes"),
        ({}, 0.19, 0.1, "trades like these earn from -"),
        ({"overfitting": Overfitting(0.43, 0.38)}, 0.19, 5.0, "in 43% of the cases, and lost there in 38%"),
        ({}, -0.05, -5.0, "it did not earn anything"),
    ],
)
def test_each_doubt_is_enough(kwargs, edge, mean, because):
    """Too many trials, too weak, trades that may as well lose, a choice that does not last, a loss."""
    found = judge(returns(edge=edge), profits(mean=mean), 252, **kwargs)
    assert found.answer is Answer.NO
    assert because in found.sentence


@pytest.mark.parametrize(("days", "trades"), [(0, 0), (1, 1), (59, 200), (504, 29)])
def test_too_little_is_no_evidence(days, trades):
    """Few trades or few days say nothing, however good they are."""
    found = judge(returns(days=days, edge=0.5) if days else np.empty(0), np.full(trades, 5.0), 252)
    assert found.answer is Answer.UNKNOWN
    assert "it takes 30 round trips and 60 days" in found.sentence


def test_noise_is_hardly_ever_believed():
    """Of results without an edge, the best of twenty each, few are taken for one."""

    def chosen(seed):
        drawn = np.random.default_rng(seed).normal(0, 0.01, (500, 20))
        sharpes = drawn.mean(axis=0) / drawn.std(axis=0)
        best = drawn[:, sharpes.argmax()]
        return judge(best, 1_000 * best, 252, trials=20, variance=float(sharpes.var(ddof=1)))

    count = many(400, quick=40)
    assert sum(chosen(seed).answer is Answer.YES for seed in range(count)) <= 0.1 * count


def test_the_numbers_can_be_made_again():
    """The same result gives the same sentence, and every number is there by name."""
    first, again = (judge(returns(edge=0.1), profits(), 365, seed=3) for _ in range(2))
    assert first == again
    assert first.to_json()["sentence"] == first.sentence
    lost = judge(returns(edge=-0.1), profits(), 365).to_json()
    assert (lost["needed_days"], lost["overfitting"]) == (None, None)


def test_the_example_of_the_page_runs(capsys):
    """It is luck, and the page's program says so."""
    (code,) = code_of(DOCS / "belief.md", "python")
    exec(compile(code, "belief.md", "exec"), {})
    assert capsys.readouterr().out.startswith("Not distinguishable from luck: ")
