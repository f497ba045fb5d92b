"""Tokens, roles and hosts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from torghut_core.admin.auth import Guard, Refused, Role, Token, parse_tokens
from torghut_core.errors import SettingsError

SECRET = "correct-horse-battery"


def test_no_setting_is_no_token():
    """Without ADMIN_TOKENS there are no tokens."""
    assert parse_tokens(None) == ()


@pytest.mark.parametrize("separator", [",", "\n", "\r\n", " , \n"])
def test_entries_are_between_commas_or_lines(separator):
    """A list in one line and a mounted file with one entry a line mean the same."""
    tokens = parse_tokens(SecretStr(separator.join([f"ann:operator:{SECRET}", f"bob:VIEWER:{SECRET}:2"]) + separator))
    assert tokens == (Token.of("ann", Role.OPERATOR, SECRET), Token.of("bob", Role.VIEWER, f"{SECRET}:2"))


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (SECRET, "three parts"),
        (f"ann:{SECRET}", "three parts"),
        ("ann:viewer:", "three parts"),
        (f"{SECRET} x:viewer:{SECRET}", "the actor"),
        (f":viewer:{SECRET}", "the actor"),
        (f"ann:root:{SECRET}", "the role"),
        (f"ann:{SECRET}:viewer", "the role"),
        ("ann:viewer:correct-horse-b", "shorter than 16"),
        (f"ann:viewer:{SECRET} {SECRET}", "ASCII"),
        (f"ann:viewer:{SECRET}é", "ASCII"),
        ("ann:viewer:staple-staple-staple", "of another entry"),
    ],
)
def test_malformed_entry_is_named_by_its_number(entry, reason):
    """The message says which entry is wrong and why, and shows nothing of it."""
    with pytest.raises(SettingsError) as caught:
        parse_tokens(SecretStr(f"grafana:viewer:staple-staple-staple,{entry}"))
    message = str(caught.value)
    assert message.startswith("ADMIN_TOKENS: entry 2: ")
    assert reason in message
    assert "correct-horse" not in message
    assert "staple" not in message


@pytest.mark.parametrize("text", ["", " \n", ",,"])
def test_empty_setting_is_an_error(text):
    """A secret that was mounted empty does not open the API."""
    with pytest.raises(SettingsError, match="no entry"):
        parse_tokens(SecretStr(text))


def test_token_shows_no_secret():
    """What is kept of a token is not the token."""
    token = Token.of("ann", Role.ADMIN, SECRET)
    assert SECRET not in repr(token)
    assert SECRET.encode() not in token.digest


def test_role_may_what_lower_roles_may():
    """Each role is admitted to what is its own or of a lower role, and to nothing above."""
    guard = Guard([Token.of(role.name, role, role.name * 9) for role in Role], hosts=None, is_open=False)
    for has in Role:
        for needs in Role:
            authorization = f"Bearer {has.name * 9}"
            if has >= needs:
                assert guard.admit(needs, "POST", "", authorization) == has.name
            else:
                with pytest.raises(Refused, match=f"{has.name} has the role {has.name.lower()}") as caught:
                    guard.admit(needs, "POST", "", authorization)
                assert caught.value.status == 403


@given(st.text().filter(lambda text: text.strip() != SECRET))
def test_only_the_token_is_known(text):
    """No other text is taken for the token, whatever letters are in it."""
    guard = Guard([Token.of("ann", Role.ADMIN, SECRET)], hosts=None, is_open=True)
    with pytest.raises(Refused) as caught:
        guard.admit(Role.VIEWER, "GET", "", f"Bearer {text}")
    assert caught.value.status == 401


@pytest.mark.parametrize("authorization", ["", f"Basic {SECRET}", SECRET, "Bearer"])
def test_other_authorization_is_refused(authorization):
    """Only the bearer scheme is known."""
    guard = Guard([Token.of("ann", Role.ADMIN, SECRET)], hosts=None, is_open=False)
    with pytest.raises(Refused) as caught:
        guard.admit(Role.VIEWER, "GET", "", authorization)
    assert caught.value.status == 401


def test_open_reading_opens_no_change():
    """Where everybody may read, a change and a wrong token are refused all the same."""
    guard = Guard([Token.of("ann", Role.ADMIN, SECRET)], hosts=None, is_open=True)
    assert guard.admit(Role.VIEWER, "GET", "", "") == ""
    for role, method, authorization in (
        (Role.OPERATOR, "GET", ""),
        (Role.VIEWER, "POST", ""),
        (Role.VIEWER, "GET", "Bearer guess-guess-guess"),
    ):
        with pytest.raises(Refused):
            guard.admit(role, method, "", authorization)


@pytest.mark.parametrize(
    ("host", "is_known"),
    [
        ("localhost", True),
        ("LOCALHOST:8181", True),
        ("localhost.", True),
        ("[::1]:8181", True),
        ("::1", False),
        ("evil.example:8181", False),
        ("localhost.evil.example", False),
        ("", False),
    ],
)
def test_host_is_compared_without_port_and_case(host, is_known):
    """A name is known or it is not; what else stands in the header does not matter. Probes are no exception."""
    guard = Guard([], hosts={"localhost", "::1"}, is_open=True)
    for role in (None, Role.VIEWER):
        if is_known:
            assert guard.admit(role, "GET", host, "") == ""
        else:
            with pytest.raises(Refused, match="ADMIN_HOSTS") as caught:
                guard.admit(role, "GET", host, "")
            assert caught.value.status == 403
