"""`torghut catalog diff` failed where a parameter was an empty map, or a list of maps: it could not be written as JSON."""

import json

import pytest

from torghut_core.catalog import Catalog
from torghut_core.catalog.diff import diff


@pytest.mark.parametrize("value", [{}, [{"b": "1"}], [[{}]]])
def test_map_as_a_parameter_is_shown(value):
    """The old and the new value are in the JSON and in the text, whatever they are made of."""
    one, other = (Catalog(version=1, risk=[{"use": "a", "params": {"p": each}}]) for each in ("x", value))
    [change] = diff(one, other).to_json()["changes"]
    assert change["fields"][0]["new"] == value
    assert json.dumps(value) in diff(one, other).to_text()
