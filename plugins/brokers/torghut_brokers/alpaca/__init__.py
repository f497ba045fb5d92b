"""Alpaca, https://alpaca.markets: equities and crypto, paper or live; see ``docs/brokers.md``.

`broker` is what the kernel calls, `rest` and `stream` the two ways to the venue, `wire` and `refusals` what the venue
says in torghut's words, `terms` what it takes. The libraries that reach the venue are imported by `Alpaca.connect`.
"""

from torghut_brokers.alpaca.broker import Alpaca

__all__ = ["Alpaca"]
