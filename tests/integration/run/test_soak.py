"""A kernel under load for minutes: what it holds stays flat, and it answers. `benchmarks/soak.py` does it by hand."""

import asyncio
import math
import runpy
import socket
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[3] / "benchmarks" / "soak.py"

GOOD = {
    "files": 40.0,
    "st_files": 36.0,
    "threads": 21.0,
    "st_threads": 21.0,
    "MiB": 520.0,
    "api_files": 26.0,
    "api_threads": 5.0,
    "api_MiB": 86.0,
    "beside_p99": 8.0,
    "api_p99": 8.5,
    "probe_s": 0.1,
    "stop_s": 0.2,
}
"""What a minute shows that is as it should be."""


def problems(*minutes):
    """What the soak finds wrong in minutes that differ from a good one."""
    return list(runpy.run_path(str(SOAK))["problems"]([GOOD | each for each in minutes], later_ms=1.0, answer_s=1.0))


def test_a_burst_without_an_answer_is_a_result():
    """Where no probe is answered and no stop was asked for in time, the burst ends and says that they took for ever."""
    soak = runpy.run_path(str(SOAK))
    burst = soak["Clients"].burst
    burst.__globals__.update(BURST_S=0.2, EVERY_S=0.1)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # it does not listen: connections are refused
        clients = soak["Clients"](nobody.getsockname()[1], b"")
        clients.stop_and_release = lambda _stops: asyncio.sleep(0)
        assert asyncio.run(clients.burst(2)) == (math.inf, math.inf)
    assert set(clients.answers) == {0}


def test_what_is_wrong_is_named():
    """Growth, a loop that is late or was not watched, and answers that are late or missing are problems, each by its name."""
    assert problems({}, {}) == []
    assert problems({}, {"files": 73.0}) == ["files grew from 40 to 73"]
    assert problems({}, {"api_MiB": 107.0}) == ["api_MiB grew from 86 to 107"]
    assert problems({}, {"api_threads": math.nan}) == ["api_threads grew from 5 to nan"]
    assert problems({"api_p99": math.nan}) == ["the loop was not watched in each minute"]
    assert problems({"api_p99": 10.0}) == ["the loop was later beside the API by 2.00 ms (99th percentile)"]
    assert problems({"stop_s": math.inf}) == ["minute 1: a stop was not answered"]
    assert problems({}, {"probe_s": 2.0}) == ["minute 2: a probe took 2.00 s"]


def test_what_the_store_holds_is_bounded_apart():
    """The store's pool of 128 threads, with three files each, is no growth of ours; more than that is a problem."""
    assert problems({}, {"st_threads": 151.0, "st_files": 450.0}) == []
    assert problems({"st_threads": 193.0}) == ["the store has 193 threads"]
    assert problems({"st_files": 159.0}) == ["the store has 159 open files"]


@pytest.mark.proof
def test_soak_of_two_minutes_is_flat():
    """Reloads, snapshots of the venue and bursts of 500 requests leave files, threads and memory flat; probes and stops answer.

    How late the loop is depends on who else uses the machine's cores: that is bounded loosely here, and measured by hand.
    """
    command = [sys.executable, str(SOAK), "--minutes", "2", "--later-ms", "100", "--answer-s", "10"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
