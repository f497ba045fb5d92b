"""Commands that trade, stop, and compare with the venue: `run`, `kill`, `unkill` and `reconcile`."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from torghut_core.cli.help import EMERGENCY, EVERYDAY, command
from torghut_core.cli.options import (
    STATE,
    AsJson,
    CatalogOption,
    Host,
    Reason,
    State,
    Url,
    admin_client,
    catalog_path,
    say,
)

app = typer.Typer()

CONFIRM_SECONDS = 10.0
"""How long `kill` and `unkill` wait for a running kernel to confirm, and `kill --flatten` for it to hold nothing any more."""


@command(app, "TRADING_ENABLED=true torghut run --catalog catalog/trading.yaml", panel=EVERYDAY)
def run(
    catalog: CatalogOption = None,
    state: State = STATE,
    host: Host = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="PORT", min=0, max=65535, help="Port of the admin API; 0 picks a free one.")
    ] = 8181,
) -> None:
    """Trade as the catalog says, and apply its changes meanwhile, until SIGTERM or the end of the source.

    Nothing is decided without TRADING_ENABLED=true, nor while another process trades the account: this one stands by,
    and takes over when that one ends. The first SIGTERM finishes the batch and closes the stores; a second one ends the
    process at once. Logs what it does to standard error, and once a minute that it lives.
    """
    from torghut_core.runtime.run import open_run
    from torghut_core.telemetry import logs

    logs.set_level("info")

    def waits(url: str, reason: str) -> None:
        print(f"standby, probes at {url} (SIGTERM or Ctrl-C to stop); {reason}", flush=True)

    with open_run(catalog_path(catalog), state, host=host, port=port, on_wait=waits) as job:

        def started(url: str) -> None:
            first, *others = job.console.state().at_start().lines()
            first += f", admin API at {url} (SIGTERM or Ctrl-C to stop)"
            if job.resumes_after:
                first += f"; no order before the market data is later than {job.resumes_after}, which was traded before"
            print("\n".join([first, *others]), flush=True)

        job.execute(started)
    print(job.summary)


@command(
    app,
    'torghut kill --reason "fat finger"\ntorghut kill --reason "leaving the market" --flatten',
    panel=EMERGENCY,
)
def kill(
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="Why; kept in the audit log. A stop does not wait for one.")
    ] = "",
    flatten: Annotated[bool, typer.Option("--flatten", help="Close all positions, too.")] = False,
    url: Url = None,
    state: State = STATE,
    as_json: AsJson = False,
) -> None:
    """Stop trading now: send no more orders and cancel open ones. Works even if the kernel is down or stuck.

    The stop holds over restarts, until `torghut unkill`.
    """
    if url is not None:
        done = admin_client(url, state).post("/trading/kill", {"reason": reason, "flatten": flatten})
    else:
        done = _change_control(state, "halted", reason, flatten=flatten)
    _say_control(done, as_json)


@command(
    app,
    'torghut unkill --reason "found and fixed"\ntorghut unkill --reason "exits only today" --to reduce_only',
    panel=EMERGENCY,
)
def unkill(
    reason: Reason,
    to: Annotated[
        Literal["running", "pause_entries", "reduce_only"],
        typer.Option(help="Which orders are sent again: all, or exits only; reduce_only also cancels open entries."),
    ] = "running",
    url: Url = None,
    state: State = STATE,
    as_json: AsJson = False,
) -> None:
    """Send orders again after a stop. With `--to pause_entries` or `--to reduce_only`, restrict trading to exits.

    Exit code 1 if the kernel stays halted, because TRADING_KILL_SWITCH_ENABLED or TRADING_EMERGENCY_STOP_ENABLED is true there.
    """
    if url is not None:
        done = admin_client(url, state).post("/trading/unkill", {"reason": reason, "state": to})
    else:
        done = _change_control(state, to, reason)
    _say_control(done, as_json)
    if done.get("halted_by") and not done["confirmed"]:
        raise typer.Exit(1)


def _say_control(done: dict[str, Any], as_json: bool) -> None:
    from torghut_core.cli.render import control_text  # late: a stop waits for nothing

    say(done, control_text(done), as_json)


def _is_flat(shown: dict[str, Any]) -> bool:
    """Whether nothing is left to close: no order works, and no position is held that the venue knows of, too."""
    held = {each["symbol"] for each in shown["positions"]} - shown["differences"].keys()
    return shown["role"] != "trading" or not (held or shown["orders_working"])


def _change_control(state: Path, to: Any, reason: str, *, flatten: bool = False) -> dict[str, Any]:
    """Change the control of a state directory, and wait for a kernel that runs there to confirm, and to flatten."""
    from torghut_core.admin.client import KernelNotRunning
    from torghut_core.environment import login
    from torghut_core.errors import NotFoundError, SettingsError, reason_of
    from torghut_core.execution.controls import SETTING, Controls
    from torghut_core.installation.open import audit_url
    from torghut_core.installation.settings import load_settings
    from torghut_core.installation.state_directory import StateDirectory

    directory, actor = StateDirectory(state), login()
    if not directory.path.is_dir():
        raise NotFoundError(f"there is no state directory {state} (give --state DIR of the kernel, or its --url)")
    database, problems, halted_by = None, [], ""
    try:
        settings = load_settings()
        database, halted_by = audit_url(settings, directory), settings.halted_by
    except SettingsError as error:
        if to != "halted":
            raise
        problems = [f"database: which one is unknown: {error}"]  # the file stops the kernel of this directory
    with closing(Controls(directory.control_path, database, halted_by=halted_by)) as controls:
        change = controls.change(to, reason=reason, actor=actor, flatten=flatten)
    problems += change.problems
    done = {
        "control": {"state": change.control.state, "reason": change.control.reason, "actor": actor},
        "written": change.written,
        "problems": problems,
        "running": False,
    }
    deadline = time.monotonic() + CONFIRM_SECONDS
    while True:
        try:
            status = admin_client(None, state).get("/trading/status")
            is_confirmed = status["control"]["state"] == change.control.state
            shown = {name: status[name] for name in ("role", "orders_working", "positions")}
            shown["differences"] = (status["reconciliation"] or {}).get("differences", {})
            shown["halted_by"] = status["control"]["reason"] if status["control"]["actor"] == SETTING else ""
        except KernelNotRunning:
            return done
        except Exception as error:  # whatever it is, the change is made
            problems.append(f"the admin API does not answer: {reason_of(error)}")
            return done | {"running": None}
        is_over = is_confirmed or shown["halted_by"]  # a setting is there until the kernel is started again
        if (is_over and (not flatten or _is_flat(shown))) or time.monotonic() > deadline:
            return done | {"running": True, "confirmed": is_confirmed, **shown}
        time.sleep(0.1)


@command(
    app,
    'torghut reconcile\ntorghut reconcile --accept ES --reason "bought by hand at the venue"',
    panel=EMERGENCY,
)
def reconcile(
    accept: Annotated[
        list[str] | None,
        typer.Option(metavar="SYMBOL", help="Accept this symbol's difference as an outside trade. May be repeated."),
    ] = None,
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="How that is known; needed with --accept, kept in the audit log.")
    ] = "",
    url: Url = None,
    state: State = STATE,
    as_json: AsJson = False,
) -> None:
    """Compare our records with the venue's now, and list the differences.

    Exit code 1 if there are any.
    """
    done = admin_client(url, state).post("/trading/reconcile", {"accept": accept or [], "reason": reason})
    from torghut_core.cli.render import reconciliation_text

    say(done, reconciliation_text(done), as_json)
    if done["differences"]:
        raise typer.Exit(1)
