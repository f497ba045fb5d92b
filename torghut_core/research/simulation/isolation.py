"""What has to hold before a simulation begins and after it has ended, so that it touches nothing that is real."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from torghut_core.errors import StateError
from torghut_core.generation import Generation
from torghut_core.installation.open import open_audit
from torghut_core.installation.settings import Settings
from torghut_core.installation.state_directory import StateDirectory
from torghut_core.research.live_day.day import decided_in
from torghut_core.research.simulation.plan import Plan
from torghut_core.research.stored.window import Window

CONFIRMATION = "START_HISTORICAL_SIMULATION"
"""What has to be said before anything is started."""


_NAMES_DATABASE = ("database", "dbname", "service")
"""Options of a Postgres address that come before the database in its path."""


class Check(msgspec.Struct, frozen=True):
    """One thing that has to hold: its name, whether it does, what was found, and what to do where it does not."""

    name: str
    ok: bool
    found: str
    fix: str = ""


def checks(plan: Plan, generation: Generation) -> list[Check]:
    """Whether the names, settings and plugins of a simulation are its own."""
    settings = plan.settings()
    database = _audit_database(plan)
    broker = generation.broker
    is_simulated = broker is not None and broker.capabilities.simulated
    mode = settings["TRADING_MODE"]
    tables = (settings["TRADING_SIGNAL_TABLE"], settings["TRADING_PRICE_TABLE"])
    return [
        Check(
            "topics",
            all(topic.startswith("torghut.sim.") for topic in plan.topics.values()),
            ", ".join(sorted(plan.topics.values())),
            "every topic begins with torghut.sim.",
        ),
        Check(
            "consumer_group",
            plan.group.startswith("torghut-ta-sim-"),
            plan.group,
            "the group begins with torghut-ta-sim-",
        ),
        Check(
            "clickhouse_database",
            all(table.startswith("torghut_sim_") for table in tables),
            ", ".join(tables),
            "clickhouse.simulation_database begins with torghut_sim_",
        ),
        Check(
            "audit_database",
            database == plan.database,
            database,
            f"it is {plan.database}: postgres.simulation_dsn_template is postgresql://user:{{password}}@host/{{database}}, and a path has no ?",
        ),
        Check("TRADING_MODE", mode == "paper", mode, "it is paper, whatever the environment says"),
        Check(
            "TRADING_EXECUTION_ADAPTER",
            is_simulated,
            "simulation" if is_simulated else "a real venue",
            "the broker of `trading` simulates fills",
        ),
        Check("fallback", True, "none"),
        Check("order_feed", is_simulated, "the simulated broker's own reports", "no order feed of a venue is read"),
    ]


def _audit_database(plan: Plan) -> str:
    """The name of the database that the audit's address leads to, read as whoever connects reads it; and what else it says of that."""
    from sqlalchemy import make_url  # slow to import
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(plan.audit_url)
    except (ArgumentError, ValueError):  # a port that is no number is a ValueError
        return "an address that is no URL"
    name = url.database or ""
    if plan.manifest.postgres is None:
        return Path(name).stem
    if url.get_backend_name() not in ("postgres", "postgresql"):
        return f"{name} of {url.drivername}"
    return "".join([name, *(f", {option} {url.query[option]}" for option in _NAMES_DATABASE if option in url.query)])


def production_rows(settings: Settings, state: Path, window: Window) -> dict[str, int]:
    """Rows of the real audit database that are about the simulated time; nothing where there is no such database.

    A real process writes rows about now, so these numbers stay, unless the simulation wrote there.

    Raises
    ------
    StateError : it cannot be read.
    """
    directory = StateDirectory(state)
    if settings.db_dsn is None and not directory.exists:
        return {}
    with closing(open_audit(settings, directory)) as audit:
        tables = ("trade_decisions", "executions")
        return {table: sum(1 for _ in decided_in(audit, table, window)) for table in tables}


def require(found: Sequence[Check]) -> None:
    """Refuse to begin where a check fails.

    Raises
    ------
    StateError : which checks fail, what was found, and what to do.
    """
    failed = [f"{check.name}: {check.found} ({check.fix})" for check in found if not check.ok]
    if failed:
        raise StateError("the simulation is not isolated: " + "; ".join(failed))
