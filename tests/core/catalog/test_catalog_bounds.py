"""No number, size or depth that a file can state holds up whoever reads it."""

import time
from decimal import Decimal

import pytest

from torghut_core.catalog import load, load_draft, loading, marked_yaml
from torghut_core.catalog.marked_yaml import MAX_DIGITS
from torghut_core.errors import CatalogError
from torghut_core.generation import validate

HEAD = "version: 1\nstrategies:\n"
ENTRY = "  - {name: a, use: macd-rsi, base_timeframe: 1Min, symbols: [ES], %s}\n"


def problems(text):
    with pytest.raises(CatalogError) as caught:
        load({"c.yaml": text})
    return caught.value.problems


@pytest.mark.parametrize("written", ["90_", "1__000", "_1", "1_.5", "1._5", "1_0_", "-1__0"])
def test_underscore_in_the_wrong_place_is_refused_there(written):
    """A number with a slip in it is a problem at its place, with what to write; or it is text, and so no number."""
    text = HEAD + ENTRY % f"cooldown_seconds: {written}"
    (problem,) = problems(text)
    assert (problem.line, problem.key) == (3, "strategies[0].cooldown_seconds")
    assert text.splitlines()[2][problem.column - 1 :].startswith(written)
    assert problem.hint


@pytest.mark.parametrize("written", ["1_000", "1_000.5", "1.5e+3", "0.000_1", "1.0e-20", "-1.", ".5", "1.0e+29"])
def test_number_that_is_written_well_keeps_its_value(written):
    """Underscores between digits and exponents of a sensible size are read exactly."""
    catalog = load({"c.yaml": HEAD + ENTRY % f"params: {{x: {written}}}"})
    assert catalog.strategies[0].params["x"] == Decimal(written)


@pytest.mark.parametrize("key", ["cooldown_seconds", "max_notional_per_trade", "params.quantity"])
@pytest.mark.parametrize("exponent", ["+31", "+999999999", "-999999999", "+" + 20 * "9", "-" + 20 * "9"])
def test_number_is_bounded_by_its_value(key, exponent, fakes):
    """A number of few characters whose digits would fill memory is refused where it stands, with quotes or without."""
    for number in (f"1.0e{exponent}", f'"1.0e{exponent}"', f"0.0e{exponent}", f"1e{exponent}"):
        text = f"{key}: {number}" if "." not in key else f"params: {{{key.removeprefix('params.')}: {number}}}"
        began = time.process_time()
        draft = load_draft({"c.yaml": HEAD + ENTRY % text})
        found = draft.problems or validate(draft.catalog, fakes)
        assert [problem.key for problem in found] == [f"strategies[0].{key}"], number
        assert time.process_time() - began < 1


def test_digits_are_counted_before_and_after_the_point(fakes):
    """The largest and the finest number that are allowed are used as they are written."""
    for text in (f"1.0e+{MAX_DIGITS - 1}", f'"1e-{MAX_DIGITS}"'):
        catalog = load({"c.yaml": HEAD + ENTRY % f"params: {{quantity: {text}}}"})
        assert validate(catalog, fakes) == []


@pytest.mark.parametrize("escape", ["\\U00110000", "\\UFFFFFFFF"])
def test_escape_that_is_no_character_is_named(escape):
    """An escape beyond Unicode is a problem at its place, in a value and in a key."""
    for text in (f'version: 1\nmode: "{escape}"\n', f'version: 1\n"{escape}": 1\n'):
        (problem,) = problems(text)
        assert problem.line == 2
        assert problem.message == "an escape beyond the last character"


@pytest.mark.parametrize(
    "text",
    [
        "version: 1\nmode: " + "x" * loading.MAX_CHARACTERS,
        "version: 1\nx: [" + "1," * 4_000 + "]",
        "version: 1\nx: " + "[" * 200_000,
        "version: 1\nx: " + "{a: " * 100_000,
        "version: 1\n" + "".join(f"{' ' * depth}a:\n" for depth in range(1_000)),
        "version: 1\nx: &a [1]\ny: [" + "*a," * 4_000 + "]",
    ],
    ids=["characters", "values", "lists", "maps", "indented", "references"],
)
def test_absurd_size_is_refused_in_bounded_time(text, monkeypatch):
    """Too many characters, values or levels are a problem, soon."""
    monkeypatch.setattr(marked_yaml, "MAX_VALUES", 3_000)
    began = time.process_time()
    assert problems(text)
    assert time.process_time() - began < 20


def test_error_of_the_kernel_itself_is_a_problem_of_the_catalog(monkeypatch):
    """Whatever reading or checking raises, also for want of memory or stack, is a problem that says so."""
    for error in (RecursionError("too deep"), MemoryError(), KeyError("x")):
        monkeypatch.setattr(loading, "parse", lambda *_, error=error: (_ for _ in ()).throw(error))
        (problem,) = problems("version: 1")
        assert problem.file == "c.yaml"
        assert type(error).__name__ in problem.message


@pytest.mark.parametrize("version", [">=" + 5000 * "9", ">=" + 5000 * "9" + "!1", "~=1"])
def test_version_range_that_cannot_be_read_is_a_problem(version):
    """A range of thousands of digits is refused as one that is misspelled, in an entry and in `plugins.allow`."""
    (problem,) = problems(HEAD + ENTRY % f'version: "{version}"')
    assert problem.key == "strategies[0].version"
    (problem,) = problems(f'version: 1\nplugins: {{allow: ["acme-alpha{version}"]}}\n')
    assert problem.key == "plugins.allow[0]"
