"""The JSON Schema of a catalog, for editors."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from torghut_core.catalog.entries import Catalog

_SCHEMA_PLACES = {
    "strategy": ("Catalog", "strategies"),
    "risk rule": ("Catalog", "risk"),
    "advisor": ("Catalog", "advisors"),
    "observer": ("Catalog", "observers"),
    "source": ("Pipeline", "source"),
    "stage": ("Pipeline", "stages"),
    "broker": ("Pipeline", "broker"),
}


def json_schema(params: Mapping[str, Mapping[str, type[BaseModel]]] = MappingProxyType({})) -> dict[str, Any]:
    """JSON Schema of a catalog file, for editors.

    `params` holds the parameter models of installed plugins, by kind (as in `hookspecs.KINDS`) and name: the schema
    then checks the `params` of each entry by its `use`.
    """
    models = [(model, "validation") for named in params.values() for model in named.values()]
    references, schema = models_json_schema([(Catalog, "validation"), *dict.fromkeys(models)])  # type: ignore[list-item]  # the mode is a literal there
    definitions = schema["$defs"]
    for kind, (owner, key) in _SCHEMA_PLACES.items():
        place = definitions[owner]["properties"][key]
        choices = [
            {
                "if": {"properties": {"use": {"const": name}}, "required": ["use"]},
                "then": {"properties": {"params": references[model, "validation"]}},
            }
            for name, model in sorted(params.get(kind, {}).items())
        ]
        if choices:
            place.get("items", place)["allOf"] = choices
    catalog = definitions.pop("Catalog") | {"title": "Torghut catalog", "$defs": definitions}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **catalog}
