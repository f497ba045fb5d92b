"""The tables of orders in docs/fills.md."""

from support.docs import DOCS, text_of
from support.peer_fills import Event, Terms


def rows_of(page, first="order"):
    """The rows of the tables whose first column is called so, as dicts by the head of the column."""
    rows, head = [], None
    for line in text_of(page).splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else None
        if cells is None:
            head = None
        elif cells[0] == first:
            head = cells
        elif head is not None and not cells[0].startswith("-"):
            rows.append(dict(zip(head, cells, strict=True)))
    return rows


ROWS = rows_of(DOCS / "fills.md")
NAMES = [f"{row['order']}, {row['seen'] or 'nothing'}, {row['events']}".replace("/", "-") for row in ROWS]


def terms_of(text):
    """The order of ``buy stop 105 limit 106 ioc``."""
    side, *words = text.split()
    time_in_force = words.pop() if words[-1] in ("ioc", "fok", "day") else "gtc"
    words = [word for word in words if word != "market"]
    prices = dict(zip(words[::2], map(float, words[1::2]), strict=True))
    return Terms(side == "buy", **prices, time_in_force=time_in_force)


def events_of(text):
    found = []
    for part in filter(None, text.split("; ")):
        kind, *words = part.replace("/", " ").split()
        volume = 10.0
        if words[-2:-1] in (["volume"], ["size"]):
            volume, words = float(words[-1]), words[:-2]
        found.append(Event(kind, tuple(map(float, words)), volume))
    return found
