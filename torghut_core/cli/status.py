"""Commands that show how trading stands, from the kernel that runs, or from its database: `status`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from torghut_core.cli.help import EVERYDAY, command
from torghut_core.cli.options import STATE, AsJson, State, Url, admin_client

if TYPE_CHECKING:
    from torghut_core.admin.trading_state import TradingState

app = typer.Typer()


@command(app, "torghut status\ntorghut status --url http://127.0.0.1:8181 --json", panel=EVERYDAY)
def status(url: Url = None, state: State = STATE, as_json: AsJson = False) -> None:
    """Show what trades: generation, control, positions, open orders, last event, decision and error.

    Asks the kernel that runs; without one, shows what the database knows. Exit code 0: a kernel runs, and all is well. 1:
    none runs, or trading is halted, restricted, degraded, stale, or not to be reached.
    """
    found = read_state(url, state)
    if as_json:
        import msgspec

        fields = msgspec.to_builtins(found)
        print(json.dumps({"ok": found.is_well, "reasons": found.reasons, "summary": found.lines(), **fields}, indent=2))
    else:
        print("\n".join(found.lines()))
    if not found.is_well:
        raise typer.Exit(1)


def read_state(url: str | None, state: Path) -> TradingState:
    """How trading stands: by the kernel at `url`, or the one that runs on `state`, or by the database there.

    Raises
    ------
    NotFoundError : nothing was ever kept there.
    StateError : the kernel at `url`, or the database, does not answer.
    """
    import msgspec

    from torghut_core.admin.client import KernelNotRunning
    from torghut_core.admin.trading_state import TradingState, recorded_state
    from torghut_core.errors import NotFoundError, StateError
    from torghut_core.installation.settings import load_settings
    from torghut_core.installation.state_directory import StateDirectory

    silent = ""
    try:
        return kernel_state(url, state)
    except KernelNotRunning:
        if url is not None:
            raise
        if owner := StateDirectory(state).find_owner():
            silent = f"{owner} has the state directory, and no admin API listens: it starts, or ends, or is stuck"
    except StateError as error:
        if url is not None:
            raise
        silent = str(error)
    try:
        found = recorded_state(load_settings(), state)
    except NotFoundError:
        if not silent:
            raise
        found = TradingState()
    return msgspec.structs.replace(found, running=bool(silent), silent=silent)


def kernel_state(url: str | None, state: Path) -> TradingState:
    """How trading stands by the kernel at `url`, or the one that runs on `state`; of a `forward` or `ta` its checks alone.

    Raises
    ------
    KernelNotRunning : none runs there.
    StateError : it does not answer.
    """
    import msgspec

    from torghut_core.admin.trading_state import TradingState
    from torghut_core.errors import NotFoundError

    client = admin_client(url, state)
    try:
        return msgspec.convert(client.get("/trading/status"), TradingState)
    except NotFoundError:
        checks = {name: [reason] for name, reason in client.readiness_checks().items() if reason}
        return TradingState(role="working", checks=checks)
