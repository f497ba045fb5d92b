"""Sale conditions that keep a trade out: flag words and codes."""

import pytest
from torghut_sources.stages.conditions import Exclusion

CASES = [
    ("100000", "100000", True),
    ("100000", "20100020", True),
    ("100000", "20000020", False),
    ("100000", "0x100000", True),
    ("0x1", "1", True),
    ("0x1", "2", False),
    ("100000", "", False),
    ("100000", "@ T", False),
    ("W", "W", True),
    ("W", "@ W", True),
    ("W", "@,W", True),
    ("W", "@TW", True),
    ("W", "@T", False),
    ("W", "w", False),
    ("4", "4", True),
    ("4", "@ 4", True),
    ("B", "20000020", False),
    ("avg", "@ avg", True),
    ("avg", "a v g", False),
]


@pytest.mark.parametrize(("condition", "text", "fits"), CASES)
def test_condition_fits_text(condition, text, fits):
    """Flag words are compared bit by bit with flag words, codes with codes and letters."""
    assert Exclusion([condition], suspicious=True).excludes(text, False) is fits
