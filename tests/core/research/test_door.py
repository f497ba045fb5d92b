"""`torghut_core.research` is a door: every name is there, in the docs, and costs nothing before it is used."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import torghut_core.research as door

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "backtest.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", door.__all__)
def test_every_name_is_there_and_in_the_docs(name):
    """What the door promises can be imported from it, and is in the table."""
    assert getattr(door, name).__name__ == name
    assert re.search(rf"`{name}[(`]", PAGE)


def test_an_unknown_name_is_an_error():
    """A typo is no empty module."""
    with pytest.raises(AttributeError, match="run_backtests"):
        _ = door.run_backtests


def test_the_door_opens_without_the_loop():
    """Importing it alone loads neither the engine nor the compiler of the stages."""
    code = "import sys, torghut_core.research; print({'torghut_core.trading.engine', 'numba'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


@pytest.mark.parametrize(("number", "said"), [(0, "win rate"), (1, "deepest drawdown -")], ids=["notebook", "catalog"])
def test_the_examples_run(number, said, monkeypatch, capsys, tmp_path):
    """The examples of the page run as they stand, from the root of a checkout."""
    monkeypatch.chdir(ROOT)
    code = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[number]
    exec(code.replace("trend.html", str(tmp_path / "trend.html")), {})
    assert said in capsys.readouterr().out
