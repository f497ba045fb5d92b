"""Two executor threads that read the control at the same time ended the process: msgspec 0.22 was looking at the type for the first time."""

import subprocess
import sys

SCRIPT = """
import os, sys, threading
import msgspec
from torghut_core.execution.controls import Control
sys.setswitchinterval(1e-6)

def read():
    barrier.wait()
    try:
        msgspec.json.decode(b'{"state": "running"}', type=Control)
    except msgspec.ValidationError:
        pass

for _ in range(400):  # of which some ten ended
    if os.fork() == 0:
        barrier = threading.Barrier(8)
        threads = [threading.Thread(target=read) for _ in range(8)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        os._exit(0)
print({status for _, status in (os.wait() for _ in range(400))})
"""


def test_threads_may_be_the_first_to_read_a_type():
    """What threads read is known to msgspec before there are threads."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{0}"
