"""How hard a test looks: `make test` tries a part of what `make proof` tries.

``TEST_EFFORT`` is ``quick`` (where it is not set), ``ci`` (a third of a proof: what each push is tried with), ``proof``, or
``hunt``, which looks for examples that nobody has seen, ten times as many as a proof. All others try the same examples on every run, so that a change is judged by what it
does.
"""

import itertools
import os
from collections.abc import Collection
from typing import Any

import pytest
from hypothesis import settings

EFFORTS = {"quick": 0.06, "ci": 0.33, "proof": 1.0, "hunt": 10.0}
EFFORT = os.environ.get("TEST_EFFORT", "quick")
IS_PROOF = EFFORT != "quick"


def many(of_proof: int, quick: int | None = None) -> int:
    """How many of what a proof tries `of_proof` times are tried now; one in sixteen where a quick run is not told otherwise."""
    if EFFORT == "quick" and quick is not None:
        return quick
    return max(1, round(of_proof * EFFORTS[EFFORT]))


def examples(of_proof: int, quick: int | None = None, **others: Any) -> settings:
    """As hypothesis' ``settings(max_examples=of_proof)``, scaled by the effort."""
    return settings(max_examples=many(of_proof, quick), **others)


def combined(longest: Collection[Any], longer: Collection[Any], short: Collection[Any]) -> list[Any]:
    """Parameters of a test, of three axes: a quick run has each pair of values of two of them, a proof all triples."""
    assert len(short) <= len(longer) <= len(longest)
    quick = {(one, two, (one + two) % len(short)) for one in range(len(longest)) for two in range(len(longer))}
    axes = tuple(longest), tuple(longer), tuple(short)
    every = itertools.product(*(range(len(axis)) for axis in axes))
    return [
        pytest.param(
            *(axis[n] for axis, n in zip(axes, each, strict=True)), marks=() if each in quick else pytest.mark.proof
        )
        for each in (every if IS_PROOF else sorted(quick))
    ]
