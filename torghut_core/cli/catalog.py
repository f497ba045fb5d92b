"""Verbs of the catalog and of plugins: `catalog` and `plugin`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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

app = typer.Typer()
catalog_app = typer.Typer(help="The catalog: what trades, on what, within which limits.", no_args_is_help=True)
plugin_app = typer.Typer(help="Installed plugins.", no_args_is_help=True)
app.add_typer(catalog_app, name="catalog")
app.add_typer(plugin_app, name="plugin")


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
        parsed = catalogs.load(catalogs.read(catalog_path(path or catalog)))
        problems = validate(parsed, plugin_host(parsed.plugins.allow))
    except CatalogError as error:
        problems = error.problems
    if problems:
        if not as_json:
            raise CatalogError(problems)
        print(json.dumps({"valid": False, "problems": [asdict(problem) for problem in problems]}, indent=2))
        raise typer.Exit(2)
    names = [strategy.name for strategy in parsed.strategies]
    say(
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
    say(found.to_json(), found.to_text(), as_json)


@catalog_app.command("status")
def catalog_status(url: Url = None, state: State = STATE, as_json: AsJson = False) -> None:
    """Tell what trades now, what is wrong with it and what waits; where nothing runs, what traded last."""
    from torghut_core.admin.client import NothingRuns

    try:
        client = admin_client(url, state)
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
        say({"running": False, **last}, text, as_json)
        return
    if as_json:
        print(json.dumps({"running": True, "url": client.url, **status}, indent=2))
        return
    from torghut_core.cli.render import print_status

    print_status(status, client.url)


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
    done = admin_client(url, state).post("/catalog/rollback", {} if to is None else {"to": to})
    text = "\n".join([f"generation {done['generation']}: {done['outcome']}", *done["problems"]])
    say(done, text, as_json)
    if done["problems"]:
        raise typer.Exit(1)


@catalog_app.command("schema")
def catalog_schema() -> None:
    """Print the JSON Schema of a catalog, for editors and CI."""
    from torghut_core.catalog import json_schema

    print(json.dumps(json_schema(plugin_host(("*",)).params()), indent=2))


@plugin_app.command("list")
def plugin_list(as_json: AsJson = False) -> None:
    """List every plugin that a catalog can use, and those that could not be loaded."""
    host = plugin_host(("*",))
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
    from torghut_core.cli.render import print_plugins

    print_plugins(plugins, failures)


def _live_catalog(url: str | None, state: Path) -> Catalog:
    from pydantic import ValidationError

    from torghut_core.catalog import Catalog

    client = admin_client(url, state)
    content = client.get("/catalog")["content"]
    try:
        return Catalog.model_validate(content)
    except ValidationError as error:
        hint = "use the torghut of the version that runs there"
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
