"""The fake market as a process of its own."""

import json
import signal
import subprocess
import sys
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet
import pytest
from torghut_testing.alpaca_data.__main__ import main

from support.waiting import PATIENCE


@pytest.fixture
def process(tmp_path):
    """Starts a fake in a process; gives it with what a client has to know."""
    processes = []

    def start(*options):
        command = [sys.executable, "-m", "torghut_testing.alpaca_data", *map(str, options)]
        started = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path)
        processes.append(started)
        urls = json.loads(started.stdout.readline())
        assert urls["rest_url"].startswith("http://127.0.0.1:")
        return started, SimpleNamespace(**urls, key="fake-key", secret="fake-secret")

    yield start
    for started in processes:
        started.kill()
        started.wait()
        started.stdout.close()


def test_tape_with_a_made_up_symbol_beside_it(process, listen, tmp_path):
    """It plays a tape, with a made-up symbol over the same time, once a client hears both; tells the count; ends on SIGTERM."""
    at = [1_700_000_000_000_000_000 + number * 10_000_000 for number in range(100)]
    columns = {"symbol": ["BTC/USD"] * 100, "event_ts": pa.array(at, pa.timestamp("ns", "UTC"))}
    values = {"price": [1.0] * 100, "size": [1.0] * 100, "seq": list(range(100))}
    pyarrow.parquet.write_table(pa.table(columns | values), tmp_path / "tape.parquet")
    started, market = process("--tape", "tape.parquet", "--synthetic", "ETH/USD=1800", "--rate", 50)
    client = listen(market, trades=["BTC/USD", "ETH/USD"], quotes=["*"])
    played = json.loads(started.stdout.readline())["played"]
    received = [client.receive() for _ in range(played)]
    assert [message["i"] for message in received if message["S"] == "BTC/USD"] == list(range(1, 101))
    made = [message["t"] for message in received if message["S"] == "ETH/USD"]
    assert 40 <= len(made) <= 50
    assert [message["t"][:19] for message in received] == ["2023-11-14T22:13:20"] * played
    started.send_signal(signal.SIGTERM)
    assert started.wait(PATIENCE) == 0


def test_made_up_alone(process, listen):
    """Without a tape it makes a market up, from now on, at its pace, as many messages as asked."""
    started, market = process("--synthetic", "BTC/USD=25000", "--rate", 1000, "--count", 20, "--speed", 50, "--no-wait")
    assert json.loads(started.stdout.readline()) == {"played": 20}
    listen(market)  # and it stays there


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--synthetic", "BTC/USD"], "write SYMBOL=PRICE"),
        (["--rate", "0"], "is not a number above 0"),
        (["--tape", "nothing.parquet"], "nothing.parquet"),
        (["--tape", "nothing.xlsx"], "use a file that ends in"),
        ([], "give --tape or --synthetic"),
    ],
)
def test_wrong_options(options, said, capsys):
    """What cannot be played is an error in one line."""
    with pytest.raises(SystemExit):
        main(options)
    assert said in capsys.readouterr().err


def test_taken_port(market, capsys):
    """A port that is in use is an error in one line."""
    with pytest.raises(SystemExit):
        main(["--synthetic", "A=1", "--port", str(market.port)])
    assert "Address already in use" in capsys.readouterr().err
