"""`torghut forward` and `torghut ta` refuse a pipeline of which they would leave something out."""

import pytest

from torghut_core.errors import CatalogError
from torghut_core.runtime.service import open_service


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ("source: {use: replay}", r"c\.yaml:3:\d+: pipelines\.one: has neither stages nor a sink"),
        (
            "source: {use: replay}, stages: [{use: microbars}], broker: {use: simulated}",
            r"c\.yaml:3:\d+: pipelines\.one\.broker: gets no orders .*`torghut run`",
        ),
    ],
)
def test_pipeline_that_would_do_less_than_it_says_is_refused(tmp_path, parts, says):
    """A catalog from which nothing would be derived or traded is an error with its place, before anything is opened."""
    catalog = tmp_path / "c.yaml"
    catalog.write_text(f"version: 1\npipelines:\n  one: {{{parts}}}\n")
    with pytest.raises(CatalogError, match=says), open_service(catalog, tmp_path / "state", "one"):
        pass
    assert not (tmp_path / "state").exists()
