"""Addresses with a login: what is shown of them, what is written down, and what is filled in again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.core.addresses import LOGIN, QUERY, filled, taken_out
from nearhall.core.errors import InputError, PermanentError, TemporaryError, without_login

SECRET = "s3cret-9f"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"rtsp://user:{SECRET}@cam.example/1", "rtsp://***@cam.example/1"),
        (f"[Errno 111] 'rtsp://user:{SECRET}@cam.example/1' refused", "[Errno 111] 'rtsp://***@cam.example/1' refused"),
        (f"https://hub.example/x?a=1&apiKey={SECRET}&b=2", "https://hub.example/x?a=1&apiKey=***&b=2"),
        (f"rtsp://cam.example/?user=admin&password={SECRET}", "rtsp://cam.example/?user=admin&password=***"),
        ("rtsp://user:p@ss@cam.example/1", "rtsp://***@cam.example/1"),
        (f"rtsp://cam.example/user=admin&password={SECRET}&channel=1", "rtsp://cam.example/user=admin&password=***&channel=1"),
        (f"rtsp://cam.example/user=admin_password={SECRET}_channel=1", "rtsp://cam.example/user=admin_password=***"),
        ("modbus://meter.local:502/1", "modbus://meter.local:502/1"),
        ("write to somebody@example.com", "write to somebody@example.com"),
        (f"rtsp://${{{LOGIN}}}@cam.example/1?${{{QUERY}}}", f"rtsp://${{{LOGIN}}}@cam.example/1?${{{QUERY}}}"),
    ],
)
def test_logins_are_struck_out(text: str, shown: str):
    assert without_login(text) == shown


def test_no_error_says_a_login():
    address = f"rtsp://user:{SECRET}@cam.example/1"
    for error in (
        InputError(f"cannot read {address}", where=address, right=f"try {address}"),
        TemporaryError(f"{address} is away"),
        PermanentError(address),
    ):
        assert SECRET not in str(error)
        assert "cam.example" in str(error), "what is no secret stays"


@pytest.mark.parametrize(
    ("address", "written", "secrets"),
    [
        (f"rtsp://user:{SECRET}@cam/1", f"rtsp://${{{LOGIN}}}@cam/1", {LOGIN: f"user:{SECRET}"}),
        (f"rtsp://cam/1?ch=2&pwd={SECRET}", f"rtsp://cam/1?${{{QUERY}}}", {QUERY: f"ch=2&pwd={SECRET}"}),
        (
            f"rtsp://u:{SECRET}@cam/1?token={SECRET}",
            f"rtsp://${{{LOGIN}}}@cam/1?${{{QUERY}}}",
            {LOGIN: f"u:{SECRET}", QUERY: f"token={SECRET}"},
        ),
        ("rtsp://cam/1?ch=2", "rtsp://cam/1?ch=2", {}),
        (f"rtsp://u:p@{SECRET}@cam/1", f"rtsp://${{{LOGIN}}}@cam/1", {LOGIN: f"u:p@{SECRET}"}),
        (f"rtsp://cam/a/user=u&password={SECRET}&ch=1", f"rtsp://cam/a/${{{QUERY}}}", {QUERY: f"user=u&password={SECRET}&ch=1"}),
        (f"rtsp://cam/user=u_password={SECRET}_ch=1", f"rtsp://cam/${{{QUERY}}}", {QUERY: f"user=u_password={SECRET}_ch=1"}),
        ("rtsp://cam:554/me@2", "rtsp://cam:554/me@2", {}),
        ("rtsp://${MINE}@cam/1", "rtsp://${MINE}@cam/1", {}),
        ("rtsp://viewer:${MINE}@cam/1?ch=2", "rtsp://viewer:${MINE}@cam/1?ch=2", {}),
        ("rtsp://${MINE}:${MINE}@cam/1?token=${MINE}", "rtsp://${MINE}:${MINE}@cam/1?token=${MINE}", {}),
        ("/films/a@b.mp4", "/films/a@b.mp4", {}),
    ],
)
def test_what_is_taken_out_fills_in_again(address: str, written: str, secrets: dict[str, str]):
    assert taken_out(address) == (written, secrets)
    assert filled(written, {**secrets, "MINE": "${MINE}"}, where="x") == address


@pytest.mark.parametrize("password", [f"a/{SECRET}", f"a?{SECRET}", f"a#{SECRET}"])
def test_a_password_that_would_be_read_as_a_path_is_refused_and_not_shown(password: str):
    with pytest.raises(InputError, match="the password holds one of") as refused:
        taken_out(f"rtsp://user:{password}@cam/1")
    assert SECRET not in str(refused.value)
    assert "%2F" in str(refused.value)


def test_a_variable_without_a_value_is_named():
    with pytest.raises(
        InputError, match=rf"source: .* needs the environment variable {LOGIN}, which is not set; export {LOGIN}="
    ):
        filled(f"rtsp://${{{LOGIN}}}@cam/1", {}, where="source")


@given(st.text(max_size=80))
def test_any_text_may_be_shown(text: str):
    assert without_login(without_login(text)) == without_login(text)


@given(
    st.text(st.characters(categories=["L", "N"], include_characters="!$%&*+,;=-._~:"), min_size=1).filter(lambda t: "$" not in t)
)
def test_any_login_is_taken_out_whole(login: str):
    written, secrets = taken_out(f"rtsp://{login}@cam/1")
    assert written == f"rtsp://${{{LOGIN}}}@cam/1"
    assert secrets == {LOGIN: login}
