"""The catalog: YAML text in, a validated and immutable `Catalog` out, or every problem at its place.

What a catalog says and what two of them differ in is decided here, from values alone. Nothing here knows an installed
plugin, and nothing but `loading.read` and `watch` touches a file.
"""

from torghut_core.catalog.digest import content_digest
from torghut_core.catalog.entries import (
    DEFAULT_ALLOW,
    NAME_PATTERN,
    Catalog,
    CatalogSettings,
    InstrumentEntry,
    OnRemove,
    Pipeline,
    StrategyEntry,
    Timeframe,
    Use,
    allow_rule,
)
from torghut_core.catalog.loading import Draft, examine, load, load_draft, read, where
from torghut_core.catalog.problems import did_you_mean
from torghut_core.catalog.schema import json_schema

__all__ = [
    "DEFAULT_ALLOW",
    "NAME_PATTERN",
    "Catalog",
    "CatalogSettings",
    "Draft",
    "InstrumentEntry",
    "OnRemove",
    "Pipeline",
    "StrategyEntry",
    "Timeframe",
    "Use",
    "allow_rule",
    "content_digest",
    "did_you_mean",
    "examine",
    "json_schema",
    "load",
    "load_draft",
    "read",
    "where",
]
