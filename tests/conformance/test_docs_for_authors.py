"""What the documents for authors say is what there is: their code runs, their tables are the code's."""

import inspect
import re

import pytest
import torghut_risk
import torghut_strategies
import yaml
from torghut_testing import registered

from support.docs import DOCS, ROOT, code_of, passes, text_of
from torghut_core import features
from torghut_core.errors import InputError
from torghut_core.research import FeatureRows

TEMPLATES = ROOT / "authoring_kit" / "torghut_testing" / "templates"
NAMED_BLOCK = re.compile(r"^`([\w./]+)`:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)

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


@pytest.mark.parametrize(
    "name",
    [
        "any/pyproject.toml",
        *(f"strategy/{name}" for name in ("acme_alpha/__init__.py", "tests/test_acme_alpha.py", "catalog.yaml")),
    ],
)
def test_page_shows_what_new_makes(name):
    """What a reader of the page sees is what `torghut new strategy acme-alpha` writes."""
    shown = named_blocks("write-a-strategy.md")[name.partition("/")[2]]
    assert (TEMPLATES / name).read_text(encoding="utf-8") == shown


def test_strategy_of_the_document_fits_on_a_screen():
    """The page promises little code, and keeps to it."""
    assert len(named_blocks("write-a-strategy.md")["acme_alpha/__init__.py"].splitlines()) <= 45


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
