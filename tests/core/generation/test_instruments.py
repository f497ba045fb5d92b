"""What the catalog says of instruments: which calendar each plugin gets, and which symbols have none."""

from decimal import Decimal

import pytest

from torghut_core import CatalogError, Instrument
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


def test_terms_that_an_entry_does_not_state_are_those_of_its_class(host):
    """An equity has cents, a future whole contracts, and a pair is crypto; of any other symbol nothing is known."""
    entries = """{
      AAPL: {asset_class: equity}, SPY: {asset_class: equity, calendar: XLON, tick_size: 0.05, adjusted: true},
      "E*": {asset_class: future, calendar: CMES, tick_size: "0.25", multiplier: 50, margin: 0.05, currency: USD},
      "ETH/*": {asset_class: crypto, min_quantity: "0.001", min_notional: 10}}"""
    terms = build(catalog(" ".join(entries.split())), host).instruments
    assert terms["AAPL"] == Instrument(asset_class="equity", calendar="XNYS", tick_size=Decimal("0.01"))
    assert terms["SPY"] == Instrument(asset_class="equity", calendar="XLON", tick_size=Decimal("0.05"), adjusted=True)
    assert terms["ES"] == Instrument(
        asset_class="future",
        calendar="CMES",
        currency="USD",
        tick_size=Decimal("0.25"),
        quantity_step=Decimal(1),
        multiplier=Decimal(50),
        margin=Decimal("0.05"),
    )
    assert terms["ETH/USD"] == Instrument(asset_class="crypto", min_quantity=Decimal("0.001"), min_notional=Decimal(10))
    assert (terms["BTC/USD"], terms["ANY"]) == (Instrument(asset_class="crypto"), Instrument())
    assert terms["ES"] is terms["ES"]


def test_a_simulated_broker_gets_multipliers_and_margins(host):
    """By symbol before patterns, behind its own; none where all are 1."""
    made = build(
        catalog('{"*": {calendar: 24/7}, ES: {asset_class: future, calendar: CMES, multiplier: 50, margin: 0.05}}'),
        host,
    )
    assert made.broker.params.multipliers == {"ES": 50, "*": 1}
    assert made.broker.params.margins == {"ES": Decimal("0.05"), "*": 1}
    assert list(made.broker.params.multipliers) == ["ES", "*"]
    assert build(catalog("{ES: {calendar: CMES}}"), host).broker.params.multipliers == {}


@pytest.mark.parametrize(("broker", "currency"), [("simulated", "EUR"), ("alpaca", "GBP")])
def test_an_instrument_in_another_currency_than_the_accounts_is_an_error_at_its_place(host, broker, currency):
    """An account has one currency, and the error says what to do."""
    found = catalog(f"{{ES: {{calendar: CMES, currency: {currency}}}}}", broker=broker)
    (problem,) = validate(found, host)
    assert (problem.key, problem.line) == ("instruments.ES.currency", 8)
    assert problem.message == f"is {currency}, and the account's is USD"
    assert "leave ES out" in problem.hint
    with pytest.raises(CatalogError):
        build(found, host)


def test_an_account_in_another_currency_trades_what_is_priced_in_it(host):
    """The parameter `currency` of the simulated broker says what the account has."""
    text = CATALOG.format(
        instruments="{ES: {calendar: CMES, currency: EUR}}", symbols="[ES]", source="replay", broker="simulated",
        own="", hours="",
    ).replace("{use: simulated}", "{use: simulated, params: {currency: EUR}}")  # fmt: skip
    assert validate(catalogs.load({"c.yaml": text}), host) == []


@pytest.mark.parametrize("terms", ["tick_size: 0", "multiplier: -1", "margin: 1.5", "quantity_step: .nan"])
def test_terms_that_make_no_sense_are_errors(terms):
    """Sizes are above zero, and a margin is at most 1."""
    with pytest.raises(CatalogError) as caught:
        catalog(f"{{ES: {{calendar: CMES, {terms}}}}}")
    assert caught.value.problems[0].key == f"instruments.ES.{terms.partition(':')[0]}"
