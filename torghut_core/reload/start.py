"""Which generation a run starts with: what the files say, what was rolled back to, or the last good one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torghut_core.audit import AuditStore, Records
from torghut_core.catalog import Catalog, Draft, content_digest, load, load_draft, read
from torghut_core.catalog.watch import Version
from torghut_core.errors import CatalogError, InputError
from torghut_core.generation import Generation, build, validate
from torghut_core.model.trading import Limits
from torghut_core.plugin_host import PluginHost
from torghut_core.reload.plan import ReloadOutcome
from torghut_core.reload.settle import settle

PINNED = "catalog.pinned"
"""The control that keeps a rollback: which generation trades while the content of the catalog's files stays the same."""


@dataclass(frozen=True)
class Start:
    """What a run starts with.

    Attributes
    ----------
    version : the content of the catalog's files, or why they cannot be read.
    draft : what is wanted: the valid entries of the files, or a catalog that once traded.
    refused : why the files are not used; None where they are.
    is_pinned : rolled back, until the content of the files changes.
    host, generation : the plugins, and what trades.
    problems : why not everything that the files say trades, a line each.
    """

    version: Version
    draft: Draft
    refused: CatalogError | None
    is_pinned: bool
    host: PluginHost
    generation: Generation
    problems: list[str]


def require_catalog(path: Path) -> None:
    """Refuse a wrong catalog before anything is made: where nothing has traded yet, nothing can take its place.

    Raises
    ------
    CatalogError : it cannot be read, or is wrong.
    """
    load(texts_of(read_version(path)))


def choose_start(
    path: Path, audit: AuditStore, load_plugins: Callable[[Sequence[str]], PluginHost], limits: Limits
) -> Start:
    """Build the first generation.

    Parameters
    ----------
    path : the catalog: a file, or a folder of them.
    audit : knows what traded here before.
    load_plugins : gives the plugins that ``plugins.allow`` of a catalog allows.
    limits : of strategies that state none.

    Raises
    ------
    CatalogError : the catalog is wrong, and nothing good has traded here before.
    InputError : it has no pipeline that can trade.
    """
    version, last = read_version(path), _last_good(audit)
    draft, refused, is_pinned = _first_draft(version, audit, last)
    problems = [] if refused is None else [str(problem) for problem in refused.problems]
    host = load_plugins(draft.catalog.plugins.allow)
    generation, rest = _first_generation(draft, host, last, limits)
    return Start(version, draft, refused, is_pinned, host, generation, problems + rest)


def read_version(path: Path) -> Version:
    """The content of the catalog's files, or why they cannot be read."""
    try:
        return read(path)
    except CatalogError as error:
        return error


def texts_of(version: Version) -> Mapping[str, str]:
    """The content of the catalog's files.

    Raises
    ------
    CatalogError : they cannot be read.
    """
    if isinstance(version, CatalogError):
        raise version
    return version


def recorded_catalog(records: Records, number: int) -> Catalog | None:
    """The catalog of a generation that was written down; None where there is no such generation."""
    rows = records.rows("catalog_generations", number=number)
    return Catalog.from_record(rows[0]["content"]) if rows else None


def as_draft(catalog: Catalog) -> Draft:
    """A catalog that once traded, as what is wanted now; its entries, which are in no file, get their index as place."""
    lists = {
        key: tuple(each.moved(f"{key}[{index}]") for index, each in enumerate(getattr(catalog, key)))
        for key in ("strategies", "risk", "advisors", "observers")
    }
    return Draft(catalog.with_(**lists), [], {})


def _last_good(records: Records) -> Catalog | None:
    """The catalog of the last generation that traded here, None before the first."""
    for row in records.rows("catalog_generations", newest_first=True, limit=100):
        if row["outcome"] != ReloadOutcome.REPLAYED:
            return Catalog.from_record(row["content"])
    return None


def _first_draft(version: Version, audit: AuditStore, last: Catalog | None) -> tuple[Draft, CatalogError | None, bool]:
    """What is wanted first, why the files are not used, and whether that is because of a rollback."""
    pin = audit.control(PINNED)
    if pin and not isinstance(version, CatalogError) and pin["content"] == content_digest(version):
        catalog = recorded_catalog(audit, pin["generation"])
        if catalog is not None:
            return as_draft(catalog), None, True
    try:
        draft = load_draft(texts_of(version))
    except CatalogError as error:
        if last is None:
            raise
        return as_draft(last), error, False
    if draft.problems and last is None:
        raise CatalogError(draft.problems)
    return draft, None, False


def _first_generation(
    draft: Draft, host: PluginHost, last: Catalog | None, limits: Limits
) -> tuple[Generation, list[str]]:
    """The first generation, and its problems; a wrong entry is as it was in the last good one, or stays out."""
    if last is not None:  # as far as its plugins are still what they were
        recorded = as_draft(last)
        last = recorded.without(validate(recorded.catalog, host)).catalog
    while True:
        catalog = settle(draft, last, ()) if last is not None else draft.catalog
        if "pipelines" not in draft.left_out:
            catalog = catalog.with_(pipelines=draft.catalog.pipelines)
        try:
            generation = build(catalog, host, defaults=limits)
        except CatalogError as error:
            if last is None:
                raise
            less = draft.without(error.problems)
            if less.left_out == draft.left_out:
                raise
            draft = less
            continue
        if generation.source is None or generation.broker is None:
            raise InputError("the catalog has no `trading` pipeline with a source and a broker: nothing to run")
        if generation.source.has_lanes:
            raise InputError(
                "the source of `trading` is read in lanes, each with a time of its own, and trading has one time "
                "(derive signals with `torghut ta`, and trade on the source `clickhouse-signals`)"
            )
        generation.source.check()
        return generation, [str(problem) for problem in draft.problems]
