"""Every replaceable part, as an abstract class whose docstring is the contract.

A plugin's class is registered under a name (see `hookspecs`); the kernel makes an instance of it for each place where
the catalog uses that name, with its validated `Params`, when a generation is built. From then on the kernel calls the
instance directly.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import msgspec
import pydantic

from torghut_core.errors import InputError
from torghut_core.model.market import Batch, Message, Signal
from torghut_core.model.trading import (
    ZERO,
    Account,
    Decision,
    Fill,
    Intent,
    Limits,
    Order,
    OrderStatus,
    OrderType,
    Position,
    Report,
    Side,
    TimeInForce,
    Verdict,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from torghut_core.environment import Environment
    from torghut_core.ports.context import Context

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


class OpenOrder(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An order that works, as a rule sees it; `quantity` is what is not filled, unsigned units."""

    strategy_id: str
    side: Side
    quantity: Decimal
    order_type: OrderType = OrderType.MARKET
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None


class RiskContext(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a rule may look at: the account and the market when the decision was made. It is written down with the decision.

    Quantities are signed units, money is in the account's currency. `position` is the account's net position in the
    symbol, `strategy_position` the part of it that this strategy made; `orders` are the account's working orders in the
    symbol, and `reserved_cash` what working buys of all symbols may cost.
    """

    now: int
    strategy_id: str
    price: Decimal
    price_ts: int
    position: Decimal
    strategy_position: Decimal
    reserved_cash: Decimal
    account: Account
    limits: Limits
    allow_shorts: bool
    last_order_at: int | None
    """When this strategy last had an order allowed in this symbol, None where it never had."""
    orders: tuple[OpenOrder, ...] = ()
    day_start_equity: Decimal = ZERO
    """Equity at the beginning of the account's day (`Broker.day_zone`)."""
    day_low_equity: Decimal = ZERO
    """The least equity since then that any decision was judged by, this one's too."""
    gross_exposure: Decimal = ZERO
    """Notional of the account's positions and working orders, all symbols, each unsigned, at the last prices."""
    strategy_exposure: Decimal = ZERO
    """The same of this strategy's own."""
    open_orders: int = 0
    """Working orders of the account, all symbols."""
    orders_last_minute: int = 0
    """Orders that the account was sent within the 60 s up to `now`."""

    @property
    def working(self) -> Decimal:
        """Signed units that this strategy's working orders in the symbol would still add."""
        return sum((_signed(order) for order in self.orders if order.strategy_id == self.strategy_id), ZERO)

    @property
    def account_working(self) -> Decimal:
        """Signed units that all working orders of the account in the symbol would still add."""
        return sum(map(_signed, self.orders), ZERO)

    def closable(self, action: Side) -> Decimal:
        """How many units an order with this action would only take off the book: what is held (SELL) or owed (BUY).

        The smaller of the strategy's and the account's position counts, less the working orders that go the same way: an
        exit in flight is gone already, an entry in flight is not there yet. So exits that overlap never turn a position
        round.
        """
        sign = 1 if action is Side.SELL else -1
        strategy, account = self.strategy_position * sign, self.position * sign
        for order in self.orders:
            if order.side is action:
                account -= order.quantity
                if order.strategy_id == self.strategy_id:
                    strategy -= order.quantity
        return max(ZERO, min(strategy, account))


def _signed(order: OpenOrder) -> Decimal:
    return order.quantity if order.side is Side.BUY else -order.quantity


class RiskRule(Plugin, ABC):
    """One deterministic rule. It can only tighten: the kernel's own gates run before and after it."""

    @abstractmethod
    def check(self, decision: Decision, context: RiskContext) -> Verdict:
        """Allow, shrink to a smaller quantity, or deny, with code, value and limit.

        The decision's quantity is what earlier rules have left. Rules run in catalog order, all of them, also after a
        denial (then with the quantity as it was): an operator sees every reason at once.
        """


class Universe(ABC):
    """The symbols that are wanted now: of the strategies, a list, or another program's; see `torghut_core.market_data.universe`."""

    @property
    @abstractmethod
    def symbols(self) -> tuple[str, ...]:
        """In alphabetical order; the last list that is known while nobody can say."""

    @abstractmethod
    async def changed(self) -> None:
        """Wait until `symbols` are others than they were when this was called."""


class SignalReader(ABC):
    """Reads the signal store as it grows."""

    @abstractmethod
    def signals_until(self) -> int | None:
        """When the newest signal could be known, the end of its bar, ns; None where there are none; may wait.

        Raises
        ------
        StateError : the store does not answer.
        """

    @abstractmethod
    def signals_since(
        self, since: Mapping[str, int], *, after: tuple[int, str, str, int] | None, limit: int
    ) -> pa.Table:
        """Signals with their bars, each key once, the latest version of it; may wait.

        Parameters
        ----------
        since : the symbols that are wanted, each with the time (ns) from which its rows are: by the end of their bars,
            ``window_end``, so that bars of every length come when they are known.
        after : (window_end, symbol, window_size, seq) of the last row that is not wanted any more; None for all.
        limit : rows at most, in order of that key.

        Returns
        -------
        Columns ``symbol, event_ts, window_size, seq, window_end, ingest_ts``, the values of ``ta_signals``, and the bar's
        ``o, h, l, c, v, vwap, count``, null where there is no such bar.

        Raises
        ------
        StateError : the store does not answer.
        """


class Connection(msgspec.Struct, frozen=True):
    """What a plugin that reaches out needs, and cannot have from the catalog.

    `is_live` : real money: all three switches are set. Otherwise the venue's paper account, whatever the catalog says.
    `secret` : a secret by the name of its setting, from the environment or from the file that ``NAME_FILE`` names;
    raises `SettingsError` where neither is there. Read it when you connect, and keep it out of every message.
    `universe` : which symbols are wanted; `signals` : the signal store; `state` : a directory to keep things in. Sources
    and sinks have these, brokers have None.
    """

    is_live: bool
    secret: Callable[[str], pydantic.SecretStr]
    universe: Universe | None = None
    signals: SignalReader | None = None
    state: Path | None = None


class Closed(msgspec.Struct, frozen=True):
    """Why a gate is closed: `reason` with its fix in words, `error_class` in one of few (``auth``, ``connection-limit``)."""

    reason: str
    error_class: str


Metric: TypeAlias = float | Mapping[str, float]
"""A number, or numbers by the value of the metric's one label."""


class LaneKeeper(ABC):
    """Keeps what was made of each lane (see `Batch.lane`), for sources whose lanes come and go."""

    @abstractmethod
    async def take(self, lane: str) -> dict[str, Any] | None:
        """The lane will be read from now on; give the cursor that was kept with its state, None where none was."""

    @abstractmethod
    async def leave(self, lane: str) -> None:
        """The lane will not be read any more: make durable what came of it. `Source.commit` is called before it returns.

        A lane that the source's `cursor` does not have any more is lost: of that one nothing is to be kept, as somebody
        else may have it already.
        """


class Source(Plugin, ABC):
    """Where events come from: an asynchronous iterator of batches.

    A live one may lose its connection at any time: it finds it again by itself, fills the gap, and tells meanwhile by
    `gates` why nothing can be made of what it gives.
    """

    is_stored: ClassVar[bool] = False
    """What it gives was derived before and comes from the signal store, so it is not written there again."""

    secrets: ClassVar[tuple[str, ...]] = ()
    """Names of the secrets that `connect` asks for."""

    settings: ClassVar[tuple[type[Environment], ...]] = ()
    """What it reads of the environment; `torghut doctor` looks whether it is right."""

    has_lanes: ClassVar[bool] = False
    """Its batches are of lanes, which it asks `keeper` for. Only pipelines without a broker take such a source."""

    keeper: LaneKeeper | None = None
    """Set by the kernel, before `batches` is called, where it keeps the state of lanes."""

    def connect(self, connection: Connection) -> None:
        """Take what it needs; called once, before `batches` or `messages`, where it is to reach out. Does not wait.

        Raises
        ------
        SettingsError : a setting or secret is missing or wrong.
        """

    def close(self) -> None:
        """Let go of connections and threads; closing twice is harmless."""

    @abstractmethod
    def batches(self, size: int) -> AsyncIterator[Batch]:
        """Yield batches of at most `size` events, positions running from 0 (or from the cursor's) without a gap.

        A live source gives a clock tick (a position without a row) when nothing comes for a while, but never while it
        knows of a gap: time must not pass over what is still to come.

        Raises
        ------
        TapeError : a bad file or row, with its place and fix.
        InputError : what the venue says for good, such as wrong keys.
        """

    def messages(self, size: int) -> AsyncIterator[list[Message]]:
        """Yield the same events as they travel, at most `size` at a time, for a pipeline that only forwards them.

        Events that have no columns (statuses, corrections) are among them.
        """
        del size
        raise InputError(f"{type(self).__name__} cannot be forwarded: it gives no messages (use another source)")

    def history(self, symbols: Sequence[str], since: int, until: int) -> AsyncIterator[list[Message]]:
        """Yield what happened from `since` up to, not including, `until` (ns), in order of time, for a back-fill.

        Raises
        ------
        VenueError : the venue does not answer.
        """
        del symbols, since, until
        raise InputError(f"{type(self).__name__} has no history (use another source)")

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
        """Plain values from which `seek` goes on after the last batch that was yielded; by lane where there are lanes."""
        return {}

    def seek(self, cursor: dict[str, Any]) -> None:
        """Go on after the batch at which `cursor` was taken."""
        raise NotImplementedError(f"{type(self).__name__} cannot resume")

    def known_until(self) -> int | None:
        """The time, ns, up to which every event was given out; None where that is not known, as while there is a gap.

        A pipeline that forwards it tells it to those who derive: they close windows by it where nothing comes. A source that
        says it yields an empty list of messages when only time went on.
        """
        return None

    def commit(self, cursor: dict[str, Any]) -> None:
        """What came before this cursor is stored for good: where the source keeps that itself, it need not give it again."""

    def gates(self) -> Mapping[str, Closed | None]:
        """What has to be so for it to make progress, by name; None where it is. Empty where nothing can be wrong."""
        return {}

    def metrics(self) -> Mapping[str, Metric]:
        """Numbers by name without ``torghut_``; counters end in ``_total``."""
        return {}


class Sink(Plugin, ABC):
    """Where events go: a bus. It takes them in order, and gives no order up."""

    secrets: ClassVar[tuple[str, ...]] = ()
    """Names of the secrets that `connect` asks for."""

    settings: ClassVar[tuple[type[Environment], ...]] = ()
    """What it reads of the environment; `torghut doctor` looks whether it is right."""

    def connect(self, connection: Connection) -> None:
        """Take what it needs; called once, before anything is sent. Does not wait.

        Raises
        ------
        SettingsError : a setting or secret is missing or wrong.
        """

    def close(self) -> None:
        """Let go; what was not flushed may be lost. Closing twice is harmless."""

    @abstractmethod
    async def send(self, messages: Sequence[Message]) -> None:
        """Take messages, in this order; waits while too much is under way, and never drops any.

        Raises
        ------
        StateError : the bus has refused something for good; it is named.
        """

    @abstractmethod
    async def flush(self) -> None:
        """Wait until everything taken is acknowledged.

        Raises
        ------
        StateError : it cannot be.
        """

    def gates(self) -> Mapping[str, Closed | None]:
        """As `Source.gates`."""
        return {}

    def metrics(self) -> Mapping[str, Metric]:
        """As `Source.metrics`."""
        return {}


class Capabilities(msgspec.Struct, frozen=True):
    """What a broker can do. A decision that needs more (`Broker.objection`) is denied, not sent."""

    order_types: frozenset[OrderType]
    times_in_force: frozenset[TimeInForce]
    replace: bool = True
    fractional: bool = True
    shorts: bool = True
    simulated: bool = False
    """Fills come from the event stream, through `Broker.advance`, and money is not real."""


class Broker(Plugin, ABC):
    """Orders out, news in. The truth about orders is here; the audit database only knows what was intended.

    A simulated broker (`Capabilities.simulated`) lives in the loop's thread and takes what is asked at once. A real
    venue is called by the kernel's executor, in threads of its own and from several at a time: a method may wait for the
    venue, a few seconds at most, and says by its error what is known: `OrderRefused`, `DuplicateOrder`, `Throttled`,
    `NotSent`, or `Unanswered` (also for an answer that makes no sense). It never tries again by itself: the executor
    does, having looked the order up by its client order id.
    """

    capabilities: ClassVar[Capabilities]

    secrets: ClassVar[tuple[str, ...]] = ()
    """Names of the secrets that `connect` asks for."""

    settings: ClassVar[tuple[type[Environment], ...]] = ()
    """What it reads of the environment; `torghut doctor` looks whether it is right."""

    day_zone: str = "UTC"
    """Zone (IANA name) at whose midnight the account's day begins."""

    def connect(self, connection: Connection) -> None:
        """Reach the venue and begin to listen; called once, before anything else is asked. Simulated ones need nothing.

        Raises
        ------
        SettingsError : a secret is missing.
        VenueError : the venue cannot be reached, or refuses the keys.
        """

    def close(self) -> None:
        """Let go of connections and threads; closing twice is harmless."""

    def objection(self, decision: Decision) -> str:
        """Why the venue does not take such an order, before it is asked; "" when it does.

        Looks at the terms alone (type, time in force, fractions), never at the account, and gives the same answer every
        time.
        """
        able = self.capabilities
        if decision.order_type not in able.order_types:
            return f"order type {decision.order_type}"
        if decision.time_in_force not in able.times_in_force:
            return f"time in force {decision.time_in_force}"
        if not able.fractional and decision.quantity != decision.quantity.to_integral_value():
            return f"fraction {decision.quantity}"
        return ""

    def usual_time_in_force(self, symbol: str) -> TimeInForce:
        """How long an order in a symbol works where its strategy does not say."""
        del symbol
        return TimeInForce.DAY

    def fee_in_kind(self, symbol: str) -> Decimal:
        """The largest share of the units bought that the venue keeps as its fee; 0 where fees are paid in money."""
        del symbol
        return ZERO

    @abstractmethod
    def submit(self, intent: Intent) -> OrderStatus | None:
        """Place an order, and give what the venue answers. The same `client_order_id` again makes no second order.

        A simulated broker answers in `updates`, takes the same order again in silence, and returns None.
        """

    @abstractmethod
    def cancel(self, client_order_id: str) -> None:
        """Ask that an order be canceled; one that is unknown or done changes nothing. The outcome is an update."""

    @abstractmethod
    def replace(
        self,
        client_order_id: str,
        quantity: Decimal | None = None,
        limit_price: Decimal | None = None,
        stop_price: Decimal | None = None,
    ) -> None:
        """Ask that a working order be changed; None leaves a value as it is. The outcome is an update."""

    @abstractmethod
    def orders(self) -> Sequence[Order]:
        """All orders that are not done, oldest first, those of others too."""

    def done_since(self, since: int) -> Sequence[Order]:
        """Orders that were done after a time, ns, oldest first, those of others too; none where the venue keeps none."""
        del since
        return ()

    def find(self, client_order_id: str) -> OrderStatus | None:
        """The order of this client order id, working or done; None where the venue has none, as far as it knows now."""
        found = (order for order in self.orders() if order.intent.client_order_id == client_order_id)
        return next((OrderStatus(order=order) for order in found), None)

    @abstractmethod
    def positions(self) -> dict[str, Position]:
        """Position by symbol; flat ones may be left out."""

    @abstractmethod
    def account(self) -> Account:
        """The account now."""

    def clock(self) -> int | None:
        """The venue's time, ns; None where it has none of its own."""
        return None

    @abstractmethod
    def updates(self) -> Sequence[Report | OrderStatus]:
        """What became known since the last call, oldest first; empty when nothing happened. Never waits.

        A real venue gives statuses: they may come twice, late or not at all.
        """

    def health(self) -> list[str]:
        """Why it may not hear of what happens at the venue; empty when it does."""
        return []

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
    def find_order(self, account: str, client_order_id: str) -> Order | None:
        """The order of this id as it was last written down; None where it never was."""

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
        inputs: msgspec.Struct | None = None,
    ) -> None:
        """Write down a decision with the signal row and all verdicts; with an intent when it was allowed.

        `inputs` is what risk judged it by, from which the verdicts can be found again.
        """

    @abstractmethod
    def record_report(
        self, account: str, order: Order, report: Report, position: Position, strategy_id: str | None = None
    ) -> None:
        """Write down a report, with the order and the strategy's position as they are after it.

        `strategy_id` is who holds that position; the order's strategy where None.
        """

    @abstractmethod
    def record_position(
        self, account: str, strategy_id: str, symbol: str, position: Position, at: int, reason: str
    ) -> None:
        """Write down a strategy's position that changed otherwise than by a fill: handed over, or adjusted."""

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

    def mark(self, token: str) -> None:
        """Begin a new block here; `token` names the place, such as the offsets of a checkpoint.

        The same rows after the same mark are sent in the same blocks, so that a store which keeps what it knows of the
        last blocks takes them once, also when they come again from another process after a crash. Call it at the start
        and after each checkpoint: after a mark rows wait for a full block, for the next mark, or for `flush`.

        Raises
        ------
        StateError : as `write`.
        """
        del token

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
