"""Runs side by side: their figures, and what differs in parameters, code, data and costs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq

from torghut_core.research.experiments import Experiment, Ledger
from torghut_core.research.pages.documents import write_document
from torghut_core.research.performance.curve import Curve, floats, ints, thinned
from torghut_core.research.performance.figures import FIGURES
from torghut_core.research.performance.summary import figure_text, label_of, line_points
from torghut_core.research.run_folder import RESULT, read_run
from torghut_core.timestamps import format_timestamp

MOST_POINTS = 1_000
WIDTH, HEIGHT = 1000, 300
"""Of the lines of equity, in their own units."""
COLORS = ("#4285d6", "#d1900f", "#26a269", "#9b6fd3", "#d64550", "#1f9aa8", "#8d97a5")


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Runs that are compared.

    Attributes
    ----------
    runs : in the order in which they were named.
    figures : by name, the figure of each run; None where it is not known.
    sentences : how far each run can be believed, "" where its folder is gone.
    described : what each run is made of, by name, as each run has it; None where one has no such thing.
    """

    runs: Sequence[Experiment]
    figures: Mapping[str, Sequence[float | None]]
    sentences: Sequence[str]
    described: Mapping[str, Sequence[Any]]

    @property
    def differences(self) -> dict[str, Sequence[Any]]:
        """What is not the same in all runs."""
        return {name: values for name, values in self.described.items() if any(each != values[0] for each in values)}

    def to_json(self) -> dict[str, Any]:
        """The comparison as JSON values."""
        return {
            "runs": [run.to_json() for run in self.runs],
            "figures": dict(self.figures),
            "beliefs": list(self.sentences),
            "differences": self.differences,
        }


def find_runs(names: Sequence[str], state: Path) -> list[Experiment]:
    """The runs of these names: folders with a ``result.json``, or ids of the ledger, of which the beginning is enough.

    Raises
    ------
    NotFoundError, InputError : there is no such run.
    StateError : the ledger cannot be read.
    """
    found = []
    for name in names:
        folder = Path(name)
        if folder.is_dir():
            found.append(read_run(folder))
            continue
        with closing(Ledger.open(state, exists=True)) as ledger:
            found.append(ledger.get(name))
    return found


def compare(runs: Sequence[Experiment]) -> Comparison:
    """Compare runs."""
    names = [name for name in FIGURES if any(name in run.figures for run in runs)]
    names += [name for run in runs for name in run.figures if name not in FIGURES]
    described = [dict(_described(run)) for run in runs]
    things = dict.fromkeys(name for each in described for name in each)
    return Comparison(
        runs=runs,
        figures={name: [run.figures.get(name) for run in runs] for name in dict.fromkeys(names)},
        sentences=[_sentence(run) for run in runs],
        described={name: [each.get(name) for each in described] for name in things},
    )


def write_comparison(path: Path, found: Comparison) -> None:
    """Write the comparison as a page, one HTML file, with the equity of the runs whose folders are there.

    Raises
    ------
    StateError : the file cannot be written.
    """
    names = [run.run_id for run in found.runs]
    colors = [COLORS[number % len(COLORS)] for number in range(len(names))]
    write_document(
        path,
        "comparison.html",
        title=f"{len(names)} runs",
        subtitle=", ".join(names),
        runs=[{"name": name, "color": color} for name, color in zip(names, colors, strict=True)],
        figures=[
            (label_of(name), [figure_text(name, value) for value in values]) for name, values in found.figures.items()
        ],
        beliefs=[(name, sentence) for name, sentence in zip(names, found.sentences, strict=True) if sentence],
        differences=list(found.differences.items()),
        lines=[(colors[number], points) for number, points in _lines(found.runs)],
        width=WIDTH,
        height=HEIGHT,
    )


def _lines(runs: Sequence[Experiment]) -> list[tuple[int, str]]:
    """The equity of each run that has its folder, as a share of its beginning: the run's number, and points of a line."""
    curves = {}
    for number, run in enumerate(runs):
        path = Path(run.folder) / "equity.parquet"
        if run.folder and path.is_file():
            table = pq.read_table(path)
            equity = floats(table["equity"])
            if len(equity) > 1 and equity[0] > 0:
                at = ints(table["time"])
                curve = thinned(Curve(at, equity / equity[0], floats(table["drawdown"]), equity * 0), MOST_POINTS)
                curves[number] = curve
    if not curves:
        return []
    first = min(curve.event_ts[0] for curve in curves.values())
    span = max(curve.event_ts[-1] for curve in curves.values()) - first or 1
    low = min(np.nanmin(curve.equity) for curve in curves.values())
    spread = max(np.nanmax(curve.equity) for curve in curves.values()) - low or 1
    return [
        (number, line_points((curve.event_ts - first) / span, (curve.equity - low) / spread, WIDTH, HEIGHT))
        for number, curve in curves.items()
    ]


def _sentence(run: Experiment) -> str:
    path = Path(run.folder) / RESULT
    try:
        found = json.loads(path.read_bytes()) if run.folder else {}
    except (OSError, ValueError):
        return ""
    return str((found.get("belief") or {}).get("sentence", ""))


def _described(run: Experiment) -> Iterator[tuple[str, Any]]:
    """All that a run is made of, by name, in the order in which a reader looks for it."""
    yield "kind", run.kind
    yield "strategy", run.strategy
    for name, value in _flat("params", run.params):
        yield name.replace("params.params.", "params.", 1), value  # what a sweep varies has its whole path
    yield from _flat("costs", run.costs)
    yield "symbols", ", ".join(run.universe)
    yield "from", format_timestamp(run.began_at)
    yield "to", format_timestamp(run.ended_at)
    yield "data", run.data_digest[:16]
    for number, tape in enumerate(run.data):
        name, digest = Path(str(tape.get("path", ""))).name, str(tape.get("sha256", ""))[:16]
        yield f"data.{number}", f"{name}, {tape.get('bytes', 'unknown')} bytes, {digest}"
    yield "catalog", run.catalog_digest[:16]
    for plugin in run.code:
        made = " ".join(str(plugin.get(name) or "") for name in ("distribution", "version")).strip()
        named = f"{plugin.get('kind', '')} {plugin.get('name', '')}"
        yield f"code.{named}", f"{made} {str(plugin.get('code_digest') or '')[:16]}".strip()
    yield from _flat("folds", {name: value for name, value in (run.folds or {}).items() if name != "figures"})
    yield "variants", run.variants
    yield "selection", run.selection
    yield "author", run.author
    yield "notes", run.notes


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The leaves of a mapping, each by its path: of a list of rows their number, of another list its values as text."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}", inner)
    elif isinstance(value, list) and any(isinstance(each, Mapping) for each in value):
        yield name, len(value)
    else:
        yield name, ", ".join(map(str, value)) if isinstance(value, list) else value
