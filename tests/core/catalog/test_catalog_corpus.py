"""Every broken catalog in `tests/corpus/catalogs` is reported in the words of the text beside it."""

from pathlib import Path

import pytest

from torghut_core import catalog as catalogs
from torghut_core.errors import CatalogError
from torghut_core.generation import validate_files

CORPUS = Path(__file__).parents[2] / "corpus" / "catalogs"
CASES = sorted(path for path in CORPUS.iterdir() if path.is_dir() or path.suffix == ".yaml")


def told(path, host):
    """What `torghut catalog validate` says of a catalog."""
    try:
        _, _, problems = validate_files(catalogs.read(path), lambda _allow: host)
    except CatalogError as error:
        problems = error.problems
    return "".join(f"{problem}\n" for problem in problems)


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_broken_catalog_is_reported_in_these_words(case, fakes, monkeypatch):
    """File, line, column, key, what is wrong and how to fix it, for all that is wrong, and nothing else."""
    monkeypatch.chdir(CORPUS)
    assert told(case.name, fakes) == (CORPUS / f"{case.stem}.txt").read_text(encoding="utf-8")


def test_every_expectation_has_its_catalog():
    """Every expected text has its catalog."""
    assert {path.stem for path in CORPUS.glob("*.txt")} == {path.stem for path in CASES}
