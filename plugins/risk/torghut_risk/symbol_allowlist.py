"""Open positions in named symbols only."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

from torghut_core import SYMBOL_PATTERN, Decision, RiskContext, RiskRule, Verdict, param
from torghut_risk.sizing import entry_verdict


class SymbolAllowlist(RiskRule):
    """Deny an entry in a symbol that is not listed, whatever the strategies' own lists say.

    Value: the symbol. Limit: the listed symbols, separated by commas. What closes a position passes: a position in a
    symbol that was taken off the list can still be closed.
    """

    class Params(RiskRule.Params):
        """Parameters of `SymbolAllowlist`."""

        symbols: tuple[Annotated[str, StringConstraints(pattern=f"^{SYMBOL_PATTERN.pattern}$")], ...] = param(
            min_length=1, help="symbols in which positions may be opened"
        )

    def __init__(self, params: Params) -> None:
        super().__init__(params)
        self._listed = frozenset(params.symbols)
        self._limit = ",".join(sorted(self._listed))

    def check(self, decision: Decision, context: RiskContext) -> Verdict:
        """Allow what is listed; see the class."""
        symbol = decision.symbol
        is_listed = symbol in self._listed
        return entry_verdict(
            "symbol-allowlist", decision, context, may_enter=is_listed, value=symbol, limit=self._limit
        )
