"""The documentation of the fake says what there is."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from torghut_testing.alpaca import FakeVenue, Fault, StreamFaults
from torghut_testing.alpaca.control import SETTINGS, STREAM_VERBS, VENUE_VERBS

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "fake-alpaca.md").read_text()


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
