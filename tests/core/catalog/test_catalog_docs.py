"""docs/catalog.md has a table of every key, made from the model. To renew it: python tests/core/catalog/test_catalog_docs.py"""

import json
import re
from pathlib import Path

import pytest

from torghut_core.catalog import json_schema, load, read

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "catalog.md"
BLOCK = re.compile(r"(<!-- table: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


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
        return "map of pipelines" if "patternProperties" in field else "map"
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
    rows = [
        f"| `{key}` | {kind(field)} | {default(key, model)} | {field['description']} |\n"
        for key, field in model["properties"].items()
    ]
    return "".join(["| key | value | default | meaning |\n| --- | --- | --- | --- |\n", *rows])


def renewed(page):
    return BLOCK.sub(lambda block: f"{block[1]}{table(block[2])}{block[4]}", page)


def test_page_has_the_tables_of_the_model():
    """Every key of every part of the catalog is on the page, with its values, default and meaning."""
    page = PAGE.read_text(encoding="utf-8")
    assert {block[2] for block in BLOCK.finditer(page)} == {"Catalog", *json_schema()["$defs"]}
    assert page == renewed(page), f"renew {PAGE.name}: python tests/core/catalog/{Path(__file__).name}"


def test_example_of_the_page_is_a_catalog():
    """The page's first example loads as it stands."""
    [example] = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert [entry.name for entry in load({"page": example}).strategies] == ["macd-rsi-es"]


@pytest.mark.parametrize("key", ["strategies", "risk"])
def test_example_catalog_loads(key):
    """The catalog that comes with torghut is one, and shows strategies and rules."""
    assert getattr(load(read(ROOT / "catalog" / "trading.yaml")), key)


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
