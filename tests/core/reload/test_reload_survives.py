"""Whatever value a field of the catalog gets, the reload says what is wrong or applies it, and trading goes on."""

import random

import pytest

from support.effort import many

HEAD = """
version: 1
{top}
pipelines:
  trading:
    source: {{use: replay}}
    stages: [{{use: microbars}}]
    broker: {{use: simulated, params: {{latency_ms: {latency}}}}}
strategies:
  - {{name: steady, use: flip, base_timeframe: 1Min, symbols: [ES]}}
"""
FIELDS = (
    *("name", "use", "version", "enabled", "base_timeframe", "symbols", "max_notional_per_trade", "on_remove"),
    *("max_position_pct_equity", "cooldown_seconds", "quantity", "every", "warmup", "fail", "last", "top", "latency"),
)
VALUES = (
    *(
        "90_",
        "1__000",
        "1_000",
        "010",
        "1:30",
        "-1",
        "0",
        "1.5",
        "29999999999999999999999999999",
        "9" * 31,
        "9" * 5_000,
    ),
    *(
        "1.0e+999999999",
        "1.0e-999999999",
        '"1e+999999999"',
        '"1e-999999999"',
        '"9e29"',
        ".inf",
        ".nan",
        '"inf"',
        '"NaN"',
    ),
    *(
        '"\\U00110000"',
        '"\\UFFFFFFFF"',
        '"\\ud800"',
        '"\\0"',
        '"\x85"',
        "~",
        "",
        "yes",
        "[]",
        "{}",
        "[[[1]]]",
        "{a: {b: 1}}",
    ),
    *(
        "&a 1",
        "*a",
        "!!int 1",
        "!!python/object:os.system x",
        "<<: 1",
        "2026-01-05",
        "2026-99-99",
        "0x1F",
        "[" * 40,
        "'",
    ),
    *(
        '">=' + "9" * 5_000 + '"',
        '"' + "x" * 10_000 + '"',
        "@",
        "`",
        "|-2\n x",
        "? a",
        "- a",
        "\t1",
        "[" + "1," * 500 + "]",
    ),
)
PARAMS = ("quantity", "every", "warmup", "fail", "last")


def text_of(field="", value=""):
    """A catalog in which one field has this value."""
    entry = {"name": "odd", "use": "flip", "base_timeframe": "1Min", "symbols": "[ES]"}
    params = {field: value} if field in PARAMS else {}
    if field not in ("", "top", "latency", *PARAMS):
        entry[field] = value
    fields = ", ".join(f"{key}: {each}" for key, each in entry.items())
    given = ", ".join(f"{key}: {each}" for key, each in params.items())
    head = HEAD.format(top=f"mode: {value}" if field == "top" else "", latency=value if field == "latency" else 0)
    return f"{head}  - {{{fields}, params: {{{given}}}}}\n"


@pytest.mark.examples
def test_any_value_in_any_field_leaves_what_trades_trading(live_of):
    """The steady strategy decides after each reload, and the catalog without a slip is applied in the end."""
    loop = live_of(text_of())
    pairs = [(field, value) for field in FIELDS for value in VALUES]
    random.Random(12).shuffle(pairs)
    for field, value in pairs[: many(len(pairs), 150)]:
        loop.apply(text_of(field, value))
        loop.trade(1)
        assert loop.engine.roster.states()["steady"] == "trading", (field, value)
    assert loop.apply(text_of()).is_good
    before = len(loop.decisions("steady"))
    loop.trade(3)
    assert len(loop.decisions("steady")) > before
