"""The live system as six processes on this machine: nothing is lost or doubled between the venue and the decisions."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest

from support.processes import TORGHUT, start
from support.waiting import PATIENCE, until

pytest.importorskip("chdb", reason="the stand-in of ClickHouse needs the embedded engine")
pytest.importorskip("confluent_kafka", reason="the stand-in of Kafka is part of its client")

from torghut_testing.live import Counts, Died, Outcome, Process, __main__, make_tape, rehearse

SECOND = 1_000_000_000
COMMAND = [sys.executable, "-m", "torghut_testing.live"]


def counts(**changes):
    """Numbers that agree, but for the changes."""
    good = dict.fromkeys(Counts.__struct_fields__, 0) | {
        "trades_sent": 6,
        "quotes_sent": 4,
        "played": 10,
        "forwarded": 10,
        "trades_in_kafka": 6,
        "quotes_in_kafka": 4,
        "trades_in_kafka_once": 6,
        "quotes_in_kafka_once": 4,
        "events_into_ta": 10,
        "microbars_in_kafka": 3,
        "signals_in_kafka": 3,
        "microbars": 3,
        "trades_in_microbars": 6,
        "signals": 3,
        "signals_into_trading": 3,
    }
    return Counts(**good | changes)


@pytest.fixture
def forked(monkeypatch):
    """Torghut commands of a rehearsal are forks, see `support.processes`."""
    start_as_it_is = Process.start

    def start_forked(process):
        program, *arguments = process._command
        if program != str(TORGHUT):
            start_as_it_is(process)
            return
        process._out.touch()
        process._since = process._out.stat().st_size
        with process._out.open("ab") as out, process._log.open("ab") as log:
            process._process = start(*arguments, out=out, error=log, env=process._environment, cwd=Path.cwd())

    monkeypatch.setattr(Process, "start", start_forked)


@pytest.mark.usefixtures("forked")
def test_all_counts_agree_from_the_venue_to_trading(tmp_path):
    """A few thousand events: as many come out at each place as went in, and the replayed history gives the same rows."""
    tape = make_tape(tmp_path, None, minutes=3, speed=60, rate=400)
    is_plausible(rehearse(tmp_path, tape), 1000)


@pytest.mark.proof
def test_all_counts_agree_from_a_shell():
    """The same as `make rehearsal` does it."""
    done = subprocess.run(
        [*COMMAND, "--minutes", "5", "--rate", "400", "--json"],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    outcome = json.loads(done.stdout)
    assert outcome.pop("agrees")
    is_plausible(msgspec.convert(outcome, Outcome), 2000)


def is_plausible(outcome, events):
    """Whether everything agrees, and there was something to agree on."""
    assert outcome.disagreements == []
    assert outcome.counts.played == outcome.counts.events_into_ta > events
    assert outcome.counts.signals_into_trading == outcome.counts.microbars > 10
    assert outcome.counts.late == outcome.counts.duplicates == 0
    forwarded, stored = (outcome.lags_ms[what] for what in ("event to forwarded", "window closed to signal stored"))
    if stored:  # on a slow machine the last windows, which are left out, may be all that was seen
        assert forwarded["p50"] < stored["p99"]


@pytest.mark.proof
@pytest.mark.parametrize("seed", range(3))
def test_killed_on_the_way_the_store_holds_the_same(tmp_path, seed):
    """``forward`` and then ``ta`` are killed amid the stream and started again: the rows are those of one undisturbed run.

    Except for the spread of signals whose window was closed by what the history does not know: at most one of each pair
    here. `make test` does the same in one process, see ``test_chain.py``.
    """
    tape = make_tape(tmp_path, None, minutes=9, speed=60, rate=300, seed=seed)
    outcome = rehearse(tmp_path, tape, crash=True)
    assert outcome.disagreements == []
    assert outcome.other_quotes <= len(tape.symbols)
    assert outcome.counts.trades_in_microbars == sum(tape.trades.values())
    assert outcome.counts.events_into_ta < tape.events, "ta was never killed"
    assert outcome.counts.forwarded < outcome.counts.trades_in_kafka + outcome.counts.quotes_in_kafka


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends processes together with their parent")
@pytest.mark.parametrize(
    "number",
    [signal.SIGKILL, *(pytest.param(each, marks=pytest.mark.proof) for each in (signal.SIGINT, signal.SIGTERM))],
)
@pytest.mark.parametrize("running", [3, pytest.param(6, marks=pytest.mark.proof)])
def test_nothing_is_left_behind(tmp_path, number, running):
    """Killed, interrupted or terminated, a rehearsal takes with it all that it has started, which is six in the end."""
    process = subprocess.Popen(
        [*COMMAND, "--keep", str(tmp_path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    started = []
    try:
        until(lambda: len(children(process.pid)) >= running)
        started = children(process.pid)
        process.send_signal(number)
        process.wait(PATIENCE)
        until(lambda: not any(map(is_alive, started)))
    finally:
        for pid in (process.pid, *started):
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def children(parent):
    """Ids of the processes that a process has started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(stat.parent.name))
        except OSError:  # it has ended
            continue
    return found


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"played": 9}, "events played: 9"),
        ({"forwarded": 9}, "events forwarded: 9"),
        ({"trades_in_kafka": 7}, "events in Kafka: 11"),
        ({"trades_in_kafka_once": 5}, "different trades in Kafka: 5"),
        ({"quotes_in_kafka_once": 3}, "different quotes in Kafka: 3"),
        ({"events_into_ta": 9}, "events into TA: 9"),
        ({"trades_in_microbars": 5}, "trades in microbars, late ones, duplicates and excluded ones: 5"),
        ({"microbars_in_kafka": 2}, "microbars in Kafka: 2"),
        ({"signals": 2}, "signals stored: 2"),
        ({"signals_in_kafka": 2}, "signals in Kafka: 2"),
        ({"signals_into_trading": 2}, "signals into trading, late and unpriced ones: 2"),
    ],
)
def test_a_number_that_does_not_agree_is_named(changes, line):
    """Each place at which something can be lost is compared with its neighbour, and named with both numbers."""
    assert counts().disagreements(is_crashed=False) == []
    assert any(each.startswith(line) for each in counts(**changes).disagreements(is_crashed=False))


def test_what_is_accounted_for_agrees():
    """A trade that was late or came twice is not in the bars, and that agrees."""
    assert counts(trades_in_microbars=4, late=1, duplicates=1).disagreements(is_crashed=False) == []


def test_after_a_crash_events_may_be_in_kafka_twice():
    """After a crash only distinct records count, and the counts of a killed process are ignored."""
    crashed = counts(trades_in_kafka=8, forwarded=3, events_into_ta=2)
    assert crashed.disagreements(is_crashed=True) == []
    assert crashed.disagreements(is_crashed=False)
    assert counts(trades_in_microbars=5).disagreements(is_crashed=True)


def test_after_a_crash_a_second_copy_may_be_late():
    """A trade that the forwarder sends again after its window was closed is counted as late, though it is in a microbar.

    The rehearsal once added it to the trades in microbars, and took it for one that was stored twice.
    """
    copied = counts(trades_in_kafka=8, duplicates=1, late=1)
    assert copied.disagreements(is_crashed=True) == []
    for stored in (5, 7):
        assert counts(trades_in_kafka=8, duplicates=1, late=1, trades_in_microbars=stored).disagreements(
            is_crashed=True
        ) == [f"trades in microbars: {stored}, trades sent: 6"]


@pytest.mark.parametrize("disagreements", [[], ["signals stored: 2, microbars stored: 3"]])
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_exit_code_and_the_line_that_disagrees(monkeypatch, capsys, disagreements, options):
    """0 if all agrees; 1 if not, with the line that does not."""
    outcome = Outcome(
        tape="t", seconds=1.0, counts=counts(), lags_ms={"a": {}}, digests={}, disagreements=disagreements
    )
    monkeypatch.setattr(__main__, "rehearse", lambda *_, **__: outcome)
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert __main__.main(["--minutes", "0.1", *options]) == len(disagreements)
    finally:
        signal.signal(signal.SIGTERM, before)
    printed = capsys.readouterr().out
    assert all(line in " ".join(printed.split()) for line in disagreements)
    if options:
        assert json.loads(printed)["agrees"] is not bool(disagreements)


def test_a_tape_is_compressed_before_it_is_played(tmp_path):
    """Times are divided by the speed, their order and everything else of the recorded trades are kept, ids are unique."""
    folder = tmp_path / "recorded"
    folder.mkdir()
    recorded = make_tape(folder, None, minutes=1, speed=1, rate=50)
    table = pq.read_table(recorded.files[0])
    one = table.filter([symbol == "BTC/USD" for symbol in table["symbol"].to_pylist()])
    pq.write_table(one, folder / "one.parquet")
    tape = make_tape(tmp_path, folder / "one.parquet", minutes=0.5, speed=10, rate=100)
    rows = pq.read_table(tape.files[0]).to_pylist()
    compressed = [row for row in rows if row["symbol"] == "BTC/USD"]
    original = one.to_pylist()[: len(compressed)]
    assert len(compressed) == tape.trades["BTC/USD"] > 100
    for name in ("price", "size", "trade_id", "side"):
        assert [row[name] for row in compressed] == [row[name] for row in original]
    first = original[0]["event_ts"].value
    ages = [row["event_ts"].value - first for row in original]
    assert [row["event_ts"].value - first for row in compressed] == [round(age / 10) for age in ages]
    assert ages[-1] <= 30 * SECOND < one.to_pylist()[len(compressed)]["event_ts"].value - first
    identities = Counter((row["symbol"], row["trade_id"]) for row in rows)
    assert set(identities.values()) == {1}


def test_the_tape_closes_its_own_windows(tmp_path):
    """The last event of every pair is a quote that is later than the last trade's window and the watermark's lag."""
    tape = make_tape(tmp_path, None, minutes=1, speed=60, rate=100)
    trades, quotes = (pq.read_table(file).to_pylist() for file in tape.files)
    last = max(row["event_ts"].value for row in trades)
    final = {row["symbol"]: row["event_ts"].value for row in quotes}
    assert set(final) == set(tape.symbols) == {"BTC/USD", "ETH/USD", "SOL/USD"}
    assert min(final.values()) >= last + 3 * SECOND
    assert tape.events == len(trades) + len(quotes)


def test_a_process_that_ends_says_why(tmp_path):
    """Waiting for a process that has ended raises an error with its code, its last line and the path of its log."""
    process = Process("broken", [sys.executable, "-c", "import sys; sys.exit('no such thing')"], tmp_path)
    process.start()
    with pytest.raises(Died, match=r"broken ended with 1: no such thing \(see .*broken\.log\)"):
        process.first_line()


def test_a_process_gets_only_what_it_needs(tmp_path, monkeypatch):
    """The environment of its parent, above all its keys, is not passed on."""
    monkeypatch.setenv("ALPACA_SECRET_KEY", "mine")
    program = "import json, os; print(json.dumps(dict(os.environ)))"
    process = Process("printing", [sys.executable, "-c", program], tmp_path, {"KAFKA_BOOTSTRAP": "there"})
    process.start()
    process.wait_done()
    environment = json.loads(process.lines()[0])
    assert environment["KAFKA_BOOTSTRAP"] == "there"
    assert environment["PATH"] == os.environ["PATH"]
    assert "ALPACA_SECRET_KEY" not in environment


def test_an_outcome_is_plain_json():
    """What `--json` prints can be read back as it was."""
    outcome = Outcome(tape="t", seconds=1.5, counts=counts(), lags_ms={"a": {"p50": 1.0}}, digests={}, disagreements=[])
    assert msgspec.json.decode(msgspec.json.encode(outcome), type=Outcome) == outcome
