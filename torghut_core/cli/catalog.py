"""Commands of the catalog and of plugins: `catalog` and `plugin`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from torghut_core.cli.help import CATALOG, Group, command
from torghut_core.cli.options import (
    STATE,
    AsJson,
    CatalogOption,
    State,
    Url,
    admin_client,
    catalog_path,
    plugin_host,
    say,
)
from torghut_core.errors import InputError, StateError

if TYPE_CHECKING:
    from torghut_core.catalog import Catalog
    from torghut_core.plugin_host import PluginHost

app = typer.Typer()
catalog_app = typer.Typer(cls=Group, help="The catalog: what trades, on which symbols, within which limits.")
plugin_app = typer.Typer(cls=Group, help="Installed plugins.")
app.add_typer(catalog_app, name="catalog", rich_help_panel=CATALOG)
app.add_typer(plugin_app, name="plugin", rich_help_panel=CATALOG)


@command(catalog_app, "torghut catalog validate catalog/trading.yaml", name="validate")
def catalog_validate(
    path: Annotated[
        Path | None, typer.Argument(metavar="PATH", help="Catalog file or folder.", show_default=False)
    ] = None,
    catalog: CatalogOption = None,
    as_json: AsJson = False,
) -> None:
    """Check a catalog as a reload would: structure, plugins, parameters, limits. Exit code 2 if it is not valid."""
    from torghut_core import catalog as catalogs
    from torghut_core.errors import CatalogError
    from torghut_core.generation import catalog_warnings, validate_files

    found: list[str] = []
    try:
        parsed, host, problems = validate_files(catalogs.read(catalog_path(path or catalog)), plugin_host)
        found = catalog_warnings(parsed, host)
    except CatalogError as error:
        problems = error.problems
    if problems:
        if not as_json:
            raise CatalogError(problems)
        print(json.dumps({"valid": False, "problems": [asdict(problem) for problem in problems]}, indent=2))
        raise typer.Exit(2)
    from torghut_core.cli.render import counted

    for warning in found:
        typer.echo(f"warning: {warning}", err=True)
    names = [strategy.name for strategy in parsed.strategies]
    listed = f" ({', '.join(names)})" if names else ""
    say(
        {"valid": True, "problems": [], "digest": parsed.digest, "strategies": names},
        f"valid: {counted(len(names), 'strategy')}{listed}, digest {parsed.digest[:12]}",
        as_json,
    )


@command(
    catalog_app,
    "torghut catalog diff old.yaml new.yaml\ntorghut catalog diff --against-live new.yaml",
    name="diff",
)
def catalog_diff(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="[OLD] NEW", help="Catalog files or folders: before, and after the change."),
    ],
    against_live: Annotated[
        bool, typer.Option("--against-live", help="Compare NEW with the catalog that a running kernel trades.")
    ] = False,
    url: Url = None,
    state: State = STATE,
    as_json: AsJson = False,
) -> None:
    """Show what a change of catalog would do: at once, when the strategy is flat, or after a restart."""
    from torghut_core import catalog as catalogs
    from torghut_core.catalog.diff import diff

    if len(paths) != (1 if against_live else 2):
        raise InputError(f"`catalog diff` takes OLD NEW, or --against-live NEW, not {len(paths)} catalogs (see --help)")
    *olds, new = [catalogs.load(catalogs.read(path)) for path in paths]
    found = diff(olds[0] if olds else _live_catalog(url, state), new)
    say(found.to_json(), found.to_text(), as_json)


@command(catalog_app, "torghut catalog status", name="status")
def catalog_status(url: Url = None, state: State = STATE, as_json: AsJson = False) -> None:
    """Show what trades now, its problems, and pending changes; if no kernel runs, what traded last.

    Begins with what `torghut status` prints. Exit code 1 if trading is halted, degraded or stale.
    """
    from torghut_core.admin.client import KernelNotRunning
    from torghut_core.cli.status import kernel_state, read_state

    status: dict[str, Any]
    try:
        client = admin_client(url, state)
        found = kernel_state(url, state)
        status = {"running": True, "url": client.url, **client.get("/catalog")["status"]}
    except KernelNotRunning:
        if url is not None:
            raise
        found = read_state(None, state)
        status = {"running": found.running, **_last_generation(state)}
    if as_json:
        print(json.dumps(status | {"summary": found.lines(), "reasons": found.reasons}, indent=2))
    else:
        from torghut_core.cli.render import print_status

        print("\n".join(found.lines()))
        if "url" in status:
            print_status(status)
        elif status["outcome"]:
            print(f"last reload: {status['outcome']}")
    if found.reasons:
        raise typer.Exit(1)


@command(catalog_app, "torghut catalog history\ntorghut catalog history --limit 5 --json", name="history")
def catalog_history(
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=100_000, help="At most so many generations.")] = 20,
    url: Url = None,
    state: State = STATE,
    as_json: AsJson = False,
) -> None:
    """List the generations that traded, newest first: `torghut catalog rollback --to` takes their numbers.

    Asks the kernel that runs; without one, lists what the database has.
    """
    from torghut_core.cli.render import print_rows

    rows = _generations(url, state, limit)
    for row in rows:
        row["problems"] = (row["content"] or {}).get("problems") or []
    if as_json:
        print(json.dumps({"generations": rows}, indent=2))
        return
    shown = [row | {"digest": row["digest"][:12], "problems": str(len(row["problems"]))} for row in rows]
    print_rows(shown, ("number", "created_at", "actor", "outcome", "digest", "problems"))


def _generations(url: str | None, state: Path, limit: int) -> list[dict[str, Any]]:
    from torghut_core.audit import as_json
    from torghut_core.installation.open import existing_audit
    from torghut_core.installation.settings import load_settings

    try:
        return admin_client(url, state).rows("/catalog/generations", limit)
    except StateError:
        if url is not None:
            raise
        with existing_audit(load_settings(), state) as audit:
            return [as_json(row) for row in audit.rows("catalog_generations", newest_first=True, limit=limit)]


@command(catalog_app, "torghut catalog rollback\ntorghut catalog rollback --to 3", name="rollback")
def catalog_rollback(
    to: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Generation to return to (default: the one before).", show_default=False),
    ] = None,
    url: Url = None,
    state: State = STATE,
    as_json: AsJson = False,
) -> None:
    """Make a running kernel trade an earlier generation again, until a file of the catalog changes."""
    done = admin_client(url, state).post("/catalog/rollback", {} if to is None else {"to": to})
    text = "\n".join([f"generation {done['generation']}: {done['outcome']}", *done["problems"]])
    say(done, text, as_json)
    if done["problems"]:
        raise typer.Exit(1)


@command(catalog_app, "torghut catalog schema > catalog.schema.json", name="schema")
def catalog_schema() -> None:
    """Print the JSON Schema of a catalog, for editors and CI."""
    from torghut_core.catalog import json_schema

    print(json.dumps(json_schema(plugin_host(("*",)).params()), indent=2))


@command(plugin_app, "torghut plugin list\ntorghut plugin list --features", name="list")
def plugin_list(
    features: Annotated[
        bool,
        typer.Option(
            "--features", help="List what strategies can have computed: columns, indicators and their parameters."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the plugins that a catalog can use, and those that could not be loaded, with the reason."""
    host = plugin_host(("*",))
    failures = [{"name": f.plugin, "distribution": f.distribution, "reason": f.reason} for f in host.failures]
    if features:
        _list_features(host, failures, as_json)
        return
    if as_json:
        listed = [
            plugin.to_record() | {"parameters": plugin.cls.Params.model_json_schema()} for plugin in host.plugins()
        ]
        print(json.dumps({"plugins": listed, "failures": failures}, indent=2))
        return
    from torghut_core.cli.render import print_failures, print_plugins

    print_plugins([plugin.to_record() for plugin in host.plugins()])
    print_failures(failures)


def _list_features(host: PluginHost, failures: list[dict[str, Any]], as_json: bool) -> None:
    from torghut_core.feature_graph.listing import describe_indicator
    from torghut_core.features.values import BAR_COLUMNS
    from torghut_core.model.market import SIGNAL_COLUMNS

    indicators = [describe_indicator(plugin) for _, plugin in sorted(host.registry["indicator"].items())]
    found = {"columns": BAR_COLUMNS, "ta_signals": SIGNAL_COLUMNS, "indicators": indicators}
    if as_json:
        print(json.dumps(found | {"failures": failures}, indent=2))
        return
    from torghut_core.cli.render import features_text, print_failures

    print(features_text(found))
    print_failures(failures)


def _live_catalog(url: str | None, state: Path) -> Catalog:
    from pydantic import ValidationError

    from torghut_core.catalog import Catalog

    client = admin_client(url, state)
    content = client.get("/catalog")["content"]
    try:
        return Catalog.model_validate(content)
    except ValidationError as error:
        hint = "use the version of torghut that runs there"
        raise StateError(f"{client.url} trades a catalog of another format ({hint})") from error


def _last_generation(state: Path) -> dict[str, Any]:
    from torghut_core.audit import as_json
    from torghut_core.installation.open import existing_audit
    from torghut_core.installation.settings import load_settings

    with existing_audit(load_settings(), state) as audit:
        rows = audit.rows("catalog_generations", newest_first=True, limit=1)
    keys = {"generation": "number", "digest": "digest", "since": "created_at", "actor": "actor", "outcome": "outcome"}
    row = as_json(rows[0]) if rows else {}
    return {key: row.get(column) for key, column in keys.items()}
