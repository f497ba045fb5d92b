"""Verbs that look after an installation: `doctor`, `db` and `seed-strategy`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from torghut_core.cli.options import STATE, AsJson, CatalogOption, State, say

app = typer.Typer()
db_app = typer.Typer(help="The audit database.", no_args_is_help=True)
app.add_typer(db_app, name="db")


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
        print(json.dumps({"ok": is_well, "checks": [asdict(finding) for finding in findings]}, indent=2))
    else:
        from torghut_core.cli.render import print_findings

        print_findings(findings)
    if not is_well:
        raise typer.Exit(1)


@db_app.command("upgrade")
def db_upgrade(state: State = STATE, as_json: AsJson = False) -> None:
    """Bring the audit database to this version's tables; a new one is made where there is none."""
    from torghut_core.audit import upgrade
    from torghut_core.installation.open import audit_url
    from torghut_core.installation.settings import load_settings
    from torghut_core.installation.state_directory import StateDirectory

    with StateDirectory(state) as directory:
        version = upgrade(audit_url(load_settings(), directory))
    say({"version": version}, f"the audit database is at version {version}", as_json)


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
    say(
        {"seeded": entry},
        f"{name} is in the strategies table. It trades when the catalog lists it under `strategies:`\n{snippet}",
        as_json,
    )
