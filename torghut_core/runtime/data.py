"""What `torghut data` does: files into a tape that its reader has checked, and what is in tapes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torghut_core.calendars import PAIRS_AND_US_EQUITIES
from torghut_core.catalog import DEFAULT_ALLOW
from torghut_core.generation import tape_source
from torghut_core.installation.open import load_plugins
from torghut_core.installation.settings import load_settings
from torghut_core.market_data.imports.importer import Imported, Options, import_files
from torghut_core.market_data.inspection import SPIKE_PCT, Inspection, inspect
from torghut_core.ports import Source
from torghut_core.trading.loop import BATCH_SIZE


def run_import(
    paths: Sequence[Path], out: Path, options: Options, on_progress: Callable[[int], None] = lambda _rows: None
) -> Imported:
    """Make a tape of files, and have the source that replays it read every row of it before it takes its place.

    Raises
    ------
    InputError : as `import_files`; `TapeError` where the tape cannot be replayed.
    """
    return import_files(
        paths, out, options, check=lambda tape: _open_tapes([tape], on_bad_row="fail").check(), on_progress=on_progress
    )


def run_inspect(
    tapes: Sequence[Path],
    calendars: Mapping[str, str] | None = None,
    spike_pct: float = SPIKE_PCT,
    on_progress: Callable[[int], None] = lambda _rows: None,
) -> Inspection:
    """Read tapes as a replay does, merged, and give what is in them; bad rows are counted.

    Parameters
    ----------
    calendars : exchange calendar by symbol pattern, before those of pairs and US equities.

    Raises
    ------
    InputError : a calendar that does not exist, or (`TapeError`) a tape that cannot be read at all.
    """
    known = {**(calendars or {}), **PAIRS_AND_US_EQUITIES}
    source = _open_tapes(tapes, on_bad_row="skip", calendars=known)
    source.check()
    series, rows, duplicates = asyncio.run(inspect(source.batches(BATCH_SIZE), known, spike_pct, on_progress))
    return Inspection([str(tape) for tape in tapes], rows, duplicates, source.skipped, series)


def _open_tapes(tapes: Sequence[Path], **params: Any) -> Source:
    """The loaded source that reads tapes, on these."""
    host = load_plugins(load_settings(), DEFAULT_ALLOW)
    plugin = host.registry["source"][tape_source(host)]
    source: Source = plugin.create(plugin.cls.Params.model_validate({"paths": [str(tape) for tape in tapes], **params}))
    return source
