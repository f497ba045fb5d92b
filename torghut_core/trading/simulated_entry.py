"""A simulated broker as the loop calls it."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from torghut_core.boundary import context_of, from_plugins, reason_and_place
from torghut_core.errors import PluginError, TorghutError
from torghut_core.model.corporate_actions import Adjustment
from torghut_core.model.instruments import Instrument
from torghut_core.model.market import Batch
from torghut_core.model.trading import Account, Charge, Intent, OrderStatus, Report, TimeInForce
from torghut_core.plugin_host.running_plugin import LOOP, RECORD, label
from torghut_core.ports import OrderEntry


class SimulatedEntry(OrderEntry):
    """A simulated broker as the loop calls it: in a context of its own, recorded as the running plugin.

    What it raises is a `PluginError`.

    Parameters
    ----------
    name : of the broker, for errors.
    broker : the plugin.
    """

    def __init__(self, name: str, broker: OrderEntry) -> None:
        self.day_zone, self.may_liquidate = broker.day_zone, broker.may_liquidate
        self._name = name
        self._broker = broker
        self._running = label("broker", name)
        self._run = context_of(broker).run

    def _call(self, method: str, *terms: Any) -> Any:
        memory = RECORD.memory
        before, memory[LOOP] = memory[LOOP], self._running
        try:
            return self._run(getattr(self._broker, method), *terms)
        except TorghutError:
            raise
        except from_plugins() as error:
            raise PluginError(self._name, reason_and_place(error)) from error
        finally:
            memory[LOOP] = before

    def usual_time_in_force(self, symbol: str) -> TimeInForce:
        """See `OrderEntry`."""
        return self._call("usual_time_in_force", symbol)  # type: ignore[no-any-return]

    def instrument(self, symbol: str, stated: Instrument) -> Instrument:
        """See `OrderEntry`."""
        return self._call("instrument", symbol, stated)  # type: ignore[no-any-return]

    def submit(self, intent: Intent) -> None:
        """See `OrderEntry`."""
        self._call("submit", intent)

    def cancel(self, client_order_id: str) -> None:
        """See `OrderEntry`."""
        self._call("cancel", client_order_id)

    def replace(
        self,
        client_order_id: str,
        quantity: Decimal | None = None,
        limit_price: Decimal | None = None,
        stop_price: Decimal | None = None,
    ) -> None:
        """See `OrderEntry`."""
        self._call("replace", client_order_id, quantity, limit_price, stop_price)

    def account(self) -> Account:
        """See `OrderEntry`."""
        return self._call("account")  # type: ignore[no-any-return]

    def updates(self) -> Sequence[Report | OrderStatus | Charge]:
        """See `OrderEntry`."""
        return self._call("updates")  # type: ignore[no-any-return]

    def hand_over(self, strategy: str, heir: str, symbol: str) -> None:
        """See `OrderEntry`."""
        self._call("hand_over", strategy, heir, symbol)

    def adjust(self, change: Adjustment) -> None:
        """See `OrderEntry`."""
        self._call("adjust", change)

    def advance(self, batch: Batch, first: int, stop: int) -> None:
        """See `OrderEntry`."""
        self._call("advance", batch, first, stop)

    def advance_to_report(self, batch: Batch, first: int, stop: int) -> int:
        """See `OrderEntry`."""
        return self._call("advance_to_report", batch, first, stop)  # type: ignore[no-any-return]

    def quiet_to(self, batch: Batch, first: int) -> int:
        """See `OrderEntry`."""
        return self._call("quiet_to", batch, first)  # type: ignore[no-any-return]
