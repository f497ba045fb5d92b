"""Put the script of the charts, which is TradingView's and not in the repository, into the wheel and the sdist.

It comes out of the distribution `lightweight-charts` of the environment that builds (``requirements/charts.txt``).
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SCRIPT = "torghut_core/research/pages/templates/lightweight-charts.js"


class ChartsHook(BuildHookInterface):  # type: ignore[type-arg] # its parameter differs between versions of hatchling
    """Adds `SCRIPT`; an editable install reads it from the distribution itself."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the script, unless the tree has it, as that of an sdist does."""
        if version == "editable" or (Path(self.root) / SCRIPT).is_file():
            return
        try:
            found = next(file for file in files("lightweight-charts") or () if file.name == "lightweight-charts.js")
        except (PackageNotFoundError, StopIteration):
            raise RuntimeError(
                "lightweight-charts is not installed where torghut is built: run "
                "`pip install --no-deps -r requirements/charts.txt`, and build without isolation"
            ) from None
        build_data["force_include"][str(found.locate())] = SCRIPT
