"""`torghut data`: its results are text or one JSON object, and what is wrong is one line and the exit code 2."""

import json
import sys

from torghut_core import cli

BARS = "time,open,high,low,close,volume\n2024-01-02 15:00,1,2,0.5,1.5,10\n2024-01-02 15:01,1,2,0.5,1.5,10\n"


def called(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["torghut", "data", *map(str, arguments)])
    code = cli._run()
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_import_and_inspect(monkeypatch, capsys, tmp_path):
    """A file becomes a tape, and the tape is described, both as text and as JSON."""
    (tmp_path / "bars.csv").write_text(BARS)
    tape = tmp_path / "tape.parquet"
    arguments = ("import", tmp_path / "bars.csv", "--symbol", "BTC/USD", "--zone", "UTC", "--out", tape)
    code, out, _ = called(monkeypatch, capsys, *arguments)
    assert code == 0
    assert out.startswith("2 bars of 1Min of BTC/USD, 2024-01-02T15:00:00Z to 2024-01-02T15:01:00Z -> ")
    assert "guessed: the time of a bar is its start (--times end says otherwise)" in out
    code, out, _ = called(monkeypatch, capsys, *arguments, "--json")
    assert (code, json.loads(out)["rows"]) == (0, 2)
    code, out, _ = called(monkeypatch, capsys, "inspect", tape)
    assert code == 0
    assert "BTC/USD: 2 bars of 1Min" in out
    code, out, _ = called(monkeypatch, capsys, "inspect", tape, "--json", "--calendar", "BTC*=24/7")
    assert (code, json.loads(out)["series"][0]["calendar"]) == (0, "24/7")


def test_what_is_wrong_is_one_line(monkeypatch, capsys, tmp_path):
    """With the option or the file that it is about."""
    (tmp_path / "bars.csv").write_text(BARS)
    files = ("import", tmp_path / "bars.csv", "--symbol", "X")
    for arguments, words in (
        ((*files, "--zone", "UTC", "--out", tmp_path / "tape.csv"), "end its name in .parquet"),
        ((*files, "--zone", "Mars/Olympus", "--out", tmp_path / "t.parquet"), "--zone: 'Mars/Olympus' is no time zone"),
        (
            (*files, "--timeframe", "1Month", "--out", tmp_path / "t.parquet"),
            "--timeframe 1Month: is no length of bars",
        ),
        (("import", tmp_path / "none.csv", "--out", tmp_path / "t.parquet"), "there is no such file"),
        (("inspect", tmp_path / "bars.csv"), "bars.csv"),
        (("inspect", tmp_path / "t.parquet", "--calendar", "NYSEX"), "--calendar NYSEX"),
    ):
        code, out, err = called(monkeypatch, capsys, *arguments)
        assert (code, out) == (2, "")
        assert words in err
        assert err.count("\n") == 1
