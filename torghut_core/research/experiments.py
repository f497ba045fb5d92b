"""The ledger of experiments: every backtest, sweep and walk-forward, what it was of and what came out.

Whether a result is more than luck depends on how many were tried, so each run of these commands adds one row, a bad one
too. Rows are never changed. They are in the table ``experiments`` of the audit database, outside its log: that of the state
directory, or of ``DB_DSN``, which several machines may share. Writing a row does not need the state directory's lock, so
research goes on beside a kernel that trades.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

import msgspec

from torghut_core.audit.values import plain
from torghut_core.catalog import content_digest
from torghut_core.environment import login
from torghut_core.errors import NotFoundError, StateError, TapeError
from torghut_core.generation import Generation
from torghut_core.installation.open import audit_url
from torghut_core.installation.settings import load_settings
from torghut_core.installation.state_directory import StateDirectory
from torghut_core.timestamps import SYSTEM_CLOCK, format_timestamp, parse_timestamp

Kind: TypeAlias = Literal["backtest", "sweep", "walk-forward"]


class Experiment(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a command, as the ledger keeps it. Times are ns.

    Attributes
    ----------
    run_id : its own, see `new_run_id`.
    kind : the command.
    created_at : when it was done.
    author : ``TORGHUT_AUTHOR``, or else the user's login name.
    strategy : names of the strategies that traded, joined by commas.
    params : their parameters with defaults, by strategy; of several variants, the values that were tried, by name.
    universe : symbols, sorted.
    began_at, ended_at : the first and the last event that was traded on.
    catalog_digest : of the catalog, without the paths of its tapes.
    code_digest, code : sha256 of the plugins' code, and kind, name, distribution, version and digest of each.
    data_digest, data : sha256 of the tapes' content, and path, bytes and sha256 of each.
    costs : parameters of the simulated broker.
    folds : how the span was divided, where it was: scheme, lengths, purge and embargo; and the figures of each.
    variants : how many parameter sets were tried.
    selection : by what rule one of them was chosen.
    figures : by name, see `figures`; of the one that was chosen. None where there is no number.
    notes : what the author says.
    folder : where its artefacts are.
    """

    run_id: str
    kind: Kind
    created_at: int
    author: str
    strategy: str
    params: Mapping[str, Any]
    universe: Sequence[str]
    began_at: int
    ended_at: int
    catalog_digest: str
    code_digest: str
    code: Sequence[Mapping[str, Any]]
    data_digest: str
    data: Sequence[Mapping[str, Any]]
    costs: Mapping[str, Any]
    folds: Mapping[str, Any] | None = None
    variants: int = 1
    selection: str = ""
    figures: Mapping[str, float | None]
    notes: str = ""
    folder: str = ""

    @classmethod
    def of(
        cls,
        generation: Generation,
        kind: Kind,
        *,
        began_at: int,
        ended_at: int,
        figures: Mapping[str, float],
        run_id: str = "",
        params: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> Self:
        """Describe a run of a generation; `more` are fields that have defaults.

        Parameters
        ----------
        run_id : a new one where empty.
        params : those of the generation where None.

        Raises
        ------
        TapeError : a tape cannot be read any more.
        """
        entries = generation.strategies
        plugins = [plugin.to_record() for plugin in generation.plugins]
        code = [{"kind": "kernel", "name": "torghut", "version": version("torghut")}, *plugins]
        data = [file_record(path) for path in tapes_of(generation)]
        broker = generation.catalog.pipelines["trading"].broker
        return cls(
            run_id=run_id or new_run_id(kind),
            kind=kind,
            created_at=SYSTEM_CLOCK.wall(),
            author=load_settings().torghut_author or login(),
            strategy=", ".join(each.name for each in entries),
            params=_thawed({each.name: each.params for each in entries} if params is None else params),
            universe=sorted({symbol for each in entries for symbol in each.symbols}),
            began_at=began_at,
            ended_at=ended_at,
            catalog_digest=_digest_without_tapes(generation),
            code_digest=content_digest(code),
            code=code,
            data_digest=content_digest([each["sha256"] for each in data]),
            data=data,
            costs=_thawed(broker.params) if broker else {},
            figures={name: float(value) if math.isfinite(value) else None for name, value in figures.items()},
            **more,
        )

    @property
    def is_again(self) -> tuple[Any, ...]:
        """Equal for runs that tried the same: catalog, code, data, span and parameters."""
        tried = content_digest([self.params, self.folds or {}, self.selection])
        digests = self.catalog_digest, self.code_digest, self.data_digest
        return self.kind, self.strategy, *digests, self.began_at, self.ended_at, tried

    def to_json(self) -> dict[str, Any]:
        """The row as JSON values, times as text."""
        row: dict[str, Any] = msgspec.to_builtins(self)
        return row | {name: format_timestamp(row[name]) for name in ("created_at", "began_at", "ended_at")}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self:
        """What `to_json` wrote.

        Raises
        ------
        ValueError : it is something else.
        """
        times = {name: parse_timestamp(str(row.get(name))) for name in ("created_at", "began_at", "ended_at")}
        return msgspec.convert({**row, **times}, cls)


class Ledger:
    """The table of experiments in an audit database.

    Parameters
    ----------
    database : a SQLAlchemy URL, or the path of a SQLite file; made, or migrated, where it has to be.

    Raises
    ------
    StateError : it cannot be opened.
    """

    def __init__(self, database: str | Path) -> None:
        from torghut_core.audit.database import audit_engine, prepare  # brings SQLAlchemy: slow to import

        self._engine = audit_engine(database)
        try:
            prepare(self._engine)
        except StateError:
            self._engine.dispose()
            raise

    @classmethod
    def open(cls, state: Path | str, *, exists: bool = False) -> Self:
        """Open the ledger of a state directory (a path), or that of ``DB_DSN`` where it is set; or of a database's URL (text).

        Raises
        ------
        NotFoundError : nothing is there, where `exists` says that something has to be.
        StateError : it cannot be opened.
        """
        if isinstance(state, str):
            return cls(state)
        directory = StateDirectory(state)
        settings = load_settings()
        if settings.db_dsn is None:
            if exists and not directory.exists:
                raise NotFoundError(f"there is no state in {state} (run torghut backtest, or give --state DIR)")
            try:
                state.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StateError(f"state directory {state}: {error.strerror} (give another --state)") from error
        return cls(audit_url(settings, directory))

    def add(self, experiment: Experiment) -> None:
        """Write a row, durably.

        Raises
        ------
        StateError : it cannot be written, or its run is in the ledger already.
        """
        from torghut_core.audit.database import writing
        from torghut_core.audit.tables import experiments

        with writing(self._engine) as connection:
            connection.execute(experiments.insert(), msgspec.structs.asdict(experiment))

    def find(self, *, strategy: str = "", kind: Kind | None = None, since: int = 0, run: str = "") -> list[Experiment]:
        """The rows, oldest first.

        Parameters
        ----------
        strategy : only where it traded, alone or with others.
        kind : only runs of this command.
        since : only what was done since then, ns.
        run : only runs whose id begins so.

        Raises
        ------
        StateError : they cannot be read.
        """
        from sqlalchemy import select

        from torghut_core.audit.database import reading
        from torghut_core.audit.tables import experiments

        query = select(experiments).order_by(experiments.c.created_at, experiments.c.run_id)
        query = query.where(experiments.c.created_at >= since, experiments.c.run_id.startswith(run, autoescape=True))
        if kind is not None:
            query = query.where(experiments.c.kind == kind)
        with reading(self._engine) as connection:
            rows = [Experiment(**row) for row in connection.execute(query).mappings()]
        return [row for row in rows if not strategy or strategy in row.strategy.split(", ")]

    def get(self, run: str) -> Experiment:
        """The row of a run, by its id or the beginning of it.

        Raises
        ------
        NotFoundError : there is none, or there are several.
        StateError : it cannot be read.
        """
        found = self.find(run=run)
        if len(found) == 1 or (found and found[0].run_id == run):
            return found[0]
        if found:
            raise NotFoundError(
                f"{len(found)} runs begin with {run!r}: {', '.join(row.run_id for row in found[:3])}, ..."
            )
        raise NotFoundError(f"the ledger has no run {run!r} (torghut experiments lists them)")

    def variants(self, strategy: str, data_digest: str | None = None) -> int:
        """How many parameter sets of a strategy have been tried, on one set of tapes or on all; the same again counts once.

        Raises
        ------
        StateError : they cannot be read.
        """
        tried: dict[tuple[Any, ...], int] = defaultdict(int)
        for row in self.find(strategy=strategy):
            if data_digest in (None, row.data_digest):
                tried[row.is_again] = max(tried[row.is_again], row.variants)
        return sum(tried.values())

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()


def tried(state: Path, experiment: Experiment) -> int:
    """How many parameter sets were tried of the strategies of an experiment on its tapes, its own with them.

    Its own alone where the ledger cannot be read: whoever adds to it then says so.
    """
    try:
        with closing(Ledger.open(state)) as ledger:
            before = ledger.find()
    except StateError:
        return experiment.variants
    found = {experiment.is_again: experiment.variants}
    for row in before:
        if (row.strategy, row.data_digest) == (experiment.strategy, experiment.data_digest):
            found[row.is_again] = max(found.get(row.is_again, 0), row.variants)
    return sum(found.values())


def new_run_id(kind: Kind) -> str:
    """A name that no other run has, and that sorts by time.

    Examples
    --------
    >>> new_run_id("backtest")  # doctest: +SKIP
    'backtest-20261130-094622-3fa9c1'
    """
    return f"{kind}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def tapes_of(generation: Generation) -> list[Path]:
    """The files that a generation's source reads, corporate actions last."""
    source = generation.catalog.pipelines["trading"].source
    return [Path(path) for name in ("paths", "actions") for path in source.params.get(name, ())]


def file_record(path: Path) -> dict[str, Any]:
    """A file's path, bytes, and sha256 of its content.

    Raises
    ------
    TapeError : it cannot be read.
    """
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return {"path": str(path), "bytes": file.tell(), "sha256": digest}
    except OSError as error:
        raise TapeError(
            path, error.strerror or str(error), "leave tapes where they are until the run is done"
        ) from error


def _thawed(value: Any) -> Any:
    """A value as JSON has it, with dicts in place of mappings that cannot be changed."""
    if isinstance(value, Mapping):
        return {str(key): _thawed(inner) for key, inner in value.items()}
    return [_thawed(inner) for inner in value] if isinstance(value, list | tuple) else plain(value)


def _digest_without_tapes(generation: Generation) -> str:
    """The digest of a catalog without the paths of its tapes: what they hold is in another."""
    content = generation.catalog.model_dump(mode="json")
    source = content["pipelines"]["trading"]["source"]["params"]
    for name in ("paths", "actions", "speed", "follow"):
        source.pop(name, None)
    return content_digest(content)
