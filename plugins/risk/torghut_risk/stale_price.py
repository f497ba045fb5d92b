"""Enter only at a recent price."""

from __future__ import annotations

from decimal import Decimal

from torghut_core import MILLISECOND, Decision, RiskContext, RiskRule, Verdict, param
from torghut_risk.sizing import entry_verdict


class StalePrice(RiskRule):
    """Deny an entry whose price is too old.

    Value: age of the last price, milliseconds. Limit: `max_age_ms`. Exits pass: when the feed hangs, an exit at an unknown
    price costs slippage, but staying in may cost everything. The kernel's own gate on the age of the price
    (``TRADING_PRICE_LOOKBACK_MINUTES``) applies to exits too; this rule is the tighter one, for entries.
    """

    class Params(RiskRule.Params):
        """Parameters of `StalePrice`."""

        max_age_ms: int = param(60_000, gt=0, help="largest age of a price for an entry, milliseconds")

    def check(self, decision: Decision, context: RiskContext) -> Verdict:
        """Allow while the price is fresh; see the class."""
        age = Decimal(context.now - context.price_ts) / MILLISECOND
        limit = Decimal(self.params.max_age_ms)
        return entry_verdict("stale-price", decision, context, may_enter=age <= limit, value=age, limit=limit)
