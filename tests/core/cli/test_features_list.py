"""`torghut plugin list --features`: what a strategy can have computed."""

import json
import sys

import pytest

from torghut_core import cli, features
from torghut_core.plugin_host import PluginHost


@pytest.fixture
def printed(monkeypatch, capsys):
    """A function that runs the command with more options, and gives what it printed."""

    def run(*options):
        monkeypatch.setattr(sys, "argv", ["torghut", "plugin", "list", "--features", *options])
        assert cli._run() == 0
        return capsys.readouterr().out

    return run


def test_json_has_what_a_program_needs(printed):
    """Columns; and of each indicator its inputs, its outputs, and its parameters with default, bounds and unit."""
    found = json.loads(printed("--json"))
    assert found["failures"] == []
    assert all(isinstance(getattr(features, name), features.Feature) for name in found["columns"])
    assert all(isinstance(features.column(name), features.Feature) for name in found["ta_signals"])
    assert [each["name"] for each in found["indicators"]] == sorted(PluginHost.load().registry["indicator"])
    (linreg,) = (each for each in found["indicators"] if each["name"] == "linreg")
    assert linreg["call"] == "linreg(close, span=14)"
    assert linreg["inputs"] == ["close"]
    assert linreg["outputs"] == ["value", "slope", "intercept", "r2"]
    span = {"type": "integer", "default": 14, "minimum": 2, "maximum": 10_000, "description": "bars"}
    assert linreg["parameters"] == {"span": span}


def test_text_has_each_indicator_as_one_calls_it(printed):
    """A call with its inputs and defaults, what it is, its parameters and its outputs."""
    text = printed()
    assert "columns of the bars: open, high, low, close," in text
    paragraph = next(each for each in text.split("\n\n") if each.startswith("linreg("))
    call, about, span, outputs = paragraph.splitlines()
    assert call == "linreg(close, span=14)"
    assert about.startswith("  Least-squares line")
    assert span == "  span: bars; from 2 to 10,000, default 14"
    assert outputs == "  gives ['value'], ['slope'], ['intercept'], ['r2']"
