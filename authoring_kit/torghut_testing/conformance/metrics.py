"""What the metrics of a source or sink promise."""

from __future__ import annotations

from collections.abc import Mapping

from torghut_core import Sink, Source


def check_metrics(part: Source | Sink) -> None:
    """Check that each number is declared in `metric_specs`, with a meaning, and with a label where there are several."""
    specs = {spec.name: spec for spec in part.metric_specs}
    assert len(specs) == len(part.metric_specs), "a name is in `metric_specs` twice"
    for spec in specs.values():
        assert spec.name == spec.name.lower(), f"{spec.name} is not in lower case"
        assert spec.help, f"{spec.name} has no help"
    for name, value in part.metrics().items():
        assert name in specs, f"{name} is not declared in `metric_specs`"
        assert bool(specs[name].label) == isinstance(value, Mapping), f"{name} and its label do not match"
        numbers = value.values() if isinstance(value, Mapping) else [value]
        assert all(isinstance(number, (int, float)) for number in numbers), name
