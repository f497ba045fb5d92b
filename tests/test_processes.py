"""What the tests start as processes can be watched and ended, whatever a worker has open."""

import fcntl
import os
import resource
import signal
import sys

import pytest

from support import processes

ABOVE_SELECT = 1100


@pytest.fixture
def many_files():
    """Every descriptor below that number is taken."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < ABOVE_SELECT + 100:
        pytest.skip(f"this machine allows {hard} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, ABOVE_SELECT + 100), hard))
    null = os.open(os.devnull, os.O_RDONLY)
    taken = [null]
    while taken[-1] < ABOVE_SELECT:
        taken.append(fcntl.fcntl(null, fcntl.F_DUPFD))
    yield
    for file in taken:
        os.close(file)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.skipif(sys.platform != "linux", reason="tests fork on Linux only")
def test_a_process_is_ended_by_a_worker_that_has_many_files_open(many_files, tmp_path):
    with (tmp_path / "log").open("w") as log:
        process = processes.Forked(
            {"argv": ["sleep"], "env": dict(os.environ), "cwd": str(tmp_path), "script": _script(tmp_path)}, log, log
        )
    assert process.poll() is None
    process.kill()
    assert process.wait(60) == -signal.SIGKILL


def _script(folder):
    path = folder / "waits.py"
    path.write_text("import signal; signal.pause()\n")
    return str(path)
