"""A state directory with a ? in its name had its audit database beside it, in a file that other such directories shared."""

import pytest
from typer.testing import CliRunner

from torghut_core.cli import app
from torghut_core.errors import InputError
from torghut_core.installation.state_directory import StateDirectory


def test_a_state_directory_with_a_question_mark_is_refused(tmp_path):
    """An address of a database ends its path there."""
    with pytest.raises(InputError, match="may have no"):
        StateDirectory(tmp_path / "a?b")
    assert list(tmp_path.iterdir()) == []


def test_a_backtest_says_so_before_it_runs(tmp_path):
    """Nothing is run whose row could not be written."""
    (tmp_path / "catalog.yaml").write_text("version: 1")
    arguments = ["backtest", "none.csv", "--catalog", str(tmp_path / "catalog.yaml"), "--state", str(tmp_path / "a?b")]
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, InputError)
    assert "may have no ?" in str(done.exception)
