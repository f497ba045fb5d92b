"""A kernel under load for minutes: what it holds stays flat, and it answers. `benchmarks/soak.py` does it by hand."""

import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[3] / "benchmarks" / "soak.py"


@pytest.mark.proof
def test_soak_of_two_minutes_is_flat():
    """Reloads, snapshots of the venue and bursts of 500 requests leave files, threads and memory flat; probes and stops answer.

    How late the loop is depends on who else uses the machine's cores: that is bounded loosely here, and measured by hand.
    """
    command = [sys.executable, str(SOAK), "--minutes", "2", "--later-ms", "100", "--answer-s", "10"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
