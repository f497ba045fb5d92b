"""What of a day's tapes is in a simulation."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from torghut_core.plugin_host import PluginHost
from torghut_core.research.simulation.dataset import take_dump
from torghut_core.research.simulation.manifest import load_manifest
from torghut_core.research.simulation.plan import make_plan
from torghut_core.timestamps import MINUTE, parse_timestamp

OPENS = parse_timestamp("2026-01-05T14:30:00Z")
CATALOG = """
version: 1
pipelines:
  trading: {source: {use: replay, params: {bar_step: 1Min}}, stages: [{use: indicators}], broker: {use: simulated}}
strategies:
  - {name: cross, use: ema-cross, base_timeframe: 1Min, symbols: [SPY]}
"""
MANIFEST = """
dataset_id: bars
catalog: catalog.yaml
tapes: [bars.parquet]
window: {trading_day: 2026-01-05}
runtime: {output_root: out}
"""


@pytest.mark.parametrize(("bars", "covered"), [(390, 390), (389, 389)])
def test_a_session_of_bars_is_whole(tmp_path, bars, covered):
    """Its last bar too, which is known at the very end of the window."""
    times = pa.array([OPENS + minute * MINUTE for minute in range(bars)]).cast(pa.timestamp("ns", "UTC"))
    prices = {name: [100.0] * bars for name in ("open", "high", "low", "close", "volume")}
    pq.write_table(pa.table({"symbol": ["SPY"] * bars, "event_ts": times, **prices}), tmp_path / "bars.parquet")
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    (tmp_path / "day.yaml").write_text(MANIFEST)
    host = PluginHost.load(["torghut-*"])
    plan = make_plan(load_manifest(tmp_path / "day.yaml"), host)
    plan.folder.mkdir(parents=True)
    dump = take_dump(plan, host, plan.window)
    assert (dump.records, dump.covered_minutes, dump.minutes) == (bars, covered, 390)
