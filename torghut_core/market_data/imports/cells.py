"""Numbers and times as people write them in files, a column at a time."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as arrow
from numpy.typing import NDArray

from torghut_core.model.market import FloatArray, IntArray
from torghut_core.timestamps import DAY, MICROSECOND, MILLISECOND, MINUTE, SECOND

EPOCH_UNITS = {"s": SECOND, "ms": MILLISECOND, "us": MICROSECOND, "ns": 1}
NULLS = ("", "null", "NULL", "nan", "NaN", "NAN", "None", "N/A", "n/a", "-", "--")
"""How files say that there is no value."""

NEVER = -(2**63)
"""In place of a time that cannot be read."""

_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?$"
_DAY_NAMES = r"^(Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? +"
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_CLOCK = r"(?:[T ,]*(?P<H>\d{1,2}):?(?P<M>\d\d)(?::?(?P<S>\d\d)(?:[.,](?P<f>\d{1,9}))?)?)?"
_ZONE = r" *(?P<p>[AaPp][Mm])? *(?P<z>Z|z|UTC|GMT|[+-]\d\d(?::?\d\d)?)?$"
_YEAR_FIRST = rf"^(?P<y>\d{{4}})[-/.]?(?P<a>\d{{1,2}})[-/.]?(?P<b>\d{{1,2}}){_CLOCK}{_ZONE}"
_YEAR_LAST = rf"^(?P<a>\d{{1,2}})[-/.](?P<b>\d{{1,2}})[-/.](?P<y>\d{{4}}){_CLOCK}{_ZONE}"
_UNIT_LIMITS = (10**11, 10**14, 10**17)
"""Below the first an epoch time is in seconds, below the second in milliseconds, ...: 1973 to 5138 in each unit."""
_SCALES = {"K": 1e3, "M": 1e6, "B": 1e9}


class Unclear(Exception):
    """What cannot be known from the values; `flag` is the option that says it."""

    def __init__(self, what: str, flag: str) -> None:
        self.flag = flag
        super().__init__(what)


def text(column: pa.Array) -> pa.Array:
    """Give a column of text without blanks around it, null where it says that there is no value."""
    column = pc.utf8_trim_whitespace(column)
    return pc.if_else(pc.is_in(column, pa.array(NULLS)), pa.scalar(None, pa.string()), column)


def is_decimal_comma(columns: list[pa.Array], delimiter: str) -> bool:
    """Give whether a comma begins the decimals in these columns of text, as in ``1.234,56``; else it parts thousands.

    Raises
    ------
    Unclear : each comma is followed by three digits, and fields are parted as where decimals have a comma.
    """
    found = [value for column in columns for value in column.drop_null().to_pylist() if "," in value]
    if not found:
        return False
    if any("." in value.replace(",", "", 1)[value.index(",") :] for value in found):
        return False
    if any(not re.fullmatch(r"[^\d]*\d{1,3}(,\d{3})+[^\d,]*", value) for value in found):
        return True
    if delimiter == ",":
        return False
    raise Unclear(f"{found[0]!r} is a number of thousands or of thousandths", "--decimal point or --decimal comma")


def numbers(column: pa.Array, *, comma: bool = False) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Give the numbers of a column, NaN where there is none, and which values are no numbers; both of shape (n,).

    Text may part thousands, begin with a currency's sign and end with K, M or B.

    Examples
    --------
    >>> numbers(pa.array(["1,234.5", "$2", "1.5K", "", "x"]))[0].tolist()
    [1234.5, 2.0, 1500.0, nan, nan]
    """
    if not (arrow.is_string(column.type) or arrow.is_null(column.type)):
        return _floats(column.cast(pa.float64(), safe=False)), np.zeros(len(column), np.bool_)
    if not comma:
        try:
            return _floats(column.cast(pa.float64())), np.zeros(len(column), np.bool_)
        except pa.ArrowInvalid:
            pass
    given = text(column.cast(pa.string()))
    plain = pc.replace_substring_regex(given, r"[ $€£¥_']", "")
    plain = pc.replace_substring(plain, "." if comma else ",", "")
    if comma:
        plain = pc.replace_substring(plain, ",", ".")
    scale = np.ones(len(column))
    for letter, factor in _SCALES.items():
        scale[_mask(pc.match_substring_regex(plain, f"{letter}$", ignore_case=True))] = factor
    plain = pc.replace_substring_regex(plain, "[KMBkmb]$", "")
    is_number = pc.match_substring_regex(plain, _NUMBER)
    values = _floats(pc.if_else(is_number, plain, pa.scalar(None, pa.string())).cast(pa.float64())) * scale
    return values, _mask(given.is_valid()) & np.isnan(values)


class Times:
    """Reads the times of a file: epoch units are found value by value, the order of day and month once.

    Parameters
    ----------
    zone : of times that name none; None where it is not known.
    unit : of epoch times; None to tell it from their size.
    order : of numbers of dates, ``dmy`` or ``mdy``; None to tell it from the first block.
    are_distinct : whether a symbol has no time twice, as bars.

    Attributes
    ----------
    units : how many epoch times were in each unit.
    repeated_hours : how many times are in an hour that a zone has twice, as when its clocks go back.
    is_local : whether times without a zone were read.
    is_epoch : whether epoch times were read.
    """

    def __init__(self, zone: str | None, unit: str | None, order: str | None, *, are_distinct: bool = False) -> None:
        self.units: Counter[str] = Counter()
        self.repeated_hours = 0
        self.is_local = False
        self.is_epoch = False
        self.order = order
        self.is_order_found = False
        self._zone = zone
        self._unit = unit
        self._are_distinct = are_distinct
        self._last: dict[str, int] = {}

    def read(self, column: pa.Array, symbols: pa.Array) -> IntArray:
        """Give nanoseconds since the epoch, shape (n,), `NEVER` where a value is no time.

        Parameters
        ----------
        symbols : of each row; they part the times, so that of an hour that comes twice the order of rows says which it is.

        Raises
        ------
        Unclear : the zone, or the order of day and month, is not known.
        """
        if arrow.is_timestamp(column.type):
            return _ticks(column.cast(pa.timestamp("ns", column.type.tz)))
        if not arrow.is_string(column.type):
            return self._of_epoch(column)
        column = text(column)
        if _all(pc.match_substring_regex(column, r"^-?\d{9,19}(\.\d+)?$")) and not _all(
            pc.match_substring_regex(column, r"^(19|20)\d\d(0[1-9]|1[0-2])([0-2]\d|3[01])(\d{4}|\d{6})$")
        ):
            return self._of_epoch(column)
        return self._of_text(column, symbols)

    def local(self, ticks: IntArray, symbols: pa.Array) -> IntArray:
        """Give UTC of local times, nanoseconds of a day's clock since 1970-01-01, shape (n,); `NEVER` stays, as does a time that clocks skip.

        Raises
        ------
        Unclear : the zone is not known.
        """
        self.is_local = True
        if self._zone is None:
            raise Unclear("times name no zone", "--zone America/New_York, or --zone UTC")
        if self._zone == "UTC":
            return ticks
        zone = self._zone
        days, place = np.unique(ticks // DAY, return_inverse=True)
        whole = np.array([_offset_of_day(zone, day) for day in days.tolist()], np.int64)[place]
        known = ticks != NEVER
        utc = np.where(known, ticks - whole, NEVER)
        for row in np.flatnonzero((whole == NEVER) & known).tolist():
            utc[row] = self._of_changing_day(zone, int(ticks[row]), str(symbols[row]))
        return utc

    def _of_changing_day(self, zone: str, tick: int, symbol: str) -> int:
        """Give UTC of a local time on a day on which clocks change."""
        first, second = (_offset(zone, tick, fold) for fold in (0, 1))
        if first == second:
            at = tick - first
        elif first < second:  # clocks go forward: there is no such time
            return NEVER
        else:
            self.repeated_hours += 1
            at = tick - first
            last = self._last.get(symbol, NEVER)
            if at < last or (self._are_distinct and at == last):
                at = tick - second
        self._last[symbol] = at
        return at

    def _of_epoch(self, column: pa.Array) -> IntArray:
        self.is_epoch = True
        try:
            values = _ints(column.cast(pa.int64()))
            fraction = np.zeros(len(values))
        except pa.ArrowInvalid:
            exact, _ = numbers(column)
            is_value = np.isfinite(exact) & (np.abs(exact) < 2.0**62)
            values = np.where(is_value, np.floor(np.where(is_value, exact, 0)), 0).astype(np.int64)
            fraction = np.where(is_value, exact - values, 0)
        bad = _mask(column.is_null())
        if self._unit is not None:
            which = np.full(len(values), list(EPOCH_UNITS).index(self._unit))
        else:
            which = np.searchsorted(_UNIT_LIMITS, np.abs(values), side="right")
        factors = np.array(list(EPOCH_UNITS.values()))[which]
        for number, name in enumerate(EPOCH_UNITS):
            found = int(np.count_nonzero((which == number) & ~bad))
            if found:
                self.units[name] += found
        bad |= np.abs(values) > (2**63 - 1) // factors - 1
        ticks = np.where(bad, 0, values) * factors + np.round(fraction * factors).astype(np.int64)
        return np.where(bad, NEVER, ticks)

    def _of_text(self, column: pa.Array, symbols: pa.Array) -> IntArray:
        for type_ in (pa.timestamp("ns", "UTC"), pa.timestamp("ns")):
            try:
                ticks = _ticks(column.cast(type_))
            except pa.ArrowInvalid:
                continue
            return ticks if type_.tz else self.local(ticks, symbols)
        column = pc.replace_substring_regex(column, _DAY_NAMES, "")
        if (
            not _all(pc.match_substring_regex(column, r"^[\d]"))
            or pc.any(
                pc.match_substring_regex(column, r"(?i)[ -](jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)")
            ).as_py()
        ):
            column = _without_month_names(column)
        parts = _parts(column, _YEAR_FIRST)
        last = _parts(column, _YEAR_LAST)
        is_last = (parts["y"] < 0) & (last["y"] >= 0)
        if is_last.any():
            order = self._day_month(last["a"][is_last], last["b"][is_last])
            if order == "dmy":
                last["a"], last["b"] = last["b"], last["a"]
            parts = {name: np.where(is_last, last[name], values) for name, values in parts.items()}
        ticks = _composed(parts)
        offset = parts["z"]
        is_local = (offset == NEVER) & (ticks != NEVER)
        if is_local.any():
            return np.where(
                is_local,
                self.local(np.where(is_local, ticks, NEVER), symbols),
                ticks - np.where(offset == NEVER, 0, offset),
            )
        return np.where(ticks == NEVER, NEVER, ticks - np.where(offset == NEVER, 0, offset))

    def _day_month(self, first: IntArray, second: IntArray) -> str:
        if self.order is None:
            if (first > 12).any() == (second > 12).any():
                raise Unclear(
                    f"dates like {first[0]}/{second[0]} do not show which number is the month",
                    "--dates dmy or --dates mdy",
                )
            self.order, self.is_order_found = ("dmy" if (first > 12).any() else "mdy"), True
        return self.order


def _parts(column: pa.Array, pattern: str) -> dict[str, IntArray]:
    """Give the parts of times by letter, -1 where a value is no such time; `z` is the offset, ns, `NEVER` where none is said."""
    found = pc.extract_regex(column, pattern)
    is_none = _mask(found.is_null())
    parts: dict[str, IntArray] = {}
    for name in ("y", "a", "b", "H", "M", "S"):
        values = found.field(name)
        filled = pc.if_else(pc.equal(values, ""), "0", values).cast(pa.int64()).fill_null(0)
        parts[name] = np.where(is_none, -1, _ints(filled))
    parts["f"] = _ints(pc.utf8_rpad(found.field("f").fill_null(""), 9, "0").cast(pa.int64()))
    zones = found.field("z").fill_null("").dictionary_encode()
    offsets = np.array([_offset_of(each) for each in zones.dictionary.to_pylist()], np.int64)
    parts["z"] = offsets[_ints(zones.indices.cast(pa.int64()))] if len(offsets) else np.empty(0, np.int64)
    half = found.field("p").fill_null("")
    is_pm, is_am = (_mask(pc.equal(pc.utf8_lower(half), each)) for each in ("pm", "am"))
    parts["H"] = np.where(
        is_pm & (parts["H"] < 12), parts["H"] + 12, np.where(is_am & (parts["H"] == 12), 0, parts["H"])
    )
    return parts


def _composed(parts: dict[str, IntArray]) -> IntArray:
    """Give the ticks of a clock without a zone, `NEVER` where the parts are no date and time."""
    year, month, day = parts["y"], parts["a"], parts["b"]
    good = (year >= 1678) & (year <= 2261) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)
    good &= (parts["H"] < 24) & (parts["M"] < 60) & (parts["S"] < 60)
    months = (np.where(good, year, 1970) - 1970) * 12 + np.where(good, month, 1) - 1
    first = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    following = (months + 1).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    good &= day <= following - first
    days = first + np.where(good, day, 1) - 1
    clock = (parts["H"] * 3600 + parts["M"] * 60 + parts["S"]) * SECOND + parts["f"]
    return np.where(good, days * DAY + np.where(good, clock, 0), NEVER)


def _offset_of(zone: str) -> int:
    """Give the offset that a time names, ns; `NEVER` for none."""
    if not zone:
        return NEVER
    if zone in ("Z", "z", "UTC", "GMT"):
        return 0
    digits = zone[1:].replace(":", "").ljust(4, "0")
    return (1 if zone[0] == "+" else -1) * (int(digits[:2]) * 60 + int(digits[2:])) * MINUTE


def _without_month_names(column: pa.Array) -> pa.Array:
    """Write dates like ``Jan 5, 2026`` and ``05-Jan-2026`` with their numbers, year first."""
    words = "|".join(_MONTHS)
    first = re.compile(rf"({words})[a-z]*\.?[ -]+(\d{{1,2}}),?[ -]+(\d{{4}})", re.IGNORECASE)
    second = re.compile(rf"(\d{{1,2}})[ -]+({words})[a-z]*\.?,?[ -]+(\d{{4}})", re.IGNORECASE)

    def written(year: str, month: str, day: str) -> str:
        return f"{year}-{_MONTHS.index(month.lower()) + 1:02}-{int(day):02}"

    def plain(value: str | None) -> str | None:
        if value is None:
            return None
        value = first.sub(lambda at: written(at[3], at[1], at[2]), value)
        return second.sub(lambda at: written(at[3], at[2], at[1]), value)

    return pa.array([plain(value) for value in column.to_pylist()], pa.string())


@cache
def _offset_of_day(zone: str, day: int) -> int:
    """Give the offset of a zone on a local day since 1970, ns; `NEVER` where clocks change on it."""
    found = {_offset(zone, day * DAY + hour * 3600 * SECOND, fold) for hour in range(-1, 26) for fold in (0, 1)}
    return found.pop() if len(found) == 1 else NEVER


@cache
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def _offset(zone: str, tick: int, fold: int) -> int:
    """Give the offset of a local time, ns; `fold` is 1 for the second of two."""
    if abs(tick) > 250 * 366 * DAY:
        return 0
    local = datetime(1970, 1, 1, tzinfo=_zone(zone), fold=fold) + timedelta(microseconds=tick // MICROSECOND)
    offset = local.replace(fold=fold).utcoffset()
    assert offset is not None
    return round(offset.total_seconds()) * SECOND


def check_zone(name: str) -> str:
    """Give the name of a time zone that exists.

    Raises
    ------
    ValueError : it does not.
    """
    try:
        return _zone(name).key
    except Exception as error:  # whatever a name makes zoneinfo raise
        raise ValueError(f"{name!r} is no time zone, like America/New_York or UTC") from error


def _floats(column: pa.Array) -> FloatArray:
    return _numpy(column.fill_null(np.nan) if column.null_count else column)


def _ints(column: pa.Array) -> IntArray:
    return _numpy(column.fill_null(0) if column.null_count else column)


def _ticks(column: pa.Array) -> IntArray:
    ticks = column.cast(pa.int64())
    return np.where(_mask(ticks.is_null()), NEVER, _ints(ticks))


def _mask(column: pa.Array) -> NDArray[np.bool_]:
    values: NDArray[np.bool_] = _numpy(pc.fill_null(column, False).cast(pa.uint8())) != 0
    return values


def _all(column: pa.Array) -> bool:
    """Give whether every value that is there is true, and one is there."""
    return bool(pc.all(column, min_count=1).as_py())


def _numpy(column: pa.Array) -> NDArray[Any]:
    """Give the values of a column without nulls; Arrow's own conversions import pandas, which takes 0.7 s."""
    values: NDArray[Any] = np.from_dlpack(column)
    return values


def utc_of_date(year: int, month: int, day: int) -> int:
    """Give midnight UTC of a date, ns."""
    return int((datetime(year, month, day, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).days) * DAY
