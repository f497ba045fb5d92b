"""The project of a plugin package: what its ``pyproject.toml`` says. None of its code runs here."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from torghut_core import InputError

MANIFEST = "pyproject.toml"


@dataclass(frozen=True)
class Project:
    """A folder with a ``pyproject.toml`` that names plugin modules.

    Attributes
    ----------
    name, version, license : as it states them, "" where it does not; `version` is "dynamic" where a tool computes it.
    modules : the values of its entry points in the group ``torghut``.
    table : its ``[tool.torghut]``; None where it has none.
    """

    folder: Path
    name: str
    version: str
    license: str
    modules: tuple[str, ...]
    table: Mapping[str, Any] | None

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the project in a folder.

        Raises
        ------
        InputError : it has no ``pyproject.toml``, or one that cannot be read.
        """
        manifest = folder / MANIFEST
        try:
            content = tomllib.loads(manifest.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(
                f"{folder} has no {MANIFEST} (`torghut new` makes a project that has all it needs)"
            ) from None
        except (OSError, ValueError) as error:
            raise InputError(f"{manifest}: {error}") from error
        project = content.get("project", {})
        stated = project.get("license", "")
        return cls(
            folder=folder.absolute(),
            name=project.get("name", ""),
            version=project.get("version", "dynamic" if "version" in project.get("dynamic", ()) else ""),
            license=next(iter(stated.values()), "") if isinstance(stated, dict) else stated,
            modules=tuple(project.get("entry-points", {}).get("torghut", {}).values()),
            table=content.get("tool", {}).get("torghut"),
        )

    @classmethod
    def find(cls, path_or_name: str) -> Self:
        """Read the project in a folder, or that of a distribution which is installed in editable mode.

        Raises
        ------
        InputError : there is no such project.
        """
        folder = Path(path_or_name)
        if folder.name == MANIFEST:
            folder = folder.parent
        if folder.is_dir():
            return cls.read(folder)
        try:
            origin = json.loads(distribution(path_or_name).read_text("direct_url.json") or "{}")
        except (PackageNotFoundError, ValueError):
            raise InputError(f"{path_or_name!r} is neither a folder nor an installed distribution") from None
        if not origin.get("dir_info", {}).get("editable"):
            raise InputError(
                f"{path_or_name} is installed without its tests and README: give the folder of its project"
            )
        return cls.read(Path(unquote(urlsplit(origin["url"]).path)))

    @property
    def root(self) -> Path:
        """The folder that its modules are imported from."""
        return self.folder / "src" if (self.folder / "src").is_dir() else self.folder

    def facts(self, name: str) -> Mapping[str, Any] | None:
        """What the suite of a plugin has to know, of ``[tool.torghut.conformance.NAME]``; None where it says `false`.

        Then the suite is one of the project's own tests, as that of a broker which needs a stand-in of its venue.
        """
        found: Any = (self.table or {}).get("conformance", {}).get(name, {})
        return None if found is False else found
