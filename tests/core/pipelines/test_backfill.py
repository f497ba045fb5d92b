"""`torghut backfill` fetches the past whole, or leaves nothing behind."""

import asyncio

import pytest

from torghut_core import Message, Unanswered
from torghut_core.backfill import Backfill, run_backfill
from torghut_core.errors import InputError, VenueError
from torghut_core.timestamps import SECOND


class Archive:
    """A source with a past of so many pages; None where the venue does not answer any more."""

    def __init__(self, *pages):
        self.pages = pages
        self.asked = []

    async def history(self, symbols, since, until):
        self.asked.append((tuple(symbols), since, until))
        for page in self.pages:
            await asyncio.sleep(0)
            if page is None:
                raise Unanswered("the history does not answer (try again)")
            yield [Message("trades", "BTC/USD", each) for each in page]


def test_tape_has_every_event_in_order(tmp_path):
    """The tape is what the history gave, a line each, and it is counted by channel."""
    archive, told = Archive([b"1", b"2"], [], [b"3"]), []
    job = Backfill(archive, ["BTC/USD"], 0, SECOND)
    assert job.to_tape(tmp_path / "tape.jsonl", told.append) == 3
    assert (tmp_path / "tape.jsonl").read_bytes() == b"1\n2\n3\n"
    assert archive.asked == [(("BTC/USD",), 0, SECOND)]
    assert (job.events, told[-1]) == ({"trades": 3}, 3)


def test_history_that_breaks_off_leaves_no_tape(tmp_path):
    """Half a past is none: what was there before stays, and nothing is left beside it."""
    tape = tmp_path / "tape.jsonl"
    tape.write_bytes(b"before\n")
    with pytest.raises(VenueError, match="does not answer"):
        Backfill(Archive([b"1"], None), ["BTC/USD"], 0, SECOND).to_tape(tape)
    assert tape.read_bytes() == b"before\n"
    assert list(tmp_path.iterdir()) == [tape]


def test_file_that_cannot_be_written_is_named(tmp_path):
    """The error has the path and what to do."""
    with pytest.raises(InputError, match=r"no/tape\.jsonl.*choose another file"):
        Backfill(Archive([b"1"]), ["BTC/USD"], 0, SECOND).to_tape(tmp_path / "no" / "tape.jsonl")


@pytest.mark.parametrize(
    ("symbols", "start", "end", "says"),
    [
        (["btc"], "2026-01-05", "", r"--symbols: 'btc' is not a symbol"),
        (["BTC/USD"], "yesterday", "", r"--start yesterday: .*write 2026-01-05T14:30:00Z"),
        (["BTC/USD"], "2026-01-05", "2026-13-05", r"--end 2026-13-05"),
    ],
)
def test_bad_bounds_are_told_before_anything_is_asked(tmp_path, symbols, start, end, says):
    """Symbols and times are checked first, each named by its option."""
    with pytest.raises(InputError, match=says):
        run_backfill(symbols, start, end, out=tmp_path / "tape.jsonl", state=tmp_path / "state")


def test_times_the_wrong_way_round_are_told():
    """An empty span is a slip, and no empty tape."""
    with pytest.raises(InputError, match="turn them round"):
        Backfill(Archive(), ["BTC/USD"], SECOND, SECOND)
