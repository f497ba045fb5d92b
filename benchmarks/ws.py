"""Alpaca's frames from the socket to the microbar column, against picows and msgspec that only receive and decode them.

Usage: python benchmarks/ws.py [--repeats 5]

One JSON line per case: messages per second and nanoseconds per message, of `repeats` runs the median (and all of them).
A child process sends prebuilt frames of 20 messages over loopback as fast as the socket takes them; all else is one
process on one core. `source` is the plugin itself (session, inbox, each event once, batches of 4,096), `socket to microbar
column` its wire code alone. `ratio` is ours over the rival's of the same turn (the median of the ratios turn by turn). Times rise
and ids differ, so that every trade ends in a bar, which is checked; the mix has a quote for each trade. The parts run on
frames in memory, 64 at a time as when the socket is busy.
"""

import argparse
import asyncio
import base64
import hashlib
import json
import multiprocessing
import socket
import statistics
import struct
import time
from contextlib import aclosing

import msgspec
import numpy as np
import picows
from pydantic import SecretStr
from torghut_sources.alpaca.settings import AlpacaSettings
from torghut_sources.alpaca.source import Alpaca
from torghut_sources.alpaca.wire import Wire
from torghut_sources.stages.microbars import Microbars

from torghut_core import Batch, Connection, SymbolTable, Universe, format_timestamp

FRAMES, PER_FRAME, TOGETHER, SYMBOLS = 25_000, 20, 64, 100
MESSAGES = FRAMES * PER_FRAME
GAP = 100_000
T0 = 1_770_564_600_000_000_000
ACCEPT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def frames(is_mix):
    """What is sent: message number `n` is of the `n`-th tenth of a millisecond."""

    def message(n):
        head = {"S": f"S{n * 7919 % SYMBOLS}", "t": format_timestamp(T0 + n * GAP + 1 + n % 99)}
        price = 189.1 + n % 37 / 100
        if is_mix and n % 2:
            return {"T": "q", **head, "bx": "U", "bp": price, "bs": 1 + n % 9, "ax": "Q", "ap": price + 0.02, "as": 4,
                    "c": ["R"], "z": "C"}  # fmt: skip
        return {"T": "t", "i": n + 1, **head, "x": "V", "p": price, "s": 1 + n % 100, "c": ["@"], "z": "C"}

    numbers = range(MESSAGES)
    return [
        msgspec.json.encode([message(n) for n in numbers[first : first + PER_FRAME]])
        for first in range(0, MESSAGES, PER_FRAME)
    ]


def serve(ready, is_mix):
    blob = b"".join(struct.pack("!BBH", 0x81, 126, len(frame)) + frame for frame in frames(is_mix))
    with socket.create_server(("127.0.0.1", 0)) as server:
        ready.put(server.getsockname()[1])
        while True:
            peer, _ = server.accept()
            with peer:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    head += peer.recv(4096)
                key = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:"))
                accept = base64.b64encode(hashlib.sha1(key.split(b":")[1].strip() + ACCEPT).digest())
                peer.sendall(
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
                )
                try:
                    if head.startswith(b"GET /v2/"):
                        introduce(peer)
                    peer.sendall(blob)
                    peer.recv(4096)
                except OSError:
                    pass


def introduce(peer):
    """Send the venue's messages before data comes; accept any keys and symbols."""
    everything = [f"S{number}" for number in range(SYMBOLS)]
    subscribed = {"T": "subscription"} | dict.fromkeys(("trades", "quotes"), everything)
    for said in ({"T": "success", "msg": "connected"}, {"T": "success", "msg": "authenticated"}, subscribed):
        frame = msgspec.json.encode([said])
        head = struct.pack("!BB", 0x81, len(frame)) if len(frame) < 126 else struct.pack("!BBH", 0x81, 126, len(frame))
        peer.sendall(head + frame)
        if said is not subscribed:
            peer.recv(1 << 16)


async def receive(port, take, finish):
    """Seconds from the connection to the last frame, with all work on it done."""
    done = asyncio.get_running_loop().create_future()

    class Listener(picows.WSListener):
        left = FRAMES

        def on_ws_connected(self, _transport):
            self.began = time.perf_counter()

        def on_ws_frame(self, _transport, frame):
            take(frame.get_payload_as_bytes())
            self.left -= 1
            if not self.left:
                finish()
                done.set_result(time.perf_counter() - self.began)

    transport, _ = await picows.ws_connect(Listener, f"ws://127.0.0.1:{port}")
    async with asyncio.timeout(60):
        took = await done
    transport.disconnect()
    return took


class Column:
    """Frames to microbars, `TOGETHER` frames at a time."""

    def __init__(self):
        self.wire, self.symbols, self.stage = Wire(), SymbolTable(), Microbars(Microbars.Params())
        self.waiting, self.bars, self.position, self.now = [], [], 0, 0

    def take(self, frame):
        self.waiting.append(frame)
        if len(self.waiting) == TOGETHER:
            self.finish()

    def finish(self):
        events = self.wire.read(self.waiting).events
        self.waiting.clear()
        if len(events):
            self.add(events.batch(self.symbols, self.position, self.position, self.now))

    def add(self, batch):
        batch = self.stage.update(batch)
        self.position, self.now, self.symbols = batch.stop, int(batch.now[-1]), batch.symbols
        assert not batch.late
        assert not batch.duplicates
        self.bars.append(batch.microbars)

    def check(self, trades):
        """Every trade is in a bar."""
        tick = Batch.of(self.symbols, self.position, np.array([self.now + 3600 * 10**9]))
        bars = [*self.bars, self.stage.update(tick).microbars]
        assert sum(int(each.count.sum()) for each in bars) == trades
        assert self.position == MESSAGES


class Listed(Universe):
    """All symbols that are sent."""

    symbols = tuple(sorted(f"S{number}" for number in range(SYMBOLS)))

    async def changed(self):
        await asyncio.Event().wait()


def source_to_microbars(port, trades):
    """Seconds from the opening of the source to the last bar."""
    settings = AlpacaSettings(alpaca_stream_url=f"ws://127.0.0.1:{port}", alpaca_base_url="http://127.0.0.1:1")
    source = Alpaca(Alpaca.Params(channels=["trades", "quotes"], backfill=False, tick_ms=0), settings)
    source.connect(Connection(False, lambda _name: SecretStr("none"), Listed()))
    column = Column()

    async def take():
        async with asyncio.timeout(60), aclosing(source.batches(4096)) as batches:
            began = time.perf_counter()
            async for batch in batches:
                column.add(batch)
                if column.position == MESSAGES:
                    break
            return time.perf_counter() - began

    took = asyncio.run(take())
    column.check(trades)
    return took


def rival_decoder():
    """As in the peers' comparison: what is needed of a trade or quote, and nothing done with it."""

    class Trade(msgspec.Struct, tag_field="T", tag="t", gc=False):
        S: str
        i: int
        x: str
        p: float
        s: float
        t: str
        c: list[str]
        z: str

    class Quote(msgspec.Struct, tag_field="T", tag="q", gc=False):
        S: str
        bp: float
        bs: float
        ap: float
        t: str
        as_: float = msgspec.field(name="as")

    return msgspec.json.Decoder(list[Trade | Quote]).decode


def to_microbars(port, trades):
    column = Column()
    took = asyncio.run(receive(port, column.take, column.finish))
    column.check(trades)
    return took


def parts(some):
    """Seconds of each part by itself, on the same frames in memory."""
    wire, symbols, stage = Wire(), SymbolTable(), Microbars(Microbars.Params())
    groups = [some[first : first + TOGETHER] for first in range(0, len(some), TOGETHER)]
    seconds = dict.fromkeys(("decode, times and checks", "columns and identities", "microbars", "envelopes"), 0.0)
    position = now = 0

    def timed(part, work, *arguments, **options):
        began = time.perf_counter()
        result = work(*arguments, **options)
        seconds[part] += time.perf_counter() - began
        return result

    for group in groups:
        events = timed("decode, times and checks", wire.read, group).events
        batch = timed("columns and identities", events.batch, symbols, position, position, now)
        timed("microbars", stage.update, batch)
        timed("envelopes", events.messages, feed="iex", source="ws", seq=position, ingest_ts=T0)
        position, now = batch.stop, int(batch.now[-1])
    return seconds


def line(case, seconds, **more):
    median = statistics.median(seconds)
    figures = {"messages_per_second": round(MESSAGES / median), "ns_per_message": round(median / MESSAGES * 1e9, 1)}
    print(json.dumps({"case": case, **figures, **more, "seconds": [round(each, 4) for each in seconds]}), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    spawn = multiprocessing.get_context("spawn")
    for is_mix, name, trades in ((False, "trades", MESSAGES), (True, "trades and quotes", MESSAGES // 2)):
        ready = spawn.Queue()
        sender = spawn.Process(target=serve, args=(ready, is_mix), daemon=True)
        sender.start()
        try:
            port = ready.get(timeout=60)
            to_microbars(port, trades)  # compiles, and fills caches
            decode = rival_decoder()
            source_to_microbars(port, trades)
            turns = [
                (
                    to_microbars(port, trades),
                    source_to_microbars(port, trades),
                    asyncio.run(receive(port, decode, lambda: None)),
                )
                for _ in range(repeats)
            ]
        finally:
            sender.terminate()
            sender.join()
        rival = "socket, picows and msgspec decode alone"
        line(f"{name}: {rival}", [turn[-1] for turn in turns])
        for place, case in enumerate(("socket to microbar column", "source to microbar column")):
            ratio = round(statistics.median(turn[-1] / turn[place] for turn in turns), 2)
            line(f"{name}: {case}", [turn[place] for turn in turns], rival=rival, ratio=ratio)
        some = frames(is_mix)
        runs = [parts(some) for _ in range(repeats)]
        for part in runs[0]:
            line(f"{name}: {part}", [run[part] for run in runs])


if __name__ == "__main__":
    main()
