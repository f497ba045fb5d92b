"""YAML text to a tree of nodes, each with its place in the file.

Made from the parser's events and not by PyYAML's composer: that silently takes the last of two equal keys, makes a
float of ``0.1``, and follows references, so that a few lines become a billion. What is wrong with a single node is noted
there and parsing continues, so that one reading finds every problem.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

import yaml

from torghut_core.errors import CatalogError, Problem

MAX_DEPTH = 32
"""Levels to which lists and maps may nest."""

MAX_DIGITS = 30
"""Digits of a number at most, before its point and after it; and characters of one without quotes."""

MAX_VALUES = 50_000
"""Values in a file at most: numbers, texts, lists and maps."""

TOO_LONG = f"has more than {MAX_DIGITS} digits before its point, or after it", "write fewer"
"""Message and hint for a number that is not `is_bounded`."""

_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]*(_[0-9]+)*)")
_DECIMAL = re.compile(r"[-+]?([0-9]+(_[0-9]+)*)?\.([0-9]+(_[0-9]+)*)?([eE][-+][0-9]+)?")
_LINE_END = re.compile(r"\r\n|[\r\n\x85\u2028\u2029]")  # as YAML counts lines


class Place(NamedTuple):
    """A place in a file; line and column count from 1, and are 0 where there is none."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


def place_after(file: str, text: str) -> Place:
    """The place after the first part, `text`, of a file."""
    lines = _LINE_END.split(text)
    return Place(file, len(lines), len(lines[-1]) + 1)


def is_bounded(number: Decimal) -> bool:
    """Whether a number that is written out has at most `MAX_DIGITS` before its point and after it.

    Python needs minutes, and all memory, to make a whole number of ``1e+999999999``.

    Examples
    --------
    >>> is_bounded(Decimal("1.0e+29")), is_bounded(Decimal("1.0e+30")), is_bounded(Decimal("1e-31"))
    (True, False, False)
    """
    return number.is_finite() and number.adjusted() < MAX_DIGITS and int(number.as_tuple().exponent) >= -MAX_DIGITS


@dataclass(slots=True)
class Node:
    """A value in a file.

    Attributes
    ----------
    place : where it begins.
    value : text, whole number, `Decimal`, boolean, None, a list of nodes, or nodes by key.
    key : where its key begins; None for a value without one.
    text : a number or boolean as it is written.
    complaint : message and hint, for a value that a catalog may not have.
    key_complaints : key, its place, message and hint, of keys that this map may not have.
    """

    place: Place
    value: Any
    key: Place | None = None
    text: str = ""
    complaint: tuple[str, str] | None = None
    key_complaints: list[tuple[str, Place, str, str]] = field(default_factory=list)

    def add(self, key: str, node: Node) -> None:
        """Put a value into this map; if it has the key already, add a complaint instead."""
        mine = self.value.setdefault(key, node)
        if mine is not node:
            self.key_complaints.append(
                (key, node.key or node.place, f"is given twice, first at {mine.key}", "keep one of them")
            )


def parse(file: str, text: str) -> Node:
    """Parse a file into its value; None for an empty file.

    Raises
    ------
    CatalogError : the syntax error at which parsing stopped.
    """
    return _Reader(file, text).document()


class _Reader:
    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.values = 0
        self.lines = _LINE_END.split(text)
        try:
            self.yaml: Any = yaml.SafeLoader(text)  # its stubs leave out what is needed here
        except yaml.reader.ReaderError as error:
            place = place_after(file, text[: error.position])
            raise self._error(place, f"holds the character U+{ord(text[error.position]):04X}", "remove it") from None

    def document(self) -> Node:
        try:
            self._event()
            if isinstance(self._event(), yaml.StreamEndEvent):
                return Node(Place(self.file), None)
            node = self._node(self._event(), 0)
            self._event()
            following = self._event()
        except yaml.MarkedYAMLError as error:
            raise self._syntax_error(error) from None
        if not isinstance(following, yaml.StreamEndEvent):
            raise self._error(self._place(following), "a second document begins here", "keep one, without `---`")
        return node

    def _event(self) -> Any:
        try:
            return self.yaml.get_event()
        except (ValueError, OverflowError):  # PyYAML makes a character of any escape, a number of any %YAML directive
            place = self._at(self.yaml.get_mark())
            if self.lines[place.line - 1][: place.column - 1].endswith("\\U"):
                raise self._error(place, "an escape beyond the last character", "write one up to \\U0010FFFF") from None
            raise self._error(place, "a number is too long to be read", "remove it") from None

    def _node(self, event: Any, depth: int) -> Node:
        node = Node(self._place(event), None)
        self.values += 1
        if self.values > MAX_VALUES:
            raise self._error(node.place, f"is one of more than {MAX_VALUES:,} values", "shorten the file")
        if isinstance(event, yaml.AliasEvent):
            node.complaint = f"refers to *{event.anchor}, and a catalog has no references", "write the value out"
            return node
        if depth > MAX_DEPTH:
            raise self._error(node.place, f"nests deeper than {MAX_DEPTH} levels", "write it flatter")
        if isinstance(event, yaml.SequenceStartEvent):
            node.value = []
            while not isinstance(inner := self._event(), yaml.SequenceEndEvent):
                node.value.append(self._node(inner, depth + 1))
        elif isinstance(event, yaml.MappingStartEvent):
            node.value = {}
            while not isinstance(inner := self._event(), yaml.MappingEndEvent):
                self._pair(node, inner, depth)
        else:
            self._scalar(node, event)
        if event.tag is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            node.complaint = f"has the tag {tag!r}, and a catalog has no tags", "remove it, and quote what is text"
        return node

    def _pair(self, node: Node, event: Any, depth: int) -> None:
        """Read the key that `event` begins, and its value."""
        place = self._place(event)
        if not isinstance(event, yaml.ScalarEvent):
            raise self._error(place, "a key is plain text", "quote it, or write `key: value`")
        value = self._node(self._event(), depth + 1)
        value.key = place
        if complaint := _hidden(event.value):
            node.key_complaints.append((event.value, place, *complaint))
        node.add(event.value, value)

    def _scalar(self, node: Node, event: Any) -> None:
        text = node.value = event.value
        node.complaint = _hidden(text)
        tag = self.yaml.resolve(yaml.ScalarNode, text, event.implicit).rpartition(":")[2]
        if tag == "null":
            node.value = None
        elif tag == "bool":
            node.value, node.text = text.lower() in ("true", "yes", "on"), text
        elif tag in ("int", "float"):
            node.text = text
            node.value, complaint = _number(text)
            node.complaint = complaint or node.complaint

    def _place(self, event: Any) -> Place:
        return self._at(event.start_mark)

    def _at(self, mark: Any) -> Place:
        return Place(self.file, mark.line + 1, mark.column + 1)

    def _error(self, place: Place, message: str, hint: str) -> CatalogError:
        return CatalogError([Problem(*place, "", message, hint)])

    def _syntax_error(self, error: Any) -> CatalogError:
        """The parser's error in the operator's words."""
        problem, mark = error.problem, error.problem_mark
        line = self.lines[mark.line]
        if "\t" in line[: len(line) - len(line.lstrip())]:
            message, hint = "the line begins with a tab", "indent with spaces"
        elif problem.startswith("mapping values are not allowed"):
            message, hint = "a colon where none can be", "quote a value that holds `: `, or fix the indentation"
        elif problem.endswith("cannot start any token"):
            message, hint = f"a value cannot begin with {line[mark.column]!a}", "quote it, or remove that"
        elif problem.startswith(("expected ',' or ']'", "expected ',' or '}'")):
            mark = error.context_mark
            message, hint = "the bracket that begins here is not closed", f"close it with {problem[17]}"
        elif "quoted scalar" in (error.context or ""):
            mark = error.context_mark
            message, hint = "the quote that begins here is not closed", "close it"
        elif problem.startswith("expected <block end>"):
            message, hint = "the line does not belong to the lines above it", "indent it like its neighbours"
        elif problem.startswith("expected the node content"):
            message, hint = "a value is missing", "write it, or close the bracket before it"
        elif problem == "could not find expected ':'":
            message, hint = "a key without its colon", "write `key: value`"
        else:
            message, hint = f"is not YAML: {ascii(problem)[1:-1]}", "quote the value if it is text"
        return self._error(self._at(mark), message, hint)


def _number(text: str) -> tuple[Any, tuple[str, str] | None]:
    """The number that is written as `text`, or the text, and message and hint of why it is none."""
    if len(text) > MAX_DIGITS:
        return text, (f"is a number of {len(text)} characters", f"write at most {MAX_DIGITS}")
    if _WHOLE.fullmatch(text):
        return int(text), None
    if not _DECIMAL.fullmatch(text):
        if "_" in text:
            plain = text.replace("_", "")
            return text, (f"is {text}, where a `_` is not between two digits", f"write {plain}, or quote what is text")
        return text, (f"is {text}, a number that YAML reads in a way of its own", f'quote it: "{text}"')
    try:
        number = Decimal(text.replace("_", ""))
    except InvalidOperation:  # even its exponent is too large
        number = Decimal("Infinity")
    if not is_bounded(number):
        return text, TOO_LONG
    return number, None


def _hidden(text: str) -> tuple[str, str] | None:
    """Message and hint for text with an invisible character; None for other text."""
    for letter in text:
        if unicodedata.category(letter) in ("Cc", "Cf", "Cs") and letter not in "\n\t":
            return f"holds the character U+{ord(letter):04X}", "remove it"
    return None
