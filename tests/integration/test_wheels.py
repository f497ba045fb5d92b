"""What a user installs: the wheels of `torghut[standard]` and of the kit, without the embedded store and pytest."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from support.waiting import PATIENCE

pytestmark = pytest.mark.proof
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
WITHOUT = """
import sys

for name in ("chdb", "pytest", "_pytest", "hypothesis"):
    sys.modules[name] = None  # an import of it fails, and nothing finds it
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder of packages, as an installer unpacks the wheels into it."""
    folder = tmp_path_factory.mktemp("site")
    for project in PROJECTS:
        for wheel in WheelBuilder(str(ROOT / project)).build(directory=str(folder / "wheels"), versions=["standard"]):
            with zipfile.ZipFile(wheel) as packed:
                packed.extractall(folder)
    (folder / "without").mkdir()
    (folder / "without" / "sitecustomize.py").write_text(WITHOUT)
    return folder


def run(site, cwd, *arguments, tests=False):
    """Run Python on these packages, in an empty folder; with what only tests need where `tests` says so."""
    env = {**os.environ, "PYTHONPATH": str(site) if tests else f"{site / 'without'}{os.pathsep}{site}"}
    done = subprocess.run(
        [sys.executable, *arguments],
        check=False,
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_the_wheels_replay_and_show_the_demo_without_a_signal_store(site, tmp_path):
    """`torghut demo` plays the tape of the wheel to the digest that every other way comes to, and says in one line what is not kept."""
    torghut = "from torghut_core.cli import main; main()"
    shown = run(site, tmp_path, "-c", torghut, "demo")

    assert "digest b10b8e83b5520e98" in shown.stdout
    assert [line for line in shown.stderr.splitlines() if "not stored" in line and "torghut[embedded]" in line]
    assert (tmp_path / ".torghut" / "report.html").stat().st_size > 100_000
    assert not (tmp_path / ".torghut" / "signals").exists()

    home = json.loads(run(site, tmp_path, "-c", "import json, torghut_core as t; print(json.dumps(t.__file__))").stdout)
    demo = Path(home).parent / "demo"
    assert demo.is_relative_to(site)
    tape, catalog = next((demo / "tapes").glob("*.parquet")), demo / "trading.yaml"
    quiet = run(
        site, tmp_path, "-c", torghut, "replay", str(tape), "--catalog", str(catalog), "--no-store", "--json",
        "--state", "again",
    )  # fmt: skip
    assert json.loads(quiet.stdout)["digest"].startswith("b10b8e83b5520e98")
    assert "not stored" not in quiet.stderr


def test_the_wheels_make_a_package_and_check_it(site, tmp_path):
    """The templates are in the wheel, the checks find them good, and pytest beside the wheels runs the suites by itself."""
    torghut = "from torghut_core.cli import main; main()"
    run(site, tmp_path, "-c", torghut, "new", "strategy", "zebra-one")
    checked = run(site, tmp_path, "-c", torghut, "plugin", "check", "zebra-one", "--level", "gold", tests=True)
    assert "zebra-one: gold" in checked.stdout
    tested = run(site, tmp_path / "zebra-one", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rA", tests=True)
    assert "PASSED pyproject.toml::TestZebraOne::" in tested.stdout


@pytest.mark.parametrize("module", ["alpaca", "alpaca_data", "kafka", "clickhouse", "live"])
def test_stand_ins_need_no_pytest(site, tmp_path, module):
    """Who runs a stand-in of a service installs nothing that only tests need; the suites alone do."""
    assert "usage" in run(site, tmp_path, "-m", f"torghut_testing.{module}", "--help").stdout.lower()
