"""From nothing to a package that `torghut plugin check` finds good: seconds of CPU and of the clock, several times."""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TORGHUT = Path(sys.executable).parent / "torghut"


def cost(*words, cwd):
    """Seconds of user CPU, and of the clock, that a command takes."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime, time.perf_counter()
    subprocess.run([TORGHUT, *words], cwd=cwd, check=True, stdout=subprocess.DEVNULL)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before, time.perf_counter() - began


for _ in range(3):
    with tempfile.TemporaryDirectory() as folder:
        made = cost("new", "strategy", "zebra-one", cwd=folder)
        checked = cost("plugin", "check", "zebra-one", "--level", "gold", cwd=folder)
    for name, (cpu, clock) in {"new": made, "plugin check": checked}.items():
        print(f"{name:12}  user CPU {cpu:5.2f} s  clock {clock:5.2f} s")
