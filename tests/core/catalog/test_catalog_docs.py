"""docs/catalog.md has a table of every key, made from the model. To renew it: python tests/core/catalog/test_catalog_docs.py"""

import json

import pytest

from support.docs import DOCS, ROOT, blocks_of, code_of, has_blocks
from support.docs import table as markdown
from torghut_core.catalog import json_schema, load, read

PAGE = DOCS / "catalog.md"


def kind(field):
    """What a value may be, in words."""
    if "$ref" in field:
        return {"Use": "a use", "Pipeline": "a pipeline", "StrategyEntry": "a strategy", "Plugins": "a map"}[
            field["$ref"].rpartition("/")[2]
        ]
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    if "anyOf" in field:
        bounds = next(option for option in field["anyOf"] if option["type"] == "number")
        return f"decimal above 0{', up to 1' if bounds.get('maximum') == 1 else ''}"
    if field["type"] == "array":
        return "list of " + {"a use": "uses", "a strategy": "strategies", "text": "text"}[kind(field["items"])]
    if field["type"] == "object":
        [(_, inner)] = field.get("patternProperties", {"": None}).items()
        return f"map of {inner['$ref'].rpartition('/')[2].removesuffix('Entry').lower()}s" if inner else "map"
    if field["type"] == "integer":
        return f"whole number from {field['minimum']}"
    return {"string": "text", "boolean": "`true`, `false`"}[field["type"]]


def default(key, model):
    if key in model.get("required", ()):
        return "must be given"
    value = model["properties"][key].get("default")
    return "none" if value is None else f"`{json.dumps(value)}`"


def table(name):
    """The keys of one model, a row each."""
    schema = json_schema()
    model = schema if name == "Catalog" else schema["$defs"][name]
    rows = (
        (f"`{key}`", kind(field), default(key, model), field["description"])
        for key, field in model["properties"].items()
    )
    return markdown(("key", "value", "default", "meaning"), *rows)


def test_page_has_the_tables_of_the_model():
    """Every key of every part of the catalog is on the page, with its values, default and meaning."""
    names = {"Catalog", *json_schema()["$defs"]}
    assert blocks_of(PAGE).keys() == names
    has_blocks(PAGE, {name: table(name) for name in names})


def test_example_of_the_page_is_a_catalog():
    """The page's first example loads as it stands."""
    [example] = code_of(PAGE, "yaml")
    assert [entry.name for entry in load({"page": example}).strategies] == ["macd-rsi-es"]


@pytest.mark.parametrize("key", ["strategies", "risk"])
def test_example_catalog_loads(key):
    """The catalog that comes with torghut is one, and shows strategies and rules."""
    assert getattr(load(read(ROOT / "catalog" / "trading.yaml")), key)
