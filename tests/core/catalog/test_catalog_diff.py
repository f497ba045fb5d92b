"""What differs between two catalogs, when each difference takes effect, and what the operator reads."""

import json
from dataclasses import FrozenInstanceError
from decimal import Decimal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from support.effort import examples
from torghut_core.catalog import Catalog, load
from torghut_core.catalog.diff import ABSENT, FIELDS, ON_REMOVE, Timing, diff

FULL = """\
version: 1
mode: sync
plugins: {allow: ["torghut-*"]}
pipelines:
  trading:
    source: {use: replay, params: {paths: [tape.parquet]}}
    stages: [{use: microbars}, {use: resample}, {use: indicators, params: {nested: {a: 1, b: 2}}}]
    broker: {use: simulated, params: {cash: "100000"}}
strategies:
  - {name: alpha, use: macd-rsi, base_timeframe: 1Min, symbols: [ES, NQ], params: {rsi_buy: 35}, on_remove: flatten}
  - {name: beta, use: tsmom, base_timeframe: 5Min, symbols: [ES]}
risk: [{use: stale-price, params: {max_age_ms: 60000}}, {use: no-shorts}]
advisors: [{use: opinion}]
observers: [{use: listener}]
"""


def catalog(*edits):
    text = FULL
    for before, after in edits:
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    return load({"c.yaml": text})


def difference(*edits):
    return diff(catalog(), catalog(*edits))


def named(found, kind, action):
    return tuple(change.name for change in found.changes if (change.kind, change.action) == (kind, action))


def only_field(*edits):
    [change] = difference(*edits).changes
    [field] = change.fields
    return change, field


# --------------------------------------------------------------------------------------------------------- the table


def fields_of(model, path=""):
    """Every field of the catalog's models, and each kind of entry, named as the table names them."""
    for name, field in model.model_fields.items():
        key = f"{path}{name}"
        models = list(models_in(field.annotation))
        if not models:
            yield key
            continue
        [inner] = models
        key += {tuple: "[]", dict: ".NAME"}.get(shape(field.annotation), "")
        if key.endswith(("[]", ".NAME")):
            yield key
        yield from fields_of(inner, f"{key}.")


def models_in(annotation):
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from models_in(argument)


def shape(annotation):
    origin = getattr(annotation, "__origin__", None)
    return tuple if origin is tuple else dict if hasattr(origin, "items") else None


def test_every_field_of_the_catalog_is_in_the_table():
    """The table has every field of the catalog, and no field that is gone."""
    assert sorted(fields_of(Catalog)) == sorted(FIELDS)


@pytest.mark.parametrize(
    ("timing", "keys"),
    [
        (Timing.WHEN_FLAT, ["strategies[].base_timeframe"]),
        (Timing.RESTART, [key for key in FIELDS if key.startswith(("pipelines.", "instruments.")) or key == "version"]),
    ],
)
def test_what_is_not_hot_is_little(timing, keys):
    """The timeframe of a strategy waits until it is flat, pipelines and instruments for the next start; everything else is hot."""
    assert [key for key, rule in FIELDS.items() if rule.timing is timing] == keys


# ------------------------------------------------------------------------------------------------------------ fields


@pytest.mark.parametrize(
    ("before", "after", "kind", "name", "key", "old", "new", "timing"),
    [
        ("mode: sync", "mode: merge", "catalog", "", "mode", "sync", "merge", "hot"),
        ("mode: sync", "on_invalid: halt", "catalog", "", "on_invalid", "keep_last_good", "halt", "hot"),
        ('["torghut-*"]', '["a"]', "catalog", "", "plugins.allow", ("torghut-*",), ("a",), "hot"),
        ("[tape.parquet]", "[b.csv]", "pipeline", "trading", "source.params.paths", ("tape.parquet",), ("b.csv",), "restart"),
        ("replay, ", "replay, version: '>1', ", "pipeline", "trading", "source.version", ABSENT, ">1", "restart"),
        ("simulated", "alpaca", "pipeline", "trading", "broker.use", "simulated", "alpaca", "restart"),
        ("a: 1", "a: 3", "pipeline", "trading", "stages[indicators].params.nested.a", 1, 3, "restart"),
        ("{use: resample}, ", "", "pipeline", "trading", "stages[resample]", {"use": "resample", "version": None, "params": {}}, ABSENT, "restart"),
        ("{use: microbars}, {use: resample}", "{use: resample}, {use: microbars}", "pipeline", "trading", "stages",
         ("microbars", "resample", "indicators"), ("resample", "microbars", "indicators"), "restart"),
        ("rsi_buy: 35", "rsi_buy: 40", "strategy", "alpha", "params.rsi_buy", 35, 40, "hot"),
        ("{rsi_buy: 35}", "{rsi_buy: 35, rsi_sell: null}", "strategy", "alpha", "params.rsi_sell", ABSENT, None, "hot"),
        ("params: {rsi_buy: 35}, ", "", "strategy", "alpha", "params.rsi_buy", 35, ABSENT, "hot"),
        ("tsmom", "ema-cross", "strategy", "beta", "use", "tsmom", "ema-cross", "hot"),
        ("5Min", "1Min", "strategy", "beta", "base_timeframe", "5Min", "1Min", "when_flat"),
        ("5Min", "5Min, enabled: false", "strategy", "beta", "enabled", True, False, "hot"),
        ("5Min", "5Min, max_notional_per_trade: 5", "strategy", "beta", "max_notional_per_trade", ABSENT, 5, "hot"),
        ("5Min", "5Min, max_position_pct_equity: 1", "strategy", "beta", "max_position_pct_equity", ABSENT, 1, "hot"),
        ("5Min", "5Min, cooldown_seconds: 5", "strategy", "beta", "cooldown_seconds", 0, 5, "hot"),
        ("flatten", "freeze", "strategy", "alpha", "on_remove", "flatten", "freeze", "hot"),
        ("60000", "500", "risk rule", "stale-price", "params.max_age_ms", 60000, 500, "hot"),
        ("{use: opinion}", "{use: opinion, version: '>1'}", "advisor", "opinion", "version", ABSENT, ">1", "hot"),
        ("{use: listener}", "{use: listener, params: {a: {}}}", "observer", "listener", "params.a", ABSENT, {}, "hot"),
    ],
)  # fmt: skip
def test_changed_field_is_reported(before, after, kind, name, key, old, new, timing):
    """A changed field is reported with its entry, both values and when it takes effect; nothing else is."""
    change, field = only_field((before, after))
    assert (change.kind, change.name, change.action) == (kind, name, "changed")
    assert (field.key, field.old, field.new) == (key, old, new)
    assert field.timing == change.timing == timing
    assert field.effect


def test_entry_takes_as_long_as_its_last_field():
    """An entry of which one field is hot and one waits is reported as waiting, and so is the whole."""
    found = difference(("1Min", "5Min"), ("rsi_buy: 35", "rsi_buy: 40"), ("60000", "500"))
    assert [change.timing for change in found.changes] == ["when_flat", "hot"]
    assert sorted(field.timing for field in found.changes[0].fields) == ["hot", "when_flat"]
    assert found.timing is Timing.WHEN_FLAT
    assert difference(("1Min", "5Min"), ("simulated", "alpaca")).timing is Timing.RESTART


@pytest.mark.parametrize(
    ("symbols", "effect"),
    [
        ("[ES, NQ, YM]", "YM traded from now on"),
        ("[ES]", "a position in NQ is closed (on_remove: flatten)"),
        ("[YM]", "YM traded from now on; a position in ES, NQ is closed (on_remove: flatten)"),
        ("[NQ, ES]", "the same in another order"),
    ],
)
def test_effect_of_symbols_names_them(symbols, effect):
    """A change of symbols says which are traded from now on, and what happens to positions in the others."""
    _, field = only_field(("[ES, NQ]", symbols))
    assert (field.key, field.timing, field.effect) == ("symbols", Timing.HOT, effect)


def test_symbol_is_removed_as_the_new_entry_says():
    """Where `on_remove` changes together with the symbols, the new one holds: the strategy is still listed."""
    [change] = difference(("[ES, NQ]", "[ES]"), ("flatten", "handover")).changes
    effect = {field.key: field.effect for field in change.fields}["symbols"]
    assert effect == "a position in NQ is given to another strategy (on_remove: handover)"


def test_order_of_rules_is_a_change():
    """Rules run in their order, so another order is reported, once, and no rule as changed."""
    rules = "{use: stale-price, params: {max_age_ms: 60000}}, {use: no-shorts}"
    change, field = only_field((rules, "{use: no-shorts}, {use: stale-price, params: {max_age_ms: 60000}}"))
    assert (change.kind, field.key) == ("catalog", "risk")
    assert (field.old, field.new) == (("stale-price", "no-shorts"), ("no-shorts", "stale-price"))


def test_plugin_that_is_used_twice_is_numbered():
    """The second use of a plugin in the list is named with its number."""
    twice = "[{use: listener}, {use: listener, params: {a: 1}}]"
    [change] = difference(("[{use: listener}]", twice)).changes
    assert (change.name, change.action) == ("listener (2)", "added")
    [change] = diff(
        catalog(("[{use: listener}]", twice)), catalog(("[{use: listener}]", twice.replace("1", "2")))
    ).changes
    assert (change.name, change.action) == ("listener (2)", "changed")


# ----------------------------------------------------------------------------------------------------------- entries


ALPHA, BETA = FULL.splitlines(keepends=True)[9:11]


@pytest.mark.parametrize(
    ("on_remove", "words"),
    [("freeze", "kept, and nothing trades it"), ("flatten", "closed"), ("handover", "given to another strategy")],
)
def test_removed_strategy_says_what_happens_to_its_positions(on_remove, words):
    """What the removed entry said in `on_remove` is reported in words."""
    assert ON_REMOVE[on_remove] == words
    old = catalog(("on_remove: flatten", f"on_remove: {on_remove}"))
    [change] = diff(old, catalog((ALPHA, ""))).changes
    assert (change.kind, change.name, change.action, change.timing) == ("strategy", "alpha", "removed", Timing.HOT)
    assert change.effect == f"its positions are {words} (on_remove: {on_remove})"


def test_strategy_that_is_not_listed_stays_where_mode_is_merge():
    """With `mode: merge` in the new catalog a strategy that is no longer listed stays, whatever its `on_remove` says."""
    change = difference((ALPHA, ""), ("mode: sync", "mode: merge")).changes[-1]
    assert (change.name, change.effect) == ("alpha", "left as it was (mode: merge)")


def test_renamed_strategy_is_another():
    """Decisions and positions are kept under the name: another name is one removed and one added."""
    found = difference(("name: beta", "name: gamma"))
    assert (named(found, "strategy", "removed"), named(found, "strategy", "added")) == (("beta",), ("gamma",))
    assert named(found, "strategy", "changed") == named(found, "risk rule", "added") == ()


def test_pipeline_comes_and_goes_with_the_process():
    """A pipeline that is added or removed waits for the next start."""
    one, other = catalog(), catalog(("pipelines:", "pipelines:\n  ta: {source: {use: kafka}}"))
    for found, action in ((diff(one, other), "added"), (diff(other, one), "removed")):
        [change] = found.changes
        assert (change.kind, change.name, change.action, change.timing) == ("pipeline", "ta", action, Timing.RESTART)


def test_broker_that_is_removed_is_reported_field_by_field():
    """A pipeline that loses its broker has changed in every field of the broker."""
    old = load({"c": 'version: 1\npipelines: {ta: {source: {use: a}, broker: {use: b, params: {cash: "1"}}}}\n'})
    [change] = diff(old, load({"c": "version: 1\npipelines: {ta: {source: {use: a}}}\n"})).changes
    assert [(field.key, field.old, field.new) for field in change.fields] == [
        ("broker.use", "b", ABSENT),
        ("broker.params.cash", "1", ABSENT),
    ]


# -------------------------------------------------------------------------------------------------------------- laws

NAMES = st.sampled_from(["a", "b", "a.b", "c"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.sampled_from([0, 1, "1", "1.0", "x", 0.5]) | st.decimals(0, 2, places=1),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=2),
    max_leaves=4,
)
USES = st.fixed_dictionaries(
    {"use": NAMES},
    optional={"params": st.dictionaries(NAMES, VALUES, max_size=2), "version": st.sampled_from([">1", ">2"])},
)
ENTRIES = st.builds(
    lambda use, more: use | more,
    USES,
    st.fixed_dictionaries(
        {
            "name": NAMES,
            "base_timeframe": st.sampled_from(["1Sec", "1Min"]),
            "symbols": st.lists(st.sampled_from(["ES", "NQ", "YM"]), min_size=1, max_size=2, unique=True),
        },
        optional={
            "enabled": st.booleans(),
            "max_notional_per_trade": st.sampled_from(["1", "1.0", "2"]),
            "cooldown_seconds": st.integers(0, 1),
            "on_remove": st.sampled_from(["freeze", "flatten"]),
        },
    ),
)
LISTS = st.lists(USES, max_size=3)
CATALOGS = st.fixed_dictionaries(
    {"version": st.just(1)},
    optional={
        "mode": st.sampled_from(["sync", "merge"]),
        "plugins": st.fixed_dictionaries({"allow": st.lists(NAMES, max_size=2)}),
        "pipelines": st.dictionaries(
            st.sampled_from(["ta", "forwarder"]),
            st.fixed_dictionaries({"source": USES}, optional={"stages": LISTS, "broker": USES}),
            max_size=2,
        ),
        "strategies": st.lists(ENTRIES, max_size=3, unique_by=lambda entry: entry["name"]),
        "risk": LISTS,
        "observers": LISTS,
    },
).map(Catalog.model_validate)


@given(CATALOGS)
def test_catalog_does_not_differ_from_itself(one):
    """Of one catalog, and of a copy, nothing differs, and the text says so."""
    found = diff(one, Catalog.model_validate(one.model_dump()))
    assert found.is_empty
    assert (found.changes, found.timing, found.to_text()) == ((), None, "no difference")


@examples(200)
@given(CATALOGS, CATALOGS)
def test_difference_is_empty_exactly_where_digests_are_equal(one, other):
    """No difference is missed, and none is invented."""
    assert diff(one, other).is_empty == (one.digest == other.digest)


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ({"a.b": 1}, {"a": {"b": 1}}, False),
        ({"a": {}}, {}, False),
        ({"a": None}, {}, False),
        ({"a": 1}, {"a": True}, False),
        ({"a": 1}, {"a": "1"}, True),
        ({"a": [1.0]}, {"a": (Decimal("1.00"),)}, True),
    ],
)
def test_parameters_are_compared_as_the_digest_does(one, other, is_same):
    """Values that look alike and differ, or look different and are equal, are compared as the digest does."""
    one, other = (Catalog(version=1, risk=[{"use": "a", "params": params}]) for params in (one, other))
    assert diff(one, other).is_empty is (one.digest == other.digest) is is_same


@given(CATALOGS, st.data())
def test_one_changed_parameter_is_never_missed(one, data):
    """Where a single value somewhere below `params` is replaced, the difference is there if the digest says so."""
    content = one.model_dump()
    uses = [*content["risk"], *content["observers"], *content["strategies"]]
    if not uses:
        return
    use = data.draw(st.sampled_from(uses))
    use["params"] = data.draw(st.dictionaries(NAMES, VALUES, max_size=2))
    other = Catalog.model_validate(content)
    assert diff(one, other).is_empty == (one.digest == other.digest)


@given(CATALOGS, CATALOGS)
def test_added_and_removed_account_for_all_strategies(one, other):
    """The old names less the removed, with the added, are the new names; changed are those of both that differ."""
    found = diff(one, other)
    old, new = ({entry.name: entry for entry in each.strategies} for each in (one, other))
    added, removed = (set(named(found, "strategy", action)) for action in ("added", "removed"))
    assert (old.keys() - removed) | added == new.keys()
    assert removed <= old.keys()
    assert not added & old.keys()
    assert set(named(found, "strategy", "changed")) <= old.keys() & new.keys()


@given(CATALOGS, CATALOGS)
def test_way_back_is_the_mirror_image(one, other):
    """From new to old, what was added is removed, and every field changes back."""
    there, back = diff(one, other), diff(other, one)
    assert (there.old, there.new) == (back.new, back.old)
    mirrored = {"added": "removed", "removed": "added", "changed": "changed"}

    def entries(found, action=lambda action: action):
        return {
            (change.kind, change.name, action(change.action), frozenset(field.key for field in change.fields))
            for change in found.changes
        }

    assert entries(there) == entries(back, mirrored.get)


@given(CATALOGS, CATALOGS)
def test_difference_is_plain_json_and_a_line_each(one, other):
    """The record survives JSON; the text has one line per changed field or entry under its summary."""
    found = diff(one, other)
    plain = found.to_json()
    assert json.loads(json.dumps(plain)) == plain
    lines = found.to_text().splitlines()
    assert len(lines) == 1 + sum(len(change.fields) or 1 for change in found.changes)


@pytest.mark.parametrize(
    "text",
    [
        f"# a comment\n{FULL}",
        FULL.replace(ALPHA + BETA, BETA + ALPHA),
        FULL.replace("60000", "60000.0").replace("mode: sync\n", ""),
        yaml.safe_dump(yaml.safe_load(FULL), sort_keys=True),
        yaml.safe_dump(yaml.safe_load(FULL), sort_keys=False, default_flow_style=True),
    ],
    ids=["comment", "order of strategies", "spelling of a number, default left out", "order of keys", "style"],
)
def test_other_writing_is_no_difference(text):
    """Comments, order, style, the spelling of numbers and defaults that are left out differ in nothing."""
    assert text != FULL
    assert diff(catalog(), load({"c.yaml": text})).is_empty


def test_split_into_files_is_no_difference():
    """One file or a folder of them is the same catalog."""
    head, tail = FULL.split("strategies:\n")
    assert diff(catalog(), load({"a.yaml": head, "b.yaml": f"strategies:\n{tail}"})).is_empty


# ------------------------------------------------------------------------------------------------------- what is read


def test_text_is_what_an_operator_reads():
    """A summary line, and one line per change: what, from what to what, when and how."""
    found = difference(
        (ALPHA, ALPHA.replace("rsi_buy: 35", "rsi_buy: 40")),
        ("5Min", "1Min, max_notional_per_trade: 2500.50"),
        ("simulated", "alpaca"),
        ("{use: no-shorts}", "{use: cooldown}"),
    )
    assert found.to_text() == (
        "6 changes: 1 added, 1 removed, 4 changed; 4 hot, 1 when_flat, 1 restart\n"
        '~ pipeline trading broker.use: "simulated" -> "alpaca"; restart: the broker never changes under open orders\n'
        "~ strategy alpha params.rsi_buy: 35 -> 40; hot: a new instance is warmed up, and takes over the position\n"
        '~ strategy beta base_timeframe: "5Min" -> "1Min"; when_flat: a position is closed on the bars that it was opened on\n'
        "~ strategy beta max_notional_per_trade: not given -> 2500.50; hot: holds from the next decision on\n"
        "+ risk rule cooldown; hot: the list, in its order, holds from the next decision on\n"
        "- risk rule no-shorts; hot: the list, in its order, holds from the next decision on"
    )


def test_one_change_is_singular():
    """One change is no "1 changes"."""
    assert difference((BETA, "")).to_text().startswith("1 change: 1 removed; 1 hot\n")


def test_text_is_short_and_harmless():
    """A long value is cut, and one with letters that a terminal obeys is escaped."""
    rule = {"use": "a", "params": {"b": "\x1b[2J" + "x" * 500}}
    text = diff(Catalog(version=1, risk=[{"use": "a"}]), Catalog(version=1, risk=[rule])).to_text()
    assert "\\u001b[2J" in text
    assert max(map(len, text.splitlines())) < 250
    assert text.replace("\n", "").isprintable()


def test_json_leaves_out_what_is_not_there():
    """A field without a value has no `old`; a decimal is text, as in the catalog's own JSON."""
    found = difference(("5Min", "5Min, max_notional_per_trade: 2500.50"))
    assert found.to_json() == {
        "old": catalog().digest,
        "new": found.new,
        "timing": "hot",
        "changes": [
            {
                "kind": "strategy",
                "name": "beta",
                "action": "changed",
                "timing": "hot",
                "effect": "",
                "fields": [
                    {
                        "key": "max_notional_per_trade",
                        "new": "2500.50",
                        "timing": "hot",
                        "effect": "holds from the next decision on",
                    }
                ],
            }
        ],
    }


def test_difference_is_immutable():
    """A difference is a value: it is recorded as it was found."""
    with pytest.raises(FrozenInstanceError):
        difference((BETA, "")).changes[0].name = "other"
