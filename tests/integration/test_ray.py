"""Sweeps on a real Ray cluster of this machine give what its own processes give."""

import pytest

from support.sweeps import COLUMNS, write_place, write_plugins
from torghut_core.research import open_sweep

pytest.importorskip("torghut_ray", reason="torghut-ray is not installed (pip install ./scale/ray)")


@pytest.fixture(scope="module")
def plugins(tmp_path_factory):
    return write_plugins(tmp_path_factory.mktemp("plugins"))


@pytest.fixture
def place(tmp_path, monkeypatch, plugins):
    monkeypatch.setenv("TORGHUT_PLUGIN_PATH", str(plugins))
    return write_place(tmp_path)


def tried(place, workers, sets, *axes):
    with open_sweep(place / "catalog.yaml", [place / "bars.parquet"], axes, workers=workers) as sweep:
        return sweep.way, list(sweep.evaluate(sets, has_curve=True))


def sets_of(*faults):
    return [{"params.fast": fast, "params.fault": fault} for fast in range(3, 16) for fault in faults]


def test_trials_are_the_same(place):
    """Those of the loop and those of compiled code, sets that are not valid too."""
    axes = "params.fast=3:15:1", "params.fault='',raise", "params.slow=20,200"
    sets = [*sets_of("", "raise"), {"params.slow": 200}]
    way, trials = tried(place, "ray://local", sets, *axes)
    assert "Ray worker" in way
    assert repr(trials) == repr(tried(place, "1", sets, *axes)[1])

    (place / "catalog.yaml").write_text(COLUMNS)
    way, trials = tried(place, "ray://local", sets, *axes)
    assert way.startswith("in compiled code, on")
    assert repr(trials) == repr(tried(place, "1", sets, *axes)[1])


def test_a_worker_that_dies_loses_its_set_alone(place):
    """`os._exit` in a strategy fails that trial; those that the worker had besides are tried again."""
    sets = [*sets_of("")[:3], {"params.fault": "exit"}, *sets_of("")[3:]]
    _, trials = tried(place, "ray://local", sets, "params.fast=3:15:1", "params.fault='',exit")
    assert [trial.number for trial in trials if trial.outcome != "done"] == [3]
    assert "its Ray worker died" in trials[3].reason
    assert [trial.params for trial in trials] == sets
