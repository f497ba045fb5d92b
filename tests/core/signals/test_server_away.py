"""A server that is not there is told in one short sentence, whatever its client has to say."""

import pytest

from torghut_core.errors import StateError
from torghut_core.signals.clickhouse import server_client


def test_server_that_is_not_there_is_told_briefly():
    """The place, the system's own word for it, and what to do; not the story of the retries."""
    with pytest.raises(StateError) as caught:
        server_client("http://127.0.0.1:1")
    told = str(caught.value)
    assert told.startswith("ClickHouse at http://127.0.0.1:1: Connection refused (check that the server is up")
    assert len(told) < 120
