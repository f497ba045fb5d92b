"""A replay reads tapes and simulates fills, whatever the catalog names."""

import pytest

from torghut_core import Broker, Source
from torghut_core.catalog import load
from torghut_core.errors import InputError
from torghut_core.generation import tape_source, use_tapes
from torghut_core.plugin_host import PluginHost

FULL = """\
version: 1
pipelines:
  trading:
    source: {use: replay, params: {paths: [tape.parquet], speed: max}}
    stages: [{use: microbars}]
    broker: {use: simulated, params: {cash: 2500.50}}
"""
LIVE = FULL.replace("replay, params: {paths: [tape.parquet], speed: max}", "feed").replace(
    "simulated, params: {cash: 2500.50}", "venue"
)


class Feed(Source):
    async def batches(self, size):
        return
        yield


def make_host(plugin_module, fake_classes, **others):
    """The fakes with a live source and broker beside them."""
    venue = fake_classes["register_brokers"]["simulated"]
    live: type[Broker] = type("Live", (venue,), {"capabilities": type(venue.capabilities)(frozenset(), frozenset())})
    hooks = fake_classes | {
        "register_sources": {"feed": Feed, **fake_classes["register_sources"]},
        "register_brokers": {"venue": live, **fake_classes["register_brokers"]},
    }
    return PluginHost([("fakes", plugin_module("fakes", hooks | others))])


def trading(catalog):
    return catalog.pipelines["trading"]


def test_tapes_and_a_simulated_broker_take_the_place_of_live_ones(plugin_module, fake_classes):
    """The plugins that say so of themselves are used; the catalog that was given stays as it is, and its stages too."""
    catalog = load({"c.yaml": LIVE})
    replayed = trading(use_tapes(catalog, make_host(plugin_module, fake_classes), {"paths": ["a.parquet"]}))
    assert (replayed.source.use, replayed.source.params) == ("replay", {"paths": ("a.parquet",)})
    assert (replayed.broker.use, replayed.broker.params) == ("simulated", {})
    assert replayed.stages == trading(catalog).stages
    assert trading(catalog).source.use == "feed"


def test_recorded_source_and_simulated_broker_stay_with_their_parameters(fakes):
    """Parameters of the source that the command does not give stay as the catalog has them."""
    catalog = load({"c.yaml": FULL})
    replayed = use_tapes(catalog, fakes, {"speed": "1"})
    assert trading(replayed).source.params == {"paths": ("tape.parquet",), "speed": "1"}
    assert trading(replayed).broker == trading(catalog).broker
    assert replayed.digest != catalog.digest
    assert replayed.marks is catalog.marks
    assert use_tapes(catalog, fakes, {}) == catalog


def test_any_source_that_reads_tapes_will_do(plugin_module, fake_classes):
    """No name counts: a third party's source of tapes stays where the catalog names it."""
    tape = fake_classes["register_sources"]["replay"]
    host = make_host(plugin_module, fake_classes, register_sources={"replay": tape, "their-tapes": tape})
    catalog = load({"c.yaml": FULL.replace("use: replay", "use: their-tapes")})
    assert trading(use_tapes(catalog, host, {})).source.use == "their-tapes"
    assert tape_source(host) == "replay"


def test_without_a_source_of_tapes_nothing_live_is_replayed(plugin_module, fake_classes):
    """A replay never falls back to a live source or a real venue."""
    host = make_host(plugin_module, fake_classes, register_sources={"feed": Feed})
    with pytest.raises(InputError, match="no loaded source reads tapes"):
        use_tapes(load({"c.yaml": LIVE}), host, {})
    with pytest.raises(InputError, match="no loaded source reads tapes"):
        tape_source(host)


def test_catalog_without_a_trading_pipeline_stays_as_it_is(fakes):
    """There is nothing to replay, which building it says."""
    catalog = load({"c.yaml": "version: 1\n"})
    assert use_tapes(catalog, fakes, {"paths": ["a.parquet"]}) is catalog
