"""Folds never show a choice what it is tested on, and are those of skfolio."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from support.effort import examples
from torghut_core.errors import InputError
from torghut_core.research.walk_forward.folds import combinatorial, joined_paths, parse_days, walk_forward

SIZES = st.integers(1, 20)
FEW = st.integers(0, 4)


@examples(400)
@given(days=st.integers(2, 120), train=SIZES, test=SIZES, purge=FEW)
def test_walking_forward_is_that_of_skfolio(days, train, test, purge):
    """Day by day the same, the shorter test at the end too."""
    from skfolio.model_selection import WalkForward

    assume(train + purge < days)
    folds = walk_forward(days, train, test, purge)
    theirs = list(
        WalkForward(test_size=test, train_size=train, purged_size=purge, reduce_test=True).split(np.zeros(days))
    )
    assert [fold.train.tolist() for fold in folds] == [chosen.tolist() for chosen, _ in theirs]
    assert [fold.tests[0].tolist() for fold in folds] == [tested.tolist() for _, tested in theirs]


@examples(400)
@given(size=st.integers(3, 15), over=FEW, parts=st.integers(3, 7), tested=st.integers(2, 6), purge=FEW, embargo=FEW)
def test_combinations_are_those_of_skfolio(size, over, parts, tested, purge, embargo):
    """The same days to choose on and to test on, in the same order, and the same paths of tests."""
    from skfolio.model_selection import CombinatorialPurgedCV

    assume(tested < parts and purge + embargo < size - 1 and over < parts)
    days = size * parts + over
    folds = combinatorial(days, parts, tested, purge, embargo)
    peer = CombinatorialPurgedCV(parts, tested, purge, embargo)
    theirs = list(peer.split(np.zeros(days)))
    assert [fold.train.tolist() for fold in folds] == [chosen.tolist() for chosen, _ in theirs]
    for fold, (_, tests) in zip(folds, theirs, strict=True):
        assert [days.tolist() for days in fold.tests] == [days.tolist() for days in tests]
    numbers = {(fold, place): path for path, steps in enumerate(joined_paths(folds)) for fold, place in steps}
    ids = peer.get_path_ids()
    assert numbers == {(fold, place): int(ids[fold, place]) for fold in range(len(folds)) for place in range(tested)}


@given(
    days=st.integers(30, 120), parts=st.integers(3, 6), tested=st.integers(1, 4), purge=FEW, embargo=FEW, train=SIZES
)
def test_nothing_is_chosen_on_near_what_is_tested(days, parts, tested, purge, embargo, train):
    """No day is in both; before a test the purge is left out, after it purge and embargo; walking forward, all that follows."""
    assume(tested < parts and purge + embargo < days // parts - 1)
    for fold in combinatorial(days, parts, tested, purge, embargo):
        for test in fold.tests:
            apart = fold.train[:, None] - test
            assert not ((apart >= -purge) & (apart <= 0)).any()
            ends = test[-1]
            is_last = not any(other[0] == ends + 1 for other in fold.tests)
            assert not (is_last and ((fold.train > ends) & (fold.train <= ends + purge + embargo)).any())
    for fold in walk_forward(days, train, 5, purge):
        assert fold.train.max() + purge < fold.tests[0].min()


@given(days=st.integers(12, 60), parts=st.integers(3, 6), tested=st.integers(1, 5))
def test_each_path_tests_every_day_once(days, parts, tested):
    """Whatever is tested together, a path has all days, in order of time."""
    assume(tested < parts)
    folds = combinatorial(days, parts, tested) if days // parts > 1 else []
    for path in joined_paths(folds):
        assert np.concatenate([folds[fold].tests[place] for fold, place in path]).tolist() == list(range(days))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: walk_forward(20, 20, 5), "20 days are too few to train on 20"),
        (lambda: walk_forward(20, 16, 5, 4), "20 days are too few to train on 16, leave out 4"),
        (lambda: walk_forward(20, 5, 0), "one day at the least"),
        (lambda: combinatorial(20, 3, 3), "fewer than N are tested"),
        (lambda: combinatorial(20, 5, 2, 1, 2), "20 days in 5 parts are 4 days each"),
        (lambda: combinatorial(1_000, 20, 10), "makes 184,756 folds"),
        (lambda: parse_days("180", "--train"), "--train 180: is not a number of trading days"),
    ],
)
def test_folds_that_cannot_be_made_say_why(make, message):
    """Too few days, or too much left out: the numbers, and what to change."""
    with pytest.raises(InputError, match=message):
        make()
