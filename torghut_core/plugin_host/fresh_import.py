"""Importing code afresh: a distribution or a plugin folder at a time, never a single module.

A single module would keep the old helpers and parent classes. Objects that were made of the old code keep it.

Two traps. An import inside a function of the old code finds the *new* module, because it looks the name up when it runs
(and may find it half made while it is being imported): plugins import at the top of their modules. And Python takes
bytecode for fresh when size and whole second of the source agree, so that two edits within a second could run stale
code: what was imported afresh once never uses the bytecode cache again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import CodeType, ModuleType

NEVER_FRESH = sys.stdlib_module_names | {"torghut_core", "__main__"}


def find(name: str) -> ModuleSpec | None:
    """Find where a top-level module would be imported from now, whatever was imported under that name before."""
    for finder in sys.meta_path:
        # Finders of before Python 3.4 may have no `find_spec`.
        if (
            finder is not _fresh
            and (find_spec := getattr(finder, "find_spec", None))
            and (spec := find_spec(name, None))
        ):
            return spec  # type: ignore[no-any-return]  # what any finder gives
    return None


class Swap:
    """Modules taken out of ``sys.modules``, so that the next import of them reads their files again.

    Until they are imported again ``sys.modules`` lacks them; keep that short.

    Parameters
    ----------
    roots : top-level modules, taken out with their submodules.
    """

    def __init__(self, roots: Iterable[str]) -> None:
        self._roots = frozenset(roots) - NEVER_FRESH
        _fresh.roots |= self._roots
        if _fresh not in sys.meta_path:
            sys.meta_path.insert(0, _fresh)
        self._old = self._take_out()

    def undo(self) -> None:
        """Put the old modules back in place of those imported since; a second call does nothing."""
        self._take_out()
        sys.modules.update(self._old)
        self._roots, self._old = frozenset(), {}

    def _take_out(self) -> dict[str, ModuleType]:
        names = [name for name in list(sys.modules) if name.partition(".")[0] in self._roots]
        taken = {name: sys.modules.pop(name, None) for name in names}
        return {name: module for name, module in taken.items() if module is not None}


class _FreshFinder:
    """Finds modules that were imported afresh once with the other finders, and compiles them from source."""

    def __init__(self) -> None:
        self.roots: frozenset[str] = frozenset()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name.partition(".")[0] not in self.roots:
            return None
        for finder in sys.meta_path:
            find_spec = getattr(finder, "find_spec", None)
            if finder is self or find_spec is None or (spec := find_spec(name, path, target)) is None:
                continue
            if type(spec.loader) is SourceFileLoader:
                spec.loader = _Uncached(spec.loader.name, spec.loader.path)
            return spec  # type: ignore[no-any-return]  # what any finder gives
        return None


class _Uncached(SourceFileLoader):
    """Loads a module without reading or writing bytecode."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


_fresh = _FreshFinder()
