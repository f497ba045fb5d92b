"""What a plugin, a venue or a server says is kept without our secrets, however they are written in it."""

import base64
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.effort import examples
from torghut_core import errors
from torghut_core.errors import OrderRefused, StateError, Unanswered, hide, without_secrets
from torghut_core.model.trading import OrderEvent, Report
from torghut_core.ports import Closed

SECRET = "planted/secret+value=0002"
WRITTEN = {
    "as it is": SECRET,
    "in an address": quote(SECRET, safe=""),
    "in an address, small": quote(SECRET, safe="").replace("%2F", "%2f").replace("%2B", "%2b").replace("%3D", "%3d"),
    "as a password": base64.b64encode(f"me:{SECRET}".encode()).decode(),
    "as a password of another": base64.b64encode(f"you:{SECRET}:x".encode()).decode(),
    "in JSON": SECRET.replace("/", r"\/"),
    "on two lines": f"{SECRET[:9]}\n  {SECRET[9:]}",
    "cut off": SECRET[:-5],
}


@pytest.fixture(autouse=True)
def known(monkeypatch):
    """One secret is known."""
    monkeypatch.setattr(errors, "_secrets", {})
    hide(SECRET)


@pytest.mark.parametrize("written", WRITTEN.values(), ids=WRITTEN)
def test_secret_is_found_however_it_is_written(written):
    """Nothing of it is left that could be put together again."""
    shown = without_secrets(f"the venue says: key {written}")
    assert "***" in shown
    assert not [form for form in (SECRET[:6], SECRET[-6:]) if form in shown]
    for start in range(len(written) - 16):
        assert written[start : start + 16] not in shown or start < 4, "as much of Base64 as tells the user may stay"


@pytest.mark.parametrize(
    "made",
    [
        lambda text: str(OrderRefused("refused", text)),
        lambda text: OrderRefused(text, "no").code,
        lambda text: str(Unanswered(text)),
        lambda text: str(StateError(text)),
        lambda text: Closed(text, "store").reason,
        lambda text: Report(client_order_id="tg-1", event=OrderEvent.REJECTED, event_ts=1, reason=text).reason,
    ],
)
def test_text_from_outside_is_kept_without_it(made):
    """Errors, reasons of checks and reports of orders: where it enters it is hidden, so that no store or answer has it."""
    assert made(f"bad key {SECRET}!") == "bad key ***!"


@examples(300)
@given(st.text(max_size=80), st.text(max_size=80))
def test_what_is_around_a_secret_stays(before, after):
    """All other words are shown."""
    assert without_secrets(before + SECRET + after).startswith(before)
    if SECRET[:6] not in before:
        assert without_secrets(before) == before
