"""The whole live system on one machine: stand-ins of what it needs, and its three processes."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from torghut_core import Topics
from torghut_core.research import example_catalogs
from torghut_testing.live.processes import Process
from torghut_testing.live.tape import Tape

PARTITIONS = 3
KEY, SECRET = "rehearsal-key", "rehearsal-secret"
TORGHUT = Path(sys.executable).with_name("torghut")

CATALOG = example_catalogs() / "live.yaml"

CHANNELS = ("trades", "quotes", "bars", "status", "microbars", "signals", "ta-status")


@contextmanager
def open_live_system(
    folder: Path, tape: Tape, catalog: Path = CATALOG, settings: Mapping[str, str] | None = None
) -> Iterator[LiveSystem]:
    """Start the live system, and end every process of it when the ``with`` block is left.

    Use it in the main thread: on Linux the processes end with the thread that started them, so that even a killed parent
    leaves none behind.

    Parameters
    ----------
    folder : where states, outputs and logs go.
    tape : what the venue plays, once a client is subscribed.
    catalog : has the pipelines ``forwarder``, ``ta`` and ``trading``.
    settings : environment variables of torghut's processes, besides what they need.

    Raises
    ------
    Died : a process does not start.
    """
    processes: list[Process] = []
    try:
        yield LiveSystem(folder, tape, catalog, settings or {}, processes)
    finally:
        for process in reversed(processes):
            process.stop()


class LiveSystem:
    """Stand-ins of Alpaca, Kafka and ClickHouse, and ``torghut forward``, ``ta`` and ``run``, each a running process.

    Made by `open_live_system`. Making it starts all of it, and returns once the venue has a subscriber and plays.

    Attributes
    ----------
    venue, kafka, store : the stand-ins.
    forward, ta, trading : the processes of torghut.
    bootstrap : Kafka's brokers.
    topics : names by channel.
    """

    def __init__(
        self, folder: Path, tape: Tape, catalog: Path, settings: Mapping[str, str], processes: list[Process]
    ) -> None:
        self.folder = folder
        self.tape = tape
        self.catalog = catalog
        self.topics = {channel: Topics().of(channel) for channel in CHANNELS}
        self._processes = processes
        self.venue = self._stand_in(
            "venue", "alpaca_data", *(f"--tape={file}" for file in tape.files), "--retime", "--speed=1",
            f"--key={KEY}", f"--secret={SECRET}",
        )  # fmt: skip
        self.kafka = self._stand_in("kafka", "kafka", *(f"{topic}:{PARTITIONS}" for topic in self.topics.values()))
        self.store = self._stand_in("store", "clickhouse", f"--path={folder / 'store'}")
        venue = json.loads(self.venue.first_line())
        self.bootstrap = self.kafka.first_line()
        self.store.first_line()
        self._settings = {"ALPACA_MARKET_TYPE": "crypto"} | dict(settings)
        self._alpaca = {
            "ALPACA_STREAM_URL": venue["url"],
            "ALPACA_BASE_URL": venue["rest_url"],
            "ALPACA_KEY_ID": KEY,
            "ALPACA_SECRET_KEY": SECRET,
        }
        bus, store = {"KAFKA_BOOTSTRAP": self.bootstrap}, {"TA_CLICKHOUSE_URL": self.store.url}
        self.ta = self._torghut("ta", bus | store)
        for _ in self.ta.waiting(60):
            if self.ta.metrics().get("ws_readyz_gate_status", {}).get("bus"):
                break
        self.trading = self._torghut("run", store | {"TRADING_ENABLED": "true", "TRADING_POLL_MS": "200"})
        self.forward = self._torghut("forward", self._alpaca | bus)
        self.forward.wait_ready()

    def _stand_in(self, name: str, module: str, *arguments: str) -> Process:
        """Start a stand-in; does not wait for it."""
        return self._start(Process(name, [sys.executable, "-m", f"torghut_testing.{module}", *arguments], self.folder))

    def _torghut(self, command: str, environment: Mapping[str, str]) -> Process:
        """Start a command of torghut, and wait until it listens."""
        state = self.folder / "state" / command
        arguments: list[str | Path] = ["--catalog", self.catalog, "--state", state, "--port", "0"]
        settings = self._settings | dict(environment)
        process = self._start(Process(command, [TORGHUT, command, *arguments], self.folder, settings))
        process.first_line()
        return process

    def _start(self, process: Process) -> Process:
        self._processes.append(process)
        process.start()
        return process

    @property
    def played(self) -> int | None:
        """Events that the venue has played; None before its tape has ended."""
        lines = self.venue.lines()[1:]
        return int(json.loads(lines[0])["played"]) if lines else None

    def check(self) -> None:
        """Raise `Died` if one of the six processes does not run."""
        for process in (self.venue, self.kafka, self.store, self.forward, self.ta, self.trading):
            process.check()

    def crash(self, process: Process) -> None:
        """Kill a process (SIGKILL), and start it again on the same state.

        Raises
        ------
        Died : it does not start again.
        """
        process.kill()
        process.start()
        process.first_line()

    def replay(self, since: int, lanes: Iterable[Collection[str]]) -> dict[str, str]:
        """Derive everything again from the venue's history: ``torghut backfill`` into tables of their own.

        Parameters
        ----------
        since : where to begin, ns since the epoch.
        lanes : the symbols of each partition. The next event of any symbol in the partition closes a window, and the spread
            in a signal is that of the last quote by then: so each lane is derived by itself.

        Returns
        -------
        The tables of ``microbars`` and ``signals``.

        Raises
        ------
        Died : it failed.
        """
        tables = {"microbars": "replayed.ta_microbars", "signals": "replayed.ta_signals"}
        names = {"TRADING_PRICE_TABLE": tables["microbars"], "TRADING_SIGNAL_TABLE": tables["signals"]}
        environment = self._settings | self._alpaca | names | {"TA_CLICKHOUSE_URL": self.store.url}
        start = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(since // 1_000_000_000))
        for number, symbols in enumerate(lanes):
            name = f"backfill-{number}"
            command: list[str | Path] = [TORGHUT, "backfill", "--to-store"]
            command += ["--symbols", ",".join(sorted(symbols)), "--start", start]
            command += ["--catalog", self.catalog, "--state", self.folder / "state" / name]
            self._start(Process(name, command, self.folder, environment)).wait_done()
        return tables

    def stop(self) -> dict[str, int | None]:
        """End torghut's three processes by SIGTERM, upstream ones first; return the exit code of each."""
        return {process.name: process.stop() for process in (self.forward, self.ta, self.trading)}
