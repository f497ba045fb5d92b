"""Settings that do not parse are reported by name, with their meaning, and never with what was given."""

import pytest
from pydantic import Field, SecretStr, field_validator, model_validator

from torghut_core import Environment, SettingsError


class Sea(Environment):
    sea_depth_m: int = Field(default=5, ge=0, description="how deep it is, metres")
    sea_name: str = "north"
    sea_key: SecretStr | None = None

    @field_validator("sea_name")
    @classmethod
    def _check_name(cls, name):
        if name == "dead":
            raise ValueError("use one with fish in it")
        return name

    @model_validator(mode="after")
    def _check(self):
        if self.sea_name == "locked" and self.sea_depth_m:
            raise ValueError("SEA_DEPTH_M has to be 0, as SEA_NAME is locked")
        return self


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"SEA_DEPTH_M": "-1"}, "SEA_DEPTH_M: Input should be greater than or equal to 0 (how deep it is, metres)"),
        ({"SEA_NAME": "dead"}, "SEA_NAME: use one with fish in it"),
        ({"SEA_NAME": "locked"}, "SEA_DEPTH_M has to be 0, as SEA_NAME is locked"),
    ],
)
@pytest.mark.parametrize("read", [Sea.read, Sea], ids=["read", "made"])
def test_wrong_setting_is_reported_with_its_meaning(monkeypatch, given, told, read):
    """One line, however the settings are made, without pydantic's own words and without any secret."""
    for name, value in {"SEA_KEY": "planted", **given}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        read()
    assert str(caught.value) == told


def test_every_secret_is_asked_for_by_default():
    """A plugin's secrets are needed whatever its settings are, unless the settings say otherwise."""
    assert Sea.read().asks_for("ANY_KEY")
