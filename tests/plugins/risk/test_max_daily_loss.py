"""The loss that ends a day's entries."""

from decimal import Decimal

import pydantic
import pytest
from torghut_risk import MaxDailyLoss
from torghut_testing import decision, risk_context

from torghut_core import Outcome, Verdict


def check(equity, proposed=None, position=0, began=10_000, **params):
    context = risk_context(equity=equity, position=position, day_start_equity=began)
    return MaxDailyLoss(MaxDailyLoss.Params(**(params or {"max_daily_loss": 500}))).check(
        proposed or decision(), context
    )


@pytest.mark.parametrize(("equity", "value"), [("9500.01", "499.99"), (10_000, "0"), (12_000, "-2000")])
def test_smaller_loss_passes(equity, value):
    """Up to the last cent, and of course a gain."""
    assert check(equity) == Verdict("max-daily-loss", Outcome.ALLOW, "max-daily-loss", value, "500")


@pytest.mark.parametrize(("equity", "value"), [(9500, "500"), (0, "10000"), (-1, "10001")])
def test_loss_at_the_limit_ends_entries(equity, value):
    """The limit is reached when the loss is as large."""
    assert check(equity) == Verdict("max-daily-loss", Outcome.DENY, "max-daily-loss", value, "500")


@pytest.mark.parametrize(
    ("params", "limit"),
    [
        ({"max_daily_loss_pct": "0.02"}, "200"),
        ({"max_daily_loss_pct": "0.02", "max_daily_loss": 150}, "150"),
        ({"max_daily_loss_pct": "0.02", "max_daily_loss": 250}, "200"),
    ],
)
def test_lower_limit_wins(params, limit):
    """Of a sum and a share of the day's first equity the lower one holds."""
    assert check(10_000, **params).limit == limit


@pytest.mark.parametrize("began", [0, -100])
def test_day_that_began_with_nothing_has_nothing_to_lose(began):
    """A share of nothing is nothing, and reached at once."""
    assert check(began, began=began, max_daily_loss_pct="0.5").outcome is Outcome.DENY


def test_new_day_opens_again():
    """The loss is measured from the day's own beginning."""
    assert check(9000).outcome is Outcome.DENY
    assert check(9000, began=9000).outcome is Outcome.ALLOW


def test_exit_passes_on_a_bad_day():
    """A loss must not lock anyone into what makes it; a reversal is cut to its exit."""
    assert check(0, decision("sell", 2), position=2).outcome is Outcome.ALLOW
    assert check(0, decision("sell", 5), position=2).quantity == Decimal(2)


def test_rule_without_a_limit_is_refused():
    """A rule that bounds nothing is a mistake in the catalog, and the message says what to give."""
    with pytest.raises(pydantic.ValidationError, match="max_daily_loss, max_daily_loss_pct, or both"):
        MaxDailyLoss.Params()


def test_loss_that_was_won_back_keeps_the_day_closed():
    """Until the day ends: an account that has lost too much once has had its day."""
    context = risk_context(equity=9900, day_start_equity=10_000, day_low_equity=9500)
    rule = MaxDailyLoss(MaxDailyLoss.Params(max_daily_loss=500))
    assert rule.check(decision(), context).outcome is Outcome.DENY
