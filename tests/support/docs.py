"""Pages that are checked by tests: their tables are made of the code, and their examples run.

A table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``. `make docs` writes all of them anew.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import pytest.__main__

from support.effort import many
from support.processes import run

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"(<!-- (?:table: )?(\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
PROFILE = f"""
from hypothesis import settings
settings.register_profile("as here", max_examples={many(100)}, deadline=None)
settings.load_profile("as here")
"""
IS_RENEWED = "RENEW_DOCS" in os.environ
"""Whether pages are written, and not compared."""


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def table(*rows: tuple[str, ...]) -> str:
    """Rows of cells as a table of Markdown; the first is its head."""
    head, *body = (f"| {' | '.join(row)} |\n" for row in rows)
    return f"{head}{'| --- ' * len(rows[0])}|\n{''.join(body)}"


def blocks_of(page: Path) -> dict[str, str]:
    """What stands in the named blocks of a page."""
    return {block[2]: block[3] for block in BLOCK.finditer(text_of(page))}


def code_of(page: Path, language: str) -> list[str]:
    """The blocks of code of a language on a page."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text_of(page), re.MULTILINE | re.DOTALL)


def has_blocks(page: Path, made: Mapping[str, str]) -> None:
    """Compare named blocks of a page with what is made of the code; all others are left as they are."""
    text = text_of(page)
    renewed = BLOCK.sub(lambda block: f"{block[1]}{made[block[2]]}{block[4]}" if block[2] in made else block[0], text)
    if IS_RENEWED:
        page.write_text(renewed, encoding="utf-8")
    else:
        assert text == renewed, f"{page.name} is not what the code says (run: make docs)"


def passes(folder: Path, **files: str) -> str:
    """Run tests of a page in a folder, as who copies them from the page and has the kit would; give what pytest says.

    Properties try as many examples as those of this run.
    """
    for name, text in (files | {"conftest.py": PROFILE}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    plugins = ("-p", "no:cacheprovider", "-p", "torghut_testing.pytest_plugin")
    done = run("-q", *plugins, script=pytest.__main__.__file__, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
