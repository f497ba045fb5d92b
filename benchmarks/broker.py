"""The simulated broker: the life of an order, and passing events by. One JSON line per case.

Usage: python benchmarks/broker.py [repeats]

Figures are microseconds; of `repeats` runs the median, the fastest and the slowest.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from decimal import Decimal

import numpy as np
from torghut_brokers.simulated import Simulated

from torghut_core import Bars, Batch, Intent, OrderType, Quotes, Side, SymbolTable, TimeInForce, Trades

N = 65_536
SECOND = 1_000_000_000
MINUTE = 60 * SECOND


def walk(n: int, seed: int = 7) -> np.ndarray:
    """Prices of a random walk around 1640.25, in quarters."""
    rng = np.random.default_rng(seed)
    return 1640.25 + rng.integers(-1, 2, n).cumsum() / 4


def trades(symbols: int = 1) -> Batch:
    table = SymbolTable()
    for number in range(symbols):
        table.number(f"S{number}")
    event_ts = np.arange(N) * SECOND
    rows = Trades.from_columns(
        at=np.arange(N), event_ts=event_ts, symbol=np.arange(N) % symbols, price=walk(N), size=np.ones(N)
    )
    return Batch.of(table, 0, event_ts, trades=rows)


def quotes(symbols: int = 1) -> Batch:
    batch = trades(symbols)
    price = batch.trades.price
    rows = Quotes.from_columns(
        at=batch.trades.at,
        event_ts=batch.trades.event_ts,
        symbol=batch.trades.symbol,
        bid_price=price,
        bid_size=np.ones(N),
        ask_price=price + 0.25,
        ask_size=np.ones(N),
    )
    return Batch.of(batch.symbols, 0, batch.now, quotes=rows)


def bars() -> Batch:
    table = SymbolTable()
    series = table.series(table.number("S0"), MINUTE)
    event_ts = np.arange(N) * MINUTE
    close = walk(N)
    rows = Bars.from_columns(
        at=np.arange(N),
        event_ts=event_ts,
        symbol=np.zeros(N),
        step=np.full(N, MINUTE),
        series=np.full(N, series),
        open=close,
        high=close + 0.5,
        low=close - 0.5,
        close=close,
        volume=np.full(N, 100.0),
    )
    return Batch.of(table, 0, event_ts + MINUTE, bars=rows)


def intent(number: int, side: Side, decided_at: int, symbol: str = "S0", **fields: object) -> Intent:
    return Intent(
        client_order_id=f"tg-{number:040d}",
        decision_hash="",
        account="benchmark",
        strategy_id="benchmark",
        symbol=symbol,
        side=side,
        quantity=Decimal(1),
        decided_at=decided_at,
        **fields,
    )


def broker(**params: object) -> Simulated:
    return Simulated(Simulated.Params(**params))


def resting(symbols: int = 1) -> Simulated:
    """A broker with one limit order per symbol that is never hit, and has met its first event."""
    made = broker()
    for number in range(symbols):
        made.submit(
            intent(
                number,
                Side.BUY,
                0,
                f"S{number}",
                order_type=OrderType.LIMIT,
                limit_price=Decimal(1),
                time_in_force=TimeInForce.GTC,
            )
        )
    return made


def life_of_a_market_order(**params: object) -> Iterator[float]:
    """Submit, one bar, fill report, position: us of each of the orders of a run."""
    made, tape = broker(**params), bars()
    for number in range(20_000):
        order = intent(number, Side.SELL if number % 2 else Side.BUY, number * MINUTE)
        began = time.perf_counter()
        made.submit(order)
        made.advance(tape, number, number + 1)
        made.updates()
        yield (time.perf_counter() - began) * 1e6
    assert made.is_idle


def passing(make: Callable[[], Simulated], tape: Callable[[], Batch]) -> Iterator[float]:
    """All events of a batch in one call, after the first hundred."""
    batch = tape()
    while True:
        made = make()
        made.advance(batch, 0, 2000)
        began = time.perf_counter()
        made.advance(batch, 2000, N)
        made.account()
        yield (time.perf_counter() - began) * 1e6


def stepping(make: Callable[[], Simulated], tape: Callable[[], Batch]) -> Iterator[float]:
    """One event per call: us per event."""
    batch = tape()
    while True:
        made = make()
        began = time.perf_counter()
        for at in range(10_000):
            made.advance(batch, at, at + 1)
        yield (time.perf_counter() - began) * 1e6 / 10_000


def holding(symbols: int) -> Simulated:
    """A broker that holds one unit of each symbol, nothing working."""
    made = broker()
    batch = trades(symbols)
    for number in range(symbols):
        made.submit(intent(number, Side.BUY, 0, f"S{number}"))
    made.advance(batch, 0, 1000)
    assert made.is_idle
    return made


def report(case: str, samples: list[float]) -> None:
    print(
        json.dumps(
            {
                "case": case,
                "median_us": round(statistics.median(samples), 2),
                "fastest_us": round(min(samples), 2),
                "slowest_us": round(max(samples), 2),
                "samples": len(samples),
            }
        )
    )


def main() -> None:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    report("life of a market order, bars", list(life_of_a_market_order()))
    report(
        "life of a market order, bars, fees and slippage",
        list(life_of_a_market_order(fees={"*": {"bps": 2}}, slippage={"*": {"bps": 1}})),
    )
    report("life of a market order, bars, fees of Alpaca", list(life_of_a_market_order(fees="alpaca")))
    impact = {"*": {"bps": 1, "impact_bps": 2}}
    report("life of a market order, bars, slippage with impact", list(life_of_a_market_order(slippage=impact)))
    cases = {
        "65536 trades, idle": passing(broker, trades),
        "65536 trades, idle, one position": passing(lambda: holding(1), trades),
        "65536 trades of 500 symbols, idle, 500 positions": passing(lambda: holding(500), lambda: trades(500)),
        "65536 trades, one resting limit": passing(resting, trades),
        "65536 quotes, one resting limit": passing(resting, quotes),
        "65536 bars, one resting limit": passing(resting, bars),
        "65536 trades of 500 symbols, 500 resting limits": passing(lambda: resting(500), lambda: trades(500)),
        "one trade per call, idle, per event": stepping(broker, trades),
        "one trade per call, one resting limit, per event": stepping(resting, trades),
        "one trade per call, 500 resting limits, per event": stepping(lambda: resting(500), lambda: trades(500)),
    }
    for case, samples in cases.items():
        report(case, [next(samples) for _ in range(repeats)])


if __name__ == "__main__":
    main()
