"""The conformance suite that every kind of plugin shares."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

import pydantic
import pytest

from torghut_core import Plugin
from torghut_testing.plain import plain_copy


class PluginConformance:
    """Checks of documentation, parameters and state; the suites of each kind inherit them.

    Attributes
    ----------
    params : the parameters to test with, as a catalog would give them.
    """

    params: ClassVar[Mapping[str, Any]] = {}

    @property
    def subject(self) -> type[Plugin]:
        """The class under test."""
        raise NotImplementedError

    def make(self) -> Any:
        """A new instance of the class under test; override it where it needs more than its parameters."""
        return self.subject(self.subject.Params(**self.params))

    def test_class_says_what_it_does(self) -> None:
        """The class has a docstring of its own."""
        assert (vars(self.subject).get("__doc__") or "").strip(), (
            f"{self.subject.__name__} has no docstring (say what it does)"
        )

    def test_parameters_have_help(self) -> None:
        """Every parameter has a help text that says its meaning and unit."""
        fields = self.subject.Params.model_fields
        without = [name for name, field in fields.items() if not field.description]
        assert not without, f"parameters without help: {without} (use `torghut_core.param(..., help=...)`)"

    def test_parameters_have_a_json_schema(self) -> None:
        """The parameters can be published for editors and CI."""
        json.dumps(self.subject.Params.model_json_schema())

    def test_unknown_parameter_is_refused(self) -> None:
        """A misspelt parameter is an error, not ignored."""
        with pytest.raises(pydantic.ValidationError):
            self.subject.Params(**{**self.params, "no_such_parameter": 1})

    def test_new_state_is_plain(self) -> None:
        """The state that a new instance saves consists of plain values."""
        plain_copy(self.make().save_state())

    def test_state_of_a_later_version_is_refused(self) -> None:
        """State of an unknown version is refused with a `ValueError`, not guessed at."""
        plugin = self.make()
        with pytest.raises(ValueError, match=r"\S"):
            plugin.load_state(plugin.save_state(), plugin.state_version + 1)
