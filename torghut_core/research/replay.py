"""Recorded tapes through a catalog, written down in a state directory: what `torghut replay` and `torghut demo` do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

from torghut_core.audit import AuditStore
from torghut_core.catalog import Draft
from torghut_core.errors import CatalogError, InputError
from torghut_core.generation import Generation
from torghut_core.installation.known_settings import check_environment
from torghut_core.installation.open import load_plugins, open_audit, open_signals
from torghut_core.installation.settings import Settings, load_settings
from torghut_core.installation.state_directory import StateDirectory
from torghut_core.plugin_host import PluginHost
from torghut_core.reload.reloader import Reloader
from torghut_core.research.backtests import Backtest, Stops, load_catalog, on_tapes, run_backtest, tape_generation
from torghut_core.signals import MemorySignalStore, SignalDatabase, is_embedded_installed
from torghut_core.telemetry import logs
from torghut_core.timestamps import MINUTE
from torghut_core.trading.engine import Engine
from torghut_core.trading.gates import Gates
from torghut_core.trading.loop import BATCH_SIZE, Loop


def example_catalogs() -> Path:
    """The folder with the example catalogs and the tape that they play.

    Raises
    ------
    InputError : neither the installed package nor its checkout has it.
    """
    package = Path(__file__).parents[1]
    for folder in (package / "demo", package.parent / "catalog"):  # where a wheel has it, and a checkout
        if (folder / "trading.yaml").exists():
            return folder
    raise InputError("this installation has no demo tape (install the wheel, or run it from a checkout of the project)")


@contextmanager
def open_replay(
    catalog: Path,
    tapes: Sequence[Path],
    state: Path,
    *,
    speed: str = "max",
    on_bad_row: str = "fail",
    actions: Sequence[Path] = (),
    swaps: Sequence[tuple[int, Path]] = (),
    is_stored: bool = True,
    settings: Settings | None = None,
) -> Iterator[Replay]:
    """Open a replay of tapes through a catalog; it owns the state directory inside the ``with`` block.

    Everything that can be wrong with the catalog and the tapes is found on entering, before anything is written.

    Parameters
    ----------
    catalog : catalog file or folder.
    tapes : what to replay; empty for those that the catalog's own source names.
    state : directory of the embedded stores.
    speed, on_bad_row : parameters of the source that reads the tapes.
    actions : tapes of corporate actions; empty for those that the catalog's own source names.
    swaps : (event, catalog): the catalog to apply, as a reload would, before the event of this index, from 0.
    is_stored : whether microbars and signals are kept in the signal store; in memory, and so until the end alone, where not,
        and where no store is installed.
    settings : of the environment where None.

    Raises
    ------
    CatalogError, InputError, TapeError : a catalog or tape is wrong.
    StateError : the state directory is in use, or cannot be written.
    """
    settings = settings or load_settings()
    parsed = load_catalog(catalog)
    source: dict[str, Any] = {"speed": speed, "on_bad_row": on_bad_row}
    if actions:
        source["actions"] = [str(tape) for tape in actions]
    host = load_plugins(settings, parsed.plugins.allow)
    check_environment(host)
    drafts = [
        (event, Draft(on_tapes(load_catalog(path), host, tapes, **source), [], {}))
        for event, path in sorted(swaps, key=itemgetter(0))
    ]
    generation = tape_generation(parsed, tapes, host, defaults=settings.limits, **source)
    with (
        StateDirectory(state) as directory,
        closing(open_audit(settings, directory)) as audit,
        closing(_open_signals(settings, directory, is_stored=is_stored)) as signals,
    ):
        yield Replay(generation, host, audit, signals, settings, drafts)


def _open_signals(settings: Settings, directory: StateDirectory, *, is_stored: bool) -> SignalDatabase:
    """Open the signal store, or one in memory: the run itself, its swaps and its page need no other."""
    if is_stored and settings.ta_clickhouse_url is None and not is_embedded_installed():
        logs.warning(
            "microbars and signals are not stored: the embedded ClickHouse is not installed "
            "(pip install 'torghut[embedded]'; --no-store says that they are not wanted)"
        )
        is_stored = False
    return open_signals(settings, directory, is_replay=True) if is_stored else MemorySignalStore()


def gates_of(settings: Settings) -> Gates:
    """The gates of a replay or backtest: trading is enabled, and prices are judged as the settings say."""
    return Gates(
        trading_enabled=True,
        price_max_age_ns=settings.trading_price_lookback_minutes * MINUTE,
        price_band=settings.trading_price_band,
        price_collar=settings.trading_price_collar,
    )


class Replay:
    """A replay that is ready to run; see `open_replay`.

    Attributes
    ----------
    total : events to come in all; None where the source does not know.
    """

    def __init__(
        self,
        generation: Generation,
        host: PluginHost,
        audit: AuditStore,
        signals: SignalDatabase,
        settings: Settings,
        swaps: Sequence[tuple[int, Draft]] = (),
    ) -> None:
        assert generation.source is not None
        self.total = generation.source.total
        self._generation = generation
        self._host = host
        self._audit = audit
        self._signals = signals
        self._settings = settings
        self._swaps = swaps
        self._gates = gates_of(settings)

    def run(self, batch_size: int = BATCH_SIZE, on_progress: Callable[[int], None] = lambda _events: None) -> Backtest:
        """Trade the tapes from the first event to the last; once only.

        Raises
        ------
        CatalogError : a catalog that was to be swapped in cannot be applied.
        TapeError, StateError : as `run_backtest`.
        """
        return run_backtest(
            self._generation,
            audit=self._audit,
            signals=self._signals,
            gates=self._gates,
            allow_shorts=self._settings.trading_allow_shorts,
            name="replay",
            batch_size=batch_size,
            on_progress=on_progress,
            stops=self._stops,
        )

    def _stops(self, engine: Engine, loop: Loop) -> Stops:
        reloader = Reloader(
            engine,
            self._audit,
            self._signals,
            self._gates,
            self._host,
            partial(load_plugins, self._settings),
            defaults=self._settings.limits,
            since=lambda: loop.began_at,
        )
        return [(event, partial(_swap, reloader, draft)) for event, draft in self._swaps]


def _swap(reloader: Reloader, draft: Draft) -> None:
    """Apply another catalog between two events; what it says of source, stages and broker waits for a restart.

    Raises
    ------
    CatalogError : it cannot be applied as it stands.
    """
    plan = reloader.plan(draft, reloader.begin(), releases=True)
    if plan.problems:
        raise CatalogError(plan.draft.problems)
    while not reloader.apply(plan, "replay"):
        plan = reloader.plan(draft, reloader.begin(), releases=True)
