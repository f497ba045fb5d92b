"""A stand-in of Alpaca's market data on loopback: the stream and the REST history on one port, with faults on demand.

What is played is what happened, and so what the REST history returns::

    with FakeMarketData() as market:
        market.play(events, faults=[Fault(at=1200, kind="cut", lost=50)], wait_for=["BTC/USD"])
        ...  # point a source at market.url and market.rest_url, with market.key and market.secret

`events` are messages as Alpaca prints them, or a table (`read_tape` reads, `synthetic` generates some).
``python -m torghut_testing.alpaca_data`` runs it as a process of its own.
"""

from torghut_testing.alpaca.faults import Fault as RestFault
from torghut_testing.alpaca_data.attempt import Attempt
from torghut_testing.alpaca_data.events import Event, event_of
from torghut_testing.alpaca_data.faults import ERRORS, Fault
from torghut_testing.alpaca_data.playback import Playback
from torghut_testing.alpaca_data.server import FakeMarketData
from torghut_testing.alpaca_data.tapes import messages_of, read_tape, synthetic

__all__ = [
    "ERRORS",
    "Attempt",
    "Event",
    "FakeMarketData",
    "Fault",
    "Playback",
    "RestFault",
    "event_of",
    "messages_of",
    "read_tape",
    "synthetic",
]
