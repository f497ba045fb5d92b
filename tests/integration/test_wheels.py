"""What a user installs: the wheels of `torghut[standard]` and of the kit, without the embedded store and pytest."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from support.waiting import PATIENCE
from support.wheels import PROJECTS, ROOT, build_wheels

pytestmark = pytest.mark.proof
WITHOUT = """
import sys

for name in ("chdb", "pytest", "_pytest", "hypothesis"):
    sys.modules[name] = None  # an import of it fails, and nothing finds it
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder of packages, as an installer unpacks the wheels into it."""
    folder = tmp_path_factory.mktemp("site")
    for wheel in build_wheels(folder / "wheels"):
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(folder)
    (folder / "without").mkdir()
    (folder / "without" / "sitecustomize.py").write_text(WITHOUT)
    return folder


def run(site, cwd, *arguments):
    """Run Python on these packages, in an empty folder."""
    env = {**os.environ, "PYTHONPATH": f"{site / 'without'}{os.pathsep}{site}"}
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


def test_each_file_of_a_package_is_in_its_wheel(site):
    """Also what is no code: templates, migrations, `py.typed`, the example catalogs and their tape."""
    packages = {each.parent: "" for project in PROJECTS for each in (ROOT / project).glob("torghut_*/__init__.py")} | {
        ROOT / "catalog": "torghut_core/demo"
    }
    missing = [
        file
        for package, inside in packages.items()
        for file in package.rglob("*.*")
        if file.is_file()
        and "__pycache__" not in file.parts
        and not (site / (inside or package.name) / file.relative_to(package)).is_file()
    ]
    assert len(packages) == len(PROJECTS) + 1
    assert missing == []


@pytest.mark.parametrize("module", ["alpaca", "alpaca_data", "kafka", "clickhouse", "live"])
def test_stand_ins_need_no_pytest(site, tmp_path, module):
    """Who runs a stand-in of a service installs nothing that only tests need; the suites alone do."""
    assert "usage" in run(site, tmp_path, "-m", f"torghut_testing.{module}", "--help").stdout.lower()
