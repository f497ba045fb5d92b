"""Verbs of market data: `forward`, `ta`, `backfill`, `signals` and `schema`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from torghut_core.cli.options import (
    FORWARDER_STATE,
    STATE,
    TA_STATE,
    AsJson,
    CatalogOption,
    Host,
    State,
    catalog_path,
    say,
)
from torghut_core.errors import InputError

app = typer.Typer()
signals_app = typer.Typer(help="Microbars and signals.", no_args_is_help=True)
schema_app = typer.Typer(help="Schemas of what travels on the bus.", no_args_is_help=True)
app.add_typer(signals_app, name="signals")
app.add_typer(schema_app, name="schema")


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
    from torghut_core.runtime.service import open_service

    with open_service(catalog_path(catalog), state, pipeline, host=host, port=port) as service:
        service.execute(lambda url: print(f"{pipeline}: probes at {url} (SIGTERM or Ctrl-C to stop)", flush=True))
    print(service.summary)


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
    source: Annotated[
        str, typer.Option(help="Source plugin, where no catalog is given; default: the only one that has a history.")
    ] = "",
    state: Annotated[
        Path, typer.Option("--state", help="Directory of the embedded store.", file_okay=False)
    ] = TA_STATE,
    as_json: AsJson = False,
) -> None:
    """Fetch the past of some symbols into a tape, or into the signal store, where it replaces what is there.

    With --catalog the source of its pipeline `forwarder` and the stages of `ta` are used; without, those that come with
    torghut, with their defaults.
    """
    from torghut_core.cli.render import progress
    from torghut_core.runtime.backfill import run_backfill

    if (out is None) == (not to_store):
        raise InputError("say where to: --out TAPE.jsonl, or --to-store")
    names = [name for name in symbols.replace(",", " ").split() if name]
    with progress(None, "backfill") as advance:
        done = run_backfill(
            names, start, end, out=out, state=state, catalog=catalog, source=source, on_progress=advance
        )
    counts = ", ".join(f"{count:,} {channel}" for channel, count in sorted(done["events"].items())) or "nothing"
    rows = f": {done['microbars']:,} microbars, {done['signals']:,} signals" if to_store else ""
    say(done, f"{counts} -> {done['to']}{rows}", as_json)


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
    say({"table": table, "out": str(out), "rows": rows}, f"{rows:,} rows of {table} -> {out}", as_json)


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
    value = {"ok": not problems, "against": against, "problems": [asdict(problem) for problem in problems]}
    say(value, "\n".join(lines), as_json)
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
    say(ids, "\n".join(f"{subject}: {number}" for subject, number in ids.items()), as_json)
