"""Loading a catalog: from the texts of its files to a `Catalog`, or to the entries that are valid and every problem.

Text becomes a tree of nodes with their places (`marked_yaml`), the trees of a folder become one, pydantic checks the
plain values, and its errors are explained at the node's place (`problems`).
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from torghut_core.catalog.entries import Catalog, Pipeline, Use
from torghut_core.catalog.marked_yaml import Node, Place, parse, place_after
from torghut_core.catalog.problems import Mark, Marks, key_below, quoted
from torghut_core.errors import CatalogError, Problem, reason_of
from torghut_core.files import read_file
from torghut_core.telemetry import logs

ENTRY_LISTS = ("strategies", "risk", "advisors", "observers")
"""The keys of a catalog that hold a list of entries; the lists of several files are joined."""

MAX_CHARACTERS = 1 << 20
"""Characters of all files of a catalog at most: thousands of strategies."""

LARGEST = 4 * MAX_CHARACTERS
"""Bytes of them at most."""

UNFORESEEN = "undo the last edit, and report it with the traceback in the log"
"""Hint for what no check of a catalog foresaw."""

_SECRET = re.compile(
    r"(.*[_-])?(api_?key(_?id)?|secret(_?key)?|password|passwd|token|credentials?|private_?key)", re.IGNORECASE
)


def read(path: str | Path) -> dict[str, str]:
    """Read the texts of a catalog by file: one file, or the ``*.yaml`` and ``*.yml`` in a folder.

    Names that begin with a dot are left out: a mounted ConfigMap keeps its revisions there.

    Raises
    ------
    CatalogError : there is no file, one cannot be read, is no regular file or not UTF-8, they are too large, or the
        folder has no catalog file.
    """
    with _contained(str(path)):
        return _read(Path(path))


def _read(path: Path) -> dict[str, str]:
    try:
        files = [path]
        if path.is_dir():
            files = [file for file in sorted(path.iterdir()) if re.fullmatch(r"[^.].*\.ya?ml", file.name)]
        contents: dict[str, bytes] = {}
        left = LARGEST
        for file in files:
            contents[str(file)] = content = read_file(file, left)
            left -= len(content)
    except FileNotFoundError as error:
        raise _unreadable(error.filename, "there is no such file or folder", "give the path of a catalog") from None
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise _unreadable(
                error.filename, f"is too large: a catalog has at most {LARGEST:,} bytes", "move what is no catalog away"
            ) from None
        raise _unreadable(
            error.filename, f"cannot be read: {error.strerror}", "give a readable file or folder"
        ) from None
    if not contents:
        raise _unreadable(path, "holds no catalog file", "put a file there whose name ends in .yaml")
    texts: dict[str, str] = {}
    problems = []
    for name, content in contents.items():
        try:
            texts[name] = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            before = content[: error.start].decode(errors="replace")
            message = f"is not UTF-8: byte 0x{content[error.start]:02x}"
            problems.append(Problem(*place_after(name, before), "", message, "save the file as UTF-8"))
    if problems:
        raise CatalogError(problems)
    return texts


def _unreadable(path: str | Path, message: str, hint: str) -> CatalogError:
    return CatalogError([Problem(str(path), 0, 0, "", message, hint)])


def load(files: Mapping[str, str]) -> Catalog:
    """Make the catalog from texts of files, by name.

    Keys of several files are merged, and their lists of strategies, risk rules, advisors and observers joined in order of
    the file names. `version` may be in each file, every other key in one only.

    Raises
    ------
    CatalogError : every problem, in file order.
    """
    draft = load_draft(files)
    if draft.problems:
        raise CatalogError(draft.problems)
    return draft.catalog


@dataclass(frozen=True)
class Draft:
    """The valid entries of a catalog, and what is wrong with the others.

    Attributes
    ----------
    catalog : the valid entries.
    problems : in file order.
    left_out : place of each entry that was left out (``strategies[2]``, ``pipelines``) and its name, a strategy's own
        or its plugin's; None where the name cannot be read.
    """

    catalog: Catalog
    problems: list[Problem]
    left_out: Mapping[str, str | None]

    def without(self, problems: Iterable[Problem]) -> Draft:
        """The draft without the entries that these problems are about.

        Raises
        ------
        CatalogError : one of them is about no entry.
        """
        problems = list(problems)
        places = {entry_place(problem.key) for problem in problems}
        if None in places:
            raise CatalogError(sorted([*self.problems, *problems], key=where))
        names = {entry.name for entry in self.catalog.strategies if entry.place in places}

        def is_bad(entry: Use) -> bool:
            return entry.place in places or getattr(entry, "name", None) in names

        left_out = dict(self.left_out)
        lists: dict[str, Any] = {}
        for key in ENTRY_LISTS:
            entries: tuple[Use, ...] = getattr(self.catalog, key)
            left_out |= {entry.place: getattr(entry, "name", entry.use) for entry in entries if is_bad(entry)}
            lists[key] = tuple(entry for entry in entries if not is_bad(entry))
        if "pipelines" in places:
            left_out["pipelines"] = None
            lists["pipelines"] = MappingProxyType({})
        return Draft(self.catalog.with_(**lists), sorted([*self.problems, *problems], key=where), left_out)


def entry_place(key: str) -> str | None:
    """The entry that a dotted key belongs to; all pipelines count as one. None for keys of the catalog itself.

    Examples
    --------
    >>> entry_place("strategies[2].params.rsi_buy"), entry_place("pipelines.trading.broker"), entry_place("mode")
    ('strategies[2]', 'pipelines', None)
    """
    match = re.match(rf"(?:{'|'.join(ENTRY_LISTS)})\[\d+\]|pipelines(?=\.|$)", key)
    return match[0] if match else None


def load_draft(files: Mapping[str, str]) -> Draft:
    """Make what can be used of the catalog in these texts; see `load`.

    Raises
    ------
    CatalogError : every problem, if one of them concerns a whole file or a key of the catalog itself.
    """
    with _contained(next(iter(sorted(files)), "catalog")):
        return _load_draft(files)


@contextmanager
def _contained(file: str) -> Iterator[None]:
    """Turn whatever is raised into a problem: nothing that stands in a file ends who reads it."""
    try:
        yield
    except CatalogError:
        raise
    except Exception as error:
        logs.error("the catalog cannot be read", error=reason_of(error), exc_info=error)
        raise CatalogError([Problem(file, 0, 0, "", f"cannot be read: {reason_of(error)}", UNFORESEEN)]) from error


def _load_draft(files: Mapping[str, str]) -> Draft:
    content, marks, problems, is_whole = _checked(files)
    if not is_whole or any(entry_place(problem.key) is None for problem in problems):
        raise CatalogError(problems)
    kept, left_out = _take_out(content, problems)
    return Draft(Catalog.model_validate(content).placed(marks, kept), problems, left_out)


@dataclass(frozen=True)
class Examined:
    """What can be read of a catalog with problems.

    Attributes
    ----------
    catalog : its valid entries, and the keys of its own that are valid.
    problems : in file order.
    uses : of the entries that were left out, what they say of their plugin and its parameters, each at its place
        (``strategies[2]``, ``pipelines.trading.broker``).
    """

    catalog: Catalog
    problems: list[Problem]
    uses: list[Use]


def examine(files: Mapping[str, str]) -> Examined:
    """Find every problem of a catalog, and what can be checked of it all the same.

    Raises
    ------
    CatalogError : it is too large, or none of it can be read.
    """
    with _contained(next(iter(sorted(files)), "catalog")):
        content, marks, problems, _ = _checked(files)
        uses = list(_uses(content, problems))
        bad = {re.split(r"[.\[]", problem.key)[0] for problem in problems if entry_place(problem.key) is None}
        content = {key: content[key] for key in Catalog.model_fields if key in content and key not in bad}
        kept, left_out = _take_out(content, problems)
        catalog = Catalog.model_validate({"version": 1} | content).placed(marks, kept)
        return Examined(catalog, problems, [use for use in uses if entry_place(use.place) in left_out])


def _uses(content: Mapping[str, Any], problems: Sequence[Problem]) -> Iterator[Use]:
    """Each use of a plugin in the plain values of a catalog whose own keys are right."""
    keys = {problem.key for problem in problems}
    for place, value in _parts(content):
        if not isinstance(value, Mapping) or keys & {f"{place}.{name}" for name in ("use", "version", "params")}:
            continue
        with suppress(ValidationError):
            yield Use.model_validate({name: value[name] for name in Use.model_fields if name in value}).moved(place)


def _parts(content: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Whatever stands where a plugin is used, with its place."""
    pipelines = content.get("pipelines")
    for name, pipeline in pipelines.items() if isinstance(pipelines, Mapping) else ():
        for part, value in pipeline.items() if isinstance(pipeline, Mapping) else ():
            place = f"{key_below('pipelines', name)}.{part}"
            if part == "stages":
                yield from _members(place, value)
            elif part in Pipeline.model_fields:
                yield place, value
    for key in ENTRY_LISTS:
        yield from _members(key, content.get(key))


def _members(key: str, entries: Any) -> Iterator[tuple[str, Any]]:
    return (
        (key_below(key, number), entry) for number, entry in enumerate(entries if isinstance(entries, list) else ())
    )


def _checked(files: Mapping[str, str]) -> tuple[dict[str, Any], Marks, list[Problem], bool]:
    """The plain values of all files, their places, every problem of their structure, and whether all files were read."""
    total = sum(map(len, files.values()))
    if total > MAX_CHARACTERS:
        largest = max(files, key=lambda file: len(files[file]))
        hint = f"shorten it: a catalog has at most {MAX_CHARACTERS:,} in all its files"
        raise CatalogError([Problem(largest, 0, 0, "", f"the catalog has {total:,} characters", hint)])
    problems: list[Problem] = []
    trees = list(_trees(files, problems))
    is_whole = not problems
    of: dict[str, Mark] = {}
    content = _flatten(_merge(trees), "", of, problems)
    marks = Marks(of)
    problems += _namesakes(content, marks)
    places = {where(problem) for problem in problems}
    # A `version` that seems to be missing may be in a file that could not be parsed.
    problems += (
        problem
        for problem in _invalid(content, marks)
        if where(problem) not in places and (is_whole or problem.key != "version")
    )
    problems.sort(key=where)
    return content, marks, problems, is_whole


def _trees(files: Mapping[str, str], problems: list[Problem]) -> Iterator[Node]:
    """The map in each file; a file without one is a problem."""
    for file in sorted(files):
        try:
            tree = parse(file, files[file])
        except CatalogError as error:
            problems += error.problems
            continue
        if isinstance(tree.value, dict):
            yield tree
        else:
            what = "is empty" if tree.value is None else f"is {quoted(tree.value, tree.text)}, not a map of keys"
            problems.append(Problem(*tree.place, "", what, "begin with `version: 1`"))


def _invalid(content: dict[str, Any], marks: Marks) -> Iterator[Problem]:
    try:
        Catalog.model_validate(content)
    except ValidationError as error:
        yield from marks.problems(error, Catalog)


def _take_out(
    content: dict[str, Any], problems: Iterable[Problem]
) -> tuple[dict[str, list[str]], dict[str, str | None]]:
    """Take the entries with problems out of `content`; return the places of those kept, by list, and `Draft.left_out`.

    Strategies that share the name of one with a problem go too: which of them is meant cannot be known.
    """
    keys = [problem.key for problem in problems]
    bad = {entry_place(key) for key in keys}
    names = {_name_at(content, place) for place in bad if place and place.startswith("strategies")} - {None}
    left_out: dict[str, str | None] = {}
    if "pipelines" in bad:
        left_out["pipelines"] = None
        del content["pipelines"]
    kept: dict[str, list[str]] = {}
    for key in ENTRY_LISTS:
        entries = content.get(key, ())
        for number in range(len(entries)):
            place = f"{key}[{number}]"
            name = _name_at(content, place)
            if place in bad or (key == "strategies" and name in names):
                left_out[place] = None if f"{place}.name" in keys else name
            else:
                kept.setdefault(key, []).append(place)
        if entries:
            content[key] = [entries[_number(place)] for place in kept.get(key, ())]
    return kept, left_out


def _name_at(content: Any, place: str) -> str | None:
    """The name of the entry at a place: of a strategy its own, of another its plugin's."""
    key = place.partition("[")[0]
    entry = content[key][_number(place)] if key != place else None
    name = entry.get("name" if key == "strategies" else "use") if isinstance(entry, Mapping) else None
    return name if isinstance(name, str) else None


def _number(place: str) -> int:
    return int(place[place.index("[") + 1 : -1])


def where(problem: Problem) -> tuple[str, int, int, str]:
    """What problems are ordered by: file, line, column, key."""
    return problem.file, problem.line, problem.column, problem.key


def _namesakes(content: Any, marks: Marks) -> Iterator[Problem]:
    first: dict[str, str] = {}
    strategies = content.get("strategies")
    for index, entry in enumerate(strategies if isinstance(strategies, list) else ()):
        name = entry.get("name") if isinstance(entry, Mapping) else None
        key = f"strategies[{index}].name"
        if isinstance(name, str) and first.setdefault(name, key) != key:
            place = marks.of[first[name]].value
            yield marks.problem(key, f"another strategy is named {quoted(name)}, at {place}", "rename one")


def _merge(trees: list[Node]) -> Node:
    """The maps of several files as one."""
    merged = Node(Place("catalog"), {})
    for tree in trees:
        if not merged.value:
            merged.place = tree.place
        merged.key_complaints += tree.key_complaints
        for key, node in tree.value.items():
            mine = merged.value.get(key)
            if mine is None or type(mine.value) is not type(node.value):
                merged.add(key, node)
            elif key in ENTRY_LISTS and isinstance(node.value, list):
                mine.value += node.value
            elif key == "pipelines" and isinstance(node.value, dict):
                mine.key_complaints += node.key_complaints
                for name, pipeline in node.value.items():
                    mine.add(name, pipeline)
            elif key != "version" or mine.value != node.value:
                merged.add(key, node)
    return merged


def _flatten(node: Node, path: str, of: dict[str, Mark], problems: list[Problem], *, is_free: bool = False) -> Any:
    """The plain value of a node; fills in `of`, and adds the problems that do not depend on what the key means.

    `is_free` below `params`, where null is a value like any other.
    """
    of[path] = Mark(node.key or node.place, node.place, node.text)
    complaint = node.complaint
    if node.value is None and not is_free:
        complaint = complaint or ("has no value", "give it one, or leave the key out")
    if complaint:
        problems.append(Problem(*node.place, path, *complaint))
    problems += (Problem(*place, key_below(path, key), *complaint) for key, place, *complaint in node.key_complaints)
    is_free = is_free or path.endswith(".params")
    if isinstance(node.value, list):
        return [
            _flatten(inner, key_below(path, number), of, problems, is_free=is_free)
            for number, inner in enumerate(node.value)
        ]
    if not isinstance(node.value, dict):
        return node.value
    plain = {}
    for key, inner in node.value.items():
        below = key_below(path, key)
        plain[key] = _flatten(inner, below, of, problems, is_free=is_free)
        if _SECRET.fullmatch(key):
            hint = "give it by an environment variable, and change it if this file was shared"
            problems.append(Problem(*of[below].key, below, "a secret does not belong in the catalog", hint))
    return plain
