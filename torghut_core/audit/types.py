"""Column types: the texts of `values`, as SQLAlchemy reads and writes them."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from sqlalchemy import JSON, Dialect, Numeric, String, Text
from sqlalchemy.types import TypeDecorator, TypeEngine

from torghut_core.audit.values import decimal_text, json_text, json_value, plain, time_ns, time_text

Processor = Callable[[Any], Any]

# The processors are returned as they are, not through `process_bind_param`: one call for a value instead of three.


class Nanoseconds(TypeDecorator[int]):
    """A time: an `int` here, RFC 3339 text with nine fraction digits there, which sorts as the times do."""

    impl = String(30)
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Processor:  # noqa: ARG002 - the same on all
        """Text of nanoseconds."""
        return time_text

    def result_processor(self, dialect: Dialect, coltype: object) -> Processor:  # noqa: ARG002 - the same on all
        """Nanoseconds of text."""
        return time_ns


class Money(TypeDecorator[Any]):
    """A `Decimal` with all its digits: text in SQLite, whose numbers are floats, and numeric in Postgres."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Numeric without a precision keeps every digit, zeros at the end too."""
        return dialect.type_descriptor(Numeric() if dialect.name == "postgresql" else Text())

    def bind_processor(self, dialect: Dialect) -> Processor:  # noqa: ARG002 - the same on all
        """Text of a decimal."""
        return decimal_text

    def result_processor(self, dialect: Dialect, coltype: object) -> Processor | None:  # noqa: ARG002 - one type
        """Decimal of text; Postgres gives one already."""
        return None if dialect.name == "postgresql" else _decimal


class Json(TypeDecorator[Any]):
    """JSON types only; `values.plain` refuses or coerces everything else. Null is SQL's."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Json, not jsonb, in Postgres: it keeps the text as it was written, which is what the log hashes."""
        return dialect.type_descriptor(JSON() if dialect.name == "postgresql" else Text())

    def bind_processor(self, dialect: Dialect) -> Processor:  # noqa: ARG002 - the same on all
        """Canonical JSON text of what `values.plain` makes of it."""
        return _checked_json

    def result_processor(self, dialect: Dialect, coltype: object) -> Processor:  # noqa: ARG002 - the same on all
        """The value of JSON text."""
        return json_value


def _checked_json(value: Any) -> str | None:
    return json_text(plain(value))


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)
