"""Every problem of a catalog is found at once: of its structure, its plugins and their parameters."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.effort import examples
from torghut_core.catalog import load, load_draft
from torghut_core.errors import CatalogError
from torghut_core.generation import validate, validate_files
from torghut_core.plugin_host import PluginHost

CORPUS = sorted((Path(__file__).parents[2] / "corpus" / "catalogs").rglob("*.yaml"))

LINES = {
    "version": "version: 1",
    "mode": "mode: sync",
    "pipelines": "pipelines:\n  trading:",
    "source": "    source: {use: replay, params: {paths: [tape.csv]}}",
    "stages": "    stages: [{use: indicators, params: {columns: [ema12]}}]",
    "broker": "    broker: {use: simulated, params: {cash: '1000'}}",
    "strategies": "strategies:",
    "a": "  - {name: a, use: macd-rsi, base_timeframe: 1Min, symbols: [ES], params: {rsi_buy: 30}}",
    "b": "  - {name: b, use: ema-cross, base_timeframe: 1Min, symbols: [ES], params: {quantity: '1'}}",
    "risk": "risk:\n  - {use: max-notional, params: {max_notional_per_trade: '10'}}",
}
SLIPS = {
    "mode": ("mode", "sync", "snyc"),
    "colour": ("version", "1", "1\ncolour: red"),
    "pipelines.trading.source.params.pats": ("source", "paths", "pats"),
    "pipelines.trading.source.spped": ("source", "{use: replay", "{spped: 1, use: replay"),
    "pipelines.trading.stages[0].use": ("stages", "use: indicators", "use: indicatrs"),
    "pipelines.trading.broker.params.csh": ("broker", "cash", "csh"),
    "strategies[0].params.rsi_buy": ("a", "rsi_buy: 30", "rsi_buy: 300"),
    "strategies[0].base_timeframe": ("a", "1Min", "1Mn"),
    "strategies[0].cooldown_seconds": ("a", "name: a", "cooldown_seconds: -1, name: a"),
    "strategies[1].name": ("b", "name: b, ", ""),
    "strategies[1].params.quantity": ("b", "'1'", "'0'"),
    "risk[0].params.max_notional_per_trade": ("risk", "'10'", "ten"),
    "risk[0].x": ("risk", "{use: max", "{x: 1, use: max"),
}
"""A key that is wrong, and the slip that makes it wrong."""


@pytest.fixture(scope="module")
def host():
    return PluginHost.load()


def text(slips=()):
    lines = dict(LINES)
    for key in slips:
        line, right, wrong = SLIPS[key]
        assert right in lines[line]
        lines[line] = lines[line].replace(right, wrong, 1)
    return "\n".join(lines.values()) + "\n"


@examples(of_proof=500)
@given(slips=st.sets(st.sampled_from(sorted(SLIPS)), min_size=1))
def test_every_slip_is_named_whatever_else_is_wrong(host, slips):
    """A problem of one kind hides none of another, in the same entry or elsewhere; each is named once, in order of place."""
    _, _, problems = validate_files({"trading.yaml": text(slips)}, lambda _allow: host)

    assert sorted(problem.key for problem in problems) == sorted(slips)
    assert [(problem.line, problem.column) for problem in problems] == sorted(
        (problem.line, problem.column) for problem in problems
    )


def test_a_catalog_without_a_slip_is_what_would_trade(host):
    """Nothing is wrong with it, and it is the catalog that a start reads."""
    catalog, _, problems = validate_files({"trading.yaml": text()}, lambda _allow: host)

    assert problems == validate(catalog, host) == []
    assert catalog == load({"trading.yaml": text()})


def test_without_knowing_which_plugins_are_allowed_none_is_loaded(host):
    """Where `plugins.allow` cannot be read no plugin's code is run, and none is said not to exist."""
    slips = "plugins: {alow: [acme-*]}\n" + text(["strategies[0].params.rsi_buy"])
    with pytest.raises(CatalogError) as caught:
        validate_files({"trading.yaml": slips}, lambda _allow: pytest.fail("loaded"))
    assert [problem.key for problem in caught.value.problems] == ["plugins.alow"]


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_whatever_is_wrong_no_problem_of_a_reload_is_missing(host, path):
    """What a reload would find, `validate` finds, and more."""
    files = {path.name: path.read_text(encoding="utf-8", errors="replace")}
    try:
        expected = load_draft(files).problems
    except CatalogError as error:
        expected = error.problems
    try:
        _, _, found = validate_files(files, lambda _allow: host)
    except CatalogError as error:
        found = error.problems
    assert set(map(str, expected)) <= set(map(str, found))
