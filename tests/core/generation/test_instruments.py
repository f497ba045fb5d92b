"""What the catalog says of instruments: which calendar each plugin gets, and which symbols have none."""

import pytest

from torghut_core import CatalogError
from torghut_core import catalog as catalogs
from torghut_core.generation import build, catalog_warnings, use_tapes, validate
from torghut_core.plugin_host import PluginHost

CATALOG = """
version: 1
pipelines:
  trading:
    source: {{use: {source}}}
    stages: [{{use: resample, params: {{timeframes: [1Day]{own}}}}}, {{use: indicators}}]
    broker: {{use: {broker}}}
instruments: {instruments}
risk: [{{use: market-hours, params: {{{hours}}}}}]
strategies: [{{name: s, use: buy-and-hold, base_timeframe: 1Min, symbols: {symbols}}}]
"""


@pytest.fixture(scope="module")
def host():
    return PluginHost.load()


def catalog(instruments="{}", symbols="[ES]", source="replay", broker="simulated", own="", hours=""):
    text = CATALOG.format(instruments=instruments, symbols=symbols, source=source, broker=broker, own=own, hours=hours)
    return catalogs.load({"c.yaml": text})


def calendars(generation):
    """The calendars of the stages, of the source and of the broker."""
    parts = (*generation.stages, generation.source, generation.broker)
    return [dict(part.params.calendars) for part in parts]


def test_every_part_gets_the_calendars_of_the_instruments(host):
    """By symbol before patterns, long patterns before short ones, and behind what an entry says itself."""
    made = build(
        catalog(
            '{"*": {calendar: 24/7}, "E*": {calendar: XLON}, ES: {asset_class: future, calendar: CMES}, AAPL: {asset_class: equity}}',
            own=", calendars: {ES: XNYS}",
        ),
        host,
    )
    resample, indicators, source, broker = calendars(made)
    of_instruments = [("AAPL", "XNYS"), ("ES", "CMES"), ("E*", "XLON")]
    assert list(resample.items())[:2] == [("ES", "XNYS"), ("AAPL", "XNYS")]
    for each in (indicators, source, broker):
        assert list(each.items())[:3] == of_instruments
        assert each["*"] == "24/7"


def test_a_symbol_that_is_no_instrument_trades_round_the_clock_with_a_warning(host):
    """On a tape it has days of UTC, and the catalog is valid."""
    found = catalog(symbols='[ES, BTC-PERP, "BTC/USD", AAPL]', instruments="{AAPL: {asset_class: equity}}")
    assert validate(found, host) == []
    assert [text.split(": ")[2].split()[0] for text in catalog_warnings(found, host)] == ["ES", "BTC-PERP"]
    assert calendars(build(found, host))[1] == {"AAPL": "XNYS", "*/*": "24/7", "*": "24/7"}


@pytest.mark.parametrize("known", ['instruments: {"E*": {calendar: CMES}}', "own: , calendars: {ES: CMES}"])
def test_a_symbol_that_has_a_calendar_anywhere_gives_no_warning(host, known):
    """The instruments, or the parameter of a stage, say enough."""
    name, _, value = known.partition(": ")
    assert catalog_warnings(catalog(**{name: value}), host) == []


def test_a_venue_knows_its_symbols_and_a_replay_of_its_catalog_too(host):
    """At Alpaca a symbol without a slash is an equity of New York, live and on a tape alike."""
    found = catalog(symbols="[AAPL]", source="alpaca", broker="alpaca")
    assert validate(found, host) == catalog_warnings(found, host) == []
    replayed = build(use_tapes(found, host, {"paths": ["a.parquet"]}), host)
    for each in calendars(replayed):
        assert list(each.items())[:2] == [("*/*", "24/7"), ("*", "XNYS")]


@pytest.mark.parametrize("is_replayed", [False, True])
def test_the_calendar_that_a_rule_states_comes_before_that_of_the_venue(host, is_replayed):
    """`market-hours` with a `calendar` of its own goes by it at Alpaca too; without one by the venue's."""
    for hours, expected in (("calendar: XLON", None), ("", "XNYS")):
        found = catalog(symbols="[AAPL]", source="alpaca", broker="alpaca", hours=hours)
        (_, rule), *_ = build(use_tapes(found, host, {"paths": ["a.parquet"]}) if is_replayed else found, host).rules
        assert rule.params.calendars.get("*") == expected


def test_a_symbol_without_a_calendar_is_an_error_at_a_venue_that_does_not_list_it(host, monkeypatch):
    """It is not known when it trades, so it is not traded there."""
    monkeypatch.setattr(host.registry["broker"]["alpaca"].cls, "venue_calendars", {})
    found = catalog(symbols='[AAPL, "BTC/USD"]', broker="alpaca")
    (problem,) = validate(found, host)
    assert (problem.key, problem.line) == ("strategies[0].symbols", 10)
    assert problem.message.startswith("it is not known when AAPL trades")
    assert validate(catalog("{AAPL: {asset_class: equity}}", "[AAPL]", broker="alpaca"), host) == []


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("{ES: {}}", "has no calendar"),
        ("{ES: {asset_class: future}}", "has no calendar"),
        ("{ES: {calendar: CMEX}}", "no calendar of exchange_calendars"),
        ("{ES: {calender: CMES}}", "'calendar'"),
        ("{es: {calendar: CMES}}", "not a symbol, or a pattern of symbols"),
    ],
)
def test_what_is_wrong_is_said_at_its_place(wrong, says):
    """A calendar that is missing or misspelled, and keys that are unknown."""
    with pytest.raises(CatalogError) as caught:
        catalog(wrong)
    (problem,) = caught.value.problems
    assert problem.line == 8
    assert says in str(problem)


def test_the_order_of_the_instruments_changes_nothing():
    """The digest and the calendars are the same in any order of the file."""
    entries = ['"*": {calendar: 24/7}', '"E?": {calendar: XLON}', "ES: {calendar: CMES}", '"*X": {calendar: XTKS}']
    found = [catalog("{" + ", ".join(entries[number:] + entries[:number]) + "}") for number in range(len(entries))]
    assert len({each.digest for each in found}) == 1
    assert len({tuple(each.calendars.items()) for each in found}) == 1
