"""The risk rules that come with Torghut."""

from __future__ import annotations

from torghut_core import Register, RiskRule, hookimpl
from torghut_risk.buying_power import BuyingPower
from torghut_risk.cooldown import Cooldown
from torghut_risk.max_notional import MaxNotional
from torghut_risk.max_position_pct_equity import MaxPositionPctEquity
from torghut_risk.no_shorts import NoShorts
from torghut_risk.stale_price import StalePrice
from torghut_risk.symbol_allowlist import SymbolAllowlist


@hookimpl
def register_risk_rules(register: Register[RiskRule]) -> None:
    """Bring every rule of this package."""
    register("buying-power", BuyingPower)
    register("cooldown", Cooldown)
    register("max-notional", MaxNotional)
    register("max-position-pct-equity", MaxPositionPctEquity)
    register("no-shorts", NoShorts)
    register("stale-price", StalePrice)
    register("symbol-allowlist", SymbolAllowlist)
