"""What a feature cannot say is refused where it is written."""

import pytest

from torghut_core.feature_graph import Planner
from torghut_core.features import close, ema, rank
from torghut_core.timestamps import MINUTE


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: close.shift(-1), "would look ahead"),
        (lambda: close.shift(10**30), "from 0 to 10,000"),
        (lambda: close.shift(1.5), "whole number"),
        (lambda: close.of("A").of("B"), "of another symbol already"),
        (lambda: close.on("1Hour").on("15Min"), "a timeframe already"),
        (lambda: ema(close.on("5Min"), 3).on("15Min"), "a timeframe already"),
        (lambda: rank(close).of("A"), "among the symbols of the entry"),
        (lambda: close.optional.shift(1), "write it last"),
        (lambda: ema(close.optional, 3), "write it last"),
        (lambda: close + float("nan"), "nan is no feature and no number"),
        (lambda: close if close > 1 else 2, "use & | ~"),
    ],
)
def test_message_says_what_to_write(make, message):
    """Also of an amount that no memory could hold, and of a second symbol that would say nothing."""
    with pytest.raises((ValueError, TypeError, AttributeError), match=message.replace("|", r"\|")):
        make()


def test_part_that_is_used_many_times_costs_one_node():
    """A value that doubles itself sixty times is sixty values, also of another symbol."""
    value = close
    for _ in range(60):
        value = value * value - value
    planner = Planner(None)
    planner.add("one", {"own": value, "other": value.of("B")}, MINUTE, ["A", "B"])
    assert len(planner.plan.nodes) < 150
