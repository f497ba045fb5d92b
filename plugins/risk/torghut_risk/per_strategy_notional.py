"""Limit the exposure of one strategy."""

from __future__ import annotations

from decimal import Decimal

from torghut_core import Decision, RiskContext, RiskRule, Verdict, param
from torghut_risk.sizing import STEP_HELP, exposure_verdict


class PerStrategyNotional(RiskRule):
    """Shrink an order after which its strategy's exposure would be too large.

    Value: the notional of the strategy's own positions and open orders, all symbols, each unsigned, at the last prices or
    those before them, whichever are higher, plus what the order opens; this, and what is held in its symbol, at the worst
    price it may get, quote currency. Limit: `max_strategy_notional`, the same for each strategy. What only closes a
    position passes.
    """

    class Params(RiskRule.Params):
        """Parameters of `PerStrategyNotional`."""

        max_strategy_notional: Decimal = param(gt=0, help="notional that any one strategy may have, quote currency")
        quantity_step: Decimal = param("0.000001", gt=0, help=STEP_HELP)

    def check(self, decision: Decision, context: RiskContext) -> Verdict:
        """Allow up to the limit; see the class."""
        return exposure_verdict(
            "per-strategy-notional",
            decision,
            context,
            exposure=context.strategy_exposure,
            held=context.strategy_position,
            limit=self.params.max_strategy_notional,
            step=self.params.quantity_step,
        )
