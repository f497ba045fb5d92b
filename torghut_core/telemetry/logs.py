"""Logging: structlog to standard error, one line per event.

structlog costs 0.15 s to import and most commands log nothing, so it is imported with the first line that is logged. What
plugins and libraries log by the standard library comes out the same way, without secrets; of libraries warnings only.
The plugin host says which packages are plugins': a third party's logs like ours.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Mapping, MutableMapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from torghut_core.errors import without_secrets

QUIET = ("clickhouse_connect", "urllib3.connectionpool")
"""Libraries that warn of what they also raise; the error is reported with its fix."""

_level = ""
_last_error = ""
_plugin_packages: set[str] = set()
_LONGEST = 500
"""Characters of the last error that are kept."""


def set_level(level: str) -> None:
    """Log events of `level` (``debug``, ``info``, ``warning``, ``error``) and above from now on."""
    global _level  # noqa: PLW0603 - one process logs at one level
    _level = level
    root = logging.getLogger()
    if not any(isinstance(handler, _Forwarder) for handler in root.handlers):
        root.addHandler(_Forwarder())
    root.setLevel(max(_threshold(), logging.WARNING))
    for package in QUIET:
        logging.getLogger(package).setLevel(logging.ERROR)
    add_plugin_packages(())


def add_plugin_packages(packages: Iterable[str]) -> None:
    """Log what these top-level packages log at the level of the process, not at that of libraries."""
    _plugin_packages.update(packages)
    if _level:
        for package in _plugin_packages:
            logging.getLogger(package).setLevel(_threshold())


def info(event: str, **fields: Any) -> None:
    """Log an event that an operator may want to know."""
    _log("info", event, fields)


def warning(event: str, **fields: Any) -> None:
    """Log an event that an operator should look at soon."""
    _log("warning", event, fields)


def error(event: str, **fields: Any) -> None:
    """Log an event that an operator must look at now."""
    _log("error", event, fields)


def last_error() -> str | None:
    """Time and text of the last error that this process has logged, without secrets; None before the first."""
    return _last_error or None


def _log(level: str, event: str, fields: dict[str, Any]) -> None:
    """Log a line; one that cannot be written (a plugin may have closed standard error) stops nothing."""
    with suppress(Exception):
        if level == "error":
            _keep_error(event, fields)
        getattr(_logger(), level)(event, **fields)


def _keep_error(event: str, fields: dict[str, Any]) -> None:
    global _last_error  # noqa: PLW0603 - one process logs in one place
    named = ", ".join(f"{name} {value}" for name, value in fields.items() if name != "exc_info")
    said = " ".join(without_secrets(f"{event}: {named}" if named else event).split())
    _last_error = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {said[:_LONGEST]}"


def _hide(_logger: Any, _method: str, fields: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Remove secrets from what is logged, also from tracebacks."""
    return {name: without_secrets(value) if isinstance(value, str) else value for name, value in fields.items()}


def _threshold() -> int:
    return logging.getLevelNamesMapping()[(_level or "warning").upper()]


class _Forwarder(logging.Handler):
    """Forwards to structlog what is logged by the standard library."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            fields = {"exc_info": record.exc_info} if record.exc_info else {}
            _logger().log(record.levelno, record.getMessage(), **fields)
        except Exception:
            self.handleError(record)


def _logger() -> Any:
    import structlog

    if not structlog.is_configured():
        structlog.configure(
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.format_exc_info,
                _hide,
                structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
            ],
            wrapper_class=structlog.make_filtering_bound_logger(_threshold()),
            logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),  # as it is when a line is logged
        )
    return structlog.get_logger()
