"""The promises of handlers: when each is called, what it is given, what its answers lead to; the same in any batches."""

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torghut_brokers.simulated import Simulated
from torghut_testing import bar_batch

from support.effort import examples
from support.generations import generation, instance, with_signals
from torghut_core.audit import MemoryAuditStore
from torghut_core.model.market import Batch, Quotes, SymbolTable, Trades
from torghut_core.model.timers import every
from torghut_core.model.trading import OrderState
from torghut_core.ports import Strategy
from torghut_core.timestamps import MINUTE
from torghut_core.trading.engine import Engine
from torghut_core.trading.gates import Gates

START = 1_767_571_200 * 1_000_000_000


class Noting(Strategy):
    """Notes what its handlers are given."""

    columns = ("ema12",)
    state = ("seen",)

    def __init__(self):
        super().__init__(self.Params())
        self.seen = []


def engine_of(*strategies, symbols=("AA", "BB", "CC"), broker=None, **fields):
    instances = [instance(f"s{number}", each, symbols, **fields) for number, each in enumerate(strategies)]
    audit = MemoryAuditStore()
    broker = broker or Simulated(Simulated.Params(cash=Decimal(100_000), fees={"*": {"bps": 1}}))
    engine = Engine(generation(*instances, broker=broker), "test-1", audit, Gates(trading_enabled=True))
    return engine, audit


def bars_of(rows):
    """One-minute bars of (symbol, minute, close), in order of their ends."""
    return [
        (symbol, START + minute * MINUTE, close, close + 1, close - 1, close, 100.0) for symbol, minute, close in rows
    ]


def market(minutes, symbols=("AA", "BB", "CC")):
    """A bar of each symbol in each minute."""
    return bars_of(
        (name, minute, 100.0 + (minute + 2 * i) % 5) for minute in range(minutes) for i, name in enumerate(symbols)
    )


def trade(engine, rows, cuts=(), reloads=()):
    """Trade on the bars, cut into batches; at some of the cuts the same strategies go on in another generation."""
    batch = bar_batch(rows, "1Min")
    for position in sorted({*cuts, *reloads}):
        if batch.start < position < batch.stop:
            head, batch = batch.split(position)
            engine.step(filled(head))
            if position in reloads:
                engine.adopt(
                    generation(*engine.generation.strategies, broker=engine.generation.broker, number=position)
                )
    engine.step(filled(batch))
    return engine.digest


def filled(batch):
    with_signals(batch)
    bars = batch.bars
    for name in ("open", "high", "low", "volume", "end"):
        getattr(batch.signals, name)[:] = getattr(bars, name)
    return batch


class Rotation(Noting):
    """Holds the symbol with the highest close."""

    def on_slice(self, slice, context):
        self.seen.append((context.now, slice.symbols, [row.close for row in slice.values()]))
        best = max(slice, key=lambda symbol: slice[symbol].close)
        leave = [context[symbol].close(because="no longer the strongest") for symbol in context if symbol != best]
        return [*leave, context[best].target(1, because="the strongest")]


def test_slice_has_all_symbols_of_one_time_once_the_next_event_is_known():
    """It is shown right before that event, with the rows by symbol, whatever their order in the stream was."""
    strategy = Rotation()
    engine, _ = engine_of(strategy)
    rows = bars_of([("CC", 0, 3.0), ("AA", 0, 1.0), ("BB", 0, 2.0), ("BB", 1, 5.0)])
    trade(engine, rows)
    assert strategy.seen == [(START + MINUTE, ("AA", "BB", "CC"), [1.0, 2.0, 3.0])]


def test_slice_lacks_symbols_without_a_row():
    """A symbol that had no bar is not in it, and its context is there nevertheless."""
    strategy = Rotation()
    engine, audit = engine_of(strategy)
    trade(engine, bars_of([("AA", 0, 1.0), ("BB", 1, 2.0), ("CC", 2, 3.0)]))
    assert [symbols for _, symbols, _ in strategy.seen] == [("AA",), ("BB",)]
    audit.commit()
    assert {row["symbol"] for row in audit.decisions()} == {"AA", "BB"}


def test_list_of_decisions_is_decided_in_its_order():
    """Each is judged with the ones before it already sent."""
    engine, audit = engine_of(Rotation())
    trade(engine, market(20))
    audit.commit()
    assert engine.totals.fills > 4
    assert all(row["params"]["handler"] == "on_slice" for row in audit.decisions())


class Both(Noting):
    """Notes rows and slices."""

    def on_slice(self, slice, context):
        self.seen.append(slice.symbols)

    def on_signal(self, signal, context):
        self.seen.append(signal.symbol)


def test_rows_follow_their_slice_by_symbol():
    """`on_slice`, then `on_signal` for each of its rows."""
    strategy = Both()
    engine, _ = engine_of(strategy)
    trade(engine, bars_of([("BB", 0, 1.0), ("AA", 0, 1.0), ("AA", 1, 1.0)]))
    assert strategy.seen == [("AA", "BB"), "AA", "BB"]


class Twice(Noting):
    """Buys in equal parts."""

    def on_signal(self, signal, context):
        return [context.buy(1, because="one"), None, context.buy(1, because="another")] if context.is_flat else None


def test_equal_decisions_of_a_row_are_numbered():
    """The second has `n` in its parameters, so its hash and its order are its own."""
    engine, audit = engine_of(Twice(), symbols=("AA",))
    trade(engine, market(3, ("AA",)))
    audit.commit()
    decisions = audit.decisions()
    assert [row["params"].get("n") for row in decisions] == [None, "2"]
    assert len({row["decision_hash"] for row in decisions}) == engine.totals.fills == 2


@pytest.mark.parametrize("wrong", [[1], ["buy"], [None, object()]])
def test_one_wrong_item_of_a_list_is_none_of_it(wrong):
    """The strategy is quarantined, and nothing of the list is decided."""

    class Wrong(Noting):
        def on_signal(self, signal, context):
            return [context.buy(1, because="right"), *wrong]

    engine, _ = engine_of(Wrong(), symbols=("AA",))
    trade(engine, market(3, ("AA",)))
    assert (engine.totals.decisions, list(engine.roster.quarantined)) == (0, ["s0"])


def test_slice_decides_on_symbols_of_its_entry_alone():
    """A context of another symbol is not there, and the error says which are."""

    class Astray(Noting):
        def on_slice(self, slice, context):
            return context["ZZ"].buy(1, because="no")

    engine, _ = engine_of(Astray())
    trade(engine, market(3))
    assert "'ZZ' is no symbol of s0 (it has AA, BB, CC)" in engine.roster.quarantined["s0"]


class Seller(Noting):
    """Buys at each row when flat, and sells in the handler of the fill."""

    def on_signal(self, signal, context):
        self.seen.append(("row", signal.symbol, context.now, context.position.quantity))
        return context.buy(1, because="flat") if context.is_flat else None

    def on_fill(self, fill, context):
        self.seen.append(("fill", fill.symbol, context.now, context.position.quantity))
        return context.close(because="it was filled") if context.is_long else None

    def on_order(self, order, context):
        self.seen.append((order.state, order.intent.symbol, context.now, context.position.quantity))


def test_fill_is_handed_out_at_its_event_before_the_rows_there():
    """The position has the fill, the order is as it is after it, and the answer is sent there."""
    strategy = Seller()
    engine, audit = engine_of(strategy, symbols=("AA",))
    trade(engine, market(3, ("AA",)))
    first, second, third = (START + minute * MINUTE for minute in (1, 2, 3))
    assert [(kind, now, held) for kind, _, now, held in strategy.seen] == [
        ("row", first, 0), (OrderState.ACCEPTED, first, 0),
        ("fill", second, 1), (OrderState.FILLED, second, 1), (OrderState.ACCEPTED, second, 1), ("row", second, 1),
        ("fill", third, 0), (OrderState.FILLED, third, 0), ("row", third, 0), (OrderState.ACCEPTED, third, 0),
    ]  # fmt: skip
    audit.commit()
    assert [row["params"].get("handler") for row in audit.decisions()] == [None, "on_fill", None]


class Failing(Seller):
    """Fails in one handler."""

    def on_order(self, order, context):
        raise RuntimeError("no idea")


def test_failing_handler_quarantines_its_strategy_alone():
    """By name; the other one trades as if it were not there."""
    alone, _ = engine_of(Seller())
    trade(alone, market(10))
    engine, _ = engine_of(Seller(), Failing())
    trade(engine, market(10))
    assert engine.roster.quarantined == {"s1": "RuntimeError: no idea"}
    assert engine.totals.strategies["s0"].fills == alone.totals.strategies["s0"].fills


class Lookback(Noting):
    """Notes the last bars at each row and each fill, and trades on them."""

    history = {"1Min": 3, "5Min": 2}  # noqa: RUF012

    def on_signal(self, signal, context):
        bars, other = context.history(3), context.history(2, symbol="BB")
        self.seen.append(
            (signal.symbol, signal.event_ts, bars.close.tolist(), bars.event_ts.tolist(), other.close.tolist())
        )
        assert bars.event_ts[-1] == signal.event_ts
        assert bars.close[-1] == signal.close
        if context.is_flat and len(bars) == 3 and bars.close[-1] > bars.close[0]:
            return context.buy(1, because="it rises")
        return context.close(because="it no longer rises")

    def on_fill(self, fill, context):
        self.seen.append((fill.side, context.history(1).event_ts.tolist(), context.event_ts))


def test_history_has_the_last_bars_up_to_the_row():
    """As many as there are until it has enough, oldest first; of another symbol those that are known."""
    strategy = Lookback()
    engine, _ = engine_of(strategy, symbols=("AA", "BB"))
    trade(
        engine,
        bars_of([("AA", 0, 1.0), ("BB", 0, 7.0), ("AA", 1, 2.0), ("BB", 1, 8.0), ("AA", 2, 3.0), ("AA", 3, 4.0)]),
    )
    rows = [seen for seen in strategy.seen if len(seen) == 5]
    assert [closes for symbol, _, closes, _, _ in rows if symbol == "AA"] == [
        [1.0], [1.0, 2.0], [1.0, 2.0, 3.0], [2.0, 3.0, 4.0]
    ]  # fmt: skip
    assert [other for symbol, *_, other in rows if symbol == "AA"] == [[], [7.0], [7.0, 8.0], [7.0, 8.0]]


def test_history_is_read_only_and_stays_as_it_was():
    """What a strategy keeps of it does not change with later bars, and nobody writes to it."""
    kept = []

    class Keeper(Noting):
        history = 2

        def on_signal(self, signal, context):
            kept.append(context.history(2))

    engine, _ = engine_of(Keeper(), symbols=("AA",))
    rows = market(40, ("AA",))
    trade(engine, rows, range(1, 40))
    closes = [row[5] for row in rows]
    assert [bars.close.tolist() for bars in kept] == [closes[max(0, n - 1) : n + 1] for n in range(40)]
    with pytest.raises(ValueError, match="read-only"):
        kept[0].close[0] = 1.0


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda context: context.history(4), "history(4) of 1Min: s0 declares 3 of 1Min, 2 of 5Min"),
        (lambda context: context.history(3, "5Min"), "history(3) of 5Min: s0 declares 3 of 1Min, 2 of 5Min"),
        (lambda context: context.history(1, "1Hour"), "history(1) of 1Hour"),
        (lambda context: context.history(0), "history(0) of 1Min"),
        (lambda context: context.history(1, symbol="ZZ"), "history of 'ZZ': it is no symbol of s0 (it has AA)"),
    ],
)
def test_history_that_was_not_declared_is_refused(ask, message):
    """The error says what is declared and how to declare more."""

    class Asking(Lookback):
        def on_signal(self, signal, context):
            ask(context)

    engine, _ = engine_of(Asking(), symbols=("AA",))
    trade(engine, market(3, ("AA",)))
    assert message in engine.roster.quarantined["s0"]


def test_strategy_without_history_learns_how_to_declare_it():
    """No bars are kept for it."""

    class Asking(Noting):
        def on_signal(self, signal, context):
            context.history(20)

    engine, _ = engine_of(Asking(), symbols=("AA",))
    trade(engine, market(3, ("AA",)))
    assert "s0 declares no history (write `history = 20` in the strategy)" in engine.roster.quarantined["s0"]


class Timed(Noting):
    """Notes its timers, and rebalances at one of them."""

    timers = (every("5Min"), every("1Day", at="00:07", name="seven past midnight"))

    def on_timer(self, timer, context):
        held = [context[symbol].position.quantity for symbol in context]
        self.seen.append((timer.name, timer.moment, context.now, held))
        if timer.name == "5Min":
            return [context[symbol].target(timer.moment // MINUTE % 3, because="a rebalance") for symbol in context]
        return None


def test_timer_is_called_at_the_first_event_at_or_after_its_moment():
    """Before the rows there; a moment that passes in a gap is called once, late, and says when it was."""
    strategy = Timed()
    engine, audit = engine_of(strategy, symbols=("AA",))
    trade(engine, bars_of([("AA", minute, 100.0) for minute in (0, 1, 3, 4, 5, 23)]))
    called = [(name, (moment - START) // MINUTE, (now - START) // MINUTE) for name, moment, now, _ in strategy.seen]
    assert called == [("5Min", 5, 5), ("seven past midnight", 7, 24), ("5Min", 20, 24)]
    audit.commit()
    assert {row["params"]["handler"] for row in audit.decisions()} == {"on_timer"}


def test_timer_needs_no_rows():
    """A tick of the clock is enough."""
    strategy = Timed()
    engine, _ = engine_of(strategy, symbols=("AA",))
    engine.step(Batch.of(SymbolTable(), 0, START + MINUTE * np.array([0, 4, 5, 6, 8])))
    assert [(name, now - START) for name, _, now, _ in strategy.seen] == [
        ("5Min", 5 * MINUTE), ("seven past midnight", 8 * MINUTE)
    ]  # fmt: skip


class Starting(Noting):
    """Notes its start, trades and quotes."""

    def on_start(self, context):
        self.seen.append(("start", context.now, [*context]))

    def on_signal(self, signal, context):
        self.seen.append(("row", context.now))

    def on_trade(self, trade, context):
        self.seen.append((trade.symbol, trade.event_ts, trade.price, trade.size, context.now))

    def on_quote(self, quote, context):
        self.seen.append((quote.symbol, quote.bid_price, quote.ask_size, context.now))


def test_start_comes_before_everything_and_once():
    """At the first event that it trades on; a reload that keeps it does not start it again."""
    strategy = Starting()
    engine, _ = engine_of(strategy, symbols=("AA", "BB"))
    trade(engine, market(6, ("AA",)), reloads=(2, 4))
    assert strategy.seen[0] == ("start", START + MINUTE, ["AA", "BB"])
    assert [kind for kind, *_ in strategy.seen].count("start") == 1


@pytest.mark.parametrize("size", [1, 2, 7])
def test_trades_and_quotes_come_one_by_one(size):
    """Of its own symbols, those that say something about the price, each at its event."""
    strategy = Starting()
    engine, _ = engine_of(strategy, symbols=("AA", "BB"))
    symbols = SymbolTable()
    aa, zz = symbols.number("AA"), symbols.number("ZZ")
    times = START + np.arange(7)
    trades = Trades.from_columns(
        at=[0, 2, 3], event_ts=times[[0, 2, 3]], symbol=[aa, zz, aa], price=[1.0, 2.0, 3.0], size=[4, 5, 6]
    )
    quotes = Quotes.from_columns(
        at=[1, 4, 5], event_ts=times[[1, 4, 5]], symbol=[aa, aa, zz],
        bid_price=[1.0, np.nan, 1.0], bid_size=[1, 1, 1], ask_price=[1.001, 2.0, 1.001], ask_size=[9, 9, 9],
    )  # fmt: skip
    rest = Batch.of(symbols, 0, times, trades, quotes)
    for position in range(size, 7, size):
        part, rest = rest.split(position)
        engine.step(part)
    engine.step(rest)
    assert strategy.seen[1:] == [
        ("AA", START, 1.0, 4.0, START), ("AA", 1.0, 9.0, START + 1), ("AA", START + 3, 3.0, 6.0, START + 3)
    ]  # fmt: skip


class Stopping(Noting):
    """Notes its end."""

    def on_signal(self, signal, context): ...

    def on_stop(self, context):
        self.seen.append(("stop", context.now, context["AA"].price))


@pytest.mark.parametrize("stays", [True, False])
def test_stop_is_called_when_a_reload_takes_a_strategy_out(stays):
    """At the loop's time, once; one that stays is not stopped."""
    strategy = Stopping()
    engine, _ = engine_of(strategy, symbols=("AA",))
    trade(engine, market(3, ("AA",)))
    instances = engine.generation.strategies if stays else ()
    engine.adopt(generation(*instances, broker=engine.generation.broker, number=2))
    assert strategy.seen == ([] if stays else [("stop", START + 3 * MINUTE, 102.0)])


def endless(*_):
    while True:
        pass


@pytest.mark.parametrize("handler", ["on_slice", "on_signal", "on_fill", "on_order", "on_timer", "on_start"])
def test_endless_handler_is_interrupted_and_the_others_trade_on(handler):
    """Its strategy is quarantined by the watchdog, whatever it was called for."""
    body = {"timers": (every("1Min"),)} if handler == "on_timer" else {}
    if handler in ("on_fill", "on_order"):
        body["on_signal"] = lambda _self, _signal, context: (
            context.buy(1, because="a fill") if context.is_flat else None
        )
    other = Seller()
    engine, _ = engine_of(type("Endless", (Noting,), {**body, handler: endless})(), other, symbols=("AA",))
    watchdog = engine.watchdog(0.1)
    with watchdog.installed(), watchdog.batch():
        trade(engine, market(6, ("AA",)))
    assert engine.roster.quarantined["s0"].startswith("Overrun: ")
    assert [kind for kind, *_ in other.seen].count("row") == 6


STRATEGIES = (Rotation, Both, Twice, Seller, Lookback, Timed, Starting)


@examples(40)
@given(
    minutes=st.lists(st.lists(st.sampled_from("ABC"), min_size=1, max_size=3, unique=True), min_size=3, max_size=12),
    cuts=st.sets(st.integers(1, 36)),
    reloads=st.sets(st.integers(1, 36), max_size=3),
)
def test_any_batches_and_reloads_give_the_same_calls_and_the_same_books(minutes, cuts, reloads):
    """Whatever symbols have bars, in whatever order, and wherever the stream is cut or the catalog is read again."""
    rows = bars_of(
        (name * 2, minute, 100.0 + ord(name) % 5 + minute * (ord(name) % 3 - 1))
        for minute, names in enumerate(minutes)
        for name in names
    )
    results = []
    for parts, points in (((), ()), (cuts, reloads), (range(1, 36), ())):
        strategies = [cls() for cls in STRATEGIES]
        engine, _ = engine_of(*strategies)
        results.append(
            (trade(engine, rows, parts, points), [each.seen for each in strategies], engine.roster.quarantined)
        )
    assert results[0] == results[1] == results[2]
    assert not results[0][2]
