"""The kit's checks over everything that our distributions register: a new plugin is covered by registering."""

from importlib.metadata import entry_points
from pathlib import Path

import pytest
from torghut_testing.suites import SUITES, plugins_of, suite_of

from torghut_core import hookspecs

WITHOUT_SUITE = {"register_observers"}

FACTS = {
    "max-daily-loss": {"params": {"max_daily_loss": "1000"}},
    "max-gross-exposure": {"params": {"max_gross_exposure": "100000", "max_gross_pct_equity": "0.5"}},
    "max-open-orders": {"params": {"max_open_orders": 20}},
    "max-orders-per-minute": {"params": {"max_orders_per_minute": 30}},
    "per-strategy-notional": {"params": {"max_strategy_notional": "10000"}},
    "pivots": {"waits": True},
    "price-band": {"params": {"max_distance_pct": "0.05"}},
    "replay": {"params": {"paths": [str(Path(__file__).with_name("tape.csv"))]}},
    "symbol-allowlist": {"params": {"symbols": ["ETH/USD"]}},
    "wash-trade": {"exits_pass": False},  # a venue refuses a trade with oneself, whatever it is for
}
"""What the suite of a plugin cannot know by itself: attributes of the suite, by plugin name."""

QUICK = {"correlation", "ema", "macd", "pivots"}
"""Indicators whose suite is always run; that of each other one is a proof."""

MODULES = [point.load() for point in entry_points(group="torghut") if point.dist.name.startswith("torghut-")]
REGISTERED = [registered for module in MODULES for registered in plugins_of(module)]

for hook, name, cls in REGISTERED:
    made = suite_of(hook, name, cls, **FACTS.get(name, {}))
    globals()[f"Test{cls.__name__}"] = (
        made if hook != "register_indicators" or name in QUICK else pytest.mark.proof(made)
    )


def test_names_are_unique_within_a_kind():
    """No two of our plugins of one kind answer to one name."""
    keys = [(hook, name) for hook, name, _ in REGISTERED]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(("hook", "name", "cls"), REGISTERED, ids=[f"{hook}-{name}" for hook, name, _ in REGISTERED])
def test_name_is_kebab_case(hook, name, cls):
    """A plugin's name reads like the others in a catalog."""
    assert name == name.lower().replace("_", "-")


def test_every_hook_has_a_suite():
    """A new extension point comes with checks, or is listed as having none."""
    hooks = {name for name in vars(hookspecs) if name.startswith("register_")}
    assert hooks == SUITES.keys() | WITHOUT_SUITE


def test_facts_are_of_registered_plugins():
    """No facts are left behind by a plugin that is gone."""
    assert FACTS.keys() <= {name for _, name, _ in REGISTERED}
