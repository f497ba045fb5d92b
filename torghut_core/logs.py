"""Logging: structlog to standard error, one line per event."""

from __future__ import annotations

import logging
import sys

import structlog


def configure(level: str = "warning") -> None:
    """Log events of `level` (``debug``, ``info``, ``warning``, ``error``) and above to standard error."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
