"""A shared store as a process: ``python -m torghut_testing.clickhouse --path DIR``."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from torghut_testing.clickhouse.engine import Engine
from torghut_testing.clickhouse.server import ClickHouseServer


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; print one line, the URL, once it listens."""
    parser = argparse.ArgumentParser(
        prog="python -m torghut_testing.clickhouse",
        description="ClickHouse's HTTP interface on loopback, over the embedded engine. Scripts use /_fake/.",
    )
    parser.add_argument(
        "--path", type=Path, required=True, metavar="DIR", help="folder of the files; made where it is missing"
    )
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0, the default, takes a free one")
    parser.add_argument("--user", default="", help="user that a client has to send (default: any)")
    parser.add_argument("--password", default="", help="password that a client has to send (default: empty)")
    given = parser.parse_args(arguments)

    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        engine = Engine(given.path)
    except ImportError:
        parser.error("the embedded engine is not installed (pip install 'torghut[embedded]')")
    except (OSError, RuntimeError) as error:
        parser.error(f"--path {given.path}: {str(error).partition(chr(10))[0]}")
    server = ClickHouseServer(engine, given.port, given.user, given.password)
    try:
        server.start()
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        while not ended.wait(0.5):  # a signal may have gone to a thread of the engine
            pass
    except OSError as error:
        parser.error(f"--port {given.port}: {error.strerror}")
    finally:
        server.stop()
        engine.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
