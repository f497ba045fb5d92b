"""The pages on live data have the code's settings, bounds, gates and errors. To renew: make docs."""

import ast
import inspect
import json
import re

import pytest
from pydantic import SecretStr
from pydantic_core import PydanticUndefined
from torghut_sources.alpaca import history
from torghut_sources.alpaca.refusals import HANDSHAKES, REFUSALS, UNKNOWN
from torghut_sources.alpaca.settings import AlpacaSettings
from torghut_sources.alpaca.source import CONNECTION_LIMIT_MAX_S, LONGEST_TICK_S, LOOKED_UP, Alpaca
from torghut_sources.bus import KafkaSink, KafkaSource, merger
from torghut_sources.bus.kafka.link import HINTS, QUEUE_KB, error_class
from torghut_sources.bus.kafka.writer import QUEUE
from torghut_sources.bus.settings import KafkaSettings
from torghut_sources.signal_store import ClickHouseSignals, PollSettings

from support.docs import DOCS, ROOT, blocks_of, code_of, has_blocks, table, text_of
from support.metrics import EVERY_METRIC
from torghut_core.bus.topics import Topics
from torghut_core.catalog import load, read
from torghut_core.cli.market_data import FORWARDER_STATE, TA_STATE
from torghut_core.cli.market_data import forward as forward_command
from torghut_core.cli.market_data import ta as ta_command
from torghut_core.cli.options import STATE
from torghut_core.cli.trading import run as run_command
from torghut_core.generation import validate
from torghut_core.installation.settings import Settings
from torghut_core.installation.universe import UniverseSettings
from torghut_core.market_data import deriver as ta
from torghut_core.market_data import forwarder as forward
from torghut_core.market_data import jangar
from torghut_core.market_data.universe import StaticUniverse
from torghut_core.plugin_host import PluginHost
from torghut_core.runtime import run
from torghut_core.signals import failures, guardrails
from torghut_core.signals.writer import BlockWriter

SETUP, QUEUES, RUNBOOK = (DOCS / f"{name}.md" for name in ("live-data", "back-pressure", "on-call-live-data"))

POLICIES = {
    "retry": "connects again after a random pause, at first at most {base} ms, doubling up to {longest} ms",
    "wait": "the same, but not before {crowded:g} s, then up to {crowded_max:g} s: one attempt at a time, never a storm",
    "degrade": "continues with what is subscribed, and names what is not",
    "ignore": "nothing is wrong: the keys were accepted before",
    "stop": "ends with exit code 2 and the fix: a retry would fail again",
}


def shown(default):
    """A default as one writes it."""
    if default is None or default in ("", PydanticUndefined) or isinstance(default, SecretStr):
        return "none"
    if isinstance(default, bool | list):
        return f"`{json.dumps(default)}`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def settings(model, *prefixes):
    """The environment variables of a model, those that begin so."""
    rows = [
        (f"`{name.upper()}`", shown(field.default), field.description)
        for name, field in model.model_fields.items()
        if name.startswith(prefixes or "")
    ]
    return table(("setting", "default", "means"), *rows)


def params(cls):
    fields = cls.Params.model_fields
    rows = [(f"`{name}`", shown(field.default), field.description) for name, field in fields.items()]
    return table(("parameter", "default", "means"), *rows)


def markets():
    equity, crypto = (AlpacaSettings(alpaca_market_type=market) for market in ("equity", "crypto"))
    facts = {
        "stream": lambda each: f"`{each.stream_url}`",
        "history": lambda each: f"`{each.history_url('trades')}`",
        "channels": lambda each: ", ".join(f"`{channel}`" for channel in each.channels),
        "`feed` of the envelope": lambda each: f"`{each.feed}`",
        "symbols": lambda each: "with a `/`" if each.is_crypto else "without a `/`",
    }
    return table(("", "`equity`", "`crypto`"), *((name, fact(equity), fact(crypto)) for name, fact in facts.items()))


def refusals(codes, first):
    rows = [(str(code), f"`{each.error_class}`", each.policy, each.hint or "-") for code, each in codes.items()]
    rows.append(("others", f"`{UNKNOWN.error_class}`", UNKNOWN.policy, "-"))
    return table((first, "class", "what torghut does", "what to do"), *rows)


def policies():
    defaults, given = AlpacaSettings(), Alpaca.Params()
    words = {
        "base": defaults.reconnect_base_ms,
        "longest": defaults.reconnect_max_ms,
        "crowded": given.crowded_wait_s,
        "crowded_max": CONNECTION_LIMIT_MAX_S,
    }
    return table(("", "means"), *((policy, text.format(**words)) for policy, text in POLICIES.items()))


def queues():
    alpaca, signals = Alpaca.Params(), ClickHouseSignals.Params()
    writer = {name: each.default for name, each in inspect.signature(BlockWriter.__init__).parameters.items()}
    largest = inspect.signature(jangar.JangarUniverse.__init__).parameters["most"].default
    assert forward.BATCH_SIZE == ta.BATCH_SIZE == run.BATCH_SIZE
    return table(
        ("between", "holds at most", "when it is full"),
        (
            "Alpaca's socket and the decoder",
            f"{alpaca.queue_mb:g} MiB (`queue_mb`) and {alpaca.queue_frames:,} frames (`queue_frames`)",
            "the socket is not read until it is half empty",
        ),
        (
            "the pages of the history and their merge",
            f"about {history.ROWS:,} rows; {history.REQUESTS} requests at a time",
            "no page is requested",
        ),
        ("source and stages, or sink", f"{ta.BATCH_SIZE:,} events", "the source waits"),
        (
            "sink and Kafka's brokers",
            f"{QUEUE:,} records and {QUEUE_KB // 1024} MiB",
            "the sink waits, and the source is not read",
        ),
        (
            "Kafka's brokers and the source",
            f"{QUEUE_KB // 1024} MiB prefetched",
            "nothing is fetched",
        ),
        (
            "the topics of a partition, until they are in order",
            f"{merger.MOST_WAITING:,} events of a topic",
            "that topic is not fetched in that partition",
        ),
        (
            "stages and signal store",
            f"{writer['waiting_blocks']} blocks of {writer['block_rows']:,} rows",
            "the pipeline waits for the store",
        ),
        (
            "signal store and `clickhouse-signals`",
            f"{signals.batch} rows (`batch`)",
            "it polls again when these are processed",
        ),
        (
            "Jangar and the universe",
            f"{largest:,} symbols in {jangar.LARGEST_ANSWER >> 20} MiB",
            "the answer counts as an outage, and the last list stays in use",
        ),
    )


TABLES = {
    "alpaca": lambda: settings(AlpacaSettings),
    "kafka": lambda: settings(KafkaSettings),
    "topics": lambda: settings(Topics),
    "ta": lambda: settings(Settings, "ta_", "health_"),
    "universe": lambda: settings(UniverseSettings),
    "markets": markets,
    "source_alpaca": lambda: params(Alpaca),
    "source_kafka": lambda: params(KafkaSource),
    "source_clickhouse_signals": lambda: params(ClickHouseSignals),
    "sink_kafka": lambda: params(KafkaSink),
    "queues": queues,
    "codes": lambda: refusals(REFUSALS, "code"),
    "handshakes": lambda: refusals(HANDSHAKES, "HTTP status"),
    "policies": policies,
}
"""Tables that are made of the code; `gates` and `classes` are written by hand and compared with it."""


def prose(page):
    """A page as one line, so that a sentence is found wherever its lines end."""
    return " ".join(text_of(page).split())


def first_cells(name):
    """The words in code in the first cell of each row of a table of the runbook."""
    rows = [line.split("|")[1] for line in blocks_of(RUNBOOK)[name].splitlines()[2:]]
    return [word for cell in rows for word in re.findall(r"`([^`]+)`", cell)]


def closed_as():
    """The error classes that the code says in so many words."""
    names = {"Closed": 1, "StoreError": 1, "_Outage": 0}
    for folder in (ROOT / "torghut_core", ROOT / "plugins" / "sources"):
        for path in folder.rglob("*.py"):
            for node in ast.walk(ast.parse(text_of(path))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
                    given = node.args[names[node.func.id]]
                    if isinstance(given, ast.Constant):
                        yield given.value


def test_every_table_of_the_code_is_on_a_page_once():
    """No table of settings, parameters, bounds or codes is missing, and none is there twice."""
    names = [name for page in (SETUP, QUEUES, RUNBOOK) for name in blocks_of(page)]
    assert sorted(names) == sorted([*TABLES, "gates", "classes"])


@pytest.mark.parametrize("page", [SETUP, QUEUES, RUNBOOK], ids=lambda page: page.name)
def test_pages_have_the_tables_of_the_code(page):
    """Settings with their defaults, parameters, bounds and error codes are those of the code, with its words."""
    has_blocks(page, {name: make() for name, make in TABLES.items() if name in blocks_of(page)})


@pytest.mark.parametrize(
    "model", [AlpacaSettings, KafkaSettings, Topics, UniverseSettings], ids=lambda each: each.__name__
)
def test_every_setting_is_described(model):
    """A setting that is a number of time says its unit."""
    for name, field in model.model_fields.items():
        assert field.description
        if name.endswith("_ms"):
            assert "milliseconds" in field.description, name


def test_secrets_are_named():
    """The secrets that sources and sinks ask for, which no table has, are on the page."""
    for secret in {*Alpaca.secrets, *KafkaSource.secrets, *KafkaSink.secrets}:
        assert f"`{secret}`" in text_of(SETUP)


def test_catalogs_of_the_page_are_catalogs():
    """Every example can be built with the plugins that are installed."""
    host, examples = PluginHost.load(), code_of(SETUP, "yaml")
    assert len(examples) == 3
    for example in examples:
        assert validate(load({SETUP.name: example}), host) == []


def test_pipelines_of_the_page_are_those_of_the_example_catalog():
    """What the page shows of three processes is what catalog/live.yaml runs."""
    [example] = [load({SETUP.name: each}) for each in code_of(SETUP, "yaml") if "clickhouse-signals" in each]
    assert example.pipelines == load(read(ROOT / "catalog" / "live.yaml")).pipelines


def test_numbers_in_the_text_are_the_code_s():
    """Ports, folders and defaults that sentences name are those of the commands."""
    for command, state in ((forward_command, FORWARDER_STATE), (ta_command, TA_STATE), (run_command, STATE)):
        port = inspect.signature(command).parameters["port"].default
        assert re.search(rf"^\| `torghut {command.__name__}` .* `{state}` \| {port} \|$", text_of(SETUP), re.MULTILINE)
        assert f"`{command.__name__}` {port}" in prose(RUNBOOK)
    assert f"`TRADING_POLL_MS` ({PollSettings().trading_poll_ms})" in prose(SETUP)
    assert f"The default ({KafkaSource.Params().tick_ms} ms)" in prose(SETUP)
    assert (LOOKED_UP, LONGEST_TICK_S) == (3, 60)
    assert "three symbols with the latest messages" in prose(SETUP)
    assert f"`HEALTH_NOT_READY_KILL_AFTER_MS` ({Settings().health_not_ready_kill_after_ms};" in prose(RUNBOOK)


def test_runbook_has_every_gate():
    """Each readiness check of a part has its row and its section, and there is none that no part makes."""
    sources = [
        Alpaca(Alpaca.Params()),
        ClickHouseSignals(ClickHouseSignals.Params()),
        KafkaSource(KafkaSource.Params()),
    ]
    parts = [*sources, KafkaSink(KafkaSink.Params()), StaticUniverse(()), ta.Deriver(sources[0], [], None)]
    gates = {name for part in parts for name in part.gates()} | {"resume"}  # the engine's, after an earlier process
    assert sorted(first_cells("gates")) == sorted(gates)
    for gate in gates:
        assert re.search(rf"^## `{gate}`", text_of(RUNBOOK), re.MULTILINE)
    guarded = set(re.findall(r'"(\w+)": ', inspect.getsource(guardrails.Guardrails.gates)))
    assert guarded <= gates


def test_runbook_has_every_error_class():
    """Each class that a check or metric may say has its row, and there is no row for one that nothing says."""
    classes = {
        *closed_as(),
        *(each.error_class for each in (*REFUSALS.values(), *HANDSHAKES.values(), UNKNOWN)),
        *(error_class(name) for name in HINTS),
        *(error_class for error_class, *_ in failures._CODES.values()),
        failures.classify(OSError(5, "gone"))[0],
        *jangar.FAILURES,
        "store",
        "other",
    }
    rows = first_cells("classes")
    assert sorted(rows) == sorted(classes)


def test_every_policy_is_explained():
    """No policy is without words, and none is explained that is not used."""
    assert {each.policy for each in (*REFUSALS.values(), *HANDSHAKES.values())} == set(POLICIES)


@pytest.mark.parametrize(
    "code", [code for code, each in REFUSALS.items() if each.policy in ("stop", "wait", "degrade")]
)
def test_runbook_tells_what_to_do_about_a_code(code):
    """What waiting alone does not fix is in a sentence, not in the table alone."""
    assert re.search(rf"^- .*{code}", text_of(RUNBOOK), re.MULTILINE)


def test_metrics_that_the_pages_name_exist():
    """No page names a metric that no process has."""
    for page in (SETUP, QUEUES, RUNBOOK):
        for name in re.findall(r"`torghut_([a-z_]+)", text_of(page)):
            assert name in EVERY_METRIC or name.endswith("_enabled"), name  # the latter are flags of the user's plan


@pytest.mark.parametrize("page", [SETUP, QUEUES, RUNBOOK], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    """Each file and each heading that a page points to is there."""
    for path, heading in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", text_of(page)):
        target = page if not path else (page.parent / path).resolve()
        assert target.exists(), path
        if heading:
            headings = re.findall(r"^#+ (.*)$", text_of(target), re.MULTILINE)
            assert heading in {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}, heading


def test_settings_that_the_pages_name_exist():
    """No page names a setting that nothing reads."""
    models = (Settings, AlpacaSettings, KafkaSettings, Topics, UniverseSettings, PollSettings)
    known = {name.upper() for model in models for name in model.model_fields}
    known |= {*Alpaca.secrets, *KafkaSource.secrets}
    for page in (SETUP, QUEUES, RUNBOOK):
        for name in re.findall(
            r"`((?:ALPACA|KAFKA|TOPIC|TA|TRADING|JANGAR|HEALTH|RECONNECT)_[A-Z_0-9]*[A-Z0-9])", text_of(page)
        ):
            assert name.removesuffix("_FILE") in known, name
