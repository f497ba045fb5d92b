"""The risk rules that come with Torghut."""

from __future__ import annotations

from torghut_core import Register, RiskRule, hookimpl
from torghut_risk.buying_power import BuyingPower
from torghut_risk.cooldown import Cooldown
from torghut_risk.market_hours import MarketHours
from torghut_risk.max_daily_loss import MaxDailyLoss
from torghut_risk.max_gross_exposure import MaxGrossExposure
from torghut_risk.max_notional import MaxNotional
from torghut_risk.max_open_orders import MaxOpenOrders
from torghut_risk.max_orders_per_minute import MaxOrdersPerMinute
from torghut_risk.max_position_pct_equity import MaxPositionPctEquity
from torghut_risk.no_shorts import NoShorts
from torghut_risk.per_strategy_notional import PerStrategyNotional
from torghut_risk.price_band import PriceBand
from torghut_risk.stale_price import StalePrice
from torghut_risk.symbol_allowlist import SymbolAllowlist
from torghut_risk.wash_trade import WashTrade


@hookimpl
def register_risk_rules(register: Register[RiskRule]) -> None:
    """Register every rule of this package."""
    register("buying-power", BuyingPower)
    register("cooldown", Cooldown)
    register("market-hours", MarketHours)
    register("max-daily-loss", MaxDailyLoss)
    register("max-gross-exposure", MaxGrossExposure)
    register("max-notional", MaxNotional)
    register("max-open-orders", MaxOpenOrders)
    register("max-orders-per-minute", MaxOrdersPerMinute)
    register("max-position-pct-equity", MaxPositionPctEquity)
    register("no-shorts", NoShorts)
    register("per-strategy-notional", PerStrategyNotional)
    register("price-band", PriceBand)
    register("stale-price", StalePrice)
    register("symbol-allowlist", SymbolAllowlist)
    register("wash-trade", WashTrade)
