"""Tells the status of a kernel in a terminal."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.table import Table


def print_status(console: Console, status: dict[str, Any], url: str) -> None:
    """Print what `Kernel.status` returns: what trades, what is wrong, what waits, then each strategy."""

    def say(text: str, style: str = "") -> None:
        console.print(text, style=style, markup=False)

    say(
        f"generation {status['generation']}, digest {status['digest'][:12]}, "
        f"trades since {status['since']}, brought by {status['actor']}"
    )
    say(f"catalog {status['path']}, at {url}")
    reload = status["last_reload"]
    say(f"last reload {reload['at']}: {reload['outcome']}, the loop stood still for {reload['pause_ms']:.1f} ms")
    if status["restriction"]:
        say(f"restricted: {status['restriction']}, until the catalog is right again", "red")
    if status["pinned"]:
        say("rolled back: stays so until the catalog's file changes", "yellow")
    if status["is_polling"]:
        say("the catalog's watcher does not work: changes are seen by polling", "yellow")
    if status["degraded"]:
        say("degraded: not all of the catalog could be taken up", "red")
    for problem in status["problems"]:
        say(f"  {problem}")
    for change in status["pending"]:
        old, new = (json.dumps(change[key]) if key in change else "not given" for key in ("old", "new"))
        say(f"waits: {change['key']}: {old} -> {new}; {change['timing']}: {change['effect']}", "yellow")
    for name, reason in status["quarantined"].items():
        say(f"quarantined: {name}: {reason}", "red")
    if status["strategies"]:
        table = Table("strategy", "use", "version", "state", "symbols", box=None, pad_edge=False)
        for count in ("rows", "decisions", "fills"):
            table.add_column(count, justify="right")
        for entry in status["strategies"]:
            texts = (entry["name"], entry["use"], entry["version"], entry["state"], ", ".join(entry["symbols"]))
            table.add_row(*texts, *(f"{entry[count]:,}" for count in ("rows", "decisions", "fills")))
        console.print()
        console.print(table, markup=False)
