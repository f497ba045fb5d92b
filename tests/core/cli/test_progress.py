"""A progress bar is drawn where there is progress, and a stop by Ctrl-C is one line."""

import pytest

from torghut_core import cli
from torghut_core.cli.render import progress


def test_nothing_is_drawn_before_the_first_event(capsys):
    """An error at the start is a message alone."""
    with pytest.raises(ValueError, match="refused"), progress(None, "backfill"):
        raise ValueError("refused")
    assert capsys.readouterr().err == ""


def test_bar_without_a_known_end_ends_full(capsys):
    """Without a known total it is full at the end."""
    with progress(None, "backfill") as advance:
        advance(1200)
    printed = capsys.readouterr().err
    assert "backfill" in printed
    assert "100%" in printed


def test_stop_by_ctrl_c_is_one_line(capsys, monkeypatch):
    """Exit code 130, and what happened: no traceback."""

    def stopped():
        raise SystemExit(130)

    monkeypatch.setattr(cli, "app", stopped)
    assert cli._run() == 130
    assert capsys.readouterr().err == "stopped by Ctrl-C before it was done\n"
