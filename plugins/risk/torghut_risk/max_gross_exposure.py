"""Limit the exposure of the account in all symbols together."""

from __future__ import annotations

from decimal import Decimal
from typing import Self

from pydantic import model_validator

from torghut_core import Decision, RiskContext, RiskRule, Verdict, param
from torghut_risk.sizing import STEP_HELP, exposure_verdict, tighter


class MaxGrossExposure(RiskRule):
    """Shrink an order after which the account's gross exposure would be too large.

    Value: the notional of all positions and open orders of the account, each unsigned, at the last prices or those before
    them, whichever are higher, plus what the order opens; this, and what is held in its symbol, at the worst price it may
    get, quote currency. Limit: the lower of `max_gross_exposure` and `max_gross_pct_equity` times equity, quote currency;
    at least one of the two is required. What only closes a position passes.
    """

    class Params(RiskRule.Params):
        """Parameters of `MaxGrossExposure`."""

        max_gross_exposure: Decimal | None = param(None, gt=0, help="gross exposure of the account, quote currency")
        max_gross_pct_equity: Decimal | None = param(
            None, gt=0, help="gross exposure as a share of equity; 1 is all of it, more is on credit"
        )
        quantity_step: Decimal = param("0.000001", gt=0, help=STEP_HELP)

        @model_validator(mode="after")
        def _limit_is_given(self) -> Self:
            if self.max_gross_exposure is None and self.max_gross_pct_equity is None:
                raise ValueError("give max_gross_exposure, max_gross_pct_equity, or both")
            return self

    def check(self, decision: Decision, context: RiskContext) -> Verdict:
        """Allow up to the limit; see the class."""
        share = self.params.max_gross_pct_equity
        return exposure_verdict(
            "max-gross-exposure",
            decision,
            context,
            exposure=context.gross_exposure,
            held=context.position,
            limit=tighter(self.params.max_gross_exposure, None if share is None else share * context.account.equity),
            step=self.params.quantity_step,
        )
