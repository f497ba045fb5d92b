"""A reverse split in raw prices turned a loss into a profit, and nothing was said."""

import pytest

from torghut_core.cli.render import print_summary
from torghut_core.research import load_catalog, run_backtest, tape_generation

CATALOG = """
version: 1
pipelines:
  trading:
    source: {use: replay}
    stages: [{use: indicators}]
    broker: {use: simulated}
strategies:
  - {name: hold, use: buy-and-hold, base_timeframe: 1Day, symbols: [ACME], params: {quantity: "100"}}
"""
BARS = """symbol,event_ts,open,high,low,close,volume
ACME,2024-06-04T04:00:00Z,10,10,10,10,1000
ACME,2024-06-05T04:00:00Z,10,10,9.9,9.9,1000
ACME,2024-06-06T04:00:00Z,198,198,196,196,1000
ACME,2024-06-07T04:00:00Z,196,199,195,199,1000
"""


@pytest.mark.parametrize("size", [1, 65_536])
def test_a_split_is_said_and_nothing_is_adjusted(tmp_path, size, capsys):
    """The result, the summary and the log name the day and the ratio; the position stays what it was."""
    tape = tmp_path / "bars.csv"
    tape.write_text(BARS)
    done = run_backtest(tape_generation(load_catalog({"c.yaml": CATALOG}), [tape]), batch_size=size)
    (jump,) = done.jumps
    assert jump.startswith("ACME 9.9 -> 196 at 2024-06-06T04:00:00Z (19.8 for 1): a split")
    assert done.positions["hold", "ACME"].quantity == 100
    print_summary(done, tmp_path, None)
    shown = capsys.readouterr()
    assert "ACME 9.9 -> 196" in shown.out.replace("\n", " ")
