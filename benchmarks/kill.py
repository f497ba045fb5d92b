"""Measure the time from `torghut kill` to the last order sent, and to the last open order canceled.

    .venv/bin/python benchmarks/kill.py [--runs 20]

`torghut run` trades at the kit's fake Alpaca, on loopback, with its stores on disk. Again and again, another process
runs `torghut kill`:

- retrying: the loop is idle; six orders are being retried, because the venue throttles every one;
- busy: a strategy decides at every bar, as quick as bars are read, and orders fill at once;
- asleep, spinning: the same six orders, and the loop is blocked in a plugin, in C or in Python.

Times count from the moment at which the stop's file is in place, and from the return of the command, in milliseconds, to
the start of the last request for an order at the venue (negative: before), and to the request that canceled an open
order. It ends by itself.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

from torghut_testing.alpaca import FakeAlpaca, FakeVenue, Fault

TORGHUT = Path(sys.executable).parent / "torghut"
SYMBOLS = ("BTC/USD", "ETH/USD", "SOL/USD", "LTC/USD", "DOGE/USD", "AAVE/USD")
RESTING = "UNI/USD"
WORDS = ("nothing", "flip", "bid", "sleep", "spin")
BLOCKED = 2.0
"""Seconds that a plugin blocks the loop: longer than the command takes."""

PLUGIN = f"""
import time
from decimal import Decimal
from torghut_core import OrderType, Strategy, TimeInForce, hookimpl

class Told(Strategy):
    def on_signal(self, signal, context):
        word = {WORDS!r}[round(context.price * 100) - 10_000]
        terms = {{"because": word, "time_in_force": TimeInForce.GTC}}
        if word == "flip":
            return context.buy(1, **terms) if context.is_flat else context.close(**terms)
        if word == "bid":
            return context.buy(1, order_type=OrderType.LIMIT, limit_price=Decimal(50), **terms)
        if word == "sleep":
            time.sleep({BLOCKED})
        if word == "spin":
            end = time.monotonic() + {BLOCKED}
            while time.monotonic() < end:
                pass
        return None

@hookimpl
def register_strategies(register):
    register("told", Told)
"""


class Kernel:
    """`torghut run`, on a tape that says what its strategy does."""

    def __init__(self, folder, fake):
        self.folder, self.fake, self.fed, self.now = folder, fake, 0, 0
        self.tape, self.state = folder / "tape.csv", folder / "state"
        (folder / "plugins").mkdir()
        (folder / "plugins" / "told.py").write_text(PLUGIN)
        self.tape.write_text("symbol,event_ts,open,high,low,close,volume\n")
        self.say("nothing")
        source = {"paths": [str(self.tape)], "bar_step": "1Sec", "follow": True}
        entry = {"name": "told", "use": "told", "base_timeframe": "1Sec", "symbols": [*SYMBOLS, RESTING]}
        pipeline = {
            "source": {"use": "replay", "params": source},
            "stages": [{"use": "indicators", "params": {}}],
            "broker": {"use": "alpaca", "params": {"url": fake.url}},
        }
        catalog = folder / "catalog.yaml"
        catalog.write_text(json.dumps({"version": 1, "pipelines": {"trading": pipeline}, "strategies": [entry]}))
        self.env = os.environ | {
            "TRADING_ENABLED": "true",
            "TRADING_PLUGIN_BUDGET_MS": "60000",
            "TORGHUT_PLUGIN_PATH": str(folder / "plugins"),
            "ALPACA_KEY_ID": fake.key,
            "ALPACA_SECRET_KEY": fake.secret,
        }
        command = [TORGHUT, "run", "--catalog", catalog, "--state", self.state, "--port", "0"]
        with (folder / "log.txt").open("w") as log:
            self.process = subprocess.Popen(command, env=self.env, stdout=subprocess.PIPE, stderr=log, text=True)
        self.url = self.process.stdout.readline().split()[4]
        self.token = json.loads((self.state / "admin.json").read_text())["token"]

    def say(self, word, symbols=SYMBOLS[:1], times=1):
        close = f"{100 + WORDS.index(word) / 100:.2f}"
        lines = []
        for _ in range(times):
            self.now = max(self.now + 1, int(time.time()) - 1)
            at = datetime.fromtimestamp(self.now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            lines += [f"{symbol},{at},100,101,99,{close},10\n" for symbol in symbols]
        with self.tape.open("a") as tape:
            tape.write("".join(lines))
        self.fed += len(lines)

    def get(self, path):
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {self.token}"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    def until(self, holds, seconds=60.0):
        end = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > end:
                raise TimeoutError("what was waited for did not come")
            time.sleep(0.005)

    @property
    def backlog(self):
        return self.fed - self.get("/trading/metrics")["events_total"]

    def turn(self, *arguments):
        command = [TORGHUT, *arguments, "--reason", "benchmark", "--state", self.state]
        subprocess.run(command, env=self.env, check=True, stdout=subprocess.DEVNULL)
        return time.time_ns()

    def orders(self):
        return [each.at for each in list(self.fake.requests) if (each.method, each.path) == ("POST", "/v2/orders")]

    def rests(self):
        """An order works at the venue: nothing else does."""
        self.say("bid", (RESTING,))
        self.until(lambda: any(each["status"] == "new" for each in self.fake.venue.orders()[-3:]))

    def prepare(self, way, over):
        """Bring it to where orders are leaving."""
        self.rests()
        sent = len(self.orders())
        if way == "busy":
            threading.Thread(target=self._feed, args=(over,), daemon=True).start()
        else:
            self.fake.faults.add(Fault.throttle(0.01, method="POST", path="/v2/orders", times=None))
            self.say("flip", SYMBOLS)
        self.until(lambda: len(self.orders()) >= sent + 6)
        if way in ("asleep", "spinning"):
            self.say({"asleep": "sleep", "spinning": "spin"}[way])
            self.until(lambda: not self.backlog)

    def _feed(self, over):
        while not over.wait(0.005):
            if self.backlog < 200:
                self.say("flip", times=400)

    def measure(self, way):
        """Milliseconds from file and return to the last order, and from the file to the cancel."""
        over = threading.Event()
        self.prepare(way, over)
        returned = self.turn("kill")
        written = (self.state / "control.json").stat().st_ctime_ns
        self.until(lambda: not any(each["status"] == "new" for each in self.fake.venue.orders()[-2000:]))
        time.sleep(0.3)  # what would leave still
        last = max(self.orders())
        canceled = max(each.at for each in list(self.fake.requests) if each.method == "DELETE")
        over.set()
        time.sleep(0.05)
        self.fake.faults.clear()
        self.until(lambda: not self.backlog and not self.get("/trading/status")["orders_working"])
        self.turn("unkill")
        self.until(lambda: self.get("/trading/status")["control"]["state"] == "running")
        time.sleep(0.2)  # the loop reads the control twenty times a second
        return [(last - written) / 1e6, (last - returned) / 1e6, (canceled - written) / 1e6, (returned - written) / 1e6]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    runs = parser.parse_args().runs
    print("milliseconds, median / max  file to last order   return to last order  file to cancel       file to return")
    for way in ("retrying", "busy", "asleep", "spinning"):
        with tempfile.TemporaryDirectory() as folder, FakeAlpaca(FakeVenue(cash=10_000_000)) as fake:
            for symbol in (*SYMBOLS, RESTING):
                fake.venue.set_price(symbol, 100)
            kernel = Kernel(Path(folder), fake)
            try:
                found = list(zip(*(kernel.measure(way) for _ in range(runs)), strict=True))
            finally:
                kernel.process.terminate()
                kernel.process.wait(30)
                kernel.process.stdout.close()
        cells = [f"{statistics.median(column):8.1f} / {max(column):8.1f}" for column in found]
        print(f"{way:10} {runs:4} runs        " + "  ".join(cells), flush=True)


if __name__ == "__main__":
    main()
