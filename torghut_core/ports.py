"""Every replaceable part, as an abstract class whose docstring is the contract.

A plugin's class is registered under a name (see `hookspecs`); the kernel makes an instance of it for each place where
the catalog uses that name, with its validated `Params`, when a generation is built. From then on the kernel calls the
instance directly.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
import pydantic

from torghut_core.model.market import Batch, Signal
from torghut_core.model.trading import (
    ZERO,
    Account,
    Decision,
    Fill,
    Intent,
    Limits,
    Order,
    OrderType,
    Position,
    Report,
    Side,
    TimeInForce,
    Verdict,
)

if TYPE_CHECKING:
    from torghut_core.context import Context

API_VERSION = 1
"""Version of everything in this file and in `hookspecs`; a plugin module may state the one that it was written for as
``torghut_api = 1``."""


class Params(pydantic.BaseModel):
    """Parameters of a plugin: the `params` of its catalog entry, validated. Unknown keys are errors."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


def param(default: Any = ..., *, help: str, **bounds: Any) -> Any:
    """A parameter with its default, its unit and meaning in one line, and bounds (`ge`, `gt`, `le`, `lt`, ...).

    Without a default the catalog has to give it. The default is validated too, so a decimal may be given as text.

    Examples
    --------
    >>> class Wait(Params):
    ...     seconds: int = param(60, ge=0, help="pause after an entry, seconds")
    >>> Wait().seconds
    60
    """
    return pydantic.Field(default, description=help, validate_default=True, **bounds)


class Plugin:
    """What strategies, rules, brokers, sources, stages, advisors and observers have in common.

    `Params` is the pydantic model of the plugin's parameters. `state` names the attributes that are saved and restored
    over reloads and restarts; they hold plain values (numbers, text, lists, dicts, arrays).
    """

    class Params(Params):
        """None, until a plugin states its own: ``class Params(Strategy.Params)``."""

    state: ClassVar[tuple[str, ...]] = ()
    state_version: ClassVar[int] = 1

    def __init__(self, params: Any) -> None:
        self.params = params

    def save_state(self) -> dict[str, Any]:
        """What `load_state` of a new instance needs to go on from here."""
        return {name: getattr(self, name) for name in self.state}

    def load_state(self, state: dict[str, Any], version: int) -> None:
        """Take over what `save_state` of an instance with `state_version` `version` gave.

        Raises
        ------
        ValueError : a version that this class cannot read.
        """
        if version != self.state_version:
            raise ValueError(f"{type(self).__name__} reads state version {self.state_version}, not {version}")
        for name in self.state:
            setattr(self, name, state[name])


class Strategy(Plugin, ABC):
    """Signals in, decisions out.

    `columns` names the columns of ``ta_signals`` that it reads; a row is handed over when all of them have a value. An
    instance serves all symbols of its catalog entry, so state is kept per symbol (a dict by `signal.symbol`).
    """

    columns: ClassVar[tuple[str, ...]] = ()

    @property
    def warmup(self) -> int:
        """Rows of a symbol that it has to have seen before its decisions count; 0 when it keeps nothing between rows.

        A strategy that a reload adds or changes is shown so many from the signal store first.
        """
        return 0

    @abstractmethod
    def on_signal(self, signal: Signal, context: Context) -> Decision | None:
        """Look at one row; propose a decision (made by `context.buy`, `sell`, `close` or `target`), or None."""


class RiskContext(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a rule may look at: the account and the market when the decision was made.

    Quantities are signed units. `position` is the account's net position in the symbol, `strategy_position` the part
    of it that this strategy made; `working` what this strategy's working orders in the symbol would still add, and
    `account_working` what all working orders of the account in the symbol would; `reserved_cash` what working buys may cost.
    """

    now: int
    price: Decimal
    price_ts: int
    position: Decimal
    strategy_position: Decimal
    working: Decimal
    account_working: Decimal
    reserved_cash: Decimal
    account: Account
    limits: Limits
    allow_shorts: bool
    last_order_at: int | None
    """When this strategy last had an order allowed in this symbol, None where it never had."""

    def closable(self, action: Side) -> Decimal:
        """How many units an order with this action would only take off the book: what is held (SELL) or owed (BUY).

        The smaller of the strategy's and the account's position counts, and of each the smaller with and without its
        working orders: an exit in flight is gone already, an entry in flight is not there yet. So exits that overlap
        never turn a position round.
        """
        sign = 1 if action is Side.SELL else -1
        strategy, account = self.strategy_position * sign, self.position * sign
        return max(
            ZERO,
            min(strategy, strategy + self.working * sign, account, account + self.account_working * sign),
        )


class RiskRule(Plugin, ABC):
    """One deterministic rule. It can only tighten: the kernel's own gates run before and after it."""

    @abstractmethod
    def check(self, decision: Decision, context: RiskContext) -> Verdict:
        """Allow, shrink to a smaller quantity, or deny, with code, value and limit.

        The decision's quantity is what earlier rules have left. Rules run in catalog order, all of them, also after a
        denial (then with the quantity as it was): an operator sees every reason at once.
        """


class Source(Plugin, ABC):
    """Where events come from: an asynchronous iterator of batches."""

    @abstractmethod
    def batches(self, size: int) -> AsyncIterator[Batch]:
        """Yield batches of at most `size` events, positions running from 0 (or from the cursor's) without a gap.

        Raises
        ------
        TapeError : a bad file or row, with its place and mend.
        """

    def check(self) -> None:
        """Read what is recorded once, and raise as `batches` would, so that nothing is traded on a bad tape.

        Does nothing for a source that cannot be read twice.
        """

    @property
    def total(self) -> int | None:
        """Events to come in all, for a progress bar; None where nobody knows."""
        return None

    @property
    def skipped(self) -> dict[str, int]:
        """Rows left out by ``--on-bad-row skip``: reason (with the first place) -> count."""
        return {}

    def cursor(self) -> dict[str, Any]:
        """Plain values from which `seek` goes on after the last batch that was yielded."""
        return {}

    def seek(self, cursor: dict[str, Any]) -> None:
        """Go on after the batch at which `cursor` was taken."""
        raise NotImplementedError(f"{type(self).__name__} cannot resume")


class Capabilities(msgspec.Struct, frozen=True):
    """What a broker can do. A decision that needs more is denied, not sent."""

    order_types: frozenset[OrderType]
    times_in_force: frozenset[TimeInForce]
    replace: bool = True
    fractional: bool = True
    shorts: bool = True
    simulated: bool = False
    """Fills come from the event stream, through `Broker.advance`, and money is not real."""


class Broker(Plugin, ABC):
    """Orders out, reports in. The truth about orders is here; the audit database only knows what was intended.

    No method blocks on a network: what is asked is taken, and its outcome comes later, in `updates`.
    """

    capabilities: ClassVar[Capabilities]

    @abstractmethod
    def submit(self, intent: Intent) -> None:
        """Take an order. The same `client_order_id` again does nothing."""

    @abstractmethod
    def cancel(self, client_order_id: str) -> None:
        """Ask that an order be canceled; one that is unknown or done changes nothing."""

    @abstractmethod
    def replace(
        self,
        client_order_id: str,
        quantity: Decimal | None = None,
        limit_price: Decimal | None = None,
        stop_price: Decimal | None = None,
    ) -> None:
        """Ask that a working order be changed; None leaves a value as it is."""

    @abstractmethod
    def orders(self) -> Sequence[Order]:
        """All orders that are not done, oldest first."""

    @abstractmethod
    def positions(self) -> dict[str, Position]:
        """Position by symbol; flat ones may be left out."""

    @abstractmethod
    def account(self) -> Account:
        """The account now."""

    @abstractmethod
    def updates(self) -> list[Report]:
        """Reports since the last call, oldest first; empty when nothing happened."""

    def advance(self, batch: Batch, first: int, stop: int) -> None:
        """Show a simulated broker the events at positions `first` to `stop` - 1, once and in order.

        Orders submitted before the call meet these events, and no earlier one. Does nothing for a real venue.
        """


class Advisor(Plugin, ABC):
    """A second opinion that may veto or shrink a decision, never enlarge it."""

    @abstractmethod
    def review(self, decision: Decision, context: RiskContext) -> Verdict:
        """Allow, shrink or deny; the risk rules come after and have the last word."""


class Observer(Plugin):
    """Hears of what happened, after it is written down: alerts, metrics. What it raises is logged and forgotten."""

    def on_decision(self, decision: Decision, verdicts: Sequence[Verdict], intent: Intent | None) -> None:
        """A decision was made; `intent` is None when it was denied."""

    def on_fill(self, fill: Fill, position: Position) -> None:
        """An order was filled, perhaps partly; `position` is the strategy's after it."""

    def on_generation(self, number: int, digest: str) -> None:
        """A generation began to trade."""


class AuditStore(ABC):
    """What was decided, ordered and done, for good. Append-only for the log; `commit` is the only thing that waits.

    What is recorded is kept in the order of the calls and becomes durable, all or nothing, at `commit`. The kernel's
    discipline: decision, verdicts and intent are committed before the order leaves for a real venue; a report is
    recorded before anything is decided on it. All rows of one run belong to one `account` label.
    """

    @abstractmethod
    def new_account(self, prefix: str) -> str:
        """A label ``prefix-N`` that no row uses yet: each replay is an account of its own."""

    @abstractmethod
    def is_known(self, account: str, decision_hash: str) -> bool:
        """Whether the decision was recorded before (committed or not): then nothing may be sent for it again."""

    @abstractmethod
    def record_strategies(self, entries: Sequence[dict[str, Any]], mode: str) -> None:
        """Upsert the catalog's strategies (JSON values); mode ``sync`` disables those that are not listed."""

    @abstractmethod
    def record_generation(self, generation: dict[str, Any], actor: str, outcome: str) -> int:
        """Write down a generation (catalog digest, diff, plugins with versions and code digests, as JSON values).

        Returns
        -------
        Its number: 1 for the first that this database has seen, then counting up.
        """

    @abstractmethod
    def record_decision(
        self,
        decision: Decision,
        signal: dict[str, Any],
        verdicts: Sequence[Verdict],
        intent: Intent | None,
    ) -> None:
        """Write down a decision with the signal row and all verdicts; with an intent when it was allowed."""

    @abstractmethod
    def record_report(self, account: str, order: Order, report: Report, position: Position) -> None:
        """Write down a report, with the order and the strategy's position as they are after it."""

    @abstractmethod
    def record_account(self, account: str, account_state: Account, positions: dict[str, Position], at: int) -> None:
        """Write down the books at a moment of loop time: a position snapshot per symbol, and cash and equity."""

    @abstractmethod
    def commit(self) -> None:
        """Make durable what was recorded since the last commit.

        Raises
        ------
        StateError : disk full, database locked or gone; nothing of this commit was written, and what was is readable.
        """

    @abstractmethod
    def close(self) -> None:
        """Commit and let go; closing twice is harmless."""


class SignalStore(ABC):
    """Microbars and signals, written in batches and read without duplicates."""

    @abstractmethod
    def write(self, batch: Batch) -> None:
        """Take the derived rows of a batch; they are stored at the latest at the next `flush`."""

    @abstractmethod
    def flush(self) -> None:
        """Wait until everything taken is stored; may be called from another thread than the one that writes.

        Raises
        ------
        StateError : disk full, server gone; what was stored before is readable.
        """

    @abstractmethod
    def export(self, table: str, path: str) -> int:
        """Write ``microbars`` or ``signals`` to a Parquet file, without duplicates, in order; return the rows."""

    @abstractmethod
    def close(self) -> None:
        """Flush and let go; closing twice is harmless."""
