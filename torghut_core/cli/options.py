"""What several commands share: their options, what these resolve to, and how a result is printed."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from torghut_core.errors import InputError

if TYPE_CHECKING:
    from torghut_core.admin.client import AdminClient
    from torghut_core.plugin_host import PluginHost

State = Annotated[
    Path, typer.Option("--state", metavar="DIR", help="State directory, with the embedded stores.", file_okay=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
CatalogOption = Annotated[
    Path | None,
    typer.Option("--catalog", metavar="PATH", help="Catalog file or folder (default: TRADING_STRATEGY_CONFIG_PATH)."),
]
Url = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="Admin API of the kernel (default: of the kernel that runs on --state)."),
]
Host = Annotated[str, typer.Option(metavar="HOST", help="Address to listen on.")]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; kept in the audit log.")]
STATE = Path(".torghut")
INTERRUPTED = 128 + signal.SIGINT
"""The exit code after Ctrl-C, of a command that did not finish."""


def catalog_path(path: Path | None) -> Path:
    """Give the catalog's path: the one given, or the configured one.

    Raises
    ------
    InputError : neither is there.
    """
    if path is not None:
        return path
    from torghut_core.installation.settings import load_settings

    configured = load_settings().trading_strategy_config_path
    if configured is None:
        raise InputError("no catalog given (use --catalog PATH, or set TRADING_STRATEGY_CONFIG_PATH)")
    return configured


def admin_client(url: str | None, state: Path) -> AdminClient:
    """Give a client of the admin API at `url`, or of the kernel that runs on `state`."""
    from torghut_core.admin.client import connect
    from torghut_core.installation.settings import load_settings

    token = load_settings().torghut_token
    return connect(url, state, token.get_secret_value() if token else None)


def plugin_host(allow: Sequence[str]) -> PluginHost:
    """Load the plugins of the distributions that `allow` names, as a catalog's `plugins.allow`."""
    from torghut_core.installation.open import load_plugins
    from torghut_core.installation.settings import load_settings

    return load_plugins(load_settings(), allow)


def say(value: dict[str, Any], text: str, as_json: bool) -> None:
    """Print a result: `value` as JSON, or `text`."""
    print(json.dumps(value) if as_json else text)
