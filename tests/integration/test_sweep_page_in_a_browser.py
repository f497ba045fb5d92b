"""The page of a sweep in a real browser: everything is drawn, nobody is asked, and no text of a catalog runs."""

import itertools

import pytest

from support.browser import BROWSER, open_tab
from torghut_core.research.sweeps.page import write_sweep
from torghut_core.research.sweeps.results import Objective, SweepResult
from torghut_core.research.sweeps.search import Axis
from torghut_core.research.sweeps.sweep import Outcome, Trial

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
HOSTILE = "</script><script>document.title='owned'</script>"


def result(*axes, is_minimized=False):
    """A sweep over these values; one set in five is not valid."""
    trials = []
    for number, values in enumerate(itertools.product(*(axis.values for axis in axes))):
        params = dict(zip([axis.path for axis in axes], values, strict=True))
        gain = float(number % 17 - 8)
        figures = {"sharpe": gain, "total_return_pct": gain / 3}
        is_done = number % 5 != 0 or number == 0
        more = {"figures": figures} if is_done else {"outcome": Outcome.INVALID, "reason": HOSTILE}
        trials.append(Trial(number=number, params=params, **more))
    return SweepResult(
        trials=trials,
        total=len(trials),
        fresh=len(trials),
        objective=Objective("sharpe", is_minimized),
        axes=axes,
        way="on 2 workers",
        is_complete=True,
    )


AXES = (
    Axis("params.fast", "a", ("params", "fast"), tuple(range(5, 35))),
    Axis("params.kind", "a", ("params", "kind"), ("ema", HOSTILE)),
    Axis("params.slow", "a", ("params", "slow"), (20, 50, 100)),
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with open_tab(tmp_path_factory.mktemp("browser")) as tab:
        yield tab


def colors(name):
    """How many colours a drawing has."""
    return (
        f"(canvas => new Set(new Uint32Array(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)"
        f".data.buffer)).size)(document.querySelector('#{name} canvas'))"
    )


def under_the_pointer(name):
    """The text beside the pointer over a drawing, wherever in its middle it has some."""
    return f"""(() => {{
        const place = document.getElementById('{name}'), box = place.getBoundingClientRect(), tip = place.querySelector('.tip');
        for (let x = 0.2; x < 0.9; x += 0.01) for (const y of [0.2, 0.4, 0.6, 0.8]) {{
            place.dispatchEvent(new PointerEvent('pointermove', {{clientX: box.left + x * box.width, clientY: box.top + y * box.height}}));
            if (!tip.hidden) return tip.innerText;
        }}
        return "";
    }})()"""


@pytest.mark.parametrize("axes", [AXES, AXES[:1], AXES[1:2]], ids=["three", "one", "text"])
@pytest.mark.parametrize("is_minimized", [False, True])
def test_everything_is_drawn(browser, tmp_path, axes, is_minimized):
    """Map, lines and distribution are there for one parameter and for several, whatever the values are."""
    write_sweep(tmp_path / "page.html", HOSTILE, result(*axes, is_minimized=is_minimized), {"run_id": HOSTILE}, HOSTILE)
    browser.show()
    browser.open(tmp_path / "page.html")
    browser.until("document.querySelectorAll('.sketch canvas').length === 3")
    for name in ("map", "lines", "spread"):
        browser.until(f"{colors(name)} > 8")
    assert "sharpe" in browser.js(under_the_pointer("map")).lower()
    assert "sets" in browser.js(under_the_pointer("spread"))
    if len(axes) > 1:
        browser.js(
            "document.getElementById('up').value = 2; document.getElementById('up').dispatchEvent(new Event('change'))"
        )
        browser.frame()
        assert "params.slow" in browser.js(under_the_pointer("map"))
    assert browser.errors == []
    assert browser.js("document.title") == HOSTILE
