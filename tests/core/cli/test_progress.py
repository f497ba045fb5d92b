"""A progress bar is drawn where there is progress, and a stop by Ctrl-C is one line."""

import pytest

from torghut_core import cli
from torghut_core.cli.render import progress


def test_nothing_is_drawn_before_the_first_event(capsys):
    """What is refused at the start is an error message alone."""
    with pytest.raises(ValueError, match="refused"), progress(None, "backfill"):
        raise ValueError("refused")
    assert capsys.readouterr().err == ""


def test_bar_without_a_known_end_ends_full(capsys):
    """Where nobody knows how many events there are it is full at the end."""
    with progress(None, "backfill") as advance:
        advance(1200)
    told = capsys.readouterr().err
    assert "backfill" in told
    assert "100%" in told


def test_stop_by_ctrl_c_is_one_line(capsys, monkeypatch):
    """Exit code 130, and what happened: no traceback."""

    def stopped():
        raise SystemExit(130)

    monkeypatch.setattr(cli, "app", stopped)
    assert cli._run() == 130
    assert capsys.readouterr().err == "stopped by Ctrl-C before it was done\n"
