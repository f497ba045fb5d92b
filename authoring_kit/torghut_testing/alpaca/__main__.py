"""The fake as a process: ``python -m torghut_testing.alpaca --price BTC/USD=25000``."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation

from torghut_testing.alpaca.server import FakeAlpaca
from torghut_testing.alpaca.venue import FakeVenue


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def _price(text: str) -> tuple[str, Decimal]:
    symbol, is_given, price = text.partition("=")
    if not (symbol and is_given):
        raise argparse.ArgumentTypeError(f"{text!r} is not a price (write SYMBOL=PRICE, as in BTC/USD=25000)")
    return symbol, _decimal(price)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; print one line, the URL, once it listens."""
    parser = argparse.ArgumentParser(
        prog="python -m torghut_testing.alpaca",
        description="A stand-in of Alpaca's trading API on loopback. Scripts control it under /_fake/.",
    )
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0, the default, takes a free one")
    parser.add_argument("--state", metavar="FILE", help="file to load the state from, if it exists, and to save it to")
    parser.add_argument(
        "--price",
        type=_price,
        action="append",
        default=[],
        metavar="SYMBOL=PRICE",
        help="price in dollars per unit; repeatable",
    )
    parser.add_argument(
        "--cash",
        type=_decimal,
        default=Decimal(100_000),
        help="dollars at the start, if no state is loaded (%(default)s)",
    )
    parser.add_argument(
        "--crypto-fee-bps", type=_decimal, default=Decimal(0), help="fee on crypto, hundredths of a percent"
    )
    parser.add_argument("--key", default="fake-key", help="API key that a client has to send (%(default)s)")
    parser.add_argument("--secret", default="fake-secret", help="API secret that a client has to send (%(default)s)")
    parser.add_argument("--text-frames", action="store_true", help="send text frames on the stream, not binary ones")
    given = parser.parse_args(arguments)

    fake = FakeAlpaca(
        FakeVenue(given.cash, crypto_fee_bps=given.crypto_fee_bps),
        port=given.port,
        key=given.key,
        secret=given.secret,
        state_file=given.state,
        binary=not given.text_frames,
    )
    try:
        fake.start()
    except (OSError, ValueError) as error:
        parser.error(str(error))
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        for symbol, price in given.price:
            fake.venue.set_price(symbol, price)
        sys.stdout.write(f"{fake.url}\n")
        sys.stdout.flush()
        ended.wait()
    finally:
        fake.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
