"""The page in a real browser: it draws, complains of nothing, asks nobody, and runs no text."""

import shutil
import subprocess
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from support.waiting import PATIENCE
from torghut_core.research.page import write_page
from torghut_core.timestamps import SECOND

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
T0 = 1_767_623_400 * SECOND


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_a_browser_draws_the_page_without_a_network(tmp_path):
    """Every chart is drawn from the file alone, nothing is logged as an error, and a hostile name stays a name."""
    close = 100 + np.sin(np.arange(300) / 20)
    event_ts = pa.array(T0 + np.arange(300) * SECOND).cast(pa.timestamp("ns", "UTC"))
    prices = dict.fromkeys(("open", "high", "low", "close", "volume"), close)
    head = {"symbol": ["ES"] * 300, "event_ts": event_ts, "window_size": ["PT1S"] * 300}
    names = ("ema12", "ema26", "boll_upper", "boll_lower", "rsi14", "macd", "macd_signal", "macd_hist")
    hostile = "<img src=x onerror=\"document.title='owned'\">"
    fill = {"symbol": "ES", "strategy_id": hostile, "quantity": Decimal(1), "price": Decimal(100), "fee": Decimal(0)}
    page = write_page(
        tmp_path / "page.html",
        title="a run",
        summary={},
        bars=pa.table({**head, **prices}),
        signals=pa.table({**head, **dict.fromkeys(names, close)}),
        fills=[{**fill, "event_ts": T0 + k * SECOND, "side": "buy", "because": hostile} for k in range(3)],
        cash=Decimal(1000),
    )
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--virtual-time-budget=5000", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * PATIENCE, check=True)

    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    assert "<title>a run</title>" in done.stdout
    assert done.stdout.count('<g class="trace boxes"') == 1  # the candles
    assert done.stdout.count('<g class="trace bars"') == 2  # volume and histogram
    assert done.stdout.count('<path class="box"') == 300
    assert done.stdout.count('<g class="point"') == 600
    assert 'data-unformatted="buy (3)"' in done.stdout
