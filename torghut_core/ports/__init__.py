"""Every replaceable part, as an abstract class whose docstring is the contract. No implementation lives here.

A plugin's class is registered under a name (see `hookspecs`); the kernel makes an instance of it for each place where
the catalog uses that name, with its validated `Params`, when a generation is built. From then on the kernel calls the
instance directly.
"""

from torghut_core.ports.broker import Broker, Capabilities, FeeTerms, FillTerms, OrderEntry
from torghut_core.ports.connection import Closed, Connected, Connection, SignalReader, Universe
from torghut_core.ports.deciding import Deciding
from torghut_core.ports.indicator import Indicator
from torghut_core.ports.observer import Observer
from torghut_core.ports.plugin import API_VERSION, Params, Plugin, param
from torghut_core.ports.risk import Advisor, OpenOrder, RiskContext, RiskRule, RuleTerms
from torghut_core.ports.source import Endpoint, LaneKeeper, Sink, Source
from torghut_core.ports.stores import Journal, SignalStore
from torghut_core.ports.strategy import (
    STARTERS,
    AccountView,
    Answer,
    BarHistory,
    Columns,
    Context,
    Handler,
    LiveContext,
    LivePortfolio,
    PortfolioContext,
    Strategy,
)

__all__ = [
    "API_VERSION",
    "STARTERS",
    "AccountView",
    "Advisor",
    "Answer",
    "BarHistory",
    "Broker",
    "Capabilities",
    "Closed",
    "Columns",
    "Connected",
    "Connection",
    "Context",
    "Deciding",
    "Endpoint",
    "FeeTerms",
    "FillTerms",
    "Handler",
    "Indicator",
    "Journal",
    "LaneKeeper",
    "LiveContext",
    "LivePortfolio",
    "Observer",
    "OpenOrder",
    "OrderEntry",
    "Params",
    "Plugin",
    "PortfolioContext",
    "RiskContext",
    "RiskRule",
    "RuleTerms",
    "SignalReader",
    "SignalStore",
    "Sink",
    "Source",
    "Strategy",
    "Universe",
    "param",
]
