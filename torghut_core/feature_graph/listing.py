"""Indicators as plain values and text, as `torghut plugin list --features` prints them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torghut_core.plugin_host import Registered


def describe_indicator(plugin: Registered) -> dict[str, Any]:
    """Give an indicator as JSON values.

    Returns
    -------
    `name`, `distribution` and `version`; `call`, as `Strategy.features` would have it, with all inputs and defaults; `about`, the
    docstring; the names of `inputs` and `outputs`; and `parameters`, the JSON Schema of each by name.
    """
    cls: Any = plugin.cls
    properties = cls.Params.model_json_schema().get("properties", {})
    parameters = {name: {key: schema[key] for key in schema if key != "title"} for name, schema in properties.items()}
    given = [f"{name}={schema['default']!r}" if "default" in schema else name for name, schema in parameters.items()]
    return {
        "name": plugin.name,
        "call": f"{plugin.name.replace('-', '_')}({', '.join([*cls.inputs, *given])})",
        "about": inspect.cleandoc(cls.__doc__ or ""),
        "inputs": list(cls.inputs),
        "parameters": parameters,
        "outputs": list(cls.outputs),
        "distribution": plugin.distribution,
        "version": plugin.version,
    }


def parameter_text(schema: Mapping[str, Any]) -> str:
    """Give a parameter in words, from its JSON Schema: meaning and unit, bounds, default.

    Examples
    --------
    >>> parameter_text({"description": "bars", "minimum": 1, "maximum": 500, "default": 20})
    'bars; from 1 to 500, default 20'
    >>> parameter_text({"description": "share", "exclusiveMinimum": 0})
    'share; above 0, required'
    """
    words = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
    bounds = " ".join(f"{word} {schema[key]:,}" for key, word in words.items() if key in schema)
    choices = " or ".join(map(str, schema.get("enum", ())))
    default = f"default {schema['default']}" if "default" in schema else "required"
    limits = ", ".join(text for text in (bounds or choices, default) if text)
    return "; ".join(text for text in (schema.get("description"), limits) if text)
