"""Verbs that trade, stop and compare with the venue: `run`, `kill`, `unkill` and `reconcile`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from torghut_core.cli.options import STATE, AsJson, CatalogOption, Host, State, Url, admin_client, catalog_path, say
from torghut_core.errors import TorghutError

app = typer.Typer()
HEED_SECONDS = 3.0
"""How long `kill` and `unkill` wait for a running kernel to say that it knows."""


@app.command()
def run(
    catalog: CatalogOption = None,
    state: State = STATE,
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the admin API; 0 takes any.")] = 8181,
) -> None:
    """Trade as the catalog says, watch it, and take up its changes, until SIGTERM or the end of the source.

    Orders leave only with TRADING_ENABLED=true. SIGTERM finishes the batch and closes the stores; a second one ends at
    once.
    """
    from torghut_core.runtime.run import Run

    job = Run(catalog_path(catalog), state, host=host, port=port)

    def started(url: str) -> None:
        orders = "" if job.may_trade else "; no order leaves: TRADING_ENABLED is not true"
        print(f"trading, admin API at {url} (SIGTERM or Ctrl-C to stop){orders}", flush=True)

    job.execute(started)
    print(job.farewell)


@app.command()
def kill(
    reason: Annotated[str, typer.Option(help="Why; it is written down.")],
    flatten: Annotated[bool, typer.Option("--flatten", help="Close every position, too.")] = False,
    url: Url = None,
    state: State = STATE,
    as_json: AsJson = False,
) -> None:
    """Stop: no order leaves any more, what works is canceled. Also while nothing runs, or the loop is stuck.

    It holds over restarts, until `torghut unkill`.
    """
    if url is not None:
        done = admin_client(url, state).post("/trading/kill", {"reason": reason, "flatten": flatten})
    else:
        done = _turn(state, "halted", reason, flatten=flatten)
    from torghut_core.cli.render import control_text

    say(done, control_text(done), as_json)


@app.command()
def unkill(
    reason: Annotated[str, typer.Option(help="Why it is safe; it is written down.")],
    to: Annotated[
        Literal["running", "pause_entries", "reduce_only"],
        typer.Option(help="How far to open: everything, or exits only."),
    ] = "running",
    url: Url = None,
    state: State = STATE,
    as_json: AsJson = False,
) -> None:
    """Let orders leave again. With `--to pause_entries` or `reduce_only` also the way to slow down without a stop."""
    if url is not None:
        done = admin_client(url, state).post("/trading/unkill", {"reason": reason, "state": to})
    else:
        done = _turn(state, to, reason)
    from torghut_core.cli.render import control_text

    say(done, control_text(done), as_json)


def _turn(state: Path, to: Any, reason: str, *, flatten: bool = False) -> dict[str, Any]:
    """Turn the control of a state directory, and see whether a kernel that runs there heeds it."""
    import getpass

    from torghut_core.admin.client import NothingRuns
    from torghut_core.errors import NotFoundError
    from torghut_core.execution.controls import Controls
    from torghut_core.installation.open import audit_url
    from torghut_core.installation.settings import load_settings
    from torghut_core.installation.state_directory import StateDirectory

    settings, directory, actor = load_settings(), StateDirectory(state), getpass.getuser()
    if not directory.path.is_dir():
        raise NotFoundError(f"there is no state directory {state} (give --state DIR of the kernel, or its --url)")
    controls = Controls(directory.control_path, audit_url(settings, directory))
    try:
        turned = controls.turn(to, reason=reason, actor=actor, flatten=flatten)
    finally:
        controls.close()
    done = {
        "control": {"state": turned.control.state, "reason": reason, "actor": actor},
        "written": turned.written,
        "problems": turned.problems,
        "running": False,
    }
    deadline = time.monotonic() + HEED_SECONDS
    while True:
        try:
            status = admin_client(None, state).get("/trading/status")
        except NothingRuns:
            return done
        except TorghutError as error:
            return done | {"running": None, "problems": [*turned.problems, f"the admin API does not answer: {error}"]}
        is_heeded = status["control"]["state"] == turned.control.state
        if is_heeded or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    told = {name: status[name] for name in ("orders_working", "positions")}
    return done | {"running": True, "heeded": is_heeded, **told}


@app.command()
def reconcile(
    accept: Annotated[
        list[str] | None, typer.Option(metavar="SYMBOL", help="Take its difference as somebody else's doing.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why that is known; it is written down.")] = "",
    url: Url = None,
    state: State = STATE,
    as_json: AsJson = False,
) -> None:
    """Hold our books against the venue's now, and tell what differs. Exit code 1 where something does."""
    done = admin_client(url, state).post("/trading/reconcile", {"accept": accept or [], "reason": reason})
    lines = [f"looked at the venue at {done['at']}: {done['news']} news"]
    lines += [f"differs: {symbol}: {said}" for symbol, said in sorted(done["differences"].items())]
    lines += [f"order of somebody else: {number}" for number in done["foreign"]]
    lines += [f"taken in: {number}" for number in done["adopted"]]
    lines += [f"never reached the venue: {number}" for number in done["lost"]]
    lines += [] if done["differences"] else ["our books and the venue's agree"]
    say(done, "\n".join(lines), as_json)
    if done["differences"]:
        raise typer.Exit(1)
