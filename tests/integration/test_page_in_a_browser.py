"""The page in a real browser: it draws, complains of nothing, asks nobody, runs no text, and works by keyboard."""

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from support.browser import BROWSER, open_tab
from torghut_core.research.pages.backtest import Run, write_page
from torghut_core.research.performance.curve import account_curve, bar_series
from torghut_core.research.performance.figures import trading_days
from torghut_core.research.performance.trips import round_trips, trip_arrays
from torghut_core.timestamps import MINUTE

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
T0 = 1_767_623_400_000_000_000
BARS = 30_000
HOSTILE = "</script><img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """The page of three weeks of minutes with 1,000 round trips of two strategies, one with a hostile name and reasons."""
    close = (100 + np.sin(np.arange(BARS) / 400)).round(2)
    event_ts = pa.array(T0 + np.arange(BARS) * MINUTE).cast(pa.timestamp("ns", "UTC"))
    head = {"symbol": ["ES"] * BARS, "event_ts": event_ts, "window_size": ["PT1M"] * BARS}
    prices = dict.fromkeys(("open", "close", "volume"), close) | {"high": close + 0.5, "low": close - 0.5}
    names = ("ema12", "ema26", "boll_upper", "boll_lower", "rsi14", "macd", "macd_signal", "macd_hist")
    fills = []
    for k in range(2_000):
        place = 15 * (k // 2) + 5 * (k % 2)
        fills.append(
            {
                "event_ts": T0 + place * MINUTE,
                "symbol": "ES",
                "strategy_id": HOSTILE if k % 4 < 2 else "calm",
                "side": "sell" if k % 2 else "buy",
                "quantity": Decimal(1),
                "price": Decimal(str(close[place])),
                "fee": Decimal("0.01"),
                "decision_hash": f"{k:012x}" + 52 * "0",
                "because": HOSTILE,
            }
        )
    series = bar_series(pa.table({**head, **prices}))
    curve, trips = account_curve(10_000.0, series, fills), round_trips(fills)
    return write_page(
        tmp_path_factory.mktemp("page") / "page.html",
        Run(
            title=HOSTILE,
            cash=Decimal(10_000),
            bars=series,
            curve=curve,
            days=trading_days(curve.event_ts),
            fills=fills,
            trips=trips,
            arrays=trip_arrays(trips, series),
            signals=pa.table({**head, **dict.fromkeys(names, close)}),
        ),
    )


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with open_tab(tmp_path_factory.mktemp("browser")) as tab:
        yield tab


@pytest.fixture
def tab(browser, path):
    """A tab that shows the page, drawn; what goes wrong in it fails the test."""
    browser.show()
    browser.open(path)
    browser.until("document.querySelector('tbody tr[tabindex]') !== null")
    browser.frame()
    yield browser
    assert browser.errors == []
    assert browser.js("document.title") != "owned"


def pictured(tab, place):
    """How many colours a chart is painted in: 1 where nothing is drawn."""
    return tab.js(
        f"Math.max(...Array.from(document.querySelectorAll('#{place} canvas'), canvas => canvas.width * canvas.height ? new Set(new "
        "Uint32Array(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size : 0))"
    )


def note(tab):
    return tab.js("document.getElementById('market-note').textContent")


def test_every_chart_is_drawn_without_a_network(tab):
    """Equity, drawdown and market are painted from the file alone; indicators once they are asked for."""
    assert all(pictured(tab, place) > 5 for place in ("equity-chart", "drawdown-chart", "price-chart", "profits"))
    tab.js("document.querySelectorAll('#indicators input').forEach(input => input.checked || input.click())")
    tab.frame()
    assert all(pictured(tab, place) > 5 for place in ("rsi-chart", "macd-chart"))


def test_hostile_text_stays_text(tab):
    """A strategy and its reasons may be any text: it is seen as it is, in the table, the chips and the tips."""
    assert tab.js("document.querySelectorAll('img').length") == 0
    assert HOSTILE in tab.js("document.querySelector('h1').textContent")
    assert HOSTILE in tab.js("document.getElementById('strategies').textContent")
    assert (
        tab.js(
            "Array.from(document.querySelectorAll('tbody tr[tabindex] td:first-child'), cell => cell.textContent)"
        ).count(HOSTILE)
        > 5
    )


def test_the_bars_follow_the_zoom_by_keyboard(tab):
    """A chart that has the focus zooms by plus and minus, and closer in the bars are shorter; 0 shows all."""
    assert "bars of 1Hour" in note(tab)
    tab.js("document.getElementById('price-chart').focus()")
    for _ in range(12):
        tab.key("+", "+")
    assert "bars of 1Min" in note(tab)
    tab.key("0", "0")
    for _ in range(3):
        tab.frame()
    assert "bars of 1Hour" in note(tab)


def test_fills_that_are_close_are_drawn_together_and_it_says_so(tab):
    """Thousands of marks would hide the market: the whole has few, and its parts each of them."""
    assert "2,000 fills in view, drawn together" in tab.js("document.getElementById('marks').textContent")


def test_round_trips_are_sorted_filtered_and_found(tab):
    """By a click on a heading, by strategy and result, and by a word of the reason or the id that `explain` takes."""
    profits = "Array.from(document.querySelectorAll('tbody tr[tabindex] td.n.good, tbody tr[tabindex] td.n.bad'), cell => cell.textContent)"
    count = "document.querySelector('[aria-live]').textContent"
    assert tab.js(count).startswith("1,000 round trips")
    tab.js("Array.from(document.querySelectorAll('th button')).find(each => each.textContent === 'profit').click()")
    assert tab.js("document.querySelector('th[aria-sort]').textContent") == "profit"
    shown = [float(text) for text in tab.js(profits)[1::2]]
    assert shown == sorted(shown, reverse=True)
    tab.js(
        "const search = document.querySelector('[type=search]'); search.value = '0000000003e8'; search.dispatchEvent(new Event('input'))"
    )
    assert tab.js(count).startswith("1 round trips")
    assert tab.js("document.querySelector('.id').textContent") == "0000000003e8"


def test_a_round_trip_is_shown_in_the_market(tab):
    """Enter on its row takes the market to its time, in bars that show it."""
    tab.js("document.querySelector('tbody tr[tabindex]').focus()")
    tab.key("Enter", "\r")
    tab.frame()
    assert "bars of 1Min" in note(tab)
    assert tab.js("document.activeElement.id") == "price-chart"


def test_the_reader_chooses_the_colours(tab):
    """By what the system prefers, or by the switch; the charts follow."""
    panel = "getComputedStyle(document.querySelector('section')).backgroundColor"
    light = tab.js(panel)
    tab.show(scheme="dark")
    dark = tab.js(panel)
    tab.js("document.querySelector('[name=theme][value=light]').click()")
    assert tab.js(panel) == light != dark
    tab.js("document.querySelector('[name=theme][value=auto]').click()")
    assert tab.js(panel) == dark


def test_a_phone_shows_the_page_in_its_width(tab):
    """Nothing but tables and the heat map is wider than the screen, and these scroll by themselves."""
    tab.show(width=390, height=800)
    assert tab.js("document.documentElement.scrollWidth") <= 390


def test_the_page_can_be_printed(tab, tmp_path):
    """Print is light, without buttons, and gives pages."""
    tab.pdf(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").stat().st_size > 50_000
    assert tab.js("document.documentElement.dataset.theme") == "auto"
