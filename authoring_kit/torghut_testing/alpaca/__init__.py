"""A stand-in of Alpaca's trading API on loopback: REST and ``trade_updates`` on one port, with faults on demand.

`FakeVenue` is the exchange as plain objects, `FakeAlpaca` serves it::

    with FakeAlpaca() as alpaca:
        alpaca.venue.set_price("BTC/USD", 25_000)
        alpaca.faults.add(Fault.timeout(after=True, method="POST", path="/v2/orders"))
        ...  # point a broker at alpaca.url, with alpaca.key and alpaca.secret

``python -m torghut_testing.alpaca`` runs it as a process of its own.
"""

from torghut_testing.alpaca.faults import Fault, StreamFaults
from torghut_testing.alpaca.rules import Refusal
from torghut_testing.alpaca.server import FakeAlpaca
from torghut_testing.alpaca.venue import FakeVenue
from torghut_testing.loopback.faults import Faults
from torghut_testing.loopback.request import Request

__all__ = ["FakeAlpaca", "FakeVenue", "Fault", "Faults", "Refusal", "Request", "StreamFaults"]
