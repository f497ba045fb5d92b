"""Random input: rows for strategies, event streams for stages, decisions and contexts for rules."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
from hypothesis import strategies as st

from torghut_core import (
    DAY,
    SECOND,
    TIMEFRAMES,
    Bars,
    Batch,
    Bracket,
    Decision,
    Limits,
    OpenOrder,
    OrderType,
    Quotes,
    RiskContext,
    Side,
    Signals,
    SymbolTable,
    Trades,
    signal_type,
)
from torghut_testing.builders import (
    EVENT_TS,
    NO_FEATURES,
    NOW,
    OTHER_STRATEGY,
    STRATEGY,
    decision,
    risk_context,
)
from torghut_testing.strategy_loop import Row

SYMBOLS = ("BTC/USD", "ETH/USD")
BAR_STEP = 5 * SECOND
MOST_ROWS = 500_000
"""Of a symbol: more take too long."""


def random_rows(
    columns: Sequence[str],
    seed: int,
    count: int = 600,
    *,
    symbols: Sequence[str] = SYMBOLS,
    price: float = 100.0,
    volatility: float = 0.001,
    timeframe: str = "1Sec",
    features: Mapping[str, Any] = NO_FEATURES,
    indicators: Mapping[str, Any] = NO_FEATURES,
) -> list[Row]:
    """Signal rows around a random walk, a bar apart, the symbols in turn.

    The columns are noise around the price, not indicators of it, so that a strategy soon meets every combination. Features
    are computed of the bars, as in trading; the rows begin where they are warm.

    Parameters
    ----------
    columns : of ``ta_signals``: what the rows carry.
    seed : the same seed gives the same rows.
    count : rows of each symbol.
    symbols : each with a walk of its own.
    price : where the walks begin, quote currency per unit.
    volatility : standard deviation of a step and of the noise, as a share of the price; 0 for a market that never moves.
    timeframe : of the bars.
    features : as `Strategy.features` gives them.
    indicators : classes by name, beside those of plugins that are installed or in a plugin folder.
    """
    from torghut_core.research import FeatureRows  # its compiler is slow to import

    if features:
        rows = FeatureRows(features, symbols, timeframe, columns=tuple(columns), indicators=indicators)
        count, needs = count + rows.warmup - 1, rows.needs
        if count > MOST_ROWS:
            raise ValueError(
                f"these features are warm after {rows.warmup:,} bars of {timeframe}: give a larger `timeframe`"
            )
    else:
        needs = {timeframe: frozenset(symbols)}
    batch = random_bars(seed, count, needs, price=price, volatility=volatility, timeframe=timeframe, first=symbols)
    if features:
        return [Row(row, row.close) for row in rows.update(batch)]
    make: Any = signal_type(tuple(columns))
    table, names = batch.signals, batch.symbols.names
    values = zip(
        *(getattr(table, column).tolist() for column in ("symbol", "event_ts", *columns, "close")), strict=True
    )
    return [
        Row(make(names[number], event_ts, *carried, table, row), close)
        for row, (number, event_ts, *carried, close) in enumerate(values)
    ]


def random_bars(
    seed: int,
    count: int,
    needs: Mapping[str, Collection[str]],
    *,
    price: float = 100.0,
    volatility: float = 0.001,
    timeframe: str = "1Min",
    first: Sequence[str] = SYMBOLS,
) -> Batch:
    """Bars around random walks and their signals, as the stages of a pipeline leave them: one batch, with a tick at its end.

    Parameters
    ----------
    count : bars of each symbol in the smallest timeframe.
    needs : symbols by timeframe; the bars of larger timeframes are made of the smallest one, `timeframe`.
    first : the symbols that come first, in this order, where bars end together.
    """
    step, begin = TIMEFRAMES[timeframe], EVENT_TS - EVENT_TS % max(TIMEFRAMES[name] for name in (timeframe, *needs))
    symbols = SymbolTable()
    tables = []
    for number, symbol in enumerate(dict.fromkeys([*first, *sorted(set().union(*needs.values()))])):
        rng = np.random.default_rng((seed, number))
        bars = _walk(count, price, volatility, rng)
        for name, names in needs.items():
            if symbol in names:
                size = TIMEFRAMES[name] // step
                made = _joined(bars, size)
                table = Signals.from_columns(
                    event_ts=begin + np.arange(len(made["close"])) * TIMEFRAMES[name],
                    symbol=np.full(len(made["close"]), symbols.number(symbol)),
                    step=np.full(len(made["close"]), TIMEFRAMES[name]),
                    series=np.full(len(made["close"]), symbols.series(symbols.number(symbol), TIMEFRAMES[name])),
                    **made,
                    **_columns(made["close"], volatility, rng),
                )
                table.seq[:] = table.event_ts // TIMEFRAMES[name]
                tables.append(table)
    signals = Signals.concatenate(tables)
    signals = signals.take(np.lexsort((signals.step, signals.symbol, signals.end)))
    is_smallest = signals.step == step
    signals.at[:] = np.maximum(np.cumsum(is_smallest) - 1, 0)  # a larger bar is known with the one that completes it
    batch = Batch.of(symbols, 0, np.append(signals.end[is_smallest], signals.end[-1] + step))
    batch.signals = signals
    return batch


def _walk(count: int, price: float, volatility: float, rng: np.random.Generator) -> dict[str, Any]:
    """The columns of bars, shape (count,) each; a slow wave is in the walk, so that every trend comes and ends."""
    wave = 30 * volatility * np.sin(np.arange(count) / 64)
    close = price * np.exp(np.cumsum(rng.normal(0, volatility, count)) + wave)
    opened = np.append(price, close[:-1])
    high = np.maximum(opened, close) * (1 + abs(rng.normal(0, volatility, count)))
    low = np.minimum(opened, close) / (1 + abs(rng.normal(0, volatility, count)))
    return {
        "open": opened,
        "high": high,
        "low": low,
        "close": close,
        "volume": rng.exponential(10, count),
        "vwap": (high + low + close) / 3,
        "count": rng.integers(1, 100, count),
    }


def _joined(bars: Mapping[str, Any], size: int) -> dict[str, Any]:
    """Bars of so many bars each; what is left over at the end makes none."""
    whole = len(bars["close"]) // size * size
    rows = {name: values[:whole].reshape(-1, size) for name, values in bars.items()}
    return {
        "open": rows["open"][:, 0],
        "high": rows["high"].max(axis=1),
        "low": rows["low"].min(axis=1),
        "close": rows["close"][:, -1],
        "volume": rows["volume"].sum(axis=1),
        "vwap": rows["vwap"].mean(axis=1),
        "count": rows["count"].sum(axis=1),
    }


def _columns(close: Any, volatility: float, rng: np.random.Generator) -> dict[str, Any]:
    def noise() -> Any:
        return close * rng.normal(0, volatility, len(close))

    columns = {name: close + noise() for name in ("ema12", "ema26", "boll_mid", "vwap_session", "vwap_w5m")}
    columns |= {name: noise() for name in ("macd", "macd_signal", "macd_hist")}
    columns["rsi14"] = rng.uniform(0, 100, len(close))
    width = abs(noise())
    columns["boll_upper"] = columns["boll_mid"] + width
    columns["boll_lower"] = columns["boll_mid"] - width
    spread = abs(noise())
    columns["imbalance_spread"] = spread
    columns["imbalance_bid_px"] = close - spread / 2
    columns["imbalance_ask_px"] = close + spread / 2
    columns["imbalance_bid_sz"] = rng.exponential(10, len(close))
    columns["imbalance_ask_sz"] = rng.exponential(10, len(close))
    columns["vol_realized_w60s"] = abs(rng.normal(0, volatility, len(close)))
    return columns


def random_batch(seed: int, count: int = 600, *, symbols: Iterable[str] = SYMBOLS, late: bool = True) -> Batch:
    """A stream of trades, quotes and 5-second bars in one batch, as a source delivers it.

    Parameters
    ----------
    seed : the same seed gives the same events.
    count : trades and quotes, of all of `SYMBOLS` together; bars come besides, two per 5 seconds.
    symbols : those of `SYMBOLS` whose events are kept.
    late : whether some trades arrive out of order, up to 4 seconds late, and some twice.
    """
    kept = set(symbols)
    events = enumerate(_events(np.random.default_rng(seed), count, late))
    return _batch([(seq, event) for seq, event in events if event[2] in kept])


Event = tuple[str, int, str, dict[str, float]]
"""Kind, event_ts, symbol, values."""


def _events(rng: np.random.Generator, count: int, late: bool) -> list[Event]:
    """The events in stream order."""
    clock = EVENT_TS
    prices = dict.fromkeys(SYMBOLS, 100.0)
    events: list[Event] = []
    for number in range(1, count + 1):
        before = clock
        clock += int(rng.choice([0, 1_000_000, 400_000_000, 1_100_000_000]))
        for end in range((before // BAR_STEP + 1) * BAR_STEP, clock + 1, BAR_STEP):
            for name, price in prices.items():
                bar = {"open": price, "high": price * 1.001, "low": price * 0.999, "close": price, "volume": 5.0}
                events.append(("bar", end - BAR_STEP, name, bar))
        symbol = SYMBOLS[int(rng.integers(len(SYMBOLS)))]
        price = prices[symbol] = round(prices[symbol] * float(np.exp(rng.normal(0, 0.001))), 2)
        if rng.random() < 0.2:
            quote = {"bid_price": price - 0.01, "bid_size": 2.0, "ask_price": price + 0.01, "ask_size": 3.0}
            events.append(("quote", clock, symbol, quote))
            continue
        trade = {"price": price, "size": float(rng.integers(1, 100)), "trade_key": number}
        delay = int(rng.integers(4 * SECOND)) if late and rng.random() < 0.1 else 0
        events.append(("trade", clock - delay, symbol, trade))
        if late and rng.random() < 0.03:
            events.append(events[-1])
    return events


def _batch(events: Sequence[tuple[int, Event]]) -> Batch:
    symbols = SymbolTable()
    rows: dict[str, list[dict[str, float]]] = {"trade": [], "quote": [], "bar": []}
    known = []
    for at, (seq, (kind, event_ts, name, values)) in enumerate(events):
        number = symbols.number(name)
        row = {"at": at, "event_ts": event_ts, "symbol": number, "seq": seq, **values}
        if kind == "bar":
            row |= {"step": BAR_STEP, "series": symbols.series(number, BAR_STEP)}
        rows[kind].append(row)
        known.append(event_ts + BAR_STEP if kind == "bar" else event_ts)

    def table(cls: Any, kind: str) -> Any:
        found = rows[kind]
        return cls.from_columns(**{name: [row[name] for row in found] for name in (found[0] if found else ())})

    return Batch.of(
        symbols,
        0,
        np.maximum.accumulate(np.array(known, np.int64)),
        trades=table(Trades, "trade"),
        quotes=table(Quotes, "quote"),
        bars=table(Bars, "bar"),
    )


def _decimals(low: str, high: str, places: int) -> st.SearchStrategy[Decimal]:
    unit = Decimal(1).scaleb(-places)
    return st.integers(int(Decimal(low) / unit), int(Decimal(high) / unit)).map(lambda number: number * unit)


PRICES = _decimals("0.0001", "1000000", 4)
QUANTITIES = _decimals("0.000001", "1000000", 6)
POSITIONS = st.just(Decimal(0)) | _decimals("-1000", "1000", 6)


UNITS = _decimals("0.000001", "1000", 6)
MONEY = _decimals("-1000", "10000000", 2)
EXPOSURES = _decimals("0", "10000000", 2)
PRICES_OF = {
    OrderType.MARKET: (st.none(), st.none()),
    OrderType.LIMIT: (PRICES, st.none()),
    OrderType.STOP: (st.none(), PRICES),
    OrderType.STOP_LIMIT: (PRICES, PRICES),
    OrderType.TRAILING_STOP: (st.none(), st.none()),
}
"""Limit and stop price of an order, by its type."""


@st.composite
def brackets(draw: st.DrawFn, side: Side, entry: Decimal) -> Bracket:
    """Hypothesis strategy: brackets that protect an entry on this side at this price: a stop, a take-profit, or both."""
    near, far = draw(_decimals("0.01", "0.99", 2)) * entry, draw(_decimals("0.01", "0.99", 2)) * entry
    sign = 1 if side is Side.BUY else -1
    stop = draw(st.sampled_from(("none", "stop_loss", "trail")))
    return Bracket(
        stop_loss=entry - sign * near if stop == "stop_loss" else None,
        trail=near if stop == "trail" else None,
        take_profit=entry + sign * far if stop == "none" or draw(st.booleans()) else None,
    )


@st.composite
def decisions(draw: st.DrawFn) -> Decision:
    """Hypothesis strategy: valid decisions, either way, of every order type; some with a bracket, some to replace an order."""
    order_type = draw(st.sampled_from(OrderType))
    limit_price, stop_price = map(draw, PRICES_OF[order_type])
    trail_pct = draw(_decimals("0.01", "20", 2)) if order_type is OrderType.TRAILING_STOP else None
    made = decision(
        draw(st.sampled_from(Side)),
        draw(QUANTITIES),
        order_type=order_type,
        limit_price=limit_price,
        stop_price=stop_price,
        trail_pct=trail_pct,
    )
    more = draw(st.sampled_from(("nothing", "bracket", "replaces")))
    if more == "bracket":
        entry = limit_price or stop_price or made.price
        assert entry is not None
        return msgspec.structs.replace(made, bracket=draw(brackets(made.action, entry)))
    return msgspec.structs.replace(made, replaces="tg-open") if more == "replaces" else made


@st.composite
def open_orders(draw: st.DrawFn) -> OpenOrder:
    """Hypothesis strategy: open orders of the strategy under test and of two others, on both sides, of every type."""
    order_type = draw(st.sampled_from(OrderType))
    limit_price, stop_price = map(draw, PRICES_OF[order_type])
    return OpenOrder(
        strategy_id=draw(st.sampled_from((STRATEGY, OTHER_STRATEGY, "a-third"))),
        side=draw(st.sampled_from(Side)),
        quantity=draw(UNITS),
        order_type=order_type,
        limit_price=limit_price,
        stop_price=stop_price,
    )


@st.composite
def risk_contexts(draw: st.DrawFn) -> RiskContext:
    """Hypothesis strategy: contexts with positions, open orders, little or much money, old and new prices."""
    limits = st.builds(
        Limits,
        max_notional_per_trade=st.none() | _decimals("1", "1000000", 2),
        max_position_pct_equity=st.none() | _decimals("0.001", "1", 3),
        cooldown_seconds=st.integers(0, 3600),
    )
    now = draw(st.just(NOW) | st.integers(NOW - 400 * DAY, NOW + 400 * DAY))
    moments = st.integers(now - 7200 * SECOND, now)
    return risk_context(
        draw(PRICES),
        draw(POSITIONS),
        strategy_position=draw(st.none() | POSITIONS),
        orders=draw(st.lists(open_orders(), max_size=4)),
        equity=draw(MONEY),
        day_start_equity=draw(st.none() | MONEY),
        day_low_equity=draw(st.none() | MONEY),
        buying_power=draw(st.none() | MONEY),
        reserved_cash=draw(st.just(Decimal(0)) | _decimals("0", "100000", 2)),
        gross_exposure=draw(st.none() | EXPOSURES),
        strategy_exposure=draw(st.none() | EXPOSURES),
        open_orders=draw(st.none() | st.integers(0, 1000)),
        orders_last_minute=draw(st.integers(0, 1000)),
        limits=draw(limits),
        allow_shorts=draw(st.booleans()),
        last_order_at=draw(st.none() | moments),
        now=now,
        price_ts=draw(moments),
        recent_price=draw(st.none() | PRICES),
        quote=draw(st.none() | PRICES.map(lambda price: (price, price))),
        collar=draw(st.sampled_from((Decimal(0), Decimal("0.005")))),
    )


@st.composite
def exits(draw: st.DrawFn) -> tuple[Decision, RiskContext]:
    """Hypothesis strategy: decisions that only reduce a position, each with a context in which they do."""
    quantity = draw(UNITS)
    action = draw(st.sampled_from(Side))
    sign = 1 if action is Side.SELL else -1
    context = draw(risk_contexts())
    reducing = [order for order in context.orders if order.side is action]
    own_reducing = sum(order.quantity for order in reducing if order.strategy_id == STRATEGY)
    more = _decimals("0", "1000", 6)
    context = msgspec.structs.replace(
        context,
        position=sign * (quantity + sum(order.quantity for order in reducing) + draw(more)),
        strategy_position=sign * (quantity + own_reducing + draw(more)),
    )
    return decision(action, quantity), context
