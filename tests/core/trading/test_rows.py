"""The rows of a batch on their way to strategies: in stream order, each with the columns that its strategy reads."""

from types import SimpleNamespace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from support.generations import instance, signal_batch
from torghut_core.ports import Strategy
from torghut_core.timestamps import MINUTE
from torghut_core.trading.subscription import Subscription, rows_of

COLUMNS = ((), ("ema12",), ("ema12", "rsi14"))


def subscription(name, symbols, columns):
    strategy = SimpleNamespace(columns=columns, on_signal=Strategy.on_signal)
    return Subscription(instance(name, strategy, symbols=tuple(symbols)))


@given(
    bars=st.lists(st.tuples(st.sampled_from("ABC"), st.booleans()), min_size=1, max_size=30),
    wanted=st.lists(st.tuples(st.sets(st.sampled_from("ABC")), st.sampled_from(COLUMNS)), min_size=1, max_size=5),
    start=st.sampled_from([0, 500]),
)
def test_rows_come_in_stream_order_and_strategies_as_given(bars, wanted, start):
    """With one strategy or several, of the same columns or others, that share symbols or not."""
    rows = [(symbol, number * MINUTE, *[100.0 + number] * 4, 1.0) for number, (symbol, _) in enumerate(bars)]
    batch = signal_batch(rows, ema12=np.arange(float(len(bars))))
    batch.start += start
    batch.signals.at[:] += start
    batch.signals.rsi14[:] = [50.0 if has_value else np.nan for _, has_value in bars]
    subscriptions = [subscription(f"s{number}", *each) for number, each in enumerate(wanted)]
    parts = [(each, index) for each in subscriptions if len(index := each.select(batch))]
    expected = [
        (each.name, symbol, number * MINUTE, each.instance.columns, start + number, 100.0 + number)
        for number, (symbol, has_value) in enumerate(bars)
        for each in subscriptions
        if symbol in each.symbols and (has_value or "rsi14" not in each.instance.columns)
    ]
    shown = rows_of(batch, parts, lambda strategy, symbol: (strategy, symbol)) if parts else ()
    seen = []
    for each, signal, view, at, now, close in shown:
        assert view == (each.name, signal.symbol)
        assert now == batch.now[at - batch.start]
        assert [getattr(signal, column) for column in each.instance.columns] == [float(at - start), 50.0][
            : len(each.instance.columns)
        ]
        seen.append((each.name, signal.symbol, signal.event_ts, signal.__struct_fields__[2:], at, close))
    assert seen == expected
