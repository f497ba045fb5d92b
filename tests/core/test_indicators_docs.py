"""docs/features-indicators.md has every indicator that comes with Torghut. To renew: make docs"""

from xml.etree import ElementTree as ET

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from support.docs import DOCS, IS_RENEWED, blocks_of, code_of, has_blocks, text_of
from support.indicators import made as indicator
from support.indicators import values
from support.pictures import picture, tape_bars
from torghut_core import features
from torghut_core.cli.render import counted
from torghut_core.feature_graph import Planner
from torghut_core.feature_graph.listing import describe_indicator, parameter_text
from torghut_core.model.market import TIMEFRAMES
from torghut_core.plugin_host import PluginHost

PAGE = DOCS / "features-indicators.md"
PICTURES = DOCS / "images" / "indicators"
WITHOUT = ("microprice", "quote-imbalance")
"""The demo's tape has no quotes."""
EXAMPLES = {
    "beta": ("beta(close, close.shift(1), span=20)", {"span": 20}),
    "correlation": ("correlation(close, volume, span=30)", {"span": 30}),
    "percent-rank": ("percent_rank(span=40)", {"span": 40}),
    "vwap-anchored": ("vwap_anchored(high >= highest(high, 60))", {}),
}
"""What is drawn, where it is not the indicator with its defaults."""
INDICATORS = [describe_indicator(plugin) for _, plugin in sorted(PluginHost.load().registry["indicator"].items())]
NAMES = [each["name"] for each in INDICATORS]


def section(each):
    """What the page says of an indicator."""
    name, gives = each["name"], each["outputs"]
    about, _, source = each["about"].replace("``", "`").partition("\nSource: ")
    warmup = indicator(name).warmup
    lines = [f"### {name}\n", f"```python\n{each['call']}\n```\n", about.strip() + "\n"]
    if len(gives) > 1:
        lines.append("It gives " + ", ".join(f'`["{output}"]`' for output in gives) + ".\n")
    lines += [
        "\n".join(f"- `{name}`: {parameter_text(schema)}" for name, schema in each["parameters"].items()) + "\n"
    ] * (len(each["parameters"]) > 0)
    lines.append(f"Known after {counted(warmup, 'bar')} of its inputs. Source: {source}\n")
    if name not in WITHOUT:
        if name in EXAMPLES:
            lines.append(f"The picture shows `{EXAMPLES[name][0]}`.\n")
        lines.append(f"![{name}](images/indicators/{name}.svg)\n")
    return "\n".join(lines)


def test_the_page_has_every_indicator():
    """Call, meaning, parameters with bounds and units, outputs, source."""
    index = ", ".join(f"[`{name}`](#{name})" for name in NAMES) + "\n"
    made = {"indicators": index, "sections": "\n".join(map(section, INDICATORS))}
    has_blocks(PAGE, made)
    assert set(blocks_of(PAGE)) == set(made)


class Names(dict):
    """What the page writes without importing it."""

    def __missing__(self, name):
        return getattr(features, name)


def test_features_on_the_page_can_be_had():
    """Its example is one of a strategy, and what it says of pictures is a feature too."""
    (code,) = code_of(PAGE, "python")[:1]
    names = {}
    exec(code, names)
    shown = {f"shown_{i}": eval(example, Names()) for i, (example, _) in enumerate(EXAMPLES.values())}
    host = PluginHost.load()
    planner = Planner(lambda name: host.resolve("indicator", name))
    planner.add("a", names["features"](None) | shown, TIMEFRAMES["1Min"], ["ES"])
    assert planner.plan.wanted["a"].memory >= 50 * 60


def drawn(name):
    bars = tape_bars()
    bars |= {"first": bars["close"], "second": bars["volume"], "price": bars["close"]}
    bars["market"] = np.concatenate([[np.nan], bars["close"][:-1]])
    tops = sliding_window_view(bars["high"], 60).max(axis=1)
    bars["anchor"] = np.append(np.full(59, np.nan), bars["high"][59:] >= tops)
    params = EXAMPLES.get(name, ("", {}))[1]
    return picture(bars, dict(zip(indicator(name).outputs, values(name, params, **bars), strict=True)))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in WITHOUT])
@pytest.mark.parametrize("is_drawn", [pytest.param(True, marks=[] if IS_RENEWED else [pytest.mark.proof]), False])
def test_the_page_has_a_picture(name, is_drawn):
    """Each is drawn of the demo's tape, small, and there; that it is still what the code gives is one of the long proofs."""
    path = PICTURES / f"{name}.svg"
    if is_drawn and IS_RENEWED:
        path.write_text(drawn(name), encoding="utf-8")
    text = text_of(path)
    assert ET.fromstring(text).tag.endswith("svg")
    assert len(text) < 10_000
    if is_drawn:
        assert text == drawn(name), f"{name}.svg is not what the code gives (run: make docs)"


def test_the_page_has_no_picture_of_what_is_gone():
    assert {path.stem for path in PICTURES.iterdir()} == set(NAMES) - set(WITHOUT)
