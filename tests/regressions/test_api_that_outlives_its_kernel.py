"""For a moment after a kernel was killed its API's process still has the listener, and resets connections."""

import pytest

from torghut_core.cli import status
from torghut_core.errors import NotFoundError, StateError


def test_nobody_who_owns_the_state_is_not_called_silent(tmp_path, monkeypatch):
    """A state directory that no process owns is judged by what is recorded there, whatever the API's address does."""

    def reset(_url, _state):
        raise StateError("Connection reset by peer")

    monkeypatch.setattr(status, "kernel_state", reset)
    with pytest.raises(NotFoundError):
        status.read_state(None, tmp_path / "state")
