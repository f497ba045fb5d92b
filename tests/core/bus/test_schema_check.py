"""An incompatible schema is found before it is released; the problem names file, field and fix."""

import copy
import json
import re
from pathlib import Path

import pytest
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from avro.schema import parse
from hypothesis import assume, given
from hypothesis import strategies as st

from torghut_core.bus.registry import Registered, RegistryError, RegistrySettings
from torghut_core.bus.schema import (
    CHANNELS,
    SCHEMAS,
    SchemaProblem,
    check_schemas,
    compare,
    register_schemas,
    schema_text,
)
from torghut_core.bus.topics import Topics
from torghut_core.errors import InputError

ENUM = {"type": "enum", "name": "Tape", "symbols": ["A", "B", "C"]}
INNER = {
    "type": "record",
    "name": "Inner",
    "fields": [{"name": "p", "type": "double"}, {"name": "n", "type": ["null", "long"], "default": None}],
}
OLD = {
    "type": "record",
    "name": "Outer",
    "namespace": "torghut",
    "fields": [
        {"name": "ts", "type": "int"},
        {"name": "tape", "type": ENUM},
        {"name": "inner", "type": ["null", INNER], "default": None},
        {"name": "many", "type": {"type": "array", "items": "long"}},
        {"name": "by", "type": {"type": "map", "values": "string"}},
        {"name": "size", "type": {"type": "fixed", "name": "Size", "size": 4}},
        {"name": "note", "type": "string", "default": ""},
    ],
}


def changed(change):
    """The schema above after a change; `change` gets its fields and the inner ones, by name."""
    schema = copy.deepcopy(OLD)
    fields = {field["name"]: field for field in schema["fields"]}
    change(schema, fields, fields["inner"]["type"][1])
    return schema


def told(change):
    """Field, code of every problem of a change."""
    problems = compare("outer.avsc", json.dumps(changed(change)), "the last release", json.dumps(OLD))
    return [(problem.field, problem.code) for problem in problems]


def is_backward(new, old):
    """What avro's checker says of the whole."""
    result = ReaderWriterCompatibilityChecker().get_compatibility(parse(json.dumps(new)), parse(json.dumps(old)))
    return result.compatibility is SchemaCompatibilityType.compatible


def drop(fields, name):
    """Take a field away."""
    fields[:] = [field for field in fields if field["name"] != name]


@pytest.mark.parametrize(
    ("change", "problems"),
    [
        (lambda s, _f, _i: drop(s["fields"], "ts"), [("ts", "field-removed-without-default")]),
        (lambda _s, _f, i: drop(i["fields"], "p"), [("inner.p", "field-removed-without-default")]),
        (lambda _s, f, _i: f["ts"].update(type="string"), [("ts", "type-changed")]),
        (lambda _s, f, _i: f["ts"].update(type="boolean"), [("ts", "type-changed")]),
        (lambda _s, _f, i: i["fields"][0].update(type="long"), [("inner.p", "type-changed")]),
        (lambda _s, _f, i: i["fields"][1].update(type=["null", "string"]), [("inner.n", "type-changed")]),
        (lambda _s, _f, i: i["fields"][1].update(type="long", default=0), [("inner.n", "type-changed")]),
        (lambda _s, f, _i: f["many"]["type"].update(items="int"), [("many[]", "type-changed")]),
        (lambda _s, f, _i: f["by"]["type"].update(values="int"), [("by{}", "type-changed")]),
        (lambda _s, f, _i: f["size"]["type"].update(size=8), [("size", "type-changed")]),
        (
            lambda s, _f, _i: s["fields"].append({"name": "x", "type": "long"}),
            [("x", "field-added-without-default")],
        ),
        (
            lambda _s, _f, i: i["fields"].append({"name": "x", "type": ["null", "long"]}),
            [("inner.x", "field-added-without-default")],
        ),
        (lambda _s, f, _i: f["tape"]["type"].update(symbols=["A", "C"]), [("tape", "enum-symbol-removed")]),
        (lambda _s, f, _i: f["tape"]["type"].update(name="Other"), [("tape", "name-changed")]),
        (lambda s, _f, _i: s.update(name="Other"), [("", "name-changed")]),
        (
            lambda _s, f, _i: f["ts"].update(name="time"),
            [("time", "field-added-without-default"), ("ts", "field-removed-without-default")],
        ),
    ],
)
def test_each_incompatible_change_is_found_and_named(change, problems):
    """What breaks a reader is found, in a record within a union too, and the field is named by its path."""
    assert told(change) == problems


@pytest.mark.parametrize(
    "change",
    [
        lambda *_: None,
        lambda s, _f, _i: drop(s["fields"], "note"),
        lambda _s, f, _i: f["ts"].update(type="long"),
        lambda _s, f, _i: f["ts"].update(type=["null", "int"]),
        lambda _s, f, _i: f["ts"].update(doc="seconds"),
        lambda s, _f, _i: s["fields"].append({"name": "x", "type": ["null", "long"], "default": None}),
        lambda s, _f, _i: s["fields"].reverse(),
        lambda _s, f, _i: f["ts"].update(name="time", aliases=["ts"]),
        lambda _s, f, _i: f["tape"]["type"].update(symbols=["A", "B", "C", "D"]),
        lambda _s, f, _i: f["tape"]["type"].update(symbols=["A"], default="A"),
        lambda s, _f, _i: s.update(name="Other", aliases=["torghut.Outer"]),
    ],
)
def test_compatible_changes_are_let_pass(change):
    """What every reader can live with is no problem."""
    assert told(change) == []


TYPES = st.sampled_from(
    [
        "int",
        "long",
        "double",
        "string",
        ["null", "int"],
        ["null", "string"],
        ["null", "long", "string"],
        {"type": "array", "items": "long"},
        {"type": "map", "values": "int"},
        {"type": "enum", "name": "E", "symbols": ["A", "B"]},
        {"type": "enum", "name": "E", "symbols": ["A"]},
        {"type": "enum", "name": "E", "symbols": ["A"], "default": "A"},
        {"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"}]},
        {"type": "record", "name": "R", "fields": [{"name": "a", "type": "string"}]},
        {"type": "record", "name": "R", "fields": [{"name": "b", "type": ["null", "int"], "default": None}]},
        ["null", {"type": "record", "name": "R", "fields": [{"name": "a", "type": "long"}]}],
        ["null", {"type": "record", "name": "Q", "fields": [{"name": "a", "type": "int"}]}],
    ]
)


@st.composite
def records(draw):
    """A record of some of three fields."""
    fields, taken = [], set()
    for name in ("x", "y", "z"):
        if draw(st.booleans()):
            type_ = draw(TYPES)
            own = {one["name"] for one in ([type_] if isinstance(type_, dict) else type_) if "name" in one}
            assume(not own & taken)
            taken |= own
            has_default = isinstance(type_, list) and draw(st.booleans())
            fields.append({"name": name, "type": type_} | ({"default": None} if has_default else {}))
    return {"type": "record", "name": "Outer", "fields": fields}


@given(records(), records())
def test_problems_are_those_of_avros_checker(new, old):
    """There is a problem beyond a removed field exactly where the library says that the new cannot read the old."""
    problems = compare("x.avsc", json.dumps(new), "the last release", json.dumps(old))
    backward = [problem for problem in problems if problem.code != "field-removed-without-default"]
    assert bool(backward) == (not is_backward(new, old))


def test_schemas_can_take_the_place_of_the_released_ones():
    """The check that CI runs: what is in the repository reads what the last release wrote."""
    assert [str(problem) for problem in check_schemas()] == []


def test_every_schema_was_released():
    """The check above has something to compare each schema with."""
    assert {path.name for path in (SCHEMAS / "released").iterdir()} == {f"{channel}.avsc" for channel in CHANNELS}
    assert {path.name for path in SCHEMAS.glob("*.avsc")} == {f"{channel}.avsc" for channel in CHANNELS}


@pytest.fixture
def folder(tmp_path):
    """A copy of the schemas with those of the last release."""
    for path in SCHEMAS.rglob("*.avsc"):
        copied = tmp_path / path.relative_to(SCHEMAS)
        copied.parent.mkdir(exist_ok=True)
        copied.write_text(path.read_text())
    return tmp_path


def test_incompatible_change_is_named_with_file_field_and_fix(folder):
    """The problem's text is enough to fix it."""
    path = folder / "trades.avsc"
    path.write_text(path.read_text().replace('{"name": "p", "type": "double"', '{"name": "p", "type": "float"'))
    (problem,) = check_schemas(folder=folder)
    assert str(problem) == (
        "trades.avsc: payload.p: is float, and was double, against the last release "
        "(keep the type, and add a new field with a default beside it)"
    )


def test_deleted_file_is_a_problem(folder):
    """A released schema cannot be dropped by deleting its file."""
    (folder / "bars.avsc").unlink()
    assert [(problem.file, problem.code) for problem in check_schemas(folder=folder)] == [("bars.avsc", "missing")]


def test_a_new_schema_is_no_problem(folder):
    """A schema that was never released has no readers to break."""
    (folder / "released" / "bars.avsc").unlink()
    assert check_schemas(folder=folder) == []


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"type": "record", "name": "X"}', '"nonsense"', "null"])
def test_file_that_is_no_schema_is_a_problem(folder, text):
    """A file with a slip in it is a problem with the file's name, not a traceback."""
    (folder / "quotes.avsc").write_text(text)
    assert [(problem.file, problem.code) for problem in check_schemas(folder=folder)] in (
        [("quotes.avsc", "unreadable")],
        [("quotes.avsc", "type-changed")],  # "[]" is a schema: a union of nothing
    )


class Shelf:
    """A registry in memory: versions by subject."""

    def __init__(self, **texts):
        self.subjects = {f"torghut.{name.replace('_', '.')}.v1-value": [text] for name, text in texts.items()}

    def latest(self, subject):
        texts = self.subjects.get(subject)
        return Registered(id=len(texts), version=len(texts), schema=texts[-1]) if texts else None

    def register(self, subject, schema):
        texts = self.subjects.setdefault(subject, [])
        if schema not in texts:
            texts.append(schema)
        return texts.index(schema) + 1


def test_registry_is_compared_with_where_there_is_one():
    """With a registry, schemas are compared with its newest version instead of the last release."""
    old = json.loads(schema_text("trades"))
    old["fields"].append({"name": "shard", "type": "int"})
    (problem,) = check_schemas(Shelf(trades=json.dumps(old)))
    assert str(problem) == (
        "trades.avsc: shard: was removed, and readers with the old schema need it, against "
        "torghut.trades.v1-value version 1 (keep it; release it with a default first, and remove it in the release "
        "after that)"
    )


def test_subjects_are_named_by_the_topics(monkeypatch):
    """A topic with another name has its schema under that name."""
    monkeypatch.setenv("TOPIC_TRADES", "torghut.sim.trades.v1")
    shelf = Shelf(sim_trades='"string"')
    assert [(problem.against, problem.code) for problem in check_schemas(shelf)] == [
        ("torghut.sim.trades.v1-value version 1", "type-changed")
    ]


def test_registering_is_idempotent_and_checks_first():
    """Every schema is registered once; if one is incompatible, none is registered."""
    shelf = Shelf()
    ids = register_schemas(shelf)
    assert len(ids) == len(CHANNELS)
    assert register_schemas(shelf) == ids
    assert check_schemas(shelf) == []

    broken = Shelf(quotes='"string"')
    with pytest.raises(InputError, match=r"quotes.avsc: is torghut.Quotes, and was string"):
        register_schemas(broken)
    assert set(broken.subjects) == {"torghut.quotes.v1-value"}


def test_foreign_schema_in_the_registry_is_a_problem():
    """The problem names a subject that holds something else than Avro."""
    (problem,) = check_schemas(Shelf(quotes='syntax = "proto3";'))
    assert (problem.file, problem.code) == ("quotes.avsc", "unreadable")
    assert "torghut.quotes.v1-value version 1 is not an Avro schema" in str(problem)


def test_page_names_every_topic_setting_and_code():
    """docs/schemas.md has the topic and record of each channel, the registry's settings, and the codes of problems."""
    page = (Path(__file__).parents[3] / "docs" / "schemas.md").read_text()
    for channel in CHANNELS:
        assert re.search(
            rf"\| `{channel}` \| `TOPIC_\w+` \| `torghut.{json.loads(schema_text(channel))['name']}` \|", page
        )
    for name in (*Topics.model_fields, *RegistrySettings.model_fields):
        assert name == "topic_trade_updates" or f"`{name.upper()}`" in page
    for code in re.findall(r"``([a-z-]+)``", SchemaProblem.__doc__) + re.findall(
        r"``([a-z-]+)``", RegistryError.__doc__
    ):
        assert code == "unreadable" or f"`{code}`" in page
