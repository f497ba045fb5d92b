"""The code of plugins on disk: their files, what they depend on, and a digest of all that."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import Message
from email.parser import HeaderParser
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from pathlib import Path
from types import ModuleType

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from torghut_core.files import read_file
from torghut_core.plugin_host.fresh_import import NEVER_FRESH, find

GROUP = "torghut"
"""Entry-point group in which packages name their plugin modules."""


_COMPILED = (*EXTENSION_SUFFIXES, ".so", ".pyd")
_RECORDED = re.compile(r"^([^,\n]+\.(?:py|so|pyd)),(sha256=[^,\n]*)", re.MULTILINE)
_LARGEST_SOURCE = 1 << 26
_IMPORT = re.compile(rb"^[ \t]*(?:from|import)[ \t].*", re.MULTILINE)
_WORD = re.compile(rb"[A-Za-z_0-9]+")


@dataclass(frozen=True, slots=True)
class Code:
    """The code of one distribution or plugin folder, as it was on disk.

    Attributes
    ----------
    digest : sha256 over names and bytes of its sources and of those that it depends on; "" where it has none. The
        kernel and its own dependencies are left out: they do not change while the process runs.
    roots : its own top-level modules.
    dependencies : digest and top-level modules of each distribution that it depends on.
    compiled : a compiled extension among all these, "" for none; it cannot be imported twice.
    trouble : why the code cannot be read, "" where it can.
    """

    digest: str = ""
    roots: frozenset[str] = frozenset()
    dependencies: Mapping[str, tuple[str, frozenset[str]]] = field(default_factory=dict)
    compiled: str = ""
    trouble: str = ""

    @property
    def every_root(self) -> frozenset[str]:
        """Its own top-level modules and those that it depends on."""
        return self.roots.union(*(roots for _, roots in self.dependencies.values()))


@dataclass(frozen=True, slots=True)
class Sources:
    """Some files, identified by a stamp (from `os.stat` of each) and by a digest of their content.

    `imports` are all words of a folder's import lines: more than it imports, and quick to find.
    """

    stamp: tuple[tuple[str | int, ...], ...]
    digest: str
    compiled: str
    imports: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Part:
    """A distribution without its dependencies; `digests` by top-level module."""

    roots: frozenset[str]
    digests: Mapping[str, str]
    compiled: str
    requires: tuple[tuple[str, tuple[str, ...]], ...]


class Disk:
    """The sources on disk, each file read once.

    Parameters
    ----------
    known : `sources` of an earlier `Disk`; files that have not changed since are not read again.

    Attributes
    ----------
    sources : the files found, by top-level module or folder.
    """

    def __init__(self, known: Mapping[str, Sources]) -> None:
        self.sources: dict[str, Sources] = {}
        self._known = known
        self._parts: dict[str, _Part] = {}

    def distribution(self, found: Distribution) -> Code:
        """The code of an installed distribution."""
        head = read_head(found)
        name = canonicalize_name(head["Name"] or "")
        try:
            part = self._parts[name] = self._part(found, name, head)
            names = self._closure(name)
            parts = {other: self._parts[other] for other in names}
            dependencies = {
                other: (self._digest(other), parts[other].roots) for other in sorted(names) if other != name
            }
            compiled = next((parts[other].compiled for other in sorted(names) if parts[other].compiled), "")
            return Code(self._digest(name), part.roots, dependencies, part.compiled or compiled)
        except OSError as error:
            return Code(trouble=f"{type(error).__name__}: {error}")

    def folder(self, folder: Path, plugins: Mapping[str, Code]) -> tuple[Code, list[str]]:
        """The code of a plugin folder, and its modules that may have hooks.

        Modules that an installed distribution put there belong to that distribution and are left out. A folder has no
        metadata: it depends on those of `plugins` (code by distribution) that its import lines name.
        """
        if not folder.is_dir():
            return Code(trouble="there is no such folder: make it, or take it out of TORGHUT_PLUGIN_PATH"), []
        try:
            return self._folder(folder, plugins)
        except OSError as error:
            return Code(trouble=f"{type(error).__name__}: {error}"), []

    def _folder(self, folder: Path, plugins: Mapping[str, Code]) -> tuple[Code, list[str]]:
        installed = {
            root
            for found in distributions(path=[str(folder)])
            for root in _roots(found, read_head(found)["Name"] or "")
        }
        files: dict[str, str] = {}
        candidates = []
        for name in sorted(entry.name for entry in folder.iterdir()):
            root, _, suffix = name.partition(".")
            if root in installed or not root.isidentifier():
                continue
            if suffix == "py" or name.endswith(_COMPILED):
                files[name] = str(folder / name)
            elif not suffix and (folder / name).is_dir():
                files |= {f"{name}/{inner}": file for inner, file in _files(str(folder / name))}
            if not root.startswith("_") and (suffix == "py" or f"{name}/__init__.py" in files):
                candidates.append(root)
        sources = self._sources(str(folder), files)
        roots = {name.partition("/")[0].partition(".")[0] for name in files}
        # A name that another module has taken must not be imported afresh for this folder.
        roots = {root for root in roots - NEVER_FRESH if lies_in(folder, find(root))}
        named = {name: code for name, code in plugins.items() if code.roots & sources.imports}
        dependencies = {name: (code.digest, code.roots) for name, code in named.items()}
        for code in named.values():
            dependencies |= code.dependencies
        digest = _combined({"": sources.digest} | {name: found for name, (found, _) in dependencies.items()})
        compiled = next((code.compiled for code in named.values() if code.compiled), "")
        return Code(digest, frozenset(roots), dependencies, sources.compiled or compiled), candidates

    def _digest(self, name: str) -> str:
        parts = [self._parts[other] for other in self._closure(name)]
        return _combined({root: digest for part in parts for root, digest in part.digests.items() if digest})

    def _closure(self, name: str) -> set[str]:
        """A distribution and all that it depends on, without the kernel's."""
        names, queue = {name}, list(self._parts[name].requires)
        while queue:
            required, extras = queue.pop()
            if required in names or required in _kernel():
                continue
            if required not in self._parts:
                try:
                    found = distribution(required)
                except PackageNotFoundError:  # the import will fail, if it matters
                    continue
                self._parts[required] = self._part(found, required, read_head(found), extras)
            names.add(required)
            queue += self._parts[required].requires
        return names

    def _part(self, found: Distribution, name: str, head: Message, extras: tuple[str, ...] = ()) -> _Part:
        requires = tuple(_requires(head, extras))
        recorded = sorted(_RECORDED.findall(found.read_text("RECORD") or ""))
        compiled = next((file for file, _ in recorded if file.endswith(_COMPILED)), "")
        is_plugin = bool(found.entry_points.select(group=GROUP))
        if compiled and not is_plugin:  # usually large, and not imported afresh: its installer's digests are enough
            content = "".join(f"{file}\0{noted}\n" for file, noted in recorded)
            return _Part(frozenset(), {name: hashlib.sha256(content.encode()).hexdigest()}, compiled, requires)
        roots = _roots(found, name)
        sources = {root: self._sources(root, _files_of(root)) for root in sorted(roots)}
        compiled = compiled or next((of.compiled for of in sources.values() if of.compiled), "")
        return _Part(roots, {root: of.digest for root, of in sources.items()}, compiled, requires)

    def _sources(self, key: str, files: Mapping[str, str]) -> Sources:
        """Files by their relative name, read only if one of their stamps has changed."""
        if key in self.sources:
            return self.sources[key]
        stats = [(name, Path(files[name]).stat()) for name in sorted(files)]
        stamp = tuple((name, of.st_mtime_ns, of.st_ctime_ns, of.st_size, of.st_ino) for name, of in stats)
        known = self._known.get(key)
        if known is None or known.stamp != stamp:
            contents = _sources_of(files)
            compiled = next((name for name in files if name.endswith(_COMPILED)), "")
            known = Sources(stamp, _digest_of(contents), compiled, _imported_words(contents.values()))
        self.sources[key] = known
        return known


def module_digest(module: ModuleType) -> str:
    """sha256 over names and bytes of the sources of the package that a module is in; "" where it has none."""
    root = sys.modules.get(module.__name__.partition(".")[0], module)
    files = _files_at(getattr(root, "__path__", ()), getattr(root, "__file__", None))
    return _digest_of(_sources_of(files))


def read_head(found: Distribution) -> Message:
    """Name, version and requirements of a distribution, without parsing the description that comes with them."""
    text = found.read_text("METADATA") or found.read_text("PKG-INFO") or ""
    return HeaderParser().parsestr(text.partition("\n\n")[0])


def path_stamp() -> list[int]:
    """Modification times of the folders on ``sys.path``, which change when something is installed."""
    times = []
    for folder in sys.path:
        with suppress(OSError):
            times.append(Path(folder).stat().st_mtime_ns)
    return times


def lies_in(folder: str | Path, spec: ModuleSpec | None) -> bool:
    """Whether a top-level module is one of this folder, and not one of the same name elsewhere."""
    if spec is None:
        return False
    places = spec.submodule_search_locations or ([spec.origin] if spec.has_location and spec.origin else [])
    return any(Path(place).absolute().parent.samefile(folder) for place in places)


@cache
def _kernel() -> frozenset[str]:
    """The kernel's distribution, and all that it depends on, with every extra but the plugins."""
    names, queue = {"torghut"}, ["torghut"]
    while queue:
        try:
            found = distribution(queue.pop())
        except PackageNotFoundError:
            continue
        if found.entry_points.select(group=GROUP):
            names.discard(canonicalize_name(read_head(found)["Name"]))
            continue
        head = read_head(found)
        extras = head.get_all("Provides-Extra", []) if canonicalize_name(head["Name"]) == "torghut" else []
        required = {name for name, _ in _requires(head, tuple(extras))} - names
        names |= required
        queue += required
    return frozenset(names)


def _requires(head: Message, extras: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The requirements of a distribution on this machine: names, and the extras of each."""
    for line in head.get_all("Requires-Dist", []):
        if not extras and re.search(r";.*\bextra\b", line):  # most lines, and slow to parse
            continue
        try:
            required = Requirement(line)
        except InvalidRequirement:
            continue
        marker = required.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield canonicalize_name(required.name), tuple(sorted(required.extras))


def _roots(found: Distribution, name: str) -> frozenset[str]:
    """Top-level modules of a distribution; the metadata of an editable install names few of them."""
    roots = {entry_point.module for entry_point in found.entry_points.select(group=GROUP)}
    roots |= set((found.read_text("top_level.txt") or "").split())
    roots |= {
        file for file, _ in _RECORDED.findall(found.read_text("RECORD") or "") if not file.startswith("__editable__")
    }
    tops = {re.split(r"[./]", root)[0] for root in roots}
    tops = {top for top in tops if top.isidentifier()} or {re.sub(r"[-.]", "_", name)}
    return frozenset(tops) - NEVER_FRESH


def _files_of(root: str) -> dict[str, str]:
    spec = find(root)
    return _files_at(spec.submodule_search_locations or (), spec.origin) if spec else {}


def _files_at(folders: Iterable[str], file: str | None) -> dict[str, str]:
    """Sources and compiled extensions of a package, or of a module: relative name -> path."""
    folders = list(folders)
    if folders:
        return {name: path for folder in folders for name, path in _files(folder)}
    return {Path(file).name: file} if file and file.endswith((".py", *_COMPILED)) else {}


def _files(folder: str) -> Iterator[tuple[str, str]]:
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != "__pycache__" and not name.startswith(".")]
        for name in names:
            if name.endswith((".py", *_COMPILED)):
                path = f"{parent}{os.sep}{name}"
                yield path[len(folder) :].lstrip(os.sep).replace(os.sep, "/"), path


def _combined(digests: Mapping[str, str]) -> str:
    """One digest of several; a single one stays as it is."""
    if len(digests) < 2:
        return next(iter(digests.values()), "")
    return hashlib.sha256("".join(f"{name}\0{digests[name]}\n" for name in sorted(digests)).encode()).hexdigest()


def _sources_of(files: Mapping[str, str]) -> dict[str, bytes]:
    return {name: read_file(files[name], _LARGEST_SOURCE) for name in sorted(files) if name.endswith(".py")}


def _digest_of(contents: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, content in contents.items():
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest() if contents else ""


def _imported_words(contents: Iterable[bytes]) -> frozenset[str]:
    return frozenset(
        word.decode() for content in contents for line in _IMPORT.findall(content) for word in _WORD.findall(line)
    )
