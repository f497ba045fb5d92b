"""What the documents for authors say is what there is: their code runs, their tables are the code's."""

import inspect
import json
import re

import numpy as np
import pytest
import torghut_risk
import torghut_strategies
import yaml
from torghut_testing import registered

from support.docs import DOCS, ROOT, code_of, passes, text_of
from support.processes import run
from torghut_core import MINUTE, features, format_timestamp, parse_timestamp
from torghut_core.errors import InputError
from torghut_core.research import FeatureRows

TEMPLATE = ROOT / "authoring_kit" / "template"
NAMED_BLOCK = re.compile(r"^`([\w.]+)`:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)

BUILT_IN = [
    pytest.param(document, cls, name, id=name)
    for document, module, hook in (
        ("strategies.md", torghut_strategies, "register_strategies"),
        ("risk.md", torghut_risk, "register_risk_rules"),
    )
    for name, cls in registered(module, hook).items()
]


def named_blocks(document):
    return dict(NAMED_BLOCK.findall(text_of(DOCS / document)))


IDEAS = ("features.md", "timeframes.md", "portfolios.md", "own-indicator.md", "handlers.md", "decide.md")
"""A page for each idea of what a strategy may see."""


@pytest.mark.parametrize("document", ["write-a-strategy.md", "risk.md", *IDEAS])
def test_code_of_the_document_passes_its_tests(document, tmp_path):
    """A reader who copies the files and runs pytest sees green."""
    assert " passed" in passes(tmp_path, **named_blocks(document))


@pytest.mark.parametrize("name", sorted(path.name for path in TEMPLATE.iterdir() if path.is_file()))
def test_template_is_what_the_document_shows(name):
    """Copying the template and copying from the page is the same."""
    assert (TEMPLATE / name).read_text(encoding="utf-8") == named_blocks("write-a-strategy.md")[name]


def test_strategy_of_the_document_fits_on_a_screen():
    """The page promises little code, and keeps to it."""
    assert len(named_blocks("write-a-strategy.md")["acme_alpha.py"].splitlines()) <= 45


def test_strategy_of_the_document_trades(tmp_path):
    """With the package installed as the page says, its commands list the plugin, take the catalog and trade a tape."""
    blocks = named_blocks("write-a-strategy.md")
    for name in ("acme_alpha.py", "my.yaml"):
        (tmp_path / name).write_text(blocks[name], encoding="utf-8")
    installed = tmp_path / "acme_alpha-0.1.0.dist-info"  # what pip leaves behind
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-alpha\nVersion: 0.1.0\n", encoding="utf-8")
    (installed / "entry_points.txt").write_text("[torghut]\nacme-alpha = acme_alpha\n", encoding="utf-8")
    prices = 1640 + (np.cumsum(np.random.default_rng(3).normal(0, 1, 2_000)) * 4).round() / 4
    times = [format_timestamp(parse_timestamp("2026-01-06T00:00:00Z") + n * MINUTE) for n in range(len(prices))]
    rows = [f"ES,{moment},{price:.2f},1" for moment, price in zip(times, prices, strict=True)]
    (tmp_path / "tape.csv").write_text("\n".join(["symbol,event_ts,price,size", *rows]), encoding="utf-8")

    def torghut(*arguments):
        done = run(*arguments, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "acme-breakout" in torghut("plugin", "list")
    assert "valid" in torghut("catalog", "validate", "my.yaml")
    result = json.loads(torghut("replay", "tape.csv", "--catalog", "my.yaml", "--json"))
    assert result["fills"] > 0


@pytest.mark.parametrize("document", ["strategies.md", "risk.md", "write-a-strategy.md"])
def test_plugins_in_the_document_s_catalogs_exist(document):
    """Every strategy and rule that an example uses is registered, and takes the parameters that it is given."""
    plugins = {name: cls for _, cls, name in (case.values for case in BUILT_IN)}
    for block in code_of(DOCS / document, "yaml"):
        catalog = yaml.safe_load(block)
        for entry in [*catalog.get("strategies", []), *catalog.get("risk", [])]:
            if not entry["use"].startswith("acme-"):
                plugins[entry["use"]].Params(**entry.get("params", {}))


@pytest.mark.parametrize(("document", "cls", "name"), BUILT_IN)
def test_document_says_what_the_code_says(document, cls, name):
    """The section of a plugin holds its docstring and a line for each parameter, with default and bounds."""
    text = text_of(DOCS / document)
    section = re.split(r"^## ", text.split(f"## `{name}`\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    prose, _, table = section.partition("| parameter |")
    stated = re.sub(r"Notes\s+-+", "", inspect.cleandoc(cls.__doc__))
    assert words(prose.replace("No parameters.", "")) == words(stated)
    lines = [line for line in table.splitlines()[2:] if line]
    assert lines == [
        f"| `{field}` | {default(info)} | {bounds(cls, field)} | {info.description} |"
        for field, info in cls.Params.model_fields.items()
    ]


def words(text):
    return re.sub(r"[`*]|^- ", "", text, flags=re.MULTILINE).split()


def default(info):
    if info.is_required():
        return "required"
    if info.default is None:
        return "null"
    return str(info.default).lower() if isinstance(info.default, bool) else str(info.default)


def bounds(cls, field):
    schema = cls.Params.model_json_schema()["properties"][field]
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    return ", ".join(
        f"{sign} {part[key]:g}"
        for part in [schema, *schema.get("anyOf", [])]
        for key, sign in signs.items()
        if key in part
    )


ERRORS = [
    (written, message)
    for cell, message in re.findall(
        r"^\| (`.+?`) \| (.+) \|$", text_of(DOCS / "features.md").split("<!-- errors -->")[1], re.MULTILINE
    )
    for written in re.findall(r"`(.+?)`", cell)
]


@pytest.mark.parametrize(("written", "message"), ERRORS, ids=[written for written, _ in ERRORS])
def test_wrong_names_get_the_errors_of_the_page(written, message):
    """What is wrong with a feature says what there is instead."""
    names = {name: getattr(features, name) for name in set(re.findall(r"[a-z]+", written)) - {"and"}}
    with pytest.raises((InputError, ValueError, TypeError)) as caught:
        FeatureRows({"it": eval(written, {}, names)}, ["ES"], "1Min")
    assert message.replace("\\|", "|") in str(caught.value)
