"""New plugin packages, made of the templates beside this module.

A template is a package that works: ``any/`` is in all of them, and ``strategy/`` and the others are of one kind. Its name is
``acme-alpha``; a new package has its own in that place.
"""

from __future__ import annotations

import keyword
import re
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from torghut_core import InputError

KINDS = ("strategy", "indicator", "risk", "broker", "source", "advisor")
"""The kinds of plugins that there is a template for."""

_TEMPLATES = Path(__file__).parent / "templates"
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", re.ASCII)
_LONGEST = 63


def new_package(kind: str, name: str, parent: Path, taken: Iterable[str] = ()) -> Path:
    """Make the folder of a package with one plugin, and return it.

    Parameters
    ----------
    kind : one of `KINDS`.
    name : of the package and of its plugin: words of a-z and 0-9, joined by hyphens.
    parent : where the folder is made.
    taken : names of plugins that there are already.

    Raises
    ------
    InputError : there is no such kind; it is no such name, or is taken; or the folder is there. Nothing is written then.
    """
    if kind not in KINDS:
        raise InputError(f"there is no template of a {kind!r} (there are {', '.join(KINDS)})")
    if problem := _problem(name, taken):
        raise InputError(f"{name!r} {problem}")
    folder = parent / name
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise InputError(f"{folder} is there already: take another name, or another --folder") from None
    except OSError as error:
        raise InputError(f"{folder} cannot be made: {error.strerror}") from error
    for template in (_TEMPLATES / "any", _TEMPLATES / kind):
        for file in sorted(template.rglob("*")):
            if file.is_file() and file.suffix != ".pyc":
                made = folder / _renamed(str(file.relative_to(template)), name)
                made.parent.mkdir(parents=True, exist_ok=True)
                made.write_text(_renamed(file.read_text(encoding="utf-8"), name), encoding="utf-8")
    return folder


def _problem(name: str, taken: Iterable[str]) -> str:
    """Why a package cannot have this name, "" where it can."""
    module = name.replace("-", "_")
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        return f"is not a name: use a-z, 0-9 and hyphens between them, a letter first, at most {_LONGEST}"
    if keyword.iskeyword(module):
        return "is a word of Python: its module could not be imported (put your own name before it)"
    if name in taken:
        return "is a plugin that is installed already (`torghut plugin list`): take another name"
    if name.partition("-")[0] == "torghut":
        return "looks like one of Torghut's own packages: put your own name before it"
    if module in sys.stdlib_module_names or _is_module(module):
        return f"would hide the module {module} that is installed: take another name"
    return ""


def _is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ValueError:  # a module without a spec, such as `__main__`
        return True


def _renamed(text: str, name: str) -> str:
    """A template's text with a name in the place of its own."""
    words = name.split("-")
    for old, new in (("acme-alpha", name), ("acme_alpha", "_".join(words)), ("AcmeAlpha", _class_name(words))):
        text = text.replace(old, new)
    return text


def _class_name(words: list[str]) -> str:
    return "".join(word.capitalize() for word in words)
