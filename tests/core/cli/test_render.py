"""What a stop and a reconciliation say in a terminal."""

import math
from pathlib import Path

import pytest

from torghut_core.cli.render import control_text, print_figures, print_simulation, reconciliation_text

STOP = {
    "control": {"state": "halted", "reason": "fat finger", "actor": "jane"},
    "written": ["file", "database"],
    "problems": [],
}
HELD = [{"strategy": "ema-cross", "symbol": "ES", "quantity": "1"}]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"running": False}, "No kernel is running. The stop will apply at the next start."),
        ({"running": None, "problems": ["no answer"]}, "problem: no answer"),
        ({"role": "trading", "orders_working": 2}, "The kernel confirmed the stop. 2 open orders."),
        (
            {"running": True, "confirmed": True, "role": "trading", "orders_working": 1, "positions": HELD},
            "The kernel confirmed the stop. 1 open order; positions: ES 1 (ema-cross).",
        ),
        (
            {"running": True, "confirmed": True, "role": "trading", "orders_working": 0, "positions": []},
            "The kernel confirmed the stop. 0 open orders; positions: none.",
        ),
        (
            {"running": True, "confirmed": True, "role": "standby", "orders_working": 0, "positions": []},
            "The kernel confirmed the stop. It does not trade itself (standby): orders and positions are with the process that does.",
        ),
    ],
)
def test_stop_says_what_the_kernel_knows(more, said):
    """Where it was written, and then whether a kernel runs, whether it confirmed, and what is still open."""
    first, last = control_text(STOP | more).splitlines()
    assert first == "halted: fat finger (jane), written to file and database"
    assert last == said


def test_stop_says_what_differs_from_the_venue():
    """Who flattens reads what the venue holds, not only what the books say."""
    more = {"role": "trading", "orders_working": 0, "positions": HELD, "differences": {"ES": "1 here, 0 at the venue"}}
    assert control_text(STOP | more).splitlines()[-1] == "difference: ES: 1 here, 0 at the venue"


def test_stop_without_a_reason_asks_for_one():
    """A stop waits for no reason; what it prints asks for one afterwards."""
    lines = control_text(STOP | {"control": STOP["control"] | {"reason": ""}, "running": False}).splitlines()
    assert lines[0].startswith("halted: no reason given (jane)")
    assert "--reason TEXT" in lines[-1]


def test_kernel_that_has_not_confirmed_is_not_said_to_know():
    """`kill` printed "the kernel knows" also when a stuck kernel had not answered with the new control in time."""
    text = control_text(STOP | {"running": True, "confirmed": False, "orders_working": 1, "positions": HELD})
    assert "has not confirmed the stop yet" in text
    assert "confirmed the stop." not in text


def test_reconciliation_lists_what_differs():
    """Each difference and each order that needs a look is a line; agreement is said only where there is none."""
    done = {"at": "T", "changes": 1, "foreign": ["x"], "adopted": ["a"], "lost": ["l"], "differences": {"ES": "1 here"}}
    assert reconciliation_text(done).splitlines() == [
        "Checked the venue at T: 1 change",
        "difference: ES: 1 here",
        "foreign order: x",
        "adopted order: a",
        "order that never reached the venue: l",
    ]
    none = {"at": "T", "changes": 0, "foreign": [], "adopted": [], "lost": [], "differences": {}}
    assert reconciliation_text(none) == "Checked the venue at T: no changes\nOur records and the venue's agree."


def test_figures_are_printed_in_groups(capsys):
    """Each that is known once, with its unit and below its group; below all, what is not known and why."""
    found = {"days": 3, "total_return_pct": 1.5, "sharpe": math.nan, "fills": 2, "mean_holding_s": 90.0, "fees": 1200.0}
    print_figures(found)
    assert [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()] == [
        "return round trips",
        "return 1.50 % fills 2",
        "days 3 mean holding time 1 min 30 s",
        "",
        "costs",
        "fees 1,200.00",
        "Sharpe ratio: needs 5 days, there are 3",
    ]


def test_a_simulation_says_how_much_of_its_window_the_tapes_have(capsys):
    """A verdict about coverage stands beside the number that it judges."""
    report = {
        "verdict": {
            "status": "FAIL",
            "codes": ["coverage_below_strict_ratio"],
            "levels": {"coverage_below_strict_ratio": "FAIL"},
        },
        "run_metadata": {"run_id": "sim-1", "failure": ""},
        "coverage": {"covered_minutes": 1029, "minutes": 1440, "coverage_ratio": 1029 / 1440},
    }
    print_simulation(report, Path("made"))
    assert "1,029 of 1,440 minutes of the window have an event (71.5 %)" in capsys.readouterr().out
