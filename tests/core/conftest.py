"""Plugins small enough to read, for tests of what makes and holds plugins."""

from decimal import Decimal
from types import ModuleType

import pytest

from torghut_core import (
    Account,
    Advisor,
    Broker,
    Capabilities,
    Indicator,
    Observer,
    OrderType,
    Outcome,
    Params,
    RiskRule,
    Sink,
    Source,
    Strategy,
    TimeInForce,
    Verdict,
    hookimpl,
    param,
)
from torghut_core.plugin_host import PluginHost
from torghut_core.stages import Stage


class Momentum(Strategy):
    columns = ("macd_hist", "rsi14")

    class Params(Strategy.Params):
        rsi_buy: float = param(35, ge=0, le=100, help="enter below, RSI points")
        rsi_sell: float = param(65, ge=0, le=100, help="leave above, RSI points")
        quantity: Decimal = param("1", gt=0, help="units per entry")

    def on_signal(self, signal, context):
        return None


class Leg(Params):
    symbol: str = param(help="what it holds")
    weight: float = param(1, gt=0, help="share of the pair")


class Pair(Strategy):
    """Needs parameters, nests them, and is particular about them."""

    class Params(Strategy.Params):
        legs: list[Leg] = param(min_length=1, help="what it holds against each other")
        mood: str | None = param(None, help="how it feels")

    def __init__(self, params):
        super().__init__(params)
        if params.mood == "bad":
            raise ValueError("not today")

    def on_signal(self, signal, context):
        return None


class Allow(RiskRule):
    class Params(RiskRule.Params):
        quantity_step: Decimal = param("1", gt=0, help="a shrunk quantity is a multiple of this, units")

    def check(self, decision, context):
        return Verdict("allow", Outcome.ALLOW, "allow")


class CapNotional(Allow):
    limit = "max_notional_per_trade"


class CapPosition(Allow):
    limit = "max_position_pct_equity"


class Pause(Allow):
    limit = "cooldown_seconds"


class Tape(Source):
    """Opens what it is given, as a real source may."""

    is_recorded = True

    class Params(Source.Params):
        paths: tuple[str, ...] = param((), help="tapes to replay")
        speed: str = param("max", help="times real time, or max")

    opened = 0

    def __init__(self, params):
        super().__init__(params)
        Tape.opened += 1

    async def batches(self, size):
        return
        yield


class Venue(Broker):
    capabilities = Capabilities(frozenset(OrderType), frozenset(TimeInForce), simulated=True)

    class Params(Broker.Params):
        cash: Decimal = param("100000", ge=0, help="cash at the start")

    def submit(self, intent): ...
    def cancel(self, client_order_id): ...
    def replace(self, client_order_id, quantity=None, limit_price=None, stop_price=None): ...
    def orders(self):
        return []

    def positions(self):
        return {}

    def account(self):
        return Account(self.params.cash, self.params.cash, self.params.cash)

    def updates(self):
        return []


class Outlet(Sink):
    async def send(self, messages): ...
    async def flush(self): ...


class Last(Indicator):
    """The value itself."""

    def update(self, value):
        return value


class Pass(Stage):
    def update(self, batch):
        return batch


class Opinion(Advisor):
    def review(self, decision, context):
        return Verdict("opinion", Outcome.ALLOW, "opinion")


FAKES = {
    "register_strategies": {"macd-rsi": Momentum, "pair": Pair},
    "register_risk_rules": {"cooldown": Pause, "max-notional": CapNotional, "max-position-pct-equity": CapPosition},
    "register_brokers": {"simulated": Venue},
    "register_sources": {"replay": Tape},
    "register_sinks": {"outlet": Outlet},
    "register_stages": {"microbars": Pass},
    "register_indicators": {"last": Last},
    "register_advisors": {"opinion": Opinion},
    "register_observers": {"listener": Observer},
}


def make_module(name, hooks):
    """A plugin module whose hooks register the given classes by name, or are the given functions."""
    module = ModuleType(name)
    for hook, brought in hooks.items():

        def implementation(register, brought=brought):
            for plugin, cls in brought.items():
                register(plugin, cls)

        setattr(module, hook, brought if callable(brought) else hookimpl(implementation))
    return module


@pytest.fixture(scope="session")
def plugin_module():
    """`make_module`."""
    return make_module


@pytest.fixture
def fakes():
    """A host with one or more plugins of each kind; none is installed."""
    return PluginHost([("fakes", make_module("fakes", FAKES))])


@pytest.fixture(scope="session")
def fake_classes():
    """The classes behind `fakes`, by hook and name."""
    return FAKES
