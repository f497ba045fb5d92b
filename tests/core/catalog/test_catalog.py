"""What a catalog means; `test_catalog_corpus` has what is wrong with one."""

import os
import pickle
from decimal import Decimal
from typing import get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from torghut_core.catalog import Catalog, Timeframe, allow_rule, content_digest, did_you_mean, json_schema, load, read
from torghut_core.errors import CatalogError
from torghut_core.model.market import TIMEFRAMES
from torghut_core.ports import Params, param


def huge(path, size):
    path.touch()
    os.truncate(path, size)


FULL = """\
version: 1
mode: merge
on_invalid: halt
plugins: {allow: ["torghut-*", "acme-alpha>=1.2,<2"]}
pipelines:
  trading:
    source: {use: replay, params: {paths: [tape.parquet], speed: max}}
    stages: [{use: microbars}, {use: indicators, params: {nested: {a: [1, 2.50, null]}}}]
    broker: {use: simulated, params: {cash: "100000"}}
strategies:
  - name: macd-rsi-default
    use: macd-rsi
    version: ">=0.1"
    enabled: false
    base_timeframe: 1Sec
    symbols: ["BTC/USD"]
    params: {rsi_buy: 35.5}
    max_notional_per_trade: "1000"
    max_position_pct_equity: 0.05
    cooldown_seconds: 60
    on_remove: handover
risk: [{use: max-notional}]
advisors: [{use: opinion}]
observers: [{use: listener}]
"""
ENTRY = "{name: a, use: macd-rsi, base_timeframe: 1Min, symbols: [ES]"


def problems(*texts):
    with pytest.raises(CatalogError) as caught:
        load({f"{number}.yaml": text for number, text in enumerate(texts)})
    return caught.value.problems


def test_all_keys_are_read():
    """Every key of the format arrives, in its type."""
    catalog = load({"c.yaml": FULL})
    entry = catalog.strategies[0]
    assert (catalog.mode, catalog.on_invalid, len(catalog.plugins.allow)) == ("merge", "halt", 2)
    pipeline = catalog.pipelines["trading"]
    assert pipeline.source.params == {"paths": ("tape.parquet",), "speed": "max"}
    assert [stage.use for stage in pipeline.stages] == ["microbars", "indicators"]
    assert pipeline.broker.use == "simulated"
    assert (entry.name, entry.use, entry.version, entry.enabled) == ("macd-rsi-default", "macd-rsi", ">=0.1", False)
    assert (entry.base_timeframe, entry.symbols, entry.on_remove) == ("1Sec", ("BTC/USD",), "handover")
    assert (entry.max_notional_per_trade, entry.max_position_pct_equity) == (Decimal(1000), Decimal("0.05"))
    assert entry.cooldown_seconds == 60
    assert [catalog.risk[0].use, catalog.advisors[0].use, catalog.observers[0].use] == [
        "max-notional",
        "opinion",
        "listener",
    ]


def test_defaults_are_the_documented_ones():
    """The defaults of a catalog are those of DESIGN.md."""
    catalog = load({"c.yaml": f"version: 1\nstrategies: [{ENTRY}}}]\n"})
    entry = catalog.strategies[0]
    assert (catalog.mode, catalog.on_invalid, catalog.plugins.allow) == ("sync", "keep_last_good", ("torghut-*",))
    assert (catalog.pipelines, catalog.risk, catalog.advisors, catalog.observers) == ({}, (), (), ())
    assert (entry.version, entry.enabled, entry.params, entry.on_remove) == (None, True, {}, "freeze")
    assert (entry.max_notional_per_trade, entry.max_position_pct_equity, entry.cooldown_seconds) == (None, None, 0)


def test_timeframes_are_the_kernels():
    """The catalog may name exactly the timeframes that signals are made for."""
    assert get_args(Timeframe) == tuple(TIMEFRAMES)


def test_decimal_is_taken_from_its_text():
    """A decimal without quotes keeps the digits that were written; it never passes through a float."""
    text = f"version: 1\nstrategies: [{ENTRY}, max_notional_per_trade: 1234567890123456.123456789, params: {{x: 0.10}}}}]\n"
    entry = load({"c.yaml": text}).strategies[0]
    assert entry.max_notional_per_trade == Decimal("1234567890123456.123456789")
    assert str(entry.params["x"]) == "0.10"


def test_catalog_is_immutable():
    """Neither fields nor values in `params` and `pipelines` can be changed."""
    catalog = load({"c.yaml": FULL})
    with pytest.raises(ValidationError, match="frozen"):
        catalog.mode = "sync"
    with pytest.raises(TypeError):
        catalog.strategies[0].params["rsi_buy"] = 1
    with pytest.raises(TypeError):
        catalog.pipelines["trading"].stages[1].params["nested"]["a"] = 1
    with pytest.raises(TypeError):
        del catalog.pipelines["trading"]


# ------------------------------------------------------------------------------------------------------- several files


def test_lists_of_several_files_are_joined_in_file_name_order():
    """Strategies and rules of a folder come in the order of the file names, whatever order they were read in."""
    first = f"version: 1\nstrategies: [{ENTRY}}}]\nrisk: [{{use: x}}]\n"
    second = f"strategies: [{ENTRY.replace('name: a', 'name: b')}}}]\nrisk: [{{use: y}}]\nmode: merge\n"
    catalog = load({"20.yaml": second, "10.yaml": first})
    assert [entry.name for entry in catalog.strategies] == ["a", "b"]
    assert [rule.use for rule in catalog.risk] == ["x", "y"]
    assert catalog.mode == "merge"


def test_pipelines_of_several_files_are_merged():
    """Each pipeline may have its own file."""
    catalog = load(
        {
            "a.yaml": "version: 1\npipelines: {trading: {source: {use: replay}}}\n",
            "b.yaml": "version: 1\npipelines: {forwarder: {source: {use: alpaca}}}\n",
        }
    )
    assert sorted(catalog.pipelines) == ["forwarder", "trading"]


def test_place_of_joined_entry_is_in_its_own_file():
    """A problem in the second file's first strategy is reported at its place there."""
    other = ENTRY.replace("name: a", "name: b")
    [problem] = problems(f"version: 1\nstrategies: [{ENTRY}}}]\n", f"strategies:\n- {other}, sybols: []}}\n")
    assert str(problem).startswith("1.yaml:2:65: strategies[1].sybols: unknown key (did you mean 'symbols'?)")


# --------------------------------------------------------------------------------------------------------- the digest


def test_digest_sees_content_only():
    """Order of keys and strategies, comments, quotes, styles, defaults and the split into files make no difference."""
    catalog = load({"c.yaml": FULL})
    document = yaml.safe_load(FULL)
    document["strategies"][0]["max_position_pct_equity"] = "0.050"
    document["strategies"][0]["max_notional_per_trade"] = 1000
    document["strategies"][0] = dict(sorted(document["strategies"][0].items(), reverse=True))
    document["risk"][0]["params"] = {}
    flow = yaml.safe_dump(document, default_flow_style=True, sort_keys=False)
    head, tail = FULL.split("strategies:\n")
    split = {"b.yaml": head, "a.yaml": f"# first\nstrategies:\n{tail}"}
    assert {load({"other.yaml": flow}).digest, load(split).digest} == {catalog.digest}
    assert load(split) == catalog
    assert hash(load(split)) == hash(catalog)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("mode: merge", "mode: sync"),
        ("rsi_buy: 35.5", "rsi_buy: 35.6"),
        ('["BTC/USD"]', '["ETH/USD"]'),
        ("enabled: false", "enabled: true"),
        ("cooldown_seconds: 60", "cooldown_seconds: 61"),
        ('"torghut-*", ', ""),
        ("{use: microbars}, ", ""),
    ],
)
def test_digest_changes_with_content(before, after):
    """Any other content has another digest."""
    assert before in FULL
    assert load({"c.yaml": FULL.replace(before, after)}) != load({"c.yaml": FULL})


def test_digest_is_the_same_on_every_machine():
    """The digest of a given content never changes: it is compared over releases."""
    assert load({"c.yaml": "version: 1\n"}).digest == "dda0f166a2c02b5038ef204419ffedc03918d3df6acddb14aaae6b521dcbb168"


def test_strategies_in_another_order_are_the_same_catalog():
    """Strategies run by name, so their order in the file makes no difference; that of risk rules does."""
    other = ENTRY.replace("name: a", "name: b")
    one, two = (
        load({"c.yaml": f"version: 1\nstrategies: [{first}}}, {second}}}]\n"})
        for first, second in ((ENTRY, other), (other, ENTRY))
    )
    assert one == two
    assert load({"c": "version: 1\nrisk: [{use: x}, {use: y}]\n"}) != load(
        {"c": "version: 1\nrisk: [{use: y}, {use: x}]\n"}
    )


@given(st.decimals(-(10**15), 10**15, places=4), st.integers(0, 3))
def test_number_counts_as_its_shortest_text(number, zeros):
    """Trailing zeros and the type that carries a number make no difference; another number does."""
    longer = Decimal(f"{number}{'0' * zeros}")
    assert content_digest([number]) == content_digest([longer])
    assert content_digest([number]) != content_digest([number + Decimal("0.0001")])


# ------------------------------------------------------------------------------------------------------------- places


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("mode", "c.yaml:2:7"),
        ("strategies[0].params.rsi_buy", "c.yaml:17:23"),
        ("strategies[0].params.rsi_sell", "c.yaml:17:13"),
        ("pipelines.trading.stages[1].params.nested.a[1]", "c.yaml:8:75"),
        ("pipelines.other.source", "c.yaml:6:3"),
    ],
)
def test_problem_is_placed_at_its_value_or_the_nearest_above(key, place):
    """Later checks name the place of any key; one that is not in the file is placed at what it would be part of."""
    assert str(load({"c.yaml": FULL}).marks.problem(key, "wrong")) == f"{place}: {key}: wrong"


def test_catalog_made_without_files_has_problems_without_place():
    """A catalog from code can be checked too."""
    assert str(Catalog(version=1).marks.problem("mode", "wrong")) == "catalog: mode: wrong"


def test_catalog_error_survives_pickling_of_its_problems():
    """Problems are plain values, so that a worker process can hand them over."""
    found = problems("version: 2\n")
    assert pickle.loads(pickle.dumps(found)) == found


SNIPPETS = st.sampled_from(
    ["\t", "\n", " ", ":", "- ", "[", "]", "{", "}", '"', "'", "#", "&a ", "*a", "!!x ", "? ", "|", ">", "%", "@", "0x1", "~",
     "\x00", "\x85", "\u2028", "\ufeff", "\U0001f600", "\udc80", "---\n", "...\n", "<<: ", "on", "1e5", "password: x\n", "9" * 50]
)  # fmt: skip


@given(st.lists(st.tuples(st.integers(0, len(FULL)), st.integers(0, 40), SNIPPETS), min_size=1, max_size=4))
def test_any_text_is_a_catalog_or_reported_at_a_place_in_it(edits):
    """However a file is broken, loading gives a catalog, or problems at lines and columns that exist."""
    text = FULL
    for at, length, snippet in edits:
        text = text[:at] + snippet + text[at + length :]
    try:
        load({"c.yaml": text})
    except CatalogError as error:
        lines = text.replace("\r\n", "\n").replace("\x85", "\n").replace("\u2028", "\n").split("\n")
        for problem in error.problems:
            assert problem.line <= len(lines)
            assert problem.column <= max(len(lines[problem.line - 1]), 0) + 2
            assert str(problem).isprintable()


# -------------------------------------------------------------------------------------------------------- files on disk


def test_read_of_folder_takes_yaml_files_and_leaves_hidden_ones(tmp_path):
    """A ConfigMap's folder: links to files below ``..data``, which itself is no catalog."""
    data = tmp_path / "..2026_01_01"
    data.mkdir()
    (data / "b.yaml").write_text("version: 1\n")
    (tmp_path / "..data").symlink_to(data)
    (tmp_path / "b.yaml").symlink_to(tmp_path / "..data" / "b.yaml")
    (tmp_path / "a.yml").write_text("mode: merge\n")
    (tmp_path / ".hidden.yaml").write_text("broken: [")
    (tmp_path / "notes.txt").write_text("broken: [")
    assert read(tmp_path) == {str(tmp_path / "a.yml"): "mode: merge\n", str(tmp_path / "b.yaml"): "version: 1\n"}


def test_read_of_file_drops_the_byte_order_mark(tmp_path):
    """Some editors begin a file with an invisible mark."""
    path = tmp_path / "c.yaml"
    path.write_bytes(b"\xef\xbb\xbfversion: 1\r\n")
    assert load(read(path)).version == 1


def test_read_names_every_file_that_is_not_utf_8(tmp_path):
    """All unreadable files of a folder are reported at once, with line and column."""
    (tmp_path / "a.yaml").write_bytes(b"version: 1\n# \xfc\n")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfev\x00")
    with pytest.raises(CatalogError) as caught:
        read(tmp_path)
    assert [(problem.line, problem.column) for problem in caught.value.problems] == [(2, 3), (1, 1)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path / "none.yaml", "there is no such file or folder"),
        (lambda path: path, "holds no catalog file"),
        (lambda path: (path / "b").symlink_to(path / "gone") or path / "b", "there is no such file or folder"),
        (lambda path: (path / "d.yaml").mkdir() or path, "cannot be read: Is a directory"),
        (lambda path: os.mkfifo(path / "d.yaml") or path, "cannot be read: it is a pipe, not a regular file"),
        (lambda path: os.mkfifo(path / "d.yaml") or path / "d.yaml", "cannot be read: it is a pipe"),
        (lambda path: (path / "d.yaml").symlink_to("/dev/zero") or path, "cannot be read: it is a device"),
        (lambda path: (path / "d.yaml").symlink_to("d.yaml") or path, "cannot be read: Too many levels"),
        (lambda path: huge(path / "d.yaml", 1 << 40) or path, "is too large: a catalog has at most 4,194,304 bytes"),
        (lambda path: [huge(path / f"{i}.yaml", 1 << 20) for i in range(5)] and path, "4.yaml: is too large"),
    ],
)
def test_read_of_what_is_no_catalog_is_reported(tmp_path, make, message):
    """A missing path, an empty folder, and what is no regular file of a catalog's size, are errors with their path."""
    with pytest.raises(CatalogError, match=message) as caught:
        read(make(tmp_path))
    assert str(tmp_path) in str(caught.value)


# ------------------------------------------------------------------------------------------------------------ the parts


@pytest.mark.parametrize(
    ("rule", "name", "versions"),
    [
        ("torghut-*", "torghut-*", ""),
        ("Acme.Alpha_x >=1.2,<2", "acme-alpha-x", "<2,>=1.2"),
        ("acme==1.*", "acme", "==1.*"),
    ],
)
def test_allow_rule_has_two_halves(rule, name, versions):
    """Names are compared as packaging normalizes them; what follows is a version range."""
    assert allow_rule(rule)[0] == name
    assert str(allow_rule(rule)[1]) == versions


def test_did_you_mean_of_nothing_known_says_nothing():
    """Without names to choose from there is no hint."""
    assert did_you_mean("x", []) == ""


def descriptions(schema):
    """(where, description) of every property of every model in a schema."""
    models = {"catalog": schema, **schema["$defs"]}
    return [
        (f"{name}.{key}", value.get("description"))
        for name, model in models.items()
        for key, value in model.get("properties", {}).items()
    ]


def test_schema_describes_every_field():
    """An editor that reads the schema can explain each key."""
    schema = json_schema()
    found = descriptions(schema)
    assert len(found) > 20
    assert [where for where, description in found if not description] == []
    assert schema["required"] == ["version"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["mode"]["enum"] == ["sync", "merge"]


def test_schema_refers_to_what_it_defines():
    """No reference of the schema leads nowhere, with or without the parameters of plugins."""

    class Leg(BaseModel):
        symbol: str

    class Given(Params):
        legs: list[Leg] = param(help="legs")

    for schema in (json_schema(), json_schema({"strategy": {"pair": Given}, "broker": {"simulated": Given}})):
        references = [value for key, value in walk(schema) if key == "$ref"]
        assert references
        for reference in references:
            assert reference.removeprefix("#/$defs/") in schema["$defs"]


def walk(value):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            yield from walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from walk(inner)


def test_schema_with_plugins_knows_their_params():
    """Given the installed plugins, `use` decides what `params` may hold."""

    class Given(Params):
        rsi_buy: float = param(35, ge=0, help="enter below")

    schema = json_schema({"strategy": {"macd-rsi": Given}})
    [choice] = schema["properties"]["strategies"]["items"]["allOf"]
    assert choice["if"]["properties"]["use"] == {"const": "macd-rsi"}
    params = schema["$defs"][choice["then"]["properties"]["params"]["$ref"].removeprefix("#/$defs/")]
    assert params["properties"]["rsi_buy"]["minimum"] == 0
    assert params["additionalProperties"] is False
