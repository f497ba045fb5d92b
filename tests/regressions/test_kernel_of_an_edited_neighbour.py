"""Kernels after an edit of a module that they call into."""

import os
import subprocess
import sys

from support.waiting import PATIENCE

HELPER = """
from torghut_core.stages import kernel

@kernel
def step(x):
    return x + {}
"""
KERNEL = """
from torghut_core.stages import kernel
from edited_helper import step

@kernel
def twice(x):
    return step(step(x))

print(twice(1.0))
"""


def test_edit_of_a_called_module_is_compiled_anew(tmp_path):
    """A kernel kept the machine code of a neighbouring module from before its edit, and gave yesterday's numbers."""
    (tmp_path / "edited_kernel.py").write_text(KERNEL)

    def run():
        command = [sys.executable, "-c", "import edited_kernel"]
        env = {**os.environ, "PYTHONPATH": str(tmp_path)}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=env, timeout=2 * PATIENCE)
        return done.stdout.strip()

    (tmp_path / "edited_helper.py").write_text(HELPER.format("1.0"))
    assert [run(), run()] == ["3.0", "3.0"]
    (tmp_path / "edited_helper.py").write_text(HELPER.format("20.0"))
    assert run() == "41.0"
