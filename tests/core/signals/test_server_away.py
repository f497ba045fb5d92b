"""The error for a server that cannot be reached is one short sentence, however much its client says."""

import pytest

from torghut_core.errors import StateError
from torghut_core.signals.clickhouse import server_client


def test_server_that_is_away_is_one_short_error():
    """It names the address, the system's error and what to do, and leaves out the client's retries."""
    with pytest.raises(StateError) as caught:
        server_client("http://127.0.0.1:1")
    text = str(caught.value)
    assert text.startswith("ClickHouse at http://127.0.0.1:1: Connection refused (check that the server is up")
    assert len(text) < 120
