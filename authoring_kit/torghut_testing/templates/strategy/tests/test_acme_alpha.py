"""What this strategy promises; the checks of every strategy run by themselves."""

from acme_alpha import AcmeAlpha
from torghut_testing import context, signal


def answer(close, **held):
    """What it decides on a close, when the high before was 100 and an average true range is 1."""
    strategy = AcmeAlpha(AcmeAlpha.Params(stop_atrs=2))
    return strategy.on_signal(signal(close=close, features={"top": 100, "atr": 1, "trend": 99}), context(**held))


def test_new_high_is_bought_and_the_stop_closes_it():
    assert answer(100.5).because == "new high in an uptrend"
    assert answer(99.5) is None
    assert answer(98.5, position=1, average_price=100) is None
    assert answer(97.5, position=1, average_price=100).because == "stop"
