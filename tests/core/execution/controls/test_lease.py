"""Two replicas never both trade: who has the lease, who gets it next, and when the last holder knows that it is over."""

import os
import signal
import subprocess
import threading
import time
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from support import processes
from support.effort import many
from support.postgres import execute, url_of
from support.waiting import PATIENCE, until
from torghut_core.audit import SqlAuditStore, upgrade
from torghut_core.errors import InputError, StateError
from torghut_core.execution import lease as module
from torghut_core.execution.lease import Lease, open_lease
from torghut_core.timestamps import Clock

NAME = "alpaca/paper-1"
REPLICA = """
import sys
from pathlib import Path
from torghut_core.execution import lease
lease.VALID_SECONDS, lease.INTERVAL_SECONDS = 1.0, 0.2
mine = lease.open_lease(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
print("ready", flush=True)
for line in open(sys.argv[4]):
    command = line.strip()
    print(mine.is_held if command == "held" else getattr(mine, command)(), flush=True)
"""


class Replica:
    """A lease in a process of its own, which hears commands by a named pipe."""

    def __init__(self, database, script, number):
        folder, pipe = script.parent, script.with_name(f"replica-{number}")
        os.mkfifo(pipe)
        self._commands = os.fdopen(os.open(pipe, os.O_RDWR), "wb", 0)
        with pipe.with_suffix(".log").open("w") as log:
            self.process = processes.start(database, NAME, folder, pipe, out=subprocess.PIPE, error=log, script=script)

    def say(self, command):
        self._commands.write(f"{command}\n".encode())

    def hear(self):
        return self.process.stdout.readline().strip()

    def ask(self, command):
        self.say(command)
        return self.hear()

    def signal(self, number):
        self.process.send_signal(number)

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self._commands.close()


@pytest.fixture
def replicas(tmp_path):
    """Start replicas, and end them."""
    there = []
    script = tmp_path / "replica.py"
    script.write_text(REPLICA)

    def start(database, number):
        for _ in range(number):
            there.append(Replica(database, script, len(there)))
        assert [replica.hear() for replica in there[-number:]] == ["ready"] * number
        return there[-number:]

    yield start
    for replica in there:
        replica.close()


@pytest.fixture
def brisk(monkeypatch):
    """A lease with short times."""
    monkeypatch.setattr(module, "VALID_SECONDS", 1.0)
    monkeypatch.setattr(module, "INTERVAL_SECONDS", 0.1)


@pytest.fixture
def opened(tmp_path):
    """Open leases as replicas would; end them, released or not."""
    there = []

    def open_one(database, name=NAME):
        there.append(open_lease(database, name, tmp_path))
        return there[-1]

    yield open_one
    for lease in there:
        with suppress(StateError):
            lease.release()


def abandon(lease):
    """End a lease as the end of its process does."""
    lease._end_thread()
    lease._unlock()
    lease._valid_until = module._LOST


BACKENDS = "(SELECT pid FROM pg_locks WHERE locktype = 'advisory')"


def wait_until(claim):
    """Wait until a claim is true; return the seconds that it took."""
    started = time.monotonic()
    until(claim)
    return time.monotonic() - started


@contextmanager
def never_both(*leases):
    """Assert, by polling all leases all the time, that no two are held at once."""
    is_over, doubles, samples = threading.Event(), [], [0]

    def sample():
        while not is_over.is_set():
            samples[0] += 1
            # Each is asked twice: who said yes before and after the other did was held in between.
            answers = [lease.is_held for lease in (*leases, *leases)]
            if all(answers):
                doubles.append(time.monotonic())
            time.sleep(0.001)  # the leases' threads have to come to their turn

    threads = [threading.Thread(target=sample) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    assert doubles == []
    assert samples[0] > 100


# Who has it


def test_one_of_two_has_it_and_gives_it_on(opened, database):
    """The second cannot acquire it while the first holds it, and can at once after the first has released it."""
    first, second = opened(database), opened(database)
    assert first.acquire()
    assert first.acquire()
    assert not second.acquire()
    assert (first.is_held, second.is_held) == (True, False)
    assert second.holder == first.holder
    assert f"process {os.getpid()} (" in first.holder
    first.release()
    first.release()
    assert (first.is_held, first.holder) == (False, "")
    started = time.monotonic()
    assert second.acquire()
    assert time.monotonic() - started < module.VALID_SECONDS
    assert (first.is_held, second.is_held) == (False, True)


def test_each_name_has_a_lease(opened, database):
    """Two accounts are traded by two replicas."""
    first, second = opened(database, "one"), opened(database, "two")
    assert first.acquire()
    assert second.acquire()


def test_lease_is_in_the_audit_log(opened, database):
    """Acquiring and releasing are recorded, confirmations are not; the chain is intact."""
    lease = opened(database)

    def entries():
        query = "SELECT count(*) FROM audit_log WHERE table_name = 'leases'"
        return execute(database, query)[0]

    before = entries()
    lease.acquire()
    for _ in range(5):
        assert lease._loss(1.0) == ""
    assert entries() == before + 1
    lease.release()
    assert entries() == before + 2
    with closing(SqlAuditStore(database)) as store:
        assert store.verify() == []


def test_held_lease_stays_held(opened, postgres, brisk):
    """A confirmed lease is held longer than one confirmation is valid."""
    lease = opened(postgres)
    assert lease.acquire()
    started = time.monotonic()
    while time.monotonic() - started < 1.5:
        assert lease.is_held
        time.sleep(0.01)


def test_abandoned_lease_is_taken_over_after_a_wait(opened, database, brisk):
    """After a holder that did not release it, the next one waits as long as that holder may still believe to hold it."""
    first, second = opened(database), opened(database)
    first.acquire()
    abandon(first)
    started = time.monotonic()
    assert second.acquire()
    assert time.monotonic() - started > module.VALID_SECONDS


def test_processes_race_and_one_wins(replicas, database):
    """Of four processes that acquire it at once exactly one holds it, again and again."""
    crowd = replicas(database, 4)
    for _ in range(many(20, quick=2)):
        for replica in crowd:
            replica.say("acquire")
        answers = [replica.hear() for replica in crowd]
        assert sorted(answers) == ["False", "False", "False", "True"]
        assert [replica.ask("held") for replica in crowd] == answers
        crowd[answers.index("True")].ask("release")


def test_killed_holder_is_followed(replicas, opened, database, brisk):
    """After SIGKILL of the holder another process acquires it after a wait, without an operator."""
    (victim,) = replicas(database, 1)
    assert victim.ask("acquire") == "True"
    lease = opened(database)
    assert not lease.acquire()
    assert f"process {victim.process.pid} (" in lease.holder
    victim.signal(signal.SIGKILL)
    victim.process.wait()
    started = time.monotonic()
    wait_until(lease.acquire)
    assert time.monotonic() - started > module.VALID_SECONDS


def test_frozen_holder_wakes_up_without_it(replicas, postgres):
    """A process that was frozen for longer than a confirmation is valid never says again that it holds the lease."""
    (holder,) = replicas(postgres, 1)
    assert holder.ask("acquire") == "True"
    holder.signal(signal.SIGSTOP)
    holder.say("held")
    time.sleep(1.1)  # what passes is the promise
    holder.signal(signal.SIGCONT)
    assert holder.hear() == "False"
    time.sleep(0.5)
    assert holder.ask("held") == "False"
    assert holder.ask("acquire") == "True"


# When it is lost


def test_terminated_session_is_noticed_and_never_two_hold(opened, postgres):
    """If the server ends the holder's session, the holder notices within 3 s, before the next process can acquire it."""
    first, second = opened(postgres), opened(postgres)
    first.acquire()
    with never_both(first, second):
        execute(postgres, f"SELECT pg_terminate_backend(pid) FROM {BACKENDS} AS backends")
        taking = threading.Thread(target=until, args=[second.acquire])  # the server may take its time to end a session
        taking.start()
        lost_after = wait_until(lambda: not first.is_held)
        taking.join()
        assert second.is_held
    assert lost_after < 3
    first._thread.join(PATIENCE)
    assert first.problem
    assert not first.acquire()


def test_frozen_session_is_noticed(opened, postgres, brisk):
    """A server that stays silent without closing the connection ends the lease too."""
    lease = opened(postgres)
    lease.acquire()
    (backend,) = execute(postgres, f"SELECT pid FROM {BACKENDS} AS backends")
    os.kill(backend, signal.SIGSTOP)
    try:
        assert wait_until(lambda: not lease.is_held) < 3
        lease._thread.join()
        assert "does not answer" in lease.problem
    finally:
        os.kill(backend, signal.SIGCONT)
    wait_until(lease.acquire)


def test_stopped_server_is_noticed(opened, make_server, brisk):
    """Without the server no process holds the lease; with it again, the last holder can acquire it."""
    server = make_server()
    upgrade(url_of(server))
    lease = opened(url_of(server))
    lease.acquire()
    server.stop()
    assert wait_until(lambda: not lease.is_held) < 3
    with pytest.raises(StateError, match="audit database"):
        lease.acquire()
    assert not lease.is_held
    server.ensure_postgres_running()
    assert lease.acquire()


def test_row_with_another_name_ends_it(opened, postgres, brisk):
    """A pooler may give two replicas one session, and so both the lock: the row names the one that holds the lease."""
    lease = opened(postgres)
    lease.acquire()
    with closing(SqlAuditStore(postgres)) as store:
        store.take_lease(NAME, lease.holder, 0)
        assert store.take_lease(NAME, "another", 60)
    assert wait_until(lambda: not lease.is_held) < 3
    lease._thread.join()
    assert lease.problem == "another session has it now"


@pytest.mark.parametrize("is_replaced", [False, True])
def test_file_that_is_taken_away_ends_it(opened, sqlite, brisk, is_replaced):
    """If the lock file is removed or replaced, its holder notices before another process can hold the lease."""
    first, second = opened(sqlite), opened(sqlite)
    first.acquire()
    with never_both(first, second):
        first.path.unlink()
        if is_replaced:
            first.path.write_text("")
        assert second.acquire()
        assert not first.is_held
    assert first.problem.startswith(str(first.path))
    assert second.is_held


def test_lock_file_lies_beside_the_database(opened, sqlite):
    """Its name has the database and the account, whatever characters the account's name has."""
    lease = opened(sqlite)
    lease.acquire()
    assert lease.path == Path(sqlite.removeprefix("sqlite:///")).with_name("audit.db.trader-alpaca%2Fpaper-1.lock")
    assert lease.path.exists()


class Scripted(Lease):
    """A lease whose lock answers what a test scripts, when the test opens `gate`."""

    def __init__(self, database, tmp_path, clock):
        super().__init__(database, NAME, tmp_path, clock)
        self.gate = threading.Semaphore(0)
        self.asked = threading.Semaphore(0)
        self.answer = ""
        self.is_begun = False

    def _try_lock(self):
        self.is_begun = False
        return True

    def _loss(self, seconds):
        if not self.is_begun:
            self.is_begun = True
            return ""
        self.asked.release()
        self.gate.acquire()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def _unlock(self):
        pass


@pytest.fixture
def hand_clock(monkeypatch):
    """The clock of a lease, which a test moves."""
    now = [1000.0]
    monkeypatch.setattr(module.time, "sleep", lambda _seconds: None)
    monkeypatch.setattr(module, "INTERVAL_SECONDS", 0.001)
    return now


@pytest.fixture
def scripted(sqlite, tmp_path, hand_clock):
    lease = Scripted(sqlite, tmp_path, Clock(monotonic=lambda: hand_clock[0]))
    assert lease.acquire()
    lease.asked.acquire()
    yield lease
    lease._stop.set()
    lease.gate.release()
    lease._thread.join(PATIENCE)


def test_confirmation_counts_from_when_it_was_asked_for(scripted, hand_clock):
    """A confirmation counts from its request, however long the answer takes."""
    hand_clock[0] += 1.9
    scripted.gate.release()
    scripted.asked.acquire()
    assert scripted.is_held
    assert scripted._valid_until == 1002.0
    hand_clock[0] += 0.2
    assert not scripted.is_held


@pytest.mark.parametrize("is_noticed", [True, False])
def test_late_confirmation_is_none(scripted, hand_clock, is_noticed):
    """A confirmation after the lease has run out changes nothing, whether `is_held` was read meanwhile or not."""
    hand_clock[0] += 2.0
    if is_noticed:
        assert not scripted.is_held
    scripted.gate.release()
    scripted._thread.join(PATIENCE)
    assert not scripted.is_held
    assert scripted.problem == "confirmed later than after 2 s"


def test_lost_is_lost_until_it_is_taken_again(scripted, hand_clock):
    """A lost lease stays lost, also if the clock goes back."""
    hand_clock[0] += 2.0
    assert not scripted.is_held
    hand_clock[0] -= 1.0
    assert not scripted.is_held
    scripted.gate.release()
    scripted._thread.join(PATIENCE)
    assert scripted.acquire()
    assert scripted.is_held


@pytest.mark.parametrize("answer", ["another session has it now", StateError("gone")])
def test_objection_ends_it_at_once(scripted, answer):
    """An objection, or no answer, ends the lease, however much time is left."""
    scripted.answer = answer
    scripted.gate.release()
    scripted._thread.join(PATIENCE)
    assert not scripted.is_held
    assert scripted.problem == str(answer)


def test_lost_while_it_was_waited_for_is_not_held(opened, sqlite, monkeypatch):
    """A process that loses its lock while it waits for the last holder does not get the lease."""
    first, second = opened(sqlite), opened(sqlite)
    first.acquire()
    abandon(first)
    monkeypatch.setattr(module.time, "sleep", lambda _seconds: second.path.unlink())
    assert not second.acquire()
    assert not second.is_held


def test_release_that_cannot_be_written_frees_it(opened, sqlite, monkeypatch):
    """If the row cannot be written, the lease is released all the same, and the next process waits."""
    first, second = opened(sqlite), opened(sqlite)
    first.acquire()
    with monkeypatch.context() as broken:
        broken.setattr(Lease, "_visit", lambda *_: (_ for _ in ()).throw(StateError("disk full")))
        with pytest.raises(StateError, match="disk full"):
            first.release()
    assert not first.is_held
    waits = []
    monkeypatch.setattr(module.time, "sleep", waits.append)
    assert second.acquire()
    assert waits == [module.VALID_SECONDS + module.MARGIN_SECONDS]


def test_unwritable_row_takes_nothing(opened, sqlite, monkeypatch):
    """A process that cannot write its row does not get the lease, and leaves it free."""
    first, second = opened(sqlite), opened(sqlite)
    with monkeypatch.context() as broken:
        broken.setattr(Lease, "_visit", lambda *_: (_ for _ in ()).throw(StateError("disk full")))
        with pytest.raises(StateError, match="disk full"):
            first.acquire()
    assert not first.is_held
    assert second.acquire()


def test_no_database_is_an_error(tmp_path):
    """The error names an address that is no database, a folder that is a file, or a server that is away."""
    with pytest.raises(InputError, match="is not an audit database"):
        open_lease("mysql://x/y", NAME, tmp_path)
    with pytest.raises(StateError, match=r"the audit database: .*\(check that the database is running and reachable\)"):
        open_lease("postgresql+psycopg://me:s3cret@127.0.0.1:1/none", NAME, tmp_path).acquire()
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match=r"trader-.*\(make it and its folder writable\)"):
        open_lease(f"sqlite:///{tmp_path}/file/audit.db", NAME, tmp_path).acquire()


def test_asking_is_cheap(opened, sqlite):
    """`is_held` is read before each broker call: under a microsecond, here with a margin for a busy machine."""
    lease = opened(sqlite)
    lease.acquire()
    best = []
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(1000):
            _ = lease.is_held
        best.append((time.perf_counter() - started) / 1000)
    assert min(best) < 10e-6
