"""Torghut: a small kernel that trades what plugins propose, as a catalog says.

This module is the door for plugin authors; `torghut_core.stages` is the one for authors of stages. Everything else
is the kernel's own.
"""

from typing import TYPE_CHECKING, Any

from torghut_core.bus.envelope import (
    BarPayload,
    Envelope,
    MicrobarPayload,
    QuotePayload,
    SignalsPayload,
    StatusPayload,
    TradePayload,
    Window,
)
from torghut_core.bus.marks import ends_of, time_message, time_of, with_ends
from torghut_core.bus.topics import Topics
from torghut_core.calendars import (
    ROUND_THE_CLOCK,
    ExchangeSessions,
    calendar_bounds,
    check_calendar,
    exchange_sessions,
)
from torghut_core.environment import Environment
from torghut_core.errors import (
    CatalogError,
    DuplicateOrder,
    IllegalTransition,
    InputError,
    NotFoundError,
    NotSent,
    OrderRefused,
    PluginError,
    Problem,
    SettingsError,
    ShapeError,
    StateError,
    TapeError,
    Throttled,
    TorghutError,
    Unanswered,
    VenueError,
    retry_after,
)
from torghut_core.hookspecs import Register, hookimpl
from torghut_core.model.market import (
    SIGNAL_COLUMNS,
    SYMBOL_PATTERN,
    TIMEFRAMES,
    Bars,
    Batch,
    FloatArray,
    IntArray,
    Message,
    Quotes,
    Signal,
    Signals,
    SymbolTable,
    Table,
    Trades,
    signal_type,
    window_size,
)
from torghut_core.model.order_state import apply_report, is_done, reports_of
from torghut_core.model.positions import apply_fill, unrealized_pnl
from torghut_core.model.sale_conditions import NO_PRICE, NOTHING_COUNTS, SaleConditions, check_condition
from torghut_core.model.trading import (
    Account,
    Decision,
    Fill,
    Intent,
    Limits,
    Order,
    OrderEvent,
    OrderState,
    OrderStatus,
    OrderType,
    Outcome,
    Position,
    Report,
    Side,
    TimeInForce,
    Verdict,
    money,
)
from torghut_core.ports import (
    API_VERSION,
    AccountView,
    Advisor,
    Broker,
    Capabilities,
    Closed,
    Connection,
    Context,
    LaneKeeper,
    LiveContext,
    Observer,
    OpenOrder,
    Params,
    Plugin,
    RiskContext,
    RiskRule,
    SignalReader,
    Sink,
    Source,
    Strategy,
    Universe,
    param,
)
from torghut_core.telemetry.metrics import Metric, MetricSpec
from torghut_core.timestamps import (
    DAY,
    HOUR,
    MILLISECOND,
    MINUTE,
    SECOND,
    format_timestamp,
    from_datetime,
    parse_timestamp,
    to_datetime,
)

if TYPE_CHECKING:
    from torghut_core.bus.registry import Registry, RegistryError
    from torghut_core.bus.schema import AvroCodec

__all__ = [
    "API_VERSION",
    "DAY",
    "HOUR",
    "MILLISECOND",
    "MINUTE",
    "NOTHING_COUNTS",
    "NO_PRICE",
    "ROUND_THE_CLOCK",
    "SECOND",
    "SIGNAL_COLUMNS",
    "SYMBOL_PATTERN",
    "TIMEFRAMES",
    "Account",
    "AccountView",
    "Advisor",
    "AvroCodec",
    "BarPayload",
    "Bars",
    "Batch",
    "Books",
    "Broker",
    "Capabilities",
    "CatalogError",
    "Closed",
    "Connection",
    "Context",
    "Decision",
    "DuplicateOrder",
    "Envelope",
    "Environment",
    "ExchangeSessions",
    "Fill",
    "FloatArray",
    "IllegalTransition",
    "InputError",
    "IntArray",
    "Intent",
    "LaneKeeper",
    "Limits",
    "LiveContext",
    "Message",
    "Metric",
    "MetricSpec",
    "MicrobarPayload",
    "NotFoundError",
    "NotSent",
    "Observer",
    "OpenOrder",
    "Order",
    "OrderEvent",
    "OrderRefused",
    "OrderState",
    "OrderStatus",
    "OrderType",
    "Outcome",
    "Params",
    "Plugin",
    "PluginError",
    "Position",
    "Problem",
    "QuotePayload",
    "Quotes",
    "Register",
    "Registry",
    "RegistryError",
    "Report",
    "RiskContext",
    "RiskRule",
    "SaleConditions",
    "SettingsError",
    "ShapeError",
    "Side",
    "Signal",
    "SignalReader",
    "Signals",
    "SignalsPayload",
    "Sink",
    "Source",
    "StateError",
    "StatusPayload",
    "Strategy",
    "SymbolTable",
    "Table",
    "TapeError",
    "Throttled",
    "TimeInForce",
    "Topics",
    "TorghutError",
    "TradePayload",
    "Trades",
    "Unanswered",
    "Universe",
    "VenueError",
    "Verdict",
    "Window",
    "apply_fill",
    "apply_report",
    "calendar_bounds",
    "check_calendar",
    "check_condition",
    "ends_of",
    "exchange_sessions",
    "format_timestamp",
    "from_datetime",
    "hookimpl",
    "is_done",
    "money",
    "param",
    "parse_timestamp",
    "reports_of",
    "retry_after",
    "signal_type",
    "time_message",
    "time_of",
    "to_datetime",
    "unrealized_pnl",
    "window_size",
    "with_ends",
]

Books = AccountView
"""The name of `AccountView` before 0.2; strategies that were published with it still import."""

_LATE = {"AvroCodec": "schema", "Registry": "registry", "RegistryError": "registry"}
"""Names that are imported when they are first asked for: what they need costs 0.1 s, and most processes need none."""


if not TYPE_CHECKING:  # else a type checker would take any name for one of this module

    def __getattr__(name: str) -> Any:
        if name not in _LATE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f"torghut_core.bus.{_LATE[name]}"), name)
