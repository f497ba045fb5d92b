"""Looks an installation over: what a person would check by hand before trusting it.

Where a kernel runs on the state directory it is asked how it is. Besides its admin API, the audit database and the signal
store nothing is called over a network: no key is tried at a venue, and no clock is compared with a venue's. Nothing is
changed either, no database upgraded.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from torghut_core.catalog import Catalog
from torghut_core.controls import POLL_SECONDS, ROW, Control, Controls
from torghut_core.environment import secret
from torghut_core.errors import CatalogError, StateError, TorghutError
from torghut_core.plugin_host import PluginHost
from torghut_core.settings import Settings, load_settings
from torghut_core.state import StateDirectory
from torghut_core.timestamps import format_timestamp

MENDS: Mapping[str, str] = {
    "loop": "torghut kill stops trading all the same; then start the kernel anew",
    "venue": "torghut reconcile; what each reason means is in docs/on-call.md",
    "database": "mend the database: the kernel goes on by itself",
    "control": "torghut unkill --reason WHY, once it is safe",
    "catalog": "torghut catalog status",
    "quarantine": "torghut catalog status; mended code trades after the next reload",
}
"""What to do about each check of a running kernel, see `Console.trading_health`."""


NEVER = Control(state="running", reason="", actor="", at=0)
"""A control that was never turned."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: whether it is well, what was seen, and what to do about it."""

    subject: str
    is_well: bool
    detail: str
    mend: str = ""


def examine(catalog: Path | None, state: Path) -> list[Finding]:
    """Look at Python, plugins, settings, a kernel that runs, its control, stores and, where there is one, the catalog.

    Parameters
    ----------
    catalog : the configured one where None.
    """
    findings = [_python()]
    settings, finding = _settings()
    findings.append(finding)
    if settings is None:
        return findings
    directory = StateDirectory(state)
    kernel = list(_kernel(settings, directory))
    findings += [*_plugins(settings), _trading(settings), _admin(settings), *kernel]
    findings += _catalog(settings, catalog or settings.trading_strategy_config_path, is_running=bool(kernel))
    return [*findings, *_kept(settings, directory), _signals(settings, directory, is_running=bool(kernel))]


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", sys.version_info >= (3, 11), version, "")


def _settings() -> tuple[Settings | None, Finding]:
    try:
        settings = load_settings()
    except TorghutError as error:
        return None, Finding("settings", False, str(error), "correct or unset the variables named above")
    named = [name.upper() for name in Settings.model_fields if name.upper() in os.environ]
    return settings, Finding("settings", True, f"from the environment: {', '.join(named) or 'none, all defaults'}")


def _trading(settings: Settings) -> Finding:
    switches = {
        "TRADING_MODE=live": settings.trading_mode == "live",
        "TRADING_LIVE_ENABLED=true": settings.trading_live_enabled,
        "TRADING_LIVE_ACCOUNT=NUMBER": bool(settings.trading_live_account),
    }
    missing = " and ".join(switch for switch, is_set in switches.items() if not is_set)
    orders = (
        "orders may leave"
        if settings.trading_enabled
        else "not enabled: no order leaves `torghut run` without TRADING_ENABLED=true (replays trade all the same)"
    )
    if settings.is_live:
        return Finding(
            "trading", True, f"LIVE, with the real money of account {settings.trading_live_account}; {orders}"
        )
    if settings.trading_mode == "live":
        return Finding(
            "trading",
            False,
            f"PAPER, NOT LIVE: TRADING_MODE=live means paper without {missing}",
            f"set {missing} if you mean real money, else TRADING_MODE=paper",
        )
    return Finding("trading", True, f"paper; {orders}; live trading would need {missing}")


def _admin(settings: Settings) -> Finding:
    from torghut_core.admin.auth import parse_tokens

    try:
        tokens = parse_tokens(settings.admin_tokens)
    except TorghutError as error:
        return Finding("admin API", False, str(error), "correct ADMIN_TOKENS")
    actors = ", ".join(sorted({token.actor for token in tokens}))
    return Finding(
        "admin API", True, f"tokens of {actors}" if tokens else "no tokens: for this machine's operator only"
    )


def _plugins(settings: Settings) -> Iterator[Finding]:
    from torghut_core.stores import load_plugins

    host = load_plugins(settings, ("*",))
    plugins = host.plugins()
    yield Finding(
        "plugins",
        bool(plugins),
        f"{len(plugins)} from {', '.join(sorted({plugin.distribution for plugin in plugins})) or 'nowhere'}",
        "" if plugins else "pip install 'torghut[standard]'",
    )
    for failure in host.failures:
        yield Finding(
            f"plugin {failure.plugin}",
            False,
            failure.reason,
            f"mend or uninstall {failure.distribution or failure.plugin}",
        )


def _kernel(settings: Settings, directory: StateDirectory) -> Iterator[Finding]:
    """What the kernel that runs there says of itself; nothing where none runs."""
    from torghut_core.admin.client import connect

    if not directory.path.is_dir():
        return
    try:
        with directory:
            return
    except StateError as error:
        occupied = str(error)
    token = settings.torghut_token.get_secret_value() if settings.torghut_token else None
    try:
        client = connect(None, directory.path, token)
        status, health = client.get("/trading/status"), client.get("/trading/health")
    except TorghutError as error:
        yield Finding("kernel", False, f"{occupied}; it cannot be asked: {error}")
        return
    orders = "orders may leave" if status["enabled"] else "no order leaves: TRADING_ENABLED is not true there"
    yield Finding(
        "kernel",
        True,
        f"at {client.url}: account {status['account']}, broker {status['broker']}, generation {status['generation']};"
        f" {orders}, {status['orders_working']} work",
    )
    for name, reasons in health["checks"].items():
        mend = MENDS.get(name, "") if reasons else ""
        yield Finding(f"kernel, {name}", not reasons, "; ".join(reasons) or "well", mend)


def _catalog(settings: Settings, path: Path | None, *, is_running: bool) -> Iterator[Finding]:
    from torghut_core import catalog as catalogs
    from torghut_core.generation import validate
    from torghut_core.stores import load_plugins

    if path is None:
        yield Finding("catalog", True, "none given (--catalog PATH checks one)")
        return
    try:
        parsed = catalogs.load(catalogs.read(path))
        host = load_plugins(settings, parsed.plugins.allow)
        problems = validate(parsed, host)
    except CatalogError as error:
        problems = error.problems
    if problems:
        rest = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        yield Finding("catalog", False, f"{problems[0]}{rest}", f"torghut catalog validate {path}")
        return
    yield Finding("catalog", True, f"{path}: {len(parsed.strategies)} strategies, digest {parsed.digest[:12]}")
    yield from _keys(parsed, host, is_running=is_running)


def _keys(catalog: Catalog, host: PluginHost, *, is_running: bool) -> Iterator[Finding]:
    """Whether the keys of the catalog's broker are there; they are never shown, and not tried."""
    parts = catalog.pipelines.get("trading")
    name = parts.broker.use if parts is not None and parts.broker is not None else ""
    broker = host.registry["broker"].get(name)
    keys: tuple[str, ...] = getattr(broker.cls, "secrets", ()) if broker is not None else ()
    problems = []
    for key in keys:
        try:
            secret(key)
        except TorghutError as error:
            problems.append(str(error))
    if problems:
        told = "; ".join(problems)
        if is_running:
            yield Finding(f"broker {name}", True, f"{told}: here, while the kernel that runs has keys of its own")
        else:
            yield Finding(f"broker {name}", False, told, "give this shell what the kernel will be given")
    elif keys:
        named = " and ".join(keys)
        yield Finding(f"broker {name}", True, f"{named} are set (not tried, nor its clock: doctor asks no venue)")


def _kept(settings: Settings, directory: StateDirectory) -> Iterator[Finding]:
    """The operator's control, and the audit database that one of its two places is in."""
    from torghut_core.stores import audit_url

    where, version, problem = "", None, ""
    if settings.db_dsn is not None or directory.exists:
        try:
            where, version = _version(audit_url(settings, directory))
        except TorghutError as error:
            problem = str(error)
    yield _control(settings, directory, problem, has_row=version is not None)
    if problem:
        yield Finding("audit", False, problem)
    elif version is not None:
        yield _audit(settings, directory, where, version)
    elif where:
        yield Finding("audit", True, f"{where}: no tables yet (a start makes them)")
    else:
        yield _look("audit", lambda: _writable(directory.path))


def _control(settings: Settings, directory: StateDirectory, problem: str, *, has_row: bool) -> Finding:
    """How the operator's control stands in its two places, of which the stricter holds."""
    controls = Controls(directory.control_path, None)
    problems, file, row = controls.health(), controls.current(), NEVER
    if problem:
        problems.append(problem)
    elif has_row:
        try:
            row = _row(settings, directory)
        except (TorghutError, ValueError, msgspec.MsgspecError) as error:
            problems.append(f"the audit database's is no control: {error}")
    if problems:
        return Finding(
            "control",
            False,
            f"in the file {_since(file)}; what cannot be read holds as halted: {'; '.join(problems)}",
            "mend that place, then turn the control: torghut kill or torghut unkill",
        )
    if file != row and (file.rank or row.rank):
        return Finding(
            "control",
            False,
            f"in the file {_since(file)}; in the database {_since(row)}: the stricter holds",
            "turn it once more, which writes both: torghut kill or torghut unkill",
        )
    is_well = file.state == "running"
    return Finding("control", is_well, _since(file), "" if is_well else MENDS["control"])


def _row(settings: Settings, directory: StateDirectory) -> Control:
    from torghut_core.audit.visit import ControlReader
    from torghut_core.stores import audit_url

    reader = ControlReader(audit_url(settings, directory), ROW)
    try:
        value = reader.read(POLL_SECONDS)
    finally:
        reader.close()
    return NEVER if value is None else msgspec.convert(value, Control)


def _since(control: Control) -> str:
    return f"{control} since {format_timestamp(control.at)}" if control.at else f"{control.state}, never turned"


def _audit(settings: Settings, directory: StateDirectory, where: str, version: str) -> Finding:
    from torghut_core.audit.tables import REVISIONS
    from torghut_core.stores import existing_audit

    if version != REVISIONS[-1]:
        mend = "torghut db upgrade" if version in REVISIONS else "install the torghut that wrote it"
        return Finding("audit", False, f"{where}: version {version}, and this torghut has {REVISIONS[-1]}", mend)
    try:
        with existing_audit(settings, directory.path) as audit:
            findings = audit.verify()
    except TorghutError as error:
        return Finding("audit", False, str(error))
    if findings:
        return Finding("audit", False, f"{len(findings)} findings; first: {findings[0]}", "torghut audit verify")
    return Finding("audit", True, f"{where}: version {version}, the hash chain is intact")


def _version(url: str) -> tuple[str, str | None]:
    """Where the audit database is, and the version of its tables, None where there are none; looked at within seconds.

    Raises
    ------
    StateError : it cannot be reached, or does not answer.
    """
    from sqlalchemy import inspect, select

    from torghut_core.audit.database import audit_engine, place, reading
    from torghut_core.audit.tables import alembic_version
    from torghut_core.audit.visit import VISIT_SECONDS, bounded
    from torghut_core.daemon_threads import DaemonThreads

    engine = audit_engine(bounded(url), is_probe=True)

    def look() -> Any:
        with reading(engine) as connection:
            if not inspect(connection).has_table(alembic_version.name):
                return None
            return connection.execute(select(alembic_version)).scalar()

    try:
        return str(place(engine)), DaemonThreads().submit(look).result(VISIT_SECONDS)
    except TimeoutError:
        raise StateError(f"audit database {place(engine)}: it does not answer (see that it runs)") from None
    finally:
        engine.dispose()


def _writable(path: Path) -> str:
    parent = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
    if not os.access(parent, os.W_OK):
        raise StateError(f"{path}: nothing kept yet, and nothing can be (make {parent} writable)")
    return f"{path}: nothing kept yet"


def _look(subject: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(subject, True, look())
    except TorghutError as error:
        return Finding(subject, False, str(error))


def _signals(settings: Settings, directory: StateDirectory, *, is_running: bool) -> Finding:
    if settings.ta_clickhouse_url is None and find_spec("chdb") is None:
        mend = "pip install 'torghut[embedded]', or set TA_CLICKHOUSE_URL"
        return Finding("signal store", False, "chdb is not installed", mend)
    if is_running:
        return Finding("signal store", True, "in use: left alone")
    if not directory.exists:
        return Finding("signal store", True, "nothing kept yet")
    return _look("signal store", lambda: _counts(settings, directory))


def _counts(settings: Settings, directory: StateDirectory) -> str:
    from torghut_core.stores import open_signals

    with directory:
        store = open_signals(settings, directory)
        try:
            counts = store.counts()
        finally:
            store.close()
    return ", ".join(f"{rows:,} rows in {table}" for table, rows in counts.items())
