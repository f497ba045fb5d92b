"""Stop a bad day before it becomes a worse one."""

from __future__ import annotations

from decimal import Decimal
from typing import Self

from pydantic import model_validator

from torghut_core import Decision, RiskContext, RiskRule, Verdict, param
from torghut_risk.sizing import ZERO, entry_verdict, tighter


class MaxDailyLoss(RiskRule):
    """Deny entries while the account has lost too much since its day began.

    Value: equity when the account's day began, less the least equity since that a decision was judged by, quote
    currency; open positions count at the last prices. Limit: the lower of `max_daily_loss` and `max_daily_loss_pct`
    times equity when the day began, quote currency, reached as soon as the loss is as large; at least one of them has to
    be given. The day is the broker's and ends at its midnight; until then the rule stays closed, also where open
    positions win the loss back (a restart forgets the least equity). Exits pass.
    """

    class Params(RiskRule.Params):
        """Parameters of `MaxDailyLoss`."""

        max_daily_loss: Decimal | None = param(None, gt=0, help="loss that ends the day's entries, quote currency")
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
