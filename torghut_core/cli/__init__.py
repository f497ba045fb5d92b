"""The command line: each verb parses, calls one function of the kernel, and prints.

Exit codes: 0 done, 1 failed, 2 bad input. Every reading verb has ``--json``. Imports are made in the verbs, so that
``torghut --help`` does not wait for a database.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from torghut_core.errors import InputError, StateError, TorghutError
from torghut_core.telemetry import logs

if TYPE_CHECKING:
    from rich.console import Console

    from torghut_core.admin.client import AdminClient
    from torghut_core.catalog import Catalog
    from torghut_core.plugin_host import PluginHost

app = typer.Typer(
    name="torghut",
    help="Trade what plugins propose, as a catalog says.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
signals_app = typer.Typer(help="Microbars and signals.", no_args_is_help=True)
catalog_app = typer.Typer(help="The catalog: what trades, on what, within which limits.", no_args_is_help=True)
plugin_app = typer.Typer(help="Installed plugins.", no_args_is_help=True)
audit_app = typer.Typer(help="The audit log.", no_args_is_help=True)
db_app = typer.Typer(help="The audit database.", no_args_is_help=True)
schema_app = typer.Typer(help="Schemas of what travels on the bus.", no_args_is_help=True)
app.add_typer(signals_app, name="signals")
app.add_typer(catalog_app, name="catalog")
app.add_typer(plugin_app, name="plugin")
app.add_typer(audit_app, name="audit")
app.add_typer(db_app, name="db")
app.add_typer(schema_app, name="schema")

State = Annotated[Path, typer.Option("--state", help="Directory of the embedded stores.", file_okay=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
CatalogOption = Annotated[
    Path | None, typer.Option("--catalog", help="Catalog file or folder (default: TRADING_STRATEGY_CONFIG_PATH).")
]
Url = Annotated[
    str | None,
    typer.Option("--url", help="Admin API of a running kernel (default: of the one that runs on --state)."),
]
Host = Annotated[str, typer.Option(help="Address to listen on.")]
STATE = Path(".torghut")
FORWARDER_STATE = STATE / "forwarder"
TA_STATE = STATE / "ta"
INTERRUPTED = 128 + signal.SIGINT
"""The exit code after Ctrl-C, of what does not end by it in good order."""
HEED_SECONDS = 3.0
"""How long `kill` and `unkill` wait for a running kernel to say that it knows."""


@app.command()
def demo(
    state: State = STATE, open_page: Annotated[bool, typer.Option("--open", help="Open the page.")] = False
) -> None:
    """Replay the tape that comes with torghut through the example catalog, and draw the page."""
    from torghut_core.research.replay import demo_files

    catalog, tape = demo_files()
    page = state / "report.html"
    _replay([tape], catalog, state, page=page)
    if open_page:
        typer.launch(str(page))


@app.command()
def replay(
    tapes: Annotated[
        list[Path] | None,
        typer.Argument(help="Parquet, CSV or JSONL tapes (default: the catalog's).", show_default=False),
    ] = None,
    catalog: CatalogOption = None,
    state: State = STATE,
    batch_size: Annotated[int, typer.Option(min=1, help="Events per batch; any size gives the same result.")] = 65_536,
    speed: Annotated[str, typer.Option(help="'max', or a multiple of the recorded pace: 1x, 60x.")] = "max",
    on_bad_row: Annotated[
        Literal["fail", "skip"], typer.Option(help="Stop at a bad row, or leave it out and say so.")
    ] = "fail",
    swap_at: Annotated[
        list[str] | None,
        typer.Option(
            metavar="N:CATALOG", help="Take up another catalog before event N, counted from 0; may be given repeatedly."
        ),
    ] = None,
    page: Annotated[Path | None, typer.Option("--page", help="Write the HTML page there.")] = None,
    as_json: AsJson = False,
) -> None:
    """Trade recorded tapes on the simulated broker.

    Several tapes are merged in the order in which their events became known. A tape is checked whole before the first
    event is traded, so a bad one changes nothing.
    """
    swaps = [_swap(text) for text in swap_at or []]
    path = _catalog_path(catalog)
    _replay(tapes or [], path, state, batch_size, speed, on_bad_row, swaps=swaps, page=page, as_json=as_json)


def _swap(text: str) -> tuple[int, Path]:
    event, colon, path = text.partition(":")
    if not (event.isascii() and event.isdigit() and colon and path):
        raise InputError(f"--swap-at {text}: is not of the form N:CATALOG (as in 250000:other.yaml)")
    return int(event), Path(path)


def _replay(
    tapes: list[Path],
    catalog: Path,
    state: Path,
    batch_size: int = 65_536,
    speed: str = "max",
    on_bad_row: str = "fail",
    *,
    swaps: list[tuple[int, Path]] | None = None,
    page: Path | None = None,
    as_json: bool = False,
) -> None:
    from torghut_core.research.replay import Replay
    from torghut_core.trading.loop import to_json

    with Replay(catalog, tapes, state, speed=speed, on_bad_row=on_bad_row, swaps=swaps or ()) as job:
        with _progress(job.total, "replay") as advance:
            job.run(batch_size, advance)
        if page is not None:
            job.write_page(page)
        if as_json:
            print(to_json(job.result()))
        else:
            from torghut_core.cli.render import print_summary

            print_summary(_console(), job, page)


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

    job = Run(_catalog_path(catalog), state, host=host, port=port)

    def started(url: str) -> None:
        orders = "" if job.may_trade else "; no order leaves: TRADING_ENABLED is not true"
        print(f"trading, admin API at {url} (SIGTERM or Ctrl-C to stop){orders}", flush=True)

    job.execute(started)
    print(job.farewell)


@app.command()
def forward(
    catalog: CatalogOption = None,
    state: Annotated[
        Path, typer.Option("--state", help="Directory of this process.", file_okay=False)
    ] = FORWARDER_STATE,
    pipeline: Annotated[str, typer.Option(help="Which pipeline of the catalog.")] = "forwarder",
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of its probes; 0 takes any.")] = 8182,
) -> None:
    """Move market data from a source to a bus, until SIGTERM.

    What the bus has acknowledged is written down: after a restart a source with a past fills what was missed. `/healthz`,
    `/readyz` and `/metrics` answer at its port.
    """
    _serve(catalog, state, pipeline, host, port)


@app.command()
def ta(
    catalog: CatalogOption = None,
    state: Annotated[Path, typer.Option("--state", help="Directory of this process.", file_okay=False)] = TA_STATE,
    pipeline: Annotated[str, typer.Option(help="Which pipeline of the catalog.")] = "ta",
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of its probes; 0 takes any.")] = 8183,
) -> None:
    """Derive microbars and signals from a source into the signal store, and onto a bus, until SIGTERM.

    Killed anywhere it goes on from its last checkpoint, and the rows in the store are those of a run without a kill.
    """
    _serve(catalog, state, pipeline, host, port)


def _serve(catalog: Path | None, state: Path, pipeline: str, host: str, port: int) -> None:
    from torghut_core.runtime.service import Service

    job = Service(_catalog_path(catalog), state, pipeline, host=host, port=port)
    job.execute(lambda url: print(f"{pipeline}: probes at {url} (SIGTERM or Ctrl-C to stop)", flush=True))
    print(job.farewell)


@app.command()
def backfill(
    symbols: Annotated[str, typer.Option(help="Which, between commas: BTC/USD,ETH/USD.")],
    start: Annotated[str, typer.Option(help="From when on, RFC 3339: 2026-01-05T14:30:00Z, or a day: 2026-01-05.")],
    end: Annotated[str, typer.Option(help="Up to when, not included; now, where it is not given.")] = "",
    out: Annotated[Path | None, typer.Option(help="The JSONL tape to write.", dir_okay=False)] = None,
    to_store: Annotated[
        bool, typer.Option("--to-store", help="Derive microbars and signals of it, into the signal store of --state.")
    ] = False,
    catalog: Annotated[
        Path | None, typer.Option("--catalog", help="Catalog file or folder with the source and stages.")
    ] = None,
    source: Annotated[str, typer.Option(help="Source plugin, where no catalog is given.")] = "alpaca",
    state: Annotated[
        Path, typer.Option("--state", help="Directory of the embedded store.", file_okay=False)
    ] = TA_STATE,
    as_json: AsJson = False,
) -> None:
    """Fetch the past of some symbols into a tape, or into the signal store, where it replaces what is there.

    With --catalog the source of its pipeline `forwarder` and the stages of `ta` are used; without, those that come with
    torghut, with their defaults.
    """
    from torghut_core.runtime.backfill import run_backfill

    if (out is None) == (not to_store):
        raise InputError("say where to: --out TAPE.jsonl, or --to-store")
    names = [name for name in symbols.replace(",", " ").split() if name]
    with _progress(None, "backfill") as advance:
        done = run_backfill(
            names, start, end, out=out, state=state, catalog=catalog, source=source, on_progress=advance
        )
    counts = ", ".join(f"{count:,} {channel}" for channel, count in sorted(done["events"].items())) or "nothing"
    rows = f": {done['microbars']:,} microbars, {done['signals']:,} signals" if to_store else ""
    _say(done, f"{counts} -> {done['to']}{rows}", as_json)


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
        done = _admin(url, state).post("/trading/kill", {"reason": reason, "flatten": flatten})
    else:
        done = _turn(state, "halted", reason, flatten=flatten)
    _say(done, _told(done), as_json)


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
        done = _admin(url, state).post("/trading/unkill", {"reason": reason, "state": to})
    else:
        done = _turn(state, to, reason)
    _say(done, _told(done), as_json)


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
            status = _admin(None, state).get("/trading/status")
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


def _told(done: dict[str, Any]) -> str:
    control = done["control"]
    lines = [
        f"{control['state']}: {control['reason']} ({control['actor']}), written to {' and '.join(done['written'])}"
    ]
    lines += [f"problem: {problem}" for problem in done["problems"]]
    if done.get("running") is False:
        lines.append("nothing runs here; the next start will heed it")
    elif "orders_working" in done:
        held = "".join(
            f"\n  {each['strategy']} {each['symbol']} {each['quantity']}" for each in done.get("positions", [])
        )
        lines.append(
            f"the kernel knows; {done['orders_working']} orders still work" + (f"; held:{held}" if held else "")
        )
    return "\n".join(lines)


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
    done = _admin(url, state).post("/trading/reconcile", {"accept": accept or [], "reason": reason})
    lines = [f"looked at the venue at {done['at']}: {done['news']} news"]
    lines += [f"differs: {symbol}: {said}" for symbol, said in sorted(done["differences"].items())]
    lines += [f"order of somebody else: {number}" for number in done["foreign"]]
    lines += [f"taken in: {number}" for number in done["adopted"]]
    lines += [f"never reached the venue: {number}" for number in done["lost"]]
    lines += [] if done["differences"] else ["our books and the venue's agree"]
    _say(done, "\n".join(lines), as_json)
    if done["differences"]:
        raise typer.Exit(1)


@signals_app.command("export")
def signals_export(
    table: Annotated[Literal["microbars", "signals"], typer.Option(help="Which table.")],
    out: Annotated[Path, typer.Option(help="The Parquet file to write.", dir_okay=False)],
    state: State = STATE,
    as_json: AsJson = False,
) -> None:
    """Write what the signal store holds to a Parquet file, without duplicates."""
    from torghut_core.installation.open import existing_state, open_signals
    from torghut_core.installation.settings import load_settings

    settings = load_settings()
    with existing_state(state) as directory:
        store = open_signals(settings, directory)
        try:
            rows = store.export(table, str(out))
        finally:
            store.close()
    _say({"table": table, "out": str(out), "rows": rows}, f"{rows:,} rows of {table} -> {out}", as_json)


@catalog_app.command("validate")
def catalog_validate(
    path: Annotated[Path | None, typer.Argument(help="Catalog file or folder.", show_default=False)] = None,
    catalog: CatalogOption = None,
    as_json: AsJson = False,
) -> None:
    """Check a catalog as a reload would: structure, plugins, parameters, limits."""
    from torghut_core import catalog as catalogs
    from torghut_core.errors import CatalogError
    from torghut_core.generation import validate

    try:
        parsed = catalogs.load(catalogs.read(_catalog_path(path or catalog)))
        problems = validate(parsed, _host(parsed.plugins.allow))
    except CatalogError as error:
        problems = error.problems
    if problems:
        if not as_json:
            raise CatalogError(problems)
        print(json.dumps({"valid": False, "problems": [_fields(problem) for problem in problems]}, indent=2))
        raise typer.Exit(2)
    names = [strategy.name for strategy in parsed.strategies]
    _say(
        {"valid": True, "problems": [], "digest": parsed.digest, "strategies": names},
        f"valid: {len(names)} strategies ({', '.join(names)}), digest {parsed.digest[:12]}",
        as_json,
    )


@catalog_app.command("diff")
def catalog_diff(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="[OLD] NEW", help="Catalog file or folder that trades, and that shall trade."),
    ],
    against_live: Annotated[
        bool, typer.Option("--against-live", help="Compare NEW with what trades in a running kernel.")
    ] = False,
    url: Url = None,
    state: State = STATE,
    as_json: AsJson = False,
) -> None:
    """Tell what a change of catalog would do: what at once, what when flat, what after a restart."""
    from torghut_core import catalog as catalogs
    from torghut_core.catalog.diff import diff

    if len(paths) != (1 if against_live else 2):
        raise InputError(f"`catalog diff` takes OLD NEW, or --against-live NEW, not {len(paths)} catalogs (see --help)")
    *olds, new = [catalogs.load(catalogs.read(path)) for path in paths]
    found = diff(olds[0] if olds else _live_catalog(url, state), new)
    _say(found.to_json(), found.to_text(), as_json)


@catalog_app.command("status")
def catalog_status(url: Url = None, state: State = STATE, as_json: AsJson = False) -> None:
    """Tell what trades now, what is wrong with it and what waits; where nothing runs, what traded last."""
    from torghut_core.admin.client import NothingRuns

    try:
        client = _admin(url, state)
        status = client.get("/catalog")["status"]
    except NothingRuns:
        if url is not None:
            raise
        last = _last_generation(state)
        text = f"nothing runs on {state}; "
        if last["generation"] is None:
            text += "nothing ever traded there"
        else:
            text += "generation {generation} traded last, digest {digest:.12}, ".format(**last)
            text += "since {since}, brought by {actor}: {outcome}".format(**last)
        _say({"running": False, **last}, text, as_json)
        return
    if as_json:
        print(json.dumps({"running": True, "url": client.url, **status}, indent=2))
        return
    from torghut_core.admin.status import print_status

    print_status(_console(), status, client.url)


@catalog_app.command("rollback")
def catalog_rollback(
    to: Annotated[
        int | None, typer.Option(min=1, help="Generation to go back to (default: the one before).", show_default=False)
    ] = None,
    url: Url = None,
    state: State = STATE,
    as_json: AsJson = False,
) -> None:
    """Let a running kernel trade an earlier generation again, until the catalog's file changes."""
    done = _admin(url, state).post("/catalog/rollback", {} if to is None else {"to": to})
    text = "\n".join([f"generation {done['generation']}: {done['outcome']}", *done["problems"]])
    _say(done, text, as_json)
    if done["problems"]:
        raise typer.Exit(1)


@catalog_app.command("schema")
def catalog_schema() -> None:
    """Print the JSON Schema of a catalog, for editors and CI."""
    from torghut_core.catalog import json_schema

    print(json.dumps(json_schema(_host(("*",)).params()), indent=2))


@plugin_app.command("list")
def plugin_list(as_json: AsJson = False) -> None:
    """List every plugin that a catalog can use, and those that could not be loaded."""
    host = _host(("*",))
    plugins = [
        {
            "kind": p.kind,
            "name": p.name,
            "distribution": p.distribution,
            "version": p.version,
            "code_digest": p.code_digest,
        }
        for p in host.plugins()
    ]
    failures = [{"name": f.plugin, "distribution": f.distribution, "reason": f.reason} for f in host.failures]
    if as_json:
        print(json.dumps({"plugins": plugins, "failures": failures}, indent=2))
        return
    from rich.table import Table

    table = Table("kind", "name", "distribution", "version", box=None, pad_edge=False)
    for plugin in plugins:
        table.add_row(plugin["kind"], plugin["name"], plugin["distribution"], plugin["version"])
    console = _console()
    console.print(table)
    for failure in failures:
        console.print(
            f"left out: {failure['name']} ({failure['distribution']}): {failure['reason']}", style="red", markup=False
        )


@app.command()
def explain(
    decision: Annotated[str, typer.Argument(help="Decision id or hash (a prefix will do), or client order id.")],
    verify: Annotated[
        bool, typer.Option("--verify", help="Ask gates and rules again, and compare. Exit code 1 where they differ.")
    ] = False,
    state: State = STATE,
    as_json: AsJson = False,
) -> None:
    """Tell why a decision was made and what became of it."""
    from torghut_core.installation.open import existing_audit
    from torghut_core.installation.settings import load_settings

    settings = load_settings()
    with existing_audit(settings, state) as audit:
        found = audit.find_decision(decision)
        if verify:
            from torghut_core.research.verify import verify_decision

            checked = verify_decision(audit, decision, _host(("*",)))
            found["verification"] = {
                "is_same": checked.is_same,
                "differences": checked.differences,
                "notes": checked.notes,
            }
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        from torghut_core.cli.render import print_explanation

        print_explanation(_console(), found)
    if verify and not found["verification"]["is_same"]:
        raise typer.Exit(1)


@audit_app.command("verify")
def audit_verify(state: State = STATE, as_json: AsJson = False) -> None:
    """Recompute the hash chain; name every edited, inserted or missing row."""
    from torghut_core.installation.open import existing_audit
    from torghut_core.installation.settings import load_settings

    with existing_audit(load_settings(), state) as audit:
        findings = [str(finding) for finding in audit.verify()]
    text = "\n".join(findings) or "the audit log and every row that it covers are as written"
    _say({"intact": not findings, "findings": findings}, text, as_json)
    if findings:
        raise typer.Exit(1)


@app.command()
def doctor(
    catalog: CatalogOption = None,
    state: State = STATE,
    pipeline: Annotated[
        str | None, typer.Option(help="The pipeline that this process runs (default: all of the catalog).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check this installation: Python, plugins, settings, stores, catalog. Each finding comes with its fix.

    Of the catalog's sources, brokers and sinks it looks whether their settings and secrets are there; no key is tried.
    """
    from torghut_core.cli.doctor import examine

    findings = examine(catalog, state, pipeline)
    is_well = all(finding.is_well for finding in findings)
    if as_json:
        print(json.dumps({"ok": is_well, "checks": [_fields(finding) for finding in findings]}, indent=2))
    else:
        console = _console()
        for finding in findings:
            mark = "[green]ok[/]  " if finding.is_well else "[red]FAIL[/]"
            console.print(f"{mark} [bold]{finding.subject}[/]", end=" ")
            console.print(finding.detail, markup=False, highlight=False)
            if finding.hint:
                console.print(f"     -> {finding.hint}", markup=False, highlight=False)
    if not is_well:
        raise typer.Exit(1)


@schema_app.command("check")
def schema_check(
    registry: Annotated[
        str | None, typer.Option(metavar="URL", help="Registry to compare with (default: SCHEMA_REGISTRY_URL).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check that every schema can take the place of the registered one, or without a registry of the last release's.

    By the registry's rule BACKWARD. Exit code 1 where one cannot.
    """
    from torghut_core.bus.registry import Registry
    from torghut_core.bus.schema import CHANNELS, check_schemas

    found = Registry.from_environment(registry)
    try:
        problems = check_schemas(found)
    finally:
        if found is not None:
            found.close()
    against = "the registry" if found is not None else "the last release"
    lines = [str(problem) for problem in problems] or [f"{len(CHANNELS)} schemas can take the place of {against}'s"]
    value = {"ok": not problems, "against": against, "problems": [_fields(problem) for problem in problems]}
    _say(value, "\n".join(lines), as_json)
    if problems:
        raise typer.Exit(1)


@schema_app.command("register")
def schema_register(
    registry: Annotated[
        str | None, typer.Option(metavar="URL", help="Registry (default: SCHEMA_REGISTRY_URL).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Register every schema under its subject, `TOPIC-value`; what is there already keeps its id."""
    from torghut_core.bus.registry import Registry
    from torghut_core.bus.schema import register_schemas

    found = Registry.from_environment(registry)
    if found is None:
        raise InputError("no registry given (use --registry URL, or set SCHEMA_REGISTRY_URL)")
    try:
        ids = register_schemas(found)
    finally:
        found.close()
    _say(ids, "\n".join(f"{subject}: {number}" for subject, number in ids.items()), as_json)


@db_app.command("upgrade")
def db_upgrade(state: State = STATE, as_json: AsJson = False) -> None:
    """Bring the audit database to this version's tables; a new one is made where there is none."""
    from torghut_core.audit import upgrade
    from torghut_core.installation.open import audit_url
    from torghut_core.installation.settings import load_settings
    from torghut_core.installation.state_directory import StateDirectory

    with StateDirectory(state) as directory:
        version = upgrade(audit_url(load_settings(), directory))
    _say({"version": version}, f"the audit database is at version {version}", as_json)


@app.command("seed-strategy")
def seed_strategy(
    name: Annotated[str, typer.Option(help="Name of the strategy.")] = "macd-rsi-default",
    use: Annotated[str, typer.Option(help="Strategy plugin that it uses.")] = "macd-rsi",
    base_timeframe: Annotated[str, typer.Option(help="1Sec, 1Min, 5Min, 15Min, 1Hour or 1Day.")] = "1Min",
    symbols: Annotated[str, typer.Option(help="Symbols, separated by commas.")] = "AAPL,MSFT",
    enabled: Annotated[bool, typer.Option(help="Whether it may trade.")] = True,
    state: State = STATE,
    as_json: AsJson = False,
) -> None:
    """Add or update a strategy's row in the audit database, and print its catalog entry."""
    import yaml

    from torghut_core import catalog as catalogs
    from torghut_core.generation import strategy_row
    from torghut_core.installation.open import open_audit
    from torghut_core.installation.settings import load_settings
    from torghut_core.installation.state_directory import StateDirectory

    entry = {
        "name": name,
        "use": use,
        "enabled": enabled,
        "base_timeframe": base_timeframe,
        "symbols": [symbol.strip() for symbol in symbols.split(",") if symbol.strip()],
    }
    text = yaml.safe_dump({"version": 1, "strategies": [entry]}, sort_keys=False)
    parsed = catalogs.load({"seed-strategy": text})
    with StateDirectory(state) as directory:
        audit = open_audit(load_settings(), directory)
        try:
            audit.record_strategies([strategy_row(parsed.strategies[0])], "merge")
        finally:
            audit.close()
    snippet = yaml.safe_dump([entry], sort_keys=False)
    _say(
        {"seeded": entry},
        f"{name} is in the strategies table. It trades when the catalog lists it under `strategies:`\n{snippet}",
        as_json,
    )


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what happens to standard error.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        print(f"torghut {installed('torghut')}")
        raise typer.Exit
    logs.set_level("info" if verbose else "warning")


def _catalog_path(path: Path | None) -> Path:
    if path is not None:
        return path
    from torghut_core.installation.settings import load_settings

    configured = load_settings().trading_strategy_config_path
    if configured is None:
        raise InputError("no catalog given (use --catalog PATH, or set TRADING_STRATEGY_CONFIG_PATH)")
    return configured


def _admin(url: str | None, state: Path) -> AdminClient:
    from torghut_core.admin.client import connect
    from torghut_core.installation.settings import load_settings

    token = load_settings().torghut_token
    return connect(url, state, token.get_secret_value() if token else None)


def _live_catalog(url: str | None, state: Path) -> Catalog:
    from pydantic import ValidationError

    from torghut_core.catalog import Catalog

    client = _admin(url, state)
    content = client.get("/catalog")["content"]
    try:
        return Catalog.model_validate(content)
    except ValidationError as error:
        hint = "use the torghut of the version that runs there"
        raise StateError(f"{client.url} trades a catalog of another format ({hint})") from error


def _last_generation(state: Path) -> dict[str, Any]:
    from torghut_core.audit.rows import as_json
    from torghut_core.installation.open import existing_audit
    from torghut_core.installation.settings import load_settings

    with existing_audit(load_settings(), state) as audit:
        rows = audit.rows("catalog_generations", newest_first=True, limit=1)
    keys = {"generation": "number", "digest": "digest", "since": "created_at", "actor": "actor", "outcome": "outcome"}
    row = as_json(rows[0]) if rows else {}
    return {key: row.get(column) for key, column in keys.items()}


def _host(allow: tuple[str, ...]) -> PluginHost:
    from torghut_core.installation.open import load_plugins
    from torghut_core.installation.settings import load_settings

    return load_plugins(load_settings(), allow)


def _console() -> Console:
    from rich.console import Console

    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(highlight=False, width=120, soft_wrap=True)  # a pipe has no width: tables fit, lines stay whole


def _progress(total: int | None, task: str) -> Any:
    from torghut_core.cli.render import progress

    return progress(total, task)


def _fields(value: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(value)


def _say(value: dict[str, Any], text: str, as_json: bool) -> None:
    print(json.dumps(value) if as_json else text)


def main() -> None:
    """Run the command line; errors become one message and an exit code.

    Everything is closed by then, so the process ends at once: taking numba, chdb and SQLAlchemy apart would take half a
    second, to free what the system frees anyway.
    """
    gc.set_threshold(100_000, 50, 100)  # imports make no garbage: looking for it takes a tenth of the start
    code = _run()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        code = code or 1
    os._exit(code)


def _run() -> int:
    try:
        app()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            print("stopped by Ctrl-C before it was done", file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except TorghutError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0
