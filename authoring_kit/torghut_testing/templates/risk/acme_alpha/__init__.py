"""Open no positions in what is too cheap to trade."""

from decimal import Decimal

from torghut_core import Decision, Outcome, Register, RiskContext, RiskRule, Verdict, hookimpl, param


class AcmeAlpha(RiskRule):
    """Deny entries below a price. Value: the last price. Limit: `min_price`. Exits pass."""

    class Params(RiskRule.Params):
        """Parameters of `AcmeAlpha`."""

        min_price: Decimal = param("1", gt=0, help="cheapest price to enter at, quote currency per unit")

    def check(self, decision: Decision, context: RiskContext) -> Verdict:
        """Allow dear entries and all exits."""
        limit = self.params.min_price
        is_exit = decision.quantity <= context.closable(decision.action)
        outcome = Outcome.ALLOW if is_exit or context.price >= limit else Outcome.DENY
        return Verdict("acme-alpha", outcome, "min-price", str(context.price), str(limit))


@hookimpl
def register_risk_rules(register: Register[RiskRule]) -> None:
    """Register the name that a catalog gives in `use:`."""
    register("acme-alpha", AcmeAlpha)
