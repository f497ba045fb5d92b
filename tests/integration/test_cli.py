"""The commands, as a user types them: in a process of their own, on real files."""

import hashlib
import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
import yaml

from support.processes import TORGHUT, Running
from support.processes import run as torghut
from support.waiting import PATIENCE, until
from torghut_core.cli import app
from torghut_core.execution.controls import Controls

ROOT = Path(__file__).resolve().parents[2]
TAPE = ROOT / "catalog" / "tapes" / "es_20130901_20130903.parquet"
CATALOG = ROOT / "catalog" / "trading.yaml"
SHARED = ROOT.parent / "shared" / "data"


def printed(*arguments, **more):
    """What a command that succeeds prints with --json."""
    done = torghut(*arguments, "--json", **more)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="session")
def tape(tmp_path_factory):
    """The first 40,000 trades of the project's tape."""
    path = tmp_path_factory.mktemp("tape") / "es.parquet"
    pq.write_table(pq.read_table(TAPE).slice(0, 40_000), path)
    return path


@pytest.fixture(scope="session")
def replayed(tape, tmp_path_factory):
    """A state directory with one replay in it, and what the replay printed."""
    state = tmp_path_factory.mktemp("replayed") / "state"
    return state, printed("replay", tape, "--catalog", CATALOG, "--state", state, real=True)


def test_replay_prints_the_contracts_object(replayed):
    """Other programs read these keys, and no others."""
    _, result = replayed
    assert list(result) == [
        "events", "late", "duplicates", "microbars", "signals", "decisions", "denied", "orders", "fills",
        "final_equity", "digest", "seconds", "events_per_second", "generation",
    ]  # fmt: skip
    assert result["events"] == 40_000
    assert min(result[key] for key in ("microbars", "signals", "decisions", "orders", "fills")) > 0


def test_swap_to_an_equivalent_catalog_keeps_the_digest(replayed, tape, tmp_path):
    """Comments and another order of strategies change nothing, wherever the swap is and however often."""
    _, result = replayed
    head, _, strategies = CATALOG.read_text().partition("strategies:\n")
    other = tmp_path / "other.yaml"
    other.write_text(f"# moved\nstrategies:\n{strategies}\n{head}")
    swaps = [f"--swap-at={event}:{other}" for event in (0, 1, 25_000, 39_999, 10**9)]
    again = printed("replay", tape, "--catalog", CATALOG, "--state", tmp_path / "state", "--batch-size", 997, *swaps)
    assert {key: again[key] for key in ("digest", "decisions", "fills")} == {
        key: result[key] for key in ("digest", "decisions", "fills")
    }


def test_swap_applies_another_catalog(replayed, tape, tmp_path):
    """From event N on the other catalog trades, as a generation of its own, with the same result at any batch size."""
    _, result = replayed
    other = tmp_path / "other.yaml"
    other.write_text(CATALOG.read_text().replace("name: ema-cross-es", "name: another"))
    swap = f"--swap-at=20000:{other}"
    one, two = (
        printed("replay", tape, "--catalog", CATALOG, "--state", tmp_path / name, swap, "--batch-size", size)
        for name, size in (("one", 65_536), ("two", 313))
    )
    assert one["digest"] == two["digest"] != result["digest"]
    assert one["generation"] == 2


@pytest.mark.parametrize("size", [977, pytest.param(1_000, marks=pytest.mark.proof)])
def test_batch_size_changes_nothing(replayed, tape, tmp_path, size):
    """Any batch size gives the same digest, counts and equity."""
    _, result = replayed
    again = printed("replay", tape, "--catalog", CATALOG, "--state", tmp_path, "--batch-size", size)
    for key in set(result) - {"seconds", "events_per_second", "generation"}:
        assert again[key] == result[key], key


def test_digest_does_not_depend_on_hash_seed_or_earlier_runs(replayed, tape):
    """The digest is the same for the same input on any run and any PYTHONHASHSEED."""
    state, result = replayed
    again = printed("replay", tape, "--catalog", CATALOG, "--state", state, env={"PYTHONHASHSEED": "4711"})
    assert again["digest"] == result["digest"]
    assert again["generation"] == result["generation"] + 1


@pytest.mark.parametrize("table", ["microbars", "signals"])
def test_export_writes_each_row_once(replayed, tape, tmp_path, table):
    """What two replays of one tape stored is exported without duplicates."""
    state, result = replayed
    out = tmp_path / "out.parquet"
    assert printed("signals", "export", "--table", table, "--out", out, "--state", state)["rows"] == result[table]
    rows = pq.read_table(out).select(["symbol", "event_ts", "window_size", "seq"])
    assert rows.num_rows == rows.group_by(rows.column_names).aggregate([]).num_rows == result[table]


def test_explain_shows_the_whole_story(replayed):
    """One command answers why it was decided, and what its order did."""
    state, _ = replayed
    with sqlite3.connect(f"file:{state / 'audit.db'}?mode=ro", uri=True) as database:
        ((key, account),) = database.execute(
            "select decision_hash, account from trade_decisions where status = 'allowed' limit 1"
        )
    found = printed("explain", key, "--state", state)
    assert found["decision"]["account"] == account
    assert {"code", "value", "limit", "outcome"} <= set(found["verdicts"][0])
    assert found["generation"]["strategy"]["params"]
    assert found["execution"]["state"] == "filled"
    assert [event["event"] for event in found["events"]] == ["accept", "fill"]
    text = torghut("explain", key[:12], "--state", state).stdout
    assert "proposed to" in text
    assert "fill" in text


def test_decision_hash_and_order_id_are_as_the_contract_says(replayed):
    """Anyone can recompute the hash from the row, and the order's id from the hash."""
    state, _ = replayed
    with sqlite3.connect(f"file:{state / 'audit.db'}?mode=ro", uri=True) as database:
        rows = database.execute(
            "select d.account, d.strategy_id, d.symbol, d.event_ts, d.action, d.params, d.decision_hash,"
            " e.client_order_id from trade_decisions d join executions e using (account, decision_hash)"
        ).fetchall()
    assert rows
    for account, strategy, symbol, event_ts, action, params, key, order_id in rows:
        whole, fraction = event_ts.removesuffix("Z").split(".")
        digits = fraction.rstrip("0")
        short = digits.ljust(-(-len(digits) // 3) * 3, "0")
        moment = f"{whole}.{short}Z" if short else f"{whole}Z"
        identity = [account, strategy, symbol, moment, action, json.loads(params)]
        text = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert hashlib.sha256(text.encode()).hexdigest() == key
        assert key.startswith(order_id.removeprefix("tg-"))
        assert len(order_id) <= 48


def test_audit_verify_finds_nothing_in_an_honest_book_and_names_an_edit(replayed, tmp_path):
    """The books are as written, or the row that is not is named."""
    import shutil

    state, _ = replayed
    assert printed("audit", "verify", "--state", state) == {"intact": True, "findings": []}
    copy = tmp_path / "state"
    shutil.copytree(state, copy)
    with sqlite3.connect(copy / "audit.db") as database:
        database.execute("update trade_decisions set rationale = 'it was the weather'")
    done = torghut("audit", "verify", "--state", copy)
    assert done.returncode == 1
    assert "trade_decisions" in done.stdout


def test_page_is_one_file_that_names_the_strategies(tape, tmp_path):
    """The page needs nothing else, and shows what traded."""
    page = tmp_path / "page.html"
    done = torghut("replay", tape, "--catalog", CATALOG, "--state", tmp_path / "s", "--page", page)
    assert done.returncode == 0, done.stderr
    text = page.read_text(encoding="utf-8")
    assert "macd-rsi-es" in text
    assert str(page) in done.stdout


def test_quotes_trades_and_bars_are_merged(tmp_path):
    """Several tapes run as one stream, each event once."""
    if not SHARED.exists():
        pytest.skip("needs the recorded data beside the project (../shared)")
    crypto = SHARED / "crypto"
    names = ["trades_binance_btcusdt_20210108", "quotes_binance_btcusdt_20210108", "bars_1m_kraken_btcusdt_20251110"]
    tapes = [crypto / f"{name}.parquet" for name in names]
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text(
        CATALOG.read_text().replace("[ES]", '["BTC/USDT"]').replace("calendars: {ES: CMES}", "calendars: {}")
    )
    result = printed("replay", *tapes, "--catalog", catalog, "--state", tmp_path / "s")
    backwards = printed("replay", *reversed(tapes), "--catalog", catalog, "--state", tmp_path / "t")
    assert result["events"] == sum(pq.read_metadata(path).num_rows for path in tapes)
    assert result["digest"] == backwards["digest"]


def test_bad_row_stops_before_anything_is_written(tape, tmp_path):
    """A tape that is bad far inside changes nothing, and the error names file, row and fix."""
    table = pq.read_table(tape)
    prices = table["price"].to_pylist()
    prices[39_000] = -1.0
    bad = tmp_path / "bad.parquet"
    pq.write_table(table.set_column(table.schema.get_field_index("price"), "price", pa.array(prices)), bad)
    state = tmp_path / "state"
    done = torghut("replay", bad, "--catalog", CATALOG, "--state", state)
    assert done.returncode == 2
    assert f"{bad}: row 39000" in done.stderr
    assert "-1" in done.stderr
    assert not state.exists()


def test_bad_row_is_skipped_and_named_when_asked(tape, tmp_path):
    """With --on-bad-row skip the rest is replayed, and the summary says what was left out."""
    table = pq.read_table(tape).slice(0, 2000)
    prices = table["price"].to_pylist()
    prices[100] = prices[200] = float("nan")
    bad = tmp_path / "bad.parquet"
    pq.write_table(table.set_column(table.schema.get_field_index("price"), "price", pa.array(prices)), bad)
    done = torghut("replay", bad, "--catalog", CATALOG, "--state", tmp_path / "s", "--on-bad-row", "skip")
    assert done.returncode == 0, done.stderr
    assert "1,998 events" in done.stdout
    assert "2 rows skipped" in done.stdout
    assert "bad.parquet" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["replay", "no.parquet", "--catalog", CATALOG], "no.parquet"),
        (["replay", TAPE, "--catalog", "no.yaml"], "no.yaml"),
        (["replay", TAPE], "--catalog"),
        (["replay", TAPE, "--catalog", CATALOG, "--batch-size", "0"], "batch-size"),
        (["replay", TAPE, "--catalog", CATALOG, "--swap-at", "5"], "N:CATALOG"),
        (["replay", TAPE, "--catalog", CATALOG, "--swap-at", "5:other.yaml"], "other.yaml"),
        (["run"], "--catalog"),
        (["run", "--catalog", "no.yaml"], "no.yaml"),
        (["explain", "abc", "--state", "nowhere"], "there is no state in nowhere"),
        (["signals", "export", "--table", "signals", "--out", "o.parquet", "--state", "nowhere"], "nowhere"),
        (["signals", "export", "--table", "fills", "--out", "o.parquet"], "fills"),
        (["kill", "--state", "nowhere"], "there is no state directory nowhere"),
        (["unkill"], "--reason"),
        (["kill", "--reason", "r", "--state", "nowhere"], "there is no state directory nowhere"),
        (["unkill", "--reason", "r", "--to", "halted", "--state", "nowhere"], "halted"),
        (["explain", "abc", "--verify", "--state", "nowhere"], "there is no state in nowhere"),
        (["seed-strategy", "--symbols", "btc"], "btc"),
        (["seed-strategy", "--base-timeframe", "1Minute"], "1Min"),
    ],
)
def test_bad_input_is_refused_with_2_and_leaves_nothing(arguments, said, tmp_path):
    """Exit code 2, a message that names the thing, and no state directory."""
    done = torghut(*arguments, cwd=tmp_path, env={"TRADING_STRATEGY_CONFIG_PATH": ""})
    assert (done.returncode, list(tmp_path.iterdir())) == (2, []), done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_bad_setting_is_named(tmp_path):
    """A variable that does not parse is named, with what is allowed."""
    done = torghut("replay", TAPE, "--catalog", CATALOG, cwd=tmp_path, env={"TRADING_MODE": "yolo"})
    assert done.returncode == 2
    assert "TRADING_MODE" in done.stderr
    assert "paper" in done.stderr


def test_second_process_is_kept_out_of_a_state_directory(tape, tmp_path):
    """Two processes never share a state directory; the second one is refused, and says who has it."""
    from torghut_core.installation.state_directory import StateDirectory

    with StateDirectory(tmp_path / "s"):
        done = torghut("replay", tape, "--catalog", CATALOG, "--state", tmp_path / "s")
    assert done.returncode == 1
    assert f"in use by process {os.getpid()}" in done.stderr


def test_full_disk_is_a_clear_error_and_the_state_stays_readable(replayed, tape, tmp_path):
    """A write that does not fit fails loudly, and what was written before can be read."""
    state, _ = replayed
    copy = tmp_path / "state"
    shutil.copytree(state, copy)
    limit = (copy / "audit.db").stat().st_size // 1024 + 64
    command = f'ulimit -f {limit}; exec "{TORGHUT}" replay "{tape}" --catalog "{CATALOG}" --state "{copy}"'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=2 * PATIENCE)
    assert done.returncode == 1, done.stderr
    assert "error:" in done.stderr
    assert "Traceback" not in done.stderr
    assert printed("audit", "verify", "--state", copy)["intact"]


def test_plugin_list_names_a_broken_plugin_and_loads_the_rest(tmp_path):
    """A broken third-party package is named with its reason, and the others are there."""
    package = tmp_path / "acme"
    info = package / "acme_broken-1.0.dist-info"
    info.mkdir(parents=True)
    (package / "acme_broken.py").write_text("raise RuntimeError('made in a hurry')\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[torghut]\nacme-broken = acme_broken\n")
    listed = printed("plugin", "list", env={"PYTHONPATH": str(package)})
    assert [failure["distribution"] for failure in listed["failures"]] == ["acme-broken"]
    assert "made in a hurry" in listed["failures"][0]["reason"]
    assert {"macd-rsi", "simulated", "replay", "microbars"} <= {plugin["name"] for plugin in listed["plugins"]}


def test_plugin_folder_is_a_source_of_plugins_for_every_command(tape, tmp_path):
    """What stands in TORGHUT_PLUGIN_PATH is listed, validated and replayed, without being installed."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "folder_mine.py").write_text(
        "from torghut_core import Strategy, hookimpl\n"
        "class Mine(Strategy):\n"
        "    columns = ('ema12',)\n"
        "    def on_signal(self, signal, context):\n"
        "        return context.buy(1, because='once') if context.is_flat else None\n"
        "@hookimpl\n"
        "def register_strategies(register):\n"
        "    register('mine', Mine)\n"
    )
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text(CATALOG.read_text().replace("use: ema-cross", "use: mine"))
    env = {"TORGHUT_PLUGIN_PATH": str(folder)}
    assert "mine" in {plugin["name"] for plugin in printed("plugin", "list", env=env)["plugins"]}
    assert printed("catalog", "validate", catalog, env=env)["valid"]
    result = printed("replay", tape, "--catalog", catalog, "--state", tmp_path / "state", env=env)
    assert result["decisions"] > 0
    assert torghut("catalog", "validate", catalog).returncode == 2
    [made] = printed("decisions", "--strategy", "ema-cross-es", "--limit", 1, "--state", tmp_path / "state")[
        "decisions"
    ]
    explained = torghut("explain", made["decision_hash"], "--state", tmp_path / "state")
    assert "strategy: use mine, code_digest " in explained.stdout
    assert " from TORGHUT_PLUGIN_PATH, torghut-" in torghut("doctor", "--state", tmp_path / "state", env=env).stdout


def test_validate_and_schema_agree_on_the_example(tmp_path):
    """The example catalog is valid, and its keys are those of the published schema."""
    assert printed("catalog", "validate", CATALOG)["valid"]
    schema = json.loads(torghut("catalog", "schema").stdout)
    assert set(yaml.safe_load(CATALOG.read_text())) <= set(schema["properties"])


def test_doctor_finds_no_problem_here_and_says_what_is_wrong(tmp_path):
    """A sound installation passes; a broken catalog is named with the command that shows more."""
    assert printed("doctor", "--catalog", CATALOG, "--state", tmp_path / "s")["ok"]
    broken = tmp_path / "broken.yaml"
    broken.write_text("version: 1\nstrategys: []\n")
    done = torghut("doctor", "--catalog", broken, "--state", tmp_path / "s")
    assert done.returncode == 1
    assert "did you mean 'strategies'" in done.stdout


# What on-call asks and does.

RULE = """
from torghut_core import Outcome, RiskRule, Verdict, hookimpl


class Wary(RiskRule):
    def check(self, decision, context):
        return Verdict("wary", Outcome.ALLOW, "wary", str(decision.quantity), "1000")


@hookimpl
def register_risk_rules(register):
    register("wary", Wary)
"""


def test_explain_verifies_and_shows_what_edited_code_says(tape, tmp_path):
    """The verdicts are found again; a rule that was edited since is listed line by line, with exit code 1."""
    plugins, state, catalog = tmp_path / "plugins", tmp_path / "state", tmp_path / "catalog.yaml"
    plugins.mkdir()
    (plugins / "wary.py").write_text(RULE)
    content = yaml.safe_load(CATALOG.read_text())
    catalog.write_text(yaml.safe_dump(content | {"risk": [*content.get("risk", []), {"use": "wary"}]}))
    env = {"TORGHUT_PLUGIN_PATH": str(plugins)}
    printed("replay", tape, "--catalog", catalog, "--state", state, env=env)
    with closing(sqlite3.connect(state / "audit.db")) as database:
        keys = [key for (key,) in database.execute("select decision_hash from trade_decisions order by id limit 200")]
    for key in keys[:: len(keys) // 3]:
        found = printed("explain", key, "--verify", "--state", state, env=env)["verification"]
        assert found == {"is_same": True, "differences": [], "notes": []}
    (plugins / "wary.py").write_text(RULE.replace("1000", "10"))
    done = torghut("explain", keys[0], "--verify", "--state", state, env=env)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "wary: recorded wary: allow (" in done.stdout
    assert "the code of risk rule wary has changed: recorded" in done.stdout
    assert torghut("explain", keys[0], "--state", state, env=env).returncode == 0


def test_decision_of_an_older_version_cannot_be_verified(replayed, tmp_path):
    """Its inputs were not recorded; the command says so and makes nothing up."""
    state, _ = replayed
    copy = tmp_path / "state"
    shutil.copytree(state, copy)
    with closing(sqlite3.connect(copy / "audit.db")) as database:
        ((key,),) = database.execute("select decision_hash from trade_decisions limit 1")
        database.execute("update trade_decisions set inputs = null")
        database.commit()
    done = torghut("explain", key, "--verify", "--state", copy)
    assert done.returncode == 2
    assert "were not recorded" in done.stderr
    assert torghut("explain", key, "--state", copy).returncode == 0


def test_stop_and_release_where_nothing_runs(tmp_path):
    """They are written down for the next start, and doctor says who, why and how to release it."""
    state = tmp_path / "state"
    printed("db", "upgrade", "--state", state)
    done = printed("kill", "--reason", "fat finger", "--state", state)
    assert (done["control"]["state"], done["running"], done["problems"]) == ("halted", False, [])
    assert sorted(done["written"]) == ["database", "file"]
    text = torghut("doctor", "--state", state)
    assert text.returncode == 1
    assert "halted: fat finger (" in text.stdout
    assert "torghut unkill" in text.stdout
    assert (
        printed("unkill", "--reason", "news", "--to", "reduce_only", "--state", state)["control"]["state"]
        == "reduce_only"
    )
    done = torghut("unkill", "--reason", "all well", "--state", state)
    assert done.stdout.endswith("No kernel is running. The change will apply at the next start.\n")
    assert printed("doctor", "--state", state)["ok"]


@pytest.fixture
def running(tape, tmp_path):
    """The state directory of a kernel that runs, on a tape that has no end."""
    follow = tmp_path / "tape.csv"
    follow.write_text("symbol,event_ts,open,high,low,close,volume\nES,2026-01-05T14:30:00Z,1,1,1,1,1\n")
    content = yaml.safe_load(CATALOG.read_text())
    params = {"paths": [str(follow)], "bar_step": "1Min", "follow": True}
    content["pipelines"]["trading"]["source"] = {"use": "replay", "params": params}
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text(yaml.safe_dump(content))
    state = tmp_path / "state"
    kernel = Running(tmp_path, state, env={"TRADING_ENABLED": "true"})
    assert kernel.start("run", "--catalog", catalog, "--state", state, "--port", 0).listens()
    yield state
    kernel.kill()


def test_one_command_says_whether_it_is_safe_while_it_runs(running):
    """Doctor asks the kernel and verifies the audit log beside it; a stop makes it unwell until the release."""
    checks = {each["subject"]: each for each in printed("doctor", "--state", running)["checks"]}
    assert "broker simulated" in checks["kernel"]["detail"]
    assert {"kernel, loop", "kernel, venue", "kernel, database", "kernel, control"} <= checks.keys()
    assert "the hash chain is intact" in checks["audit"]["detail"]
    assert checks["signal store"]["detail"].startswith("in use")
    done = printed("kill", "--reason", "drill", "--state", running)
    assert (done["running"], done["confirmed"], done["orders_working"]) == (True, True, 0)
    doctor = torghut("doctor", "--json", "--state", running)
    assert doctor.returncode == 1
    failed = {each["subject"]: each["detail"] for each in json.loads(doctor.stdout)["checks"] if not each["is_ok"]}
    assert failed.keys() == {"kernel, control", "control"}
    assert all("halted: drill (" in detail for detail in failed.values())
    assert printed("unkill", "--reason", "over", "--state", running)["control"]["state"] == "running"
    until(lambda: torghut("doctor", "--state", running).returncode == 0)  # it asks the database for it once a second


def test_reconcile_with_a_simulated_broker_is_refused(running):
    """There is no venue to compare with, and the command says so."""
    done = torghut("reconcile", "--state", running)
    assert done.returncode == 2
    assert "the broker is simulated" in done.stderr


def test_reconcile_needs_a_kernel_that_runs(tmp_path):
    """It says what to start."""
    done = torghut("reconcile", "--state", tmp_path)
    assert done.returncode == 1
    assert "no kernel is running on" in done.stderr


def test_upgrade_and_seed_fill_an_empty_state(tmp_path):
    """The database can be made and seeded before anything has run."""
    assert printed("db", "upgrade", "--state", tmp_path)["version"]
    assert printed("seed-strategy", "--state", tmp_path)["seeded"]["name"] == "macd-rsi-default"


def test_version_is_printed():
    """`torghut --version` names the version."""
    assert torghut("--version").stdout.startswith("torghut 0.")


def test_diff_says_what_a_change_would_do(tmp_path):
    """An operator sees each changed field with when it takes effect, before the change is made."""
    changed = tmp_path / "new.yaml"
    changed.write_text(CATALOG.read_text().replace("cooldown_seconds: 900", "cooldown_seconds: 60"))
    assert "cooldown_seconds: 900 -> 60; hot" in torghut("catalog", "diff", CATALOG, changed).stdout
    assert printed("catalog", "diff", CATALOG, CATALOG)["changes"] == []


# The page for who is on call.

ON_CALL = (ROOT / "docs" / "on-call.md").read_text(encoding="utf-8")
LINES = sorted(set(re.findall(r"^\$ (torghut .*)$|`(torghut [^`]*)`", ON_CALL, re.MULTILINE)))


@pytest.mark.parametrize("line", [typed or named for typed, named in LINES])
def test_every_command_of_the_on_call_page_exists(line):
    """Each can be typed as it stands there: verb, options and values are those of the command line."""
    command, words = typer.main.get_command(app), shlex.split(line)[1:]
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    command.make_context(command.name, words).close()  # parses, and runs nothing


def test_on_call_page_has_a_command_in_each_section():
    """Three in the morning is no time to compose one; and links lead to sections that there are."""
    _, *sections = re.split(r"^## ", ON_CALL, flags=re.MULTILINE)
    assert len(sections) >= 8
    assert [section.splitlines()[0] for section in sections if "\n$ torghut " not in section] == []
    titles = {re.sub(r"[^a-z -]", "", section.splitlines()[0].lower()).replace(" ", "-") for section in sections}
    assert set(re.findall(r"\]\(#([^)]+)\)", ON_CALL)) <= titles
    for link in re.findall(r"\]\(([^)#]+)\)", ON_CALL):
        assert (ROOT / "docs" / link).exists()


def test_fixes_of_doctor_exist():
    """What doctor says to type can be typed."""
    from torghut_core.cli.doctor import HINTS

    verbs = [verb for hint in HINTS.values() for verb in re.findall(r"torghut ([a-z]+)", hint)]
    assert len(verbs) >= 5
    assert set(verbs) <= typer.main.get_command(app).commands.keys()


def test_any_file_that_is_no_control_is_a_stop(tmp_path):
    """The page says what to do where nothing else works: `echo stop > control.json` halts."""
    assert "`echo stop > .torghut/control.json`" in ON_CALL
    (tmp_path / "control.json").write_text("stop\n")
    assert Controls(tmp_path / "control.json", None).current().state == "halted"
