"""Checks an installation: what a person would check by hand before trusting it.

If a process runs on the state directory, its admin API is asked. Besides it, the audit database and the signal store
nothing is called over a network: no credentials are tested at a venue, no Kafka broker is contacted, and no clock is
compared with a venue's. Nothing is changed either, no database upgraded.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from torghut_core.admin.trading_state import TradingState
from torghut_core.catalog import Catalog, Pipeline
from torghut_core.cli.options import admin_client
from torghut_core.cli.render import counted, new_console
from torghut_core.cli.status import kernel_state, read_state
from torghut_core.environment import Environment, secret
from torghut_core.errors import CatalogError, NotFoundError, StateError, TorghutError
from torghut_core.execution.controls import POLL_SECONDS, ROW, Control, Controls
from torghut_core.installation.known_settings import check_environment
from torghut_core.installation.settings import Settings, load_settings
from torghut_core.installation.state_directory import StateDirectory
from torghut_core.plugin_host import PluginHost
from torghut_core.plugin_host.running_plugin import last_crash
from torghut_core.ports import Connected
from torghut_core.timestamps import format_timestamp

ROLES: Mapping[str, str] = {
    "standby": "stands by, sends no orders",
    "disabled": "no orders are sent: TRADING_ENABLED is not true there",
}
"""What a kernel does that does not trade."""

HINTS: Mapping[str, str] = {
    "loop": "torghut kill stops trading even so; then restart the kernel",
    "venue": "torghut reconcile; docs/on-call.md explains each reason",
    "database": "fix the database: the kernel resumes by itself",
    "store": "fix the signal store: the kernel resumes by itself",
    "control": "torghut unkill --reason WHY, once it is safe",
    "market_data": "docs/on-call-live-data.md explains each reason",
    "catalog": "torghut catalog status",
    "quarantine": "torghut catalog status; fixed code trades after the next reload",
}
"""What to do about each check of a running kernel, see `Console.trading_health`."""

KINDS = ("source", "broker", "sink")
"""Plugins that read settings and secrets of their own, in the order in which they are listed."""

SHOWN = 5
"""Symbols that are listed; of further ones the number."""

NEVER = Control(state="running", reason="", actor="", at=0)
"""A control that was never changed."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked: whether it is ok, what was found, and what to do about it."""

    subject: str
    is_ok: bool
    detail: str
    hint: str = ""


def examine(catalog: Path | None, state: Path, pipeline: str | None = None) -> list[Finding]:
    """Check Python, plugins, settings, a kernel that runs there, the control, the stores and the catalog.

    Parameters
    ----------
    catalog : the configured one where None.
    pipeline : whose settings and secrets are checked; those of all where None.
    """
    findings = [_python()]
    settings, finding = _settings()
    findings.append(finding)
    if settings is None:
        return findings
    directory = StateDirectory(state)
    kernel = list(_kernel(directory))
    findings += [*_plugins(settings), _trading(settings), _admin(settings), *kernel]
    findings += _death(directory, is_running=bool(kernel))
    path = catalog or settings.trading_strategy_config_path
    findings += _catalog(settings, path, pipeline, directory, is_running=bool(kernel))
    return [*findings, *_kept(settings, directory), _signals(settings, directory, is_running=bool(kernel))]


def trading_state(path: Path) -> TradingState | None:
    """How trading stands there; None where that is not known, which findings then explain. Upgrades no database."""
    from torghut_core.audit.tables import REVISIONS
    from torghut_core.installation.open import audit_url

    with suppress(TorghutError):
        settings, directory = load_settings(), StateDirectory(path)
        with suppress(StateError):
            return kernel_state(None, path)
        if settings.db_dsn is None and not directory.exists:
            return None
        if _version(audit_url(settings, directory))[1] == REVISIONS[-1]:
            return read_state(None, path)
    return None


def print_findings(findings: list[Finding]) -> None:
    """Print findings, a line each, with the fix where something is wrong."""
    console = new_console()
    for finding in findings:
        mark = "[green]ok[/]  " if finding.is_ok else "[red]FAIL[/]"
        console.print(f"{mark} [bold]{finding.subject}:[/]", end=" ")
        console.print(finding.detail, markup=False, highlight=False)
        if finding.hint:
            console.print(f"     -> {finding.hint}", markup=False, highlight=False)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    is_ok = sys.version_info >= (3, 11)
    return Finding("python", is_ok, version, "" if is_ok else "use Python 3.11 or later")


def _settings() -> tuple[Settings | None, Finding]:
    try:
        settings = load_settings()
    except TorghutError as error:
        return None, Finding("settings", False, str(error), "correct or unset these environment variables")
    named = [name.upper() for name in Settings.model_fields if name.upper() in os.environ]
    return settings, Finding("settings", True, f"from the environment: {', '.join(named) or 'none, all defaults'}")


def _unknown(host: PluginHost) -> Iterator[Finding]:
    """Names in the environment that nothing reads: a process of this environment does not start."""
    try:
        check_environment(host)
    except TorghutError as error:
        for problem in str(error).splitlines():
            yield Finding("unknown setting", False, problem, "correct or unset it; `torghut settings` lists all")


def _trading(settings: Settings) -> Finding:
    switches = {
        "TRADING_MODE=live": settings.trading_mode == "live",
        "TRADING_LIVE_ENABLED=true": settings.trading_live_enabled,
        "TRADING_LIVE_ACCOUNT=NUMBER": bool(settings.trading_live_account),
    }
    missing = " and ".join(switch for switch, is_set in switches.items() if not is_set)
    orders = (
        "trading enabled"
        if settings.trading_enabled
        else "trading not enabled: `torghut run` sends orders with TRADING_ENABLED=true only (replays need no switch)"
    )
    if settings.is_live:
        return Finding("trading", True, f"LIVE, with real money of account {settings.trading_live_account}; {orders}")
    if settings.trading_mode == "live":
        return Finding(
            "trading",
            False,
            f"PAPER, NOT LIVE: TRADING_MODE=live trades on paper without {missing}",
            f"set {missing} to trade real money, or TRADING_MODE=paper",
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
        "admin API", True, f"tokens of {actors}" if tokens else "no ADMIN_TOKENS: only this user can change anything"
    )


def _plugins(settings: Settings) -> Iterator[Finding]:
    from torghut_core.installation.open import load_plugins

    host = load_plugins(settings, ("*",))
    plugins = host.plugins()
    origins = sorted({plugin.distribution or "TORGHUT_PLUGIN_PATH" for plugin in plugins})
    yield Finding(
        "plugins",
        bool(plugins),
        f"{len(plugins)} from {', '.join(origins)}" if plugins else "none",
        "" if plugins else "pip install 'torghut[standard]'",
    )
    for failure in host.failures:
        yield Finding(
            f"plugin {failure.plugin}",
            False,
            failure.reason,
            f"fix or uninstall {failure.distribution or failure.plugin}",
        )
    yield from _unknown(host)


def _kernel(directory: StateDirectory) -> Iterator[Finding]:
    """Ask the process that runs there, a kernel or a `torghut forward` or `ta`; no findings if none runs."""
    if not directory.path.is_dir():
        return
    try:
        with directory:
            return
    except StateError as error:
        occupied = str(error)
    try:
        client = admin_client(None, directory.path)
        try:
            status, health = client.get("/trading/status"), client.health_checks()
        except NotFoundError:
            checks = client.readiness_checks()
            yield Finding("process", True, f"at {client.url}: {occupied.partition(' (let')[0]}")
            for name, reason in checks.items():
                yield Finding(f"readiness, {name}", not reason, reason or "ok")
            return
    except TorghutError as error:
        hint = "if it starts or ends just now, repeat in some seconds; torghut kill stops trading even so"
        yield Finding("kernel", False, f"{occupied}; its admin API does not answer: {error}", hint)
        return
    is_trading = status["role"] == "trading"
    role = (
        f"trading enabled; {counted(status['orders_working'], 'open order')}" if is_trading else ROLES[status["role"]]
    )
    yield Finding(
        "kernel",
        True,
        f"at {client.url}: account {status['account']}, broker {status['broker']}, generation {status['generation']};"
        f" {role}",
    )
    for name, reasons in health.items():
        hint = HINTS.get(name, "") if reasons else ""
        if name == "venue" and not is_trading:
            hint = "docs/controls.md, Standing by"
        yield Finding(f"kernel, {name}", not reasons, "; ".join(reasons) or "ok", hint)


def _death(directory: StateDirectory, *, is_running: bool) -> Iterator[Finding]:
    """How the last process there ended, if not in order."""
    died = last_crash(directory.path, is_running=is_running)
    if died:
        hint = (
            "look at its log; a plugin that was running is the first to suspect (os._exit, native code, memory); this line"
            " goes once a process here has ended in order"
        )
        yield Finding("end of the last process", False, died, hint)


def _catalog(
    settings: Settings, path: Path | None, pipeline: str | None, directory: StateDirectory, *, is_running: bool
) -> Iterator[Finding]:
    from torghut_core import catalog as catalogs
    from torghut_core.catalog import did_you_mean
    from torghut_core.generation import catalog_warnings, validate_files
    from torghut_core.installation.open import load_plugins

    if path is None:
        yield Finding("catalog", True, "none given (--catalog PATH checks one)")
        return
    try:
        parsed, host, problems = validate_files(catalogs.read(path), partial(load_plugins, settings))
        if pipeline is not None and pipeline not in parsed.pipelines:
            hint = did_you_mean(pipeline, parsed.pipelines) or f"name one of {', '.join(parsed.pipelines)}"
            problems.append(parsed.marks.problem(f"pipelines.{pipeline}", "is missing", hint))
    except CatalogError as error:
        problems = error.problems
    if problems:
        rest = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        yield Finding("catalog", False, f"{problems[0]}{rest}", f"torghut catalog validate {path}")
        return
    yield Finding(
        "catalog", True, f"{path}: {counted(len(parsed.strategies), 'strategy')}, digest {parsed.digest[:12]}"
    )
    for warning in catalog_warnings(parsed, host):
        yield Finding("instruments", True, f"warning: {warning}")
    pipelines = [parts for name, parts in parsed.pipelines.items() if pipeline in (None, name)]
    findings = list(_environment(pipelines, host))
    if any(finding.subject.startswith("source ") for finding in findings):
        findings.append(_universe(parsed, directory))
    for finding in findings:
        if is_running and not finding.is_ok:
            detail = f"{finding.detail}: in this shell; the process that runs has an environment of its own"
            yield Finding(finding.subject, True, detail)
        else:
            yield finding


def _environment(pipelines: Iterable[Pipeline], host: PluginHost) -> Iterator[Finding]:
    """Check that the settings and secrets that sources, brokers and sinks need are set; each plugin once."""
    uses = {
        (kind, use.use)
        for parts in pipelines
        for kind, use in (("source", parts.source), ("broker", parts.broker), ("sink", parts.sink))
        if use is not None
    }
    for kind, name in sorted(uses, key=lambda use: (KINDS.index(use[0]), use[1])):
        plugin = host.registry[kind][name].cls
        assert issubclass(plugin, Connected)
        if not plugin.settings and not plugin.secrets:
            continue
        detail, problems = _needed(plugin.settings, plugin.secrets)
        hint = "set the same environment variables here as for the service" if problems else ""
        yield Finding(f"{kind} {name}", not problems, "; ".join(problems) or detail, hint)


def _needed(settings: Iterable[type[Environment]], secrets: Iterable[str]) -> tuple[str, list[str]]:
    """Say which settings and secrets are set, and what is wrong with them. Secrets are never shown, nor tested."""
    problems, read = [], []
    for each in settings:
        try:
            read.append(each.read())
        except TorghutError as error:
            problems += str(error).splitlines()
    if problems:
        return "", problems  # settings say which secrets are needed
    keys = [key for key in secrets if all(each.asks_for(key) for each in read)]
    for key in keys:
        try:
            secret(key)
        except TorghutError as error:
            problems.append(str(error))
    detail = []
    if keys:
        verb = "is" if len(keys) == 1 else "are"
        detail.append(f"{' and '.join(keys)} {verb} set (not tested: doctor contacts no venue)")
    if read:
        names = [name.upper() for each in read for name in type(each).model_fields]
        named = ", ".join(name for name in names if name in os.environ)
        detail.append(f"from the environment: {named or 'none, all defaults'}")
    return "; ".join(detail), problems


def _universe(catalog: Catalog, directory: StateDirectory) -> Finding:
    """Say which symbols live sources would subscribe to; Jangar is not contacted."""
    from torghut_core.installation.universe import UniverseSettings, open_universe
    from torghut_core.market_data.jangar import JangarUniverse

    try:
        universe = open_universe(UniverseSettings.read(), catalog.symbols, directory.path)
    except TorghutError as error:
        return Finding(
            "universe", False, "; ".join(str(error).splitlines()), "correct or unset these environment variables"
        )
    if isinstance(universe, JangarUniverse):
        return Finding("universe", True, "symbols come from Jangar (not contacted)")
    closed, symbols = universe.gates()["universe"], universe.symbols
    if closed is not None:
        return Finding("universe", False, closed.reason)
    rest = f" and {len(symbols) - SHOWN} more" if len(symbols) > SHOWN else ""
    return Finding("universe", True, f"{', '.join(symbols[:SHOWN])}{rest}")


def _kept(settings: Settings, directory: StateDirectory) -> Iterator[Finding]:
    """Check the operator's control, and the audit database, which is one of the two places where it is kept."""
    from torghut_core.installation.open import audit_url

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
        yield Finding("audit", True, f"{where}: no tables yet (the first start creates them)")
    else:
        yield _checked("audit", lambda: _writable(directory.path))


def _control(settings: Settings, directory: StateDirectory, problem: str, *, has_row: bool) -> Finding:
    """Compare the operator's control in its two places, file and database; the stricter applies."""
    controls = Controls(directory.control_path, None)
    problems, file, row = controls.health(), controls.current(), NEVER
    if problem:
        problems.append(problem)
    elif has_row:
        try:
            row = _row(settings, directory)
        except (TorghutError, ValueError, msgspec.MsgspecError) as error:
            problems.append(f"the row in the audit database is no control: {error}")
    if problems:
        return Finding(
            "control",
            False,
            f"in the file: {_since(file)}; a place that cannot be read counts as halted: {'; '.join(problems)}",
            "fix it, then run torghut kill or torghut unkill again",
        )
    if file != row and (file.rank or row.rank):
        return Finding(
            "control",
            False,
            f"in the file: {_since(file)}; in the database: {_since(row)}; the stricter applies",
            "run torghut kill or torghut unkill once more, which writes both",
        )
    is_ok = file.state == "running"
    return Finding("control", is_ok, _since(file), "" if is_ok else HINTS["control"])


def _row(settings: Settings, directory: StateDirectory) -> Control:
    from torghut_core.audit.visit import ControlReader
    from torghut_core.installation.open import audit_url

    with closing(ControlReader(audit_url(settings, directory), ROW)) as reader:
        value = reader.read(POLL_SECONDS)
    return NEVER if value is None else msgspec.convert(value, Control)


def _since(control: Control) -> str:
    return f"{control} since {format_timestamp(control.at)}" if control.at else f"{control.state} (never changed)"


def _audit(settings: Settings, directory: StateDirectory, where: str, version: str) -> Finding:
    from torghut_core.audit.tables import REVISIONS
    from torghut_core.installation.open import existing_audit

    if version != REVISIONS[-1]:
        hint = "torghut db upgrade" if version in REVISIONS else "install the version of torghut that wrote it"
        return Finding("audit", False, f"{where}: version {version}, but this torghut needs {REVISIONS[-1]}", hint)
    try:
        with existing_audit(settings, directory.path) as audit:
            findings = audit.verify()
    except TorghutError as error:
        return Finding("audit", False, str(error))
    if findings:
        return Finding(
            "audit", False, f"{counted(len(findings), 'finding')}; first: {findings[0]}", "torghut audit verify"
        )
    return Finding("audit", True, f"{where}: version {version}, the hash chain is intact")


def _version(url: str) -> tuple[str, str | None]:
    """Give the place of the audit database, and the version of its tables, None if it has none; takes seconds at most.

    Raises
    ------
    StateError : it cannot be reached, or does not answer.
    """
    from sqlalchemy import inspect, select

    from torghut_core.audit.database import audit_engine, place, reading
    from torghut_core.audit.tables import alembic_version
    from torghut_core.audit.visit import VISIT_SECONDS, bounded
    from torghut_core.concurrency import DaemonThreads

    engine = audit_engine(bounded(url), is_probe=True)

    def read() -> Any:
        with reading(engine) as connection:
            if not inspect(connection).has_table(alembic_version.name):
                return None
            return connection.execute(select(alembic_version)).scalar()

    try:
        return str(place(engine)), DaemonThreads().submit(read).result(VISIT_SECONDS)
    except TimeoutError:
        raise StateError(
            f"audit database {place(engine)}: it does not answer (check that the database is running and reachable)"
        ) from None
    finally:
        engine.dispose()


def _writable(path: Path) -> str:
    parent = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
    if not os.access(parent, os.W_OK):
        raise StateError(f"{path}: nothing stored yet, and nothing can be (make {parent} writable)")
    return f"{path}: nothing stored yet"


def _checked(subject: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(subject, True, check())
    except TorghutError as error:
        return Finding(subject, False, str(error))


def _signals(settings: Settings, directory: StateDirectory, *, is_running: bool) -> Finding:
    from torghut_core.signals import is_embedded_installed

    if settings.ta_clickhouse_url is None and not is_embedded_installed():
        hint = "pip install 'torghut[embedded]', or set TA_CLICKHOUSE_URL; a replay needs neither"
        return Finding("signal store", False, "chdb is not installed", hint)
    if is_running:
        return Finding("signal store", True, "in use by the running process, not checked")
    if not directory.exists:
        return Finding("signal store", True, "nothing stored yet")
    return _checked("signal store", lambda: _counts(settings, directory))


def _counts(settings: Settings, directory: StateDirectory) -> str:
    from torghut_core.installation.open import open_signals

    with directory, closing(open_signals(settings, directory)) as store:
        counts = store.counts()
    return ", ".join(f"{counted(rows, 'row')} in {table}" for table, rows in counts.items())
