"""Sliding windows: mean and variance against exact rational arithmetic, after prices of any size went by."""

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from torghut_sources.stages.window import (
    expire,
    last_for_mean,
    last_pairs,
    last_seconds,
    last_values,
    mean_of_values,
    moments,
    moments_of_pairs,
    moments_of_values,
    push,
    push_for_mean,
    push_pair,
    push_value,
    room,
)

from support.effort import examples

EPSILON = np.finfo(float).eps
VALUES = st.floats(-1e9, 1e9, allow_nan=False).map(lambda x: round(x, 3)) | st.sampled_from(
    [0.0, 0.06, 1640.25, 1e8, 1e8 + 1]
)


def exact(values, weights):
    """Mean and population variance, as fractions."""
    pairs = [(Fraction(value), Fraction(weight)) for value, weight in zip(values, weights, strict=True)]
    total = sum(weight for _, weight in pairs)
    mean = sum(value * weight for value, weight in pairs) / total
    return mean, sum(weight * (value - mean) ** 2 for value, weight in pairs) / total


def assert_close(got, values, weights):
    mean, variance = exact(values, weights)
    n, size = len(values), max(abs(value) for value in values)
    assert abs(Fraction(got[0]) - mean) <= 4 * n * EPSILON * size
    assert abs(Fraction(got[1]) - variance) <= 8 * n * n * EPSILON * variance


@given(st.lists(VALUES, min_size=1, max_size=40), st.integers(1, 6))
@examples(150)
def test_last_values_have_exact_moments(values, span):
    """A window of n values is off by n roundings of its own values, whatever was in it before."""
    window = np.zeros(1, last_values(room(span)))[0]
    for n, value in enumerate(values, 1):
        push_value(window, value, span)
        assert bool(window["is_full"]) is (n >= span)
        if n >= span:
            assert_close(moments_of_values(window, span), values[n - span : n], [1.0] * span)


@given(st.lists(VALUES, min_size=1, max_size=40), st.integers(1, 6))
@examples(50)
def test_the_mean_alone_is_the_same_to_the_bit(values, span):
    """A window that only the mean is asked of gives the mean of the one that knows the variance too."""
    window, alone = np.zeros(1, last_values(room(span)))[0], np.zeros(1, last_for_mean(room(span)))[0]
    for value in values:
        push_value(window, value, span)
        push_for_mean(alone, value, span)
        assert bool(alone["is_full"]) is bool(window["is_full"])
        if window["is_full"]:
            assert mean_of_values(alone, span) == moments_of_values(window, span)[0]


@given(st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=40), st.integers(1, 6))
@examples(150)
def test_last_pairs_have_exact_moments(pairs, span):
    """The same for pairs: means, variances, and the covariance, as a share of both variances."""
    window = np.zeros(1, last_pairs(span))[0]
    for n, pair in enumerate(pairs, 1):
        push_pair(window, *pair, span)
        assert bool(window["is_full"]) is (n >= span)
        if n < span:
            continue
        held = list(zip(*pairs[n - span : n], strict=True))
        x, y, first, second, common = moments_of_pairs(window, span)
        for got, values in zip(((x, first), (y, second)), held, strict=True):
            assert_close(got, values, [1.0] * span)
        (mean_x, square_x), (mean_y, square_y) = (exact(values, [1.0] * span) for values in held)
        wanted = sum((Fraction(a) - mean_x) * (Fraction(b) - mean_y) for a, b in zip(*held, strict=True)) / span
        assert (Fraction(common) - wanted) ** 2 <= (Fraction(8 * span * span * EPSILON)) ** 2 * square_x * square_y


@given(st.lists(st.tuples(VALUES, st.integers(0, 3)), min_size=1, max_size=40), st.integers(1, 6), st.integers(1, 8))
@examples(150)
def test_last_seconds_have_exact_moments(steps, capacity, length):
    """The same for a window in time, which also lets several values go at once, or all of them."""
    window, ts, held = np.zeros(1, last_seconds(capacity))[0], 0, []
    for value, step in steps:
        ts += step
        expire(window, ts - length)
        push(window, ts, value, 1.0)
        held = [(t, v) for t, v in [*held, (ts, value)] if t > ts - length][-capacity:]
        weight, *got = moments(window)
        assert weight == len(held)
        assert_close(got, [v for _, v in held], [1.0] * len(held))


@given(st.lists(st.tuples(VALUES, st.sampled_from([0.5, 1.0, 3.0])), min_size=1, max_size=30))
@examples(100)
def test_value_counts_as_often_as_its_weight_says(rows):
    """A value of weight 3 counts like three of weight 1."""
    window = np.zeros(1, last_seconds(5))[0]
    for n, (value, weight) in enumerate(rows, 1):
        push(window, n, value, weight)
        values, weights = zip(*rows[max(0, n - 5) : n], strict=True)
        total, mean, variance = moments(window)
        assert total == sum(weights)
        assert_close((mean, variance), values, weights)


def test_price_that_has_gone_leaves_no_rounding():
    """A wild print stands in every slot in turn, and once it is out of the window, nothing of it is left."""
    for place in range(1, 7):
        values = [0.1, 0.2, 0.3] * 4
        values[place] = 1e12
        window, short = np.zeros(1, last_seconds(3))[0], np.zeros(1, last_values(3))[0]
        for n, value in enumerate(values):
            push(window, n, value, 1.0)
            push_value(short, value, 3)
            if n >= place + 3:
                assert_close(moments(window)[1:], values[n - 2 : n + 1], [1.0] * 3)
                assert_close(moments_of_values(short, 3), values[n - 2 : n + 1], [1.0] * 3)


def test_window_without_values_has_no_weight():
    """An empty window says so, before its first value and after its last has gone."""
    window = np.zeros(1, last_seconds(3))[0]
    assert moments(window)[0] == 0.0
    push(window, 5, 1.0, 1.0)
    expire(window, 5)
    assert moments(window)[0] == 0.0
