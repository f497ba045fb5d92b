"""The documentation of the fake market says what there is."""

import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from torghut_testing.alpaca_data import FakeMarketData
from torghut_testing.alpaca_data.__main__ import _parser
from torghut_testing.alpaca_data.faults import CLOSING, Kind

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "fake-alpaca-data.md").read_text()


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
    (tmp_path / "test_example.py").write_text(re.search(r"```python\n(.*?)```", TEXT, re.DOTALL)[1])
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_example.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    assert "1 passed" in ran.stdout
