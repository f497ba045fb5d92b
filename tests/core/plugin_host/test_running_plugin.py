"""After a process that died, the next one knows which plugin was running."""

import subprocess
import sys

import pytest

from torghut_core.plugin_host.running_plugin import (
    FILE,
    LOADER,
    LOOP,
    NO_PLUGIN,
    RECORD,
    label,
    last_crash,
    recorded_in,
)

DIES = """
import os, sys
from pathlib import Path
from torghut_core.plugin_host.running_plugin import {slot}, RECORD, recorded_in, label
with recorded_in(Path(sys.argv[1])):
    RECORD.memory[{slot}] = label({kind!r}, "evil")
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize(("slot", "kind"), [("LOOP", "strategy"), ("LOADER", "plugin")])
def test_plugin_of_a_killed_process_is_named(tmp_path, slot, kind):
    """By the next start, and by `doctor` before and after it."""
    subprocess.run([sys.executable, "-c", DIES.format(slot=slot, kind=kind), tmp_path], check=False)
    told = f"the last process died while {kind} evil was running"
    assert last_crash(tmp_path, is_running=False) == told
    with recorded_in(tmp_path) as died:
        assert died == told
        assert last_crash(tmp_path, is_running=True) == told
    assert last_crash(tmp_path, is_running=False) == ""


def test_orderly_end_leaves_nothing(tmp_path):
    """Also where an error ends the process."""

    def work():
        with recorded_in(tmp_path) as died:
            assert died == ""
            RECORD.memory[LOOP] = label("strategy", "good")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert not (tmp_path / FILE).exists()


def test_crash_of_the_kernel_itself_names_no_plugin(tmp_path):
    """Where none was running."""
    (tmp_path / FILE).write_bytes(NO_PLUGIN * 3)
    assert last_crash(tmp_path, is_running=False) == "the last process was killed, or crashed"


@pytest.mark.parametrize("content", [b"", b"\xff" * 10_000, b"strategy x"])
def test_file_of_any_content_is_read(tmp_path, content):
    """A start never fails for it."""
    (tmp_path / FILE).write_bytes(content)
    with recorded_in(tmp_path):
        RECORD.memory[LOADER] = label("plugin", "é" * 500)


def test_folder_in_its_place_does_not_stop_the_start(tmp_path):
    """Then nothing is noted, and a warning says so."""
    (tmp_path / FILE / "inner").mkdir(parents=True)
    with recorded_in(tmp_path) as died:
        assert died == ""
