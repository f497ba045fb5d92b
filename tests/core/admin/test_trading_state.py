"""How trading stands, in one value: it is well only where nothing is wrong, and says first what is."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from torghut_core.admin.trading_state import SERVICE, TradingState, recorded_state
from torghut_core.audit import SqlAuditStore
from torghut_core.errors import NotFoundError, StateError
from torghut_core.execution.controls import STATES, Controls
from torghut_core.installation.settings import load_settings
from torghut_core.installation.state_directory import StateDirectory

CONTROL = {"state": "halted", "reason": "fat finger", "actor": "jane", "at": "2026-01-05T14:30:00Z", "flatten": False}
SUBJECTS = ("loop", "venue", "database", "store", "market_data", "catalog", "quarantine")


@st.composite
def states(draw):
    """A state that a kernel, or a database, may give: what the control says is among the checks."""
    control = CONTROL | {"state": draw(st.sampled_from(STATES))}
    checks = {name: draw(st.lists(st.just(f"{name} is wrong"), max_size=2)) for name in SUBJECTS}
    checks["control"] = [] if control["state"] == "running" else ["halted: fat finger (jane)"]
    return TradingState(
        running=draw(st.booleans()),
        role="trading",
        died=draw(st.sampled_from(["", "the last process was killed, or crashed"])),
        silent=draw(st.sampled_from(["", "it hangs"])),
        generation=draw(st.sampled_from([None, 3])),
        control=control,
        restriction=draw(st.sampled_from(["", "reduce_only", "halt"])),
        fallback=draw(st.sampled_from(["", "catalog c.yaml is refused, generation 3 trades on"])),
        checks=checks,
    )


@given(states())
def test_nothing_that_is_wrong_is_left_out(state):
    """It is well where a process runs and nothing is wrong; whatever is wrong is in its lines, with who, why and when."""
    lines = state.lines()
    told = "\n".join(lines)
    wrong = [reason for reasons in state.checks.values() for reason in reasons]
    is_dead = state.died and not state.running
    assert state.is_well == (state.running and not (wrong or state.silent or is_dead))
    assert all(
        reason in told for subject, reasons in state.checks.items() if subject != "control" for reason in reasons
    )
    assert "(jane) since 2026-01-05T14:30:00Z" in told
    assert lines[0].startswith(f"fallback: {state.fallback}") or not state.fallback
    if lines[0] == "trading":
        assert state.is_well
        assert not state.restriction
        assert state.control["state"] == "running"


@given(states())
def test_it_survives_the_way_through_the_api(state):
    """What a client reads out of the answer is what the kernel put into it."""
    assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(state)), TradingState) == state


@pytest.mark.parametrize(
    ("change", "first"),
    [
        ({}, "trading"),
        ({"checks": {"venue": ["down"], "store": ["full"]}}, "trading, not well: venue: down (and 1 more)"),
        ({"restriction": "halt"}, "restricted: no order is sent until the catalog is right"),
        ({"control": CONTROL}, "halted: fat finger (jane) since 2026-01-05T14:30:00Z: no order is sent"),
        ({"role": "standby", "standby": {"reason": "another trades"}}, "standby: another trades"),
        ({"running": False}, "not running: nothing trades"),
        ({"running": False, "died": "it crashed"}, "dead: it crashed; nothing trades"),
        ({"role": SERVICE, "checks": {"bus": ["away"]}}, "working, not well: bus: away"),
        ({"silent": "it hangs"}, "not answering: it hangs"),
    ],
)
def test_first_line(change, first):
    """The first line says what is to be known first."""
    assert msgspec.structs.replace(TradingState(role="trading"), **change).first_line == first


def test_stop_of_a_directory_where_nothing_runs_is_shown(tmp_path):
    """Without a process the database, and the file of the control, say how trading stood and that it is halted."""
    with StateDirectory(tmp_path) as directory:
        SqlAuditStore(directory.audit_url).close()
        controls = Controls(directory.control_path, None)
        controls.change("halted", reason="fat finger", actor="jane")
    state = recorded_state(load_settings(), tmp_path)
    assert (state.running, state.is_well, state.generation) == (False, False, None)
    assert state.reasons == ["control: halted: fat finger (jane)"]
    assert any(line.startswith("control: halted: fat finger (jane) since ") for line in state.lines())


def test_directory_without_a_database_is_not_found(tmp_path):
    """Where nothing was ever kept, nothing is made up."""
    with pytest.raises(NotFoundError):
        recorded_state(load_settings(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_damaged_database_is_an_error(tmp_path):
    """A database that cannot be read is no state."""
    (tmp_path / "audit.db").write_bytes(b"no database" * 1000)
    with pytest.raises(StateError):
        recorded_state(load_settings(), tmp_path)
