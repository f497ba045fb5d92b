"""Stop entries after a loss, for the rest of the day."""

from __future__ import annotations

from decimal import Decimal
from typing import Self

from pydantic import model_validator

from torghut_core import Decision, RiskContext, RiskRule, Verdict, param
from torghut_risk.sizing import ZERO, entry_verdict, tighter


class MaxDailyLoss(RiskRule):
    """Deny entries while the account has lost too much since its day began.

    Value: equity when the account's day began, less the lowest equity at any decision since, quote currency; open
    positions count at the last prices. Limit: the lower of `max_daily_loss` and `max_daily_loss_pct` times equity when
    the day began, quote currency; a loss that equals the limit denies. At least one of the two is required. The day is
    the broker's and ends at its midnight; until then entries stay denied, even if open positions recover the loss (a
    restart forgets the lowest equity). Exits pass.
    """

    class Params(RiskRule.Params):
        """Parameters of `MaxDailyLoss`."""

        max_daily_loss: Decimal | None = param(None, gt=0, help="loss that stops entries for the day, quote currency")
        max_daily_loss_pct: Decimal | None = param(
            None, gt=0, le=1, help="the same as a share of equity when the day began, 0 to 1"
        )

        @model_validator(mode="after")
        def _limit_is_given(self) -> Self:
            if self.max_daily_loss is None and self.max_daily_loss_pct is None:
                raise ValueError("give max_daily_loss, max_daily_loss_pct, or both")
            return self

    def check(self, decision: Decision, context: RiskContext) -> Verdict:
        """Allow while the loss is smaller; see the class."""
        share = self.params.max_daily_loss_pct
        of_equity = None if share is None else share * max(ZERO, context.day_start_equity)
        limit = tighter(self.params.max_daily_loss, of_equity)
        assert limit is not None
        loss = context.day_start_equity - min(context.day_low_equity, context.account.equity)
        return entry_verdict("max-daily-loss", decision, context, may_enter=loss < limit, value=loss, limit=limit)
