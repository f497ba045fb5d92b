"""docs/cookbook.md: each recipe fits on a screen, and its picture and figures are those of its run. To renew: make docs"""

import importlib
import re
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from support.docs import DOCS, IS_RENEWED, blocks_of, has_blocks, passes, text_of
from torghut_core import Strategy
from torghut_core.research import backtest

PAGE = DOCS / "cookbook.md"
PICTURES = DOCS / "images" / "cookbook"
FILES = dict(re.findall(r"^`([\w./]+)`:\n\n```python\n(.*?)^```$", text_of(PAGE), re.MULTILINE | re.DOTALL))
RECIPES = {name.removesuffix(".py"): text for name, text in FILES.items() if "Strategy)" in text}
SYMBOLS = {"pair": "AAA BBB", "rotation": "AAA BBB CCC DDD"}
"""What is traded, where it is not one symbol."""
NEEDS = {"learner": "sklearn"}
"""What a recipe imports that not everybody has."""
WIDTH, TOP, BELOW, GAP, POINTS = 960, 150, 90, 12, 480


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The backtest of each recipe, and the closes of its first symbol."""
    folder = tmp_path_factory.mktemp("cookbook")
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    done = {}
    before = set(sys.modules)
    sys.path.insert(0, str(folder))

    def once(name):
        if name in NEEDS:
            pytest.importorskip(NEEDS[name], reason="the recipe needs it")
        if name not in done:
            bars = importlib.import_module("made_bars").made_bars(SYMBOLS.get(name, "AAA"))
            found = vars(importlib.import_module(name)).values()
            (recipe,) = (each for each in found if isinstance(each, type) and each.__module__ == name)
            assert issubclass(recipe, Strategy)
            done[name] = backtest(recipe, bars), bars[bars["symbol"] == "AAA"]
        return done[name]

    yield once
    sys.path.remove(str(folder))
    for name in set(sys.modules) - before:
        if f"{name}.py" in FILES:
            del sys.modules[name]


def line(values, top, height):
    """Points of a line over the whole width."""
    place = np.linspace(0, len(values) - 1, POINTS).astype(int)
    shown = np.asarray(values)[place]
    y = top + height * (1 - (shown - shown.min()) / (np.ptp(shown) or 1))
    return " ".join(f"{WIDTH * at / (len(values) - 1):.0f},{each:.1f}" for at, each in zip(place, y, strict=True))


def marks(fills, times, closes):
    """A triangle for each fill in the first symbol."""
    parts, low, reach = [], closes.min(), np.ptp(closes)
    for fill in fills:
        x = WIDTH * np.searchsorted(times, fill["event_ts"]) / len(times)
        y = TOP * (1 - (float(fill["price"]) - low) / reach)
        is_buy = fill["side"] == "buy"
        tip, color = (8, "#26a269") if is_buy else (-8, "#d64550")
        parts.append(f'<path d="M{x:.0f},{y:.0f}l-4,{tip}l8,0z" fill="{color}"/>')
    return "".join(parts)


def picture(done, bars):
    """The price with what was bought and sold, and the equity below."""
    closes, times = bars["close"].to_numpy(), bars.index.as_unit("ns").asi8
    fills = [fill for fill in done.fills() if fill["symbol"] == "AAA"]
    height = TOP + GAP + BELOW
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-4 -4 {WIDTH + 8} {height + 8}">'
        f'<rect x="-4" y="-4" width="{WIDTH + 8}" height="{height + 8}" fill="#fff"/>'
        f'<polyline points="{line(closes, 0, TOP)}" fill="none" stroke="#8d97a5"/>{marks(fills, times, closes)}'
        f'<polyline points="{line(done.curve().equity, TOP + GAP, BELOW)}" fill="none" stroke="#4285d6" stroke-width="2"/>'
        "</svg>\n"
    )


def figures(done):
    """What came out, in a sentence."""
    found = done.statistics
    return (
        f"On three days of made bars: {found['fills']} fills, {found['round_trips']} round trips, fees {found['fees']:,.2f}, "
        f"return {found['total_return_pct']:+.2f} %, deepest drawdown {found['max_drawdown_pct']:.2f} %.\n"
    )


def test_the_recipes_keep_what_they_promise(tmp_path):
    """A reader who copies the files and runs pytest sees green; one who lacks what a recipe needs, that its test is left out."""
    missing = sum(find_spec(module) is None for module in NEEDS.values())
    printed = passes(tmp_path, **FILES)
    assert f"{len(RECIPES) - missing} passed" in printed
    assert (f"{missing} skipped" in printed) == bool(missing)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_fits_on_a_screen(name):
    """In fifty lines, with what it is for in the first."""
    assert len(RECIPES[name].splitlines()) <= 50
    assert RECIPES[name].startswith('"""')


FIRST, *OTHERS = RECIPES


@pytest.mark.parametrize("name", [FIRST, *(pytest.param(name, marks=pytest.mark.proof) for name in OTHERS)])
def test_its_picture_and_figures_are_of_its_run(name, run):
    """With fees and slippage; nothing failed and nothing was denied."""
    done, bars = run(name)
    assert done.totals.failures == done.totals.denials == {}
    has_blocks(PAGE, {name: figures(done)})
    path = PICTURES / f"{name}.svg"
    if IS_RENEWED:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(picture(done, bars), encoding="utf-8")
    assert path.read_text(encoding="utf-8") == picture(done, bars)


def test_every_block_is_of_a_recipe():
    """And each recipe has its picture on the page."""
    assert set(blocks_of(PAGE)) == set(RECIPES)
    assert re.findall(r"\(images/cookbook/(\w+)\.svg\)", text_of(PAGE)) == list(RECIPES)
