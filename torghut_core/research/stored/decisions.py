"""What strategies decide on the stored signals of a window, without an order: `torghut replay --from-store`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from torghut_core.audit.rows import as_json
from torghut_core.errors import InputError
from torghut_core.generation import Generation
from torghut_core.installation.known_settings import check_environment
from torghut_core.installation.open import existing_state, load_plugins, open_signals
from torghut_core.installation.settings import Settings, load_settings
from torghut_core.installation.state_directory import StateDirectory
from torghut_core.model.trading import (
    ZERO,
    Account,
    Charge,
    Decision,
    Intent,
    Order,
    Outcome,
    Position,
    Report,
    Verdict,
)
from torghut_core.ports import Journal
from torghut_core.research.backtests import load_catalog, watched
from torghut_core.research.replay import gates_of
from torghut_core.research.stored.fixtures import read_fixtures
from torghut_core.research.stored.window import Window, show_past, stored_generation
from torghut_core.signals import MemorySignalStore, SignalDatabase
from torghut_core.trading.engine import Engine, Reach
from torghut_core.trading.loop import Loop
from torghut_core.trading.totals import Result, Totals

ACCOUNT = "replay"
"""The account of these decisions: in their hashes, and in no database."""

PAGE = 4096
"""Events per batch."""

OnDecision = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Decided:
    """A replay of stored signals that has run.

    Attributes
    ----------
    result : what `torghut replay --json` prints: orders and fills are 0, and there is no equity.
    totals : what happened, counted.
    starved : strategies that were shown no signal at all -> why: which bars are not stored, which features had no value.
    skipped : stored rows that were left out: reason -> count.
    """

    result: Mapping[str, Any]
    totals: Totals
    starved: Mapping[str, str]
    skipped: Mapping[str, int]


@contextmanager
def open_stored_replay(
    catalog: Path,
    state: Path,
    window: Window,
    *,
    fixtures: Sequence[Path] = (),
    symbols: Collection[str] = (),
    limit: int | None = None,
    apply_risk: bool = False,
    settings: Settings | None = None,
) -> Iterator[StoredReplay]:
    """Open a replay of stored signals, which writes nothing anywhere.

    Parameters
    ----------
    catalog : catalog file or folder.
    state : directory of the embedded store; that of ``TA_CLICKHOUSE_URL`` comes before it.
    window : which rows.
    fixtures : files of rows that are read in place of the store, see `read_fixtures`.
    symbols : of which rows are read; of all that the catalog needs where empty.
    limit : rows at most.
    apply_risk : whether gates, advisors and rules judge the decisions.
    settings : of the environment where None.

    Raises
    ------
    CatalogError, InputError, TapeError : the catalog, the window or a fixture is wrong.
    NotFoundError, StateError : there is no store, or it is in use.
    """
    settings = settings or load_settings()
    parsed = load_catalog(catalog)
    host = load_plugins(settings, parsed.plugins.allow)
    check_environment(host)
    with _store(settings, state, fixtures) as signals:
        generation = stored_generation(
            parsed, host, signals, window, symbols=symbols, limit=limit, defaults=settings.limits
        )
        reach = Reach.JUDGED if apply_risk else Reach.PROPOSED
        yield StoredReplay(generation, signals, window, reach, settings)


@contextmanager
def _store(settings: Settings, state: Path, fixtures: Sequence[Path]) -> Iterator[SignalDatabase]:
    if fixtures:
        with closing(MemorySignalStore()) as memory:
            read_fixtures(fixtures, memory)
            yield memory
    elif settings.ta_clickhouse_url is not None:
        with closing(open_signals(settings, StateDirectory(state))) as server:
            yield server
    else:
        with existing_state(state) as directory, closing(open_signals(settings, directory)) as embedded:
            yield embedded


class StoredReplay:
    """A replay of stored signals that is ready to run; see `open_stored_replay`."""

    def __init__(
        self, generation: Generation, signals: SignalDatabase, window: Window, reach: Reach, settings: Settings
    ) -> None:
        self._generation = generation
        self._signals = signals
        self._window = window
        self._reach = reach
        self._settings = settings

    def run(
        self,
        on_decision: OnDecision = lambda _decision: None,
        on_progress: Callable[[int], None] = lambda _events: None,
    ) -> Decided:
        """Decide on every row of the window, once only.

        Parameters
        ----------
        on_decision : called with each decision, its status and the verdicts on it, as JSON values.
        on_progress : called after each batch with the number of events so far.

        Raises
        ------
        StateError : the store cannot be read.
        """
        generation = self._generation
        journal = DecisionsOnly(on_decision)
        gates = gates_of(self._settings)
        engine = Engine(
            generation,
            ACCOUNT,
            journal,
            gates,
            allow_shorts=self._settings.trading_allow_shorts,
            reach=self._reach,
        )
        show_past(engine, self._signals, self._window.since)
        with watched() as around:
            loop = Loop(generation, engine, journal, self._signals, around)
            asyncio.run(loop.run(PAGE, on_progress))
        totals = engine.totals
        result = Result.of(totals, final_equity=ZERO, digest=engine.digest, generation=0, seconds=loop.seconds)
        source = generation.source
        return Decided(
            result=msgspec.structs.asdict(result) | {"final_equity": None},
            totals=totals,
            starved=engine.roster.starved,
            skipped={} if source is None else source.skipped,
        )


@contextmanager
def line_writer(path: Path | None) -> Iterator[Callable[[str], object]]:
    """Give what writes a line to a file, which appears whole or not at all; to none where `path` is None.

    Raises
    ------
    InputError : the file cannot be written.
    """
    if path is None:
        yield lambda _line: None
        return
    part = path.with_name(f".{path.name}.part")
    try:
        try:
            with part.open("w", encoding="utf-8") as file:
                yield lambda line: file.write(f"{line}\n")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error} (choose another file)") from error


class DecisionsOnly(Journal):
    """A journal of which nothing is kept: it hands on each decision. Without an order no other record comes."""

    def __init__(self, on_decision: OnDecision) -> None:
        self._on_decision = on_decision

    def is_known(self, account_label: str, decision_hash: str) -> bool:
        """No: nothing was recorded before."""
        del account_label, decision_hash
        return False

    def record_decision(
        self,
        decision: Decision,
        signal: dict[str, Any],
        verdicts: Sequence[Verdict],
        intent: Intent | None,
        inputs: msgspec.Struct | None = None,
    ) -> None:
        """Hand on a decision."""
        del intent, inputs
        is_denied = any(verdict.outcome is Outcome.DENY for verdict in verdicts)
        row = {
            "decision_hash": decision.decision_hash,
            "strategy_id": decision.strategy_id,
            "symbol": decision.symbol,
            "event_ts": decision.event_ts,
            "decided_at": decision.decided_at,
            "action": str(decision.action),
            "params": decision.params,
            "price": decision.price,
            "rationale": decision.because,
            "status": "denied" if is_denied else "allowed",
            "verdicts": msgspec.to_builtins(verdicts, enc_hook=str),
            "signal": as_json({name: value for name, value in signal.items() if value == value}),
        }
        self._on_decision(as_json(row))

    def record_strategies(self, entries: Sequence[dict[str, Any]], mode: str) -> None:
        """Keep nothing."""

    def record_generation(self, generation: dict[str, Any], actor: str, outcome: str) -> int:
        """Keep nothing."""
        del generation, actor, outcome
        return 0

    def record_leg(self, intent: Intent) -> None:
        """Refuse: no order is sent here."""
        raise InputError(f"order {intent.client_order_id} of a replay that sends none")

    def record_owner(self, account_label: str, client_order_id: str, strategy_id: str) -> None:
        """Keep nothing."""

    def record_report(
        self, account_label: str, order: Order, report: Report, position: Position, strategy_id: str | None = None
    ) -> None:
        """Keep nothing."""

    def record_position(
        self, account_label: str, strategy_id: str, symbol: str, position: Position, at: int, reason: str
    ) -> None:
        """Keep nothing."""

    def record_charge(self, account_label: str, charge: Charge) -> None:
        """Keep nothing."""

    def record_account(self, account_label: str, account: Account, positions: dict[str, Position], at: int) -> None:
        """Keep nothing."""

    def commit(self) -> None:
        """Keep nothing."""
