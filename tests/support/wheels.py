"""The project's wheels, and a newcomer who has nothing else of it: an empty folder, and environments made by pip.

Nothing is downloaded. pip takes the project from the wheels. The packages of others are those of the tests' environment, of which
a newcomer finds the ones that are asked for and what these say that they need, and no others: where a wheel does not name what
it imports, it fails here.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
from contextlib import closing
from importlib.metadata import distribution, distributions
from pathlib import Path
from socket import socket

from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support.waiting import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
PROJECTS = (
    ".",
    "plugins/strategies",
    "plugins/risk",
    "plugins/brokers",
    "plugins/sources",
    "plugins/advisors",
    "authoring_kit",
)
PYTEST = '#!/bin/sh\nexec python -m pytest "$@"\n'
"""The script that pip would have made in the environment, had it installed pytest there."""


def build_wheels(folder):
    """Build the wheels of all projects in a folder; their paths."""
    return [
        Path(wheel)
        for project in PROJECTS
        for wheel in WheelBuilder(str(ROOT / project)).build(directory=str(folder), versions=["standard"])
    ]


def needed(asked, wheels):
    """The distributions of others that are needed for what is asked for, as `pip install` is: those, and what they name."""
    ours = {canonicalize_name(made.name): made for made in distributions(path=[str(wheel) for wheel in wheels])}
    found, seen, to_see = {}, set(), [Requirement(each) for each in asked]
    while to_see:
        requirement = to_see.pop()
        name = canonicalize_name(requirement.name)
        found[name] = ours.get(name) or distribution(name)
        for extra in ("", *requirement.extras):
            if (name, extra) not in seen:
                seen.add((name, extra))
                others = map(Requirement, found[name].requires or ())
                to_see += [each for each in others if each.marker is None or each.marker.evaluate({"extra": extra})]
    return [made for name, made in found.items() if name not in ours]


def link_packages(distributions, folder):
    """Link what distributions have installed into a folder for ``PYTHONPATH``, where pip finds them too."""
    folder.mkdir()
    for made in distributions:
        for name in {file.parts[0] for file in made.files} - {"..", "__pycache__"}:
            if not (folder / name).exists():
                (folder / name).symlink_to(made.locate_file(name))
    return folder


class Newcomer:
    """Who has a folder, Python, the wheels, and what `pip install` of them would have brought along.

    Parameters
    ----------
    home : a folder of the test; `folder` in it is empty, and where blocks are pasted.
    block : of a page, with the one line that installs; it says what is needed.
    """

    def __init__(self, home, block):
        self.folder = home / "here"
        self.folder.mkdir()
        (install,) = re.findall(r"pip install (.*)", block)
        wheels = build_wheels(home / "wheels")
        programs = home / "bin"
        programs.mkdir()
        (programs / "python3").symlink_to(sys._base_executable)
        (programs / "pytest").write_text(PYTEST)
        (programs / "pytest").chmod(0o755)
        others = link_packages(needed(shlex.split(install), wheels), home / "others")
        ours = Path(sys.prefix) / "bin"
        path = [each for each in os.environ["PATH"].split(os.pathsep) if Path(each) != ours]
        self.env = {
            "PATH": os.pathsep.join([str(programs), *path]),
            "HOME": str(home),
            "PYTHONPATH": str(others),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(home / "wheels"),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }

    def keep_others(self):
        """Let the environment find the packages of others by itself, for processes that get no ``PYTHONPATH``."""
        (site,) = self.folder.glob(".venv/lib/python*/site-packages")
        (site / "others.pth").write_text(f"{self.env['PYTHONPATH']}\n")

    def paste(self, text, *, to_the_end=False):
        """Paste text into a shell, on ports that are free here.

        Parameters
        ----------
        to_the_end : go on after a command that fails; else the test fails there.

        Returns
        -------
        What was printed once all of it has ended.
        """
        ports = {shown: free_port() for shown in (8181, 9000)}
        for shown, free in ports.items():
            text = text.replace(str(shown), str(free))
        text = re.sub(r"(torghut run +--catalog \S+)", rf"\1 --port {ports[8181]}", text)
        shell = subprocess.Popen(
            ["bash", *(() if to_the_end else ("-e",)), "-s"],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            printed, _ = shell.communicate(
                f"trap 'kill $(jobs -p) 2> /dev/null || true' EXIT\n{text}wait\n", timeout=20 * PATIENCE
            )
        except subprocess.TimeoutExpired:
            os.killpg(shell.pid, signal.SIGKILL)  # what a block that hangs has started
            raise
        assert "Traceback" not in printed, printed
        assert to_the_end or shell.returncode == 0, printed
        return printed


def free_port():
    """The number of a port that nobody uses."""
    with closing(socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]
