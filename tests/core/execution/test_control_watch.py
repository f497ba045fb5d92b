"""The thread that obeys the operator's control: it lives, and a halt cancels what is open, whatever goes wrong once."""

import sys
import threading
from types import SimpleNamespace

from tests.core.execution.orders.conftest import MemoryVenue, make_intent
from torghut_core.execution.control_watch import watch_control
from torghut_core.execution.controls import Control
from torghut_core.execution.executor import Executor


def test_orders_are_canceled_at_the_next_try_where_one_fails():
    """The thread does not end with an error of the first."""
    ended, tries = threading.Event(), []
    running, halted = (
        Control(state="running", reason="", actor="", at=0),
        Control(state="halted", reason="stop", actor="ann", at=1),
    )

    def cancel_all():
        tries.append(1)
        if len(tries) == 1:
            raise RuntimeError("a defect")
        ended.set()

    states = iter([running])
    controls = SimpleNamespace(current=lambda: next(states, halted), poll=lambda: None)
    venue = SimpleNamespace(is_simulated=False, cancel_all=cancel_all)
    thread = threading.Thread(target=watch_control, args=(controls, venue, ended, lambda: None))
    thread.start()
    assert ended.wait(60)
    thread.join(60)
    assert len(tries) == 2


def test_all_orders_are_canceled_while_others_come_and_go():
    """From another thread than that which sends them."""
    executor = Executor(MemoryVenue(), lambda _: "", threads=0)
    stop = threading.Event()
    for number in range(2_000):
        executor._open[f"tg-{number}"] = make_intent(f"tg-{number}")

    def come_and_go():
        number = 2_000
        while not stop.is_set():
            executor._open[f"tg-{number}"] = make_intent(f"tg-{number}")
            executor._open.pop(f"tg-{number - 2_000}", None)
            number += 1

    thread = threading.Thread(target=come_and_go)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread.start()
    try:
        for _ in range(20):
            executor.cancel_all()
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(interval)
