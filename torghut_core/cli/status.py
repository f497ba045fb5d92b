"""Commands that show how trading stands, from the kernel that runs, or from its database: `status`, and lists."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from torghut_core.cli.help import EVERYDAY, command
from torghut_core.cli.options import STATE, AsJson, State, Url, admin_client

if TYPE_CHECKING:
    from torghut_core.admin.trading_state import TradingState
    from torghut_core.audit.listing import Kind

app = typer.Typer()

ROUTES: dict[Kind, str] = {
    "trade_decisions": "/trading/decisions",
    "executions": "/trading/executions",
    "fills": "/trading/fills",
}
"""Where the admin API lists each kind."""

Symbol = Annotated[str | None, typer.Option(metavar="SYMBOL", help="Only this symbol.", show_default=False)]
Strategy = Annotated[str | None, typer.Option(metavar="NAME", help="Only this strategy.", show_default=False)]
Since = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Only since then: 2026-01-05T14:30:00Z (RFC 3339).", show_default=False),
]
Limit = Annotated[int, typer.Option(metavar="N", min=1, max=100_000, help="At most so many rows.")]


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
    from torghut_core.admin.trading_state import TradingState, control_fields, recorded_state
    from torghut_core.errors import NotFoundError, StateError
    from torghut_core.execution.controls import Controls
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
        if StateDirectory(state).find_owner():  # else it is dead, and its API ends
            silent = str(error)
    try:
        found = recorded_state(load_settings(), state)
    except NotFoundError:
        if not silent:
            raise
        control = Controls(StateDirectory(state).control_path, None).current()
        found = TradingState(control=control_fields(control))
    return msgspec.structs.replace(found, running=bool(silent), silent=silent)


def kernel_state(url: str | None, state: Path) -> TradingState:
    """How trading stands by the kernel at `url`, or the one that runs on `state`; of a `forward` or `ta` its checks alone.

    Raises
    ------
    KernelNotRunning : none runs there.
    StateError : it does not answer.
    """
    import msgspec

    from torghut_core.admin.trading_state import SERVICE, TradingState
    from torghut_core.errors import NotFoundError

    client = admin_client(url, state)
    try:
        return msgspec.convert(client.get("/trading/status"), TradingState)
    except NotFoundError:
        checks = {name: [reason] for name, reason in client.readiness_checks().items() if reason}
        return TradingState(role=SERVICE, checks=checks)


# Lists.


@command(app, "torghut orders\ntorghut orders --symbol BTC/USD --since 2026-01-05T14:30:00Z --json", panel=EVERYDAY)
def orders(
    symbol: Symbol = None,
    strategy: Strategy = None,
    since: Since = None,
    limit: Limit = 20,
    url: Url = None,
    state: State = STATE,
    as_json: AsJson = False,
) -> None:
    """List orders as they are now, newest first. `torghut explain` takes their ids.

    Asks the kernel that runs, for its account; without one, lists what the database has. `--since` goes by the last update.
    """
    rows = read_rows("executions", url, state, limit, symbol=symbol, strategy=strategy, since=since)
    columns = ("last_update_at", "strategy_id", "side", "quantity", "symbol", "order_type", "limit_price", "stop_price")
    _print_rows("orders", rows, (*columns, "state", "filled_quantity", "average_price", "client_order_id"), as_json)


@command(app, "torghut decisions\ntorghut decisions --strategy momentum --limit 5", panel=EVERYDAY)
def decisions(
    symbol: Symbol = None,
    strategy: Strategy = None,
    since: Since = None,
    limit: Limit = 20,
    url: Url = None,
    state: State = STATE,
    as_json: AsJson = False,
) -> None:
    """List decisions, newest first, with the codes of what was denied. `torghut explain` takes their ids.

    Asks the kernel that runs, for its account; without one, lists what the database has. `--since` goes by the event.
    """
    rows = read_rows("trade_decisions", url, state, limit, symbol=symbol, strategy=strategy, since=since)
    for row in rows:
        row["quantity"] = row["params"].get("quantity")
        row["denied_by"] = [each["code"] for each in row["verdicts"] if each["outcome"] == "deny"]
    columns = ("decided_at", "strategy_id", "action", "quantity", "symbol", "status", "denied_by", "decision_hash")
    _print_rows("decisions", rows, columns, as_json)


@command(app, "torghut fills\ntorghut fills --symbol BTC/USD --limit 100 --json", panel=EVERYDAY)
def fills(
    symbol: Symbol = None,
    strategy: Strategy = None,
    since: Since = None,
    limit: Limit = 20,
    url: Url = None,
    state: State = STATE,
    as_json: AsJson = False,
) -> None:
    """List fills, newest first. `torghut explain` takes the ids of their orders.

    Asks the kernel that runs, for its account; without one, lists what the database has. `--since` goes by the fill.
    """
    rows = read_rows("fills", url, state, limit, symbol=symbol, strategy=strategy, since=since)
    columns = ("event_ts", "strategy_id", "side", "quantity", "symbol", "price", "fee", "client_order_id")
    _print_rows("fills", rows, columns, as_json)


@command(app, "torghut positions\ntorghut positions --strategy momentum --json", panel=EVERYDAY)
def positions(
    symbol: Symbol = None,
    strategy: Strategy = None,
    since: Since = None,
    limit: Limit = 1000,
    url: Url = None,
    state: State = STATE,
    as_json: AsJson = False,
) -> None:
    """List what each strategy holds, with its last fill. `torghut explain` takes the id of that order.

    Asks the kernel that runs; without one, lists what the database has. `--since` goes by the last fill.
    """
    found, stands = [], read_state(url, state)
    for held in stands.positions:
        if symbol not in (None, held["symbol"]) or strategy not in (None, held["strategy"]):
            continue
        choice = {"symbol": held["symbol"], "strategy": held["strategy"], "since": since}
        last = read_rows("fills", url, state, 1, account=stands.account, **choice)
        if last or since is None:
            fill = last[0] if last else {}
            names = {"last_fill_at": "event_ts", "client_order_id": "client_order_id"}
            found.append(held | {name: fill.get(column) for name, column in names.items()})
    columns = ("strategy", "symbol", "quantity", "average_price", "last_fill_at", "client_order_id")
    _print_rows("positions", found[:limit], columns, as_json)


def read_rows(
    kind: Kind, url: str | None, state: Path, limit: int, *, account: str | None = None, **filters: str | None
) -> list[dict[str, Any]]:
    """Rows of a list, newest first: from the kernel at `url`, or the one that runs on `state`, or from the database there.

    A kernel lists its own account, the database that of `account`, or of all where None.

    Raises
    ------
    InputError : `since` is not a time; `NotFoundError` where nothing was ever kept there.
    StateError : the kernel at `url`, or the database, does not answer.
    """
    from torghut_core.audit import list_rows
    from torghut_core.errors import StateError
    from torghut_core.installation.open import existing_audit
    from torghut_core.installation.settings import load_settings

    wanted = {name: value for name, value in filters.items() if value is not None}
    try:
        return admin_client(url, state).rows(ROUTES[kind], limit, **wanted)
    except StateError:
        if url is not None:
            raise
        with existing_audit(load_settings(), state) as audit:
            return list_rows(audit, kind, limit=limit, account=account, **wanted)  # type: ignore[arg-type]


def _print_rows(name: str, rows: list[dict[str, Any]], columns: tuple[str, ...], as_json: bool) -> None:
    if as_json:
        print(json.dumps({name: rows}, indent=2))
        return
    from torghut_core.cli.render import print_rows

    print_rows(rows, columns)
