"""Soak `torghut run`: reloads, snapshots of the venue, orders, and bursts of 500 requests at a time, for some minutes.

    .venv/bin/python benchmarks/soak.py [--minutes 30] [--at-once 500]

A kernel of its own process trades at the kit's fake Alpaca, on loopback, with its stores on disk. In each minute it is left
alone for a while; then hundreds of clients at a time, again and again, ask a stand-in, which is another process; and then
they ask the kernel for everything, while others are idle, slow or talk nonsense, and an operator stops and releases trading.
The tape notes how late the kernel's loop is, every 10 ms. The clients take the same time of the same cores in both: what
differs is what the kernel's API costs its loop.

It prints a line a minute: open files, threads and memory at rest, of the kernel and of the process that serves its API; how late the loop was at rest, beside the stand-in and
beside the API, milliseconds; how long probes and stops took at most, seconds (inf: one was not answered). What the embedded
store opens and starts is counted apart: it cleans up with a pool of at most 128 threads, which stay, and each thread that
worked for it holds three files. Exit code 1: files, threads or memory grew; the store's are more than that; the loop was later
by 1 ms or more beside the API (99th percentile, median of the minutes), or was not watched; a probe or a stop took longer than
a second; or nothing was ordered. It ends by itself.
"""

import argparse
import asyncio
import contextlib
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from torghut_testing.alpaca import FakeAlpaca, FakeVenue

TORGHUT = Path(sys.executable).parent / "torghut"
SYMBOLS = ("BTC/USD", "ETH/USD", "SOL/USD", "LTC/USD")
MOST_STORE_THREADS = 192
"""The embedded store's pool that cleans up, 128 threads, and what else it starts."""

SETTLE_S, REST_S, BURST_S, EVERY_S = 7.0, 21.0, 16.0, 2.0
"""Seconds of a minute: until all is quiet, at rest, and twice in a burst; and between two volleys of a burst."""

PATHS = (
    *("/trading/status", "/trading/health", "/trading/metrics", "/trading/decisions?limit=200", "/trading/executions"),
    *("/catalog", "/catalog/generations", "/catalog/schema", "/plugins", "/openapi.json", "/metrics", "/nowhere"),
)
"""What is read in bursts, each as often as the others; a catalog is checked as often."""

STAND_IN = """
import asyncio

async def answer(reader, writer):
    try:
        await reader.readuntil(b"\\r\\n\\r\\n")
        sum(range(20_000))  # about as long as a request takes
        writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\n{}")
    except asyncio.IncompleteReadError:
        pass
    finally:
        writer.close()

async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""

PLUGIN = """
import asyncio, os, time
from torghut_core import Strategy, hookimpl
from torghut_sources.tape.source import Replay

STEP = 0.01
LATE = os.environ["SOAK_LATE"]

class Watcher:
    def __init__(self, loop):
        self.loop, self.due, self.late = loop, loop.time() + STEP, []
        loop.call_at(self.due, self.tick)

    def tick(self):
        now = self.loop.time()
        self.late.append(f"{time.time():.3f} {(now - self.due) * 1000:.3f}\\n")
        if len(self.late) == 100:
            with open(LATE, "a") as file:
                file.writelines(self.late)
            self.late.clear()
        self.due = max(now, self.due) + STEP
        self.loop.call_at(self.due, self.tick)

class Watched(Replay):
    async def batches(self, size):
        self.watcher = Watcher(asyncio.get_running_loop())
        async for batch in super().batches(size):
            yield batch

class Soaked(Strategy):
    def on_signal(self, signal, context):
        return context.buy(1, because="in") if context.is_flat else context.close(because="out")

@hookimpl
def register_sources(register):
    register("watched", Watched)

@hookimpl
def register_strategies(register):
    register("soaked", Soaked)
"""


class Kernel:
    """`torghut run` on a tape that grows by a bar of one symbol five times a second."""

    def __init__(self, folder, fake):
        self.tape, self.state, self.late = folder / "tape.csv", folder / "state", folder / "late.txt"
        self.catalog, self.edition = folder / "catalog.yaml", 0
        (folder / "plugins").mkdir()
        (folder / "plugins" / "soaked.py").write_text(PLUGIN)
        self.tape.write_text("symbol,event_ts,open,high,low,close,volume\n")
        self.now, self.fed = int(time.time()) - 1, 0
        self.feed()
        self.fake = fake
        self.reload()
        env = os.environ | {
            "TRADING_ENABLED": "true",
            "TRADING_RECONCILE_MS": "500",
            "TORGHUT_PLUGIN_PATH": str(folder / "plugins"),
            "ALPACA_KEY_ID": fake.key,
            "ALPACA_SECRET_KEY": fake.secret,
            "ADMIN_TOKENS": "ann:operator:operator-token-of-the-soak,vic:viewer:viewer-token-of-the-soak",
            "SOAK_LATE": str(self.late),
        }
        self.log = folder / "log.txt"
        command = [TORGHUT, "run", "--catalog", self.catalog, "--state", self.state, "--port", "0"]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=log, text=True)
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"the kernel did not start:\n{self.log.read_text()}")
        self.port = int(line.split()[4].rpartition(":")[2])

    def reload(self):
        """Change the catalog, so that it is read anew."""
        self.edition += 1
        source = {"paths": [str(self.tape)], "bar_step": "1Sec", "follow": True}
        entry = {"name": "soaked", "use": "soaked", "base_timeframe": "1Sec", "symbols": [*SYMBOLS]}
        entry["max_notional_per_trade"] = 100_000 + self.edition
        pipeline = {
            "source": {"use": "watched", "params": source},
            "stages": [{"use": "indicators", "params": {}}],
            "broker": {"use": "alpaca", "params": {"url": self.fake.url}},
        }
        new = self.catalog.with_suffix(".new")
        new.write_text(json.dumps({"version": 1, "pipelines": {"trading": pipeline}, "strategies": [entry]}))
        new.replace(self.catalog)

    def feed(self):
        """Add a bar of the next symbol."""
        self.fed += 1
        symbol = SYMBOLS[self.fed % len(SYMBOLS)]
        self.now += not self.fed % len(SYMBOLS)
        at = datetime.fromtimestamp(self.now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        with self.tape.open("a") as tape:
            tape.write(f"{symbol},{at},100,101,99,100,10\n")

    def sample(self):
        """What is open and runs now, by name: ours, and what the embedded store opens and starts as it likes; MiB of memory."""
        folder = Path(f"/proc/{self.process.pid}")
        files, names = [], []
        for link in (folder / "fd").iterdir():
            with contextlib.suppress(OSError):  # one that has just been closed
                files.append(str(link.readlink()))
        for name in (folder / "task").glob("*/comm"):
            with contextlib.suppress(OSError):  # one that has just ended
                names.append(name.read_text())
        status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        ours = names.count((folder / "comm").read_text())
        store = sum(file.startswith((f"{folder}/", f"{self.state}/signals/")) for file in files)
        return {
            "files": len(files) - store,
            "st_files": store,
            "threads": ours,
            "st_threads": len(names) - ours,
            "MiB": int(status["VmRSS"].split()[0]) / 1024,
            **self.sample_api(),
        }

    def sample_api(self):
        """Open files, threads and MiB of memory of the process that serves its API; nan where there is none."""
        for child in Path(f"/proc/{self.process.pid}/task").glob("*/children"):
            for folder in map(Path("/proc").joinpath, child.read_text().split()):
                with contextlib.suppress(OSError):  # it has just ended
                    if b"torghut_core.admin.serve" in (folder / "cmdline").read_bytes():
                        status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
                        files, memory = len(list((folder / "fd").iterdir())), int(status["VmRSS"].split()[0]) / 1024
                        return {"api_files": files, "api_threads": int(status["Threads"]), "api_MiB": memory}
        return dict.fromkeys(("api_files", "api_threads", "api_MiB"), math.nan)

    def lateness(self, start, end):
        """How late the loop was between two times: median, 99th percentile and most, milliseconds; nan: not watched."""
        lines = self.late.read_text().splitlines() if self.late.exists() else []
        late = sorted(float(line.split()[1]) for line in lines if start <= float(line.split()[0]) <= end)
        return (late[len(late) // 2], late[int(len(late) * 0.99)], late[-1]) if late else (math.nan,) * 3


class Clients:
    """Whoever asks at a port of this machine for something; counts the answers by status."""

    def __init__(self, port, catalog):
        self.port, self.catalog, self.answers = port, catalog, Counter()

    async def ask(self, path, token="", method="GET", body=b"", wait=30.0):
        """Status of an answer, 0 where there was none; and the seconds it took."""
        began = time.monotonic()
        status = 0
        with contextlib.suppress(OSError, TimeoutError, ValueError, IndexError, asyncio.IncompleteReadError):
            async with asyncio.timeout(wait):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                try:
                    auth = f"Authorization: Bearer {token}\r\n" if token else ""
                    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{auth}Content-Length: {len(body)}\r\n"
                    writer.write(f"{head}Connection: close\r\n\r\n".encode() + body)
                    status = int((await reader.readline()).split()[1])
                    await reader.read(-1)
                finally:
                    writer.close()
        return status, time.monotonic() - began

    async def read(self, number):
        """Ask for one of all things."""
        path = (*PATHS, "/catalog/validate")[number % (len(PATHS) + 1)]
        method, body = ("POST", self.catalog) if "validate" in path else ("GET", b"")
        token = "viewer-token-of-the-soak" if number % 5 else ""
        self.answers[(await self.ask(path, token, method, body))[0]] += 1

    async def nuisance(self, number, until):
        """Be idle, slow, or talk nonsense."""
        talk = (b"", b"GET /catalog HTTP/1.1\r\nHost: x\r\nA: ", b"\x16\x03\x01" * 50, b"GET /\r\n\r\n")[number % 4]
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.write(talk)
                await asyncio.sleep(3)
                writer.close()

    async def probe(self, until, took):
        """Ask a probe four times a second."""
        while time.monotonic() < until:
            status, seconds = await self.ask("/healthz")
            took.append(seconds if status == 200 else math.inf)
            await asyncio.sleep(0.25)

    async def stop_and_release(self, took):
        """Stop trading half way through a burst, and release it."""
        await asyncio.sleep(BURST_S / 2)
        status, seconds = await self.ask("/trading/kill", "operator-token-of-the-soak", "POST", b'{"reason": "soak"}')
        took.append(seconds if status == 200 else math.inf)
        await asyncio.sleep(1)
        body = b'{"reason": "soak"}'
        for _ in range(20):
            status, _ = await self.ask("/trading/unkill", "operator-token-of-the-soak", "POST", body)
            if status == 200:
                return
            await asyncio.sleep(0.5)

    async def burst(self, at_once):
        """Volleys of requests, with probes, a stop and a release between.

        Seconds that probes and stops took at most; inf where one was not answered, or none was asked for.
        """
        until, probes, stops, tasks = time.monotonic() + BURST_S, [], [], set()
        nuisances = (self.nuisance(number, until) for number in range(at_once // 5))
        for work in (*nuisances, self.probe(until, probes), self.stop_and_release(stops)):
            tasks.add(asyncio.ensure_future(work))
        number = 0
        while time.monotonic() < until:
            tasks.update(asyncio.ensure_future(self.read(number + each)) for each in range(at_once))
            number += at_once + 1
            await asyncio.sleep(EVERY_S)
        await asyncio.gather(*tasks)
        return max(probes, default=math.inf), max(stops, default=math.inf)


def tend(kernel, ended):
    """Feed the kernel five times a second, and change its catalog every ten seconds."""
    beat = 0
    while not ended.wait(0.2):
        beat += 1
        kernel.feed()
        if beat % 50 == 0:
            kernel.reload()


def minute(kernel, beside, clients, at_once):
    """What one minute shows, by name."""
    time.sleep(SETTLE_S)
    began, samples = time.time(), []
    while time.time() < began + REST_S:
        samples.append(kernel.sample())
        time.sleep(0.5)
    row = {name: statistics.median(sample[name] for sample in samples) for name in samples[0]}
    times = {"rest": (began, time.time())}
    for name, each in (("beside", beside), ("api", clients)):
        began = time.time()
        probe, stop = asyncio.run(each.burst(at_once))
        times[name] = (began, began + BURST_S)
    time.sleep(1.5)  # until the last are written down
    for name, (start, end) in times.items():
        row |= dict(zip((f"{name}_p50", f"{name}_p99", f"{name}_max"), kernel.lateness(start, end), strict=True))
    return row | {"probe_s": probe, "stop_s": stop}


def problems(rows, later_ms, answer_s):
    """What was not as it should be: of more than two minutes the first is left out of what has to be flat."""
    flat = rows[1:] if len(rows) > 2 else rows
    first, last = flat[0], flat[-1]
    for name, most in (
        ("files", 32),
        ("threads", 4),
        ("MiB", 0.05 * first["MiB"] + (16 if len(rows) > 2 else 64)),
        ("api_files", 32),
        ("api_threads", 32),
        ("api_MiB", 0.05 * first["api_MiB"] + 16),
    ):
        if not last[name] <= first[name] + most:
            yield f"{name} grew from {first[name]:.0f} to {last[name]:.0f}"
    threads = max(row["st_threads"] for row in rows)
    if threads > MOST_STORE_THREADS:
        yield f"the store has {threads:.0f} threads"
    for row in rows:
        if row["st_files"] > 3 * (row["st_threads"] + row["threads"]) + 32:
            yield f"the store has {row['st_files']:.0f} open files"
    later = [row["api_p99"] - row["beside_p99"] for row in rows]
    if any(map(math.isnan, later)):
        yield "the loop was not watched in each minute"
    elif statistics.median(later) >= later_ms:
        yield f"the loop was later beside the API by {statistics.median(later):.2f} ms (99th percentile)"
    for number, row in enumerate(rows, 1):
        for name in ("probe", "stop"):
            if math.isinf(seconds := row[f"{name}_s"]):
                yield f"minute {number}: a {name} was not answered"
            elif seconds > answer_s:
                yield f"minute {number}: a {name} took {seconds:.2f} s"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=30)
    parser.add_argument("--at-once", type=int, default=500)
    parser.add_argument("--later-ms", type=float, default=1.0, help="how much later the loop may be beside the API")
    parser.add_argument("--answer-s", type=float, default=1.0, help="how long a probe or a stop may take")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, FakeAlpaca(FakeVenue(cash=10_000_000)) as fake:
        for symbol in SYMBOLS:
            fake.venue.set_price(symbol, 100)
        kernel = Kernel(Path(folder), fake)
        stand_in = subprocess.Popen([sys.executable, "-c", STAND_IN], stdout=subprocess.PIPE, text=True)
        content = kernel.catalog.read_bytes()
        beside = Clients(int(stand_in.stdout.readline()), content)
        ended, rows, clients = threading.Event(), [], Clients(kernel.port, content)
        threading.Thread(target=tend, args=(kernel, ended), daemon=True).start()
        try:
            for number in range(given.minutes):
                rows.append(minute(kernel, beside, clients, given.at_once))
                if not number:
                    print("minute  " + "  ".join(f"{name:>10}" for name in rows[0]), flush=True)
                print(f"{number + 1:6}  " + "  ".join(f"{value:10.2f}" for value in rows[-1].values()), flush=True)
        finally:
            ended.set()
            if kernel.process.poll() is not None:
                print(kernel.log.read_text()[-3000:])
            for process in (kernel.process, stand_in):
                process.terminate()
                process.wait(30)
                process.stdout.close()
        orders = sum((each.method, each.path) == ("POST", "/v2/orders") for each in list(fake.requests))
        print(
            f"{orders} orders, {kernel.edition} editions of the catalog; answers: {dict(sorted(clients.answers.items()))}"
        )
        found = list(problems(rows, given.later_ms, given.answer_s))
        if not orders:
            found.append(f"nothing was ordered; the kernel's log ends with {kernel.log.read_text()[-1000:]}")
    for problem in found:
        print(f"problem: {problem}")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
