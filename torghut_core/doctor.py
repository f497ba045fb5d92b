"""Looks an installation over: what a person would check by hand before trusting it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from torghut_core.errors import TorghutError
from torghut_core.settings import Settings, load_settings
from torghut_core.state import StateDirectory


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: whether it is well, what was seen, and what to do about it."""

    subject: str
    is_well: bool
    detail: str
    mend: str = ""


def examine(catalog: Path | None, state: Path) -> list[Finding]:
    """Look at Python, plugins, settings, stores and, where one is given or configured, the catalog."""
    findings = [_python()]
    settings, finding = _settings()
    findings.append(finding)
    if settings is not None:
        findings += _plugins(settings)
        findings.append(_trading(settings))
        findings.append(_admin(settings))
        path = catalog or settings.trading_strategy_config_path
        findings.append(
            _catalog(settings, path) if path else Finding("catalog", True, "none given (--catalog PATH checks one)")
        )
        findings += _stores(settings, state)
    return findings


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
    if settings.trading_mode == "live" and settings.trading_live_enabled:
        return Finding("trading", True, "LIVE: TRADING_MODE=live and TRADING_LIVE_ENABLED=true")
    if settings.trading_mode == "live":
        return Finding(
            "trading",
            False,
            "TRADING_MODE=live without TRADING_LIVE_ENABLED=true: every order to a real venue is denied",
            "set TRADING_MODE=paper, or TRADING_LIVE_ENABLED=true if you mean it",
        )
    state = (
        "enabled" if settings.trading_enabled else "not enabled (replays trade on the simulated broker all the same)"
    )
    return Finding("trading", True, f"paper, {state}")


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


def _catalog(settings: Settings, path: Path) -> Finding:
    from torghut_core import catalog as catalogs
    from torghut_core.errors import CatalogError
    from torghut_core.generation import validate
    from torghut_core.stores import load_plugins

    try:
        parsed = catalogs.load(catalogs.read(path))
        problems = validate(parsed, load_plugins(settings, parsed.plugins.allow))
    except CatalogError as error:
        problems = error.problems
    if problems:
        rest = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        return Finding("catalog", False, f"{problems[0]}{rest}", f"torghut catalog validate {path}")
    return Finding("catalog", True, f"{path}: {len(parsed.strategies)} strategies, digest {parsed.digest[:12]}")


def _stores(settings: Settings, state: Path) -> Iterator[Finding]:
    if settings.ta_clickhouse_url is None:
        has_chdb = find_spec("chdb") is not None
        yield Finding(
            "signal store",
            has_chdb,
            "embedded (chdb)" if has_chdb else "chdb is not installed",
            "" if has_chdb else "pip install 'torghut[embedded]', or set TA_CLICKHOUSE_URL",
        )
    directory = StateDirectory(state)
    if not directory.exists:
        parent = next(folder for folder in (state.absolute(), *state.absolute().parents) if folder.exists())
        writable = os.access(parent, os.W_OK)
        yield Finding("state", writable, f"{state}: nothing kept yet", "" if writable else f"make {parent} writable")
        return
    try:
        with directory:
            yield from _try("audit", lambda: _audit(settings, directory))
            yield from _try("signal store", lambda: _signals(settings, directory))
    except TorghutError as error:
        yield Finding("state", False, str(error), "wait for that process, or give another --state")


def _try(subject: str, look: Callable[[], str]) -> Iterator[Finding]:
    try:
        yield Finding(subject, True, look())
    except TorghutError as error:
        yield Finding(subject, False, str(error), "see the message")


def _audit(settings: Settings, directory: StateDirectory) -> str:
    from torghut_core.stores import open_audit

    audit = open_audit(settings, directory)
    try:
        findings = audit.verify()
    finally:
        audit.close()
    if findings:
        raise TorghutError(f"{len(findings)} findings in the audit log; first: {findings[0]}")
    return "the hash chain is intact"


def _signals(settings: Settings, directory: StateDirectory) -> str:
    from torghut_core.stores import open_signals

    store = open_signals(settings, directory)
    try:
        counts = store.counts()
    finally:
        store.close()
    return ", ".join(f"{rows:,} rows in {table}" for table, rows in counts.items())
