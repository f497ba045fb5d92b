"""The page's table of the rules of `torghut plugin check` is that of the code."""

from torghut_testing.plugin_check import RULES

from support.docs import DOCS, has_blocks, table


def test_page_has_every_rule():
    """Level, name and promise of each rule, in the order in which they are shown."""
    rows = [(level, f"`{name}`", " ".join(look.__doc__.split()).rstrip(".")) for level, name, look in RULES]
    has_blocks(DOCS / "write-a-strategy.md", {"rules": table(("level", "rule", "it passes if"), *rows)})
