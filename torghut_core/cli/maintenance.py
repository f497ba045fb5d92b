"""Commands that look after an installation: `doctor`, `settings`, `db` and `seed-strategy`."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import asdict
from typing import Annotated

import typer

from torghut_core.cli.help import EVERYDAY, MAINTENANCE, Group, command
from torghut_core.cli.options import STATE, AsJson, CatalogOption, State, say
from torghut_core.errors import SettingsError

app = typer.Typer()
db_app = typer.Typer(cls=Group, help="The audit database.")
app.add_typer(db_app, name="db", rich_help_panel=MAINTENANCE)


@command(app, "torghut doctor --catalog catalog/trading.yaml", panel=EVERYDAY)
def doctor(
    catalog: CatalogOption = None,
    state: State = STATE,
    pipeline: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Check the settings of this pipeline only (default: all of the catalog)."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check this installation, and the kernel that runs on it. Each problem comes with a fix.

    Begins with what `torghut status` prints. Checks Python, plugins, settings, stores and catalog, and whether the settings
    and secrets that sources, brokers and sinks need are set; does not test the credentials. Exit code 1 if there is a problem.
    """
    from torghut_core.cli.doctor import examine, print_findings, trading_state

    stands = trading_state(state)
    findings = examine(catalog, state, pipeline)
    is_ok = all(finding.is_ok for finding in findings)
    summary = stands.lines() if stands is not None else []
    if as_json:
        checks = [asdict(finding) for finding in findings]
        print(json.dumps({"ok": is_ok, "summary": summary, "checks": checks}, indent=2))
    else:
        print("".join(f"{line}\n" for line in summary), end="")
        print_findings(findings)
    if not is_ok:
        raise typer.Exit(1)


@command(
    app,
    "torghut settings\ntorghut settings --json",
    panel=MAINTENANCE,
)
def settings(as_json: AsJson = False) -> None:
    """Show all settings in force, and whether each comes from the environment, a file or its default. Secrets are hidden.

    Exit code 2 if one is wrong or unknown.
    """
    from torghut_core.cli.options import plugin_host
    from torghut_core.cli.render import settings_text
    from torghut_core.installation.known_settings import all_settings, setting_problems
    from torghut_core.plugin_host import PluginHost

    try:
        host = plugin_host(("*",))
    except SettingsError:  # said below, with all others
        host = PluginHost.load(("*",))
    found, problems = all_settings(host), setting_problems(host)
    say({"settings": [asdict(each) for each in found], "problems": problems}, settings_text(found), as_json)
    if problems:
        raise SettingsError("\n".join(problems))


@command(db_app, "torghut db upgrade --state .torghut", name="upgrade")
def db_upgrade(state: State = STATE, as_json: AsJson = False) -> None:
    """Upgrade the tables of the audit database to this version; creates the database if there is none."""
    from torghut_core.audit import upgrade
    from torghut_core.installation.open import audit_url
    from torghut_core.installation.settings import load_settings
    from torghut_core.installation.state_directory import StateDirectory

    with StateDirectory(state) as directory:
        version = upgrade(audit_url(load_settings(), directory))
    say({"version": version}, f"the audit database is at version {version}", as_json)


@command(
    app,
    "torghut seed-strategy --name btc-momentum --use macd-rsi --symbols BTC/USD",
    name="seed-strategy",
    panel=MAINTENANCE,
)
def seed_strategy(
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of the strategy.")] = "macd-rsi-default",
    use: Annotated[str, typer.Option(metavar="PLUGIN", help="Strategy plugin that it uses.")] = "macd-rsi",
    base_timeframe: Annotated[
        str, typer.Option(metavar="TIMEFRAME", help="1Sec, 1Min, 5Min, 15Min, 1Hour or 1Day.")
    ] = "1Min",
    symbols: Annotated[
        str, typer.Option(metavar="SYMBOLS", help="Symbols, comma-separated: BTC/USD,ETH/USD.")
    ] = "AAPL,MSFT",
    enabled: Annotated[bool, typer.Option(help="Whether it may trade.")] = True,
    state: State = STATE,
    as_json: AsJson = False,
) -> None:
    """Add or update a strategy's row in the audit database, and print its catalog entry.

    For a new environment: programs that read the table `strategies` find the strategy before it has traded. It trades
    only when the catalog lists it, and `torghut run` writes the row then, too.
    """
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
    with StateDirectory(state) as directory, closing(open_audit(load_settings(), directory)) as audit:
        audit.record_strategies([strategy_row(parsed.strategies[0])], "merge")
    snippet = yaml.safe_dump([entry], sort_keys=False)
    say(
        {"seeded": entry},
        f"{name} is in the strategies table. It trades when the catalog lists it under `strategies:`\n{snippet}",
        as_json,
    )
