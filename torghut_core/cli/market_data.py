"""Commands of market data: `forward`, `ta`, `backfill`, `signals` and `schema`."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from torghut_core.cli.help import MARKET_DATA, Group, command
from torghut_core.cli.options import STATE, AsJson, CatalogOption, Host, State, catalog_path, say
from torghut_core.errors import InputError

app = typer.Typer()
signals_app = typer.Typer(cls=Group, help="Stored microbars and signals.")
schema_app = typer.Typer(cls=Group, help="Avro schemas of the messages on the bus.")
app.add_typer(signals_app, name="signals", rich_help_panel=MARKET_DATA)
app.add_typer(schema_app, name="schema", rich_help_panel=MARKET_DATA)

Pipeline = Annotated[str, typer.Option(metavar="NAME", help="Pipeline of the catalog that this process runs.")]
ProbePort = Annotated[
    int,
    typer.Option("--port", metavar="PORT", min=0, max=65535, help="Port of the probes; 0 picks a free one."),
]
FORWARDER_STATE = STATE / "forwarder"
TA_STATE = STATE / "ta"


@command(app, "torghut forward --catalog catalog/live.yaml", panel=MARKET_DATA)
def forward(
    catalog: CatalogOption = None,
    state: State = FORWARDER_STATE,
    pipeline: Pipeline = "forwarder",
    host: Host = "127.0.0.1",
    port: ProbePort = 8182,
) -> None:
    """Move market data from a source to a bus, until SIGTERM.

    After a restart, what the bus has not acknowledged is fetched again from a source that has a history. `/healthz`,
    `/readyz` and `/metrics` are served on its port.
    """
    _serve(catalog, state, pipeline, host, port)


@command(app, "torghut ta --catalog catalog/live.yaml", panel=MARKET_DATA)
def ta(
    catalog: CatalogOption = None,
    state: State = TA_STATE,
    pipeline: Pipeline = "ta",
    host: Host = "127.0.0.1",
    port: ProbePort = 8183,
) -> None:
    """Derive microbars and signals from a source, into the signal store and onto a bus, until SIGTERM.

    After a crash it resumes from its last checkpoint, and the stored rows are the same as without the crash.
    """
    _serve(catalog, state, pipeline, host, port)


def _serve(catalog: Path | None, state: Path, pipeline: str, host: str, port: int) -> None:
    from torghut_core.runtime.service import open_service

    with open_service(catalog_path(catalog), state, pipeline, host=host, port=port) as service:
        service.execute(lambda url: print(f"{pipeline}: probes at {url} (SIGTERM or Ctrl-C to stop)", flush=True))
    print(service.summary)


@command(
    app,
    "torghut backfill --symbols BTC/USD,ETH/USD --start 2026-01-05 --end 2026-01-06 --out tape.jsonl\n"
    "torghut backfill --symbols BTC/USD --start 2026-01-05T14:30:00Z --to-store --catalog catalog/live.yaml\n"
    "torghut backfill --symbols AAPL --start 2014-01-01 --actions actions.csv",
    panel=MARKET_DATA,
)
def backfill(
    symbols: Annotated[str, typer.Option(metavar="SYMBOLS", help="Symbols, comma-separated: BTC/USD,ETH/USD.")],
    start: Annotated[
        str, typer.Option(metavar="TIME", help="Start (inclusive): 2026-01-05T14:30:00Z (RFC 3339), or 2026-01-05.")
    ],
    end: Annotated[str, typer.Option(metavar="TIME", help="End (exclusive), written likewise (default: now).")] = "",
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="JSONL tape to write.", dir_okay=False)] = None,
    to_store: Annotated[
        bool, typer.Option("--to-store", help="Derive microbars and signals, and store them in --state.")
    ] = False,
    actions: Annotated[
        Path | None,
        typer.Option(
            "--actions",
            metavar="FILE",
            help="CSV tape to write of splits and dividends, for `torghut replay --actions`.",
            dir_okay=False,
        ),
    ] = None,
    catalog: Annotated[
        Path | None,
        typer.Option("--catalog", metavar="PATH", help="Catalog file or folder that names the source and the stages."),
    ] = None,
    source: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Source plugin, if no catalog is given (default: the only one with a history)."
        ),
    ] = "",
    state: State = TA_STATE,
    as_json: AsJson = False,
) -> None:
    """Fetch past market data into a tape, or into the signal store, where it replaces what is stored.

    With --catalog, the source of its pipeline `forwarder` and the stages of its pipeline `ta` are used; without it, those
    that come with torghut, with their defaults.
    """
    from torghut_core.cli.render import counted, progress
    from torghut_core.runtime.backfill import run_backfill

    if (out is not None) + to_store + (actions is not None) != 1:
        raise InputError("backfill needs one destination (give --out TAPE.jsonl, --to-store, or --actions ACTIONS.csv)")
    names = [name for name in symbols.replace(",", " ").split() if name]
    with progress(None, "backfill") as advance:
        done = run_backfill(
            names,
            start,
            end,
            out=out,
            actions=actions,
            state=state,
            catalog=catalog,
            source=source,
            on_progress=advance,
        )
    events = [f"{count:,} {channel}" for channel, count in sorted(done["events"].items())]
    rows = f": {counted(done['microbars'], 'microbar')}, {counted(done['signals'], 'signal')}" if to_store else ""
    say(done, f"{', '.join(events) or 'no events'} -> {done['to']}{rows}", as_json)


@command(signals_app, "torghut signals export --table signals --out signals.parquet", name="export")
def signals_export(
    table: Annotated[Literal["microbars", "signals"], typer.Option(help="Table to export.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Parquet file to write.", dir_okay=False)],
    state: State = STATE,
    as_json: AsJson = False,
) -> None:
    """Write a table of the signal store to a Parquet file, without duplicates."""
    from torghut_core.cli.render import counted
    from torghut_core.installation.open import existing_state, open_signals
    from torghut_core.installation.settings import load_settings

    settings = load_settings()
    with existing_state(state) as directory, closing(open_signals(settings, directory)) as store:
        rows = store.export(table, str(out))
    say({"table": table, "out": str(out), "rows": rows}, f"{counted(rows, 'row')} of {table} -> {out}", as_json)


@command(schema_app, "torghut schema check --registry http://127.0.0.1:8081", name="check")
def schema_check(
    registry: Annotated[
        str | None, typer.Option(metavar="URL", help="Registry to compare with (default: SCHEMA_REGISTRY_URL).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check that every schema is compatible with the registered one, or without a registry with the last release's.

    The rule is the registry's BACKWARD. Exit code 1 if one is not compatible.
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
    lines = [str(problem) for problem in problems] or [
        f"{len(CHANNELS)} schemas are compatible with those of {against}"
    ]
    value = {"ok": not problems, "against": against, "problems": [asdict(problem) for problem in problems]}
    say(value, "\n".join(lines), as_json)
    if problems:
        raise typer.Exit(1)


@command(schema_app, "torghut schema register --registry http://127.0.0.1:8081", name="register")
def schema_register(
    registry: Annotated[
        str | None, typer.Option(metavar="URL", help="Registry (default: SCHEMA_REGISTRY_URL).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Register every schema under its subject, `TOPIC-value`; a schema that is registered already keeps its id."""
    from torghut_core.bus.registry import Registry
    from torghut_core.bus.schema import register_schemas

    found = Registry.from_environment(registry)
    if found is None:
        raise InputError("no registry given (use --registry URL, or set SCHEMA_REGISTRY_URL)")
    with closing(found):
        ids = register_schemas(found)
    say(ids, "\n".join(f"{subject}: {number}" for subject, number in ids.items()), as_json)
