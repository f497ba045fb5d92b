"""Commands that read the audit database: `explain` and `audit`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from torghut_core.cli.help import EVERYDAY, MAINTENANCE, Group, command
from torghut_core.cli.options import STATE, AsJson, State, plugin_host, say

app = typer.Typer()
audit_app = typer.Typer(cls=Group, help="The audit log.")
app.add_typer(audit_app, name="audit", rich_help_panel=MAINTENANCE)


@command(app, "torghut explain 68ba0b1a7cf2\ntorghut explain 68ba0b1a7cf2 --verify", panel=EVERYDAY)
def explain(
    decision: Annotated[
        str, typer.Argument(metavar="ID", help="Decision id or hash (a prefix is enough), or client order id.")
    ],
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Judge it again by gates and rules, and compare. Exit code 1 if they differ."),
    ] = False,
    state: State = STATE,
    as_json: AsJson = False,
) -> None:
    """Show why a decision was made, what gates and rules said, and its order and fills."""
    from torghut_core.audit import find_decision
    from torghut_core.installation.open import existing_audit
    from torghut_core.installation.settings import load_settings

    settings = load_settings()
    with existing_audit(settings, state) as audit:
        found = find_decision(audit, decision)
        if verify:
            from torghut_core.research.verify import verify_decision

            checked = verify_decision(audit, decision, plugin_host(("*",)))
            found["verification"] = {
                "is_same": checked.is_same,
                "differences": checked.differences,
                "notes": checked.notes,
            }
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        from torghut_core.cli.render import print_explanation

        print_explanation(found)
    if verify and not found["verification"]["is_same"]:
        raise typer.Exit(1)


@command(audit_app, "torghut audit verify --state .torghut", name="verify")
def audit_verify(state: State = STATE, as_json: AsJson = False) -> None:
    """Recompute the hash chain of the audit log, and list every row that was edited, inserted or removed.

    Triggers that keep the log append-only and are missing, off or replaced are listed too.
    """
    from torghut_core.installation.open import existing_audit
    from torghut_core.installation.settings import load_settings

    with existing_audit(load_settings(), state) as audit:
        findings = [str(finding) for finding in audit.verify()]
    text = "\n".join(findings) or "no row of the audit log, or of the tables that it covers, was changed"
    say({"intact": not findings, "findings": findings}, text, as_json)
    if findings:
        raise typer.Exit(1)
