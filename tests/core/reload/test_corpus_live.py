"""Every broken catalog of the corpus, applied by a loop that trades."""

from pathlib import Path

import pytest

from torghut_core import catalog as catalogs
from torghut_core.errors import CatalogError
from torghut_core.reload.plan import ReloadOutcome

CORPUS = Path(__file__).parents[2] / "corpus" / "catalogs"
CASES = sorted(path for path in CORPUS.iterdir() if path.is_dir() or path.suffix == ".yaml")
FLIP = "strategies:\n  - {name: flip, use: flip, base_timeframe: 1Min, symbols: [ES]}\n"


def test_corpus_is_large_enough():
    """There are at least forty broken catalogs."""
    assert len(CASES) >= 40


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_trading_continues_and_the_next_good_catalog_is_applied(case, live, monkeypatch):
    """The status has each problem in the expected words, the right strategies trade, and the fixed catalog clears it.

    Of files that are refused as a whole it has what they are refused for; `catalog validate` has the rest too.
    """
    monkeypatch.chdir(CORPUS)
    loop = live(FLIP)
    assert loop.trade(3)
    try:
        files = catalogs.read(case.name)
    except CatalogError as error:
        loop.reloader.refuse(error)
    else:
        loop.apply(dict(files))
    expected = (CORPUS / f"{case.stem}.txt").read_text(encoding="utf-8").splitlines()
    shown = set("\n".join(loop.status.problems).splitlines())
    if loop.status.outcome is ReloadOutcome.REFUSED:
        assert shown
        assert shown <= set(expected)
    else:
        assert set(expected) <= shown
    assert not loop.status.is_good
    kept = "flip" in loop.engine.roster.states()
    loop.trade(3)
    assert not loop.engine.roster.quarantined
    good = {"trading.yaml": live_text()}
    assert loop.apply(good).is_good
    assert loop.trade(3)
    assert kept or "flip" in loop.engine.roster.states()


def live_text():
    return (
        """
version: 1
pipelines:
  trading:
    source: {use: replay}
    stages: [{use: microbars}]
    broker: {use: simulated}
"""
        + FLIP
    )
