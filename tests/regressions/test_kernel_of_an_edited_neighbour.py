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


PACKAGE = """
import importlib, pathlib, sys

def seen():
    for name in [name for name in sys.modules if name.startswith("edited_package")]:
        del sys.modules[name]
    importlib.invalidate_caches()
    return importlib.import_module("edited_package.kernels.twice").twice(1.0)

helper = pathlib.Path(sys.argv[1])
print(seen())
helper.write_text(helper.read_text().replace("1.0", "20.0"))
print(seen())
"""


def test_edit_elsewhere_in_the_package_is_compiled_anew_by_a_reload(tmp_path):
    """A reload kept the machine code of a called module from before its edit, also where it is in another folder."""
    kernels, helpers = tmp_path / "edited_package" / "kernels", tmp_path / "edited_package" / "helpers"
    for folder in (kernels, helpers):
        folder.mkdir(parents=True)
        (folder / "__init__.py").touch()
    (tmp_path / "edited_package" / "__init__.py").touch()
    (kernels / "twice.py").write_text(
        KERNEL.replace("edited_helper", "edited_package.helpers.step").replace("print(twice(1.0))", "")
    )
    (helpers / "step.py").write_text(HELPER.format("1.0"))
    command = [sys.executable, "-B", "-c", PACKAGE, str(helpers / "step.py")]
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env, timeout=2 * PATIENCE)
    assert done.stdout.split() == ["3.0", "41.0"]
    assert subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout.split()[0] == "41.0"
