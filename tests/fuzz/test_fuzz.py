"""Nothing in a file, a record or a frame raises more than its error, takes long, or spoils what stands beside it."""

import pytest

from support.effort import many

from .fuzzer import SECONDS_EACH, TARGETS, Unexpected, main, run

QUICK = {"catalog": 200, "envelope": 600, "avro": 600, "tape": 200, "frame": 600}


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.examples
def test_every_input_is_read_or_refused(name):
    """Each is read or refused with its error, within a bounded time."""
    seconds, seed = run(name, range(many(10 * QUICK[name], QUICK[name])))
    assert seconds < SECONDS_EACH, seed


def test_input_that_is_not_refused_is_named(monkeypatch):
    """A failure says the target and the seed by which it is seen again."""
    monkeypatch.setitem(TARGETS, "catalog", lambda rng: 1 // (rng.random() < 0.5))
    with pytest.raises(Unexpected, match=r"catalog, seed \d+: ZeroDivisionError"):
        run("catalog", range(100))


def test_run_of_many_says_how_many_and_the_slowest(monkeypatch, capsys):
    """The script counts its inputs by target and names the slowest of each."""
    monkeypatch.setattr("sys.argv", ["fuzzer.py", "--inputs", "100", "--seed", "7"])
    main()
    said = capsys.readouterr().out
    assert "100 inputs" in said
    assert all(name in said for name in TARGETS)
