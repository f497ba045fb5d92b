"""The documentation of the fake says what there is."""

import inspect
import re

import pytest
from torghut_testing.alpaca import FakeVenue, Fault, StreamFaults
from torghut_testing.alpaca.control import SETTINGS, STREAM_VERBS, VENUE_VERBS

from support.docs import DOCS, code_of, passes, text_of

PAGE = DOCS / "fake-alpaca.md"
TEXT = text_of(PAGE)


def public(kind):
    return [name for name, _ in inspect.getmembers(kind, callable) if not name.startswith("_")]


@pytest.mark.parametrize("name", [name for name in public(Fault) if inspect.ismethod(getattr(Fault, name))])
def test_every_fault_is_in_the_table(name):
    """A fault comes with its parameters."""
    named = re.search(rf"`Fault\.{name}\((.*?)\)`", TEXT)
    assert named, name
    parameters = [one for one in inspect.signature(getattr(Fault, name)).parameters if one != "match"]
    assert re.findall(r"(\w+)(?:=[^,]+)?(?:, |$)", named[1]) == parameters


@pytest.mark.parametrize("name", sorted(STREAM_VERBS))
def test_every_fault_of_the_stream_is_in_the_table(name):
    """A call of the stream is in the table, and there is such a call."""
    assert f"`{name}(" in TEXT
    assert name in public(StreamFaults)


@pytest.mark.parametrize("name", sorted(VENUE_VERBS | dict.fromkeys(SETTINGS)))
def test_every_verb_is_in_the_table(name):
    """A verb of a script is a route in the table, and there is such a call."""
    assert f"`{name}`" in TEXT or f"/_fake/{name}`" in TEXT
    assert hasattr(FakeVenue(), VENUE_VERBS.get(name, name))


def test_example_runs(tmp_path):
    """The example of the documentation passes unchanged."""
    pytest.importorskip("alpaca")
    (example,) = code_of(PAGE, "python")[:1]
    assert "1 passed" in passes(tmp_path, **{"test_example.py": example})
