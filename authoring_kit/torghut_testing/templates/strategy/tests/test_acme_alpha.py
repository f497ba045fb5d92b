"""What this strategy promises; the checks of every strategy run by themselves."""

from acme_alpha import AcmeAlpha
from torghut_testing import context, signal


def answer(close, **held):
    """What it decides on a close, when the high before was 100 and an average true range is 1."""
    strategy = AcmeAlpha(AcmeAlpha.Params(stop_atrs=2))
    return strategy.on_signal(signal(close=close, features={"top": 100, "atr": 1, "trend": 99}), context(**held))


def test_new_high_is_bought_once_with_a_stop():
    bought = answer(100.5)
    assert bought.because == "new high in an uptrend"
    assert bought.bracket.stop_loss == 98.5
    assert answer(99.5) is None
    assert answer(100.5, position=1, average_price=100) is None
