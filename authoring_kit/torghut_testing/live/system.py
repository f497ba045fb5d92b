"""The whole live system on one machine: stand-ins of what it needs, and its three processes."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from torghut_core import Topics
from torghut_testing.live.processes import Process
from torghut_testing.live.tape import Tape

PARTITIONS = 3
KEY, SECRET = "rehearsal-key", "rehearsal-secret"
TORGHUT = Path(sys.executable).with_name("torghut")

CATALOG = Path(__file__).parents[3] / "catalog" / "live.yaml"
"""The catalog of the project, beside which the kit lies."""

CHANNELS = ("trades", "quotes", "bars", "status", "microbars", "signals", "ta-status")


class LiveSystem:
    """Stand-ins of Alpaca, Kafka and ClickHouse, and ``torghut forward``, ``ta`` and ``run``, each a process.

    Ends everything it has started when its ``with`` block is left; what is killed itself takes them with it. Use it in the
    main thread: on Linux the processes end with the thread that started them.

    Parameters
    ----------
    folder : where states, outputs and logs go.
    tape : what the venue plays, once somebody listens.
    catalog : has the pipelines ``forwarder``, ``ta`` and ``trading``.
    settings : environment variables of the three processes, besides what they need.

    Attributes
    ----------
    venue, kafka, store : the stand-ins.
    forward, ta, trading : the processes.
    bootstrap : Kafka's brokers.
    topics : names by channel.
    """

    def __init__(
        self, folder: Path, tape: Tape, catalog: Path = CATALOG, settings: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.tape = tape
        self.catalog = catalog
        self.topics = {channel: Topics().of(channel) for channel in CHANNELS}
        self.bootstrap = ""
        self._settings = {"ALPACA_MARKET_TYPE": "crypto"} | dict(settings or {})
        self.venue = self._stand_in(
            "venue", "alpaca_data", *(f"--tape={file}" for file in tape.files), "--retime", "--speed=1",
            f"--key={KEY}", f"--secret={SECRET}",
        )  # fmt: skip
        self.kafka = self._stand_in("kafka", "kafka", *(f"{topic}:{PARTITIONS}" for topic in self.topics.values()))
        self.store = self._stand_in("store", "clickhouse", f"--path={folder / 'store'}")
        self.forward = self.ta = self.trading = Process("not-started", [], folder)
        self._all = [self.venue, self.kafka, self.store]

    def _stand_in(self, name: str, module: str, *arguments: str) -> Process:
        return Process(name, [sys.executable, "-m", f"torghut_testing.{module}", *arguments], self.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in reversed(self._all):
            process.stop()

    def start(self) -> None:
        """Start all of it; returns when the venue is listened to, and begins to play.

        Raises
        ------
        Died : something does not start.
        """
        for process in (self.venue, self.kafka, self.store):
            process.start()
        venue = json.loads(self.venue.first_line())
        self.bootstrap = self.kafka.first_line()
        self.store.first_line()
        alpaca = {"ALPACA_STREAM_URL": venue["url"], "ALPACA_BASE_URL": venue["rest_url"]}
        alpaca |= {"ALPACA_KEY_ID": KEY, "ALPACA_SECRET_KEY": SECRET}
        bus, store = {"KAFKA_BOOTSTRAP": self.bootstrap}, {"TA_CLICKHOUSE_URL": self.store.url}
        self._alpaca = alpaca
        self.forward = self._torghut("forward", alpaca | bus)
        self.ta = self._torghut("ta", bus | store)
        self.trading = self._torghut("run", store | {"TRADING_ENABLED": "true", "TRADING_POLL_MS": "200"})
        self.ta.start()
        self.ta.first_line()
        for _ in self.ta.waiting(60):
            if self.ta.metrics().get("ws_readyz_gate_status", {}).get("bus"):
                break
        self.trading.start()
        self.trading.first_line()
        self.forward.start()
        self.forward.first_line()
        self.forward.wait_ready()

    def _torghut(self, command: str, environment: Mapping[str, str]) -> Process:
        arguments: list[str | Path] = [
            "--catalog",
            self.catalog,
            "--state",
            self.folder / "state" / command,
            "--port",
            "0",
        ]
        process = Process(command, [TORGHUT, command, *arguments], self.folder, self._settings | dict(environment))
        self._all.append(process)
        return process

    @property
    def played(self) -> int | None:
        """Events that the venue has played; None before its tape has ended."""
        told = self.venue.lines()[1:]
        return None if not told else int(json.loads(told[0])["played"])

    def check(self) -> None:
        """Raise `Died` where one of the six does not run."""
        for process in (self.venue, self.kafka, self.store, self.forward, self.ta, self.trading):
            process.check()

    def crash(self, process: Process) -> None:
        """Kill a process where it is (SIGKILL), and start it again on the same state.

        Raises
        ------
        Died : it does not start again.
        """
        process.kill()
        process.start()
        process.first_line()

    def replay(self, since: int, lanes: Iterable[Collection[str]]) -> dict[str, str]:
        """Derive everything once more from the venue's history: ``torghut backfill`` into tables of their own.

        Parameters
        ----------
        since : where to begin, ns since the epoch.
        lanes : the symbols of each partition. What closes a window is the next event of any symbol beside which it is
            read, and the spread in a signal is that of the last quote by then: so each lane is derived by itself.

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
            command: list[str | Path] = [
                TORGHUT,
                "backfill",
                "--symbols",
                ",".join(sorted(symbols)),
                "--start",
                start,
                "--to-store",
            ]
            command += ["--catalog", self.catalog, "--state", self.folder / "state" / name]
            process = Process(name, command, self.folder, environment)
            self._all.append(process)
            process.start()
            process.wait_done()
        return tables

    def stop(self) -> dict[str, int | None]:
        """End the three processes by SIGTERM, those first that give to others; give what each ended with."""
        return {process.name: process.stop() for process in (self.forward, self.ta, self.trading)}
