"""The laws of every indicator that comes with Torghut."""

import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torghut_sources.indicators import INDICATORS

from support.effort import examples
from support.indicators import KINDS, Fed, bars, made
from support.waiting import PATIENCE

SYMBOLS = 3

NEVER_FADE = {"ad", "obv"}
"""Those whose value depends on every bar since the first one."""

WAITS = {"pivots"}
"""What has no value, warm as it is, until prices turn."""

QUICK = {"atr", "bollinger", "correlation", "kama", "macd", "obv", "pivots", "psar", "rsi", "sma", "vwap-anchored"}
"""One of each family: their laws are always tried, and those of all in a proof."""


def each(names):
    """Parametrize a law."""
    marked = [name if name in QUICK else pytest.param(name, marks=pytest.mark.proof) for name in names]
    return pytest.mark.parametrize("name", marked)


def short(name):
    """Parameters a quarter of the defaults, where these fit together: what happens in a window happens sooner."""
    fields = type(made(name).params).model_fields
    quarter = {
        each: max(field.default // 4, next((rule.ge for rule in field.metadata if hasattr(rule, "ge")), 0))
        for each, field in fields.items()
        if type(field.default) is int
    }
    try:
        made(name, **quarter)
    except ValidationError:
        return {}
    return quarter


def block(name, kind, n, seed):
    """Inputs of an indicator, of shape (inputs, n); one that is no column of a bar is another walk."""
    columns, other = bars(kind, n, seed), bars(kind, n, seed + 1000)
    return np.array([columns.get(each, other["close"]) for each in made(name).inputs])


def restored(fed, order, name, params):
    """Another one, with the saved state of each symbol at its new number."""
    new = Fed(name, SYMBOLS, **params)
    for old, number in enumerate(order):
        new.state[number] = np.frombuffer(fed.state[old].tobytes(), fed.state.dtype)[0]
    return new


@each(INDICATORS)
@given(st.data())
@examples(50, quick=4)
def test_cuts_and_restarts_change_nothing(name, data):
    """Bar by bar or in any batches, saved and restored in between, alone or among others: the same to the bit."""
    params, kind, n = short(name), data.draw(st.sampled_from(KINDS)), 150
    inputs = block(name, kind, n, data.draw(st.integers(0, 999)))
    symbol = np.array(data.draw(st.lists(st.integers(0, SYMBOLS - 1), min_size=n, max_size=n)))
    whole = Fed(name, SYMBOLS, **params).feed(inputs, symbol)
    bounds = [0, *sorted(data.draw(st.sets(st.integers(1, n - 1), max_size=5))), n]
    fed, numbers, parts = Fed(name, SYMBOLS, **params), np.arange(SYMBOLS), []
    for first, stop in pairwise(bounds):
        parts.append(fed.feed(inputs[:, first:stop], numbers[symbol[first:stop]]))
        order = np.array(data.draw(st.permutations(range(SYMBOLS))))
        fed, numbers = restored(fed, order, name, params), order[numbers]
    assert np.hstack(parts).tobytes() == whole.tobytes()
    alone = np.full_like(whole, np.nan)
    for each in range(SYMBOLS):
        alone[:, symbol == each] = Fed(name, **params).feed(inputs[:, symbol == each])
    assert alone.tobytes() == whole.tobytes()


@each(INDICATORS)
@given(st.lists(st.sampled_from([0.0, 1e-9, 0.1, 1.0, 100.0, 100.01, 1e6, 1e12]), min_size=8, max_size=60))
@examples(100, quick=5)
def test_no_value_is_infinite(name, prices):
    """Whatever the bars are, a value is a number or not known."""
    width = len(made(name).inputs)
    inputs = np.array([np.roll(prices, number % 2) for number in range(width)])
    assert not np.isinf(Fed(name, **short(name)).feed(inputs)).any()


@each(INDICATORS)
def test_warmup_is_when_the_first_value_comes(name):
    """All outputs are known from bar number `warmup` on, and not before."""
    for params in ({}, short(name)):
        fed = Fed(name, **params)
        warmup = fed.indicator.warmup
        known = ~np.isnan(fed.feed(block(name, "walk", warmup + 50, 1))).any(axis=0)
        assert not known[: warmup - 1].any()
        assert known[-1]
        assert known[warmup - 1 :].all() or name in WAITS
        assert fed.indicator.memory >= warmup


@each([name for name in INDICATORS if name not in NEVER_FADE])
def test_older_bars_than_memory_have_faded(name):
    """A value that starts `memory` bars back is the one of the whole history, but for a ten thousandth."""
    fed, late = Fed(name), Fed(name)
    memory = fed.indicator.memory
    inputs = block(name, "walk", 2 * memory + 100, 1)
    whole, part = fed.feed(inputs), late.feed(inputs[:, -memory - 50 :])
    scale = np.nanmax(np.abs(whole), axis=1)
    np.testing.assert_array_less(np.abs(whole[:, -50:] - part[:, -50:]).max(axis=1), 1e-4 * scale + 1e-300)


@pytest.mark.proof
def test_no_index_is_out_of_bounds(tmp_path):
    """The other laws hold where each index is checked."""
    tests = [test_cuts_and_restarts_change_nothing.__name__, test_no_value_is_infinite.__name__]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        __file__,
        "-m",
        "",
        "-k",
        " or ".join(tests),
    ]
    env = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path), "TEST_EFFORT": "quick"}
    assert subprocess.run(command, env=env, timeout=20 * PATIENCE, check=False).returncode == 0


@each(INDICATORS)
def test_spans_of_about_the_same_length_share_their_machine_code(name):
    """A sweep over a parameter does not compile a kernel for each value: nearby spans have the same row of state."""
    fields = type(made(name).params).model_fields
    longer = {each: field.default + 1 for each, field in fields.items() if type(field.default) is int}
    assert made(name, **longer).row() == made(name).row()
