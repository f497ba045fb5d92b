"""docs/reload.md has the tables of `catalog_diff`. To renew it: make docs."""

from typing import get_args

from support.docs import DOCS, ROOT, blocks_of, has_blocks, table, text_of
from torghut_core.catalog import Catalog, OnRemove, load
from torghut_core.catalog.diff import FIELDS, ON_REMOVE, Timing, diff
from torghut_core.catalog.watch import CatalogWatch

PAGE = DOCS / "reload.md"

CLASSES = {
    Timing.HOT: "with the swap to the next generation, also while positions are held",
    Timing.WHEN_FLAT: "once the strategy holds no position; until then the old value holds",
    Timing.RESTART: "when the process is started again; until then the old value holds",
}


def example():
    """A difference to the catalog of `make demo`, as an operator sees it."""
    old = (ROOT / "catalog" / "trading.yaml").read_text(encoding="utf-8")
    new = old.replace("rsi_buy: 45", "rsi_buy: 40").replace('cash: "500000"', 'cash: "50000"')
    first, second = new.index("  - name: ema-cross-es"), new.index("  - name: macd-rsi-es")
    new = new[:first] + new[second:].replace("base_timeframe: 1Min", "base_timeframe: 1Sec", 1)
    return f"```text\n{diff(load({'old': old}), load({'new': new})).to_text()}\n```\n"


def made():
    """What the blocks of the page have to be."""
    return {
        "example": example(),
        "classes": table(("class", "takes effect"), *((f"`{timing}`", words) for timing, words in CLASSES.items())),
        "fields": table(
            ("field", "class", "how"),
            *((f"`{field}`", f"`{rule.timing}`", rule.effect) for field, rule in FIELDS.items()),
        ),
        "on_remove": table(
            ("`on_remove`", "the position is"), *((f"`{value}`", words) for value, words in ON_REMOVE.items())
        ),
    }


def test_page_has_the_tables_of_the_module():
    """The operator's page says of every field what the kernel's table says, and shows a real difference."""
    assert blocks_of(PAGE).keys() == made().keys()
    has_blocks(PAGE, made())


def test_page_has_every_value_of_the_catalog():
    """No value of `on_invalid` or `on_remove`, and no class, is missing from the page's tables."""
    page = text_of(PAGE)
    on_invalid = get_args(Catalog.model_fields["on_invalid"].annotation)
    for value in (*on_invalid, *get_args(OnRemove), *Timing):
        assert f"\n| `{value}` | " in page


def test_page_has_the_defaults_of_the_watch():
    """The times on the page are those of the watch."""
    defaults = CatalogWatch.__init__.__kwdefaults__
    page = text_of(PAGE)
    assert f"for {defaults['settle_seconds']:g} s" in page
    assert f"`TRADING_STRATEGY_RELOAD_SECONDS` ({defaults['poll_seconds']:g})" in page
