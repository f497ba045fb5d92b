"""The documentation of the fake market says what there is."""

import inspect
import re
from typing import get_args

import pytest
from torghut_testing.alpaca_data import FakeMarketData
from torghut_testing.alpaca_data.__main__ import _parser
from torghut_testing.alpaca_data.faults import CLOSING, Kind

from support.docs import DOCS, code_of, passes, text_of

PAGE = DOCS / "fake-alpaca-data.md"
TEXT = text_of(PAGE)


@pytest.mark.parametrize("kind", get_args(Kind))
def test_every_kind_of_fault_is_in_the_table(kind):
    """A kind of fault has its row."""
    assert f"| `{kind}` |" in TEXT


@pytest.mark.parametrize("name", [name for name in inspect.signature(FakeMarketData.play).parameters if name != "self"])
def test_every_argument_of_play_is_there(name):
    """Every argument of `play` is in the text."""
    assert f"`{name}=" in TEXT or f"({name}, " in TEXT


def test_defaults_are_in_the_text():
    """A limit that the text gives is the limit."""
    parameters = inspect.signature(FakeMarketData).parameters
    told = dict(
        re.findall(r"`(?:FakeMarketData\()?(auth_timeout|connection_limit|linger|history_limit)=([\d_]+)", TEXT)
    )
    assert len(told) == 4
    for name, value in told.items():
        assert float(value) == parameters[name].default


def test_closing_codes_are_in_the_text():
    """The codes that end the connection are those of the text."""
    named = re.search(r"After ([\d, and]+) the connection is closed", TEXT)
    assert {int(code) for code in re.findall(r"\d+", named[1])} == CLOSING


def test_every_option_is_in_the_text():
    """What the command takes is in the text."""
    options = re.findall(r"--[\w-]+", _parser().format_help())
    assert [option for option in options if option != "--help" and option not in TEXT] == []


def test_example_runs(tmp_path):
    """The example of the documentation passes unchanged."""
    (example,) = code_of(PAGE, "python")[:1]
    assert "1 passed" in passes(tmp_path, **{"test_example.py": example})
