"""The embedded engine, as the HTTP interface needs it: one statement in, bytes out."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

TRANSPORT = frozenset(
    {
        "buffer_size",
        "client_protocol_version",
        "compress",
        "database",
        "decompress",
        "enable_http_compression",
        "http_headers_progress_interval_ms",
        "query",
        "query_id",
        "quota_key",
        "role",
        "send_progress_in_http_headers",
        "session_check",
        "session_id",
        "session_timeout",
        "wait_end_of_query",
        "cancel_http_readonly_queries_on_client_close",
    }
)
"""Parameters of a request that are about the request or about HTTP, not settings of the engine."""

_INSERT = re.compile(r"\s*INSERT\s+INTO\s+(?P<target>.+?)\s+FORMAT\s+(?P<form>\w+)\s*", re.IGNORECASE | re.DOTALL)
_FORMAT = re.compile(r"\bFORMAT\s+(\w+)\s*;?\s*$", re.IGNORECASE)
_DISKS = re.compile(r"\bsystem\.disks\b")
_CODE = re.compile(r"Code: (\d+)\. ")
_COLUMNS = (
    "name String, path String, free_space UInt64, total_space UInt64, unreserved_space UInt64, keep_free_space UInt64, "
    "type String"
)


class EngineError(Exception):
    """The engine refused a statement; `code` is ClickHouse's number of the reason."""

    def __init__(self, text: str) -> None:
        start = text.find("Code: ")
        super().__init__(text[max(start, 0) :].strip())
        match = _CODE.search(text)
        self.code = int(match[1]) if match else 1002


class Engine:
    """The engine with its files in `path`, open until `close`; each statement has a handle and settings of its own.

    Attributes
    ----------
    disks : by name, the free and total bytes that ``system.disks`` shows; the machine's own disks where it is empty.
    """

    def __init__(self, path: Path) -> None:
        chdb: Any = import_module("chdb")  # loads 500 MB, which only a server needs

        path.mkdir(parents=True, exist_ok=True)
        directory = os.path.realpath(path)
        self._open: Callable[[], Any] = lambda: chdb.connect(directory)
        self._kept = self._open()  # the engine ends with its last handle
        self.version: str = self._kept.query("SELECT version()", "TabSeparated").bytes().decode().strip()
        self.zone: str = self._kept.query("SELECT serverTimeZone()", "TabSeparated").bytes().decode().strip()
        self.disks: dict[str, tuple[int, int]] = {}

    def close(self) -> None:
        """Close the engine and release the directory."""
        self._kept.close()

    def run(self, statement: bytes, data: bytes, options: Mapping[str, str]) -> tuple[str, bytes]:
        """Execute one statement; return the format of its answer, "" where it has none, and the answer.

        Parameters
        ----------
        statement : SQL; the rows of an insert may follow it, on the next line.
        data : the rows of an insert, where they come apart from the statement.
        options : of the URL: settings, ``database``, and bound values as ``param_name``.

        Raises
        ------
        EngineError : it failed.
        """
        bound = {name[6:]: value for name, value in options.items() if name.startswith("param_")}
        settings = {
            name: value for name, value in options.items() if name not in TRANSPORT and not name.startswith("param_")
        }
        handle = self._open()
        try:
            for name, value in settings.items():
                handle.query(f"SET {_name(name)} = {_text(value)}", "TabSeparated")
            if options.get("database"):
                handle.query(f"USE `{_name(options['database'])}`", "TabSeparated")
            head, is_split, rest = statement.partition(b"\n")
            if match := _INSERT.fullmatch(statement.decode(errors="replace")):
                return self._insert(handle, match, data, settings)
            if is_split and (match := _INSERT.fullmatch(head.decode(errors="replace"))):
                return self._insert(handle, match, rest, settings)
            return self._query(handle, (statement + b"\n" + data if data else statement).decode(), bound)
        except RuntimeError as error:
            raise EngineError(str(error)) from error
        finally:
            handle.close()

    def _query(self, handle: Any, sql: str, bound: dict[str, str]) -> tuple[str, bytes]:
        if self.disks:
            sql = _DISKS.sub(self._shown_disks(), sql)
        if match := _FORMAT.search(sql):
            return match[1], handle.query(sql, "TabSeparated", params=bound).bytes()
        answer: bytes = handle.query(sql, "TabSeparatedWithNames", params=bound).bytes()
        names, _, rows = answer.partition(b"\n")  # a statement that returns rows returns their names, even without rows
        return ("TabSeparated" if names else ""), rows

    def _insert(self, handle: Any, match: re.Match[str], data: bytes, settings: dict[str, str]) -> tuple[str, bytes]:
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            clause = ", ".join(f"{name} = {_text(value)}" for name, value in settings.items())
            handle.query(
                f"INSERT INTO {match['target']} FROM INFILE {_text(file.name)}"
                f"{' SETTINGS ' + clause if clause else ''} FORMAT {match['form']}",
                "TabSeparated",
            )
        return "", b""

    def _shown_disks(self) -> str:
        rows = ", ".join(
            f"({_text(name)}, {_text(f'/{name}/')}, {free}, {total}, {free}, 0, 'Local')"
            for name, (free, total) in self.disks.items()
        )
        return f"(SELECT * FROM values({_text(_COLUMNS)}, {rows}))"  # noqa: S608 - a script's own names, quoted


def _name(text: str) -> str:
    if not re.fullmatch(r"\w+", text, re.ASCII):
        raise EngineError(f"Code: 62. DB::Exception: {text!r} is no name. (SYNTAX_ERROR)")
    return text


def _text(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
