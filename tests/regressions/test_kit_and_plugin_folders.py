"""The authoring kit refused a strategy whose indicator lies in a plugin folder, or beside it in its own module."""

import sys

import pytest
from torghut_testing import StrategyConformance, random_rows

from torghut_core.errors import InputError
from torghut_core.features import close, indicator
from torghut_core.research import FeatureRows

MODULE = '''
from torghut_core import Indicator, Strategy, hookimpl
from torghut_core.features import close, indicator


class Twice(Indicator):
    """Twice the value."""

    def update(self, close):
        return 2 * close


class Doubling(Strategy):
    """Buys where twice the close is above 200."""

    def features(self):
        return {"twice": indicator("twice-of-a-folder", close)}

    def on_signal(self, signal, context):
        if context.is_flat and signal.twice > 200:
            return context.buy(1, because="above")


@hookimpl
def register_indicators(register):
    register("twice-of-a-folder", Twice)
'''


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module with a strategy and its indicator, imported as pytest does: from its folder."""
    (tmp_path / "doubling_of_mine.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    import doubling_of_mine

    yield doubling_of_mine
    sys.modules.pop("doubling_of_mine", None)


def test_a_strategy_has_the_indicators_that_its_own_module_registers(module):
    """Nothing has to be installed, and no setting to be made."""
    suite = type("TestDoubling", (StrategyConformance,), {"strategy": module.Doubling})()
    suite.test_features_exist()
    assert all(row.signal.twice == 2 * row.price for row in suite.rows(0))


def test_rows_have_the_indicators_of_plugin_folders(tmp_path, monkeypatch):
    """As soon as the folder is in TORGHUT_PLUGIN_PATH; before, the indicator is not known."""
    wanted = {"twice": indicator("twice-of-a-folder", close)}
    with pytest.raises(InputError, match="no indicator is called 'twice-of-a-folder'"):
        FeatureRows(wanted, ["A"])
    (tmp_path / "in_a_folder.py").write_text(MODULE)
    monkeypatch.setenv("TORGHUT_PLUGIN_PATH", str(tmp_path))
    assert all(row.signal.twice == 2 * row.price for row in random_rows((), 0, 5, timeframe="1Min", features=wanted))
    sys.modules.pop("in_a_folder", None)
