"""The kit's checks of a strategy, on ours."""

from acme_alpha import Oversold
from torghut_testing import StrategyConformance


class TestOversold(StrategyConformance):
    strategy = Oversold
