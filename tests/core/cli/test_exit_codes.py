"""Exit codes: 0 well, 1 not, 2 input, for every verb that there is."""

import os
import sys
from contextlib import closing
from pathlib import Path

import pytest
import typer.main

from torghut_core import cli
from torghut_core.audit import SqlAuditStore
from torghut_core.installation.state_directory import StateDirectory

CATALOG = Path(__file__).resolve().parents[3] / "catalog" / "trading.yaml"

LONG = (
    "demo",
    "replay",
    "backtest",
    "report",
    "sweep",
    "walk-forward",
    "simulate plan",
    "simulate days",
    "simulate run",
    "simulate report",
    "simulate teardown",
    "data import",
    "data inspect",
    "run",
    "forward",
    "ta",
    "backfill",
    "signals export",
)
"""Verbs that trade or compute when all is well: tests of their own show that they end with 0."""

WELL = {
    "kill": "kill --reason test --state {state}",
    "unkill": "unkill --reason test --state {state}",
    "experiments": "experiments --state {state}",
    "orders": "orders --state {state}",
    "decisions": "decisions --state {state} --since 2026-01-05T14:30:00Z",
    "fills": "fills --state {state} --json",
    "positions": "positions --state {state}",
    "schema check": "schema check",
    "catalog validate": "catalog validate {catalog}",
    "catalog diff": "catalog diff {catalog} {catalog}",
    "catalog status": "catalog status --state {state}",
    "catalog history": "catalog history --state {state}",
    "catalog schema": "catalog schema",
    "plugin list": "plugin list",
    "new": "new strategy zebra-one --folder {folder}",
    "audit verify": "audit verify --state {state}",
    "doctor": "doctor --state {state}",
    "settings": "settings",
    "seed-strategy": "seed-strategy --symbols ES --state {state}",
    "db upgrade": "db upgrade --state {state}",
}

NOT_WELL = {
    "kill": "kill --reason test --url {nobody}",
    "unkill": "unkill --reason test --url {nobody}",
    "experiments": "experiments --state {damaged}",
    "report": "report some-run --state {damaged}",
    "reconcile": "reconcile --state {state}",
    "status": "status --state {state}",
    "orders": "orders --url {nobody}",
    "decisions": "decisions --state {damaged}",
    "fills": "fills --state {damaged}",
    "positions": "positions --state {damaged}",
    "explain": "explain abc --state {damaged}",
    "schema check": "schema check --registry {nobody}",
    "schema register": "schema register --registry {nobody}",
    "catalog status": "catalog status --state {halted}",
    "catalog history": "catalog history --state {damaged}",
    "catalog rollback": "catalog rollback --state {state}",
    "plugin check": "plugin check {folder}/bare",
    "audit verify": "audit verify --state {damaged}",
    "doctor": "doctor --state {halted}",
    "seed-strategy": "seed-strategy --symbols ES --state {damaged}",
    "db upgrade": "db upgrade --state {damaged}",
}

INPUT = {
    "demo": "demo --state {catalog}",
    "replay": "replay {folder}/no.parquet --catalog {catalog}",
    "sweep": "sweep --catalog {catalog} --set params.quantity=1,2",
    "walk-forward": "walk-forward --catalog {catalog} --set params.quantity=1,2",
    "simulate plan": "simulate plan --manifest {folder}/no.yaml",
    "simulate days": "simulate days --manifest {folder}/no.yaml --from-date 2026-01-05",
    "simulate run": "simulate run --manifest {folder}/no.yaml",
    "simulate report": "simulate report --manifest {folder}/no.yaml",
    "simulate teardown": "simulate teardown --manifest {folder}/no.yaml",
    "backtest": "backtest {folder}/no.parquet --catalog {catalog} --state {state}",
    "experiments": "experiments --state {folder}/none",
    "report": "report {folder}/none --state {folder}/none",
    "data import": "data import {folder}/no.csv --out {folder}/o.parquet",
    "data inspect": "data inspect {folder}/no.parquet",
    "run": "run --catalog {folder}/no.yaml --state {state}",
    "kill": "kill --reason test --state {folder}/none",
    "unkill": "unkill --reason test --to halted --state {state}",
    "reconcile": "reconcile --url nonsense",
    "status": "status --state {folder}/none",
    "orders": "orders --state {state} --since yesterday",
    "decisions": "decisions --limit 0",
    "fills": "fills --state {folder}/none",
    "positions": "positions --state {folder}/none",
    "forward": "forward --catalog {folder}/no.yaml",
    "ta": "ta --catalog {folder}/no.yaml",
    "backfill": "backfill --symbols ES --start yesterday --out {folder}/o.jsonl",
    "signals export": "signals export --table fills --out {folder}/o.parquet",
    "schema check": "schema check --registry nonsense",
    "schema register": "schema register",
    "catalog validate": "catalog validate {folder}/no.yaml",
    "catalog diff": "catalog diff {catalog}",
    "catalog status": "catalog status --state {folder}/none",
    "catalog history": "catalog history --state {folder}/none",
    "catalog rollback": "catalog rollback --to 0",
    "catalog schema": "catalog schema --pretty",
    "plugin list": "plugin list all",
    "plugin check": "plugin check {folder}/none",
    "new": "new zebra zebra-two --folder {folder}",
    "explain": "explain abc --state {folder}/none",
    "audit verify": "audit verify --state {folder}/none",
    "doctor": "doctor --pipeline",
    "settings": "settings TRADING_ENABLED",
    "seed-strategy": "seed-strategy --symbols btc --state {folder}/new",
    "db upgrade": "db upgrade --state {catalog}",
}


def verbs(group, prefix=""):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from verbs(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}"


VERBS = list(verbs(typer.main.get_command(cli.app)))


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A folder, a catalog, state directories that are well, halted and damaged, and an address where nobody listens."""
    folder = tmp_path_factory.mktemp("places")
    for name in ("state", "halted", "damaged"):
        with StateDirectory(folder / name) as directory, closing(SqlAuditStore(directory.audit_url)):
            pass
    (folder / "bare").mkdir()
    (folder / "bare" / "pyproject.toml").write_text("[project]\nname = 'bare'\n")
    (folder / "halted" / "control.json").write_text("stop")
    (folder / "damaged" / "audit.db").write_bytes(b"no database" * 1000)
    return {
        "folder": folder,
        "catalog": CATALOG,
        "nobody": "http://127.0.0.1:1",
        **{name: folder / name for name in ("state", "halted", "damaged")},
    }


@pytest.fixture
def run(monkeypatch, capsys, places):
    """A function that runs a command line in this process: its exit code, and what it said on standard error."""
    for name in list(os.environ):
        if name.startswith(("TRADING_", "TA_", "KAFKA_", "ALPACA_", "SCHEMA_", "DB_", "JANGAR_", "TORGHUT_", "ADMIN_")):
            monkeypatch.delenv(name)

    def run(line):
        arguments = [word.format(**places) for word in line.split()]
        monkeypatch.setattr(sys, "argv", ["torghut", *arguments])
        code = cli._run()
        return code, capsys.readouterr().err

    return run


def test_no_verb_is_left_out():
    """Who adds a verb says here what ends with which code."""
    assert set(VERBS) == set(INPUT)
    assert set(VERBS) <= {
        *WELL,
        *LONG,
        "reconcile",
        "status",
        "explain",
        "schema register",
        "catalog rollback",
        "plugin check",
    }
    assert set(VERBS) <= {
        *NOT_WELL,
        *LONG,
        "catalog validate",
        "catalog diff",
        "catalog schema",
        "plugin list",
        "new",
        "settings",
    }


@pytest.mark.parametrize(
    ("verb", "code"),
    [
        *((verb, 0) for verb in WELL),
        *((verb, 1) for verb in NOT_WELL),
        *((verb, 2) for verb in INPUT),
    ],
)
def test_exit_code_of(run, verb, code):
    """It ends with 0 where all is well, 1 where it is not, and 2 where the input is wrong; and says why."""
    line = (WELL, NOT_WELL, INPUT)[code][verb]
    got, said = run(line)
    assert got == code, f"{line}: {said}"
    assert "Traceback" not in said
    if code == 2:
        assert said.strip()


@pytest.mark.parametrize("verb", VERBS)
def test_unknown_option_is_bad_input(run, verb):
    """A slip in an option is never taken for something else."""
    assert run(f"{verb} --no-such-option")[0] == 2
