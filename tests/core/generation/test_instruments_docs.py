"""docs/instruments.md says what the code does."""

import yaml
from torghut_testing import decision

from support.docs import DOCS, code_of, has_blocks, table, text_of
from torghut_core import Instrument
from torghut_core.catalog import InstrumentEntry, load
from torghut_core.catalog.entries import DEFAULTS_OF_CLASSES
from torghut_core.generation.instruments import Instruments

PAGE = DOCS / "instruments.md"


def test_page_has_the_defaults_of_each_class():
    """What an entry leaves out is what the table says."""
    keys = ("calendar", "tick_size", "quantity_step")
    rows = [
        (f"`{name}`", *(f"`{terms[key]}`" if key in terms else "any" for key in keys))
        for name, terms in DEFAULTS_OF_CLASSES.items()
    ]
    made = table(("class", *(f"`{key}`" for key in keys)), *rows).replace(
        "| any | any | `1`", "| must be given | any | `1`"
    )
    has_blocks(PAGE, {"defaults": made})


def test_page_has_every_key():
    """A line each, in their order."""
    lines = [line for line in text_of(PAGE).splitlines() if line.startswith("| `")]
    assert [line.split("`")[1] for line in lines][: len(InstrumentEntry.model_fields)] == list(
        InstrumentEntry.model_fields
    )


def test_example_of_the_page_is_a_catalog():
    """An equity, a pair and a future, with the terms that the page speaks of."""
    (example, *_) = code_of(PAGE, "yaml")
    terms = Instruments(load({"page.yaml": "version: 1\n" + example}).instruments_in_order)
    assert sorted(yaml.safe_load(example)["instruments"]) == ["AAPL", "BTC/USD", "ES"]
    assert terms["ES"].notional(1, 1640) == 82_000
    assert terms["ES"].notional(1, 1640) * terms["ES"].margin == 4_920
    assert terms["ES"].rounded(decision("buy", "2.5")).quantity == 2
    assert isinstance(terms["AAPL"], Instrument)
