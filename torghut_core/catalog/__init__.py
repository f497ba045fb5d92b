"""The catalog: YAML text in, a validated and immutable `Catalog` out, or every problem at its place.

Text becomes a tree of nodes that know their place (`marked_yaml`), the trees of a folder become one, pydantic checks the
plain values, and what it finds is told in the operator's words at the node's place.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self, get_args

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PrivateAttr,
    ValidationError,
    WithJsonSchema,
)
from pydantic.json_schema import SkipJsonSchema, models_json_schema
from pydantic_core import PydanticCustomError

from torghut_core.catalog.marked_yaml import MAX_DIGITS, Node, Place, parse, place_after
from torghut_core.errors import CatalogError, Problem
from torghut_core.model.market import SYMBOL_PATTERN
from torghut_core.model.trading import canonical_json

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}", re.ASCII)
"""What the names of strategies, pipelines and plugins look like."""

DEFAULT_ALLOW = ("torghut-*",)
"""The distributions that may be loaded when the catalog does not say."""

MAX_SHOWN = 60
"""How much of a wrong value an error quotes."""


# ------------------------------------------------------------------------------------------------- places and problems


class Mark(NamedTuple):
    """Where a key of the catalog stands, where its value does, and a number or boolean as it is written there."""

    key: Place
    value: Place
    text: str = ""


@dataclass(frozen=True)
class Marks:
    """Where everything stands: `of` maps a dotted key (``strategies[0].params.rsi_buy``) to its mark."""

    of: Mapping[str, Mark]

    def problem(self, key: str, message: str, hint: str = "", *, at_key: bool = False) -> Problem:
        """A problem with the value of `key`, or with the key itself, or with the nearest part above that has a place."""
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
        told = set()
        for details in error.errors(include_url=False):
            if details["type"] == "too_short" and len(details["input"]) >= details["ctx"]["min_length"]:
                continue  # too short once its wrong members are taken out: they are told
            path, location = key, details["loc"]
            if details["type"] not in ("missing", "extra_forbidden"):
                location = self._known(key, location)
            for step in location:
                path = _path(path, step)
            if path not in told:
                told.add(path)
                mark = self.of.get(path)
                message, hint = _explain(details, location, model, noun, mark.text if mark else "")
                at_key = details["type"] == "extra_forbidden" or details["loc"][-1:] == ("[key]",)
                yield self.problem(path, message, hint, at_key=at_key)

    def _known(self, key: str, location: tuple[int | str, ...]) -> tuple[int | str, ...]:
        """The steps that lead to something in the file; the others are pydantic's, such as the member of a union."""
        for number, step in enumerate(location):
            key = _path(key, step)
            if self.of and key not in self.of:
                return location[:number]
        return location


_NOWHERE = Mark(Place("catalog"), Place("catalog"))


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """What to write instead of `word`: the nearest of `names`, or any of them.

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


def _path(path: str, step: int | str) -> str:
    if isinstance(step, int):
        return f"{path}[{step}]"
    name = step if step.isprintable() else ascii(step)
    return f"{path}.{name}" if path else name


def _inside(model: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel]:
    """The model of the map that `location` leads to; an index or a free key leads nowhere else."""
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
    """Message and fix for one finding of pydantic at a location."""
    kind, value, context = details["type"], details["input"], details.get("ctx", {})
    shown = _shown(value, text)
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


def _shown(value: Any, text: str = "") -> str:
    """A value as an error may quote it: short, on one line, and with nothing that a terminal obeys."""
    if isinstance(value, Mapping):
        return "a map"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None:
        return "nothing"
    shown = text or (repr(value) if isinstance(value, str) else str(value))
    return shown if len(shown) <= MAX_SHOWN else f"{shown[:MAX_SHOWN]}..."


# ---------------------------------------------------------------------------------------------------------- the model


def _complaint(message: str, hint: str) -> PydanticCustomError:
    return PydanticCustomError("torghut", "{message} ({fix})", {"message": message, "hint": hint})


def _name(text: str) -> str:
    if not NAME_PATTERN.fullmatch(text):
        raise _complaint(f"{_shown(text)} is not a name", "use a-z, 0-9 and . _ -, at most 63")
    return text


def _symbol(text: str) -> str:
    if not SYMBOL_PATTERN.fullmatch(text):
        is_near = SYMBOL_PATTERN.fullmatch(text.upper())
        hint = f"did you mean {text.upper()!r}?" if is_near else "use A-Z, 0-9 and . _ / -, at most 32"
        raise _complaint(f"{_shown(text)} is not a symbol", hint)
    return text


def _distinct(symbols: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted(symbol for symbol, times in Counter(symbols).items() if times > 1)
    if twice:
        raise _complaint(f"names {', '.join(twice)} more than once", "list each symbol once")
    return symbols


def _version(value: Any) -> Any:
    if value != 1 or isinstance(value, bool):
        raise _complaint(f"{_shown(value)} is not supported", "write `version: 1`")
    return value


def _version_range(text: str) -> str:
    try:
        SpecifierSet(text)
    except InvalidSpecifier:
        hint = f"did you mean '=={text}'?" if re.fullmatch(r"[0-9][0-9.]*", text) else "write one like '>=1.2,<2'"
        raise _complaint(f"{_shown(text)} is not a version range", hint) from None
    return text


def allow_rule(text: str) -> tuple[str, SpecifierSet]:
    """The two halves of a `plugins.allow` rule: a pattern over normalized distribution names, and the versions.

    Raises
    ------
    ValueError : not such a rule.

    Examples
    --------
    >>> name, versions = allow_rule("Acme_alpha>=1.2,<2")
    >>> name, "1.3" in versions
    ('acme-alpha', True)
    """
    match = re.fullmatch(r"([A-Za-z0-9*?._-]+)\s*(.*)", text, re.ASCII)
    if match is None:
        raise ValueError(f"{text!r} names no distribution")
    return re.sub(r"[-_.]+", "-", match[1]).lower(), SpecifierSet(match[2])


def _allow_rule(text: str) -> str:
    try:
        allow_rule(text)
    except ValueError:
        raise _complaint(f"{_shown(text)} names no distribution", "write it like 'acme-alpha>=1.2,<2'") from None
    return text


def _freeze(value: Any) -> Any:
    if isinstance(value, Mapping):
        return MappingProxyType({key: _freeze(inner) for key, inner in value.items()})
    return tuple(map(_freeze, value)) if isinstance(value, list | tuple) else value


def _thaw(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _thaw(inner) for key, inner in value.items()}
    return [_thaw(inner) for inner in value] if isinstance(value, tuple) else value


def _text(pattern: re.Pattern[str]) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^{pattern.pattern}$"})


Name = Annotated[str, AfterValidator(_name), _text(NAME_PATTERN)]
Symbol = Annotated[str, AfterValidator(_symbol), _text(SYMBOL_PATTERN)]
VersionRange = Annotated[str, AfterValidator(_version_range)]
AllowRule = Annotated[str, AfterValidator(_allow_rule)]
Money = Annotated[Decimal, Field(gt=0, max_digits=MAX_DIGITS)]
Fraction = Annotated[Decimal, Field(gt=0, le=1, max_digits=MAX_DIGITS)]
Timeframe = Literal["1Sec", "1Min", "5Min", "15Min", "1Hour", "1Day"]
OnRemove = Literal["freeze", "flatten", "handover"]


def _field(default: Any = ..., *, meaning: str, example: Any = None, **bounds: Any) -> Any:
    examples = None if example is None else [example]
    return Field(default, description=meaning, examples=examples, validate_default=True, **bounds)


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Use(_Entry):
    """One plugin in its place: which, in which versions, with which parameters."""

    use: str = _field(meaning="name that the plugin is registered under", example="macd-rsi")
    version: VersionRange | SkipJsonSchema[None] = _field(
        None, meaning="versions of its distribution that will do, such as '>=1.2,<2'; any, where it is left out"
    )
    params: Annotated[Mapping[str, Any], AfterValidator(_freeze), PlainSerializer(_thaw)] = _field(
        {}, meaning="parameters of the plugin"
    )

    _place: str = PrivateAttr(default="")

    @property
    def place(self) -> str:
        """The key under which it stands in the files (``strategies[0]``); "" where it comes from no file."""
        return self._place

    def moved(self, place: str) -> Self:
        """The same entry at another place."""
        entry = self.model_copy()
        entry._place = place  # noqa: SLF001 (its own class)
        return entry


class StrategyEntry(Use):
    """One strategy: what it trades, on which bars, within which limits."""

    name: Name = _field(meaning="its own name, under which decisions and positions are kept", example="macd-rsi-es")
    enabled: bool = _field(default=True, meaning="whether it makes decisions")
    base_timeframe: Timeframe = _field(meaning="bars whose signals it sees", example="1Min")
    symbols: Annotated[tuple[Symbol, ...], AfterValidator(_distinct)] = _field(
        meaning="what it trades, each in quotes", example=["BTC/USD"], min_length=1
    )
    max_notional_per_trade: Money | SkipJsonSchema[None] = _field(
        None, meaning="largest price x quantity of one order, quote currency"
    )
    max_position_pct_equity: Fraction | SkipJsonSchema[None] = _field(
        None, meaning="largest position as a fraction of equity: 0.05 is 5 %"
    )
    cooldown_seconds: int = _field(0, meaning="pause after an order before the next in that symbol, seconds", ge=0)
    on_remove: OnRemove = _field(
        "freeze",
        meaning="its position, once it is no longer listed: freeze keeps it, flatten closes it, "
        "handover gives it to another strategy",
    )


class Pipeline(_Entry):
    """Where events come from, what is derived from them, and where orders, or events, go."""

    source: Use = _field(meaning="where events come from", example={"use": "replay"})
    stages: tuple[Use, ...] = _field((), meaning="what is derived from them, in this order")
    broker: Use | SkipJsonSchema[None] = _field(
        None, meaning="where orders go; `trading` needs one", example={"use": "simulated"}
    )
    sink: Use | SkipJsonSchema[None] = _field(
        None, meaning="where events, and what is derived from them, go; `forwarder` needs one", example={"use": "kafka"}
    )


class Plugins(_Entry):
    """Which installed plugins may be loaded."""

    allow: tuple[AllowRule, ...] = _field(
        DEFAULT_ALLOW,
        meaning="distributions that may be loaded: a name, where * is any text, and perhaps versions, as in "
        "'acme-alpha>=1.2,<2'; of two that bring the same plugin, the one allowed first wins",
    )


class Catalog(_Entry):
    """What runs: in which pipelines, by which strategies, within which rules."""

    version: Annotated[Literal[1], BeforeValidator(_version)] = _field(meaning="version of this format", example=1)
    mode: Literal["sync", "merge"] = _field(
        "sync", meaning="sync disables the strategies that are no longer listed, merge leaves them"
    )
    on_invalid: Literal["keep_last_good", "reduce_only", "halt"] = _field(
        "keep_last_good", meaning="what a running kernel does when the catalog has become wrong"
    )
    plugins: Plugins = _field(Plugins(), meaning="which installed plugins may be loaded")
    pipelines: Annotated[Mapping[Name, Pipeline], AfterValidator(MappingProxyType), PlainSerializer(dict)] = _field(
        {},
        meaning="pipelines by name; `trading` is the one that trades",
        json_schema_extra={"additionalProperties": False},
    )
    strategies: tuple[StrategyEntry, ...] = _field((), meaning="who proposes decisions, in order of their names")
    risk: tuple[Use, ...] = _field((), meaning="rules that every decision meets, in this order")
    advisors: tuple[Use, ...] = _field((), meaning="second opinions that may veto or shrink, in this order")
    observers: tuple[Use, ...] = _field((), meaning="who hears of decisions, fills and generations")

    _marks: Marks = PrivateAttr(default=Marks({}))

    @property
    def marks(self) -> Marks:
        """Where in the files each key and value stands."""
        return self._marks

    @cached_property
    def digest(self) -> str:
        """sha256 of the content, hexadecimal.

        The order of keys and of strategies, comments, quotes around numbers, the split into files and defaults that are
        spelled out make no difference.
        """
        content = self.model_dump()
        content["strategies"] = sorted(content["strategies"], key=lambda entry: str(entry["name"]))
        return content_digest(content)

    def for_replay(self, params: Mapping[str, Any]) -> Catalog:
        """The catalog with its `trading` pipeline on recorded tapes and the simulated broker, whatever it says.

        `params` of the `replay` source come before those that the catalog gives it.
        """
        content = self.model_dump()
        pipeline = content["pipelines"].get("trading")
        if pipeline is not None:
            if pipeline["source"]["use"] != "replay":
                pipeline["source"] = {"use": "replay", "params": {}}
            pipeline["source"]["params"] |= params
            if pipeline["broker"] and pipeline["broker"]["use"] != "simulated":
                pipeline["broker"] = {"use": "simulated"}
        return self.with_(pipelines=Catalog.model_validate(content).pipelines)

    def with_(self, **values: Any) -> Catalog:
        """The catalog with other values in some of its fields; they are not checked again."""
        catalog = Catalog.model_construct(**{name: getattr(self, name) for name in Catalog.model_fields} | values)
        catalog._marks = self._marks  # noqa: SLF001 (its own class)
        return catalog

    @classmethod
    def from_record(cls, content: Mapping[str, Any]) -> Catalog:
        """The catalog of a generation that was written down, from what the audit database keeps of it."""
        strategies = [
            {name: entry[name] for name in StrategyEntry.model_fields} | {"params": entry["given"]}
            for entry in content["strategies"]
        ]
        fields = {name: content[name] for name in cls.model_fields if name in content}
        return cls.model_validate(fields | {"plugins": {"allow": content["allow"]}, "strategies": strategies})

    def __eq__(self, other: object) -> bool:
        return self.digest == other.digest if isinstance(other, Catalog) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest)


_EXACT = Context(prec=2 * MAX_DIGITS, Emax=MAX_EMAX, Emin=MIN_EMIN)


def content_digest(content: Any) -> str:
    """sha256 over canonical JSON of plain values, hexadecimal; a number counts as its shortest text.

    Examples
    --------
    >>> content_digest({"cash": Decimal("1000.00")}) == content_digest({"cash": "1000"})
    True
    """
    return hashlib.sha256(canonical_json(_canonical(content))).hexdigest()


def _canonical(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _canonical(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(inner) for inner in value]
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        shortest = _EXACT.normalize(Decimal(str(value)))
        return format(shortest, "f" if abs(shortest.adjusted()) < MAX_DIGITS else "e")
    return value


_SCHEMA_PLACES = {
    "strategy": ("Catalog", "strategies"),
    "risk rule": ("Catalog", "risk"),
    "advisor": ("Catalog", "advisors"),
    "observer": ("Catalog", "observers"),
    "source": ("Pipeline", "source"),
    "stage": ("Pipeline", "stages"),
    "broker": ("Pipeline", "broker"),
}


def json_schema(params: Mapping[str, Mapping[str, type[BaseModel]]] = MappingProxyType({})) -> dict[str, Any]:
    """JSON Schema of a catalog file, for editors.

    `params` holds the parameter models of installed plugins, by kind (as in `plugin_host.KINDS`) and name; with them
    the schema knows what may stand in `params` for what stands in `use`.
    """
    models = [(model, "validation") for named in params.values() for model in named.values()]
    references, schema = models_json_schema([(Catalog, "validation"), *dict.fromkeys(models)])  # type: ignore[list-item]  # the mode is a literal there
    definitions = schema["$defs"]
    for kind, (owner, key) in _SCHEMA_PLACES.items():
        place = definitions[owner]["properties"][key]
        choices = [
            {
                "if": {"properties": {"use": {"const": name}}, "required": ["use"]},
                "then": {"properties": {"params": references[model, "validation"]}},
            }
            for name, model in sorted(params.get(kind, {}).items())
        ]
        if choices:
            place.get("items", place)["allOf"] = choices
    catalog = definitions.pop("Catalog") | {"title": "Torghut catalog", "$defs": definitions}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **catalog}


# ------------------------------------------------------------------------------------------------- from text to catalog


def read(path: str | Path) -> dict[str, str]:
    """The texts of a catalog by file: of one file, or of the ``*.yaml`` and ``*.yml`` in a folder.

    Names that begin with a dot are left out: a mounted ConfigMap keeps its revisions there.

    Raises
    ------
    CatalogError : nothing there, not readable, not UTF-8, or a folder without such a file.
    """
    path = Path(path)
    try:
        files = [path]
        if path.is_dir():
            files = [file for file in sorted(path.iterdir()) if re.fullmatch(r"[^.].*\.ya?ml", file.name)]
        contents = {str(file): file.read_bytes() for file in files}
    except FileNotFoundError as error:
        raise _unreadable(error.filename, "there is no such file or folder", "give the path of a catalog") from None
    except OSError as error:
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
    """The catalog that texts of files, by name, make together.

    Keys of several files are merged, and their lists of strategies, risk rules, advisors and observers put one after
    the other in order of the file names. `version` may stand in each file, every other key in one only.

    Raises
    ------
    CatalogError : every problem that was found, in file order.
    """
    draft = load_draft(files)
    if draft.problems:
        raise CatalogError(draft.problems)
    return draft.catalog


@dataclass(frozen=True)
class Draft:
    """What of a catalog can be used: the entries that are right, and what is wrong with the others.

    Attributes
    ----------
    catalog : the entries that are right.
    problems : in file order.
    left_out : place of each entry that was left out (``strategies[2]``, ``pipelines``) and its name, a strategy's own
        or its plugin's; None where that cannot be read.
    """

    catalog: Catalog
    problems: list[Problem]
    left_out: Mapping[str, str | None]

    def without(self, problems: Iterable[Problem]) -> Draft:
        """The same without the entries that these problems are about.

        Raises
        ------
        CatalogError : one of them is about no entry.
        """
        problems = list(problems)
        places = {entry_place(problem.key) for problem in problems}
        if None in places:
            raise CatalogError(sorted([*self.problems, *problems], key=_where))
        names = {entry.name for entry in self.catalog.strategies if entry.place in places}
        left_out = dict(self.left_out)
        lists: dict[str, Any] = {}
        for key in _JOINED:
            entries = getattr(self.catalog, key)
            is_bad = [entry.place in places or getattr(entry, "name", None) in names for entry in entries]
            left_out |= {
                entry.place: getattr(entry, "name", entry.use)
                for entry, bad in zip(entries, is_bad, strict=True)
                if bad
            }
            lists[key] = tuple(entry for entry, bad in zip(entries, is_bad, strict=True) if not bad)
        if "pipelines" in places:
            left_out["pipelines"] = None
            lists["pipelines"] = MappingProxyType({})
        return Draft(self.catalog.with_(**lists), sorted([*self.problems, *problems], key=_where), left_out)


def entry_place(key: str) -> str | None:
    """The entry that a dotted key is in; the pipelines count as one. None for the keys of the catalog itself.

    Examples
    --------
    >>> entry_place("strategies[2].params.rsi_buy"), entry_place("pipelines.trading.broker"), entry_place("mode")
    ('strategies[2]', 'pipelines', None)
    """
    match = re.match(rf"(?:{'|'.join(_JOINED)})\[\d+\]|pipelines(?=\.|$)", key)
    return match[0] if match else None


def load_draft(files: Mapping[str, str]) -> Draft:
    """What of the catalog in these texts can be used; see `load`.

    Raises
    ------
    CatalogError : every problem, where one is with a file as a whole or with a key of the catalog itself.
    """
    problems: list[Problem] = []
    trees = []
    for file in sorted(files):
        try:
            tree = parse(file, files[file])
        except CatalogError as error:
            problems += error.problems
            continue
        if isinstance(tree.value, dict):
            trees.append(tree)
        else:
            what = "is empty" if tree.value is None else f"is {_shown(tree.value, tree.text)}, not a map of keys"
            problems.append(Problem(*tree.place, "", what, "begin with `version: 1`"))
    is_whole = not problems
    of: dict[str, Mark] = {}
    content = _flatten(_merge(trees), "", of, problems)
    marks = Marks(of)
    problems += _namesakes(content, marks)
    try:
        Catalog.model_validate(content)
    except ValidationError as error:
        told = {_where(problem) for problem in problems}
        problems += (
            problem
            for problem in marks.problems(error, Catalog)
            if _where(problem) not in told and (is_whole or problem.key != "version")
        )
    problems.sort(key=_where)
    places = {entry_place(problem.key) for problem in problems}
    if not is_whole or None in places:
        raise CatalogError(problems)
    names = {_named(content, place) for place in places if place and place.startswith("strategies")} - {None}
    misnamed = {problem.key for problem in problems if problem.key.endswith("].name")}
    left_out: dict[str, str | None] = {place: None for place in places if place == "pipelines"}
    kept: dict[str, list[str]] = {}
    for key in _JOINED:
        found = content.get(key, ())
        for number in range(len(found)):
            place = f"{key}[{number}]"
            name = _named(content, place)
            if place in places or (key == "strategies" and name in names):
                left_out[place] = None if f"{place}.name" in misnamed else name
            else:
                kept.setdefault(key, []).append(place)
        if key in content:
            content[key] = [found[int(place[len(key) + 1 : -1])] for place in kept.get(key, ())]
    if "pipelines" in places:
        del content["pipelines"]
    catalog = Catalog.model_validate(content)
    catalog._marks = marks  # noqa: SLF001 (its own module)
    for key, standing in kept.items():
        for entry, place in zip(getattr(catalog, key), standing, strict=True):
            entry._place = place  # noqa: SLF001 (its own module)
    return Draft(catalog, problems, left_out)


def _named(content: Any, place: str) -> str | None:
    """What the entry at a place is called: a strategy by its own name, another by its plugin's."""
    key, _, number = place.rstrip("]").partition("[")
    entry = content[key][int(number)] if number else None
    name = entry.get("name" if key == "strategies" else "use") if isinstance(entry, Mapping) else None
    return name if isinstance(name, str) else None


def _where(problem: Problem) -> tuple[str, int, int, str]:
    return problem.file, problem.line, problem.column, problem.key


def _namesakes(content: Any, marks: Marks) -> Iterator[Problem]:
    first: dict[str, str] = {}
    strategies = content.get("strategies")
    for index, entry in enumerate(strategies if isinstance(strategies, list) else ()):
        name = entry.get("name") if isinstance(entry, Mapping) else None
        key = f"strategies[{index}].name"
        if isinstance(name, str) and first.setdefault(name, key) != key:
            place = marks.of[first[name]].value
            yield marks.problem(key, f"a strategy named {_shown(name)} stands at {place} already", "rename one")


_JOINED = ("strategies", "risk", "advisors", "observers")


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
            elif key in _JOINED and isinstance(node.value, list):
                mine.value += node.value
            elif key == "pipelines" and isinstance(node.value, dict):
                mine.key_complaints += node.key_complaints
                for name, pipeline in node.value.items():
                    mine.add(name, pipeline)
            elif key != "version" or mine.value != node.value:
                merged.add(key, node)
    return merged


_SECRET = re.compile(
    r"(.*[_-])?(api_?key(_?id)?|secret(_?key)?|password|passwd|token|credentials?|private_?key)", re.IGNORECASE
)


def _flatten(node: Node, path: str, of: dict[str, Mark], problems: list[Problem], *, is_free: bool = False) -> Any:
    """The plain value of a node; on the way, note the places and what is wrong whatever the key means.

    `is_free` below `params`, where null is a value like any other.
    """
    of[path] = Mark(node.key or node.place, node.place, node.text)
    complaint = node.complaint
    if node.value is None and not is_free:
        complaint = complaint or ("has no value", "give it one, or leave the key out")
    if complaint:
        problems.append(_problem(node.place, path, *complaint))
    problems += (_problem(place, _path(path, key), *complaint) for key, place, *complaint in node.key_complaints)
    is_free = is_free or path.endswith(".params")
    if isinstance(node.value, list):
        return [
            _flatten(inner, _path(path, number), of, problems, is_free=is_free)
            for number, inner in enumerate(node.value)
        ]
    if not isinstance(node.value, dict):
        return node.value
    plain = {}
    for key, inner in node.value.items():
        below = _path(path, key)
        plain[key] = _flatten(inner, below, of, problems, is_free=is_free)
        if _SECRET.fullmatch(key):
            hint = "give it by an environment variable, and change it if this file was shared"
            problems.append(Problem(*of[below].key, below, "a secret does not belong in the catalog", hint))
    return plain


def _problem(place: Place, key: str, message: str, hint: str) -> Problem:
    return Problem(*place, key, message, hint)
