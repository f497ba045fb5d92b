"""What is wrong with a catalog, at its place in the files and in the operator's words.

`Marks` know where in the files each key is; what pydantic finds in the plain values is explained here.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from pydantic import BaseModel, ValidationError

from torghut_core.catalog.marked_yaml import Place
from torghut_core.errors import Problem

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


MAX_SHOWN = 60
"""Characters of a wrong value that an error quotes."""


class Mark(NamedTuple):
    """The places of a key and of its value in the files, and a number or boolean as it is written there."""

    key: Place
    value: Place
    text: str = ""


@dataclass(frozen=True)
class Marks:
    """Where everything is in the files: `of` maps a dotted key (``strategies[0].params.rsi_buy``) to its mark."""

    of: Mapping[str, Mark]

    def problem(self, key: str, message: str, hint: str = "", *, at_key: bool = False) -> Problem:
        """A problem with the value of `key` (or the key itself), at its place or that of the nearest key above it."""
        above = key
        while above not in self.of and above:
            above = above[: max(above.rfind("."), above.rfind("["), 0)]
        mark = self.of.get(above, _NOWHERE)
        return Problem(*(mark.key if at_key and above == key else mark.value), key, message, hint)

    def problems(
        self, error: ValidationError, model: type[BaseModel], key: str = "", noun: str = "key"
    ) -> Iterator[Problem]:
        """What pydantic found wrong with the value of `key`, which should be a `model`, in the operator's words.

        `noun` is what the keys of the model are called: "key", or "parameter of strategy 'macd-rsi'".
        """
        explained = set()
        for details in error.errors(include_url=False):
            if details["type"] == "too_short" and len(details["input"]) >= details["ctx"]["min_length"]:
                continue  # too short only without its wrong members, which have problems of their own
            path, location = key, details["loc"]
            if details["type"] not in ("missing", "extra_forbidden"):
                location = self._known(key, location)
            for step in location:
                path = key_below(path, step)
            if path not in explained:
                explained.add(path)
                mark = self.of.get(path)
                message, hint = _explain(details, location, model, noun, mark.text if mark else "")
                at_key = details["type"] == "extra_forbidden" or details["loc"][-1:] == ("[key]",)
                yield self.problem(path, message, hint, at_key=at_key)

    def _known(self, key: str, location: tuple[int | str, ...]) -> tuple[int | str, ...]:
        """The steps that lead to a key in the files; the rest are pydantic's own, such as the member of a union."""
        for number, step in enumerate(location):
            key = key_below(key, step)
            if self.of and key not in self.of:
                return location[:number]
        return location


_NOWHERE = Mark(Place("catalog"), Place("catalog"))


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """Suggest what to write instead of `word`: the nearest of `names`, or all of them.

    Examples
    --------
    >>> did_you_mean("snyc", ["sync", "merge"])
    "did you mean 'sync'?"
    >>> did_you_mean("x", ["sync", "merge"])
    'use one of sync, merge'
    """
    by_lower = {name.lower(): name for name in names}
    near = difflib.get_close_matches(word.lower(), by_lower, n=1)
    if near:
        return f"did you mean {by_lower[near[0]]!r}?"
    return f"use one of {', '.join(by_lower.values())}" if by_lower else ""


def key_below(path: str, step: int | str) -> str:
    """The dotted key of a member: the index of a list, or the key of a map.

    Examples
    --------
    >>> key_below("strategies", 0), key_below("strategies[0]", "name")
    ('strategies[0]', 'strategies[0].name')
    """
    if isinstance(step, int):
        return f"{path}[{step}]"
    name = step if step.isprintable() else ascii(step)
    return f"{path}.{name}" if path else name


def _inside(model: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel]:
    """The model of the map at `location`; an index or a free key stays in the model above it."""
    for step in location:
        known = model.model_fields.get(step) if isinstance(step, str) else None
        if known is not None:
            model = next(_models(known.annotation), model)
    return model


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


_DUE = {
    "bool": "true or false",
    "decimal": "a decimal number",
    "dict": "a map",
    "finite": "a finite number",
    "float": "a number",
    "frozen": "a list",
    "int": "a whole number",
    "list": "a list",
    "mapping": "a map",
    "model": "a map",
    "set": "a list",
    "string": "text",
    "tuple": "a list",
}
_BOUNDS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def _explain(
    details: ErrorDetails, location: tuple[int | str, ...], model: type[BaseModel], noun: str, text: str
) -> tuple[str, str]:
    """Message and hint for one error of pydantic."""
    kind, value, context = details["type"], details["input"], details.get("ctx", {})
    shown = quoted(value, text)
    names = [number for number, step in enumerate(location) if isinstance(step, str)]
    owner = _inside(model, location[: names[-1]] if names else ())
    known = owner.model_fields.get(str(location[names[-1]])) if names else None
    meaning = (known.description if known else None) or ""
    if kind == "torghut":
        return context["message"], context["hint"]
    if kind == "extra_forbidden":
        fields = [known.alias or name for name, known in owner.model_fields.items()]
        return f"unknown {noun}", did_you_mean(str(location[-1]), fields) or "it takes none"
    if kind == "missing":
        example = f" {json.dumps(known.examples[0])}" if known and known.examples else ""
        return "is missing", f"add `{location[-1]}:{example}`" + (f", {meaning}" if meaning else "")
    if kind in ("literal_error", "enum"):
        return f"cannot be {shown}", did_you_mean(str(value), re.findall(r"'([^']+)'", context["expected"]))
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        bound = context[name]
        bound = int(bound) if isinstance(bound, float) and bound.is_integer() else bound
        return f"must be {words} {bound}, not {shown}", meaning
    if kind in ("too_short", "string_too_short") and context["min_length"] == 1:
        return "is empty", meaning
    if kind == "string_type" and text:
        what = "a boolean" if isinstance(value, bool) else "a number"
        return f"must be text, and YAML reads {text} as {what}", f'quote it: "{text}"'
    if kind.endswith(("_type", "_parsing", "_from_float", "_number")) and kind.partition("_")[0] in _DUE:
        return f"must be {_DUE[kind.partition('_')[0]]}, not {shown}", meaning
    if kind == "value_error":
        return str(context["error"]), meaning
    return f"{details['msg'][:1].lower()}{details['msg'][1:]}, not {shown}", meaning


def quoted(value: Any, text: str = "") -> str:
    """A value as an error may quote it: short, on one line, without control characters."""
    if isinstance(value, Mapping):
        return "a map"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None:
        return "nothing"
    shown = text or (repr(value) if isinstance(value, str) else str(value))
    return shown if len(shown) <= MAX_SHOWN else f"{shown[:MAX_SHOWN]}..."
