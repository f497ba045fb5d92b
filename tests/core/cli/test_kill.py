"""What `torghut kill` reports of a kernel that runs: the state in which the stop leaves it."""

import json

import pytest
from typer.testing import CliRunner

from torghut_core.cli import app, trading
from torghut_core.execution.controls import SETTING

HELD = [{"symbol": "ES", "quantity": "2", "strategy": "ema-cross"}]


def status(state, orders=0, positions=(), differences=(), role="trading", actor="jane"):
    return {
        "role": role,
        "control": {"state": state, "reason": "why", "actor": actor},
        "orders_working": orders,
        "positions": list(positions),
        "reconciliation": {"differences": dict.fromkeys(differences, "2 here, 0 at the venue")},
    }


@pytest.fixture
def said(tmp_path, monkeypatch):
    """Runs `kill` beside a kernel that answers with these statuses, one after the other; what it says, and those that are left."""

    def run(*statuses, options=(), command="kill", code=0):
        left = list(statuses)

        class Kernel:
            def get(self, _path):
                return left.pop(0)

        monkeypatch.setattr(trading, "admin_client", lambda _url, _state: Kernel())
        result = CliRunner().invoke(app, [command, "--reason", "drill", "--state", str(tmp_path), "--json", *options])
        assert result.exit_code == code, result.output
        return json.loads(result.stdout), left

    return run


def test_a_stop_is_reported_once_the_kernel_has_confirmed_it(said):
    """It waits for the confirmation, and not for positions, which stay."""
    done, left = said(status("running", 1, HELD), status("halted", 0, HELD), status("halted"))
    assert (done["confirmed"], done["positions"]) == (True, HELD)
    assert len(left) == 1


def test_flatten_is_reported_once_nothing_is_held(said):
    """What it says of orders and positions is how the stop leaves them, not how they are on the way there."""
    on_the_way = [status("halted", 0, HELD), status("halted", 1, HELD), status("halted", 1)]
    done, left = said(status("running", 0, HELD), *on_the_way, status("halted"), options=["--flatten"])
    assert (done["confirmed"], done["orders_working"], done["positions"], left) == (True, 0, [], [])


def test_flatten_does_not_wait_for_what_the_venue_does_not_hold(said):
    """A position that the venue does not have is closed by nobody, and a process that stands by closes none."""
    done, _ = said(status("halted", 0, HELD, ["ES"]), options=["--flatten"])
    assert done["positions"] == HELD
    done, _ = said(status("halted", 1, HELD, role="standby"), options=["--flatten"])
    assert done["role"] == "standby"


def test_a_release_does_not_wait_for_a_setting_that_halts(said):
    """The kernel stays halted for as long as it runs: it says so at once."""
    halted = status("halted", actor=SETTING)
    done, left = said(halted, halted, command="unkill", code=1)
    assert (done["confirmed"], len(left)) == (False, 1)
