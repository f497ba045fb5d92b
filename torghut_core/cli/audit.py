"""Verbs that ask the audit database: `explain` and `audit`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from torghut_core.cli.options import STATE, AsJson, State, plugin_host, say

app = typer.Typer()
audit_app = typer.Typer(help="The audit log.", no_args_is_help=True)
app.add_typer(audit_app, name="audit")


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


@audit_app.command("verify")
def audit_verify(state: State = STATE, as_json: AsJson = False) -> None:
    """Recompute the hash chain; name every edited, inserted or missing row."""
    from torghut_core.installation.open import existing_audit
    from torghut_core.installation.settings import load_settings

    with existing_audit(load_settings(), state) as audit:
        findings = [str(finding) for finding in audit.verify()]
    text = "\n".join(findings) or "the audit log and every row that it covers are as written"
    say({"intact": not findings, "findings": findings}, text, as_json)
    if findings:
        raise typer.Exit(1)
