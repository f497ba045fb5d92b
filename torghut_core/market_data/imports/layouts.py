"""What the columns of a file are: known layouts, and the names that people give columns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath

from torghut_core.errors import InputError
from torghut_core.market_data.imports.cells import utc_of_date
from torghut_core.timestamps import DAY, HOUR, MINUTE, SECOND

FORMATS = ("auto", "yahoo", "binance", "alpaca", "lean", "generic")

NAMES: Mapping[str, tuple[str, ...]] = {
    "time": (
        "eventts", "unix", "unixtimestamp", "epoch", "timestamp", "datetime", "opentime", "time", "ts", "t", "date", "gmttime", "utctime", "timeutc",
        "utc", "localtime", "startsat", "tradetime", "dt",
    ),
    "symbol": ("symbol", "ticker", "instrument", "pair", "s"),
    "open": ("open", "o", "openprice"),
    "high": ("high", "h", "max", "highprice"),
    "low": ("low", "l", "min", "lowprice"),
    "close": ("close", "c", "last", "closelast", "closeprice", "price"),
    "volume": ("volume", "vol", "v", "basevolume", "tickvol", "vol."),
    "vwap": ("vwap", "vw", "weightedaverage"),
    "trade_count": ("tradecount", "n", "numberoftrades", "trades", "tradecount", "numtrades"),
    "adjusted_close": ("adjclose", "adjustedclose"),
    "price": ("price", "p", "last", "tradeprice"),
    "size": ("size", "s", "qty", "quantity", "amount", "volume", "v", "vol"),
    "trade_id": ("tradeid", "id", "i", "aggtradeid"),
    "exchange": ("exchange", "x"),
    "conditions": ("conditions", "condition", "c", "salecondition"),
    "suspicious": ("suspicious",),
    "bid_price": ("bidprice", "bid", "bp"),
    "bid_size": ("bidsize", "bidvolume", "bs", "bidqty"),
    "ask_price": ("askprice", "ask", "ap"),
    "ask_size": ("asksize", "askvolume", "as", "askqty"),
}  # fmt: skip
"""What people call a column, by ours: small letters and digits alone."""

KINDS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "bars": (("open", "high", "low", "close"), ("volume", "vwap", "trade_count", "adjusted_close")),
    "quotes": (("bid_price", "ask_price"), ("bid_size", "ask_size")),
    "trades": (("price", "size"), ("trade_id", "exchange", "conditions", "suspicious")),
}
"""The columns that rows of each kind must and may have."""

BINANCE_COLUMNS = (
    "open_time", "open", "high", "low", "close", "volume", "close_time", "quote_volume", "count", "taker_buy_volume",
    "taker_buy_quote_volume", "ignore",
)  # fmt: skip
QUOTE_CURRENCIES = (
    "USDT", "FDUSD", "BUSD", "TUSD", "USDC", "USD", "EUR", "GBP", "JPY", "AUD", "TRY", "BRL", "DAI", "BTC", "ETH", "BNB",
)  # fmt: skip
"""The second currencies of pairs that are written without a stroke; the first that a name ends with counts."""

_STEP_NAMES = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}
_RESOLUTIONS = {"second": SECOND, "minute": MINUTE, "hour": HOUR, "daily": DAY}
_LEAN_TRADE_BAR = ("time", "open", "high", "low", "close", "volume")
_LEAN_TICKS = {
    "trade": ("time", "price", "size", "exchange", "conditions", "suspicious"),
    "quote": ("time", "bid_price", "bid_size", "ask_price", "ask_size", "exchange", "conditions", "suspicious"),
}
_DECI_CENTS = 10_000.0


@dataclass(frozen=True)
class Layout:
    """What a file's columns are.

    Attributes
    ----------
    name : of the format.
    kind : bars, trades or quotes.
    columns : the file's column, by ours; of `time` perhaps two, date and time of day.
    is_headed : whether the first line names the columns.
    symbol : of all rows, "" where a column has it or it is not known.
    step : length of bars, ns; None where it is not known.
    zone : of times that name none.
    divisor : by which prices are divided, as where they are in hundredths of cents.
    day : midnight of the file's day, ticks of its clock, where times are milliseconds since then.
    guesses : what was concluded from the file or its name, as sentences.
    """

    name: str
    kind: str
    columns: Mapping[str, tuple[str, ...]]
    is_headed: bool = True
    symbol: str = ""
    step: int | None = None
    zone: str | None = None
    divisor: float = 1.0
    day: int | None = None
    guesses: tuple[str, ...] = field(default=())


def plain_name(name: str) -> str:
    """Give the small letters and digits of a column's name.

    Examples
    --------
    >>> plain_name(" <Adj Close> ")
    'adjclose'
    """
    return re.sub(r"[^a-z0-9.]", "", name.lower()).rstrip(".")


def header_names(cells: Sequence[str]) -> list[str]:
    """Give the names of columns; one without a name, as pandas writes its index, is called by its number."""
    return [cell or f"column {number}" for number, cell in enumerate(cells, 1)]


def is_header(cells: Sequence[str]) -> bool:
    """Give whether a line names columns: most cells are words."""
    words = [cell for cell in cells if re.search(r"[A-Za-z]", cell) and not re.search(r"\d", cell.split("(")[0])]
    return len(words) * 2 > len(cells)


def recognize(path: PurePath, entry: str, cells: Sequence[str], format_: str, names: Sequence[str]) -> Layout:
    """Give the layout of a file of lines.

    Parameters
    ----------
    path : of the file; of LEAN's the folders say what is in it.
    entry : its name within an archive, else "".
    cells : of its first line.
    format_ : one of `FORMATS`.
    names : of the columns, where they are given; else empty.

    Raises
    ------
    InputError : its columns cannot be recognized; the message says what to do.
    """
    where = f"{path}:{entry}" if entry else str(path)
    if format_ == "lean" or (format_ == "auto" and not names and _is_lean(path, entry, cells)):
        return _lean(path, entry, cells, where)
    is_headed = is_header(cells) and not names
    if not is_headed and not names:
        if format_ in ("auto", "binance") and len(cells) == len(BINANCE_COLUMNS) and cells[0].strip().isdigit():
            return _binance(path, BINANCE_COLUMNS, is_headed=False)
        raise InputError(
            f"{where}: line 1 does not name the columns (say what they are: --columns time,open,high,low,close,volume)"
        )
    header = list(names) if names else header_names(cells)
    plain = {plain_name(name) for name in header}
    if format_ == "binance" or (format_ == "auto" and {"opentime", "closetime"} <= plain):
        return _binance(path, header, is_headed=is_headed)
    layout = _named(header, where, is_headed=is_headed)
    if format_ == "yahoo" or (format_ == "auto" and "adjclose" in plain):
        return _yahoo(layout, path)
    if format_ == "alpaca":
        return replace(layout, name="alpaca")
    return _with_name(replace(layout, name="generic"), path)


def _named(header: Sequence[str], where: str, *, is_headed: bool) -> Layout:
    """Give the layout of columns by their names."""
    plain = [plain_name(name) for name in header]

    def find(ours: str, taken: set[str]) -> str | None:
        for name in NAMES[ours]:
            for each, short in zip(header, plain, strict=True):
                if each not in taken and (short == name or each == ours):
                    return each
        return None

    for kind, (required, optional) in KINDS.items():
        found: dict[str, tuple[str, ...]] = {}
        taken: set[str] = set()
        for ours in (*required, "time", *optional, "symbol"):
            column = find(ours, taken)
            if column is not None:
                found[ours] = (column,)
                taken.add(column)
        if not set(required) <= set(found):
            continue
        if "time" not in found and header[0] == "column 1":
            found["time"] = (header[0],)
        if "time" not in found:
            raise InputError(
                f"{where}: no column has the time, of {', '.join(header)} (name it time, or use --columns)"
            )
        day = next((each for each, short in zip(header, plain, strict=True) if short in ("date", "day")), None)
        clock = next((each for each, short in zip(header, plain, strict=True) if short == "time"), None)
        if day is not None and clock is not None:
            found["time"] = (day, clock)
        if kind == "bars" and "volume" not in found:
            column = next((each for each, short in zip(header, plain, strict=True) if short.startswith("vol")), None)
            if column is not None:
                found["volume"] = (column,)
        zone = "UTC" if any("utc" in plain_name(each) or "gmt" in plain_name(each) for each in found["time"]) else None
        guesses = () if zone is None else (f"times are in UTC: column {found['time'][0]!r} says so",)
        return Layout("generic", kind, found, is_headed=is_headed, zone=zone, guesses=guesses)
    raise InputError(
        f"{where}: no bars, quotes or trades in the columns {', '.join(map(repr, header))} "
        "(name them in order: --columns time,open,high,low,close,volume; leave a name empty for a column not to take)"
    )


def yfinance_columns(heads: Sequence[Sequence[str]]) -> dict[str, list[str]]:
    """Give the columns of each ticker, "" for those of others, where three lines are the header that yfinance writes; else nothing.

    Parameters
    ----------
    heads : cells of the first three lines: names of prices and tickers, either first, then the name of the times alone.

    Examples
    --------
    >>> yfinance_columns([["Price", "Close", "Close"], ["Ticker", "A", "B"], ["Date", "", ""]])
    {'A': ['Date', 'Close', ''], 'B': ['Date', '', 'Close']}
    """
    if len(heads) < 3 or len({len(cells) for cells in heads}) > 1:
        return {}
    prices, tickers, (time, *rest) = heads
    if plain_name(time) not in ("date", "datetime") or any(rest):
        return {}
    if "Close" not in prices:
        prices, tickers = tickers, prices
    if (
        "Close" not in prices
        or prices[0] not in ("Price", "")
        or tickers[0] not in ("Ticker", "")
        or not all(tickers[1:])
    ):
        return {}
    return {
        ticker: [time, *(name if each == ticker else "" for name, each in zip(prices[1:], tickers[1:], strict=True))]
        for ticker in dict.fromkeys(tickers[1:])
    }


def recognize_ticker(path: PurePath, entry: str, ticker: str, names: Sequence[str]) -> Layout:
    """Give the layout of one ticker's columns in a file of yfinance.

    Raises
    ------
    InputError : they are no bars.
    """
    layout = _named(names, f"{path}:{entry}" if entry else str(path), is_headed=True)
    symbol = _yahoo_symbol(ticker)
    guesses = [f"symbol {symbol}: the row of tickers"]
    if "adjusted_close" not in layout.columns:
        guesses.append(
            "prices are adjusted: yfinance does so where it gives no Adj Close (auto_adjust=False gives raw ones)"
        )
    return replace(layout, name="yahoo", symbol=symbol, guesses=(*layout.guesses, *guesses))


def _yahoo_symbol(ticker: str) -> str:
    pair = re.fullmatch(r"([A-Z0-9]{2,10})-(USD|EUR|GBP|JPY|USDT)", ticker.upper())
    return ticker.upper() if pair is None else f"{pair[1]}/{pair[2]}"


def _yahoo(layout: Layout, path: PurePath) -> Layout:
    symbol = _yahoo_symbol(_stem(path))
    if "symbol" in layout.columns or not re.fullmatch(r"[A-Z0-9.^=/-]{1,12}", symbol):
        return replace(layout, name="yahoo")
    guess = f"symbol {symbol}: the file's name (--symbol says another)"
    return replace(layout, name="yahoo", symbol=symbol, guesses=(*layout.guesses, guess))


def _binance(path: PurePath, header: Sequence[str], *, is_headed: bool) -> Layout:
    plain = {plain_name(name): name for name in header}
    if not {"opentime", "open", "high", "low", "close", "volume"} <= plain.keys():
        raise InputError(f"{path}: these are no klines of Binance: {', '.join(header)} (use --format generic)")
    columns = {
        "time": (plain["opentime"],),
        **{name: (plain[name],) for name in ("open", "high", "low", "close", "volume")},
    }
    for name in ("count", "numberoftrades", "trades"):
        if name in plain:
            columns["trade_count"] = (plain[name],)
    if "closetime" in plain:
        columns["end"] = (plain["closetime"],)
    layout = Layout("binance", "bars", columns, is_headed=is_headed, zone="UTC")
    return _with_name(layout, path)


def _with_name(layout: Layout, path: PurePath) -> Layout:
    """Add the symbol and timeframe that a file's name has, as ``BTCUSDT-1m-2024-01.csv`` or ``AAPL.csv``."""
    stem = _stem(path)
    named = re.match(r"([A-Z0-9]{5,20})-(\d+)([smhdw])(?:-|$)", stem)
    if named is not None:
        symbol, step = pair_of(named[1]), int(named[2]) * _STEP_NAMES[named[3]]
        guesses = (f"symbol {symbol} and bars of {named[2]}{named[3]}: the file's name (--symbol, --timeframe)",)
    elif re.fullmatch(r"[A-Z][A-Z0-9]{0,5}(\.[A-Z])?", stem):
        symbol, step = stem, None
        guesses = (f"symbol {symbol}: the file's name (--symbol says another)",)
    else:
        return layout
    if "symbol" in layout.columns:
        return replace(layout, step=step)
    return replace(layout, symbol=symbol, step=step, guesses=(*layout.guesses, *guesses))


def pair_of(name: str) -> str:
    """Give a pair of currencies with its stroke; another name as it is.

    Examples
    --------
    >>> pair_of("BTCUSDT"), pair_of("ETHBTC"), pair_of("SPY")
    ('BTC/USDT', 'ETH/BTC', 'SPY')
    """
    for quote in QUOTE_CURRENCIES:
        if name.endswith(quote) and len(name) > len(quote) + 1:
            return f"{name[: -len(quote)]}/{quote}"
    return name


def _is_lean(path: PurePath, entry: str, cells: Sequence[str]) -> bool:
    return len(_lean_folders(path)) == 4 and not is_header(cells) and not entry.endswith(".json")


def _lean_folders(path: PurePath) -> tuple[str, ...]:
    """Give asset class, market, resolution and symbol of a path of LEAN's data folder; empty where it is none."""
    parts = [part.lower() for part in path.parts]
    for number, part in enumerate(parts):
        if part in _RESOLUTIONS or part == "tick":
            symbol = parts[number + 1].split(".")[0] if number + 1 < len(parts) else ""
            if number >= 2 and symbol:
                return parts[number - 2], parts[number - 1], part, re.sub(r"_(trade|quote)$", "", symbol)
    return ()


def _lean(path: PurePath, entry: str, cells: Sequence[str], where: str) -> Layout:
    folders = _lean_folders(path)
    if not folders:
        raise InputError(
            f"{where}: LEAN's folders say what is in a file, as in equity/usa/minute/spy/20131007_trade.zip "
            "(keep them, or name the columns: --format generic --columns time,open,high,low,close,volume)"
        )
    asset, _, resolution, name = folders
    file = f"{entry} {path.name}".lower()
    is_quote = "quote" in file
    if resolution == "tick":
        columns: tuple[str, ...] = _LEAN_TICKS["quote" if is_quote else "trade"]
    elif is_quote or len(cells) > 7:
        raise InputError(f"{where}: these are quote bars, which no tape has (import the trades, or ticks of quotes)")
    else:
        columns = _LEAN_TRADE_BAR[: len(cells)]
    is_equity = asset in ("equity", "option", "index")
    symbol = name.upper() if asset in ("equity", "future", "option", "index") else pair_of(name.upper())
    day = None
    if resolution in ("minute", "second", "tick"):
        date = re.search(r"(?<!\d)(\d{4})(\d\d)(\d\d)(?!\d)", path.name) or re.search(r"(\d{4})(\d\d)(\d\d)", entry)
        if date is None:
            raise InputError(
                f"{where}: its times count from midnight, and its name has no date (name it 20131007_trade.zip)"
            )
        day = utc_of_date(int(date[1]), int(date[2]), int(date[3]))
    zone = "America/New_York" if is_equity else "UTC"
    kind = "bars" if resolution != "tick" else "quotes" if is_quote else "trades"
    return Layout(
        "lean",
        kind,
        {column: (column,) for column in columns},
        is_headed=False,
        symbol=symbol,
        step=_RESOLUTIONS.get(resolution),
        zone=zone,
        divisor=_DECI_CENTS if is_equity else 1.0,
        day=day,
        guesses=(
            f"{asset} {symbol}, {resolution}, times of {zone}{', prices in hundredths of cents' if is_equity else ''}: folders",
        ),
    )


def _stem(path: PurePath) -> str:
    return path.name.split(".csv")[0].split(".zip")[0].split(".txt")[0].split(".json")[0].removesuffix(".gz")
