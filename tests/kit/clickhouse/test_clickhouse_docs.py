"""`docs/clickhouse.md` says what is there."""

import inspect
from pathlib import Path

import pytest
from torghut_sources.signal_store import ClickHouseSignals
from torghut_testing.clickhouse import Fault

from torghut_core.signals.failures import _CODES

PAGE = (Path(__file__).parents[3] / "docs" / "clickhouse.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [name for name, _ in inspect.getmembers(Fault, inspect.ismethod)])
def test_every_fault_is_named(name):
    """Who writes a test finds each fault there."""
    assert f"`{name}" in PAGE
    assert inspect.getdoc(getattr(Fault, name))


@pytest.mark.parametrize("error_class", sorted({known[0] for known in _CODES.values()}))
def test_every_error_class_is_named(error_class):
    """Who reads a gate or a metric finds its class there."""
    assert f"`{error_class}`" in PAGE


@pytest.mark.parametrize("name", list(ClickHouseSignals.Params.model_fields))
def test_every_parameter_is_named_with_its_default(name):
    """The table of parameters is that of the class."""
    line = next(line for line in PAGE.splitlines() if line.startswith(f"| `{name}`"))
    default = ClickHouseSignals.Params.model_fields[name].default
    assert ("TRADING_POLL_MS" if default is None else str(default)) in line
