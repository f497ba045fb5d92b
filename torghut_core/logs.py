"""Logging: structlog to standard error, one line per event.

structlog costs 0.15 s to import and most commands log nothing, so it is imported with the first line that is logged.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

from torghut_core.errors import without_secrets

_level = "warning"


def set_level(level: str) -> None:
    """Log events of `level` (``debug``, ``info``, ``warning``, ``error``) and above from now on."""
    global _level  # noqa: PLW0603 - one process logs at one level
    _level = level


def info(event: str, **fields: Any) -> None:
    """Log what an operator may want to know."""
    _logger().info(event, **fields)


def warning(event: str, **fields: Any) -> None:
    """Log what an operator should look at some time."""
    _logger().warning(event, **fields)


def error(event: str, **fields: Any) -> None:
    """Log what an operator should look at now."""
    _logger().error(event, **fields)


def _hide(_logger: Any, _method: str, fields: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Take secrets out of what is logged, tracebacks too."""
    return {name: without_secrets(value) if isinstance(value, str) else value for name, value in fields.items()}


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
            wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[_level.upper()]),
            logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),  # as it is when a line is logged
        )
    return structlog.get_logger()
