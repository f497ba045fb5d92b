"""A second opinion on entries right after a jump of the price."""

from decimal import Decimal

from torghut_core import Advisor, Decision, Outcome, Register, RiskContext, Verdict, hookimpl, param


class AcmeAlpha(Advisor):
    """Veto entries after a jump. Value: the price over the one before, less 1. Limit: `max_jump`. Exits pass."""

    class Params(Advisor.Params):
        """Parameters of `AcmeAlpha`."""

        max_jump: Decimal = param("0.05", gt=0, le=1, help="largest move of the price that is no jump, share of it")

    def review(self, decision: Decision, context: RiskContext) -> Verdict:
        """Allow entries in a calm market, and all exits."""
        limit, before = self.params.max_jump, context.recent_price
        jump = abs(context.price / before - 1) if before else Decimal(0)
        is_exit = decision.quantity <= context.closable(decision.action)
        outcome = Outcome.ALLOW if is_exit or jump <= limit else Outcome.DENY
        return Verdict("acme-alpha", outcome, "jump", str(jump), str(limit))


@hookimpl
def register_advisors(register: Register[Advisor]) -> None:
    """Register the name that a catalog gives in `use:`."""
    register("acme-alpha", AcmeAlpha)
