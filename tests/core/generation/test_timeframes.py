"""A feature of another timeframe needs nothing in the catalog: what makes its bars is added, or the catalog is wrong."""

from types import SimpleNamespace

import pytest

from torghut_core import HOUR, MINUTE, Strategy, format_timestamp, hookimpl, param, parse_timestamp
from torghut_core.errors import CatalogError
from torghut_core.features import close, ema
from torghut_core.generation import build, validate
from torghut_core.plugin_host import PluginHost
from torghut_core.research import load_catalog, run_backtest, tape_generation
from torghut_core.stages import Stage

START = parse_timestamp("2024-06-05T13:30:00Z")
MINUTES = 7 * 60 - 30
CATALOG = """
version: 1
plugins: {allow: ["torghut-*"]}
pipelines:
  trading:
    source: {use: replay}
    stages: STAGES
    broker: {use: simulated}
INSTRUMENTS
strategies:
  - {name: trend, use: trend, base_timeframe: 1Min, symbols: [ACME], params: {PARAMS}}
"""
STAGES = "[{use: microbars, params: {max_out_of_order_ms: 5000}}, {use: indicators}]"


class Trend(Strategy):
    """Buys above an average of hours; keeps what it saw."""

    class Params(Strategy.Params):
        """Parameters of `Trend`."""

        timeframe: str = param("1Hour", help="of the average")
        span: int = param(2, help="of the average")

    seen: list[tuple[int, float, float]]

    def features(self):
        return {"trend": ema(close, self.params.span, timeframe=self.params.timeframe)}

    def on_signal(self, signal, context):
        self.seen.append((signal.event_ts, signal.close, signal.trend))
        return context.buy(1, because="above") if context.is_flat and signal.close > signal.trend else None


def host():
    """The installed plugins, and the strategy; with a list of its own of what it saw."""
    cls = type("Trend", (Trend,), {"__doc__": Trend.__doc__, "seen": []})

    @hookimpl
    def register_strategies(register):
        register("trend", cls)

    module = SimpleNamespace(__name__="trend", register_strategies=register_strategies)
    return PluginHost.load(("torghut-*",), extra=[("trend", module)]), cls.seen


def catalog(stages=STAGES, instruments="", params=""):
    text = CATALOG.replace("STAGES", stages).replace("INSTRUMENTS", instruments).replace("PARAMS", params)
    return load_catalog({"c.yaml": text})


def closes(minute):
    return 100 + (minute * 7919 % 101) / 100


@pytest.fixture(scope="module")
def tape(tmp_path_factory):
    """Seven hours of minutes: a session of New York and a little more."""
    rows = ["symbol,event_ts,open,high,low,close,volume"]
    for minute in range(MINUTES):
        price = closes(minute)
        rows.append(f"ACME,{format_timestamp(START + minute * MINUTE)},{price},{price},{price},{price},10")
    path = tmp_path_factory.mktemp("tape") / "minutes.csv"
    path.write_text("\n".join(rows))
    return path


def traded(tape, plugins, size=65_536, **given):
    return run_backtest(tape_generation(catalog(**given), [tape], plugins[0]), batch_size=size)


@pytest.mark.parametrize("size", [1, 97, 65_536])
def test_hours_are_made_where_no_stage_is_listed_for_them(tape, size):
    """The average of hours is that of their last minutes, known at their ends, and its bars are in the signal store."""
    plugins = host()
    done = traded(tape, plugins, size)
    ends = [minute for minute in range(MINUTES) if (START + (minute + 1) * MINUTE) % HOUR == 0]
    averages, value = {}, (closes(ends[0]) + closes(ends[1])) / 2
    for number, end in enumerate(ends[1:]):
        value += (closes(end) - value) * 2 / 3 if number else 0.0
        averages[START + end * MINUTE] = value
    seen = {event_ts: trend for event_ts, _, trend in plugins[1]}
    assert min(seen) == min(averages)  # the minute that ends with the second hour is the first with a value
    last = float("nan")
    for minute in range(ends[1], MINUTES):
        last = averages.get(START + minute * MINUTE, last)
        assert seen[START + minute * MINUTE] == pytest.approx(last, rel=1e-12)
    assert done.result.fills > 0
    assert {row["window_size"] for row in done.signals.bars().to_pylist()} == {"PT1H"}


def test_it_is_the_same_as_with_the_stage_in_the_catalog(tape):
    """Who lists the stage gets no second one, and the same decisions."""
    listed = (STAGES.replace("{use: indicators}", "STAGE, {use: indicators}")).replace(
        "STAGE", "{use: resample, params: {timeframes: [1Hour], max_out_of_order_ms: 5000}}"
    )
    alone, added = traded(tape, host(), stages=listed), traded(tape, host())
    assert [type(stage).__name__ for stage in alone.generation.stages] == ["Microbars", "Resample", "Indicators"]
    assert [type(stage).__name__ for stage in added.generation.stages] == ["Microbars", "Resample", "Indicators"]
    assert alone.result.digest == added.result.digest


def test_it_takes_over_how_late_events_may_be(tape):
    """With another watermark than that of the microbars it would refuse them."""
    stages = tape_generation(catalog(), [tape], host()[0]).stages
    assert stages[1].params.max_out_of_order_ms == stages[0].params.max_out_of_order_ms == 5000


def test_days_are_sessions(tape):
    """A day of an equity is known at the session's close: in the minute that ends at 20:00 UTC."""
    plugins = host()
    instruments = "instruments: {ACME: {asset_class: equity}}"
    traded(tape, plugins, instruments=instruments, params="timeframe: 1Day, span: 1")
    minute = plugins[1][0][0] - START
    assert START + minute + MINUTE == parse_timestamp("2024-06-05T20:00:00Z")


def test_no_stage_is_added_where_none_is_needed(tape):
    """A feature of the strategy's own timeframe leaves the pipeline as it is."""
    stages = tape_generation(catalog(params="timeframe: 1Min"), [tape], host()[0]).stages
    assert [type(stage).__name__ for stage in stages] == ["Microbars", "Indicators"]


def test_timeframe_that_no_loaded_stage_makes_is_a_problem_of_the_entry(tape):
    """The message has the timeframe, the file and the line, and what to do."""
    plugins, _ = host()
    for name in [name for name, plugin in plugins.registry["stage"].items() if plugin.cls.resamples]:
        del plugins.registry["stage"][name]
    (problem,) = validate(catalog(), plugins)
    assert str(problem).startswith("c.yaml:11:")
    assert "needs bars of 1Hour, which no loaded stage makes (install or allow a plugin" in str(problem)
    with pytest.raises(CatalogError, match="1Hour"):
        tape_generation(catalog(), [tape], plugins)


def test_what_trades_from_the_store_needs_the_bars_of_the_pipeline_that_derives():
    """Bars of the signal store are made elsewhere: where the catalog says where, it has to say this too."""
    stored = CATALOG.replace("use: replay", "use: clickhouse-signals").replace("STAGES", "[]")
    stored = stored.replace("INSTRUMENTS", "").replace("PARAMS", "")
    derived = "  ta:\n    source: {use: kafka}\n    stages: [{use: microbars}, RESAMPLE{use: indicators}]\nstrategies:"
    without, listed = (
        load_catalog({"c.yaml": stored.replace("strategies:", derived.replace("RESAMPLE", stage))})
        for stage in ("", "{use: resample, params: {timeframes: [1Min, 1Hour]}}, ")
    )
    (problem,) = validate(without, host()[0])
    assert "which pipelines.ta does not make (list it in a stage `resample` of pipelines.ta" in str(problem)
    assert validate(listed, host()[0]) == []


def test_reload_with_a_new_timeframe_says_that_it_needs_a_restart(tape):
    """Stages stay open: a timeframe that the run does not make is refused by name, and one that it makes is not."""
    plugins, _ = host()
    running = tape_generation(catalog(), [tape], plugins)
    again = build(running.catalog, plugins, previous=running)
    assert [id(stage) for stage in again.stages] == [id(stage) for stage in running.stages]
    edited = running.catalog.with_(strategies=catalog(params="timeframe: 1Day").strategies)
    with pytest.raises(CatalogError, match=r"bars of 1Day, which this run does not make \(restart it"):
        build(edited, plugins, previous=running)


def test_added_stage_stays_while_nothing_needs_it(tape):
    """A feature that is taken out and put back finds its bars made all the time."""
    plugins, _ = host()
    running = tape_generation(catalog(), [tape], plugins)
    edited = running.catalog.with_(strategies=catalog(params="timeframe: 1Min").strategies)
    without = build(edited, plugins, previous=running)
    assert without.stages[1] is running.stages[1]
    assert build(running.catalog, plugins, previous=without).stages[1] is running.stages[1]


def test_stages_that_resample_say_so():
    """The kernel knows no plugin by its name."""
    assert Stage.resamples is False
