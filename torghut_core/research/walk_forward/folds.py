"""Which days to choose on, and which to test on: walking forward, or in every combination.

Days are numbered from 0, oldest first. They are the same folds as those of `WalkForward` and `CombinatorialPurgedCV` of
skfolio, which tests compare with.

References
----------
Lopez de Prado, M.: "Advances in Financial Machine Learning", Wiley 2018, chapters 7 (purge, embargo) and 12 (combinations).
"""

from __future__ import annotations

import math
import re
from itertools import combinations
from typing import NamedTuple

import numpy as np

from torghut_core.errors import InputError
from torghut_core.model.market import IntArray

MOST_FOLDS = 5_000
"""Combinations at most: more are a mistake."""


class Fold(NamedTuple):
    """Days to choose parameters on, and days to test them on.

    Attributes
    ----------
    train : numbers of days, rising.
    tests : of each test part, in order of time.
    """

    train: IntArray
    tests: tuple[IntArray, ...]


def walk_forward(days: int, train: int, test: int, purge: int = 0) -> list[Fold]:
    """Choose on `train` days, test on the `test` days that follow, move on by these; the last test may be shorter.

    Parameters
    ----------
    days : how many there are.
    purge : days between what is chosen on and what is tested on.

    Raises
    ------
    InputError : the days are too few for one fold.

    Examples
    --------
    >>> [(fold.train.tolist(), fold.tests[0].tolist()) for fold in walk_forward(7, train=2, test=2, purge=1)]
    [([0, 1], [3, 4]), ([2, 3], [5, 6])]
    """
    if min(train, test) < 1:
        raise InputError("train and test are one day at the least")
    if days <= train + purge:
        between = f", leave out {purge}" if purge else ""
        raise InputError(
            f"{days} days are too few to train on {train}{between} and test on one (give a shorter --train)"
        )
    return [
        Fold(np.arange(start - purge - train, start - purge), (np.arange(start, min(start + test, days)),))
        for start in range(train + purge, days, test)
    ]


def combinatorial(days: int, parts: int, tested: int, purge: int = 0, embargo: int = 0) -> list[Fold]:
    """Cut the days in `parts`; test on `tested` of them, in every combination, and choose on the others.

    Parameters
    ----------
    days : how many there are; the last part has what is left over.
    purge : days on each side of a test part that are not chosen on.
    embargo : further days after a test part that are not chosen on, for what was held or computed in it lasts.

    Raises
    ------
    InputError : numbers that make no folds, or leave nothing to choose on.

    Examples
    --------
    >>> [fold.train.tolist() for fold in combinatorial(12, parts=3, tested=2, embargo=1)]
    [[9, 10, 11], [5, 6, 7], [0, 1, 2, 3]]
    """
    if not 1 <= tested < parts:
        raise InputError(
            f"combinatorial {parts},{tested}: of N parts at least one and fewer than N are tested (as in 6,2)"
        )
    if math.comb(parts, tested) > MOST_FOLDS:
        ways = math.comb(parts, tested)
        raise InputError(
            f"combinatorial {parts},{tested} makes {ways:,} folds (at most {MOST_FOLDS:,}: take fewer parts)"
        )
    size = days // parts
    if purge + embargo >= size - 1:
        raise InputError(
            f"{days} days in {parts} parts are {size} days each: too few for a purge of {purge} and an embargo of {embargo}"
        )
    part_of = np.minimum(np.arange(days) // size, parts - 1)
    folds = []
    for chosen in combinations(range(parts), tested):
        is_test = np.isin(part_of, chosen)
        is_train = ~is_test
        edges = np.diff(is_test.astype(np.int8))
        for begins in np.flatnonzero(edges == 1) + 1:
            is_train[max(begins - purge, 0) : begins] = False
        for ends in np.flatnonzero(edges == -1) + 1:
            is_train[ends : ends + purge + embargo] = False
        folds.append(Fold(np.flatnonzero(is_train), tuple(np.flatnonzero(part_of == part) for part in chosen)))
    return folds


def joined_paths(folds: list[Fold]) -> list[list[tuple[int, int]]]:
    """Put tests together to paths that have each day once, in order of time: of each test, its fold and its number there.

    Folds of a walk forward make one path; combinations as many as each part is tested in.

    Examples
    --------
    >>> joined_paths(combinatorial(12, parts=3, tested=2))
    [[(0, 0), (0, 1), (1, 1)], [(1, 0), (2, 0), (2, 1)]]
    """
    by_start: dict[int, list[tuple[int, int]]] = {}
    for number, fold in enumerate(folds):
        for place, days in enumerate(fold.tests):
            by_start.setdefault(int(days[0]), []).append((number, place))
    return [list(path) for path in zip(*(by_start[start] for start in sorted(by_start)), strict=True)]


def parse_days(text: str, option: str) -> int:
    """Read ``180d``: a number of days.

    Raises
    ------
    InputError : it is none.

    Examples
    --------
    >>> parse_days("180d", "--train")
    180
    """
    match = re.fullmatch(r"(\d+)d", text.strip(), re.ASCII)
    if match is None:
        raise InputError(f"{option} {text}: is not a number of trading days (as in 30d)")
    return int(match[1])
