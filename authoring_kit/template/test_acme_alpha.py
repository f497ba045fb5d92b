"""The kit's checks of a strategy, on ours."""

from acme_alpha import Breakout
from torghut_testing import StrategyConformance


class TestBreakout(StrategyConformance):
    strategy = Breakout
