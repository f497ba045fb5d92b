"""A replay said that a strategy received no signals, and not which feature or symbol was the reason."""

import pyarrow as pa
import pytest

from torghut_core import Strategy
from torghut_core.features import close, sma
from torghut_core.research import backtest
from torghut_core.timestamps import MINUTE


class Averages(Strategy):
    """Never decides."""

    def features(self):
        return {"fast": sma(close, 2), "slow": sma(close, 50), "other": close.of("B"), "late": sma(close, 90).optional}

    def on_signal(self, signal, context):
        return None


class ByTimer(Strategy):
    """Looks at no rows."""

    def features(self):
        return {"slow": sma(close, 50)}

    def on_trade(self, trade, context):
        return None


def bars(*symbols, rows=20):
    table = [(symbol, minute * MINUTE) for minute in range(rows) for symbol in symbols]
    columns = {"symbol": [row[0] for row in table], "event_ts": [row[1] for row in table]}
    return pa.table(columns | dict.fromkeys(("open", "high", "low", "close", "volume"), [100.0] * len(table)))


def reason(strategy, *came, **terms):
    (found,) = backtest(strategy, bars(*came), symbols=["A", "B", "C"], **terms).starved.values()
    return found


def test_values_and_symbols_are_named():
    """Which value was never known in which symbols, and of which symbols no bar came."""
    assert reason(Averages, "A", "B") == (
        "no 1Min bar of C came (check `symbols`, and the `timeframes` of the `resample` stage); "
        "slow had no value in 20 rows of A, B (take a longer tape)"
    )


def test_another_symbol_that_does_not_come_is_named_by_its_value():
    assert "slow and other had no value in 20 rows of A" in reason(Averages, "A")


@pytest.mark.parametrize("size", [1, 7])
def test_batches_make_no_difference(size, monkeypatch):
    from torghut_core.research import notebook

    run = notebook.run_backtest
    monkeypatch.setattr(notebook, "run_backtest", lambda *given, **terms: run(*given, **terms, batch_size=size))
    assert "slow had no value in 20 rows of A, B" in reason(Averages, "A", "B")


def test_one_that_waits_for_no_rows_is_not_starved():
    assert not backtest(ByTimer, bars("A"), symbols=["A"]).starved


def test_one_that_was_shown_rows_is_not_starved():
    assert not backtest(Averages, bars("A", "B", rows=60), symbols=["A", "B"]).starved
