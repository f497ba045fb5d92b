"""`torghut` that waits less after a crash, and kills itself with SIGKILL at a chosen point of the order path.

``KILL_AT`` is ``module:Class.method before|after nth``, counted from the first decision on; ``start`` before it
counts from the start. Where it is empty nothing is killed.
"""

import importlib
import os
import signal
import threading

WAITS = {
    "torghut_core.execution.reconciler": {"SETTLING": 500_000_000},
    "torghut_core.execution.lease": {"VALID_SECONDS": 1.0},
}
"""Shorter than anything that the tests let go wrong at the venue, and longer than what they let take time."""


class Plant:
    """Kills the process at the nth time that something happens."""

    def __init__(self, text):
        *start, target, self.when, nth = text.split()
        self.left = int(nth)
        self.lock = threading.Lock()
        self.is_armed = threading.Event()
        if start:
            self.is_armed.set()
        else:
            self.wrap("torghut_core.audit:SqlAuditStore.record_decision", self.arm)
        self.wrap(target, self.count)

    def arm(self, _when):
        self.is_armed.set()

    def count(self, when):
        if when != self.when or not self.is_armed.is_set():
            return
        with self.lock:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def wrap(self, target, tell):
        module, _, path = target.partition(":")
        owner, name = path.split(".")
        owner = getattr(importlib.import_module(module), owner)
        original = getattr(owner, name)

        def wrapped(*arguments, **named):
            tell("before")
            try:
                return original(*arguments, **named)
            finally:
                tell("after")

        setattr(owner, name, wrapped)


def main():
    """Run the command line with it."""
    for module, values in WAITS.items():
        for name, value in values.items():
            setattr(importlib.import_module(module), name, value)
    if text := os.environ.get("KILL_AT"):
        Plant(text)
    from torghut_core.cli import main as torghut

    torghut()


if __name__ == "__main__":
    main()
