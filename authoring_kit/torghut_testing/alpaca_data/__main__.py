"""The fake as a process: ``python -m torghut_testing.alpaca_data --synthetic BTC/USD=25000 --rate 50``."""

from __future__ import annotations

import argparse
import heapq
import json
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from torghut_core import InputError
from torghut_testing.alpaca_data.events import Event, event_of
from torghut_testing.alpaca_data.server import FakeMarketData
from torghut_testing.alpaca_data.tapes import read_tape, synthetic


def _price(text: str) -> tuple[str, float]:
    symbol, _, price = text.partition("=")
    try:
        value = float(price)
    except ValueError:
        value = 0.0
    if not symbol or not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a price (write SYMBOL=PRICE, as in BTC/USD=25000)")
    return symbol, value


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m torghut_testing.alpaca_data",
        description="A stand-in of Alpaca's market data on loopback. Plays once a client is subscribed to all symbols.",
    )
    parser.add_argument(
        "--tape", action="append", default=[], metavar="FILE", help="tape to play, Parquet or JSONL; repeatable"
    )
    parser.add_argument(
        "--synthetic",
        type=_price,
        action="append",
        default=[],
        metavar="SYMBOL=PRICE",
        help="generate trades and quotes from this first price; repeatable",
    )
    parser.add_argument(
        "--rate", type=_positive, default=100.0, help="generated messages a second of tape (%(default)s)"
    )
    parser.add_argument("--count", type=int, help="generated messages in all (default: to the tape's end, or no end)")
    parser.add_argument("--seed", type=int, default=0, help="seed of generated data (%(default)s)")
    parser.add_argument(
        "--speed",
        type=_positive,
        help="seconds of tape per second (default: as fast as clients read; without a tape 1)",
    )
    parser.add_argument(
        "--retime",
        action="store_true",
        help="shift the tape so that its first event is now (always without a tape)",
    )
    parser.add_argument("--no-wait", action="store_true", help="play at once, without waiting for a subscribed client")
    parser.add_argument("--per-frame", type=int, default=20, help="messages in a frame at most (%(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0, the default, takes a free one")
    parser.add_argument("--key", default="fake-key", help="API key that a client has to send (%(default)s)")
    parser.add_argument("--secret", default="fake-secret", help="API secret that a client has to send (%(default)s)")
    return parser


def _events(given: argparse.Namespace) -> tuple[Iterator[Event], set[str]]:
    """The events to play, in order of time, and their symbols."""
    tapes = [[event_of(message) for message in read_tape(path)] for path in given.tape]
    recorded = list(heapq.merge(*tapes, key=lambda event: event.at))
    symbols = {event.symbol for event in recorded} | {symbol for symbol, _ in given.synthetic}
    if not given.synthetic:
        return iter(recorded), symbols
    generated = synthetic(
        dict(given.synthetic),
        rate=given.rate,
        seed=given.seed,
        start=recorded[0].at if recorded else time.time_ns(),
        until=recorded[-1].at + 1 if recorded else None,
        count=given.count,
    )
    return heapq.merge(recorded, map(event_of, generated), key=lambda event: event.at), symbols


def _print(value: dict[str, Any]) -> None:
    sys.stdout.write(f"{json.dumps(value)}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; print the URLs once it listens, and the number of events once all are played."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if not given.tape and not given.synthetic:
        parser.error("nothing to play (give --tape or --synthetic)")
    speed = given.speed
    if not given.tape and speed is None:
        speed = 1.0
    market = FakeMarketData(port=given.port, key=given.key, secret=given.secret, per_frame=given.per_frame)
    try:
        events, symbols = _events(given)
        market.start()
    except (OSError, ValueError, InputError) as error:
        parser.error(str(error))
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        _print({"url": market.url, "rest_url": market.rest_url})
        wait_for = () if given.no_wait else symbols
        playback = market.play(events, speed=speed, retime=given.retime or not given.tape, wait_for=wait_for)
        while not ended.wait(0.05):
            if playback.is_done:
                _print({"played": playback.wait()})
                ended.wait()
    finally:
        market.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
